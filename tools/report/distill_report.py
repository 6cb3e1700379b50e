"""The page of a distillation: how the student learned, and how it orders photographs beside its teacher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from .charts import Bar, bars_with_limits, loss_panels, scatter
from .page import Figure, Section, Table, render_page
from .teach_report import AccuracyRow, MemberCurve, accuracy_table, curves_by_term
from .text import sentence, term_words

__all__ = ["TeacherStudent", "distill_page", "training_figures"]


@dataclass(frozen=True, slots=True)
class TeacherStudent:
    """An image as teacher and student score it.

    Attributes:
        image: its name.
        teacher: score on the outer scale.
        student: likewise.
        kind: of image: ``photograph``, or the kind of its distortion.
    """

    image: str
    teacher: float
    student: float
    kind: str = "photograph"


def distill_page(
    title: str,
    *,
    summary: str,
    training: Sequence[Mapping[str, float]],
    pairs: Sequence[TeacherStudent],
    figures: Sequence[AccuracyRow],
    agreement: Sequence[AccuracyRow],
    budget: Sequence[Bar],
    facts: Mapping[str, str],
) -> str:
    """The report of a distillation as HTML.

    Args:
        title: of the page.
        summary: what came of it, in a sentence or two.
        training: lines of the log: ``step`` or ``epoch``, and a value by the name of each loss.
        pairs: images that the student was not trained on, with both scores.
        figures: of student and teacher against opinions; may be empty.
        agreement: of the student against the teacher's scores; may be empty.
        budget: the student beside its limits; may be empty.
        facts: what was run: teacher, student, input size, losses' weights, seed, versions; may be empty.

    Returns:
        The page, for `write_page`.
    """
    sections = [
        Section(
            "Learning",
            "One panel for each value of the log." if training else "Nothing is logged of the training.",
            training_figures(training),
        ),
        _ranks(pairs, agreement),
    ]
    if figures:
        caption = "Accuracy against opinions, with intervals where they are known. RMSE is in score points."
        sections.append(Section("Accuracy", tables=[accuracy_table(caption, figures)]))
    if budget:
        chart = Figure(bars_with_limits(budget), "The student beside its limits.")
        sections.append(Section("Budget", figures=[chart]))
    if facts:
        sections.append(Section("The run", tables=[Table("What was run.", ("what", "value"), list(facts.items()))]))
    return render_page(title, sections, summary=summary)


def training_figures(training: Sequence[Mapping[str, float]]) -> list[Figure]:
    """A panel for each term of the log of one network."""
    points, counted = curves_by_term([MemberCurve(name="student", fold=0, epochs=training)])
    return [
        Figure(svg, sentence(f"{term_words(term)} by {counted}"))
        for term, svg in loss_panels(points, x_label=counted).items()
    ]


def _ranks(pairs: Sequence[TeacherStudent], agreement: Sequence[AccuracyRow]) -> Section:
    judged = [pair for pair in pairs if np.isfinite([pair.teacher, pair.student]).all()]
    ordered = sorted(judged, key=lambda pair: pair.kind)
    svg = scatter(
        rankdata([pair.student for pair in ordered]),
        rankdata([pair.teacher for pair in ordered]),
        [pair.kind for pair in ordered],
        x_label="student's rank",
        y_label="teacher's rank",
    )
    text = "Images that the student was not trained on, ranked by each; rank 1 is the lowest score."
    if len(judged) < len(pairs):
        text += f" {len(pairs) - len(judged)} of {len(pairs)} have no finite score and are left out."
    tables = [accuracy_table("The student against the teacher's scores.", agreement)] if agreement else []
    caption = f"Teacher's against student's rank of {len(judged):,} images. On the dashed line both agree."
    return Section("Student beside teacher", text, [Figure(svg, caption)], tables)
