"""Printing a cost for people: by operator, the dearest layers, and what was not counted."""

from __future__ import annotations

from collections.abc import Callable

from ..profiles.cost import CONVENTIONS, Convention, Cost
from ..profiles.cost_layers import LayerCost, sum_by_operator
from .show import print_table

__all__ = ["describe_counts", "show_cost"]

_COLUMNS = ("MMACs", "share", "M parameters", "M activations", "weights MB", "outputs MB")


def describe_counts(known: Cost, count: Callable[[Convention], Cost]) -> str:
    """One network's multiply-adds in every convention, for people.

    Args:
        known: in one of them.
        count: counts in another one.
    """
    costs = [known if convention == known.convention else count(convention) for convention in CONVENTIONS]
    counts = ", ".join(f"{cost.macs / 1e9:.4g} GMACs {cost.convention}" for cost in costs)
    return f"{counts} (docs/budgets.md: what each leaves out)"


def show_cost(cost: Cost, *, layers: int) -> None:
    """Print a cost as tables.

    Args:
        cost: of a bundle or a network, with its layers.
        layers: how many of the dearest to show.
    """
    whole = f"{cost.macs / 1e9:.4g} GMACs {cost.convention}, {cost.parameters / 1e6:.4g} M parameters"
    operators = sum_by_operator(cost.by_layer).values()
    print_table(("operator", *_COLUMNS), [_cells(each, cost.macs) for each in operators], title=whole)
    if layers:
        dearest = sorted(cost.by_layer, key=lambda layer: -layer.macs)[:layers]
        title = f"the dearest {len(dearest)} of {len(cost.by_layer)} layers"
        print_table(("layer", *_COLUMNS), [_cells(each, cost.macs) for each in dearest], title=title)
    listed = ", ".join(f"{name} ({times} x)" for name, times in cost.uncounted.items())
    print(f"ran and not counted: {listed or 'nothing'}")
    print(f"{cost.convention}: {CONVENTIONS[cost.convention]}")


def _cells(layer: LayerCost, macs: int) -> list[str]:
    return [
        layer.name,
        f"{layer.macs / 1e6:.2f}",
        f"{layer.macs / macs:.1%}" if macs else "",
        f"{layer.parameters / 1e6:.4f}",
        f"{layer.activations / 1e6:.3f}",
        f"{layer.weight_bytes / 1e6:.3f}",
        f"{layer.activation_bytes / 1e6:.3f}",
    ]
