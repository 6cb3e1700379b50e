"""Reading an ONNX graph for analysis: every shape static, no weights held, constants told from activations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.errors import MissingExtraError, ModelError, UsageError

if TYPE_CHECKING:
    import onnx

__all__ = ["Node", "StaticGraph", "read_static_graph"]

# Values of constants up to this many elements are kept: shape inference reads them (shapes, axes, pads, ratios).
_KEPT_ELEMENTS = 64


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator of the graph.

    Attributes:
        operator: ``Conv``, ``Gemm``, ...; with its domain in front (``com.microsoft::Gelu``) when it is not ONNX's own.
        name: of the node, for messages.
        inputs: names of tensors, empty for one that is left out.
        outputs: likewise.
        attributes: by name, as Python values.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StaticGraph:
    """A graph at one batch size.

    Attributes:
        nodes: in the order in which they run, local functions inlined.
        inputs: shapes of the inputs by name, batch first.
        shapes: shape of every tensor whose shape is known.
        bits: of one element of every tensor whose type is known.
        stored: elements of each stored tensor (initializers and constant nodes).
        weight_like: stored tensors of a type that weights have: floating point, or integers of at most 8 bits.
        constants: names of all tensors that do not depend on the pixels: stored ones, what is computed from them
            alone, and shapes.
    """

    nodes: tuple[Node, ...]
    inputs: Mapping[str, tuple[int, ...]]
    shapes: Mapping[str, tuple[int, ...]]
    bits: Mapping[str, int]
    stored: Mapping[str, int]
    weight_like: frozenset[str]
    constants: frozenset[str]

    def bytes_of(self, name: str) -> int:
        """Of a tensor, 0 where its shape or its type is not known; elements of 4 bits are packed."""
        return (prod(self.shapes.get(name, (0,))) * self.bits.get(name, 0) + 7) // 8


def read_static_graph(graph: Path | str | bytes | onnx.ModelProto, batch: int) -> StaticGraph:
    """Read a graph, set its batch, and infer all shapes.

    Args:
        graph: path of an ONNX file, its bytes, or the loaded model, which is left as it is.
        batch: that a symbolic first dimension of the inputs is set to, from 1.

    Raises:
        MissingExtraError: onnx is not installed.
        UsageError: no such file, a batch under 1, or a graph that has a fixed batch and not this one.
        ModelError: not an ONNX graph, one whose shapes cannot be inferred, with a dynamic size besides the batch, or
            with control flow.
    """
    try:
        import onnx
        from onnx import inliner, shape_inference
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"no module {error.name!r}",
            expected="onnx, which reads an ONNX graph",
            mend='pip install "edgeiqa[export]"',
        ) from error

    if batch < 1:
        raise UsageError(f"a batch of {batch}", expected="at least 1", mend="leave the batch at 1")
    light = _without_weights(_loaded(graph))
    try:
        if light.functions:
            light = inliner.inline_local_functions(light)
        inputs = _fix_batch(light.graph, batch)
        light = shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
        # Inference gives up on some arithmetic of shapes, and then on all that comes after.
        while _unknown(light.graph) and _fold_shape_arithmetic(light.graph):
            light = shape_inference.infer_shapes(light, strict_mode=True, data_prop=True)
    except (ValueError, TypeError, RuntimeError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"an ONNX graph whose shapes cannot be inferred: {error}",
            expected="a graph that onnx.shape_inference takes",
            mend="export it again",
        ) from error
    return _static(light.graph, inputs)


def _loaded(graph: Path | str | bytes | onnx.ModelProto) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if isinstance(graph, onnx.ModelProto):
        model = graph
    else:
        where = f"{len(graph)} bytes" if isinstance(graph, bytes) else str(graph)
        try:
            data = graph if isinstance(graph, bytes) else Path(graph).read_bytes()
            model = onnx.ModelProto.FromString(data)
        except OSError as error:
            raise UsageError(
                f"{where}: {error.strerror}", expected="an ONNX file", mend="give the path of one"
            ) from error
        except DecodeError as error:
            raise ModelError(
                f"{where}, which is not ONNX: {error}", expected="an ONNX graph", mend="export it again"
            ) from error
        if not isinstance(graph, bytes):
            _load_small_external(model.graph, Path(graph).parent)
    if not model.graph.node or not model.graph.input:
        raise ModelError(
            "an ONNX model without nodes or inputs", expected="a graph that computes", mend="export it again"
        )
    return model


def _load_small_external(graph: onnx.GraphProto, folder: Path) -> None:
    from onnx import external_data_helper

    for tensor in graph.initializer:
        if external_data_helper.uses_external_data(tensor) and _is_kept(tensor):
            try:
                external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            except Exception as error:
                raise ModelError(
                    f"the stored tensor {tensor.name!r}, which cannot be read: {error}",
                    expected="the graph's external data beside it",
                    mend="keep the .onnx file and its data file in one folder",
                ) from error


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large stored tensors have a type and a shape and no values."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    light.graph.input.extend(model.graph.input)
    light.graph.output.extend(model.graph.output)
    light.graph.value_info.extend(model.graph.value_info)
    for tensor in model.graph.initializer:
        if _is_kept(tensor):
            light.graph.initializer.append(tensor)
        else:
            light.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    return light


def _fix_batch(graph: onnx.GraphProto, batch: int) -> dict[str, tuple[int, ...]]:
    """Set the symbolic batch of the inputs, here and wherever its symbol stands; forget other symbols."""
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in stored]
    symbols = set()
    sizes = {}
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if dims and not dims[0].HasField("dim_value"):
            symbols.add(dims[0].dim_param)
            dims[0].dim_value = batch
        elif dims and dims[0].dim_value != batch:
            raise UsageError(
                f"input {value.name!r} with a fixed batch of {dims[0].dim_value}",
                expected=f"a symbolic batch, or one of {batch}",
                mend=f"count at batch={dims[0].dim_value}, or export with a symbolic batch",
            )
    for value in [*graph.input, *graph.output, *graph.value_info]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                symbol = dim.dim_param
                dim.Clear()
                if symbol in symbols and symbol:
                    dim.dim_value = batch
    for value in inputs:
        shape = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        if not value.type.tensor_type.HasField("shape") or 0 in shape:
            raise ModelError(
                f"input {value.name!r} with a dynamic size besides its batch: {shape} (0 is dynamic)",
                expected="a graph whose views have fixed sizes",
                mend="export it with only the batch symbolic",
            )
        sizes[value.name] = shape
    return sizes


def _known_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _unknown(graph: onnx.GraphProto) -> bool:
    shapes = _known_shapes(graph)
    return any(name not in shapes for node in graph.node for name in node.output if name)


# None of these makes more elements than it is given, or than a node's attributes hold.
_SHAPE_ARITHMETIC = frozenset(
    {
        *("Add", "Sub", "Mul", "Div", "Mod", "Neg", "Abs", "Min", "Max", "ReduceProd", "Equal", "Where"),
        *("Constant", "Cast", "Identity", "Concat", "Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape"),
    }
)


def _fold_shape_arithmetic(graph: onnx.GraphProto) -> bool:
    """Replace nodes that compute with whole numbers from known shapes by their values; False when there are none."""
    import numpy as np
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    shapes = _known_shapes(graph)
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer if _is_kept(tensor)}
    left: list[onnx.NodeProto] = []
    folded: list[onnx.TensorProto] = []
    for node in graph.node:
        found: np.ndarray[Any, np.dtype[Any]] | None = None
        if node.op_type == "Shape" and node.input[0] in shapes:
            ends = {attribute.name: attribute.i for attribute in node.attribute}
            found = np.array(shapes[node.input[0]][ends.get("start") : ends.get("end")], dtype=np.int64)
        elif node.op_type == "Size" and node.input[0] in shapes:
            found = np.array(prod(shapes[node.input[0]]), dtype=np.int64)
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            if _is_kept(node.attribute[0].t):
                values[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif f"{node.domain}{node.op_type}" in _SHAPE_ARITHMETIC and all(name in values for name in node.input if name):
            feeds = {name: values[name] for name in node.input if name}
            found = np.asarray(next(iter(ReferenceEvaluator(node).run(None, feeds))))
        # Weights stay as they are stored.
        if found is not None and found.dtype.kind in "biu":
            values[node.output[0]] = found
            folded.append(numpy_helper.from_array(found, node.output[0]))
        else:
            left.append(node)
    del graph.node[:]
    graph.node.extend(left)
    graph.initializer.extend(folded)
    return len(folded) > 0


def _is_kept(tensor: onnx.TensorProto) -> bool:
    return int(prod(tensor.dims)) <= _KEPT_ELEMENTS


def _static(graph: onnx.GraphProto, inputs: dict[str, tuple[int, ...]]) -> StaticGraph:
    from onnx import TensorProto, helper

    weight_types = {
        getattr(TensorProto, name)
        for name in TensorProto.DataType.keys()  # noqa: SIM118  (an enum wrapper is not iterable)
        if "FLOAT" in name or name in ("DOUBLE", "INT8", "UINT8", "INT4", "UINT4", "INT2", "UINT2")
    }
    stored: dict[str, int] = {}
    weight_like: set[str] = set()
    shapes = _known_shapes(graph)
    bits = {value.name: _bits(value.type.tensor_type.elem_type) for value in [*graph.input, *graph.value_info]}
    bits |= {value.name: _bits(value.type.tensor_type.elem_type) for value in graph.output}

    def store(name: str, tensor: onnx.TensorProto) -> None:
        stored[name] = prod(tensor.dims)
        bits[name] = _bits(tensor.data_type)
        shapes[name] = tuple(tensor.dims)
        if tensor.data_type in weight_types:
            weight_like.add(name)

    for tensor in graph.initializer:
        store(tensor.name, tensor)
    nodes: list[Node] = []
    constants = set(stored)
    for proto in graph.node:
        attributes = {attribute.name: attribute for attribute in proto.attribute}
        operator = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}::{proto.op_type}"
        if any(attribute.type in (attribute.GRAPH, attribute.GRAPHS) for attribute in attributes.values()):
            raise ModelError(
                f"an ONNX graph with control flow ({operator} {proto.name!r})",
                expected="a graph whose work does not depend on its data",
                mend="export the model without branches and loops",
            )
        if operator == "Constant" and "value" in attributes:
            store(proto.output[0], attributes["value"].t)
        # A shape is known before the pixels are: engines fold what is computed from it.
        if operator in ("Constant", "Shape", "Size") or _all_constant(proto.input, constants):
            constants.update(proto.output)
        nodes.append(
            Node(
                operator=operator,
                name=proto.name,
                inputs=tuple(proto.input),
                outputs=tuple(proto.output),
                attributes={
                    name: helper.get_attribute_value(attribute)
                    for name, attribute in attributes.items()
                    if attribute.type in (attribute.INT, attribute.INTS, attribute.FLOAT, attribute.STRING)
                },
            )
        )
    return StaticGraph(
        nodes=tuple(nodes),
        inputs=inputs,
        shapes=shapes,
        bits=bits,
        stored=stored,
        weight_like=frozenset(weight_like),
        constants=frozenset(constants),
    )


def _bits(data_type: int) -> int:
    """Of one element, by its name in ONNX: FLOAT16, INT8, FLOAT8E4M3FN ...; 0 for a string."""
    from onnx import TensorProto

    name = TensorProto.DataType.Name(data_type)
    plain = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8, "COMPLEX64": 64, "COMPLEX128": 128, "BFLOAT16": 16}
    if name in plain:
        return plain[name]
    width = re.match(r"U?(?:INT|FLOAT)(\d+)", name)
    return int(width[1]) if width else 0


def _all_constant(names: Iterable[str], constants: set[str]) -> bool:
    return all(name in constants for name in names if name)
