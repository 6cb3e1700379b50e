"""Small graphs for the linter: a clean one of every kind, and what takes one rule from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

Body = Callable[["Sketch", str], str]

ZERO = np.int8(0)


class Sketch:
    """A graph that is being drawn: each call adds a node or a constant and gives its output's name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.types: list[onnx.ValueInfoProto] = []

    def constant(self, value: ArrayLike, dtype: Any = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def node(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        node = helper.make_node(operator, list(inputs), [f"{name}.out"], name=name, domain=domain, **attributes)
        self.nodes.append(node)
        return f"{name}.out"

    def number(self, operator: str, value: str, constant: float) -> str:
        """An operator of a tensor and a number."""
        return self.node(operator, value, self.constant(constant))

    def quantize(
        self,
        value: str,
        scale: ArrayLike = 0.05,
        zero: Any = ZERO,
        *,
        axis: int = 1,
        dequantize: bool = True,
    ) -> str:
        """A quantizer with its dequantizer: of the tensor, or along an axis where there are several scales."""
        scales = np.asarray(scale, dtype=np.float32)
        zeros = np.broadcast_to(zero, scales.shape)
        parameters = (self.constant(scales), self.constant(zeros, zeros.dtype))
        quantized = self.node("QuantizeLinear", value, *parameters, axis=axis)
        return self.node("DequantizeLinear", quantized, *parameters, axis=axis) if dequantize else quantized

    def weight(
        self,
        shape: tuple[int, ...],
        *,
        axis: int = 0,
        largest: int = 60,
        zero: Any = ZERO,
        dtype: Any = np.int8,
        scale: float | None = None,
    ) -> str:
        """A stored weight of small whole numbers behind its dequantizer; one scale where ``scale`` is given."""
        values = np.random.default_rng(0).integers(-largest, largest + 1, shape)
        values.flat[0] = largest
        if np.dtype(dtype).kind == "u":
            values = np.abs(values)
        scales: NDArray[Any] = np.full(shape[axis], 0.01) if scale is None else np.array(scale)
        zeros = np.broadcast_to(np.asarray(zero, dtype=dtype), scales.shape)
        inputs = (self.constant(values, dtype), self.constant(scales), self.constant(zeros, dtype))
        return self.node("DequantizeLinear", *inputs, axis=axis)

    def model(self, score: str, size: tuple[int | str, int | str] = (8, 8), **options: Any) -> onnx.ModelProto:
        """The model whose input is ``image`` and whose output is named ``score``."""
        # The exporter names its output so.
        self.nodes.append(helper.make_node("Identity", [score], ["score"], name="out"))
        graph = helper.make_graph(
            self.nodes,
            "sketch",
            [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", *size, 3])],
            [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])],
            self.constants,
            value_info=self.types,
        )
        domains = {node.domain for node in self.nodes if node.domain}
        opsets = [helper.make_opsetid("", options.pop("opset", 20)), *(helper.make_opsetid(d, 1) for d in domains)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=options.pop("ir_version", 10), **options)


def same(_: Sketch, value: str) -> str:
    return value


def network(
    body: Body = same,
    *,
    before: Body = same,
    after: Body = same,
    activation: Body | None = None,
    weight: Callable[[Sketch], str] | None = None,
    convolution: dict[str, Any] | None = None,
    bias: Callable[[Sketch], str] | None = None,
    head: Callable[[Sketch, str], str] | None = None,
    quantized: bool = True,
    **options: Any,
) -> onnx.ModelProto:
    """A convolution and a linear layer, both quantized symmetrically to INT8 unless told otherwise.

    Args:
        body: between the activation and the pool, on ``[N, 8, 8, 8]``.
        before: between the cast and the first quantizer, on ``[N, 3, 8, 8]``.
        after: on the pooled features ``[N, 8]``, before the head.
        activation: the convolution's input quantizer.
        weight: of the convolution, ``[8, 3, 3, 3]``.
        convolution: its attributes.
        bias: of the convolution, ``[8]``.
        head: from the pooled features to ``[N, 1]``.
        quantized: whether anything is.
        options: of `Sketch.model`.
    """
    sketch = Sketch()
    pixels = sketch.node("Cast", "image", to=TensorProto.FLOAT)
    pixels = sketch.node("Transpose", sketch.number("Mul", pixels, 1 / 255), perm=[0, 3, 1, 2])
    value = before(sketch, pixels)
    if activation is not None:
        value = activation(sketch, value)
    elif quantized:
        value = sketch.quantize(value)
    if weight is not None:
        kernel = weight(sketch)
    elif quantized:
        kernel = sketch.weight((8, 3, 3, 3))
    else:
        kernel = sketch.constant(np.ones((8, 3, 3, 3)) / 100)
    biases = sketch.constant(np.zeros(8)) if bias is None else bias(sketch)
    value = sketch.node("Conv", value, kernel, biases, pads=[1, 1, 1, 1], **(convolution or {}))
    value = body(sketch, sketch.node("Relu", value))
    value = after(sketch, sketch.node("Flatten", sketch.node("GlobalAveragePool", value)))
    if head is not None:
        value = head(sketch, value)
    elif quantized:
        value = sketch.node("Gemm", sketch.quantize(value), sketch.weight((1, 8)), transB=1)
    else:
        value = sketch.node("Gemm", value, sketch.constant(np.ones((1, 8))), transB=1)
    return sketch.model(sketch.node("Squeeze", value, sketch.constant([1], np.int64)), **options)


def tokens(then: Body) -> Body:
    """A body on ``[N, 8, 8, 8]`` with the channels last, as a LayerNorm has them."""

    def body(sketch: Sketch, value: str) -> str:
        last = sketch.node("Transpose", value, perm=[0, 2, 3, 1])
        return sketch.node("Transpose", then(sketch, last), perm=[0, 3, 1, 2])

    return body


def layer_norm(sketch: Sketch, value: str) -> str:
    return sketch.node(
        "LayerNormalization", value, sketch.constant(np.ones(8)), sketch.constant(np.zeros(8)), axis=-1, epsilon=1e-6
    )


def layer_norm_in_parts(between: Body = same, *, dtype: Any = np.float32, square: str = "Pow") -> Body:
    """A LayerNorm as ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div."""

    def body(sketch: Sketch, value: str) -> str:
        axes = sketch.constant([-1], np.int64)
        half = dtype == np.float16
        if half:
            value = sketch.node("Cast", value, to=TensorProto.FLOAT16)
        centred = sketch.node("Sub", value, sketch.node("ReduceMean", value, axes))
        if square == "Pow":
            squared = sketch.node("Pow", centred, sketch.constant(2.0, dtype))
        else:
            squared = sketch.node("Mul", centred, centred)
        variance = between(sketch, sketch.node("ReduceMean", squared, axes))
        deviation = sketch.node("Sqrt", sketch.node("Add", variance, sketch.constant(1e-3, dtype)))
        if square == "Pow":
            normed = sketch.node("Div", centred, deviation)
        else:
            normed = sketch.node("Mul", centred, sketch.node("Reciprocal", deviation))
        return sketch.node("Cast", normed, to=TensorProto.FLOAT) if half else normed

    return tokens(body)


def gelu_by_erf(between: Body = same) -> Body:
    def body(sketch: Sketch, value: str) -> str:
        error = between(sketch, sketch.node("Erf", sketch.number("Div", value, 2**0.5)))
        return sketch.number("Mul", sketch.node("Mul", value, sketch.number("Add", error, 1.0)), 0.5)

    return body


def gelu_by_tanh(between: Body = same) -> Body:
    def body(sketch: Sketch, value: str) -> str:
        cubic = sketch.node("Add", value, sketch.number("Mul", sketch.number("Pow", value, 3.0), 0.044715))
        bent = between(sketch, sketch.node("Tanh", sketch.number("Mul", cubic, (2 / np.pi) ** 0.5)))
        return sketch.node("Mul", sketch.number("Mul", value, 0.5), sketch.number("Add", bent, 1.0))

    return body
