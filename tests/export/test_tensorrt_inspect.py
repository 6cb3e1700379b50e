"""Reading TensorRT's listings of layers: the builder's text and the inspector's JSON, of every version."""

from __future__ import annotations

import json
from typing import Any

import pytest
from edgeiqa.export.float_graph import load_graph
from edgeiqa.export.tensorrt_inspect import (
    EngineLayers,
    LayerPrecision,
    ProductPrecision,
    inspect_engine,
    read_json_listing,
    read_listing,
)
from edgeiqa.export.tensorrt_library import TensorRtLibrary
from edgeiqa.runtime.engines.trt_build import BuiltEngine

from .tensorrt_graphs import tiny

LISTING = """Layers:
Name: __mye7418_0_myl0_0, LayerType: shape_call, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata:
Name: fused_myl0_1, LayerType: kgen, Inputs: [ { Name: x, Dimensions: [-1,3,32,32], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) Channel major format }], Constants: [], Outputs: [ { Name: y, Dimensions: [-1,3,32,32], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) Channel major format }], TacticName: __myl_0xabc, StreamId: 0, Metadata: [ONNX Layer: scale][ONNX Layer: first.input.q][ONNX Layer: first]
Name: first_myl0_2, LayerType: correlation, Inputs: [ { Name: y, Dimensions: [-1,3,32,32], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) Channel major format }], Constants: [ { Name: w, Dimensions: [16,3,3,3], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Int8, Format: (NHWC) Channel major format }, { Name: b, Dimensions: [1,1600,1,1], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) Channel major format }], Outputs: [ { Name: z, Dimensions: [-1,16,16,16], Strides: [1,1,1,1], StrideOrder: [3,0,2,1], Datatype: Half, Format: (NHWC) Channel major format }], TacticName: __myelin_CASK_STUB, StreamId: 0, Metadata: [ONNX Layer: first][ONNX Layer: first.weights.dq]

I/O Tensors:
 Name: image, IOMode: Input, DataType: UInt8, Dimensions: [-1,32,32,3], Location: Device
"""  # noqa: E501 - as TensorRT-RTX prints it


def test_the_builders_listing() -> None:
    fused, product = read_listing(LISTING)
    assert (fused.name, fused.kind, fused.inputs, fused.weights, fused.outputs) == (
        "fused_myl0_1",
        "kgen",
        ("fp32",),
        "",
        ("int8",),
    )
    assert fused.nodes == ("scale", "first.input.q", "first")
    # Its bias has more elements than its weights, and is a vector.
    assert (product.kind, product.inputs, product.weights, product.outputs) == (
        "correlation",
        ("int8",),
        "int8",
        ("fp16",),
    )


def test_a_product_is_the_layer_that_multiplies_and_not_the_kernel_beside_it() -> None:
    library = TensorRtLibrary("tensorrt-rtx", "1.7", None, None, (86,))
    layers = inspect_engine(BuiltEngine(b"", 1.0, LISTING), library, load_graph(tiny("int8")))
    assert layers.source == "builder"
    (product,) = layers.products
    assert (product.node, product.operator, product.layer) == ("first", "Conv", "first_myl0_2")
    assert (product.precision, product.quantized) == ("int8", True)
    assert layers.missing == ("second", "head")
    assert layers.summary().startswith("1 products of the engine: 1 in int8; 1 of the 1 that the graph quantizes")
    assert not layers.lacks_int8


def product(precision: str) -> ProductPrecision:
    return ProductPrecision(node="first", operator="Conv", layer="first", precision=precision, quantized=True)


def layer(inputs: tuple[str, ...], weights: str) -> LayerPrecision:
    return LayerPrecision(name="first", kind="gemm", nodes=(), inputs=inputs, weights=weights, outputs=("fp32",))


@pytest.mark.parametrize(
    ("products", "missing", "layers", "lacks"),
    [
        (["fp32", "fp16"], (), [], True),
        (["fp32", "int8"], (), [], False),
        # Weights alone are not INT8 by INT8, and are not nothing: the summary tells.
        (["fp32", "int8 weights"], (), [], False),
        # What is not known is not held against an engine.
        ([], (), [], False),
        (["not told"], (), [], False),
        (["fp32"], ("second",), [layer(("int8",), "int8")], False),
        (["fp32"], ("second",), [layer(("fp32",), "fp32")], True),
    ],
)
def test_whether_no_product_is_int8(
    products: list[str], missing: tuple[str, ...], layers: list[LayerPrecision], lacks: bool
) -> None:
    told = EngineLayers(
        source="builder",
        reason="no GPU",
        layers=tuple(layers),
        products=tuple(map(product, products)),
        missing=missing,
    )
    assert told.lacks_int8 == lacks


@pytest.mark.parametrize("text", ["", "Layers:\n", "Layers:\nfirst\nsecond\n", "Name: a, LayerType: b"])
def test_a_listing_that_cannot_be_read_is_said_to_be_none(text: str) -> None:
    library = TensorRtLibrary("tensorrt-rtx", "1.7", None, None, (86,))
    layers = inspect_engine(BuiltEngine(b"", 1.0, text), library, load_graph(tiny()))
    assert (layers.source, layers.layers, layers.products) == ("none", (), ())
    assert "needs a GPU" in layers.summary() and "no listing" in layers.summary()


def tensor(told: str, key: str = "Format/Datatype", dimensions: tuple[int, ...] = (4, 3, 32, 32)) -> dict[str, Any]:
    return {"Name": "t", "Dimensions": list(dimensions), key: told}


@pytest.mark.parametrize(
    ("key", "told", "expected"),
    [
        ("Format/Datatype", "Channel major INT8 format where channel % 4 == 0", "int8"),
        ("Format/Datatype", "Row major linear FP16 format", "fp16"),
        ("Format/Datatype", "Row major linear FP32", "fp32"),
        ("Format/Datatype", "Row major linear UINT8 format", "uint8"),
        ("Format/Datatype", "Half NHWC8", "fp16"),
        ("Datatype", "Float", "fp32"),
        ("DataType", "BFloat16", "bf16"),
        ("Datatype", "FP8", "fp8"),
    ],
)
def test_types_as_every_version_writes_them(key: str, told: str, expected: str) -> None:
    text = json.dumps({"Layers": [{"Name": "a", "LayerType": "b", "Inputs": [tensor(told, key)], "Outputs": []}]})
    (layer,) = read_json_listing(text)
    assert layer.inputs == (expected,)


@pytest.mark.parametrize(
    ("inputs", "constants", "weights", "expected"),
    [
        (["INT8"], [], {"Type": "Int8", "Count": 432}, "int8"),
        (["FP32"], [], {"Type": "Int8", "Count": 432}, "int8 weights"),
        (["FP16"], [tensor("FP16", dimensions=(16, 3, 3, 3))], None, "fp16"),
        (["FP16", "FP16"], [], None, "fp16"),
        (["INT8", "FP16"], [], None, "int8 x fp16"),
        # One output: its matrix is a vector.
        (["FP16"], [tensor("FP16", dimensions=(1280, 1)), tensor("FP32", dimensions=(1,))], None, "fp16"),
        # A residual that is added behind the product.
        (["INT8", "FP32"], [tensor("INT8", dimensions=(16, 3, 3, 3))], None, "int8"),
    ],
)
def test_the_precision_of_a_product_is_that_of_its_operands(
    inputs: list[str], constants: list[dict[str, Any]], weights: dict[str, Any] | None, expected: str
) -> None:
    layer = {
        "Name": "first",
        "LayerType": "CaskConvolution",
        "Inputs": [tensor(kind) for kind in inputs],
        "Constants": constants,
        "Outputs": [tensor("FP32")],
        "Metadata": "[ONNX Layer: first]",
        **({"Weights": weights} if weights else {}),
    }

    class Engine:
        def create_engine_inspector(self) -> Any:
            return self

        def get_engine_information(self, _: Any) -> str:
            return json.dumps({"Layers": [layer], "Bindings": ["image", "score"]})

    class Trt:
        class Logger:
            INTERNAL_ERROR = 0

            def __init__(self, _: int) -> None: ...

        class LayerInformationFormat:
            JSON = 1

        class Runtime:
            def __init__(self, _: Any) -> None: ...

            def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
                return Engine() if data else None

    from edgeiqa.runtime.engines.cuda import Gpu

    library = TensorRtLibrary("tensorrt", "10.3.0", Trt, Gpu("a GPU", 89), (89,))
    layers = inspect_engine(BuiltEngine(b"engine", 1.0, LISTING), library, load_graph(tiny()))
    assert (layers.source, layers.counts) == ("engine inspector", {expected: 1})
    # An engine for another GPU is not loaded, and the builder's listing is read instead.
    layers = inspect_engine(BuiltEngine(b"", 1.0, LISTING), library, load_graph(tiny()))
    assert layers.source == "builder"
    assert "a GPU (compute capability 8.9) of this machine does not load the engine" in layers.reason


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"Layers": ["first", "second"]}'])
def test_json_that_tells_nothing(text: str) -> None:
    assert read_json_listing(text) == ()
