"""Weights stored as FP16 become FP32 again, and nothing else changes."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import pytest
from edgeiqa.export.float_graph import plain_float
from edgeiqa.export.graph import graph_bytes, store_as_fp16
from edgeiqa.runtime.errors import ExportError, MissingExtraError
from onnx import TensorProto, helper, numpy_helper

from .networks import noise
from .quantizing import SHAPES, constants, load, run, tiny


@pytest.mark.parametrize("kind", ["gated", "transformer"])
def test_there_and_back(kind: str) -> None:
    stored = store_as_fp16(load(tiny(kind)))
    plain = load(plain_float(graph_bytes(stored)))
    assert list(plain.graph.node) == list(load(tiny(kind)).graph.node)
    before, after = constants(load(tiny(kind))), constants(plain)
    assert list(after) == list(before)
    for name, value in after.items():
        assert value.dtype == before[name].dtype
        np.testing.assert_allclose(value, before[name], rtol=1e-3, atol=1e-6)
    assert graph_bytes(store_as_fp16(plain)) == graph_bytes(stored)
    views = noise(SHAPES, 2)
    np.testing.assert_array_equal(
        run(graph_bytes(plain), views, plainly=True)["score"], run(graph_bytes(stored), views, plainly=True)["score"]
    )


def test_a_graph_without_such_weights_stays_as_it_is() -> None:
    assert plain_float(tiny("plain")) == tiny("plain")


def test_fp16_that_something_else_reads_stays() -> None:
    half = numpy_helper.from_array(np.ones((4, 2), np.float16), "half")
    nodes = [
        helper.make_node("Cast", ["half"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["half"], ["same"]),
    ]
    outputs = [
        helper.make_tensor_value_info("wide", TensorProto.FLOAT, [4, 2]),
        helper.make_tensor_value_info("same", TensorProto.FLOAT16, [4, 2]),
    ]
    model = helper.make_model(helper.make_graph(nodes, "graph", [], outputs, [half]))
    assert plain_float(graph_bytes(model)) == graph_bytes(model)


@pytest.mark.parametrize("data", [b"", b"not a graph", b"\x08\x08", b"\xff" * 40])
def test_what_is_no_graph(data: bytes) -> None:
    with pytest.raises(ExportError, match="no ONNX graph"):
        plain_float(data)


def test_onnx_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert onnx.__name__ == "onnx"
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match="onnx"):
        plain_float(b"")
