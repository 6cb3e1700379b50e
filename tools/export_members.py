"""``export --members``: fewer members of a teach run, by how many, by name, or as many as score best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import BudgetError, DataError, UsageError
from .runs import RUN_NAME, read_run
from .selection_table import SelectionScores, read_selection
from .show import say

if TYPE_CHECKING:
    from ..profiles.budget import Budget
    from ..profiles.cost import Convention, Cost
    from .export_test_time import ViewImages

__all__ = ["Within", "keep_members", "refuse_members"]

_BEST = "best"


@dataclass(frozen=True, kw_only=True, slots=True)
class Within:
    """What members that are chosen keep within.

    Attributes:
        budget: whose multiply-adds and bytes; None for no limit.
        images: that are cut of each view at test time, all of which are counted; None for the view alone.
        bytes_a_weight: of the file (`export_budget.bytes_a_weight`).
    """

    budget: Budget | None = None
    images: ViewImages | None = None
    bytes_a_weight: int = 4


def refuse_members(members: str | None, source: str) -> None:
    """Refuse ``--members`` for what is no teach run of several members.

    Raises:
        UsageError: it is given.
    """
    if members is not None:
        raise UsageError(
            f"--members {members} with {source}",
            expected="it with one teach run of several members",
            mend="name such a run's folder, or leave --members out",
        )


def keep_members(run: Path, folders: Sequence[Path], members: str, within: Within) -> list[Path]:
    """The checkpoints of a teach run that ``--members`` keeps; they are said, with their SRCC on the selection part.

    Args:
        run: its folder.
        folders: its checkpoints, each named as its member.
        members: how many: those that forward selection takes on the run's selection part, within the limits. Or their
            names with commas between. Or ``best``: as many as score best there.
        within: the limits of what is chosen.

    Returns:
        Some of ``folders``: chosen ones in their order, named ones as they are named.

    Raises:
        UsageError: it is no teach run of several members, has no such member, or fewer of them.
        BudgetError: so many are not within the budget.
        ModelError, RecordError: of such members no such images can be cut.
        DataError: the run's table of scores cannot be read, or nothing can be chosen by it.
    """
    if not ((run / RUN_NAME).is_file() and read_run(run).kind == "teach"):
        refuse_members(members, f"{run}, no teach run")
    if len(folders) < 2:
        refuse_members(members, f"{run}, a run of one member")
    if members == _BEST or members.isdecimal():
        return _chosen(run, folders, members, within)
    by_name = {folder.name: folder for folder in folders}
    names = [name.strip() for name in members.split(",")]
    unknown = [name for name in names if name not in by_name]
    if unknown or len(set(names)) < len(names):
        what = f"no member {', '.join(map(repr, unknown))} in {run}" if unknown else "a member twice"
        raise UsageError(
            f"--members {members}: {what}",
            expected=f"a number, best, or some of {','.join(by_name)}, each once",
            mend="correct it",
        )
    _say_kept(run, names, len(folders), _figures(run, folders, names))
    return [by_name[name] for name in names]


def _chosen(run: Path, folders: Sequence[Path], members: str, within: Within) -> list[Path]:
    from ..profiles.member_choice import choose_members

    count = None if members == _BEST else int(members)
    if count is not None and not 1 <= count <= len(folders):
        raise UsageError(
            f"--members {members} of {run}",
            expected=f"1 to {len(folders)}, the members that it has",
            mend="correct it, or write best",
        )
    known = _scores(run, folders)
    budget = within.budget
    if budget is None or (budget.macs is None and budget.size_bytes is None):
        choice = choose_members(known.names, known.scores, known.mos)
    else:
        costs = _costs(known.names, folders, within, budget.convention)
        choice = choose_members(
            *(known.names, known.scores, known.mos),
            macs=[cost.macs for cost in costs],
            size_bytes=[within.bytes_a_weight * cost.parameters for cost in costs],
            most_macs=budget.macs,
            most_size_bytes=budget.size_bytes,
        )
    if count is not None and count > len(choice.curve):
        raise BudgetError(
            f"--members {members}, of which forward selection takes {len(choice.curve)} within "
            f"{'the budget' if budget is None else budget.name}",
            expected="a number of members that the budget lets be",
            mend=f"--members {len(choice.curve)}, --members best, or a larger budget",
        )
    kept = choice.chosen if count is None else choice.curve[count - 1]
    srcc = kept.accuracy.srcc
    said = f"{srcc.value:.3f} ({srcc.low:.3f} to {srcc.high:.3f})"
    _say_kept(run, kept.members, len(folders), f"{said}, {_of_all(known)}; chosen there, it is flattered")
    return [folder for folder in folders if folder.name in kept.members]


def _say_kept(run: Path, names: Sequence[str], count: int, srcc: str) -> None:
    say(f"kept of {run.name}: {', '.join(names)} ({len(names)} of {count}); SRCC on the selection part: {srcc}")


def _figures(run: Path, folders: Sequence[Path], names: Sequence[str]) -> str:
    """Of members that were named: only told, so what is not known is no reason to refuse."""
    from ..profiles.metrics import srcc

    try:
        known = _scores(run, folders)
        rows = [known.names.index(name) for name in names]
        return f"{srcc(known.scores[rows].mean(axis=0), known.mos):.3f}, {_of_all(known)}"
    except DataError as error:
        return f"not known, {error.got}"


def _of_all(known: SelectionScores) -> str:
    from ..profiles.metrics import srcc

    return f"of all {len(known.names)} {srcc(known.scores.mean(axis=0), known.mos):.3f}"


def _scores(run: Path, folders: Sequence[Path]) -> SelectionScores:
    known = read_selection(run)
    if sorted(known.names) != sorted(folder.name for folder in folders):
        raise DataError(
            f"{run}, whose selection part was scored by {', '.join(known.names)}",
            expected=f"scores of its members {', '.join(folder.name for folder in folders)}",
            mend=f"write them again: edgeiqa teach --resume {run}",
        )
    return known


def _costs(names: Sequence[str], folders: Sequence[Path], within: Within, convention: Convention) -> list[Cost]:
    """Of each member on all its images; loaded one at a time, as they may be large."""
    from .export_budget import count_members
    from .packing import load_trained

    costs = {}
    for folder in folders:
        member = load_trained([folder])
        if within.images is not None:
            from .export_test_time import several_images

            member = several_images(member, within.images)
        costs[folder.name] = count_members(member, convention)
    return [costs[name] for name in names]
