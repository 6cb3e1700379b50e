"""``export --members``: fewer members of a teach run, by how many, by name, or as many as score best."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import BudgetError, DataError, UsageError
from .runs import RUN_NAME, read_run
from .selection_table import SelectionScores, read_selection
from .show import say

if TYPE_CHECKING:
    from ..profiles.budget import Budget

__all__ = ["keep_members", "refuse_members"]

_BEST = "best"


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


def keep_members(run: Path, folders: Sequence[Path], members: str, budget: Budget | None) -> list[Path]:
    """The checkpoints of a teach run that ``--members`` keeps; they are said, with their SRCC on the selection part.

    Args:
        run: its folder.
        folders: its checkpoints, each named as its member.
        members: how many: those that forward selection takes on the run's selection part, within the budget. Or their
            names with commas between. Or ``best``: as many as score best there.
        budget: whose multiply-adds they keep, if they are chosen; None for no limit.

    Returns:
        Some of ``folders``: chosen ones in their order, named ones as they are named.

    Raises:
        UsageError: it is no teach run of several members, has no such member, or fewer of them.
        BudgetError: so many are not within the budget.
        DataError: the run's table of scores cannot be read, or nothing can be chosen by it.
    """
    if not ((run / RUN_NAME).is_file() and read_run(run).kind == "teach"):
        refuse_members(members, f"{run}, no teach run")
    if len(folders) < 2:
        refuse_members(members, f"{run}, a run of one member")
    if members == _BEST or members.isdecimal():
        return _chosen(run, folders, members, budget)
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


def _chosen(run: Path, folders: Sequence[Path], members: str, budget: Budget | None) -> list[Path]:
    from ..profiles.member_choice import choose_members

    count = None if members == _BEST else int(members)
    if count is not None and not 1 <= count <= len(folders):
        raise UsageError(
            f"--members {members} of {run}",
            expected=f"1 to {len(folders)}, the members that it has",
            mend="correct it, or write best",
        )
    known = _scores(run, folders)
    limit = None if budget is None else budget.macs
    macs = None if budget is None or limit is None else _macs(known.names, folders, budget)
    choice = choose_members(known.names, known.scores, known.mos, macs=macs, most_macs=limit)
    if count is not None and count > len(choice.curve):
        raise BudgetError(
            f"--members {members}, of which forward selection takes {len(choice.curve)} within the multiply-adds of "
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


def _macs(names: Sequence[str], folders: Sequence[Path], budget: Budget) -> list[int]:
    """Multiply-adds of each member in the budget's convention; loaded one at a time, as they may be large."""
    from .export_budget import count_members
    from .packing import load_trained

    macs = {folder.name: count_members(load_trained([folder]), budget.convention).macs for folder in folders}
    return [macs[name] for name in names]
