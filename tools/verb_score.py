"""``edgeiqa score``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..runtime.scorer import Score, load
from .options import PathArgument, engine_options, find_photographs, json_option
from .show import print_json, print_table, with_progress

__all__ = ["score"]


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PathArgument, metavar="PATH...")
@click.option("--bundle", type=PathArgument, help="NAME.eiqa. [default: the one that ships in the package]")
@engine_options
@json_option
def score(
    paths: tuple[Path, ...],
    bundle: Path | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Score photographs: files, and folders that are walked.

    With --json a line a file: path, score, members, spread, width, height, error. A photograph that cannot be read has
    the score null and says why; the others are scored, and the exit status is 1.
    """
    photographs = find_photographs(paths)
    scorer = load(bundle, engine=engine, precision=precision, threads=threads)
    scores = with_progress(scorer.score_many(photographs), len(photographs), "scoring")
    failed = 0
    rows: list[list[str]] = []
    for result in scores:
        failed += result.error is not None
        if as_json:
            print_json(json_line(result))
        else:
            rows.append(_row(result))
    if not as_json:
        scale = scorer.bundle.manifest.scale
        better = "higher" if scale.higher_is_better else "lower"
        title = f"{scorer.bundle.manifest.name}: {scale.low:g} to {scale.high:g}, {better} is better"
        print_table(["photograph", "score", "spread", "size"], rows, title=title)
    if failed:
        click.echo(f"{failed} of {len(photographs)} photographs could not be read", err=True)
        sys.exit(1)


def json_line(result: Score) -> dict[str, object]:
    """A score as its line of JSON."""
    return {
        "path": result.path,
        "score": result.value,
        "members": list(result.members),
        "spread": result.spread,
        "width": result.width,
        "height": result.height,
        "error": result.error,
    }


def _row(result: Score) -> list[str]:
    if result.value is None:
        return [f"{result.path}: {result.error}", "-", "-", "-"]
    spread = "" if result.spread is None else f"{result.spread:.1f}"
    return [str(result.path), f"{result.value:.2f}", spread, f"{result.width}x{result.height}"]
