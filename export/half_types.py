"""Which nodes of a graph compute in half precision, and the Casts between them and the others."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from .quant_blocks import quantizable

if TYPE_CHECKING:
    import onnx

__all__ = ["choose_half", "write_types"]


def choose_half(model: onnx.ModelProto, half: int) -> frozenset[str]:
    """Names of the nodes that compute in half precision.

    All but those before the first convolution or matrix product, which normalise pixels or
    work on constants; those on vectors behind the last one on maps or tokens, which make the score; and those whose
    operator ONNX does not define for that type.

    Args:
        model: FP32, left as it is.
        half: ``TensorProto.FLOAT16`` or ``BFLOAT16``.
    """
    shapes = _float_shapes(model)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    products = [node for node in model.graph.node if quantizable(node)]
    behind: set[str] = set()
    for node in model.graph.node:
        if quantizable(node) or not behind.isdisjoint(node.input):
            behind.update(node.output)
    on_maps = {name for node in products for name in node.output if not _is_vector(shapes.get(name))}
    before: set[str] = set()
    for node in reversed(model.graph.node):
        if not (before | on_maps).isdisjoint(node.output):
            before.update(node.input)
    chosen = set()
    for node in model.graph.node:
        floats = [name for name in node.output if name in shapes]
        vectors = all(_is_vector(shapes[name]) for name in floats) and before.isdisjoint(floats)
        if floats and behind.issuperset(floats) and not (vectors and on_maps.isdisjoint(floats)):
            chosen.add(node.name)
    return frozenset(
        node.name
        for node in model.graph.node
        if node.name in chosen and _float_slots(node, half, opset, shapes) is not None
    )


def _float_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Shapes of the FP32 tensors, 0 for a side that is symbolic."""
    import onnx
    from onnx import TensorProto

    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    values = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in values
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    constants = {t.name: list(t.dims) for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    return shapes | constants


def _is_vector(shape: list[int] | None) -> bool:
    return shape is not None and all(side == 1 for side in shape[2:])


def _float_slots(node: onnx.NodeProto, half: int, opset: int, floats: Collection[str]) -> frozenset[int] | None:
    """Which of a node's inputs may be of a type; None where its operator is not defined for it."""
    import onnx
    from onnx import TensorProto

    wanted = f"tensor({TensorProto.DataType.Name(half).lower()})"
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    allowed = {c.type_param_str for c in schema.type_constraints if wanted in c.allowed_type_strs}

    def kind(formal: Any, index: int) -> str:
        return str(formal[min(index, len(formal) - 1)].type_str)

    slots = {i for i, name in enumerate(node.input) if name in floats and kind(schema.inputs, i) in allowed}
    written = all(kind(schema.outputs, i) in allowed for i, name in enumerate(node.output) if name in floats)
    # The type of its output must follow from its input, or be said by `to`.
    return frozenset(slots) if written and (slots or node.op_type == "Cast") else None


def write_types(model: onnx.ModelProto, half: int, chosen: Collection[str]) -> None:
    """Let the chosen nodes compute in half precision: their weights, their activations, Casts to and from the others.

    A tensor that both kinds read is cast once. The graph's outputs stay FP32 under their names.

    Args:
        model: FP32, changed in place; its intermediate types are dropped, as they no longer hold.
        half: ``TensorProto.FLOAT16`` or ``BFLOAT16``.
        chosen: names of nodes, as `choose_half` gives them.
    """
    from onnx import TensorProto, helper, numpy_helper

    floats = _float_shapes(model)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    suffix = TensorProto.DataType.Name(half).lower()
    element = helper.tensor_dtype_to_np_dtype(half)
    outputs = {value.name for value in model.graph.output}
    # (tensor of the FP32 graph, whether in half precision) -> its name here
    places: dict[tuple[str, bool], str] = {(name, False): name for name in floats}
    tensors: dict[str, onnx.TensorProto] = {}
    nodes: list[onnx.NodeProto] = []

    def read(name: str, as_half: bool) -> str:
        if name in weights:
            place = f"{name}.{suffix}" if as_half else name
            if place not in tensors:
                values = numpy_helper.to_array(weights[name])
                tensors[place] = numpy_helper.from_array(values.astype(element), place) if as_half else weights[name]
            return place
        if (name, as_half) not in places:
            source, place = places[name, not as_half], f"{name}.{suffix if as_half else 'float'}"
            to = half if as_half else TensorProto.FLOAT
            nodes.append(helper.make_node("Cast", [source], [place], name=f"{place}.cast", to=to))
            places[name, as_half] = place
        return places[name, as_half]

    for node in model.graph.node:
        is_half = node.name in chosen
        slots = (_float_slots(node, half, opset, floats) if is_half else None) or frozenset()
        # What it reads and writes is named by the FP32 graph until here.
        for index, name in enumerate(node.input):
            if name in floats:
                node.input[index] = read(name, index in slots)
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in floats or not is_half:
                continue
            if node.op_type == "Cast":
                next(a for a in node.attribute if a.name == "to").i = half
            del places[name, False]
            places[name, True] = node.output[index] = f"{name}.{suffix}" if name in outputs else name
            if name in outputs:
                nodes.append(
                    helper.make_node("Cast", [node.output[index]], [name], name=f"{name}.cast", to=TensorProto.FLOAT)
                )
                places[name, False] = name
    kept = [tensor for tensor in model.graph.initializer if tensor.data_type != TensorProto.FLOAT]
    # A copy, since the tensors are parts of the graph that is emptied here.
    stored = [type(tensor).FromString(tensor.SerializeToString()) for tensor in (*tensors.values(), *kept)]
    ordered = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.initializer[:]
    model.graph.initializer.extend(stored)
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    del model.graph.value_info[:]
