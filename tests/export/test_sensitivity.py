"""Sensitivity: errors in score points, of the block that is quantized and of no other."""

from __future__ import annotations

from functools import cache

import msgspec
import numpy as np
import pytest
from edgeiqa.export.convert import FloatMember
from edgeiqa.export.float_graph import load_graph, plain_float
from edgeiqa.export.quant_blocks import blocks_of
from edgeiqa.export.quantize_onnx import quantize
from edgeiqa.export.sensitivity import NO_DISTORTION, SensitivityReport, measure_sensitivity, measured_recipe
from edgeiqa.runtime.errors import EngineError, UsageError
from edgeiqa.runtime.score_map import Affine, ScoreMap

from .networks import Exported, export, small
from .quantizing import Noise, recipe, run

RECIPE = recipe("u8s8", quantizer="onnxruntime", activations="asymmetric")
KINDS = ("blur", "noise", NO_DISTORTION, "blur", "noise", NO_DISTORTION)


@cache
def made() -> Exported:
    return export(small("mobilenet"))


def member(scale: float = 100.0) -> FloatMember:
    return FloatMember(
        name="small",
        preprocess=made().network.system.preprocess,
        score_map=ScoreMap(steps=(Affine(scale=scale, offset=50.0),), low=-1e6, high=1e6),
        model=made().data,
        outputs=made().outputs,
    )


@cache
def measured(*float_blocks: str) -> SensitivityReport:
    asked = msgspec.structs.replace(RECIPE, float_blocks=float_blocks)
    views = Noise(made().shapes, count=len(KINDS))
    return measure_sensitivity(member(), Noise(made().shapes), asked, views=views, distortions=KINDS, threads=1)


def test_every_block_is_ranked_by_what_it_gains() -> None:
    report = measured()
    assert set(report.ranking) == set(blocks_of(load_graph(plain_float(made().data))))
    keys = [(-block.gain, -block.alone_rmse) for block in report.blocks]
    assert keys == sorted(keys)
    assert (report.recipe, report.views) == (RECIPE, len(KINDS)) and report.engine.startswith("onnxruntime 1.")
    assert report.distortions == {"blur": 2, "noise": 2, NO_DISTORTION: 2}
    assert sum(block.macs_share for block in report.blocks) == pytest.approx(1, abs=0.02)
    assert msgspec.json.decode(msgspec.json.encode(report), type=SensitivityReport) == report


def test_the_whole_is_what_the_quantized_graph_gives() -> None:
    report, views = measured(), list(Noise(made().shapes, count=len(KINDS)))
    int8 = quantize(made().data, Noise(made().shapes), RECIPE, threads=1)
    errors = [
        100 * float((run(int8, batch)["score"] - run(made().data, batch)["score"]).item())
        for batch in ({name: view[None] for name, view in one.items()} for one in views)
    ]
    assert report.whole_shift == pytest.approx(np.mean(errors), rel=1e-3)
    errors = [error - report.whole_shift for error in errors]
    assert report.whole_rmse == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-3)
    assert report.whole_largest == pytest.approx(np.abs(errors).max(), rel=1e-3)
    assert report.whole_by_distortion["noise"] == pytest.approx(
        np.sqrt((errors[1] ** 2 + errors[4] ** 2) / 2), rel=1e-3
    )


def test_figures_of_a_block_belong_together() -> None:
    report = measured()
    for block in report.blocks:
        assert block.gain == report.whole_rmse - block.without_rmse
        assert 0 < block.alone_rmse <= block.alone_largest < 5 * report.whole_largest
        assert 0 < block.without_rmse <= block.without_largest
        for parts, whole in (
            (block.alone_by_distortion, block.alone_rmse),
            (block.without_by_distortion, block.without_rmse),
        ):
            assert set(parts) == set(report.distortions)
            # As many views of each kind: squares average to the whole's.
            assert np.mean(np.square(list(parts.values()))) == pytest.approx(whole**2)


def test_a_block_that_the_recipe_keeps_float_is_not_judged() -> None:
    one = measured("head")
    assert set(measured().ranking) - set(one.ranking) == {"head"}
    # The others' own error is the same, and the whole's is what was left without it.
    alone = {block.block: block.alone_rmse for block in measured().blocks}
    for block in one.blocks:
        assert block.alone_rmse == pytest.approx(alone[block.block], rel=0.05, abs=0.02 * measured().whole_rmse)
    head = next(block for block in measured().blocks if block.block == "head")
    assert one.whole_rmse == pytest.approx(head.without_rmse, rel=0.05)


def test_openvino_is_measured_as_u8s8() -> None:
    asked = recipe("openvino", bias_correction="fast", activations="asymmetric", smooth_quant=0.5)
    assert measured_recipe(asked) == msgspec.structs.replace(asked, scheme="u8s8")
    assert measured_recipe(RECIPE) is RECIPE


def test_progress_is_told_for_every_graph() -> None:
    told: list[tuple[int, int]] = []
    few = msgspec.structs.replace(RECIPE, float_blocks=("backbone.*",))
    report = measure_sensitivity(
        member(),
        Noise(made().shapes),
        few,
        views=Noise(made().shapes, count=1),
        distortions=["none"],
        threads=1,
        on_graph=lambda done, total: told.append((done, total)),
    )
    assert report.ranking == ("head",) and told == [(done, 4) for done in range(1, 5)]
    # One block is the whole: nothing is left without it.
    (head,) = report.blocks
    assert head.alone_rmse == pytest.approx(report.whole_rmse) and head.without_rmse == pytest.approx(0, abs=1e-4)


def test_what_cannot_be_measured_is_refused_before_anything_is_quantized() -> None:
    images = Noise(made().shapes)
    for views, kinds, asked, words in (
        (0, (), RECIPE, "0 views"),
        (2, ("none",), RECIPE, "2 views and 1 kinds"),
        (1, ("none",), msgspec.structs.replace(RECIPE, float_blocks=("*",)), "keeps every block float"),
        (1, ("none",), msgspec.structs.replace(RECIPE, float_blocks=("nowhere",)), "nowhere"),
    ):
        with pytest.raises(UsageError, match=words):
            measure_sensitivity(
                member(), images, asked, views=Noise(made().shapes, count=views), distortions=kinds, threads=1
            )
    assert images.asked == 0
    with pytest.raises(EngineError, match="view"):
        measure_sensitivity(
            member(), images, RECIPE, views=[{"view": np.zeros((1, 1, 3), np.uint8)}], distortions=["none"], threads=1
        )
