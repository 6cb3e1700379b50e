"""A budget that an export is held to: before the export by the networks, and before anything is written by the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..profiles.amounts import Amount, format_amount
from ..profiles.budget import Budget, Quantity, Violation
from ..profiles.cost import Convention, Cost, total_cost
from ..profiles.ptflops_cost import count_in
from ..runtime.errors import BudgetError
from .export_flags import is_plain

if TYPE_CHECKING:
    from ..export.kinds import Kind
    from ..runtime.manifest import Manifest, Precision, StoredAs
    from .packing import Trained

__all__ = ["bytes_a_weight", "count_members", "hold_exported", "hold_graphs", "hold_members"]


_STORED: dict[Precision, int] = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
"""Bytes of a weight in a file, by the precision of the arithmetic."""


def bytes_a_weight(kinds: Sequence[Kind], store: StoredAs) -> int:
    """Bytes of a weight in the file of the kind that takes most: the others lie beside it, so a file has no fewer.

    Args:
        kinds: that are exported, at least one.
        store: of the weights of those that are the network as it is.
    """
    return max(_STORED[store if is_plain(kind) else kind.precision] for kind in kinds)


def count_members(members: Sequence[Trained], convention: Convention = "strict") -> Cost:
    """What all members cost together: every view, every crop of it, every member."""
    import torch

    costs: dict[str, Cost] = {}
    for member in members:
        shapes = member.network.system.preprocess.shapes
        views = tuple(torch.zeros((1, *shape), dtype=torch.uint8) for shape in shapes.values())
        costs[member.name] = count_in(convention, member.network, views, names=tuple(shapes))
    return total_cost(costs)


def hold_members(members: Sequence[Trained], budget: Budget) -> Cost:
    """Hold the networks' multiply-adds and parameters to a budget, before the export.

    Returns:
        Their cost.

    Raises:
        BudgetError: they exceed a limit; the mend is the three ways out.
    """
    cost = count_members(members, budget.convention)
    _hold(members, _names(members), {"macs": cost.macs, "parameters": cost.parameters}, budget)
    return cost


def hold_exported(members: Sequence[Trained], manifest: Manifest, size_bytes: int, budget: Budget) -> None:
    """Hold what was exported to a budget: bytes, and what the graphs cost.

    Args:
        members: that were exported.
        manifest: of their bundle.
        size_bytes: of its file; before there is one, that of its parts, which is a little less.
        budget: its limits of latency, memory and energy need a measurement and are left to `profile`.

    Raises:
        BudgetError: it exceeds a limit.
    """
    known = _known(manifest, size_bytes, budget)
    _hold(members, manifest.name, known, budget, smaller=_smaller_files(manifest, size_bytes))


def hold_graphs(manifest: Manifest, size_bytes: int, budget: Budget) -> None:
    """Hold what is exported of a bundle, whose networks are not here, to a budget: what its graphs cost, and bytes.

    Raises:
        BudgetError: it exceeds a limit.
    """
    known = _known(manifest, size_bytes, budget)
    exceeded = budget.exceeded_by(known)
    if exceeded:
        ways = _smaller_files(manifest, size_bytes) if _is_of_bytes(exceeded) else ()
        raise BudgetError(
            f"{manifest.name}: {'; '.join(violation.describe() for violation in exceeded)}",
            expected=f"a bundle within the budget {budget.name}",
            mend="; or ".join((*ways, f"a smaller student: edgeiqa plan --budget {budget.name}")),
        )


def _is_of_bytes(exceeded: Sequence[Violation]) -> bool:
    return any(violation.quantity == "size_bytes" for violation in exceeded)


def _smaller_files(manifest: Manifest, size_bytes: int) -> tuple[str, ...]:
    """What would make the file smaller with the same network; nothing where all of it is INT8."""
    artefacts = [artefact for member in manifest.members for artefact in member.artefacts]
    ways = []
    # TensorRT's FP32 graphs are written as they are built from.
    whole = [
        one for one in artefacts if (one.precision, one.stored_as) == ("fp32", "fp32") and one.target != "tensorrt"
    ]
    if whole:
        saved = sum(manifest.parts[name].size_bytes for name in {name for one in whole for name in one.files}) // 2
        about = format_amount(Amount("bytes", max(size_bytes - saved, 0)))
        ways.append(f"weights of half the bytes, --store fp16 (about {about})")
    if any(one.precision != "int8" for one in artefacts):
        ways.append("weights of a quarter of FP32's bytes, --precision int8 alone")
    return tuple(ways)


def _known(manifest: Manifest, size_bytes: int, budget: Budget) -> dict[Quantity, int]:
    # The artefacts of a member are one network in several forms.
    costs = [member.artefacts[0] for member in manifest.members]
    macs = [cost.macs for cost in costs if cost.macs is not None]
    parameters = [cost.parameters for cost in costs if cost.parameters is not None]
    known: dict[Quantity, int] = {"size_bytes": size_bytes}
    # Of a graph there are strict counts only.
    if len(macs) == len(costs) and budget.convention == "strict":
        known["macs"] = sum(macs)
    if len(parameters) == len(costs):
        known["parameters"] = sum(parameters)
    return known


def _hold(
    members: Sequence[Trained],
    subject: str,
    known: Mapping[Quantity, int],
    budget: Budget,
    *,
    smaller: tuple[str, ...] = (),
) -> None:
    exceeded = budget.exceeded_by(known)
    if not exceeded:
        return
    from ..compress.budget_check import LEAST_BYTES_A_PARAMETER, ways_out

    size_bytes, parameters = known.get("size_bytes", 0), known.get("parameters", 0)
    system = members[0].network.system
    each = size_bytes / parameters if size_bytes and parameters else LEAST_BYTES_A_PARAMETER
    ways: tuple[str, ...] = ways_out(system, budget, members=len(members), bytes_a_parameter=each)
    if _is_of_bytes(exceeded):
        ways = (*smaller, *ways)
    raise BudgetError(
        f"{subject}: {'; '.join(violation.describe() for violation in exceeded)}",
        expected=f"a bundle within the budget {budget.name}",
        mend="; or ".join(ways),
    )


def _names(members: Sequence[Trained]) -> str:
    return members[0].name if len(members) == 1 else f"{len(members)} members"
