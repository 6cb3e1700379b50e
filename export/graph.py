"""From a torch module to one ONNX graph: uint8 views in, named outputs, normalisation inside, a symbolic batch."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..runtime.errors import ExportError, MissingExtraError

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = [
    "IR_VERSION",
    "OPSET",
    "graph_bytes",
    "is_stored_as_fp16",
    "require_fp16_range",
    "store_as_fp16",
    "to_onnx",
]

OPSET = 20
"""The first that keeps GELU and LayerNormalization whole and that TensorRT 10 reads."""

IR_VERSION = 10
"""What TensorRT 10.3 and onnxruntime 1.18 read."""

_MAX_PROTOBUF_BYTES = 2**31 - 1
_FP16_LARGEST = 65504.0
_FP16_LEAST_ELEMENTS = 256
"""Smaller tensors and all vectors (biases, scales) stay FP32: they cost nothing, their errors reach whole channels."""


def to_onnx(
    network: torch.nn.Module, inputs: Mapping[str, tuple[int, ...]], outputs: Sequence[str], *, seed: int = 0
) -> onnx.ModelProto:
    """Export a network.

    Args:
        network: its ``forward(*views)`` takes uint8 tensors ``[N, ...]`` in the order of ``inputs`` and returns a
            dictionary by output name. It is exported in eval mode and left as it was.
        inputs: view name -> shape without the batch; the names become the graph's inputs.
        outputs: names to keep, ``score`` first.
        seed: of the example pixels that the exporter traces with.

    Returns:
        A graph of opset `OPSET`, IR `IR_VERSION`, with batch ``N`` symbolic and FP32 weights inside; it has passed
        onnx's full check and holds no trace of the machine that made it.

    Raises:
        MissingExtraError: onnx, onnxscript or torch is not installed.
        ExportError: the exporter refuses the network, it does not keep the photographs of a batch apart or reads uint8
            without a cast, the graph fails onnx's check, or is over 2 GB.
    """
    try:
        import onnx  # noqa: F401 - and the check that follows
        import onnxscript  # noqa: F401 - torch's exporter needs it
        import torch
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no {error.name}", expected="torch, onnx and onnxscript", mend='pip install "edgeiqa[compress,export]"'
        ) from None

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = copy.deepcopy(network).eval()

        def forward(self, *views: torch.Tensor) -> tuple[torch.Tensor, ...]:
            results = self.network(*views)
            return tuple(results[name] for name in outputs)

    generator = torch.Generator().manual_seed(seed)
    # Two: torch specialises a batch of one.
    example = tuple(
        torch.randint(0, 256, (2, *shape), dtype=torch.uint8, generator=generator) for shape in inputs.values()
    )
    batch = torch.export.Dim("N", min=1, max=65535)
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        # The exporter's own notices, and whole programs that it prints where it fails; what it got wrong and did not
        # notice, the parity gate finds.
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Named(),
                example,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_shapes=(tuple({0: batch} for _ in example),),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        if program is None:
            raise ExportError("no graph from torch", expected="a graph", mend="check the installed torch")
        model: onnx.ModelProto = program.model_proto
    except ExportError:
        raise
    # torch's exporter has an error type for each of its passes; all mean that this network was not exported.
    except Exception as error:
        # What it raises itself is advice of many lines; the reason stands behind it.
        reason = error.__cause__ or error
        raise ExportError(
            f"torch could not export the network: {type(reason).__name__}: {str(reason).strip().partition(chr(10))[0]}",
            expected="a network that torch.export takes, with a symbolic batch",
            mend="export it alone by torch.onnx.export(..., dynamo=True, report=True) to see which operation",
        ) from error
    finally:
        quiet.setLevel(level)
    return _finished(model, inputs, outputs)


def _finished(model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]], outputs: Sequence[str]) -> onnx.ModelProto:
    """Pin versions, drop what names the machine, and check names, shapes and the graph."""
    import onnx

    found_inputs = [value.name for value in model.graph.input]
    found_outputs = [value.name for value in model.graph.output]
    if found_inputs != list(inputs) or found_outputs != list(outputs):
        raise ExportError(
            f"a graph with inputs {found_inputs} and outputs {found_outputs}",
            expected=f"inputs {list(inputs)} and outputs {list(outputs)}",
            mend="give the network's forward one argument a view, each used",
        )
    shapes = {
        value.name: [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in model.graph.output
    }
    if shapes[outputs[0]] != ["N"] or any(shape[:1] != ["N"] for shape in shapes.values()):
        raise ExportError(
            f"outputs of shapes {shapes}",
            expected=f"{outputs[0]} of shape ['N'], one number a photograph, and the others ['N', ...]",
            mend="let the network's forward keep the photographs of a batch apart",
        )
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset != OPSET:
        raise ExportError(f"a graph of opset {opset}", expected=f"opset {OPSET}", mend="check the installed onnxscript")
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edgeiqa", ""
    _drop_traces(model)
    _put_casts_first(model, inputs)
    if model.ByteSize() >= _MAX_PROTOBUF_BYTES:
        raise ExportError(
            f"a graph of {model.ByteSize()} bytes", expected="less than 2 GiB", mend="store the weights as FP16"
        )
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"a graph that onnx refuses: {error}", expected="a valid graph", mend="report it") from error
    return model


def _drop_traces(model: onnx.ModelProto) -> None:
    """Drop stack traces and module paths: they name files of this machine, and can outweigh a small network."""
    model.graph.name = "edgeiqa"
    entries: list[Any] = [model]
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        entries += [graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer]
        # The branches of an If, the body of a Loop.
        for attribute in [attribute for node in graph.node for attribute in node.attribute]:
            graphs += [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
    for entry in entries:
        entry.doc_string = ""
        del entry.metadata_props[:]


def _put_casts_first(model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]]) -> None:
    """Let nothing but a Cast read the uint8 inputs: TensorRT takes uint8 nowhere else.

    Where a network reads the batch from the pixels' shape, it reads it behind the Cast.
    """
    casts: dict[str, Any] = {}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in inputs:
            casts.setdefault(node.input[0], node)
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in casts:
            node.input[0] = casts[node.input[0]].output[0]
    readers = {
        name: sorted({node.op_type for node in model.graph.node if name in node.input} - {"Cast"}) for name in inputs
    }
    if any(readers.values()):
        raise ExportError(
            f"uint8 inputs read by {readers}",
            expected="each read by a Cast alone",
            mend="let the network's forward turn each view into float before anything else",
        )
    first = {cast.output[0] for cast in casts.values()}
    nodes = sorted(model.graph.node, key=lambda node: node.output[0] not in first)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def is_stored_as_fp16(shape: tuple[int, ...]) -> bool:
    """Whether `store_as_fp16` stores a weight of that shape as FP16."""
    # The exporter writes some vectors as [1, C, 1, 1], which the network holds as [C]: only sides above 1 tell.
    return sum(side > 1 for side in shape) >= 2 and math.prod(shape) >= _FP16_LEAST_ELEMENTS


def require_fp16_range(name: str, largest: float) -> None:
    """Raise `ExportError` where a weight's largest absolute element is beyond FP16, or is not a number."""
    if not largest <= _FP16_LARGEST:
        raise ExportError(
            f"weight {name} with an element of {largest}",
            expected=f"at most {_FP16_LARGEST}, FP16's largest",
            mend="store the weights as FP32 (--store fp32)",
        )


def store_as_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store the large FP32 weights as FP16, each behind a Cast to FP32: half the bytes, FP32 arithmetic.

    Engines fold the casts when they load the graph, so speed and memory are those of the FP32 graph.

    Args:
        model: left as it is.

    Raises:
        ExportError: a weight is beyond FP16's range.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    stored = onnx.ModelProto()
    stored.CopyFrom(model)
    casts = []
    for index, tensor in enumerate(stored.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or not is_stored_as_fp16(tuple(tensor.dims)):
            continue
        weight = numpy_helper.to_array(tensor)
        name = tensor.name
        require_fp16_range(name, float(np.abs(weight).max()))
        stored.graph.initializer[index].CopyFrom(numpy_helper.from_array(weight.astype(np.float16), f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], name=f"{name}.cast", to=TensorProto.FLOAT))
    nodes = casts + list(stored.graph.node)
    del stored.graph.node[:]
    stored.graph.node.extend(nodes)
    onnx.checker.check_model(stored, full_check=True)
    return stored


def graph_bytes(model: onnx.ModelProto) -> bytes:
    """The graph as a file's bytes; equal graphs give equal bytes."""
    return bytes(model.SerializeToString(deterministic=True))
