"""The parts of a profile's page that look beyond what was measured: what else would fit, and what accuracy costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...compress.known_accuracy import QualityFigure
from .page import Figure, Section, Table
from .plan_charts import Choice, pareto
from .plan_report import plan_sections, plan_summary, quality_section
from .text import number

if TYPE_CHECKING:
    # It loads torch, and this page is made where there is none.
    from ...compress.plan import Plan

__all__ = ["Outlook", "OwnFigure", "accuracy_sections", "outlook_sections"]

THIS_BUNDLE = "this bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFigure:
    """How well a member of the bundle agrees with people, as the bundle itself tells.

    Attributes:
        member: its name.
        data: that it was judged on.
        photographs: how many these were.
        srcc: Spearman's correlation.
        macs: strict multiply-adds of a photograph; None where the bundle does not tell.
    """

    member: str
    data: str
    photographs: int
    srcc: float
    macs: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What else a budget leaves, and what is known of accuracy. What there is not says why.

    Attributes:
        plan: of the budget; None for none.
        go_on: the command that makes its recommended row; empty for none.
        no_plan: why there is none, with the command that mends it; paragraphs.
        here: the bundle in GMACs and per cent of the pixels of the plan's photographs that it sees; None where it is
            not known.
        top1: backbones: GMACs and ImageNet top-1 at the size of that figure, by family.
        no_top1: why there are none.
        known: agreement with people that comes with its source.
        own: what the bundle tells of its members.
    """

    plan: Plan | None = None
    go_on: str = ""
    no_plan: str = ""
    here: Choice | None = None
    top1: Sequence[Choice] = ()
    no_top1: str = ""
    known: Sequence[QualityFigure] = ()
    own: Sequence[OwnFigure] = ()


def outlook_sections(outlook: Outlook) -> list[Section]:
    """The plan of the budget, and accuracy against cost."""
    if outlook.plan is None:
        sections = [Section("What else would fit", outlook.no_plan)]
    else:
        first, *others = plan_sections(
            outlook.plan, marked=[] if outlook.here is None else [outlook.here], sortable=True
        )
        text = plan_summary(outlook.plan, go_on=outlook.go_on) + f"\n\n{first.text}"
        sections = [
            Section("What else would fit: the Pareto front", text, first.figures, first.tables, first.gallery),
            *others,
        ]
    return [*sections, *accuracy_sections(outlook)]


def accuracy_sections(outlook: Outlook) -> list[Section]:
    """Agreement with people against cost, and the backbones' own accuracy against theirs."""
    points = [
        Choice(
            f"{figure.backbone}, {figure.dataset}, {figure.photographs} photographs",
            f"{figure.dataset}, {figure.photographs} photographs",
            figure.macs / 1e9,
            figure.srcc,
        )
        for figure in outlook.known
        if figure.macs is not None and figure.srcc > 0
    ]
    own = [
        Choice(figure.member, f"members of {THIS_BUNDLE}", figure.macs / 1e9, figure.srcc)
        for figure in outlook.own
        if figure.macs and figure.srcc > 0
    ]
    figures = [
        Figure(
            pareto(points, marked=own, y_label="SRCC with people"),
            "Agreement with people's scores against multiply-adds. Compare within a data set: each has photographs and "
            "people of its own.",
        )
    ]
    if outlook.top1:
        svg = pareto(outlook.top1, x_label="GMACs", y_label="ImageNet top-1, %")
        figures.append(
            Figure(
                svg,
                "Backbones: ImageNet accuracy of the weights a student starts from, against the multiply-adds at the "
                "size of that figure. No accuracy of image quality.",
            )
        )
    without = [figure for figure in outlook.known if figure.macs is None or figure.srcc <= 0]
    words = [
        "Only what was measured or published is drawn, with its source below; nothing is estimated.",
        ""
        if outlook.own
        else "The bundle's manifest has no figures of accuracy: edgeiqa evaluate measures them on your photographs.",
        f"{len(without)} of {len(outlook.known)} figures are in the table alone: the multiply-adds are not known."
        if without
        else "",
        "" if outlook.top1 else outlook.no_top1,
    ]
    tables = []
    if outlook.own:
        data = "; ".join(dict.fromkeys(figure.data for figure in outlook.own))
        tables.append(
            Table(
                f"What the bundle's manifest tells of its members: {data}.",
                ("member", "SRCC", "photographs", "GMACs"),
                [
                    [
                        figure.member,
                        number(figure.srcc),
                        str(figure.photographs),
                        number(None if figure.macs is None else figure.macs / 1e9),
                    ]
                    for figure in outlook.own
                ],
            )
        )
    sections = [Section("Accuracy against cost", "\n\n".join(word for word in words if word), figures, tables)]
    if outlook.known:
        order = sorted(outlook.known, key=lambda figure: (figure.dataset, figure.backbone, -figure.srcc))
        sections.append(quality_section(order))
    return sections
