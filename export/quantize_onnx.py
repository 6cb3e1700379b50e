"""INT8 for ONNX graphs: quantizers set by nncf or by onnxruntime, in the form that each target's engine computes in."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ExportError, MissingExtraError, UsageError
from .activation_ranges import Views
from .float_graph import load_graph, plain_float
from .graph import IR_VERSION, OPSET, graph_bytes
from .nncf_settings import MOST_IMAGES, Batched, nncf_settings, quiet_nncf
from .quant_scope import float_nodes
from .quant_types import retype_activations, share_residuals

if TYPE_CHECKING:
    import onnx

    from .quant_recipe import QuantRecipe

__all__ = ["quantize"]


def quantize(model: bytes, images: Collection[Views], recipe: QuantRecipe, *, threads: int) -> bytes:
    """Quantize a graph to INT8.

    The inputs stay uint8 views, the outputs keep their names and are FP32. Equal arguments give equal bytes.

    Args:
        model: an ONNX graph as `graph.to_onnx` makes it, its weights as FP32 or stored as FP16.
        images: calibration images; they are gone through several times, one in memory at a time. nncf takes at most
            `nncf_settings.MOST_IMAGES` of them, spread evenly.
        recipe: of a scheme for ONNX graphs.
        threads: of the engine that runs the calibration images.

    Returns:
        A graph of the same opset and IR, with QuantizeLinear and DequantizeLinear around what is INT8.

    Raises:
        MissingExtraError: onnx, nncf or onnxruntime's quantizer is not installed.
        UsageError: no images, a recipe for OpenVINO, or one that names what the graph does not have.
        ExportError: the quantizer refuses the graph, or its result breaks the scheme's rules.
    """
    if recipe.scheme == "openvino":
        raise UsageError(
            f"recipe {recipe.name!r} for OpenVINO with an ONNX graph",
            expected="u8s8, s8s8 or tensorrt",
            mend="name one",
        )
    if not len(images):
        raise UsageError("no calibration images", expected="some hundreds", mend="name a folder of photographs")
    proto = load_graph(plain_float(model))
    kept = float_nodes(proto, recipe)
    try:
        with _session_threads(threads):
            by = _by_nncf if recipe.quantizer == "nncf" else _by_onnxruntime
            quantized = by(proto, images, recipe, kept)
    except (MissingExtraError, UsageError):
        raise
    # Either library has error types of its own for each of its passes.
    except Exception as error:
        raise ExportError(
            f"{recipe.quantizer} could not quantize the graph: {type(error).__name__}: {error}",
            expected="a graph that it takes",
            mend="use another recipe, or keep the operators it names float",
        ) from error
    retype_activations(quantized, recipe.scheme)
    if recipe.scheme == "tensorrt":
        share_residuals(quantized)
    return _finished(proto, quantized, recipe)


def _by_nncf(
    proto: onnx.ModelProto, images: Collection[Views], recipe: QuantRecipe, kept: tuple[str, ...]
) -> onnx.ModelProto:
    with quiet_nncf() as nncf:
        taken = Batched(images, MOST_IMAGES)
        settings = nncf_settings(recipe, len(taken), kept)
        quantized: onnx.ModelProto = nncf.quantize(proto, nncf.Dataset(taken), **settings)
    return quantized


class _Reader:
    """What onnxruntime's calibration asks for images; a plain iterator would not know its length."""

    def __init__(self, images: Collection[Views]) -> None:
        self._rest = iter(Batched(images))

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self._rest, None)


def _by_onnxruntime(
    proto: onnx.ModelProto, images: Collection[Views], recipe: QuantRecipe, kept: tuple[str, ...]
) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    unsigned = recipe.scheme == "u8s8"
    tensorrt = recipe.scheme == "tensorrt"
    with tempfile.TemporaryDirectory() as folder, _quiet_root_logger():
        path = Path(folder) / "quantized.onnx"
        quantize_static(
            proto,
            path,
            _Reader(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=list(kept),
            per_channel=True,
            reduce_range=recipe.weight_bits == 7,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
            # Of the others, each keeps every activation of every image.
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": recipe.activations == "symmetric",
                "WeightSymmetric": True,
                "CalibMovingAverage": recipe.range_estimator == "mean_minmax",
                "QuantizeBias": not tensorrt,
                "MatMulConstBOnly": tensorrt,
                # Else an output is quantized over its whole range before ReLU6 cuts that to a part of it.
                "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul", "Gemm"],
                # Axis 1 of the second factor is its output.
                "QDQOpTypePerChannelSupportToAxis": {"MatMul": 1},
            },
        )
        return onnx.load(path)


@contextlib.contextmanager
def _quiet_root_logger() -> Iterator[None]:
    """Onnxruntime's quantizer logs advice on other tools of its own."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _session_threads(threads: int) -> Iterator[None]:
    """Limit the threads of sessions that libraries open, which have no argument for it."""
    import onnxruntime

    plain = onnxruntime.SessionOptions

    class Limited(plain):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = threads
            self.log_severity_level = 3

    with mock.patch.object(onnxruntime, "SessionOptions", Limited):
        yield


def _finished(proto: onnx.ModelProto, quantized: Any, recipe: QuantRecipe) -> bytes:
    """Pin versions, put the nodes in order, and check what the engines rely on."""
    import onnx

    _sort(quantized.graph)
    quantized.ir_version = IR_VERSION
    quantized.producer_name, quantized.producer_version = "edgeiqa", ""
    quantized.graph.name = proto.graph.name
    quantized.doc_string = ""
    del quantized.metadata_props[:]
    # Types and shapes that either library inferred on the way, some with names of batches of their own.
    del quantized.graph.value_info[:]
    _keep_interface(proto, quantized)
    found = {entry.domain: entry.version for entry in quantized.opset_import}
    wrong = [node.name for node in quantized.graph.node if node.domain not in ("", "ai.onnx")]
    if found.get("", 0) != OPSET or wrong:
        raise ExportError(
            f"a graph of opsets {found} from {recipe.quantizer}", expected=f"opset {OPSET} alone", mend="report it"
        )
    del quantized.opset_import[:]
    quantized.opset_import.extend([onnx.helper.make_opsetid("", OPSET)])
    try:
        onnx.checker.check_model(quantized, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"a graph from {recipe.quantizer} that onnx refuses: {error}", expected="a valid graph", mend="report it"
        ) from error
    return graph_bytes(quantized)


def _keep_interface(proto: onnx.ModelProto, quantized: Any) -> None:
    before = [value.name for value in (*proto.graph.input, *proto.graph.output)]
    after = [value.name for value in (*quantized.graph.input, *quantized.graph.output)]
    if before != after:
        raise ExportError(f"a graph with inputs and outputs {after}", expected=f"{before}", mend="report it")
    for field in ("input", "output"):
        del getattr(quantized.graph, field)[:]
        getattr(quantized.graph, field).extend(getattr(proto.graph, field))


def _sort(graph: Any) -> None:
    """Every node behind those that it reads, in the order in which they stand otherwise."""
    known = {tensor.name for tensor in graph.initializer} | {value.name for value in graph.input} | {""}
    waiting = list(graph.node)
    ordered: list[Any] = []
    while waiting:
        left = []
        for node in waiting:
            if all(name in known for name in node.input):
                known.update(node.output)
                ordered.append(node)
            else:
                left.append(node)
        if len(left) == len(waiting):
            raise ExportError("a quantized graph with a cycle", expected="none", mend="report it")
        waiting = left
    del graph.node[:]
    graph.node.extend(ordered)
