"""The page of a teach run: how its members learned, and how their scores agree with opinions.

Figures are given, not computed: the page shows what the run recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from ...profiles.member_choice import How, MemberChoice
from ...profiles.metrics import Interval
from ...runtime.score_map import ScoreMap
from .charts import Points, intervals, loss_curves, loss_panels, scatter, score_maps
from .page import Figure, Section, Table, render_page
from .text import number, sentence, term_words

__all__ = ["AccuracyRow", "MemberCurve", "OutOfFold", "accuracy_table", "curves_by_term", "teach_page"]

# What a line of the log counts by, and how long it took: no curves.
_NOT_CURVES = ("epoch", "step", "seconds")

_FEWER = ("members", "kept", "SRCC", "PLCC", "RMSE", "GMACs")
_HOW: dict[How, str] = {
    "greedy": "Greedy: each line adds the member that helps most.",
    "exhaustive": "Exhaustive: each line is the best of all sets of so many members.",
}
_FLATTERED = (
    "Of an ensemble of fewer members the score is the mean of theirs. The members were chosen on the photographs that "
    "judge them here, which flatters these figures: those for documentation are of other photographs.\n\n"
    "edgeiqa export RUN --members 2 makes a bundle of the two of the greedy choice; --members best, of its best ones."
)


@dataclass(frozen=True, slots=True)
class MemberCurve:
    """What a member logged.

    Attributes:
        name: of the member.
        fold: that it left out.
        epochs: a line an epoch: ``epoch`` or ``step``, and a value by the name of each term.
    """

    name: str
    fold: int
    epochs: Sequence[Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """A photograph as the member saw it that was not trained on it.

    Attributes:
        image: its name.
        mos: on the outer scale.
        fold: that it is in.
        member: that judged it.
        raw: output of the network.
        score: of the member's map, on the outer scale.
    """

    image: str
    mos: float
    fold: int
    member: str
    raw: float
    score: float


class AccuracyRow(TypedDict):
    """A line of figures: of what, on how many photographs; None or not finite where a figure is not known."""

    of: str
    n: int
    srcc: float | Interval | None
    plcc: float | Interval | None
    rmse: float | Interval | None


def teach_page(
    title: str,
    *,
    summary: str,
    curves: Sequence[MemberCurve],
    out_of_fold: Sequence[OutOfFold],
    maps: Mapping[str, ScoreMap],
    fold_figures: Sequence[AccuracyRow],
    selection_figures: Sequence[AccuracyRow],
    facts: Mapping[str, str],
    choices: Sequence[MemberChoice] = (),
) -> str:
    """The report of a teach run as HTML.

    Args:
        title: of the page.
        summary: what came of it, in a sentence or two.
        curves: of each member, in order.
        out_of_fold: every training photograph, judged by the member that left it out.
        maps: score map of each member, from its raw output to the outer scale.
        fold_figures: of each fold, their average, and all out-of-fold scores pooled.
        selection_figures: of each member and the ensemble on the selection part, with intervals.
        facts: what was run: data, seed, recipe, versions; may be empty.
        choices: of fewer members, by their scores of the selection part; empty where there are none to choose from.

    Returns:
        The page, for `write_page`.
    """
    sections = [
        _learning(curves),
        _held_out(out_of_fold, fold_figures),
        _selection(selection_figures),
        *([_fewer(choices)] if choices else []),
        _maps(out_of_fold, maps),
    ]
    if facts:
        sections.append(Section("The run", tables=[Table("What was run.", ("what", "value"), list(facts.items()))]))
    return render_page(title, sections, summary=summary)


def curves_by_term(curves: Sequence[MemberCurve]) -> tuple[dict[str, dict[str, Points]], str]:
    """Points by term and member, and what they are counted by (``epoch`` where the log has it, else ``step``)."""
    lines = [line for curve in curves for line in curve.epochs]
    counted = "step" if lines and all("epoch" not in line for line in lines) else "epoch"
    terms = dict.fromkeys(name for line in lines for name in line if name not in _NOT_CURVES)
    points: dict[str, dict[str, Points]] = {
        term: {
            curve.name: [
                (line.get(counted, float(place)), line[term]) for place, line in enumerate(curve.epochs) if term in line
            ]
            for curve in curves
        }
        for term in terms
    }
    return points, counted


def accuracy_table(caption: str, rows: Sequence[AccuracyRow]) -> Table:
    """A table of figures, with their intervals where they have them."""
    cells = [
        (row["of"], f"{row['n']:,}", number(row["srcc"]), number(row["plcc"]), number(row["rmse"], 2)) for row in rows
    ]
    return Table(caption, ("of", "images", "SRCC", "PLCC", "RMSE"), cells)


def _learning(curves: Sequence[MemberCurve]) -> Section:
    points, counted = curves_by_term(curves)
    empty = [curve.name for curve in curves if not curve.epochs]
    left_out = "; ".join(f"{curve.name} leaves out fold {curve.fold}" for curve in curves)
    text = f"One line for each member. {left_out}."
    if not points:
        text = "No member has logged anything."
    elif empty:
        text += f" Nothing is logged of {', '.join(empty)}."
    drawn = loss_panels(points, x_label=counted)
    return Section(
        "Learning", text, [Figure(svg, sentence(f"{term_words(term)} by {counted}")) for term, svg in drawn.items()]
    )


def _held_out(rows: Sequence[OutOfFold], figures: Sequence[AccuracyRow]) -> Section:
    folds = sorted({row.fold for row in rows})
    ordered = [row for fold in folds for row in rows if row.fold == fold]
    svg = scatter([row.score for row in ordered], [row.mos for row in ordered], [f"fold {row.fold}" for row in ordered])
    caption = f"MOS against the out-of-fold score of {len(rows):,} photographs. On the dashed line both agree."
    return Section(
        "Out of fold",
        "Each training photograph is judged by the member that was not trained on it.",
        [Figure(svg, caption)],
        [accuracy_table("Accuracy out of fold. RMSE is in score points.", figures)],
    )


def _selection(figures: Sequence[AccuracyRow]) -> Section:
    known = {row["of"]: row["srcc"] for row in figures if isinstance(row["srcc"], Interval)}
    caption = "SRCC on the selection part, with its interval."
    chart = [Figure(intervals(known, x_label="SRCC"), caption)] if known else []
    return Section(
        "Selection part",
        "Photographs that no member was trained on and no score map was fitted on.",
        chart,
        [accuracy_table("Accuracy on the selection part, with bootstrap intervals. RMSE is in score points.", figures)],
    )


def _fewer(choices: Sequence[MemberChoice]) -> Section:
    points: dict[str, Points] = {
        choice.how: [(float(len(kept.members)), kept.accuracy.srcc.value) for kept in choice.curve]
        for choice in choices
    }
    tables = [Table(f"{_HOW[choice.how]} RMSE is in score points.", _FEWER, _kept_rows(choice)) for choice in choices]
    svg = loss_curves(points, x_label="members", y_label="SRCC on the selection part", log=False)
    return Section("Fewer members", _FLATTERED, [Figure(svg, "SRCC of the best members found of each number.")], tables)


def _kept_rows(choice: MemberChoice) -> list[tuple[str, ...]]:
    return [
        (
            f"{len(kept.members)}{' (best)' if kept == choice.chosen else ''}",
            ", ".join(kept.members),
            number(kept.accuracy.srcc),
            number(kept.accuracy.plcc),
            number(kept.accuracy.rmse, 2),
            number(None if kept.macs is None else kept.macs / 1e9),
        )
        for kept in choice.curve
    ]


def _maps(rows: Sequence[OutOfFold], maps: Mapping[str, ScoreMap]) -> Section:
    fitted = {}
    for name, score_map in maps.items():
        own = [row for row in rows if row.member == name]
        fitted[name] = (np.array([row.raw for row in own]), np.array([row.mos for row in own]), score_map)
    figures = [
        Figure(svg, f"{name}{': fitted on ' + maps[name].fitted_on if maps[name].fitted_on else ''}.")
        for name, svg in score_maps(fitted).items()
    ]
    text = "From a member's raw output to the scale of the opinions, over the photographs that it was not trained on."
    return Section("Score maps", text if figures else "The members have no score maps.", figures)
