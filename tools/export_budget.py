"""A budget that an export is held to: before the export by the networks, and before anything is written by the file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from ..profiles.amounts import Amount, format_amount
from ..profiles.budget import Budget
from ..profiles.cost import Convention, Cost, count_module, total_cost
from ..profiles.measurement import Measurement, host_facts
from ..profiles.ptflops_cost import Backend, count_ptflops
from ..runtime.errors import BudgetError

if TYPE_CHECKING:
    from ..runtime.manifest import Manifest
    from .packing import Trained

__all__ = ["count_members", "hold_exported", "hold_members"]


def count_members(members: Sequence[Trained], convention: Convention = "strict") -> Cost:
    """What all members cost together: every view, every crop of it, every member."""
    import torch

    costs: dict[str, Cost] = {}
    for member in members:
        shapes = member.network.system.preprocess.shapes
        views = tuple(torch.zeros((1, *shape), dtype=torch.uint8) for shape in shapes.values())
        if convention == "strict":
            costs[member.name] = count_module(member.network, views, names=tuple(shapes))
        else:
            backend: Backend = "aten" if convention == "ptflops-aten" else "pytorch"
            costs[member.name] = count_ptflops(member.network, views, backend, names=tuple(shapes))
    return total_cost(costs)


def hold_members(members: Sequence[Trained], budget: Budget) -> Cost:
    """Hold the networks' multiply-adds and parameters to a budget, before the export.

    Returns:
        Their cost.

    Raises:
        BudgetError: they exceed a limit; the mend is the three ways out.
    """
    cost = count_members(members, budget.convention)
    _hold(
        members,
        Measurement(
            subject=_names(members),
            host=host_facts(),
            engine="torch",
            engine_version=version("torch"),
            precision="fp32",
            macs=cost.macs,
            parameters=cost.parameters,
            convention=cost.convention,
        ),
        budget,
    )
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
    # The artefacts of a member are one network in several forms.
    costs = [member.artefacts[0] for member in manifest.members]
    macs = [cost.macs for cost in costs if cost.macs is not None]
    parameters = [cost.parameters for cost in costs if cost.parameters is not None]
    _hold(
        members,
        Measurement(
            subject=manifest.name,
            host=host_facts(),
            engine="onnx",
            engine_version=version("onnx"),
            precision="fp32",
            size_bytes=size_bytes,
            macs=sum(macs) if len(macs) == len(costs) else None,
            parameters=sum(parameters) if len(parameters) == len(costs) else None,
        ),
        budget,
        stored_as_fp32=any(cost.stored_as == "fp32" for cost in costs),
    )


def _hold(members: Sequence[Trained], measured: Measurement, budget: Budget, *, stored_as_fp32: bool = False) -> None:
    exceeded = [violation for violation in budget.check(measured) if violation.kind == "exceeded"]
    if not exceeded:
        return
    from ..compress.budget_check import LEAST_BYTES_A_PARAMETER, ways_out

    size_bytes, parameters = measured.size_bytes or 0, measured.parameters or 0
    system = members[0].network.system
    each = size_bytes / parameters if size_bytes and parameters else LEAST_BYTES_A_PARAMETER
    ways: tuple[str, ...] = ways_out(system, budget, members=len(members), bytes_a_parameter=each)
    if stored_as_fp32 and any(violation.quantity == "size_bytes" for violation in exceeded):
        half = format_amount(Amount("bytes", size_bytes // 2))
        ways = (f"weights of half the bytes, --store fp16 (about {half})", *ways)
    raise BudgetError(
        f"{measured.subject}: {'; '.join(violation.describe() for violation in exceeded)}",
        expected=f"a bundle within the budget {budget.name}",
        mend="; or ".join(ways),
    )


def _names(members: Sequence[Trained]) -> str:
    return members[0].name if len(members) == 1 else f"{len(members)} members"
