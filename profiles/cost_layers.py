"""What each layer of a network costs: its multiply-adds, parameters, activations and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

import msgspec

from ..runtime.errors import RecordError

if TYPE_CHECKING:
    import torch

__all__ = ["UNCOUNTED", "LayerCost", "module_layers", "noting_activations", "sum_by_operator", "without_notes"]

UNCOUNTED = "uncounted"
"""The operator of a layer whose parameters go into work that is not counted, such as a learned scale."""

_ACTIVATIONS, _BYTES = " activations", " bytes"


class LayerCost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one operator of one layer costs.

    Attributes:
        name: of the torch module that runs it (``stages.0.blocks.1.conv_dw``; empty for the network itself), or of the
            ONNX node, which engines' own profiles name too.
        operator: of a module in fvcore's names (``conv``), of a node in ONNX's (``Conv``).
        macs: multiply-adds in the cost's convention; 0 where the operator is not counted.
        parameters: of the weights that it takes; a weight that several layers share is the first one's.
        activations: elements of its outputs.
        weight_bytes: of those weights as they are stored.
        activation_bytes: of its outputs.

    Raises:
        RecordError: a negative number.
    """

    name: str
    operator: str
    macs: int
    parameters: int
    activations: int
    weight_bytes: int
    activation_bytes: int

    def __post_init__(self) -> None:
        least = min(self.macs, self.parameters, self.activations, self.weight_bytes, self.activation_bytes)
        if least < 0:
            raise RecordError(
                f"a layer {self.name!r} with a negative number ({least})",
                expected="numbers from 0",
                mend="count the network again",
            )


def sum_by_operator(layers: Iterable[LayerCost]) -> dict[str, LayerCost]:
    """The layers' costs added up for each operator; ``name`` is the operator's, the dearest in multiply-adds first."""
    sums: dict[str, LayerCost] = {}
    for layer in layers:
        so_far = sums.get(layer.operator)
        if so_far is None:
            sums[layer.operator] = msgspec.structs.replace(layer, name=layer.operator)
            continue
        sums[layer.operator] = LayerCost(
            name=layer.operator,
            operator=layer.operator,
            macs=so_far.macs + layer.macs,
            parameters=so_far.parameters + layer.parameters,
            activations=so_far.activations + layer.activations,
            weight_bytes=so_far.weight_bytes + layer.weight_bytes,
            activation_bytes=so_far.activation_bytes + layer.activation_bytes,
        )
    return dict(sorted(sums.items(), key=lambda pair: (-pair[1].macs, pair[0])))


def noting_activations(
    operator: str, handle: Callable[[list[Any], list[Any]], Any]
) -> Callable[[list[Any], list[Any]], dict[str, int]]:
    """A handle of fvcore's that notes the outputs beside the multiply-adds, so that one trace gives both.

    fvcore's own `ActivationCountAnalysis` is a second trace, and knows products only.
    """
    from collections import Counter

    def counted(inputs: list[Any], outputs: list[Any]) -> dict[str, int]:
        macs = handle(inputs, outputs)
        # A handle gives a number, or numbers by a name of its own (``conv`` for ``_convolution``).
        named = macs if isinstance(macs, Mapping) else {operator: macs}
        elements = elements_bytes = 0
        for output in outputs:
            kind = output.type()
            if kind.kind() == "TensorType" and kind.sizes() is not None:
                elements += prod(kind.sizes())
                elements_bytes += prod(kind.sizes()) * kind.dtype().itemsize
        notes: Counter[str] = Counter()
        for name, value in named.items():
            notes[name] += int(value)
            notes[name + _ACTIVATIONS] += elements
            notes[name + _BYTES] += elements_bytes
        return notes

    return counted


def module_layers(module: torch.nn.Module, notes: Mapping[str, Mapping[str, int]]) -> tuple[LayerCost, ...]:
    """The layers of a module, in the order in which it holds them, from what `noting_activations` noted.

    Args:
        module: that was traced.
        notes: by module name and then by operator; a module's include those of the modules in it.
    """
    layers: list[LayerCost] = []
    seen: set[int] = set()
    # A module that is held twice is traced under its first name, and comes once here.
    for name, part in module.named_modules():
        own = dict(notes.get(name, {}))
        for child, _ in part.named_children():
            for key, value in notes.get(f"{name}.{child}" if name else child, {}).items():
                own[key] -= value
        parameters = [weight for weight in part.parameters(recurse=False) if id(weight) not in seen]
        seen.update(id(weight) for weight in parameters)
        operators = sorted(key for key in own if not key.endswith((_ACTIVATIONS, _BYTES)) and own[key + _ACTIVATIONS])
        if parameters and not operators:
            operators = [UNCOUNTED]
        # The weights go to the dearest of the module's operators.
        holder = max(operators, key=lambda operator: own.get(operator, 0), default=None)
        layers += [
            LayerCost(
                name=name,
                operator=operator,
                macs=own.get(operator, 0),
                parameters=sum(weight.numel() for weight in parameters) if operator == holder else 0,
                activations=own.get(operator + _ACTIVATIONS, 0),
                weight_bytes=sum(weight.nbytes for weight in parameters) if operator == holder else 0,
                activation_bytes=own.get(operator + _BYTES, 0),
            )
            for operator in operators
        ]
    return tuple(layers)


def without_notes(by_operator: Mapping[str, int]) -> dict[str, int]:
    """The multiply-adds by operator, less what `noting_activations` noted beside them."""
    return {name: int(macs) for name, macs in sorted(by_operator.items()) if not name.endswith((_ACTIVATIONS, _BYTES))}
