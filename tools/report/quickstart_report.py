"""The page of quickstart: pictures with their scores, and what so short a run shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .charts import Bar, Severities, bars_with_limits, severity_curves
from .distill_report import training_figures
from .page import Figure, Picture, Section, Table, render_page

__all__ = ["ScoredPicture", "quickstart_page"]


@dataclass(frozen=True, slots=True)
class ScoredPicture:
    """A photograph with its scores.

    Attributes:
        name: of its file.
        data_uri: as `edgeiqa.tools.thumbnails.thumbnail` makes it.
        teacher: score on the outer scale.
        student: likewise.
        credit: photographer and licence; empty where none is due.
        note: what else is to be said of it, such as that it was held out.
    """

    name: str
    data_uri: str
    teacher: float
    student: float
    credit: str = ""
    note: str = ""


def quickstart_page(
    title: str,
    *,
    summary: str,
    pictures: Sequence[ScoredPicture],
    distorted: Sequence[ScoredPicture] = (),
    training: Sequence[Mapping[str, float]],
    severities: Mapping[str, Severities],
    budget: Sequence[Bar],
    facts: Mapping[str, str],
    limits: str,
) -> str:
    """The report of quickstart as HTML.

    Args:
        title: of the page.
        summary: what was done, in a sentence or two.
        pictures: in order, with both scores.
        distorted: versions of the photograph that the severities are of; may be empty.
        training: lines of the log: ``step`` or ``epoch``, and a value by the name of each loss.
        severities: by kind of distortion, severity and both scores.
        budget: the student beside its limits; may be empty.
        facts: budget, exported size, parity, latency and memory, by name.
        limits: what so short a run can and cannot show; paragraphs parted by an empty line.

    Returns:
        The page, for `write_page`.
    """
    curves = [
        Figure(svg, f"Score against the severity of {kind}; severity 0 is the photograph as it is.")
        for kind, svg in severity_curves(severities).items()
    ]
    chart = [Figure(bars_with_limits(budget), "The student beside its limits.")] if budget else []
    sections = [
        Section("What this shows, and what it does not", limits),
        Section(
            "Photographs",
            "Scores are from 0 to 100; higher is better." if pictures else "No photographs were scored.",
            gallery=[_picture(picture) for picture in pictures],
        ),
        Section(
            "Score against severity",
            "A score should fall as a distortion grows." if curves else "No distortion was tried.",
            curves,
            gallery=[_picture(picture) for picture in distorted],
        ),
        Section(
            "Learning",
            "The loss in training, and the student beside its teacher on what was held out."
            if training
            else "Nothing is logged of the training.",
            training_figures(training),
        ),
        Section(
            "The exported student",
            "",
            chart,
            [Table("Measured on this machine.", ("what", "value"), list(facts.items()))],
        ),
    ]
    return render_page(title, sections, summary=summary)


def _picture(picture: ScoredPicture) -> Picture:
    scores = f"teacher {picture.teacher:.1f}\nstudent {picture.student:.1f}"
    lines = [line for line in (picture.name, picture.note, scores, picture.credit) if line]
    return Picture(picture.data_uri, "\n".join(lines), alt=f"Photograph {picture.name}")
