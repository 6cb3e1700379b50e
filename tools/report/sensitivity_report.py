"""The page of a network's sensitivity to INT8."""

from __future__ import annotations

from collections.abc import Mapping

from ...export.auto_mixed import MixedSearch
from ...export.sensitivity import SensitivityReport
from .page import Figure, Section, Table, render_page
from .sensitivity_charts import sensitivity_svg
from .text import counted, number

__all__ = ["sensitivity_page"]


def sensitivity_page(
    title: str, *, report: SensitivityReport, search: MixedSearch | None, facts: Mapping[str, str]
) -> str:
    """The report of ``quantize --sensitivity`` as HTML.

    Args:
        title: of the page.
        report: the blocks, ranked.
        search: for the fewest blocks to keep float; None where there was none.
        facts: what was measured with what, by name.

    Returns:
        The page, for `write_page`.
    """
    summary = (
        f"With everything quantized scores are {report.whole_rmse:.2f} points from those of FP32 (root mean square), "
        f"at most {report.whole_largest:.2f}, on {counted(report.views, 'view')}, beside a shift of "
        f"{report.whole_shift:+.2f} that is alike for all and that a refit of the score map takes back."
    )
    kinds = list(report.distortions)
    by_kind = [
        [what, *(number(figures[kind], 2) for kind in kinds)]
        for what, figures in (
            ("everything quantized", report.whole_by_distortion),
            *((block.block, block.alone_by_distortion) for block in report.blocks),
        )
    ]
    left = [[block.block, *(number(block.without_by_distortion[kind], 2) for kind in kinds)] for block in report.blocks]
    sections = [
        Section(
            "Blocks",
            "Two errors of each block, in score points, less their mean, which is told apart as the shift: when it "
            "alone is quantized, and when all are but this one. What keeping it float takes away is the whole's error "
            "less the second; below 0 its error cancels others'.",
            [Figure(sensitivity_svg(report), "The blocks, by what keeping each float takes away.")],
            [_blocks(report)],
        ),
        Section(
            "By distortion",
            "",
            tables=[
                Table(
                    "Root mean square when the block alone is quantized, by the kind of distortion of the photographs.",
                    ("block", *(f"{kind} ({report.distortions[kind]})" for kind in kinds)),
                    by_kind,
                    sortable=True,
                ),
                Table("When all are quantized but the block.", ("block", *kinds), left, sortable=True),
            ],
        ),
        *([] if search is None else [_mixed(search, report)]),
        Section("Circumstances", "", tables=[Table("Of this measurement.", ("of", "what"), list(facts.items()))]),
    ]
    return render_page(title, sections, summary=summary)


def _blocks(report: SensitivityReport) -> Table:
    return Table(
        "The blocks, ranked. Errors are root mean squares, the largest beside them.",
        ("block", "% of multiply-adds", "alone", "at most", "shift", "all but it", "at most", "shift", "taken away"),
        [
            [
                block.block,
                number(100 * block.macs_share, 1),
                number(block.alone_rmse, 2),
                number(block.alone_largest, 2),
                number(block.alone_shift, 2),
                number(block.without_rmse, 2),
                number(block.without_largest, 2),
                number(block.without_shift, 2),
                number(block.gain, 2),
            ]
            for block in report.blocks
        ],
        sortable=True,
    )


def _mixed(search: MixedSearch, report: SensitivityReport) -> Section:
    kept = search.float_blocks
    if kept is None:
        words = "No choice passes the rank gate, not even all blocks float."
    elif not kept:
        words = "None need stay float: everything quantized passes the rank gate."
    else:
        share = sum(block.macs_share for block in report.blocks if block.block in kept)
        words = f"Float stay {', '.join(kept)}: {share:.1%} of the multiply-adds."
    rows = [
        [str(place), str(len(blocks)), ", ".join(blocks) or "none", "passed" if passed else "failed"]
        for place, (blocks, passed) in enumerate(search.tries, start=1)
    ]
    table = Table("Each was quantized anew and judged.", ("try", "float", "blocks", "rank gate"), rows)
    return Section("The fewest float blocks", words, tables=[table])
