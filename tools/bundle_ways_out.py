"""What a bundle that breaks a budget could be changed into, from what the bundle itself tells."""

from __future__ import annotations

import math

from ..profiles.amounts import Amount, format_amount
from ..profiles.budget import Budget, Quantity
from ..profiles.measurement import Measurement
from ..runtime.bundle import Bundle
from ..runtime.manifest import Artefact

__all__ = ["bundle_ways_out"]


def bundle_ways_out(bundle: Bundle, measured: Measurement, budget: Budget) -> tuple[str, ...]:
    """A smaller input, a smaller student, fewer members: what is known of each without the networks.

    Args:
        bundle: that was measured.
        measured: its facts.
        budget: that it breaks; empty where it exceeds no limit (what was not measured has no way out).
    """
    exceeded = {v.quantity: v.ratio for v in budget.check(measured) if v.ratio is not None}
    if not exceeded:
        return ()
    return (_smaller_input(bundle, exceeded), _smaller_student(measured, budget), _fewer_members(bundle, budget))


# What grows with the pixels: the work, and what is held while it is done.
_OF_WORK: tuple[Quantity, ...] = ("macs", "latency_p95_ms", "energy_mj")
# In pixels: half of what one position of most networks' last features covers.
_LEAST_SIDE = 16


def _smaller_input(bundle: Bundle, exceeded: dict[Quantity, float]) -> str:
    if exceeded.keys() & {"parameters", "size_bytes"}:
        return "a smaller input does not help: weights are as many at every size"
    ratio = max((exceeded[quantity] for quantity in _OF_WORK if quantity in exceeded), default=None)
    if ratio is None:
        return (
            "a smaller input: takes less memory, by how much is not known, as engine, weights and photograph take the "
            "rest; edgeiqa distill at a smaller --size, and measure again"
        )
    height, width = next(iter(bundle.manifest.members[0].preprocess.shapes.values()))[-3:-1]
    smaller = [math.floor(math.sqrt(1 / ratio) * side) for side in (width, height)]
    if min(smaller) < _LEAST_SIDE:
        return f"a smaller input does not help: {1 / ratio:.2g} of the pixels of {width}x{height} would be left"
    return (
        f"a smaller input: about {smaller[0]}x{smaller[1]} in place of {width}x{height}, "
        "were the cost in proportion to the pixels; edgeiqa distill with this --budget finds the size"
    )


def _smaller_student(measured: Measurement, budget: Budget) -> str:
    macs = "" if measured.macs is None else f" than this one of {format_amount(Amount('macs', measured.macs))}"
    return f"a smaller student{macs}: edgeiqa plan --budget {budget.name.replace(' and ', ',')} lists those that fit"


def _fewer_members(bundle: Bundle, budget: Budget) -> str:
    artefacts = [member.artefacts[0] for member in bundle.manifest.members]
    costs = "; ".join(f"{member.name} {_cost(member.artefacts[0])}" for member in bundle.manifest.members)
    if len(artefacts) == 1:
        return f"fewer members do not help: there is one, {costs}"
    fitting = 0
    for count in range(1, len(artefacts)):
        # The cheapest ones: if they do not fit, no others do.
        cheapest = sorted(artefacts, key=lambda artefact: artefact.macs or 0)[:count]
        if _keep(cheapest, budget):
            fitting = count
    if fitting == 0:
        return f"fewer members do not help: none fits alone ({costs})"
    return f"fewer members: the cheapest {fitting} of {len(artefacts)} keep to multiply-adds and parameters ({costs})"


def _keep(artefacts: list[Artefact], budget: Budget) -> bool:
    macs = sum(artefact.macs or 0 for artefact in artefacts)
    parameters = sum(artefact.parameters or 0 for artefact in artefacts)
    return macs <= (budget.macs or math.inf) and parameters <= (budget.parameters or math.inf)


def _cost(artefact: Artefact) -> str:
    if artefact.macs is None or artefact.parameters is None:
        return "of unknown cost"
    macs, parameters = Amount("macs", artefact.macs), Amount("parameters", artefact.parameters)
    return f"{format_amount(macs)}, {format_amount(parameters)}"
