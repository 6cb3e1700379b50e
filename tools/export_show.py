"""Printing what came of an export."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from ..export.kinds import LACKING
from ..runtime.manifest import Target
from .export_artefacts import ArtefactReport
from .export_steps import Exported
from .show import print_json, print_table, say

__all__ = ["tell_export"]


def tell_export(
    exported: Exported, path: Path, as_json: bool, started: float, *, lacking: Sequence[Target] = ()
) -> None:
    """Print the gates' reports, and where the bundle is.

    Args:
        exported: what came of it.
        path: of the bundle.
        as_json: for machines.
        started: by the performance counter.
        lacking: targets of which the precisions that cannot be made are named, too.
    """
    bundle = exported.bundle
    if as_json:
        print_json(
            {
                "bundle": None if bundle is None else str(path),
                "size_bytes": None if bundle is None else bundle.size_bytes,
                "gates": exported.parity,
                "artefacts": [{**msgspec.to_builtins(one), "passed": one.passed} for one in exported.artefacts],
                "speed": exported.speed,
                "calibration": exported.calibration,
            }
        )
        return
    for parity in exported.parity:
        say(
            f"parity of {parity.engine} {parity.precision} with torch on {parity.photos} photographs: at most "
            f"{parity.max_abs_difference:.2g} {parity.unit} (tolerance {parity.tolerance:.2g})"
        )
    if exported.artefacts:
        _show_artefacts(exported, lacking)
    if bundle is not None:
        say(f"{bundle.size_bytes / 1e6:.2f} MB in {time.perf_counter() - started:.0f} s")
        click.echo(path)


def _show_artefacts(exported: Exported, lacking: Sequence[Target]) -> None:
    rows = [_row(report, exported) for report in exported.artefacts]
    rows += [
        [str(kind), "", "", "", "", "", "", f"not made: {why}"]
        for kind, why in LACKING.items()
        if kind.target in lacking
    ]
    print_table(
        [
            "kind",
            "MB",
            "ms, graph",
            "SRCC to FP32",
            "SRCC lost (95 %)",
            "pairs swapped",
            "largest (p99) change",
            "verdict",
        ],
        rows,
        title="against FP32, file to score",
    )
    for report in exported.artefacts:
        for name, refit in report.refits.items():
            say(
                f"{report.kind}, score map of {name} fitted again: {refit.rmse_before:.2f} points from FP32 before, "
                f"{refit.rmse_after:.2f} after"
            )
        for note in report.notes:
            say(f"{report.kind}: {note}")
    for verdict in exported.speed:
        say(verdict)


def _row(report: ArtefactReport, exported: Exported) -> list[str]:
    rank = report.rank
    milliseconds = exported.latencies_ms.get(report.kind)
    if rank is None:
        return [report.kind, "", "", "", "", "", "", f"not made: {report.reason}"]
    drop = rank.srcc_drop
    return [
        report.kind,
        f"{report.size_bytes / 1e6:.2f}",
        "" if milliseconds is None else f"{milliseconds:.1f}",
        "" if rank.srcc is None else f"{rank.srcc:.4f}",
        "" if drop is None else f"{drop.value:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]",
        "" if rank.swapped_share is None else f"{rank.swapped_share:.2%}",
        "" if rank.largest_change is None else f"{rank.largest_change:.2f} ({rank.p99_change:.2f})",
        "passed" if rank.passed else f"FAILED: {report.reason}",
    ]
