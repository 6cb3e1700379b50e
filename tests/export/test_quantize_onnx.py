"""INT8 for ONNX: types and axes as each engine wants them, answers near FP32's, the recipe's exceptions kept."""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from edgeiqa.export.float_graph import plain_float
from edgeiqa.export.graph import graph_bytes, store_as_fp16
from edgeiqa.export.nncf_settings import Batched
from edgeiqa.export.quantize_onnx import quantize
from edgeiqa.runtime.errors import ExportError, MissingExtraError, UsageError

from .networks import noise
from .quantizing import SHAPES, Noise, constants, load, pairs, quantized_weights, recipe, run, signal_to_noise_db, tiny

ASYMMETRIC = recipe("u8s8", activations="asymmetric", bias_correction="full")


@cache
def unsigned() -> bytes:
    return quantize(tiny("plain"), Noise(), ASYMMETRIC, threads=1)


def test_interface_and_versions() -> None:
    before, after = load(tiny("plain")), load(unsigned())
    assert list(after.graph.input) == list(before.graph.input)
    assert list(after.graph.output) == list(before.graph.output)
    assert (after.ir_version, [(o.domain, o.version) for o in after.opset_import]) == (10, [("", 20)])
    assert after.producer_name == "edgeiqa"
    assert not after.metadata_props
    onnx.checker.check_model(after, full_check=True)


def test_u8s8_types() -> None:
    model = load(unsigned())
    for _, scale, zero in pairs(model, "QuantizeLinear"):
        assert zero.dtype == np.uint8
        assert zero.ndim == scale.ndim == 0
    known = constants(model)
    for node, scale, zero in pairs(model, "DequantizeLinear"):
        if node.input[0] in known:
            assert zero.dtype == np.int8
            assert not zero.any()
            # The score's layer has one output, and one scale for it.
            assert scale.size == known[node.input[0]].shape[0]
            assert not scale.ndim or next(a.i for a in node.attribute if a.name == "axis") == 0
    weights = quantized_weights(model)
    assert len(weights) == sum(node.op_type in ("Conv", "Gemm") for node in model.graph.node) == 14
    assert max(np.abs(values.astype(int)).max() for values in weights.values()) == 127


def test_onnxruntime_computes_every_convolution_in_integers(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(unsigned(), options, providers=["CPUExecutionProvider"])
    made = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert made["QLinearConv"] == 13
    assert not made.keys() & {"Conv", "FusedConv"}


def test_answers_near_those_in_fp32_and_a_batch_that_changes_nothing() -> None:
    views = noise(SHAPES, 3, seed=9)
    together, expected = run(unsigned(), views), run(tiny("plain"), views)
    assert list(together) == ["score", "features.last"]
    assert signal_to_noise_db(together["features.last"], expected["features.last"]) > 30
    assert signal_to_noise_db(together["score"], expected["score"]) > 25
    alone = [run(unsigned(), {n: v[i : i + 1] for n, v in views.items()})["score"] for i in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), together["score"], rtol=1e-5, atol=1e-5)


def test_equal_arguments_give_equal_bytes() -> None:
    images = Noise()
    assert quantize(tiny("plain"), images, ASYMMETRIC, threads=1) == unsigned()
    assert images.asked >= len(images)


def test_s8s8_holds_the_same_numbers_in_another_type() -> None:
    signed = recipe("s8s8", activations="asymmetric", bias_correction="full")
    made = quantize(tiny("plain"), Noise(), signed, threads=1)
    assert {zero.dtype.name for _, _, zero in pairs(load(made), "QuantizeLinear")} == {"int8"}
    views = noise(SHAPES, 2, seed=5)
    ours, theirs = run(made, views, plainly=True), run(unsigned(), views, plainly=True)
    for output, value in ours.items():
        np.testing.assert_array_equal(value, theirs[output])


@pytest.mark.parametrize("quantizer", ["nncf", "onnxruntime"])
def test_7_bit_weights(quantizer: str) -> None:
    made = load(quantize(tiny("plain"), Noise(), recipe("u8s8", weight_bits=7, quantizer=quantizer), threads=1))
    depthwise = {n.name for n in made.graph.node if any(a.name == "group" and a.i > 1 for a in n.attribute)}
    # A depthwise convolution has no sums of pairs across channels, and nncf leaves it 8 bits.
    weights = {name: values for name, values in quantized_weights(made).items() if name not in depthwise}
    assert len(weights) == 10
    assert {int(np.abs(values.astype(int)).max()) for values in weights.values()} <= {63, 64}


def test_float_blocks_and_operators() -> None:
    chosen = recipe("u8s8", float_blocks=("backbone.blocks.1.*", "head"), float_operators=("Add",))
    model = load(quantize(tiny("plain"), Noise(), chosen, threads=1))
    products = {node.name: node for node in model.graph.node if node.op_type in ("Conv", "Gemm")}
    floats = {products[name].input[1] for name in products.keys() - quantized_weights(model).keys()}
    blocks = {name.removeprefix("network.").removeprefix("trunks.0.model.").rpartition(".")[0] for name in floats}
    assert {block.rpartition(".")[0] for block in blocks} == {"blocks.1.0", "blocks.1.1", "head"}
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    sums = [node for node in model.graph.node if node.op_type == "Add"]
    assert len(sums) == 4
    assert all(makers.get(name) != "DequantizeLinear" for node in sums for name in node.input)


@pytest.mark.parametrize("quantizer", ["nncf", "onnxruntime"])
@pytest.mark.parametrize("kind", ["plain", "gated", "transformer"])
def test_tensorrt_rules(kind: str, quantizer: str) -> None:
    floats = ("HardSwish", "HardSigmoid", "LayerNormalization", "Gelu", "Softmax")
    chosen = recipe("tensorrt", quantizer=quantizer, float_gates=True, float_operators=floats)
    made = quantize(tiny(kind), Noise(), chosen, threads=1)
    model = load(made)
    known = constants(model)
    makers = {output: node for node in model.graph.node for output in node.output}
    axes = {"Conv": 0, "MatMul": 1}
    readers = {node.input[1]: node.op_type for node in model.graph.node if node.op_type in axes}
    for operator in ("QuantizeLinear", "DequantizeLinear"):
        for node, scale, zero in pairs(model, operator):
            assert zero.dtype == np.int8
            assert not zero.any()
            if scale.ndim and operator == "DequantizeLinear":
                # A weight, a scale for each output: the last side of a matrix product's.
                assert node.input[0] in known
                axis = next(a.i for a in node.attribute if a.name == "axis")
                assert axis % known[node.input[0]].ndim == axes[readers[node.output[0]]]
    assert {value.dtype.name for value in known.values()} <= {"float32", "int8", "int64"}
    sums = 0
    for node in model.graph.node:
        quantized = [name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input]
        if node.op_type in ("Mul", *floats, "Gemm", "Clip"):
            assert not any(quantized), node.name
        if node.op_type == "Add":
            assert sum(quantized) <= 1, node.name
            sums += sum(quantized)
        if node.op_type == "Conv":
            # The bias stays float, and both others are quantized or neither.
            assert quantized in ([True, True, False], [False, False, False])
    assert kind == "transformer" or sums >= 2
    assert len(quantized_weights(model)) == {"plain": 13, "gated": 13, "transformer": 9}[kind]
    for operator in floats:
        assert sum(node.op_type == operator for node in model.graph.node) == sum(
            node.op_type == operator for node in load(tiny(kind)).graph.node
        )
    views = noise(SHAPES, 3, 8)
    assert signal_to_noise_db(run(made, views)["features.last"], run(tiny(kind), views)["features.last"]) > 20


def test_smooth_quant_moves_an_outlying_channel_into_the_weights() -> None:
    model = load(tiny("transformer"))
    gain = next(t for t in model.graph.initializer if t.name.endswith("blocks.0.norm1.weight"))
    values = onnx.numpy_helper.to_array(gain).copy()
    values[3] *= 60
    gain.CopyFrom(onnx.numpy_helper.from_array(values, gain.name))
    data, views = graph_bytes(model), noise(SHAPES, 3, 8)
    expected = run(data, views)["features.last"]
    plain, smoothed = (
        quantize(data, Noise(), recipe("u8s8", smooth_quant=strength), threads=1) for strength in (None, 0.7)
    )
    gained = signal_to_noise_db(run(smoothed, views)["features.last"], expected)
    assert gained > signal_to_noise_db(run(plain, views)["features.last"], expected) + 3


def test_weights_stored_as_fp16_are_quantized_as_their_fp32_values() -> None:
    stored = graph_bytes(store_as_fp16(load(tiny("plain"))))
    images, chosen = Noise(count=1), recipe("u8s8")
    assert quantize(stored, images, chosen, threads=1) == quantize(plain_float(stored), images, chosen, threads=1)


def test_of_many_images_some_are_taken_evenly() -> None:
    taken = [views["image"] for views in Batched(Noise(count=10), 4)]
    whole = [views["image"] for views in Noise(count=10)]
    assert len(Batched(Noise(count=10), 4)) == len(taken) == 4
    assert all(np.array_equal(one[0], whole[place]) for one, place in zip(taken, (0, 2, 5, 7), strict=True))
    assert len(list(Batched(Noise(count=3), 300))) == 3


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="no calibration images"):
        quantize(tiny("plain"), [], recipe("u8s8"), threads=1)
    with pytest.raises(UsageError, match="for OpenVINO"):
        quantize(tiny("plain"), Noise(), recipe("openvino"), threads=1)
    with pytest.raises(UsageError, match=r"blocks\.9.*backbone\.blocks\.1\.0"):
        quantize(tiny("plain"), Noise(), recipe("u8s8", float_blocks=("backbone.blocks.9",)), threads=1)
    with pytest.raises(ExportError, match="no ONNX graph"):
        quantize(b"not a graph", Noise(), recipe("u8s8"), threads=1)
    with pytest.raises(ExportError, match="nncf could not"):
        quantize(tiny("plain"), Noise({"image": (8, 8, 3)}), recipe("u8s8"), threads=1)


def test_nncf_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(MissingExtraError, match="nncf"):
        quantize(tiny("plain"), Noise(), recipe("u8s8"), threads=1)
