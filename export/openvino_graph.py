"""From an ONNX graph to OpenVINO's own form (xml and bin)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ExportError, MissingExtraError

if TYPE_CHECKING:
    import openvino

__all__ = ["to_openvino"]


def to_openvino(onnx_graph: bytes, *, store_fp16: bool, for_bf16: bool = False) -> tuple[bytes, bytes]:
    """Convert an ONNX graph.

    Args:
        onnx_graph: FP32, as `graph.to_onnx` made it.
        store_fp16: store the weights as FP16, decompressed to FP32 when the graph is loaded.
        for_bf16: OpenVINO will compute in bf16. It then gives the results of convolutions and matrix products 8 bits,
            and leaves in FP32 what follows the last of them: so the score, which a product with one column would round
            to steps of .4 points in 100, is a sum of products instead.

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
        if for_bf16:
            _sum_products(graph)
        with tempfile.TemporaryDirectory() as folder:
            xml = Path(folder) / "graph.xml"
            openvino.save_model(graph, xml, compress_to_fp16=store_fp16)
            return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()
    # OpenVINO's frontends raise a type each, all RuntimeErrors.
    except RuntimeError as error:
        raise ExportError(
            f"OpenVINO refused the graph: {error}", expected="a graph of operators it has", mend="use --target onnx"
        ) from error


def _sum_products(graph: openvino.Model) -> None:
    """Write matrix products ``[N, C]`` by ``[C, 1]`` as sums over C."""
    from openvino import opset13

    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        shape, attributes = node.get_output_partial_shape(0), node.get_attributes()
        left, right = node.input_value(0), node.input_value(1)
        is_column = len(shape) == 2 and shape[1] == 1 and len(right.get_partial_shape()) == 2
        if not is_column or attributes["transpose_a"]:
            continue
        row = right if attributes["transpose_b"] else opset13.transpose(right, opset13.constant([1, 0]))
        total = opset13.reduce_sum(opset13.multiply(left, row), opset13.constant([1]), keep_dims=True)
        node.output(0).replace(total.output(0))
    graph.validate_nodes_and_infer_types()
