"""Float again: all of a quantized graph is the float graph, none of it the quantized one, and parts stand between."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx
import pytest
from edgeiqa.export.float_graph import load_graph, plain_float
from edgeiqa.export.float_variant import float_variant
from edgeiqa.export.graph import graph_bytes, store_as_fp16
from edgeiqa.export.quant_blocks import blocks_of
from edgeiqa.export.quantize_onnx import quantize
from edgeiqa.runtime.errors import ExportError
from onnx import helper, numpy_helper

from .networks import Exported, export, noise, small
from .quantizing import Noise, load, recipe, run

# Network, scheme and fields of the recipe: both quantizers, corrected biases, moved scales, gates, several views.
QUANTIZED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lite by nncf": ("lite0", "u8s8", {"bias_correction": "fast", "activations": "asymmetric"}),
    "lite by onnxruntime": ("lite0", "u8s8", {"quantizer": "onnxruntime"}),
    "lite for TensorRT": ("lite0", "tensorrt", {"quantizer": "onnxruntime"}),
    "convnext, smoothed": ("convnext", "s8s8", {"smooth_quant": 0.5}),
    "two views": ("two-view", "u8s8", {"quantizer": "onnxruntime"}),
}


@cache
def made(name: str) -> Exported:
    return export(small(name))


@cache
def plain(name: str) -> onnx.ModelProto:
    return load(plain_float(made(name).data))


@cache
def quantized(case: str) -> onnx.ModelProto:
    name, scheme, fields = QUANTIZED[case]
    return load(quantize(made(name).data, Noise(made(name).shapes), recipe(scheme, **fields), threads=1))


def scores(model: onnx.ModelProto, name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    onnx.checker.check_model(model, full_check=True)
    return run(graph_bytes(model), noise(made(name).shapes, 3, seed=9))["score"]


def count(model: onnx.ModelProto, *operators: str) -> int:
    return sum(node.op_type in operators for node in model.graph.node)


@pytest.mark.parametrize("case", QUANTIZED)
def test_all_blocks_float_are_the_float_graph_and_none_the_quantized_one(case: str) -> None:
    name = QUANTIZED[case][0]
    int8, fp32 = quantized(case), plain(name)
    before = int8.SerializeToString(), fp32.SerializeToString()
    everything = {node.name for node in fp32.graph.node}
    in_blocks = {node for nodes in blocks_of(fp32).values() for node in nodes}
    wanted = scores(fp32, name)
    changed = np.abs(scores(int8, name) - wanted).max()
    assert changed > 0
    for nodes in (everything, in_blocks):
        whole = float_variant(int8, fp32, nodes)
        np.testing.assert_allclose(scores(whole, name), wanted, rtol=0, atol=1e-3 * changed)
    np.testing.assert_array_equal(scores(float_variant(int8, fp32, ()), name), scores(int8, name))
    # Neither graph is touched, and no quantizer is left but one of features that nothing else reads.
    assert (int8.SerializeToString(), fp32.SerializeToString()) == before
    assert count(float_variant(int8, fp32, everything), "QuantizeLinear") <= 1


@pytest.mark.parametrize("block", ["backbone.conv_stem", "backbone.blocks.1.1", "head"])
def test_one_block_float_is_what_the_quantizer_makes_with_it_float(block: str) -> None:
    """With ranges that depend on nothing but the float graph, both ways give the same graph."""
    model = made("lite0")
    asked = recipe("u8s8", quantizer="onnxruntime", float_blocks=(block,))
    expected = scores(load(quantize(model.data, Noise(model.shapes), asked, threads=1)), "lite0")
    fp32 = plain("lite0")
    variant = float_variant(quantized("lite by onnxruntime"), fp32, blocks_of(fp32)[block])
    whole = scores(quantized("lite by onnxruntime"), "lite0")
    errors = np.abs(whole - expected), np.abs(scores(variant, "lite0") - expected)
    assert errors[0].max() > 0 and errors[1].max() < 0.1 * errors[0].max(), errors


def test_what_nothing_reads_is_gone_and_weights_are_the_float_graphs() -> None:
    fp32, int8 = plain("lite0"), quantized("lite by nncf")
    nodes = blocks_of(fp32)["backbone.blocks.1.1"]
    variant = float_variant(int8, fp32, nodes)
    read = {name for node in variant.graph.node for name in node.input}
    assert {tensor.name for tensor in variant.graph.initializer} <= read
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in variant.graph.initializer}
    theirs = {tensor.name: numpy_helper.to_array(tensor) for tensor in fp32.graph.initializer}
    mine = {node.name: node for node in variant.graph.node}
    for node in fp32.graph.node:
        if node.name in nodes and node.op_type == "Conv":
            for place in (1, 2):
                np.testing.assert_array_equal(found[mine[node.name].input[place]], theirs[node.input[place]])
    # Convolutions of other blocks keep integers for weights.
    assert sum(array.dtype == np.int8 and array.ndim == 4 for array in found.values()) == count(fp32, "Conv") - sum(
        node.name in nodes and node.op_type == "Conv" for node in fp32.graph.node
    )


def test_a_stored_tensor_that_two_blocks_share_stays_what_it_was_for_the_other() -> None:
    """A corrected bias that a float and a quantized convolution read under one name."""
    floats = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("weight", np.ones((1, 1, 1, 1))), ("bias", [1.0]))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "weight", "bias"], ["y"], name="first"),
        helper.make_node("Conv", ["y", "weight", "bias"], ["score"], name="second"),
    ]
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, 1, 1]) for name in ("x", "score")]
    opset = [helper.make_opsetid("", 20)]
    fp32 = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], floats), opset_imports=opset, ir_version=10
    )
    corrected = onnx.ModelProto()
    corrected.CopyFrom(fp32)
    corrected.graph.initializer[1].CopyFrom(numpy_helper.from_array(np.array([5.0], np.float32), "bias"))

    def answer(*names: str) -> float:
        x = np.zeros((1, 1, 1, 1), np.float32)
        return float(run(graph_bytes(float_variant(corrected, fp32, names)), {"x": x})["score"].item())

    assert [answer(), answer("first"), answer("second"), answer("first", "second")] == [10.0, 6.0, 6.0, 2.0]


def test_what_does_not_belong_together_is_refused() -> None:
    int8, fp32 = quantized("lite by nncf"), plain("lite0")
    with pytest.raises(ExportError, match="nodes nowhere to be float"):
        float_variant(int8, fp32, ["nowhere"])
    with pytest.raises(ExportError, match="without the"):
        float_variant(int8, plain("convnext"), ())
    renamed = onnx.ModelProto()
    renamed.CopyFrom(int8)
    next(node for node in renamed.graph.node if node.op_type == "Conv").name = "other"
    with pytest.raises(ExportError, match="the Conv"):
        float_variant(renamed, fp32, ())


def test_weights_stored_as_fp16_are_those_of_the_plain_graph() -> None:
    stored = graph_bytes(store_as_fp16(made("lite0").model))
    fp32 = load_graph(plain_float(stored))
    int8 = load(quantize(stored, Noise(made("lite0").shapes), recipe("u8s8", quantizer="onnxruntime"), threads=1))
    whole = float_variant(int8, fp32, {node.name for node in fp32.graph.node})
    np.testing.assert_allclose(scores(whole, "lite0"), scores(fp32, "lite0"), rtol=1e-5, atol=1e-6)
