"""``edgeiqa quickstart``: the whole path on sample photographs, from the default ensemble to a student's own bundle."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from .options import PathArgument, json_option, require_libraries
from .quickstart_steps import (
    BUNDLE,
    LITE,
    SIZE,
    SMALL,
    Outcome,
    begun_with,
    choose_student,
    hold_to_budget,
    load_photographs,
    make_recipe,
    ship,
)
from .runs import finish_run, start_run
from .show import print_json, print_table, say
from .training import launched, require_alone, require_training, watching

__all__ = ["quickstart"]

_LIBRARIES = ("torch", "timm", "lightning", "onnx", "onnxscript", "sklearn", "skimage")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--student",
    help=f"timm's name of a backbone. [default: {LITE}; without the extra lite {SMALL}, from random weights]",
)
@click.option("--size", default=SIZE, show_default=True, help="WIDTHxHEIGHT of its input.")
@click.option("--steps", type=click.IntRange(min=1), help="End the training after so many steps.")
@click.option(
    "--seed",
    type=click.IntRange(min=0, max=2**32 - 1),
    default=0,
    show_default=True,
    help="Of all draws: also which photograph is held out.",
)
@click.option("--runs", type=PathArgument, default=Path("runs"), show_default=True, help="Folder of runs.")
@click.option("-o", "--output", type=PathArgument, help="Folder of this run. [default: a new one in --runs]")
@click.option("--resume", type=PathArgument, help="Go on with the run in this folder; no other option is needed.")
@click.option("--threads", type=click.IntRange(min=1), help="[default: all processors]")
@json_option
def quickstart(
    student: str | None,
    size: str,
    steps: int | None,
    seed: int,
    runs: Path,
    output: Path | None,
    resume: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """See the whole path in minutes: teach a student, export, verify, profile and score, on sample photographs.

    The default ensemble teaches a small student on photographs that scikit-learn and scikit-image ship and a ladder of
    distortions of them; one photograph is held out. No network is needed. The run's folder holds the student's
    checkpoint, student.eiqa and the page report.html. Exit status 1 if the bundle is not verified, or over its budget.
    """
    started = time.monotonic()
    # One command for all that is missing.
    require_libraries(_LIBRARIES, "compress,export,lite,samples")
    require_training()
    settings: dict[str, Any]
    if resume is None:
        backbone, weights = choose_student(student)
        cache = str((runs / "cache").resolve())
        settings = {"student": backbone, "size": size, "seed": seed, "steps": steps, "weights": weights, "cache": cache}
    else:
        require_alone(resume)
        settings, output = begun_with(resume), resume
    recipe = make_recipe(settings)
    budget = hold_to_budget(recipe)
    photographs = load_photographs(recipe.seed, threads)
    folder = start_run(runs, "quickstart", "", settings, folder=output)
    say(f"run {folder}; if it is cut off: edgeiqa quickstart --resume {folder}")
    from ..compress.distill import distill
    from ..compress.teachers import load_teacher

    with watching(folder) as progress:
        report = distill(
            recipe,
            photographs,
            load_teacher("default", threads=threads),
            folder,
            cache=Path(settings["cache"]),
            fabric=launched("cpu", 1, "32-true", threads)(None),
            most_steps=settings["steps"],
            watch=progress,
        )
    from .quickstart_page import PAGE, write_quickstart_page

    outcome = ship(folder, recipe, report, budget, photographs, threads)
    seconds = time.monotonic() - started
    write_quickstart_page(folder, outcome, seconds)
    finish_run(folder)
    if as_json:
        print_json(_as_json(folder, outcome, seconds) | {"page": str(folder / PAGE)})
    else:
        _tell(folder, outcome, seconds)
        click.echo(folder / PAGE)
    for violation in outcome.violations:
        say(f"over the budget {budget.name}: {violation.describe()}")
    if outcome.violations or not outcome.verification.passed:
        sys.exit(1)


def _as_json(folder: Path, outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        "run": str(folder),
        "bundle": str(folder / BUNDLE),
        "seconds": seconds,
        "report": outcome.report,
        "parity": outcome.parity,
        "verified": outcome.verification.passed,
        "measurement": outcome.measurement,
        "violations": outcome.violations,
        "photographs": [
            {name: value for name, value in asdict(photo).items() if name != "path"} for photo in outcome.photographs
        ],
        "ladder": [asdict(rung) for rung in outcome.ladder],
    }


def _tell(folder: Path, outcome: Outcome, seconds: float) -> None:
    report, measured = outcome.report, outcome.measurement
    print_table(
        ["photograph", "teacher", "student"],
        [
            [
                f"{photo.name} (held out)" if photo.held_out else photo.name,
                f"{photo.teacher:.1f}",
                f"{photo.student:.1f}",
            ]
            for photo in outcome.photographs
        ],
        title="Scores from 0 to 100",
    )
    agreement = "not known" if report.agreement is None else f"SRCC {report.agreement.value:.3f}"
    click.echo(
        f"rank agreement with the teacher on {len(outcome.ladder)} versions of {outcome.heldout.name}: {agreement}"
    )
    latency = "" if measured.file_to_score is None else f", {measured.file_to_score.p50_ms:.1f} ms from file to score"
    click.echo(
        f"{(measured.macs or report.macs) / 1e6:.0f} MMACs, {(measured.parameters or report.parameters) / 1e6:.2f} M "
        f"parameters, {(measured.size_bytes or 0) / 1e6:.1f} MB{latency}; "
        f"{'verified' if outcome.verification.passed else 'NOT verified'}; {seconds:.0f} s in all"
    )
    click.echo(f"{folder / BUNDLE}")
    say("agreement with the teacher on few photographs; the page says what so short a run can and cannot show")
