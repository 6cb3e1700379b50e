"""The integer types of quantized activations, as each target's engine wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["retype_activations", "share_residuals"]

_SHIFT = 128
_UNSIGNED_STEPS, _SIGNED_STEPS = 255, 127


def retype_activations(model: onnx.ModelProto, scheme: str) -> None:
    """Give all quantized activations of a graph the type of its scheme; nncf mixes uint8 and int8.

    onnxruntime computes in integers only where a convolution reads and writes one type. For u8s8 and s8s8 the same
    numbers are written with another zero point, which loses nothing. TensorRT wants zero points of 0: there a range
    that begins at zero is spread over the 127 positive steps of int8 instead of the 255 of uint8.

    Args:
        model: changed in place; each QuantizeLinear has its scale and zero point as tensors of the graph.
        scheme: ``u8s8``, ``s8s8`` or ``tensorrt``.

    Raises:
        ExportError: a quantizer's zero point is none of int8 or uint8, or for tensorrt cannot be 0.
    """
    from onnx import numpy_helper

    wanted = np.dtype(np.uint8 if scheme == "u8s8" else np.int8)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear":
            readers.setdefault(node.input[0], []).append(node)
    made: dict[str, Any] = {}
    for node in model.graph.node:
        if node.op_type != "QuantizeLinear":
            continue
        scale, zero = (numpy_helper.to_array(tensors[name]) for name in node.input[1:3])
        if zero.dtype not in (np.int8, np.uint8) or (scheme == "tensorrt" and zero.any()):
            raise ExportError(
                f"quantizer {node.name} with zero points {zero.dtype} {zero}",
                expected="int8 or uint8; for TensorRT 0",
                mend="use a recipe of symmetric activations",
            )
        if zero.dtype == wanted:
            continue
        if scheme == "tensorrt":
            scale = (scale * (_UNSIGNED_STEPS / _SIGNED_STEPS)).astype(scale.dtype)
            zero = zero.astype(np.int8)
        else:
            zero = (zero.astype(np.int16) + (_SHIFT if scheme == "u8s8" else -_SHIFT)).astype(wanted)
        names = [f"{node.output[0]}.scale", f"{node.output[0]}.zero_point"]
        for name, value in zip(names, (scale, zero), strict=True):
            made[name] = numpy_helper.from_array(value, name)
        for user in [node, *readers.get(node.output[0], [])]:
            user.input[1], user.input[2] = names
    model.graph.initializer.extend(made.values())
    _drop_unread(model)


def _drop_unread(model: onnx.ModelProto) -> None:
    read = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def share_residuals(model: onnx.ModelProto) -> None:
    """Let each residual sum read its shortcut quantized, as the convolution behind the shortcut does.

    Its other branch, the output of a convolution, stays float: TensorRT then computes the sum within that convolution.
    """
    makers = {output: node for node in model.graph.node for output in node.output}
    quantized = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    dequantized = {node.input[0]: node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type != "Add":
            continue
        for shortcut, branch in ((0, 1), (1, 0)):
            maker = makers.get(node.input[branch])
            again = dequantized.get(quantized.get(node.input[shortcut], ""))
            if maker is not None and maker.op_type == "Conv" and again is not None:
                node.input[shortcut] = again
                break
