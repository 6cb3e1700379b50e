"""INT8 in OpenVINO's form: small files, answers near FP32's, biases and depthwise weights seen."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import openvino
import pytest
from edgeiqa.export.openvino_graph import to_openvino
from edgeiqa.export.quant_recipe import QuantRecipe
from edgeiqa.export.quantize_openvino import quantize_openvino
from edgeiqa.runtime.errors import ExportError, MissingExtraError, UsageError
from numpy.typing import NDArray

from .networks import noise
from .quantizing import SHAPES, Noise, recipe, run, signal_to_noise_db, tiny

FULL = recipe("openvino", activations="asymmetric", bias_correction="full")


@cache
def quantized(chosen: QuantRecipe = FULL) -> tuple[bytes, bytes]:
    return quantize_openvino(tiny("gated"), Noise(), chosen, threads=1)


def read(files: tuple[bytes, bytes]) -> Any:
    return openvino.Core().read_model(*files)


def infer(files: tuple[bytes, bytes], views: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(read(files), "CPU", settings)
    return {output.get_any_name(): value for output, value in compiled(dict(views)).items()}


def int8_weights(files: tuple[bytes, bytes]) -> set[str]:
    """Names of convolutions and products whose weights are stored as bytes."""
    found = set()
    for node in read(files).get_ops():
        if node.get_type_name() not in ("Convolution", "GroupConvolution", "MatMul"):
            continue
        source = node.input_value(1).get_node()
        while source.get_type_name() in ("Multiply", "Subtract", "Convert", "Reshape"):
            source = source.input_value(0).get_node()
        if source.get_type_name() == "Constant" and source.get_element_type() == openvino.Type.i8:
            found.add(node.get_friendly_name())
    return found


def test_every_product_has_int8_weights_and_the_interface_stays() -> None:
    files = quantized()
    plain = to_openvino(tiny("gated"), store_fp16=False)
    kinds = ("Convolution", "GroupConvolution", "MatMul")
    products = [node for node in read(files).get_ops() if node.get_type_name() in kinds]
    assert len(int8_weights(files)) == len(products) == 18
    assert len(files[1]) < 0.5 * len(plain[1])
    for side in ("inputs", "outputs"):
        before, after = getattr(read(plain), side), getattr(read(files), side)
        assert [one.get_any_name() for one in after] == [one.get_any_name() for one in before]
        assert [one.partial_shape for one in after] == [one.partial_shape for one in before]
        assert [one.element_type for one in after] == [one.element_type for one in before]


def test_answers_near_those_in_fp32_and_a_batch_that_changes_nothing() -> None:
    views = noise(SHAPES, 3, seed=9)
    together, expected = infer(quantized(), views), run(tiny("gated"), views)
    assert together.keys() == expected.keys()
    assert signal_to_noise_db(together["features.last"], expected["features.last"]) > 25
    alone = [infer(quantized(), {n: v[i : i + 1] for n, v in views.items()})["score"] for i in range(3)]
    np.testing.assert_allclose(np.concatenate(alone), together["score"], rtol=1e-4, atol=1e-5)


def test_7_bit_weights() -> None:
    """For x86 without VNNI. Depthwise ones have no sums of pairs across channels, and nncf leaves them 8 bits."""
    largest = {}
    for bits in (7, 8):
        model = read(quantized(recipe("openvino", activations="asymmetric", weight_bits=bits)))
        stored = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
        weights = [node.data for node in stored if node.get_element_type() == openvino.Type.i8]
        dense = [values for values in weights if values.ndim < 5]
        assert len(dense) == 14
        largest[bits] = max(int(np.abs(values.astype(int)).max()) for values in dense)
    assert largest[7] <= 64 < largest[8]


def test_bias_correction_finds_the_biases() -> None:
    uncorrected = recipe("openvino", activations="asymmetric")
    assert quantized(uncorrected)[1] != quantized()[1]


def test_equal_arguments_give_equal_bytes() -> None:
    assert quantize_openvino(tiny("gated"), Noise(), FULL, threads=1) == quantized()


def test_no_trace_of_the_machine() -> None:
    assert not [folder for folder in (sys.prefix, "site-packages", "/tmp") if folder.encode() in quantized()[0]]


def test_float_blocks_and_gates() -> None:
    chosen = recipe("openvino", float_blocks=("backbone.blocks.0.0", "head"), float_gates=True)
    quantized_now, all_of_them = int8_weights(quantized(chosen)), int8_weights(quantized())
    assert quantized_now < all_of_them
    # One block of five convolutions, the head's product, and the other gate's two convolutions.
    assert len(all_of_them) - len(quantized_now) == 5 + 1 + 2


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="no calibration images"):
        quantize_openvino(tiny("gated"), [], FULL, threads=1)
    with pytest.raises(UsageError, match="scheme u8s8"):
        quantize_openvino(tiny("gated"), Noise(), recipe("u8s8"), threads=1)
    with pytest.raises(UsageError, match=r"backbone\.blocks\.7"):
        quantize_openvino(tiny("gated"), Noise(), recipe("openvino", float_blocks=("backbone.blocks.7",)), threads=1)
    with pytest.raises(ExportError, match="nncf could not"):
        quantize_openvino(tiny("gated"), Noise({"other": (16, 24, 3)}), FULL, threads=1)


@pytest.mark.parametrize("library", ["nncf", "openvino"])
def test_a_library_is_missing(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=library):
        quantize_openvino(tiny("gated"), Noise(), FULL, threads=1)
