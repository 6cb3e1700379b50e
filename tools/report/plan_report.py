"""The page of a plan: what a budget leaves, and which of it to take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...compress.known_accuracy import QualityFigure
from .page import Figure, Section, Table, render_page
from .plan_charts import Choice, pareto

if TYPE_CHECKING:
    # They load torch, and a page of a profile is made where there is none.
    from ...compress.plan import Plan
    from ...compress.plan_front import PlanRow

__all__ = ["family", "plan_page", "plan_sections", "plan_summary", "quality_section"]

_FAMILIES = {
    "convnextv2": "ConvNeXt V2",
    "convnext": "ConvNeXt",
    "mobilenetv3": "MobileNetV3",
    "mobilenetv4": "MobileNetV4",
    "tf_efficientnet_lite": "EfficientNet-Lite",
    "fastvit": "FastViT",
    "repvit": "RepViT",
    "ghostnetv2": "GhostNetV2",
    "nf_regnet": "NF-RegNet",
    "edgenext": "EdgeNeXt",
    "swin": "Swin",
    "vit": "ViT",
}


def family(backbone: str) -> str:
    """The family of a timm name, for people; the name's first word where it is of none that is known."""
    return next((name for prefix, name in _FAMILIES.items() if backbone.startswith(prefix)), backbone.partition("_")[0])


def plan_page(found: Plan, *, go_on: str) -> str:
    """The report of a plan as HTML.

    Args:
        found: the plan.
        go_on: the command that makes the recommended row; empty for none.

    Returns:
        The page, for `write_page`.
    """
    sections = plan_sections(found)
    figured = {figure for row in (*found.rows, *found.others) for figure in row.quality}
    if figured:
        sections.append(
            quality_section(sorted(figured, key=lambda figure: (figure.backbone, figure.dataset, -figure.srcc)))
        )
    return render_page("Plan", sections, summary=plan_summary(found, go_on=go_on))


def plan_summary(found: Plan, *, go_on: str) -> str:
    """What was looked at, what is left, and which row to go on with, as paragraphs."""
    width, height = found.image
    dropped = ", ".join(f"{count:,} by {quantity}" for quantity, count in found.dropped.items())
    chosen = None if found.recommended is None else found.rows[found.recommended]
    summary = (
        f"{found.considered:,} candidates for photographs of {width}x{height} under the budget {found.budget.name}: "
        f"{found.kept:,} within it, {found.considered - found.kept:,} dropped{f' ({dropped})' if dropped else ''}."
    )
    if chosen is not None:
        summary += f"\n\nTo go on with: {_name(chosen)}, {chosen.macs / 1e9:.4g} GMACs.\n\n{go_on}"
    if found.unplanned:
        summary += f"\n\nNot foretold, and not held: {', '.join(found.unplanned)}."
    return summary


def plan_sections(found: Plan, *, marked: Sequence[Choice] = (), sortable: bool = False) -> list[Section]:
    """The Pareto front as plots and a table, and the compromises of other ways to look.

    Args:
        found: the plan.
        marked: further points in GMACs and per cent of pixels seen, as `pareto` draws them.
        sortable: whether the tables sort.
    """
    rows = found.rows
    chosen = None if found.recommended is None else rows[found.recommended]
    limit = None if found.budget.macs is None else found.budget.macs / 1e9
    pixels = [Choice(_name(row), family(row.backbone), row.macs / 1e9, 100 * row.share) for row in rows]
    ringed = "" if chosen is None else f" Ringed: {_name(chosen)}."
    figures = [
        Figure(
            pareto(pixels, found.recommended, marked=marked, limit=limit),
            f"Pixels seen against multiply-adds, and the limit.{ringed}",
        )
    ]
    known = [row for row in rows if row.top1 is not None]
    top1 = [Choice(_name(row), family(row.backbone), 100 * row.share, row.top1 or 0.0) for row in known]
    at = known.index(chosen) if chosen in known and chosen is not None else None
    svg = pareto(top1, at, x_label="% of pixels seen", y_label="ImageNet top-1, %")
    figures.append(Figure(svg, "The two gains against each other: pixels seen, and the backbone."))
    sections = [
        Section(
            "The Pareto front",
            _HOW_TO_READ,
            figures,
            [_table("What no other row makes superfluous.", rows, chosen, sortable)],
        ),
    ]
    if found.others:
        caption = "Of each other view and number of members, the compromise of its own front."
        sections.append(Section("Other ways to look", tables=[_table(caption, found.others, None, sortable)]))
    return sections


_HOW_TO_READ = (
    "Of two rows the one is left out that has no fewer parameters, sees no more pixels and has no better backbone. "
    "Multiply-adds are what the budget is for: within it they decide only between rows that are equal otherwise.\n\n"
    "Top-1 is the backbone's accuracy on ImageNet with the weights a student starts from, no accuracy of image quality."
)
_COLUMNS = (
    "backbone",
    "view",
    "input",
    "members",
    "GMACs",
    "M parameters",
    "MB",
    "pixels seen",
    "ms",
    "top-1, %",
    "licence",
)


def _name(row: PlanRow) -> str:
    return f"{row.backbone} {row.width}x{row.height}"


def _table(caption: str, rows: tuple[PlanRow, ...], chosen: PlanRow | None, sortable: bool) -> Table:
    foretold = " A tilde: foretold and not counted." if not all(row.counted for row in rows) else ""
    latency = ", ".join(sorted({row.latency for row in rows}))
    return Table(
        f"{caption} Times of the networks alone: {latency}.{foretold}",
        _COLUMNS,
        [_cells(row, row == chosen) for row in rows],
        sortable,
    )


def _cells(row: PlanRow, chosen: bool) -> list[str]:
    return [
        f"{row.backbone}{' (chosen)' if chosen else ''}",
        row.view,
        f"{row.width}x{row.height}",
        str(row.members),
        f"{'' if row.counted else '~'}{row.macs / 1e9:.2f}",
        f"{row.parameters / 1e6:.2f}",
        "\n".join(f"{name} {size_bytes / 1e6:.1f}" for name, size_bytes in row.size_bytes.items()),
        f"{100 * row.share:.1f} %",
        f"{row.latency_ms:,.0f}",
        "not known" if row.top1 is None else f"{row.top1:.1f}",
        row.licence or "no weights",
    ]


def quality_section(figures: Sequence[QualityFigure]) -> Section:
    """Figures of agreement with people, each with its conditions and its source."""
    rows = []
    for figure in figures:
        plcc = "" if figure.plcc is None else f", PLCC {figure.plcc:.3f}"
        rows.append(
            [
                f"{figure.backbone}\n{figure.dataset}, {figure.photographs} photographs",
                f"SRCC {figure.srcc:.3f}{plcc}\n{figure.conditions}\n{figure.origin}: {figure.source}",
            ]
        )
    table = Table("Each with its source.", ("backbone and data", "what is known"), rows)
    return Section("What is known against people's scores", tables=[table])
