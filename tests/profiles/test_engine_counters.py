"""What both engines' profilers say of a graph whose layers are known."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx
import pytest
from edgeiqa.profiles.engine_counters import (
    ExecutedLayer,
    parse_ort_profile,
    run_with_counters,
    times_of_running_means,
)
from edgeiqa.profiles.layers import count_product_macs
from edgeiqa.profiles.product_graph import write_product
from edgeiqa.runtime.errors import UsageError
from onnx import helper, numpy_helper
from onnx.helper import make_node

GENERATOR = np.random.default_rng(1)
# A convolution, a grouped one, a transposed one, and a product, with activations that engines fuse into them.
MACS = {"conv": 16 * 8 * 8 * 8 * 9, "grouped": 16 * 8 * 8 * 9, "transposed": 16 * 8 * 8 * 8 * 4, "product": 8 * 32}


def network() -> bytes:
    weights = {
        "w1": (16, 8, 3, 3),
        "w2": (16, 1, 3, 3),
        "w3": (16, 8, 2, 2),
        "w4": (8, 32),
    }
    nodes = [
        make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        make_node("Relu", ["a"], ["b"]),
        make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], group=16),
        make_node("Relu", ["c"], ["d"]),
        make_node("ConvTranspose", ["d", "w3"], ["e"], strides=[2, 2]),
        make_node("ReduceMean", ["e", "axes"], ["f"], keepdims=0),
        make_node("MatMul", ["f", "w4"], ["y"]),
    ]
    stored = [
        numpy_helper.from_array(GENERATOR.standard_normal(shape).astype(np.float32), name)
        for name, shape in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "known",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 8, 8, 8))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 32))],
        [*stored, numpy_helper.from_array(np.array([2, 3]), "axes")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(model.SerializeToString())


def run(engine: str, data: bytes, feeds: dict[str, Any], *, precision: Any = "fp32") -> tuple[ExecutedLayer, ...]:
    return run_with_counters(engine, [data], feeds, precision=precision, threads=1, warmup=1, runs=3)


def macs_of(layers: tuple[ExecutedLayer, ...]) -> list[int]:
    counted = (count_product_macs(layer.engine_type, layer.inputs, layer.outputs) for layer in layers)
    return [macs for macs in counted if macs]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_layers_of_a_known_network(engine: str) -> None:
    layers = run(engine, network(), {"x": GENERATOR.standard_normal((1, 8, 8, 8)).astype(np.float32)})
    assert sorted(macs_of(layers)) == sorted(MACS.values())
    for layer in layers:
        assert len(layer.times_ms) == 3 and all(0 <= time < 1e4 for time in layer.times_ms)
        assert layer.engine_type and layer.name
    products = [layer for layer in layers if count_product_macs(layer.engine_type, layer.inputs, layer.outputs)]
    assert {layer.precision for layer in products} == {"fp32"}
    first = next(layer for layer in products if layer.outputs[0] == (1, 16, 8, 8))
    # Input, weight and output; OpenVINO adds an empty or a zero bias.
    assert 0 <= first.bytes_moved - 4 * (8 * 64 + 16 * 72 + 16 * 64) <= 4 * 16


def test_openvino_names_what_it_fused() -> None:
    layers = run("openvino", network(), {"x": np.zeros((1, 8, 8, 8), dtype=np.float32)})
    assert any(len(layer.fused) >= 2 for layer in layers)
    assert all(layer.kernel for layer in layers)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("form", ["MatMul", "Conv"])
def test_integer_products_tell_their_precision_and_their_macs(engine: str, form: Any) -> None:
    shape = (32, 64) if form == "MatMul" else (1, 64, 2, 16)
    data = write_product(np.ones((64, 16), dtype=np.float32), shape, form=form, arithmetic="int8")
    layers = run(engine, data, {"a": np.zeros(shape, dtype=np.uint8)}, precision="int8")
    (product,) = [layer for layer in layers if count_product_macs(layer.engine_type, layer.inputs, layer.outputs)]
    assert count_product_macs(product.engine_type, product.inputs, product.outputs) == 32 * 64 * 16


def test_a_packed_weight_counts_in_the_bytes() -> None:
    data = write_product(np.ones((64, 128), dtype=np.float32), (32, 64))
    (product,) = run("onnxruntime", data, {"a": np.zeros((32, 64), dtype=np.float32)})
    assert product.inputs == ((32, 64), (64, 128))
    assert product.bytes_moved == 4 * (prod((32, 64)) + prod((64, 128)) + prod((32, 128)))


def event(name: str, duration: int, index: int = 0, **facts: Any) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": name,
        "dur": duration,
        "args": {
            "node_index": str(index),
            "op_name": "Conv",
            "input_type_shape": [{"float": [1, 3]}],
            "output_type_shape": [{"float": [1, 2]}],
            "activation_size": "12",
            "output_size": "8",
            "parameter_size": "24",
        }
        | facts,
    }


def test_the_events_of_several_runs() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "dur": 999, "args": {}},
        *(event("a_kernel_time", duration) for duration in (5000, 1000, 3000)),
        event("a_fence_before", 77),
        # Another node of the same name.
        *(event("a_kernel_time", duration, 1, op_name="Relu") for duration in (100, 200, 300)),
    ]
    first, second = parse_ort_profile(events, warmup=1)
    assert (first.name, first.engine_type, first.times_ms) == ("a", "Conv", (1.0, 3.0))
    assert (second.engine_type, second.times_ms) == ("Relu", (0.2, 0.3))
    assert (first.precision, first.inputs, first.outputs, first.bytes_moved) == ("fp32", ((1, 3),), ((1, 2),), 44)


def test_events_without_shapes_tell_nothing_and_nothing_is_invented() -> None:
    (layer,) = parse_ort_profile([event("a_kernel_time", 5, input_type_shape=[], output_type_shape=[])], warmup=0)
    assert (layer.precision, layer.inputs, layer.outputs) == (None, (), ())
    assert count_product_macs(layer.engine_type, layer.inputs, layer.outputs) is None


def test_times_of_running_means() -> None:
    times_us = [9942, 6, 8, 300, 7]
    means = [sum(times_us[: count + 1]) // (count + 1) for count in range(len(times_us))]
    assert means == [9942, 4974, 3318, 2564, 2052]
    got = times_of_running_means(means)
    for number, (time_ms, want) in enumerate(zip(got, times_us, strict=True), start=1):
        assert abs(time_ms * 1e3 - want) <= number
    assert times_of_running_means([]) == ()
    assert min(times_of_running_means([5, 2, 1])) >= 0


def test_no_counters_give_no_layers() -> None:
    assert parse_ort_profile([], warmup=0) == ()
    assert parse_ort_profile([event("a_kernel_time", 5)], warmup=1) == ()


def test_an_engine_that_is_not_known() -> None:
    with pytest.raises(UsageError, match="profiler of engine 'tensorrt'"):
        run("tensorrt", b"", {})
