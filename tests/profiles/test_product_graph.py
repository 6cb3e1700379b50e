"""The hand-written graph is the one that the library onnx would write, and both engines compute the product."""

from __future__ import annotations

from typing import Literal

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from edgeiqa.profiles.product_graph import write_product
from edgeiqa.runtime.engines.onnx_bytes import require_one_file
from onnx import numpy_helper

GENERATOR = np.random.default_rng(3)
WEIGHT = GENERATOR.standard_normal((32, 48), dtype=np.float32)
SHAPES = {"MatMul": (16, 32), "Conv": (1, 32, 4, 4)}
Form = Literal["MatMul", "Conv"]
FORMS: tuple[Form, ...] = ("MatMul", "Conv")


def expected(given: np.ndarray, form: str, weight: np.ndarray) -> np.ndarray:
    if form == "MatMul":
        return np.asarray(given @ weight)
    return np.asarray(np.einsum("nchw,cd->ndhw", given, weight))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("arithmetic", ["float", "int8"])
def test_onnx_takes_it(form: Form, arithmetic: Literal["float", "int8"]) -> None:
    data = write_product(WEIGHT, SHAPES[form], form=form, arithmetic=arithmetic)
    require_one_file(data)
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    (stored,) = [tensor for tensor in model.graph.initializer if tensor.name == "w"]
    values = numpy_helper.to_array(stored)
    assert values.dtype == (np.float32 if arithmetic == "float" else np.int8)
    assert values.size == WEIGHT.size
    if arithmetic == "float" and form == "MatMul":
        np.testing.assert_array_equal(values, WEIGHT)


@pytest.mark.parametrize("form", FORMS)
def test_engines_compute_the_product(form: Form) -> None:
    given = GENERATOR.standard_normal(SHAPES[form], dtype=np.float32)
    data = write_product(WEIGHT, SHAPES[form], form=form)
    want = expected(given, form, WEIGHT)
    np.testing.assert_allclose(onnxruntime.InferenceSession(data).run(None, {"a": given})[0], want, atol=1e-4)
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled({"a": given})[0], want, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_integers_come_near_the_product(form: Form) -> None:
    given = GENERATOR.integers(0, 256, SHAPES[form], dtype=np.uint8)
    data = write_product(WEIGHT, SHAPES[form], form=form, arithmetic="int8")
    real = expected((given.astype(np.float32) - 128) / 128, form, WEIGHT)
    step = float(np.abs(WEIGHT).max()) / 127 * 32**0.5
    want = np.clip(np.rint(real / step) + 128, 0, 255)
    got = onnxruntime.InferenceSession(data).run(None, {"a": given})[0]
    assert got.dtype == np.uint8
    # The weights' own rounding moves a sum of 32 products by a step or two; a transposed weight by dozens.
    assert np.abs(got.astype(int) - want).max() <= 2
    assert np.abs(want - 128).std() > 3
