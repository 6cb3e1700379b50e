"""Blocks by the names that torch gave the weights, and their nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import onnx
import pytest
from edgeiqa.export.graph import graph_bytes, store_as_fp16
from edgeiqa.export.quant_blocks import blocks_of, quantizable
from edgeiqa.runtime.errors import ExportError
from onnx import TensorProto, helper

from .networks import Exported
from .quantizing import load, tiny


def operators(model: onnx.ModelProto, block: str) -> Counter[str]:
    inside = set(blocks_of(model)[block])
    return Counter(node.op_type for node in model.graph.node if node.name in inside)


def test_inverted_residuals() -> None:
    model = load(tiny("gated"))
    blocks = blocks_of(model)
    numbered = [f"backbone.blocks.{stage}.{block}" for stage in range(2) for block in range(2)]
    assert list(blocks) == ["backbone.conv_stem", *numbered, "head"]
    gated = operators(model, "backbone.blocks.1.0")
    assert gated == {"Conv": 5, "HardSwish": 2, "ReduceMean": 1, "Relu": 1, "HardSigmoid": 1, "Mul": 1, "Add": 1}
    plain = operators(model, "backbone.blocks.0.1")
    assert plain == {"Conv": 3, "Clip": 2, "Add": 1}
    held = [name for nodes in blocks.values() for name in nodes]
    assert len(held) == len(set(held))
    assert {node.name for node in model.graph.node if quantizable(node)} <= set(held)


def test_a_transformer_whose_weights_the_exporter_renamed() -> None:
    model = load(tiny("transformer"))
    assert list(blocks_of(model)) == ["backbone.conv_stem", "backbone.blocks.0", "backbone.blocks.1", "head"]
    for block in ("backbone.blocks.0", "backbone.blocks.1"):
        found = operators(model, block)
        assert (found["MatMul"], found["LayerNormalization"], found["Gelu"], found["Softmax"]) == (6, 2, 1, 1)


@pytest.mark.parametrize("kind", ["plain", "gated", "transformer"])
def test_weights_stored_as_fp16_change_nothing(kind: str) -> None:
    model = load(tiny(kind))
    assert blocks_of(store_as_fp16(model)) == blocks_of(model)


def test_stages_and_several_branches(exported: Callable[[str], Exported]) -> None:
    blocks = blocks_of(exported("two-view").model)
    assert {name.partition(".")[0] for name in blocks} == {"backbone0", "backbone1", "head"}
    assert "backbone0.blocks.2.1" in blocks
    assert {"backbone1.stem", "backbone1.stages.1.downsample", "backbone1.stages.2.blocks.5"} <= blocks.keys()


def test_graphs_without_such_names() -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="one"), helper.make_node("Relu", ["y"], ["z"], name="two")]
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, [1])
    model = helper.make_model(helper.make_graph(nodes, "graph", [value], [out]))
    with pytest.raises(ExportError, match="names of torch's modules"):
        blocks_of(load(graph_bytes(model)))
    model.graph.node[1].name = "one"
    with pytest.raises(ExportError, match="equal names"):
        blocks_of(model)
