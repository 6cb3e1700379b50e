"""A look into an ONNX file without the onnx library: whether it is whole, in one file.

ONNX lets a tensor keep its values in another file, named by the graph. A bundle's graph must not: engines would look
for that file wherever the process happens to stand.

Source: the wire format of Protocol Buffers (encoding reference) and the field numbers of ``onnx.proto3``.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import EngineError

__all__ = ["require_one_file"]

# message: {field number: message in it}; only those on a way to a tensor.
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_EXTERNAL_DATA = 13
_DATA_LOCATION = 14


def require_one_file(data: bytes) -> None:
    """Check that an ONNX model's bytes are well formed and that no tensor is kept in another file.

    Raises:
        EngineError: they are not, or one is.
    """
    # A FlatBuffers file (onnxruntime's own format) may be made to look like both.
    if data[4:8] == b"ORTM":
        raise _refused("a graph in another format than ONNX")
    todo = [("model", 0, len(data))]
    while todo:
        message, start, end = todo.pop()
        for number, value, inner in _fields(data, start, end):
            if message == "tensor":
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value != 0):
                    raise _refused("an ONNX graph that keeps weights in another file")
            elif number in _WAYS[message] and inner is not None:
                todo.append((_WAYS[message][number], *inner))


def _refused(got: str) -> EngineError:
    return EngineError(got, expected="an ONNX model, whole in one file", mend="export the bundle again")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, tuple[int, int] | None]]:
    """Each field between two places: its number, its value (a varint) or 0, and where its content lies."""
    while at < end:
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        value, inner = 0, None
        if kind == 0:
            value, at = _varint(data, at, end)
        elif kind == 2:
            size, at = _varint(data, at, end)
            inner = (at, at + size)
            at += size
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise _refused("an ONNX graph that is malformed")
        if at > end or not 1 <= number < 1 << 29:
            raise _refused("an ONNX graph that is malformed or cut off")
        yield number, value, inner


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _refused("an ONNX graph that is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _refused("an ONNX graph that is malformed")
