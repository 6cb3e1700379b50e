"""FP16 and BF16 typed in the graph: what is half, what stays FP32 and why, and that nothing overflows."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeiqa.export.activation_ranges import largest_values
from edgeiqa.export.graph import graph_bytes, store_as_fp16
from edgeiqa.export.half import BF16_OPSET, HalfGraph, to_bf16, to_fp16
from edgeiqa.export.half_types import choose_half, write_types
from edgeiqa.runtime.errors import ExportError, UsageError
from onnx import TensorProto, numpy_helper

from .networks import noise
from .quantizing import SHAPES, Noise, constants, load, run, tiny


@cache
def half(kind: str) -> HalfGraph:
    return to_fp16(tiny(kind), Noise(), threads=1)


def types(data: bytes) -> dict[str, int]:
    """Element type of every tensor."""
    model = onnx.shape_inference.infer_shapes(load(data), strict_mode=True)
    values = [*model.graph.value_info, *model.graph.output, *model.graph.input]
    return {value.name: value.type.tensor_type.elem_type for value in values}


def scaled(kind: str, weight: str, factor: float) -> bytes:
    """The graph with one weight multiplied."""
    model = load(tiny(kind))
    tensor = next(one for one in model.graph.initializer if one.name.endswith(weight))
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name))
    return graph_bytes(model)


@pytest.mark.parametrize("kind", ["plain", "gated", "transformer"])
def test_everything_between_pixels_and_vectors_is_fp16(kind: str) -> None:
    made = half(kind)
    model, found = load(made.data), types(made.data)
    assert not made.kept
    before = load(tiny(kind))
    assert list(model.graph.input) == list(before.graph.input)
    assert list(model.graph.output) == list(before.graph.output)
    assert (model.ir_version, [o.version for o in model.opset_import]) == (10, [20])
    products = ("Conv", "MatMul", "LayerNormalization", "Gelu", "Softmax", "HardSwish", "Clip")
    for node in model.graph.node:
        if node.op_type in products:
            assert found[node.output[0]] == TensorProto.FLOAT16, node.name
        # The head; other squeezes take the queries, keys and values apart.
        if node.op_type == "Gemm" or "score" in node.output:
            assert found[node.output[0]] == TensorProto.FLOAT, node.name
    # The pixels: cast to FP32, normalised, and only then halved.
    assert [node.op_type for node in model.graph.node[:4]] == ["Cast", "Mul", "Sub", "Transpose"]
    assert all(found[node.output[0]] == TensorProto.FLOAT for node in list(model.graph.node)[:4])
    sizes = {1: 0, 10: 0}
    for tensor in model.graph.initializer:
        if tensor.data_type in sizes:
            sizes[tensor.data_type] += int(np.prod(tensor.dims))
    assert sizes[1] < 0.02 * sizes[10]
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    assert len(casts) == len({(node.input[0], node.attribute[0].i) for node in casts})


@pytest.mark.parametrize("kind", ["plain", "gated", "transformer"])
def test_answers_near_those_in_fp32(kind: str) -> None:
    views = noise(SHAPES, 3, seed=9)
    got, expected = run(half(kind).data, views), run(tiny(kind), views)
    assert list(got) == list(expected)
    for output, value in got.items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, expected[output], rtol=5e-3, atol=5e-3)
    assert not np.array_equal(got["score"], expected["score"])


def test_an_overflow_stays_fp32_from_its_maker_to_its_readers() -> None:
    # Of the first convolution the weights fit into FP16, the activations do not; normalisation brings them back.
    data = scaled("transformer", "conv_stem.weight", 2e5)
    made = to_fp16(data, Noise(), threads=1)
    found, graph = types(made.data), load(made.data).graph
    stem = next(node.name for node in graph.node if node.op_type == "Conv")
    norms = [node for node in graph.node if node.op_type == "LayerNormalization"]
    assert "reaches" in made.kept[stem]
    assert "reaches" in made.kept[norms[0].name]
    assert found[norms[0].output[0]] == TensorProto.FLOAT
    views = noise(SHAPES, 2, seed=4)
    np.testing.assert_allclose(run(made.data, views)["score"], run(data, views)["score"], rtol=1e-2)
    unguarded = load(data)
    write_types(unguarded, TensorProto.FLOAT16, choose_half(unguarded, TensorProto.FLOAT16))
    assert not np.isfinite(run(graph_bytes(unguarded), views)["score"]).any()


def test_a_normalisation_whose_squares_overflow_stays_fp32() -> None:
    # Numbers of some hundreds fit, the sum of their squares does not.
    data = scaled("transformer", "conv_stem.weight", 300.0)
    made = to_fp16(data, Noise(), threads=1)
    graph = load(made.data).graph
    norms = [node.name for node in graph.node if node.op_type == "LayerNormalization"]
    assert len(norms) == 4
    assert "sums reach" in made.kept[norms[0]]
    stem = next(node.name for node in graph.node if node.op_type == "Conv")
    assert stem in made.half
    assert types(made.data)[next(n for n in graph.node if n.name == norms[0]).output[0]] == TensorProto.FLOAT


def test_safety_widens_the_guard() -> None:
    data = scaled("transformer", "conv_stem.weight", 3000.0)
    largest = max(largest_values(load(data), Noise(), threads=1).tensors.values())
    assert 2000 < largest < 30000
    few, many = (to_fp16(data, Noise(), threads=1, safety=safety).kept for safety in (1.0, 64.0))
    assert few.keys() < many.keys()


def test_largest_values_are_numpys() -> None:
    model = load(tiny("transformer"))
    found = largest_values(model, Noise(count=3), threads=1)
    every = [node.output[0] for node in model.graph.node if node.output[0] in found.tensors]
    assert "score" in every
    probe = load(tiny("transformer"))
    del probe.graph.output[:]
    probe.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in every)
    most: dict[str, float] = dict.fromkeys(every, 0.0)
    squares: dict[str, float] = {}
    norms = {n.input[0]: n.name for n in model.graph.node if n.op_type == "LayerNormalization"}
    for views in Noise(count=3):
        values: dict[str, Any] = run(graph_bytes(probe), {name: view[None] for name, view in views.items()})
        for name, value in values.items():
            most[name] = max(most[name], float(np.abs(value).max()))
            if name in norms:
                whole = float(np.square(value.astype(np.float64)).sum(-1).max())
                squares[norms[name]] = max(squares.get(norms[name], 0.0), whole)
    assert {name: found.tensors[name] for name in every} == pytest.approx(most, rel=1e-5)
    assert {name: found.sums[name] for name in squares} == pytest.approx(squares, rel=1e-5)


def test_constants_that_fp16_does_not_hold() -> None:
    model = load(tiny("plain"))
    tensor = next(one for one in model.graph.initializer if one.name.endswith("blocks.0.0.conv_pw.bias"))
    values = numpy_helper.to_array(tensor).copy()
    values[0] = -1e6
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    made = to_fp16(graph_bytes(model), Noise(), threads=1)
    node = next(one.name for one in load(tiny("plain")).graph.node if tensor.name in one.input)
    assert node in made.kept
    assert constants(load(made.data))[tensor.name].dtype == np.float32


def test_weights_stored_as_fp16() -> None:
    stored = graph_bytes(store_as_fp16(load(tiny("plain"))))
    made = to_fp16(stored, Noise(), threads=1)
    assert made.half == half("plain").half
    assert not [node for node in load(made.data).graph.node if node.input[0].endswith(".fp16")]


def test_equal_arguments_give_equal_bytes() -> None:
    assert to_fp16(tiny("gated"), Noise(), threads=1) == half("gated")
    assert to_bf16(tiny("gated")) == to_bf16(tiny("gated"))


@pytest.mark.parametrize("kind", ["plain", "gated", "transformer"])
def test_bf16(kind: str) -> None:
    made = to_bf16(tiny(kind))
    model, found = load(made.data), types(made.data)
    assert [o.version for o in model.opset_import] == [BF16_OPSET]
    assert not made.kept
    for node in model.graph.node:
        if node.op_type in ("Conv", "MatMul", "LayerNormalization", "Gelu", "HardSwish"):
            assert found[node.output[0]] == TensorProto.BFLOAT16
    assert [found[value.name] for value in model.graph.output] == [TensorProto.FLOAT] * 2
    # What the documentation says of it.
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented, match="Conv"):
        run(made.data, noise(SHAPES, 2))


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="no calibration images"):
        to_fp16(tiny("plain"), [], threads=1)
    with pytest.raises(UsageError, match=r"safety of 0\.5"):
        to_fp16(tiny("plain"), Noise(), threads=1, safety=0.5)
    with pytest.raises(ExportError, match="refused the graph or an image"):
        to_fp16(tiny("plain"), Noise({"other": (4, 4, 3)}), threads=1)
    with pytest.raises(ExportError, match="no ONNX graph"):
        to_bf16(b"no graph")
