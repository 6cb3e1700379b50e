"""From a torch module to one ONNX graph: uint8 views in, named outputs, normalisation inside, a symbolic batch."""

from __future__ import annotations

import copy
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

__all__ = ["IR_VERSION", "OPSET", "graph_bytes", "is_stored_as_fp16", "store_as_fp16", "to_onnx"]

OPSET = 20
"""The first that keeps GELU and LayerNormalization whole and that TensorRT 10 reads."""

IR_VERSION = 10
"""What TensorRT 10.3 and onnxruntime 1.18 read."""

_MAX_PROTOBUF_BYTES = 2**31 - 1
_FP16_LARGEST = 65504.0
_FP16_LEAST_ELEMENTS = 256
"""Smaller tensors (biases, normalisation) stay FP32: they cost nothing and their errors reach whole channels."""


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
        ExportError: the exporter refuses the network, the graph fails onnx's check, or is over 2 GB.
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
        with warnings.catch_warnings():
            # The exporter's own notices; what it got wrong, the parity gate finds.
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
        raise ExportError(
            f"torch could not export the network: {type(error).__name__}: {str(error)[:2000]}",
            expected="a network that torch.export takes, with a symbolic batch",
            mend="export it alone by torch.onnx.export(..., dynamo=True, report=True) to see which operation",
        ) from error
    finally:
        quiet.setLevel(level)
    return _finished(model, inputs, outputs)


def _finished(model: onnx.ModelProto, inputs: Mapping[str, tuple[int, ...]], outputs: Sequence[str]) -> onnx.ModelProto:
    """Pin versions, drop what names the machine, put the outputs' shapes and names right, and check."""
    import onnx

    found_inputs = [value.name for value in model.graph.input]
    found_outputs = [value.name for value in model.graph.output]
    if found_inputs != list(inputs) or found_outputs != list(outputs):
        raise ExportError(
            f"a graph with inputs {found_inputs} and outputs {found_outputs}",
            expected=f"inputs {list(inputs)} and outputs {list(outputs)}",
            mend="give the network's forward one argument a view, each used",
        )
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset != OPSET:
        raise ExportError(f"a graph of opset {opset}", expected=f"opset {OPSET}", mend="check the installed onnxscript")
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edgeiqa", ""
    _drop_traces(model)
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
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    model.graph.name = "edgeiqa"
    del model.graph.metadata_props[:]
    groups: list[Any] = [model.graph.node, model.graph.value_info, model.graph.input, model.graph.output]
    for entry in [entry for group in groups for entry in group] + list(model.graph.initializer):
        entry.doc_string = ""
        del entry.metadata_props[:]


def is_stored_as_fp16(shape: tuple[int, ...]) -> bool:
    """Whether `store_as_fp16` stores a weight of that shape as FP16."""
    return len(shape) >= 2 and math.prod(shape) >= _FP16_LEAST_ELEMENTS


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
        largest = float(np.abs(weight).max())
        if not largest <= _FP16_LARGEST:
            raise ExportError(
                f"weight {tensor.name} with an element of {largest}",
                expected=f"at most {_FP16_LARGEST}, FP16's largest",
                mend="store the weights as FP32 (--store fp32)",
            )
        name = tensor.name
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
