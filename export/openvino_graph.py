"""From an ONNX graph to OpenVINO's own form (xml and bin)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..runtime.errors import ExportError, MissingExtraError

__all__ = ["to_openvino"]


def to_openvino(onnx_graph: bytes, *, store_fp16: bool) -> tuple[bytes, bytes]:
    """Convert an ONNX graph.

    Args:
        onnx_graph: FP32, as `graph.to_onnx` made it.
        store_fp16: store the weights as FP16, decompressed to FP32 when the graph is loaded.

    Returns:
        The graph (xml) and its weights (bin).

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ExportError: OpenVINO refuses the graph.
    """
    try:
        import openvino
    except ModuleNotFoundError:
        raise MissingExtraError("no openvino", expected="openvino", mend='pip install "edgeiqa[export]"') from None
    try:
        graph = openvino.Core().read_model(onnx_graph)
        with tempfile.TemporaryDirectory() as folder:
            xml = Path(folder) / "graph.xml"
            openvino.save_model(graph, xml, compress_to_fp16=store_fp16)
            return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
    # OpenVINO's frontends raise a type each, all RuntimeErrors.
    except RuntimeError as error:
        raise ExportError(
            f"OpenVINO refused the graph: {error}", expected="a graph of operators it has", mend="use --target onnx"
        ) from error
