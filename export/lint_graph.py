"""An ONNX graph as the linter reads it: who makes and who reads each tensor, types, shapes, and the quantizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import ModelError

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Fault",
    "LintGraph",
    "Quantizer",
    "attributes_of",
    "domain_of",
    "label",
    "operand",
    "result",
    "type_name",
]

# What moves a quantized tensor about, or picks of its elements, without changing them.
_MOVERS = frozenset(
    {
        *("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Split", "Gather", "Concat"),
        *("Expand", "Tile", "Pad", "MaxPool", "DepthToSpace", "SpaceToDepth"),
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """What a rule found.

    Attributes:
        node: by name, or what stands for it: a tensor, or empty for the whole graph.
        got: what is there.
        expected: what the target takes.
        mend: the command or change that mends it.
    """

    node: str
    got: str
    expected: str
    mend: str


@dataclass(frozen=True, kw_only=True)
class Quantizer:
    """A QuantizeLinear or a DequantizeLinear.

    Attributes:
        node: itself.
        quantizes: whether it is the former.
        source: tensor that it reads.
        scale: tensor of its scales.
        zero_point: likewise; empty where it has none.
        axis: as written.
        element_type: of the quantized side, an ONNX data type; 0 where it is not known.
        constant: whether it reads a weight, or anything else that does not depend on the input.
    """

    node: onnx.NodeProto
    quantizes: bool
    source: str
    scale: str
    zero_point: str
    axis: int
    element_type: int
    constant: bool


@dataclass(frozen=True, kw_only=True)
class LintGraph:
    """A model for analysis, each tensor made once and before it is read. Branches and loops are not looked into.

    Attributes:
        model: as it was given.
        nodes: in order, local functions inlined.
        stored: initializers and the values of Constant nodes, by name.
        types: ONNX data type of every tensor whose type is known.
        shapes: sides of every tensor whose rank is known; a side that is not fixed is its symbol, or empty.
        defect: what ONNX's own inference says against the graph; empty where it says nothing.
    """

    model: onnx.ModelProto
    nodes: tuple[onnx.NodeProto, ...]
    stored: Mapping[str, onnx.TensorProto]
    types: Mapping[str, int]
    shapes: Mapping[str, tuple[int | str, ...]]
    defect: str

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """The node that makes a tensor, by the tensor's name."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """The nodes that read a tensor, by the tensor's name."""
        found: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                found.setdefault(name, []).append(node)
        return found

    @cached_property
    def constants(self) -> frozenset[str]:
        """Names of all tensors that are stored or computed from stored ones alone."""
        found = set(self.stored)
        for node in self.nodes:
            # A node without inputs draws random numbers.
            if any(node.input) and all(name in found for name in node.input if name):
                found.update(node.output)
        return frozenset(found)

    @cached_property
    def inputs(self) -> tuple[onnx.ValueInfoProto, ...]:
        """Of the graph, without those that only name an initializer."""
        return tuple(value for value in self.model.graph.input if value.name not in self.stored)

    @cached_property
    def opsets(self) -> dict[str, int]:
        """Version by domain; ONNX's own domain is empty."""
        return {domain_of(entry.domain): entry.version for entry in self.model.opset_import}

    @cached_property
    def quantizers(self) -> tuple[Quantizer, ...]:
        """All of them, in order."""
        return tuple(
            self._quantizer(node) for node in self.nodes if node.op_type in ("QuantizeLinear", "DequantizeLinear")
        )

    @cached_property
    def dequantizers(self) -> dict[str, Quantizer]:
        """By the tensor that each makes."""
        return {
            result(quantizer.node): quantizer
            for quantizer in self.quantizers
            if not quantizer.quantizes and result(quantizer.node)
        }

    def _quantizer(self, node: onnx.NodeProto) -> Quantizer:
        quantizes = node.op_type == "QuantizeLinear"
        zero_point = operand(node, 2)
        side = result(node) if quantizes else operand(node, 0)
        # com.microsoft's have no types that ONNX could infer.
        element_type = self.types.get(zero_point, 0) or self.types.get(side, 0)
        return Quantizer(
            node=node,
            quantizes=quantizes,
            source=operand(node, 0),
            scale=operand(node, 1),
            zero_point=zero_point,
            axis=int(attributes_of(node).get("axis", 1)),
            element_type=element_type,
            constant=operand(node, 0) in self.constants,
        )

    def values(self, name: str) -> NDArray[Any] | None:
        """A stored tensor, also behind a Cast; None for one that is computed or lies in another file.

        Raises:
            ModelError: its bytes are not what its type and shape say.
        """
        from onnx import external_data_helper, numpy_helper

        producer = self.producers.get(name)
        if producer is not None and producer.op_type in ("Cast", "Identity") and name not in self.stored:
            source = operand(producer, 0)
            return self.values(source) if source in self.constants else None
        tensor = self.stored.get(name)
        if tensor is None or external_data_helper.uses_external_data(tensor):
            return None
        try:
            return np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError) as error:
            raise ModelError(
                f"the stored tensor {name!r}, which cannot be read: {error}",
                expected="as many bytes as its type and shape say",
                mend="export the graph again",
            ) from error

    def size(self, name: str) -> int | None:
        """Elements of a tensor; None where a side is not known."""
        sides = [side for side in self.shapes.get(name, ("",)) if isinstance(side, int)]
        return prod(sides) if len(sides) == len(self.shapes.get(name, ("",))) else None

    def reached(self, name: str) -> Iterator[onnx.NodeProto]:
        """The nodes that read a tensor, beyond those that only move it."""
        left, seen = [name], {name}
        while left:
            for node in self.consumers.get(left.pop(), ()):
                if node.op_type in _MOVERS:
                    new = [output for output in node.output if output not in seen]
                    seen.update(new)
                    left += new
                else:
                    yield node

    def origin(self, name: str) -> str:
        """The tensor that a tensor was before it was only moved."""
        while (node := self.producers.get(name)) is not None and node.op_type in _MOVERS:
            name = operand(node, 0)
        return name


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """Numbers, strings and lists of them, by name."""
    from onnx import helper

    return {
        attribute.name: helper.get_attribute_value(attribute)
        for attribute in node.attribute
        if attribute.type in (attribute.INT, attribute.INTS, attribute.FLOAT, attribute.FLOATS, attribute.STRING)
    }


def label(node: onnx.NodeProto) -> str:
    """The node's name, or its operator and first output where it has none."""
    return str(node.name or f"{node.op_type} of {node.output[0] if node.output else 'nothing'}")


def type_name(data_type: int) -> str:
    """``float16``, ``int8``, ..., as messages say it."""
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(data_type)).lower()


def domain_of(domain: str) -> str:
    """A domain by its short name: ONNX's own is empty."""
    return "" if domain == "ai.onnx" else domain


def operand(node: onnx.NodeProto, index: int) -> str:
    """Name of an input; empty where it is left out."""
    return str(node.input[index]) if index < len(node.input) else ""


def result(node: onnx.NodeProto) -> str:
    """Name of the first output; empty where there is none."""
    return str(node.output[0]) if node.output else ""
