"""Telling what came of ``quantize --sensitivity``: a table, JSON, a chart, a page, and the recipe that was found."""

from __future__ import annotations

from pathlib import Path

import click

from ..compress.run_files import write_record
from ..export.sensitivity import BlockSensitivity, SensitivityReport
from ..runtime.errors import GateError
from ..runtime.version import __version__
from .quantize_sensitivity import Sensitivity
from .show import print_json, print_table, say

__all__ = ["tell_sensitivity", "write_sensitivity"]


def write_sensitivity(found: Sensitivity, *, output: Path | None, plot: Path | None, html: Path | None) -> None:
    """Write what is asked for: the recipe where there is one, the chart as a PNG, the page.

    Raises:
        OSError: a file cannot be written.
    """
    if output is not None and found.recipe is not None:
        write_record(output, found.recipe)
    if plot is not None:
        from .report.sensitivity_charts import sensitivity_png

        partial = plot.with_name(f"{plot.name}.partial")
        partial.write_bytes(sensitivity_png(found.report))
        partial.replace(plot)
        say(str(plot))
    if html is not None:
        from .report.page import write_page
        from .report.sensitivity_report import sensitivity_page

        title = f"Sensitivity to INT8: {found.member}"
        write_page(html, sensitivity_page(title, report=found.report, search=found.search, facts=_facts(found)))
        say(str(html))


def _facts(found: Sensitivity) -> dict[str, str]:
    report, calibration = found.report, found.calibration
    return {
        "network": found.member,
        "recipe": f"{report.recipe.name}: {report.recipe.scheme} by {report.recipe.quantizer}",
        "engine": report.engine,
        "calibration images": f"{calibration.count}, seed {calibration.seed}",
        "views": ", ".join(f"{count} {kind}" for kind, count in report.distortions.items()),
        "photographs": found.source,
        "edgeiqa": __version__,
    }


def tell_sensitivity(found: Sensitivity, *, output: Path | None, as_json: bool) -> None:
    """Print the ranking, and what the search found.

    Args:
        found: what came of it.
        output: of the recipe.
        as_json: for machines.

    Raises:
        GateError: there was a search, and not even all blocks float pass; the report is printed before.
    """
    if as_json:
        written = None if found.recipe is None else str(output)
        print_json({**{name: getattr(found, name) for name in Sensitivity.__slots__}, "output": written})
    else:
        _show(found.report, found.member)
        if found.recipe is not None and found.search is not None:
            _show_recipe(found, output)
    if found.search is not None and found.recipe is None:
        raise GateError(
            f"{found.member}: the rank gate fails with every choice of float blocks that was tried, all of them among "
            "these",
            expected="one that passes",
            mend="judge by more photographs (--images), or fine-tune: edgeiqa quantize --aware; no recipe was written",
        )


def _show(report: SensitivityReport, member: str) -> None:
    print_table(
        ["block", "MACs", "alone", "(largest)", "shift", "all but it", "(largest)", "taken away", "alone, worst"],
        [_row(block) for block in report.blocks],
        title=f"{member} by {report.recipe.name}, score points (RMS) from FP32 on {report.views} views: "
        f"all quantized {report.whole_rmse:.2f} (largest {report.whole_largest:.2f}), shift {report.whole_shift:+.2f}",
    )


def _row(block: BlockSensitivity) -> list[str]:
    worst = max(block.alone_by_distortion, key=block.alone_by_distortion.__getitem__)
    return [
        block.block,
        f"{block.macs_share:.1%}",
        f"{block.alone_rmse:.2f}",
        f"({block.alone_largest:.2f})",
        f"{block.alone_shift:+.2f}",
        f"{block.without_rmse:.2f}",
        f"({block.without_largest:.2f})",
        f"{block.gain:+.2f}",
        f"{worst} {block.alone_by_distortion[worst]:.2f}",
    ]


def _show_recipe(found: Sensitivity, output: Path | None) -> None:
    assert found.search is not None and found.search.float_blocks is not None
    kept = found.search.float_blocks
    share = sum(block.macs_share for block in found.report.blocks if block.block in kept)
    what = f"float: {', '.join(kept)} ({share:.1%} of the multiply-adds)" if kept else "no block need be float"
    say(f"{what}; sets of blocks tried: {len(found.search.tries)}")
    say(f"edgeiqa export --precision int8 --recipe {output}")
    click.echo(output)
