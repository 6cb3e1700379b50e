"""FP16 and BF16 typed in the graph, as engines of strongly typed networks (TensorRT 10 and later) want it."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..runtime.errors import ExportError, UsageError
from .activation_ranges import Views, largest_values
from .float_graph import load_graph, plain_float
from .graph import IR_VERSION, graph_bytes
from .half_types import choose_half, write_types

if TYPE_CHECKING:
    import onnx

__all__ = ["BF16_OPSET", "HalfGraph", "to_bf16", "to_fp16"]

BF16_OPSET = 22
"""The first whose convolutions, poolings and hard-swish may be BF16."""

_FP16_LARGEST = 65504.0
_FP16_LEAST_NORMAL = 2.0**-14


@dataclass(frozen=True, slots=True)
class HalfGraph:
    """A graph whose tensors are FP16 or BF16, but where they would not do.

    Attributes:
        data: the ONNX file.
        half: names of the nodes that compute in FP16 or BF16, in the order in which they run.
        kept: name of each node that stays FP32 only for the size of its numbers -> why.
    """

    data: bytes
    half: tuple[str, ...]
    kept: dict[str, str]


def to_fp16(model: bytes, images: Collection[Views], *, threads: int, safety: float = 4.0) -> HalfGraph:
    """Type a graph in FP16, FP32 where FP16's range could be passed.

    Weights and activations are FP16. In FP32 stay: the pixels' normalisation, the vectors behind the poolings with the
    head, and all outputs, which cost nothing and carry the score's last bits; what reads or writes numbers that come
    within ``safety`` of FP16's largest on the calibration images; sums of so many elements that they could; a
    LayerNormalization, whole, whose sum of squares does; what reads a constant too small for FP16.

    Args:
        model: FP32 arithmetic, as `graph.to_onnx` makes it; weights as FP32 or stored as FP16.
        images: calibration images; one in memory at a time.
        threads: of the engine that runs them.
        safety: by what factor other photographs' numbers may be larger, from 1.

    Returns:
        The graph, of opset `graph.OPSET`. onnxruntime's CPU engine computes it in FP32 between Casts.

    Raises:
        MissingExtraError: onnx is not installed.
        UsageError: no images, or a ``safety`` under 1.
        ExportError: the graph cannot be run or typed.
    """
    if not safety >= 1:
        raise UsageError(f"a safety of {safety}", expected="at least 1", mend="leave it at 4")
    proto = load_graph(plain_float(model))
    from onnx import TensorProto

    kept = _beyond(proto, images, threads=threads, limit=_FP16_LARGEST / safety)
    return _typed(proto, TensorProto.FLOAT16, kept)


def to_bf16(model: bytes) -> HalfGraph:
    """Type a graph in BF16, whose range is FP32's: nothing can pass it, and no image is needed.

    The pixels' normalisation, the vectors behind the poolings, the head and all outputs stay FP32: with 8 bits, many
    photographs would get one score.

    No command makes such a graph: only TensorRT runs it, so that no gate could judge it where bundles are made
    (`kinds.LACKING`). It is for those who build engines of it by `to_tensorrt` and judge them on their GPU.

    Args:
        model: as `to_fp16`.

    Returns:
        The graph, of opset `BF16_OPSET`, which TensorRT 10.3 does not read. onnxruntime's CPU engine has no
        convolutions in BF16 and refuses it; OpenVINO computes the FP32 graph in BF16 when it is told to.

    Raises:
        MissingExtraError: onnx is not installed.
        ExportError: the graph cannot be brought to that opset.
    """
    proto = load_graph(plain_float(model))
    import onnx
    from onnx import TensorProto, version_converter

    try:
        proto = version_converter.convert_version(proto, BF16_OPSET)
    except (RuntimeError, onnx.checker.ValidationError) as error:
        raise ExportError(
            f"a graph that onnx cannot bring to opset {BF16_OPSET}: {error}", expected="one it can", mend="use fp16"
        ) from error
    return _typed(proto, TensorProto.BFLOAT16, {})


def _beyond(proto: onnx.ModelProto, images: Collection[Views], *, threads: int, limit: float) -> dict[str, str]:
    """Nodes that must not compute in FP16, and why."""
    from onnx import TensorProto

    largest = largest_values(proto, images, threads=threads)
    constants = {
        tensor.name: _absolute(tensor)
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT and math.prod(tensor.dims)
    }
    kept: dict[str, str] = {}
    for node in proto.graph.node:
        wide = [name for name in (*node.input, *node.output) if not largest.tensors.get(name, 0.0) <= limit]
        inside = largest.sums.get(node.name, 0.0)
        held = {name: constants[name] for name in node.input if name in constants}
        # Of one number its own size tells; in a matrix the small ones stand beside large ones.
        odd = [name for name, (size, most) in held.items() if most > _FP16_LARGEST or (size == 1 and _is_tiny(most))]
        if wide:
            kept[node.name] = f"{wide[0]} reaches {largest.tensors[wide[0]]:.3g}"
        elif not inside <= limit:
            kept[node.name] = f"its sums reach {inside:.3g}"
        elif odd:
            kept[node.name] = f"its constant {odd[0]} holds {held[odd[0]][1]:.3g}"
    return kept


def _absolute(tensor: onnx.TensorProto) -> tuple[int, float]:
    """How many elements a constant has, and the largest absolute value."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor)
    return values.size, float(abs(values).max())


def _is_tiny(value: float) -> bool:
    return 0 < value < _FP16_LEAST_NORMAL


def _typed(proto: onnx.ModelProto, half: int, kept: dict[str, str]) -> HalfGraph:
    import onnx

    names = [node.name for node in proto.graph.node]
    if len(set(names)) < len(names) or any(a.HasField("g") for node in proto.graph.node for a in node.attribute):
        raise ExportError(
            "a graph with branches or loops, or with nodes of equal names",
            expected="a plain graph of this package's export",
            mend="export it again",
        )
    without = choose_half(proto, half)
    chosen = without - kept.keys()
    write_types(proto, half, chosen)
    proto.ir_version = IR_VERSION
    proto.producer_name, proto.producer_version = "edgeiqa", ""
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"a graph that onnx refuses: {error}", expected="a valid graph", mend="report it") from error
    return HalfGraph(
        graph_bytes(proto),
        tuple(name for name in names if name in chosen),
        {name: why for name, why in kept.items() if name in without},
    )
