"""Reading an ONNX graph for the linter: functions inlined, types and shapes inferred, weights left where they are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from math import prod
from typing import TYPE_CHECKING

from ..runtime.errors import MissingExtraError, ModelError
from .lint_graph import LintGraph, domain_of, label, result

if TYPE_CHECKING:
    import onnx

__all__ = ["read_lint_graph"]

# Values of stored tensors up to this many elements go into shape inference (shapes, axes, pads); weights do not.
_INFERRED_ELEMENTS = 64
_MOST_NODES = 1_000_000


def read_lint_graph(graph: bytes | onnx.ModelProto) -> LintGraph:
    """Read a graph for the linter.

    Args:
        graph: an ONNX file's bytes, or the loaded model, which is left as it is.

    Raises:
        MissingExtraError: onnx is not installed.
        ModelError: not an ONNX graph: nothing in it, tensors that are read before they are made or made twice, or
            local functions that cannot be inlined.
    """
    try:
        from onnx import inliner
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no module {error.name!r}",
            expected="onnx, which reads an ONNX graph",
            mend='pip install "edgeiqa[export]"',
        ) from error

    model = _parsed(graph)
    light = _without_weights(model)
    if light.functions:
        _require_inlinable(light)
        try:
            light = inliner.inline_local_functions(light)
        except (ValueError, RuntimeError) as error:
            raise _refusal(f"local functions that cannot be inlined: {error}") from error
    _require_order(light.graph)
    light, defect = _inferred(light)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in light.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value":
                stored[result(node)] = attribute.t
    types, shapes = _types_and_shapes(light.graph)
    for name, tensor in stored.items():
        types[name], shapes[name] = tensor.data_type, tuple(tensor.dims)
    return LintGraph(
        model=model, nodes=tuple(light.graph.node), stored=stored, types=types, shapes=shapes, defect=defect
    )


def _refusal(got: str) -> ModelError:
    return ModelError(
        got,
        expected="an ONNX graph that computes",
        mend="give a graph that edgeiqa export or torch.onnx.export wrote",
    )


def _parsed(graph: bytes | onnx.ModelProto) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if isinstance(graph, onnx.ModelProto):
        model = graph
    else:
        try:
            model = onnx.ModelProto.FromString(graph)
        except DecodeError as error:
            raise _refusal(f"{len(graph)} bytes, which are not ONNX: {error}") from error
    # Almost any few bytes are a message without these.
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise _refusal("an ONNX model without nodes, outputs or opsets")
    # protobuf hands on what is not UTF-8 as bytes.
    if not all(isinstance(text, str) for text in _texts(model)):
        raise _refusal("an ONNX model with names that are not UTF-8")
    return model


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Every name that is read afterwards."""
    for entry in model.opset_import:
        yield entry.domain
    for function in model.functions:
        yield from (function.domain, function.name, *function.input, *function.output)
    inner = (node for function in model.functions for node in _with_inner(function.node))
    for node in (*_with_inner(model.graph.node), *inner):
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        yield value.name
        yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    yield from (tensor.name for tensor in model.graph.initializer)


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large stored tensors have a type and a shape and no values."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    graph = light.graph
    graph.name = model.graph.name
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) <= _INFERRED_ELEMENTS and not tensor.external_data:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    return light


def _require_inlinable(model: onnx.ModelProto) -> None:
    """Refuse functions that call themselves, or each other so often that no memory would hold the nodes."""
    called = {
        (function.domain, function.name): [(node.domain, node.op_type) for node in _with_inner(function.node)]
        for function in model.functions
    }
    sizes: dict[tuple[str, str], int] = {}
    while left := [name for name in called if name not in sizes]:
        ready = [name for name in left if all(inner in sizes or inner not in called for inner in called[name])]
        if not ready:
            raise _refusal(f"local functions that call themselves: {', '.join(sorted(name for _, name in left))}")
        for name in ready:
            sizes[name] = 1 + sum(sizes.get(inner, 1) for inner in called[name])
    nodes = sum(sizes.get((node.domain, node.op_type), 1) for node in _with_inner(model.graph.node))
    if nodes > _MOST_NODES:
        raise _refusal(f"local functions that unfold into {nodes} nodes")


def _with_inner(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those of their branches and loops."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _with_inner(inner.node)


def _require_order(graph: onnx.GraphProto) -> None:
    """Refuse what is read before it is made, and what is made twice: ONNX allows neither."""
    made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        unknown = [name for name in node.input if name not in made]
        if unknown:
            raise _refusal(f"{label(node)} reads {unknown[0]!r}, which nothing before it makes")
        for name in node.output:
            if name and name in made:
                raise _refusal(f"{label(node)} makes {name!r}, which is there already")
            made.add(name)
    missing = [value.name for value in graph.output if value.name not in made]
    if missing:
        raise _refusal(f"an output {missing[0]!r}, which nothing makes")


def _inferred(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """The model with all types and shapes that follow, and what ONNX says against it."""
    from onnx import defs, shape_inference

    failures = (ValueError, TypeError, RuntimeError, shape_inference.InferenceError)
    newest = max((entry.version for entry in model.opset_import if domain_of(entry.domain) == ""), default=0)
    # What the installed onnx does not know, it cannot judge; that opset has its own rule.
    judged = newest <= defs.onnx_opset_version()
    defect = ""
    try:
        shape_inference.infer_shapes(model, check_type=True, data_prop=True)
    except failures as error:
        defect = _one_line(error)
        # ONNX admits bfloat16 to convolutions from opset 22; TensorRT takes it in opset 20.
        if "bfloat16" in defect:
            defect = ""
    try:
        model = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except failures as error:
        defect = defect or _one_line(error)
        # As far as it goes without being strict, which is not far where a node has not the inputs that it needs.
        with contextlib.suppress(*failures):
            model = shape_inference.infer_shapes(model)
    return model, defect if judged else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _types_and_shapes(graph: onnx.GraphProto) -> tuple[dict[str, int], dict[str, tuple[int | str, ...]]]:
    types: dict[str, int] = {}
    shapes: dict[str, tuple[int | str, ...]] = {}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        tensor = value.type.tensor_type
        types[value.name] = tensor.elem_type
        if tensor.HasField("shape"):
            shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim
            )
    return types, shapes
