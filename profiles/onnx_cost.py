"""The cost of an ONNX graph without torch, in the convention ``strict`` of `profiles.cost`.

The formulas are those of fvcore's handlers, so that a graph and the module it was exported from agree. Where they
differ, the graph is what runs:

- work on weights alone (dequantizing them, casting them from fp16, standardising them) is done once when an engine
  loads the graph, and is not counted;
- exporters fold batch norms into the convolution before them: a graph without ``BatchNormalization`` is that much
  cheaper than the module, by the entry ``batch_norm`` of its count;
- attention is written out as two ``MatMul``, and stands under ``matmul``;
- an adaptive pool may be written as ``ReduceMean``, which counts as nothing, as in fvcore.

Names are fvcore's, but for ``linear`` (``Gemm``) and ``upsample`` (``Resize``). An operator with no formula is listed
in ``uncounted``, a fused operator of one engine's own (``com.microsoft::...``) too.

Quantized graphs count as what they compute: a convolution between Q/DQ pairs, ``QLinearConv``, ``MatMulInteger`` are as
many multiply-adds in 8 bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import ModelError
from .cost import Cost
from .cost_layers import LayerCost
from .onnx_graph import Node, StaticGraph, read_static_graph

if TYPE_CHECKING:
    import onnx

__all__ = ["count_graph"]


def count_graph(graph: Path | str | bytes | onnx.ModelProto, batch: int = 1) -> Cost:
    """Count an ONNX graph.

    Parameters are the elements of stored tensors that weights and biases come from, whatever they are stored in (fp16
    behind a ``Cast``, integers behind ``DequantizeLinear``, whose scales and zero points are not counted). Not counted:
    integers that are shapes or indices, single numbers in arithmetic, running means and variances, and up to four
    numbers (the mean and standard deviation of the normalisation) applied to an input before its first layer. A table
    that is added to activations counts, learned or not, as large as it is stored: a graph does not tell (Swin's bias
    tables, written out, and its masks make 2 % more than the module has).

    Args:
        graph: path of an ONNX file (external data with its weights is not needed), its bytes, or the loaded model.
        batch: that a symbolic batch is set to; budgets are per photograph, 1.

    Raises:
        MissingExtraError: onnx is not installed.
        UsageError: no such file, or a graph of another fixed batch.
        ModelError: not an ONNX graph, with dynamic sizes or control flow, or with an operator whose shapes are unknown.
    """
    static = read_static_graph(graph, batch)
    by_operator: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    layers: list[LayerCost] = []
    weights = _weights_by_node(static)
    for index, node in enumerate(static.nodes):
        if all(name in static.constants for name in node.outputs if name):
            continue
        formula = _FORMULAS.get(node.operator)
        macs = None if formula is None else formula.macs(_Shapes(node, static))
        if formula is not None and macs is not None:
            by_operator[formula.name] += macs
        elif node.operator not in _FREE:
            uncounted[node.operator] += 1
        layers.append(_layer(node, static, macs or 0, weights.get(index, ())))
    return Cost(
        macs=sum(by_operator.values()),
        parameters=sum(layer.parameters for layer in layers),
        input_sizes=dict(static.inputs),
        by_operator=dict(sorted(by_operator.items())),
        uncounted=dict(sorted(uncounted.items())),
        by_layer=tuple(layers),
    )


def _layer(node: Node, static: StaticGraph, macs: int, weights: Iterable[str]) -> LayerCost:
    outputs = [name for name in node.outputs if name]
    return LayerCost(
        # Engines name a node without a name by its output, too.
        name=node.name or outputs[0],
        operator=node.operator,
        macs=macs,
        parameters=sum(static.stored[name] for name in weights),
        activations=sum(prod(static.shapes.get(name, (0,))) for name in outputs),
        weight_bytes=sum(static.bytes_of(name) for name in weights),
        activation_bytes=sum(static.bytes_of(name) for name in outputs),
    )


class _Shapes:
    """Shapes and attributes of one node, for the formulas."""

    def __init__(self, node: Node, static: StaticGraph) -> None:
        self._node = node
        self._static = static

    def input(self, index: int) -> tuple[int, ...]:
        return self._of(self._node.inputs[index])

    def inputs(self) -> list[tuple[int, ...]]:
        return [self._of(name) for name in self._node.inputs if name]

    def output(self) -> tuple[int, ...]:
        return self._of(self._node.outputs[0])

    def text(self, name: str, default: str) -> str:
        value = self._node.attributes.get(name)
        return default if value is None else value.decode()

    def number(self, name: str, default: int) -> int:
        return int(self._node.attributes.get(name, default))

    def _of(self, name: str) -> tuple[int, ...]:
        if name not in self._static.shapes:
            raise ModelError(
                f"{self._node.operator} {self._node.name!r}, whose tensor {name!r} has no known shape",
                expected="a graph whose shapes onnx.shape_inference finds",
                mend="export the graph for onnx's own operators, before an engine fuses its own into it",
            )
        return self._static.shapes[name]


def _conv(weight: int) -> Callable[[_Shapes], int]:
    """Weight ``[O, I / groups, ...]`` at input ``weight``: each element at every position of the output."""
    return lambda node: node.output()[0] * prod(node.input(weight)) * prod(node.output()[2:])


def _transposed_conv(node: _Shapes) -> int:
    """Weight ``[I, O / groups, ...]``: each element at every position of the input."""
    return node.input(0)[0] * prod(node.input(1)) * prod(node.input(0)[2:])


def _gemm(node: _Shapes) -> int:
    inner = node.input(0)[0 if node.number("transA", 0) else 1]
    return prod(node.output()) * inner


def _matmul(node: _Shapes) -> int:
    return prod(node.output()) * node.input(0)[-1]


def _einsum(node: _Shapes) -> int | None:
    """One or two operands: all indices together; half of that where nothing is summed, as numpy's path counts it."""
    left, _, right = node.text("equation", "").replace(" ", "").partition("->")
    terms, shapes = left.split(","), node.inputs()
    if len(terms) > 2 or "." in left:
        return None
    pairs = zip("".join(terms), (size for shape in shapes for size in shape), strict=True)
    sizes = dict(pairs)
    if "->" not in node.text("equation", ""):
        right = "".join(index for index in sizes if left.count(index) == 1)
    summed = set(sizes) - set(right)
    return prod(sizes.values()) if summed else prod(sizes.values()) // 2


def _attention(node: _Shapes) -> int:
    """Query by key, weights by value; ``[N, heads, L, E]``, or ``[N, L, heads x E]`` with the heads as attributes."""
    query, key, value = node.input(0), node.input(1), node.input(2)
    if len(query) == 3:
        heads, key_heads = node.number("q_num_heads", 1), node.number("kv_num_heads", 1)
        return query[0] * query[1] * key[1] * (query[2] + value[2] // key_heads * heads)
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _resize(node: _Shapes) -> int | None:
    if len(node.output()) != 4:
        return None
    return {"nearest": 1, "linear": 4}.get(node.text("mode", "nearest"), 0) * prod(node.output()) or None


def _batch_norm(node: _Shapes) -> int:
    return (5 if node.number("training_mode", 0) else 2) * prod(node.input(0))


def _per_input(times: int) -> Callable[[_Shapes], int]:
    return lambda node: times * prod(node.input(0))


@dataclass(frozen=True)
class _Formula:
    """An operator's name in fvcore, and its multiply-adds; None where fvcore has no handler for its mode."""

    name: str
    macs: Callable[[_Shapes], int | None]


_FORMULAS = {
    "Conv": _Formula("conv", _conv(1)),
    "ConvInteger": _Formula("conv", _conv(1)),
    "QLinearConv": _Formula("conv", _conv(3)),
    "ConvTranspose": _Formula("conv", _transposed_conv),
    "Gemm": _Formula("linear", _gemm),
    "MatMul": _Formula("matmul", _matmul),
    "MatMulInteger": _Formula("matmul", _matmul),
    "QLinearMatMul": _Formula("matmul", _matmul),
    "Einsum": _Formula("einsum", _einsum),
    "Attention": _Formula("scaled_dot_product_attention", _attention),
    "BatchNormalization": _Formula("batch_norm", _batch_norm),
    "LayerNormalization": _Formula("layer_norm", _per_input(5)),
    "GroupNormalization": _Formula("group_norm", _per_input(5)),
    "InstanceNormalization": _Formula("instance_norm", _per_input(5)),
    "GlobalAveragePool": _Formula("adaptive_avg_pool2d", _per_input(1)),
    "Resize": _Formula("upsample", _resize),
    "GridSample": _Formula("grid_sampler", lambda node: 4 * prod(node.output())),
}

# As in fvcore: what only moves, compares or creates data. Pooling by maximum is not among them there either.
_FREE = frozenset(
    {
        *("Cast", "CastLike", "Constant", "ConstantOfShape", "Dropout", "EyeLike", "Identity", "OneHot", "Range"),
        *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "NonZero", "Pad"),
        *("Reshape", "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze"),
        *("Transpose", "Unsqueeze", "Clip", "Floor", "Max", "Min", "Mod", "Relu"),
        *("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or"),
    }
)

# Where a layer takes its weights: there they count whatever their type and however few.
_LAYER_WEIGHTS: dict[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "Gemm": (0, 1, 2),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "Einsum": (0, 1, 2, 3),
    "BatchNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
    "LSTM": (1, 2, 3),
    "GRU": (1, 2, 3),
    "RNN": (1, 2, 3),
}
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})
_TABLES = frozenset({"Concat", "Gather", "Where"})
_KEEPS_PIXELS = _ARITHMETIC | {"Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Slice"}


def _weights_by_node(static: StaticGraph) -> dict[int, list[str]]:
    """Names of the stored tensors that hold parameters, by the index of the first node that takes them."""
    origins: dict[str, frozenset[str]] = {name: frozenset({name}) for name in static.weight_like}
    pixels = set(static.inputs)
    found: dict[str, int] = {}
    for at, node in enumerate(static.nodes):
        if all(name in static.constants for name in node.outputs if name):
            if node.operator != "Constant":
                origin = _origins(node, static, origins)
                origins.update(dict.fromkeys(node.outputs, origin))
            continue
        on_pixels = node.operator in _KEEPS_PIXELS and node.inputs[0] in pixels
        on_pixels = on_pixels or (node.operator in _ARITHMETIC and any(name in pixels for name in node.inputs))
        if on_pixels:
            pixels.update(node.outputs)
        for index, name in enumerate(node.inputs):
            if name not in static.constants:
                continue
            if index in _LAYER_WEIGHTS.get(node.operator, ()):
                # The bias of an integer operator is stored in 32 bits.
                taken = {name} if name in static.stored else origins.get(name, frozenset())
            elif node.operator in _ARITHMETIC or node.operator in _TABLES:
                least = 5 if on_pixels else 2
                taken = {origin for origin in origins.get(name, ()) if static.stored[origin] >= least}
            else:
                continue
            for weight in sorted(taken):
                found.setdefault(weight, at)
    by_node: dict[int, list[str]] = {}
    for name, at in found.items():
        by_node.setdefault(at, []).append(name)
    return by_node


def _origins(node: Node, static: StaticGraph, origins: dict[str, frozenset[str]]) -> frozenset[str]:
    """The stored tensors that a constant is computed from, less single numbers, scales and zero points."""
    if node.operator in ("DequantizeLinear", "QuantizeLinear"):
        name = node.inputs[0]
        return frozenset({name}) if name in static.stored else origins.get(name, frozenset())
    if node.operator in ("Shape", "Size"):
        return frozenset()
    return frozenset(
        origin
        for name in node.inputs
        for origin in origins.get(name, ())
        if static.stored[origin] > 1 or len(node.inputs) == 1
    )
