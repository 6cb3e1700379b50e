"""FP32 weights again in a graph whose weights are stored as FP16: what quantizers and precision passes need to see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..runtime.errors import ExportError, MissingExtraError
from .graph import graph_bytes

if TYPE_CHECKING:
    import onnx

__all__ = ["load_graph", "plain_float"]


def load_graph(model: bytes) -> onnx.ModelProto:
    """Read an ONNX graph.

    Raises:
        MissingExtraError: onnx is not installed.
        ExportError: the bytes are no ONNX graph.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise MissingExtraError("no onnx", expected="onnx", mend='pip install "edgeiqa[export]"') from None
    try:
        proto: Any = onnx.load_model_from_string(model)
    except DecodeError:
        proto = onnx.ModelProto()
    # Protocol Buffers read much that is no graph without complaint.
    if not proto.graph.node:
        raise ExportError(
            f"{len(model)} bytes that are no ONNX graph", expected="an ONNX file's bytes", mend="export it again"
        )
    return proto  # type: ignore[no-any-return]


def plain_float(model: bytes) -> bytes:
    """Undo `graph.store_as_fp16`: weights as FP32, without the Casts behind which they were stored.

    Every FP16 tensor that is read by nothing but Casts to FP32 becomes an FP32 tensor under the name that its Cast gave
    it; nothing else changes. The values stay those that FP16 holds.

    Args:
        model: an ONNX graph; one without such weights comes back as it is, in the bytes of `graph.graph_bytes`.

    Raises:
        MissingExtraError: onnx is not installed.
        ExportError: the bytes are no ONNX graph.
    """
    proto = load_graph(model)
    from onnx import TensorProto, numpy_helper

    readers: dict[str, list[Any]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in proto.graph.output}
    undone: set[str] = set()
    tensors = []
    for tensor in proto.graph.initializer:
        casts = readers.get(tensor.name, [])
        is_stored = tensor.data_type == TensorProto.FLOAT16 and tensor.name not in outputs
        if is_stored and casts and all(map(_widens, casts)):
            weight = numpy_helper.to_array(tensor).astype("float32")
            tensors += [numpy_helper.from_array(weight, cast.output[0]) for cast in casts]
            undone.update(cast.output[0] for cast in casts)
        else:
            tensors.append(tensor)
    nodes = [node for node in proto.graph.node if not (_widens(node) and node.output[0] in undone)]
    plain = type(proto)()
    plain.CopyFrom(proto)
    del plain.graph.initializer[:]
    plain.graph.initializer.extend(tensors)
    del plain.graph.node[:]
    plain.graph.node.extend(nodes)
    return graph_bytes(plain)


def _widens(node: Any) -> bool:
    """Whether it is a Cast to FP32."""
    from onnx import TensorProto

    return node.op_type == "Cast" and any(
        attribute.name == "to" and attribute.i == TensorProto.FLOAT for attribute in node.attribute
    )
