"""``edgeiqa verify``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from ..runtime.scorer import load
from ..runtime.verify import verify as replay
from .options import PathArgument, engine_options, json_option
from .show import print_json, print_table

__all__ = ["verify"]


@click.command()
@click.argument("bundle", required=False, type=PathArgument)
@engine_options
@json_option
def verify(bundle: Path | None, engine: str | None, precision: str | None, threads: int | None, as_json: bool) -> None:
    """Check a bundle's hashes and replay its golden answers on this machine. Without BUNDLE: the default one.

    Exit status 1 if an answer differs by more than its tolerance.
    """
    seen = replay(load(bundle, engine=engine, precision=precision, threads=threads))
    if as_json:
        checks = [{**asdict(check), "passed": check.passed} for check in seen.checks]
        print_json({**asdict(seen), "checks": checks, "passed": seen.passed})
    else:
        print_table(
            ["check", "difference", "tolerance", "unit", ""],
            [
                [
                    check.what,
                    f"{check.difference:.3g}",
                    f"{check.tolerance:g}",
                    check.unit,
                    "ok" if check.passed else "NO",
                ]
                for check in seen.checks
            ],
            title=f"{seen.bundle}: {seen.engine} {seen.engine_version}, {seen.precision}; {seen.parts} parts are whole",
        )
        click.echo("verified" if seen.passed else "NOT verified: this machine gives other answers")
    if not seen.passed:
        sys.exit(1)
