"""LayerNorm and GELU in parts: finding the operators that together are one, also with quantizers between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .lint_graph import LintGraph, operand, result

if TYPE_CHECKING:
    import onnx

__all__ = ["Parts", "find_gelus", "find_layer_norms"]

_SEEN_THROUGH = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast", "Identity"})
# How many nodes a GELU's tanh may stand behind its cube.
_CUBE_DEPTH = 6


@dataclass(frozen=True, slots=True)
class Parts:
    """A LayerNorm or GELU in parts.

    Attributes:
        node: the one to name: the square root, Erf or Tanh.
        variance: tensor of a LayerNorm's variance; empty for a GELU.
        quantizers: nodes that quantize between the parts.
    """

    node: onnx.NodeProto
    variance: str
    quantizers: tuple[onnx.NodeProto, ...]


def find_layer_norms(graph: LintGraph) -> Iterator[Parts]:
    """``(x - mean) / sqrt(mean((x - mean)^2) + epsilon)``, of pixels and not of weights.

    Group and instance norms in parts are the same operators over other axes, and are found with them.
    """
    for node in graph.nodes:
        if node.op_type != "Sqrt" or result(node) in graph.constants:
            continue
        trail = _Trail(graph)
        inner = trail.back(operand(node, 0), "Add")
        variance = next((name for name in inner.input if name not in graph.constants), "") if inner else ""
        mean = trail.back(variance, "ReduceMean")
        square = mean and trail.back(operand(mean, 0), "Pow", "Mul")
        centred = square and trail.back(operand(square, 0), "Sub")
        if not (mean and square and centred):
            continue
        if square.op_type == "Mul" and trail.source(operand(square, 0)) != trail.source(operand(square, 1)):
            continue
        if trail.back(operand(centred, 1), "ReduceMean") is None:
            continue
        # Without the division it is a standard deviation, which is a fine feature to pool.
        divides = trail.forward(result(node), "Div", "Reciprocal")
        if divides is not None:
            yield Parts(node, result(mean), tuple(trail.quantizers))


def find_gelus(graph: LintGraph) -> Iterator[Parts]:
    """``x / 2 * (1 + erf(x / sqrt(2)))`` and the same by tanh of a cube."""
    for node in graph.nodes:
        if node.op_type not in ("Erf", "Tanh") or result(node) in graph.constants:
            continue
        trail = _Trail(graph)
        if node.op_type == "Tanh" and not _holds_cube(graph, operand(node, 0)):
            continue
        if node.op_type == "Erf" and trail.back(operand(node, 0), "Div", "Mul") is None:
            continue
        added = trail.forward(result(node), "Add")
        if added is None or not any(_is(graph, name, 1.0) for name in added.input):
            continue
        if trail.forward(result(added), "Mul") is not None:
            yield Parts(node, "", tuple(trail.quantizers))


class _Trail:
    """Walks from node to node past quantizers and casts, and keeps the quantizers it passed."""

    def __init__(self, graph: LintGraph) -> None:
        self.graph = graph
        self.quantizers: list[onnx.NodeProto] = []

    def back(self, name: str, *operators: str) -> onnx.NodeProto | None:
        """The node that made a tensor, if it is one of these operators."""
        passed: list[onnx.NodeProto] = []
        while (node := self.graph.producers.get(name)) is not None and node.op_type in _SEEN_THROUGH:
            passed.append(node)
            name = operand(node, 0)
        if node is None or node.op_type not in operators:
            return None
        self._keep(passed)
        return node

    def source(self, name: str) -> str:
        """The tensor before quantizers and casts."""
        while (node := self.graph.producers.get(name)) is not None and node.op_type in _SEEN_THROUGH:
            name = operand(node, 0)
        return name

    def forward(self, name: str, *operators: str) -> onnx.NodeProto | None:
        """The first node of these operators that reads a tensor."""
        left: list[tuple[str, list[onnx.NodeProto]]] = [(name, [])]
        while left:
            name, passed = left.pop(0)
            for node in self.graph.consumers.get(name, ()):
                if node.op_type in operators:
                    self._keep(passed)
                    return node
                if node.op_type in _SEEN_THROUGH and node.output:
                    left.append((result(node), [*passed, node]))
        return None

    def _keep(self, passed: list[onnx.NodeProto]) -> None:
        self.quantizers += [node for node in passed if node.op_type == "QuantizeLinear"]


def _holds_cube(graph: LintGraph, name: str) -> bool:
    """Whether a tensor is computed from a third power, in a few steps."""
    left = {name}
    for _ in range(_CUBE_DEPTH):
        nodes = [graph.producers[name] for name in left if name in graph.producers]
        for node in nodes:
            if node.op_type == "Pow" and _is(graph, operand(node, 1), 3.0):
                return True
            if node.op_type == "Mul" and _is_square_times(graph, node):
                return True
        left = {name for node in nodes for name in node.input if name not in graph.constants}
    return False


def _is_square_times(graph: LintGraph, node: onnx.NodeProto) -> bool:
    """Whether a product is ``x * x * x``, in either order."""
    for square, other in (tuple(node.input), tuple(node.input)[::-1]):
        made = graph.producers.get(square)
        if made is not None and made.op_type == "Mul" and list(made.input) == [other, other]:
            return True
    return False


def _is(graph: LintGraph, name: str, number: float) -> bool:
    values = graph.values(name) if name in graph.constants else None
    return values is not None and values.size == 1 and bool(np.isclose(float(values.reshape(-1)[0]), number, rtol=1e-3))
