"""The pages of runs: what `teach` and `distill` leave, written out by `report`."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.version import __version__
from .report.budget_bars import budget_bars
from .report.distill_report import TeacherStudent, distill_page
from .report.page import write_page
from .report.teach_report import AccuracyRow, MemberCurve, OutOfFold, teach_page
from .selection_table import read_selection

if TYPE_CHECKING:
    from ..compress.distill_records import DistillRecipe, DistillReport, Transfer
    from ..compress.teach_records import TeachRecipe, TeachReport
    from ..profiles.budget import Budget
    from ..profiles.member_choice import How, MemberChoice
    from ..profiles.metrics import Accuracy

__all__ = ["PAGE", "write_distill_page", "write_teach_page"]

PAGE = "report.html"
# Members of which the page looks at all subsets.
_MOST_EXHAUSTIVE = 12


def write_teach_page(folder: Path, recipe: TeachRecipe, report: TeachReport) -> None:
    """Write ``report.html`` of a teach run."""
    from ..compress.checkpoint import read_record
    from ..compress.teach import MEMBERS, OUT_OF_FOLD

    records = {one.member: read_record(folder / MEMBERS / one.member) for one in report.members}
    folds = {one.member: one.fold for one in report.members}
    rows = [_row(f"{one.member} (fold {one.fold})", one.out_of_fold) for one in report.members]
    average = AccuracyRow(of="average", n=report.pooled.n, **report.average)  # type: ignore[typeddict-item]
    with (folder / OUT_OF_FOLD).open(newline="", encoding="utf-8") as file:
        judged = [
            OutOfFold(
                image=line["image"],
                mos=float(line["mos"]),
                fold=int(line["fold"]),
                member=line["member"],
                raw=float(line["raw"]),
                score=float(line["score"]),
            )
            for line in csv.DictReader(file)
            if line["member"]
        ]
    page = teach_page(
        f"Teachers: {report.name}",
        summary=(
            f"{len(report.members)} members on {report.training} photographs. On the {report.selection} photographs of "
            f"the selection part, which none of them saw, the ensemble reaches SRCC {report.ensemble.srcc.value:.3f}; "
            f"the best member is {report.best_member}."
        ),
        curves=[
            MemberCurve(name=name, fold=folds[name], epochs=record.provenance["history"])
            for name, record in records.items()
        ],
        out_of_fold=judged,
        maps={name: record.score_map for name, record in records.items()},
        fold_figures=[*rows, average, _row("pooled", report.pooled)],
        selection_figures=[
            *(_row(one.member, one.selection) for one in report.members),
            _row("ensemble", report.ensemble),
        ],
        facts={
            "data": recipe.data.name or "not named",
            "split": recipe.data.split or "all rows",
            "folds": str(recipe.data.folds),
            "seed of the division": str(recipe.data.seed),
            "members": ", ".join(
                f"{one.name}: {one.backbone} {one.width}x{one.height}" for one in recipe.members if one.name in records
            ),
            "edgeiqa": __version__,
        },
        choices=_choices(folder, report),
    )
    write_page(folder / PAGE, page)


def write_distill_page(folder: Path, recipe: DistillRecipe, report: DistillReport, budget: Budget) -> None:
    """Write ``report.html`` of a distillation."""
    from ..compress.teach import SELECTION

    with (folder / SELECTION).open(newline="", encoding="utf-8") as file:
        pairs = [
            TeacherStudent(
                image=line["image"],
                teacher=float(line["teacher"]),
                student=float(line["student"]),
                kind=line["kind"] or "photograph",
            )
            for line in csv.DictReader(file)
            if line["teacher"]
        ]
    figures = [
        _row(name, accuracy)
        for name, accuracy in (("student", report.accuracy), ("teacher", report.teacher_accuracy))
        if accuracy is not None
    ]
    agreement = report.agreement
    page = distill_page(
        f"Student: {report.student}",
        summary=(
            f"Learned from {report.teacher} in {report.steps} steps on {report.items} items of {report.photographs} "
            f"photographs; {report.macs / 1e9:.3g} GMACs and {report.parameters / 1e6:.3g} M parameters."
        ),
        training=report.history,
        pairs=pairs,
        figures=figures,
        agreement=[]
        if agreement is None
        else [AccuracyRow(of="student", n=len(pairs), srcc=agreement, plcc=None, rmse=None)],
        budget=budget_bars(budget, {"macs": report.macs, "parameters": report.parameters}),
        facts={
            "teacher": report.teacher,
            "weights": type(recipe.weights).__name__,
            "held out": f"{report.heldout} photographs ({report.heldout_is})",
            "losses": ", ".join(
                f"{name} {getattr(recipe.losses, name):g}"
                for name in ("score", "mos", "feature", "cosine", "distance", "angle", "rank")
            ),
            "transfer": _transfer(recipe.transfer),
            "seed": str(recipe.seed),
            "edgeiqa": __version__,
        },
    )
    write_page(folder / PAGE, page)


def _choices(folder: Path, report: TeachReport) -> list[MemberChoice]:
    """Of fewer members, in both ways; in one where all subsets would take long, and none of a single member."""
    from ..profiles.member_choice import choose_members

    known = read_selection(folder)
    count = len(known.names)
    if count < 2:
        return []
    each = {one.member: one.macs for one in report.members}
    macs = [each[name] for name in known.names]
    ways: tuple[How, ...] = ("greedy", "exhaustive") if count <= _MOST_EXHAUSTIVE else ("greedy",)
    return [choose_members(known.names, known.scores, known.mos, macs=macs, how=how) for how in ways]


def _row(of: str, accuracy: Accuracy) -> AccuracyRow:
    return AccuracyRow(of=of, n=accuracy.n, srcc=accuracy.srcc, plcc=accuracy.plcc, rmse=accuracy.rmse)


def _transfer(plan: Transfer) -> str:
    ladder = f", each under every kind of distortion at {len(plan.ladder)} severities" if plan.ladder else ""
    return f"{plan.crops} crops{ladder}, {plan.distortions} drawn distortions of each photograph"
