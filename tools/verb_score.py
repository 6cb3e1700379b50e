"""``edgeiqa score``."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import click

from ..runtime.errors import UsageError
from ..runtime.scorer import Score, Scorer, busy_streams, load
from .options import PathArgument, engine_options, json_option, require_writable, streams_option
from .score_choice import Choice, Order, Summary, choose, summarise
from .score_inputs import Photographs, photographs_of
from .score_journal import ScoreJournal, json_line
from .show import print_json, print_table, printable, say, with_progress

__all__ = ["score"]

_COLUMNS = ("path", "score", "spread", "width", "height", "error")


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PathArgument, metavar="PATH...")
@click.option("--bundle", type=PathArgument, help="NAME.eiqa. [default: the one that ships in the package]")
@engine_options
@streams_option
@click.option(
    "--cache",
    type=PathArgument,
    envvar="EDGEIQA_CACHE",
    metavar="DIR",
    help="Keep graphs there as the engine has prepared them, for a quicker start. [default: $EDGEIQA_CACHE, or none]",
)
@click.option("--null", "null_separated", is_flag=True, help="The list on stdin has a NUL after each path.")
@click.option(
    "--sort",
    "order",
    type=click.Choice(["input", "score", "path"]),
    default="input",
    help="As given, best first, or by path. [default: input]",
)
@click.option("--best", type=click.IntRange(min=1), metavar="N", help="Only the N best, best first.")
@click.option("--worst", type=click.IntRange(min=1), metavar="N", help="Only the N worst, worst first.")
@click.option("--threshold", type=float, metavar="SCORE", help="Only photographs at least as good.")
@click.option("--invert", is_flag=True, help="Only photographs worse than --threshold.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: path, score, spread, width, height, error.")
@click.option(
    "--resume",
    type=PathArgument,
    metavar="FILE",
    help="Keep a line of JSON a photograph in FILE, and go on with what it holds.",
)
@click.option("--html", type=PathArgument, metavar="PAGE", help="Write a contact sheet, best first.")
@click.option("--overwrite", is_flag=True, help="Write over PAGE.")
@click.option("--isolate", is_flag=True, help="Decode in processes of their own, each photograph within a time limit.")
@click.option("--time-limit", type=float, metavar="SECONDS", help="With --isolate. [default: 30]")
def score(
    paths: tuple[Path, ...],
    bundle: Path | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    streams: int | None,
    cache: Path | None,
    null_separated: bool,
    order: Order,
    best: int | None,
    worst: int | None,
    threshold: float | None,
    invert: bool,
    as_json: bool,
    as_csv: bool,
    resume: Path | None,
    html: Path | None,
    overwrite: bool,
    isolate: bool,
    time_limit: float | None,
) -> None:
    """Score photographs: files, folders that are walked, patterns; or - for a list of paths on stdin, one a line.

    With --json a line a file: path, score, members, spread, width, height, error. A photograph that cannot be read has
    the score null and says why; the others are scored, and the exit status is 1.

    A large network answers for a single photograph sooner with --streams 1. A score does not depend on what else is
    scored.
    """
    choice = Choice(order=order, best=best, worst=worst, threshold=threshold, invert=invert)
    _require_sense(as_json, as_csv, resume, html, overwrite, isolate, time_limit)
    photographs = photographs_of(paths, null_separated=null_separated)
    streams = busy_streams(threads) if streams is None else streams
    scorer = load(bundle, engine=engine, precision=precision, threads=threads, streams=streams, cache=cache)
    higher_is_better = scorer.bundle.manifest.scale.higher_is_better
    summary = Summary()
    limit_s = (time_limit or 30.0) if isolate else None
    with ExitStack() as stack:
        journal = None if resume is None else stack.enter_context(ScoreJournal(resume, scorer))
        scores: Iterable[Score] = summarise(
            _all_scores(scorer, photographs, journal, limit_s),
            summary,
            higher_is_better=higher_is_better,
        )
        if html is not None:
            scores = list(scores)
        shown = choose(_with_errors(scores, choice), choice, higher_is_better=higher_is_better)
        is_kept = resume is not None and choice == Choice()
        _print(shown, scorer, summary, as_json=as_json, as_csv=as_csv, is_kept=is_kept)
        if html is not None:
            _write_page(html, scores, scorer, summary, limit_s)
    if summary.failed:
        say(f"{summary.failed} of {summary.scored + summary.failed} photographs could not be read")
        sys.exit(1)


def _require_sense(
    as_json: bool,
    as_csv: bool,
    resume: Path | None,
    html: Path | None,
    overwrite: bool,
    isolate: bool,
    time_limit: float | None,
) -> None:
    """Refuse what does not go together before anything is loaded.

    Raises:
        UsageError: it does not.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv", expected="one of them", mend="leave one out")
    if resume is not None and (as_json or as_csv):
        raise UsageError(
            "--resume with --json or --csv", expected="lines in the file alone", mend="read them from the file"
        )
    if time_limit is not None:
        from ..runtime.isolate import require_limit

        require_limit(time_limit)
        if not isolate:
            raise UsageError("--time-limit without --isolate", expected="both", mend="add --isolate")
    if overwrite and html is None:
        raise UsageError("--overwrite without --html", expected="both", mend="leave it out")
    if html is not None:
        require_writable(html)
        if resume is not None and html.resolve() == resume.resolve():
            raise UsageError(f"--html {html} and --resume {resume}", expected="two files", mend="name another")
        if html.exists() and not overwrite:
            raise UsageError(f"{html}, which is there", expected="a new file", mend="name another, or --overwrite")


def _all_scores(
    scorer: Scorer, photographs: Photographs, journal: ScoreJournal | None, limit_s: float | None
) -> Iterator[Score]:
    """All scores in their order, those of a journal first; new ones are kept in it."""
    if journal is None:
        scores = scorer.score_many(photographs.paths, isolate_s=limit_s)
        yield from with_progress(scores, photographs.count, "scoring")
        return
    if journal.done:
        say(f"{journal.path} holds {journal.done} photographs, which are not scored again")
    yield from journal.kept()
    count = None if photographs.count is None else max(0, photographs.count - journal.done)
    scores = scorer.score_many(journal.left(photographs.paths), isolate_s=limit_s)
    yield from with_progress(journal.keep(scores), count, "scoring")


def _with_errors(scores: Iterable[Score], choice: Choice) -> Iterator[Score]:
    """The scores; errors are said where the choice would leave them out."""
    for score in scores:
        if score.error is not None and not choice.shows_unread:
            say(f"left out: {score.error}")
        yield score


def _print(
    shown: Iterator[Score], scorer: Scorer, summary: Summary, *, as_json: bool, as_csv: bool, is_kept: bool
) -> None:
    if as_json:
        for score in shown:
            print_json(json_line(score))
    elif as_csv:
        _print_csv(shown)
    elif is_kept:
        # The lines stand in the file.
        for _ in shown:
            pass
        click.echo(printable(summary.text()))
    else:
        scale = scorer.bundle.manifest.scale
        better = "higher" if scale.higher_is_better else "lower"
        title = f"{scorer.bundle.manifest.name}: {scale.low:g} to {scale.high:g}, {better} is better"
        print_table(["photograph", "score", "spread", "size"], [_row(score) for score in shown], title=title)
        click.echo(printable(summary.text()))


def _print_csv(shown: Iterator[Score]) -> None:
    """RFC 4180 but for plain line ends, in UTF-8; the bytes of names that are none come through as they are."""
    sys.stdout.flush()
    out = getattr(sys.stdout, "buffer", None)

    class Line:
        def write(self, line: str) -> None:
            # Told of the standard's line end, the writer quotes names with either half of it.
            text = line.removesuffix("\r\n") + "\n"
            if out is None:
                sys.stdout.write(text)
            else:
                out.write(text.encode(errors="surrogateescape"))
                out.flush()

    writer = csv.writer(Line())
    writer.writerow(_COLUMNS)
    for score in shown:
        line = json_line(score)
        writer.writerow(["" if line[column] is None else line[column] for column in _COLUMNS])


def _write_page(path: Path, scores: Iterable[Score], scorer: Scorer, summary: Summary, limit_s: float | None) -> None:
    from .contact_sheet import write_contact_sheet

    manifest = scorer.bundle.manifest
    best_first = choose(scores, Choice(order="score"), higher_is_better=manifest.scale.higher_is_better)
    write_contact_sheet(
        path,
        list(best_first),
        title=f"{summary.scored + summary.failed} photographs, scored by {manifest.name}",
        about=f"{manifest.scale.low:g} to {manifest.scale.high:g}. {printable(summary.text())}",
        isolate_s=limit_s,
    )
    say(f"wrote {path}")


def _row(result: Score) -> list[str]:
    if result.value is None:
        return [f"{result.path}: {result.error}", "-", "-", "-"]
    spread = "" if result.spread is None else f"{result.spread:.1f}"
    return [str(result.path), f"{result.value:.2f}", spread, f"{result.width}x{result.height}"]
