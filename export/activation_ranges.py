"""How large the numbers inside a graph become on photographs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..runtime.engines.ort import session_options
from ..runtime.errors import ExportError, UsageError

if TYPE_CHECKING:
    import onnx

__all__ = ["LargestValues", "Views", "largest_values"]

Views = Mapping[str, NDArray[np.uint8]]
"""One photograph's views by the names of the graph's inputs: ``[H, W, 3]`` or ``[T, H, W, 3]``, without a batch."""

# operator: (what is summed, whether its axes are those of the operator or all but the first two)
_SUMS = {
    "ReduceMean": ("ReduceL1", True),
    "ReduceSum": ("ReduceL1", True),
    "ReduceL2": ("ReduceSumSquare", True),
    "ReduceSumSquare": ("ReduceSumSquare", True),
    "GlobalAveragePool": ("ReduceL1", False),
    "InstanceNormalization": ("ReduceSumSquare", False),
}


@dataclass(frozen=True, slots=True)
class LargestValues:
    """The largest numbers of a graph over images.

    Attributes:
        tensors: name of each FP32 tensor that depends on the pixels -> its largest absolute value.
        sums: name of each node that sums over an axis -> the largest sum that it holds on the way: of absolute values
            where it averages, of squares where it normalises.
    """

    tensors: dict[str, float]
    sums: dict[str, float]


def largest_values(model: onnx.ModelProto, images: Collection[Views], *, threads: int) -> LargestValues:
    """Run a graph over images and keep the largest numbers inside it; memory does not grow with the images.

    Args:
        model: FP32, left as it is.
        images: at least one.
        threads: of onnxruntime.

    Raises:
        UsageError: no images.
        ExportError: onnxruntime refuses the graph or an image.
    """
    import onnxruntime

    if not len(images):
        raise UsageError("no calibration images", expected="some", mend="name a folder of photographs")
    probe, tensors, sums = _probe(model)
    most = dict.fromkeys([*tensors, *sums], 0.0)
    try:
        options = session_options(threads, is_int8=False)
        # In the order of the nodes: a tensor is let go when its probes, which stand behind it, have run.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        session = onnxruntime.InferenceSession(probe, options, providers=["CPUExecutionProvider"])
        del probe
        for views in images:
            for name, value in zip(most, session.run(list(most), {n: v[None] for n, v in views.items()}), strict=True):
                # A number that is none stays: nothing is larger.
                most[name] = float(np.maximum(most[name], np.abs(value)))
    # onnxruntime has an error type for each of its refusals.
    except Exception as error:
        raise ExportError(
            f"onnxruntime refused the graph or an image: {error}", expected="a graph it runs", mend="export it again"
        ) from error
    ranges: dict[str, float] = {}
    for probed, tensor in tensors.items():
        ranges[tensor] = float(np.maximum(ranges.get(tensor, 0.0), most[probed]))
    return LargestValues(ranges, {node: most[probed] for probed, node in sums.items()})


def _probe(model: onnx.ModelProto) -> tuple[bytes, dict[str, str], dict[str, str]]:
    """The graph with numbers for outputs, as a file; output -> tensor, output -> node."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = [*inferred.graph.value_info, *inferred.graph.output]
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    graph = probe.graph
    del graph.node[:]
    tensors: dict[str, str] = {}
    sums: dict[str, str] = {}

    def ask(operator: str, inputs: list[str], about: dict[str, str], what: str) -> None:
        name = f"probe.{len(tensors) + len(sums)}"
        graph.node.append(helper.make_node(operator, inputs, [name], name=name, keepdims=0))
        about[name] = what

    moving = _depends(model, {value.name for value in model.graph.input})
    for node in model.graph.node:
        graph.node.append(node)
        for output in node.output:
            if output in ranks and output in moving:
                ask("ReduceMax", [output], tensors, output)
                ask("ReduceMin", [output], tensors, output)
        if node.op_type == "LayerNormalization" or node.op_type in _SUMS:
            summed = node.input[0]
            if summed not in ranks or summed not in moving:
                continue
            operator, own = _SUMS.get(node.op_type, ("ReduceSumSquare", False))
            if node.op_type == "LayerNormalization":
                axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
                axes = list(range(axis % ranks[summed], ranks[summed]))
            else:
                axes = list(range(2, ranks[summed]))
            inputs = [summed]
            if own and len(node.input) > 1:
                inputs.append(node.input[1])
            elif not own:
                tensor = numpy_helper.from_array(np.array(axes, dtype=np.int64), f"{node.output[0]}.probe_axes")
                graph.initializer.append(tensor)
                inputs.append(tensor.name)
            inside = f"{node.output[0]}.probe_sum"
            graph.node.append(helper.make_node(operator, inputs, [inside], name=inside, keepdims=0))
            ask("ReduceMax", [inside], sums, node.name)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in [*tensors, *sums])
    return probe.SerializeToString(), tensors, sums


def _depends(model: onnx.ModelProto, on: set[str]) -> set[str]:
    """Names of all tensors that are computed from those given, themselves included."""
    reached = set(on)
    for node in model.graph.node:
        if not reached.isdisjoint(node.input):
            reached.update(node.output)
    return reached
