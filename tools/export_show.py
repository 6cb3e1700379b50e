"""Printing what came of an export."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from ..runtime.manifest import Target
from .export_matrix import MatrixRow, matrix_of
from .export_records import ENOUGH_DB, ways_to_build
from .export_steps import Exported
from .show import print_json, say

__all__ = ["tell_export"]

Figure = TypeVar("Figure")

_COLUMNS = (
    "kind",
    "MB",
    "ms, graph",
    "SRCC to FP32",
    "SRCC lost (95 %)",
    "pairs swapped",
    "largest (p99) change",
    f"features, dB ({ENOUGH_DB:g})",
    "verdict",
)


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
    rows = matrix_of(exported, lacking=lacking)
    if as_json:
        print_json(
            {
                "bundle": None if bundle is None else str(path),
                "size_bytes": None if bundle is None else bundle.size_bytes,
                "matrix": rows,
                "gates": exported.parity,
                "artefacts": [{**msgspec.to_builtins(one), "passed": one.passed} for one in exported.artefacts],
                "latencies_ms": exported.speed.latencies_ms,
                "speed": [verdict.text for verdict in exported.speed.verdicts],
                "calibration": exported.calibration,
            }
        )
        return
    for parity in exported.parity:
        largest = "not finite" if parity.max_abs_difference is None else f"at most {parity.max_abs_difference:.2g}"
        say(
            f"parity of {parity.engine} {parity.precision} with the network on {parity.photos} photographs: "
            f"{largest} {parity.unit} (tolerance {parity.tolerance:.2g})"
        )
    if exported.artefacts:
        _show_matrix(rows)
        _say_more(exported, path)
    if bundle is not None:
        say(f"{bundle.size_bytes / 1e6:.2f} MB in {time.perf_counter() - started:.0f} s")
        click.echo(path)


def _show_matrix(rows: Sequence[MatrixRow]) -> None:
    """As `print_table`, but that verdicts are text, which a reader would not find at the right of a wide column."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console() if sys.stdout.isatty() else Console(width=10_000)
    table = Table(title="against FP32, file to score", box=box.SIMPLE_HEAD, title_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("kind", "verdict") else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    console.print(table)


def _cells(row: MatrixRow) -> list[str]:
    def cell(name: str, figure: Figure | None, write: Callable[[Figure], str]) -> str:
        if figure is not None:
            return write(figure)
        # A row that is not there has its reason in the verdict.
        return "-" if row.lacks[name] == row.status else row.lacks[name]

    return [
        str(row.kind),
        cell("size_bytes", row.size_bytes, lambda size: f"{size / 1e6:.2f}"),
        cell("latency_ms", row.latency_ms, lambda ms: f"{ms:.3g}"),
        cell("srcc", row.srcc, lambda srcc: f"{srcc:.4f}"),
        cell("srcc_drop", row.srcc_drop, lambda drop: f"{drop.value:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}]"),
        cell("swapped_share", row.swapped_share, lambda share: f"{share:.2%}"),
        cell("largest_change", row.largest_change, lambda most: f"{most:.3g} ({row.p99_change:.3g})"),
        cell("features_db", row.features_db, lambda db: f"{db:.1f}" + ("" if db >= ENOUGH_DB else ", not reached")),
        row.verdict,
    ]


def _say_more(exported: Exported, path: Path) -> None:
    for report in exported.artefacts:
        for name, refit in report.refits.items():
            say(
                f"{report.kind}, score map of {name} fitted again: {refit.rmse_before:.2f} points from FP32 before, "
                f"{refit.rmse_after:.2f} after"
            )
        for note in report.notes:
            say(f"{report.kind}: {note}")
    for verdict in exported.speed.verdicts:
        say(verdict.text)
    ways = [] if exported.bundle is None else ways_to_build(exported.bundle.manifest)
    if ways:
        say(f"engines that were not built, on the device: edgeiqa unpack {path} -o FOLDER, and in that folder one of")
    for script, trtexec in ways:
        say(f"  {script}\n  {trtexec}")
