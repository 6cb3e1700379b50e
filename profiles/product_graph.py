"""A graph that is one large matrix product, as the bytes of an ONNX file: what a machine's peak is measured with.

Written without the library onnx, which a device does not have. Source: the wire format of Protocol Buffers (encoding
reference) and the field numbers of ``onnx.proto3``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_product"]

_TYPES = {"float32": 1, "uint8": 2, "int8": 3}


def write_product(
    weight: NDArray[np.float32],
    given: Sequence[int],
    *,
    form: Literal["MatMul", "Conv"] = "MatMul",
    arithmetic: Literal["float", "int8"] = "float",
) -> bytes:
    """Write a graph of one matrix product as an ONNX model (IR 8, opset 17).

    Args:
        weight: float32 ``[K, N]``.
        given: shape of the input: ``[M, K]``; for ``Conv`` ``[1, K, H, W]``, which is H x W rows.
        form: ``MatMul``, or the same product as a convolution of 1x1; an engine may do one faster than the other.
        arithmetic: ``float``: in and out are float32. ``int8``: a product between Q/DQ pairs, in the form that engines
            compute in integers: in and out are uint8, ``weight`` is stored as int8 by its largest value.

    Returns:
        A model with the input ``a`` and the output ``y``, ``[M, N]`` or ``[1, N, H, W]``.
    """
    inner, columns = weight.shape
    made = (given[0], columns) if form == "MatMul" else (1, columns, *given[2:])
    if form == "Conv":
        weight = np.ascontiguousarray(weight.T)[:, :, None, None]
    if arithmetic == "float":
        nodes = [_node(form, ["a", "w"], ["y"])]
        stored = [_tensor("w", weight)]
        kind = "float32"
    else:
        scale = float(np.abs(weight).max()) / 127
        nodes = [
            _node("DequantizeLinear", ["a", "a_scale", "a_zero"], ["a_float"]),
            _node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_float"]),
            _node(form, ["a_float", "w_float"], ["y_float"]),
            _node("QuantizeLinear", ["y_float", "y_scale", "y_zero"], ["y"]),
        ]
        stored = [
            _tensor("a_scale", np.array(1 / 128, dtype=np.float32)),
            _tensor("a_zero", np.array(128, dtype=np.uint8)),
            _tensor("w", np.rint(weight / scale).astype(np.int8)),
            _tensor("w_scale", np.array(scale, dtype=np.float32)),
            _tensor("w_zero", np.array(0, dtype=np.int8)),
            # Wide enough for any row: the products' scale times the root of their number.
            _tensor("y_scale", np.array(scale * inner**0.5, dtype=np.float32)),
            _tensor("y_zero", np.array(128, dtype=np.uint8)),
        ]
        kind = "uint8"
    graph = b"".join(
        [
            *(_part(1, node) for node in nodes),
            _part(2, b"product"),
            *(_part(5, tensor) for tensor in stored),
            _part(11, _value("a", kind, given)),
            _part(12, _value("y", kind, made)),
        ]
    )
    return _number(1, 8) + _part(7, graph) + _part(8, _part(1, b"") + _number(2, 17))


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _node(operator: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    parts = [_part(1, name.encode()) for name in inputs] + [_part(2, name.encode()) for name in outputs]
    return b"".join(parts) + _part(3, outputs[0].encode()) + _part(4, operator.encode())


def _tensor(name: str, values: NDArray[np.float32] | NDArray[np.uint8] | NDArray[np.int8]) -> bytes:
    sides = b"".join(_number(1, side) for side in values.shape)
    # Little-endian, as the format says.
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return sides + _number(2, _TYPES[values.dtype.name]) + _part(8, name.encode()) + _part(9, raw)


def _value(name: str, kind: str, shape: Sequence[int]) -> bytes:
    sides = b"".join(_part(1, _number(1, side)) for side in shape)
    return _part(1, name.encode()) + _part(2, _part(1, _number(1, _TYPES[kind]) + _part(2, sides)))
