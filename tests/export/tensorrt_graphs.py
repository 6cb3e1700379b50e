"""A tiny network as ONNX graphs, typed and quantized as TensorRT wants them, and as it does not."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnx
from edgeiqa.export.graph import IR_VERSION, OPSET, graph_bytes
from onnx import TensorProto, helper, numpy_helper

Kind = Literal["fp32", "fp16", "int8", "int8 weights", "uint8 transpose"]

SIDE = 32
PRODUCTS = ("first", "second", "head")


def tiny(kind: Kind = "fp32") -> bytes:
    """Two convolutions and a linear layer, uint8 NHWC in, ``score`` and ``features.last`` out."""
    generator = np.random.default_rng(5)
    number = TensorProto.FLOAT16 if kind == "fp16" else TensorProto.FLOAT
    dtype = np.float16 if kind == "fp16" else np.float32
    constants: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: object, as_type: type = dtype) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype=as_type), name))
        return name

    def node(operator: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, list(inputs), [f"{name}.out"], name=name, **attributes))
        return f"{name}.out"

    def quantized(name: str, value: str, scale: object, axis: int = 1) -> str:
        zero = np.zeros_like(np.asarray(scale), dtype=np.int8)
        parameters = (constant(f"{name}.scale", scale, np.float32), constant(f"{name}.zero", zero, np.int8))
        codes = node("QuantizeLinear", f"{name}.q", value, *parameters, axis=axis)
        return node("DequantizeLinear", f"{name}.dq", codes, *parameters, axis=axis)

    def activation(name: str, value: str) -> str:
        return quantized(f"{name}.input", value, 0.05) if kind == "int8" else value

    def weight(name: str, shape: tuple[int, ...], axis: int) -> str:
        values = generator.normal(0, 0.2, shape)
        stored = constant(f"{name}.weight", values)
        if kind not in ("int8", "int8 weights"):
            return stored
        others = tuple(side for side in range(len(shape)) if side != axis)
        return quantized(f"{name}.weights", stored, np.abs(values).max(axis=others) / 127, axis)

    if kind == "uint8 transpose":
        turned = node("Transpose", "turn", "image", perm=[0, 3, 1, 2])
        value = node("Cast", "cast", turned, to=number)
    else:
        value = node("Transpose", "turn", node("Cast", "cast", "image", to=number), perm=[0, 3, 1, 2])
    value = node("Mul", "scale", value, constant("1/128", 1 / 128))
    for name, channels in (("first", (16, 3)), ("second", (32, 16))):
        inputs = (activation(name, value), weight(name, (*channels, 3, 3), 0))
        value = node("Conv", name, *inputs, constant(f"{name}.bias", np.zeros(channels[0])), strides=[2, 2])
        value = node("Relu", f"{name}.relu", value)
    pooled = node("Flatten", "flat", node("GlobalAveragePool", "pool", value))
    scores = node("MatMul", "head", activation("head", pooled), weight("head", (32, 4), 1))
    axes = constant("axes", [1], np.int64)
    score = node("ReduceMean", "mean", scores, axes, keepdims=0)
    for name, result in (("score", score), ("features.last", pooled)):
        nodes.append(helper.make_node("Cast", [result], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("features.last", TensorProto.FLOAT, ["N", 32]),
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return graph_bytes(model)
