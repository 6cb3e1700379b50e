"""A quantized graph in which some nodes compute in float again, without a quantizer's run for each choice of nodes."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any

from ..runtime.errors import ExportError

if TYPE_CHECKING:
    import onnx

__all__ = ["float_variant"]

_MOVES = frozenset(
    (
        *("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice"),
        *("SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    )
)
"""They move numbers and change none: quantizers set their pairs before them for what reads them behind."""


def float_variant(quantized: onnx.ModelProto, plain: onnx.ModelProto, nodes: Collection[str]) -> onnx.ModelProto:
    """Let nodes of a quantized graph compute in float.

    Each gets the inputs that it has in the float graph: activations go round the pairs of QuantizeLinear and
    DequantizeLinear, also where operators that only move numbers (a transposition, say) lie between; weights and biases
    are the float graph's. All other nodes stay as they are, biases that were corrected and ranges too. What nothing
    reads any more is removed.

    Args:
        quantized: as `quantize_onnx.quantize` makes it of ``plain``.
        plain: FP32, as `float_graph.plain_float` gives it.
        nodes: names of nodes of ``plain``. Those that only move numbers are float where what reads them is.

    Returns:
        A graph of the same inputs and outputs. With all nodes float, its score is that of ``plain``; with none, that of
        ``quantized``. Features that nothing else reads may come out of a quantizer even so.

    Raises:
        ExportError: ``plain`` has no such node, or a node of it is not in ``quantized`` with the same operator.
    """
    return _Variant(quantized, plain).with_float(nodes)


class _Variant:
    """The surgery on one copy."""

    def __init__(self, quantized: onnx.ModelProto, plain: onnx.ModelProto) -> None:
        self._model: Any = type(quantized)()
        self._model.CopyFrom(quantized)
        self._there = {node.name: node for node in self._model.graph.node}
        self._plain = {node.name: node for node in plain.graph.node}
        self._makers = {name: node for node in plain.graph.node for name in node.output}
        self._stored = {tensor.name: tensor for tensor in self._model.graph.initializer}
        self._stored_plain = {tensor.name: tensor for tensor in plain.graph.initializer}
        for node in plain.graph.node:
            self._twin(node)
        # Float copies of nodes that move numbers, by what they copy; and what tensors are called in the copies.
        self._copies: dict[str, Any] = {}
        self._copied: dict[str, str] = {}

    def with_float(self, nodes: Collection[str]) -> onnx.ModelProto:
        unknown = sorted(set(nodes) - set(self._plain))
        if unknown:
            raise ExportError(
                f"nodes {', '.join(unknown)} to be float", expected="nodes of the graph", mend="name others"
            )
        for name, node in self._plain.items():
            if name not in nodes or node.op_type in _MOVES:
                continue
            inputs = [self._unquantized(tensor) for tensor in node.input]
            twin = self._there[name]
            outputs = list(twin.output)
            twin.CopyFrom(node)
            _assign(twin.input, inputs)
            _assign(twin.output, outputs)
        self._put_copies()
        self._drop_unread()
        return self._model  # type: ignore[no-any-return]

    def _twin(self, node: Any) -> Any:
        found = self._there.get(node.name)
        if found is None or found.op_type != node.op_type or len(found.output) != len(node.output):
            raise ExportError(
                f"a quantized graph without the {node.op_type} {node.name} of the float graph",
                expected="every node of it under its own name",
                mend="quantize the same graph, by nncf or onnxruntime, without another tool between",
            )
        return found

    def _unquantized(self, tensor: str) -> str:
        """Under what name the quantized graph has a tensor of the float graph as it is before any quantizer."""
        maker = self._makers.get(tensor)
        if maker is None:
            return self._constant(tensor)
        twin = self._there[maker.name]
        place = list(maker.output).index(tensor)
        if maker.op_type not in _MOVES:
            return str(twin.output[place])
        if tensor not in self._copied:
            inputs = [self._unquantized(name) for name in maker.input]
            if inputs == list(twin.input):
                return str(twin.output[place])
            copy = type(maker)()
            copy.CopyFrom(maker)
            copy.name = f"{maker.name}.float"
            _assign(copy.input, inputs)
            _assign(copy.output, [f"{name}.float" for name in maker.output])
            self._copies[maker.name] = copy
            self._copied.update(zip(maker.output, copy.output, strict=True))
        return self._copied[tensor]

    def _constant(self, tensor: str) -> str:
        """An input of the graph, or a stored tensor, which the quantizers may have changed under its name."""
        wanted = self._stored_plain.get(tensor)
        if wanted is None:
            return tensor
        if tensor in self._stored and _is_same(self._stored[tensor], wanted):
            return tensor
        name = f"{tensor}.float"
        if name not in self._stored:
            added = type(wanted)()
            added.CopyFrom(wanted)
            added.name = name
            self._stored[name] = added
            self._model.graph.initializer.append(added)
        return name

    def _put_copies(self) -> None:
        """Each right before what it copies: behind all that it reads, before all that reads it."""
        ordered = []
        for node in self._model.graph.node:
            ordered += [self._copies[node.name], node] if node.name in self._copies else [node]
        self._keep(ordered, self._model.graph.node)

    def _drop_unread(self) -> None:
        graph = self._model.graph
        read = {value.name for value in graph.output}
        kept = []
        for node in reversed(graph.node):
            if not read.isdisjoint(node.output):
                kept.append(node)
                read.update(node.input)
        self._keep(kept[::-1], graph.node)
        self._keep([tensor for tensor in graph.initializer if tensor.name in read], graph.initializer)
        del graph.value_info[:]

    @staticmethod
    def _keep(wanted: Iterable[Any], field: Any) -> None:
        """Make a repeated field hold just these; it may hold them already, so that they are copied first."""
        copies = []
        for message in wanted:
            copy = type(message)()
            copy.CopyFrom(message)
            copies.append(copy)
        del field[:]
        field.extend(copies)


def _assign(field: Any, names: Iterable[str]) -> None:
    del field[:]
    field.extend(names)


def _is_same(one: Any, other: Any) -> bool:
    import numpy as np
    from onnx import numpy_helper

    a, b = numpy_helper.to_array(one), numpy_helper.to_array(other)
    return bool(a.dtype == b.dtype and np.array_equal(a, b))
