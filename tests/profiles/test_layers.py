from __future__ import annotations

import pytest
from edgeiqa.profiles.engine_counters import ExecutedLayer, Shape
from edgeiqa.profiles.layers import count_product_macs, summarise_layers


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "macs"),
    [
        ("Conv", [(1, 3, 8, 8), (16, 3, 3, 3), (16,)], (1, 16, 4, 4), 16 * 16 * 27),
        ("Conv", [(1, 16, 8, 8), (16, 1, 3, 3)], (1, 16, 8, 8), 16 * 64 * 9),
        ("QLinearConv", [(1, 3, 8, 8), (), (), (16, 3, 3, 3), (), ()], (1, 16, 8, 8), 16 * 64 * 27),
        ("GroupConvolution", [(1, 32, 8, 8), (32, 1, 1, 3, 3), (32,)], (1, 32, 8, 8), 32 * 64 * 9),
        ("Deconvolution", [(1, 16, 8, 8), (16, 4, 2, 2)], (1, 4, 16, 16), 16 * 64 * 16),
        ("ConvTranspose", [(1, 16, 8, 8), (16, 4, 2, 2)], (1, 4, 16, 16), 16 * 64 * 16),
        ("MatMul", [(5, 7), (7, 3)], (5, 3), 5 * 7 * 3),
        ("MatMul", [(2, 4, 5, 7), (2, 4, 7, 3)], (2, 4, 5, 3), 8 * 5 * 7 * 3),
        ("FullyConnected", [(1, 1280), (1, 1280)], (1, 1), 1280),
        # The first factor transposed: 7 x 5 for 5 rows.
        ("FusedGemm", [(7, 5), (7, 3)], (5, 3), 5 * 7 * 3),
        ("Relu", [(1, 16, 8, 8)], (1, 16, 8, 8), None),
        # Its weight was packed away, its output is not known, or it is of a kind whose products are not told.
        ("Conv", [(1, 3, 8, 8)], (1, 16, 8, 8), None),
        ("Subgraph", [(5, 7), (7, 3)], (5, 3), None),
        ("MatMul", [(7,), (7, 3)], (3,), None),
    ],
)
def test_multiply_adds_from_shapes(kind: str, inputs: list[Shape], output: Shape, macs: int | None) -> None:
    assert count_product_macs(kind, tuple(inputs), (output,)) == macs


def test_no_shapes_no_multiply_adds() -> None:
    assert count_product_macs("Conv", (), ((1, 2),)) is None
    assert count_product_macs("Conv", ((1, 2),), ()) is None


def layer(name: str, kind: str, times_ms: tuple[float, ...], *inputs: Shape, output: Shape = (1, 2)) -> ExecutedLayer:
    return ExecutedLayer(
        name=name,
        engine_type=kind,
        kernel="",
        precision="fp32",
        times_ms=times_ms,
        inputs=inputs,
        outputs=(output,),
        bytes_moved=100,
    )


def test_medians_shares_and_what_is_not_told() -> None:
    executed = (
        layer("product", "MatMul", (3.0, 1.0, 50.0), (1, 4), (4, 2)),
        layer("relu", "Relu", (0.5, 0.5, 0.5), (1, 2)),
        layer("fused", "Subgraph", (0.5, 0.5, 0.5), (1, 2)),
        layer("packed", "QLinearConv", (1.0, 1.0, 1.0), (1, 2, 1, 1)),
    )
    seen = summarise_layers("one", executed, 20, runs=3)
    assert (seen.member, seen.runs, seen.total_ms, seen.macs, seen.graph_macs) == ("one", 3, 5.0, 8, 20)
    assert [found.time_ms for found in seen.layers] == [3.0, 0.5, 0.5, 1.0]
    assert [found.share for found in seen.layers] == pytest.approx([0.6, 0.1, 0.1, 0.2])
    assert [found.macs for found in seen.layers] == [8, None, None, None]
    assert seen.untold == {"Subgraph": pytest.approx(0.1), "QLinearConv": pytest.approx(0.2)}
    assert seen.layers[0].spread == pytest.approx((26.5 - 2) / 3)


def test_layers_too_short_for_the_engines_clock() -> None:
    seen = summarise_layers("one", (layer("a", "Relu", (0.0, 0.0)),), None, runs=2)
    assert (seen.total_ms, seen.layers[0].share, seen.layers[0].spread) == (0, 0, 0)


def test_no_counters() -> None:
    seen = summarise_layers("one", (), 20, runs=3)
    assert (seen.layers, seen.total_ms, seen.macs, seen.graph_macs) == ((), 0, 0, 20)
