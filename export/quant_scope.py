"""Which operators of a graph a recipe leaves float."""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

from ..runtime.errors import UsageError
from .quant_blocks import blocks_of, quantizable

if TYPE_CHECKING:
    import onnx

    from .quant_recipe import QuantRecipe

__all__ = ["float_nodes"]

_TENSORRT_FEW_CHANNELS = 16
_TENSORRT_FEW_PRODUCTS = 16


def float_nodes(model: onnx.ModelProto, recipe: QuantRecipe) -> tuple[str, ...]:
    """Names of the nodes that stay float, in the order in which they run.

    Those of the recipe's operators and blocks, those of squeeze-excite where it says so, and with the scheme tensorrt
    all that TensorRT computes in INT8 badly or not at all: everything but convolutions and products with weights, those
    with few channels, and grouped convolutions but the depthwise kind.

    Args:
        model: FP32 weights, as `float_graph.plain_float` gives them.
        recipe: how to quantize it.

    Raises:
        UsageError: the recipe names a block that the graph does not have.
    """
    chosen = {node.name for node in model.graph.node if node.op_type in recipe.float_operators}
    if recipe.float_blocks:
        blocks = blocks_of(model)
        for pattern in recipe.float_blocks:
            found = fnmatch.filter(blocks, pattern)
            if not found:
                raise UsageError(
                    f"a block named {pattern}, which the graph does not have",
                    expected=f"one of {', '.join(blocks)}",
                    mend="correct the recipe's float_blocks",
                )
            chosen.update(name for block in found for name in blocks[block])
    if recipe.float_gates:
        chosen |= _gates(model)
    if recipe.scheme == "tensorrt":
        weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
        chosen |= {node.name for node in model.graph.node if not _suits_tensorrt(node, weights)}
    return tuple(node.name for node in model.graph.node if node.name in chosen)


def _suits_tensorrt(node: onnx.NodeProto, weights: dict[str, tuple[int, ...]]) -> bool:
    """Whether TensorRT has an INT8 kernel worth its quantizers for a node."""
    if not quantizable(node) or len(node.input) < 2 or node.input[1] not in weights:
        return False
    shape = weights[node.input[1]]
    if node.op_type != "Conv":
        # Too little to multiply, and of the score's layer every bit counts.
        return len(shape) == 2 and min(shape) >= _TENSORRT_FEW_PRODUCTS
    outputs, inputs = shape[:2]
    group = _attribute(node, "group", 1)
    if group > 1:
        return inputs == 1 and outputs % 8 == 0 and all(side >= 3 for side in shape[2:])
    if min(outputs, inputs) >= _TENSORRT_FEW_CHANNELS:
        return True
    return max(outputs, inputs) >= _TENSORRT_FEW_CHANNELS and outputs % 8 == 0 and len(set(shape[2:])) == 1


def _gates(model: onnx.ModelProto) -> set[str]:
    """Nodes of squeeze-excite: a map times what was made of its own spatial average.

    J. Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, figure 2.
    """
    import onnx

    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.output)
    }
    makers = {output: node for node in model.graph.node for output in node.output}

    def is_pooled(name: str) -> bool:
        shape = shapes.get(name, [])
        return len(shape) == 4 and shape[2:] == [1, 1]

    found: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "Mul" or is_pooled(node.output[0]):
            continue
        gates = [name for name in node.input if name in makers and is_pooled(name)]
        todo = list(gates)
        while todo:
            maker = makers.get(todo.pop())
            if maker is not None and maker.name not in found and is_pooled(maker.output[0]):
                found.add(maker.name)
                todo += maker.input
        found.update([node.name] if gates else [])
    return found


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    import onnx

    return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)
