"""``edgeiqa distill``: a student that keeps what a teacher knows, inside a budget."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..runtime.errors import UsageError
from .distill_inputs import PhotographSource, find_photographs_of, find_teachers
from .distill_recipe import BUDGET, SAMPLE_STEPS, convert_recipe, recipe_of, with_weights
from .options import (
    PathArgument,
    budget_of,
    device_option,
    json_option,
    parse_size,
    say_left_to_profile,
    with_device,
)
from .runs import finish_run, goes_on, read_run, start_run
from .show import print_json, say
from .training import launched, machine_options, require_alone, require_training, watching
from .verb_cache import DEFAULT_FOLDER

if TYPE_CHECKING:
    from ..compress.distill_records import DistillRecipe, DistillReport
    from ..profiles.budget import Budget

__all__ = ["distill"]

_IMAGE = "3840x2160"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--teacher",
    "teachers",
    multiple=True,
    default=("ensemble",),
    show_default=True,
    help="ensemble (the newest teach run, else the default ensemble), a run, checkpoints, MODULE:FACTORY, "
    "timm:NAME@FILE, torchvision:NAME@FILE, a bundle, an ONNX graph, a CSV of scores, or none. "
    "It may be repeated: all their members teach.",
)
@click.option("--student", help="timm's name of a backbone.")
@click.option("--data", type=PathArgument, help="CSV with the columns image and mos, of photographs in --images.")
@click.option("--images", type=PathArgument, help="Folder of photographs, labelled if there is --data.")
@click.option("--unlabelled", multiple=True, type=PathArgument, help="Folder of further photographs; may be repeated.")
@click.option("--split", help="Only the rows whose split is this; photographs of others are kept out altogether.")
@click.option("--score-range", type=(float, float), default=(0.0, 100.0), metavar="LOW HIGH", help="Of the MOS column.")
@click.option("--selection", type=float, default=0.15, show_default=True, help="Share that is only judged.")
@click.option("--size", help="WIDTHxHEIGHT of the input. [default: the largest within the budget]")
@click.option(
    "--budget", "budget_text", default=BUDGET, show_default=True, help="Amounts such as 50GMACs,4MB or a name."
)
@device_option
@click.option("--image", default=_IMAGE, show_default=True, help="WIDTHxHEIGHT of the photographs, for the aspect.")
@click.option("--weights", help="hub, lite, none or a file. [default: hub]")
@click.option("--recipe", "recipe_path", type=PathArgument, help="TOML of a whole DistillRecipe, instead of its parts.")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: 10]")
@click.option("--steps", type=click.IntRange(min=1), help="End after so many steps.")
@click.option("--batch", type=click.IntRange(min=2), help="[default: 16]")
@click.option("--learning-rate", type=float, help="Of the trunk; the head's is ten times it. [default: 2e-4]")
@click.option("--crops", type=click.IntRange(min=1), help="Of each photograph; the first is whole. [default: 4]")
@click.option(
    "--distortions", type=click.IntRange(min=0), help="Distorted versions of each. [default: 1; without a teacher 0]"
)
@click.option("--score-weight", type=float, help="Of the losses to the teacher's scores. [default: 1]")
@click.option("--mos-weight", type=float, help="Of the losses to opinions. [default: 1]")
@click.option("--feature-weight", type=float, help="Of the squared error to the members' features. [default: 0.5]")
@click.option("--cosine-weight", type=float, help="Of the cosine to them.")
@click.option("--distance-weight", type=float, help="Of the relation of distances in a batch.")
@click.option("--angle-weight", type=float, help="Of the relation of angles in a batch.")
@click.option("--rank-weight", type=float, help="Of the hinge on the teacher's order.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the student, not of crops and distortions. [default: 0]")
@click.option(
    "--cache", type=PathArgument, default=DEFAULT_FOLDER, show_default=True, help="Folder of the teacher cache."
)
@click.option("--runs", type=PathArgument, default=Path("runs"), show_default=True, help="Folder of runs.")
@click.option("-o", "--output", type=PathArgument, help="Folder of this run. [default: a new one in --runs]")
@click.option("--resume", type=PathArgument, help="Go on with the run in this folder; no other option is needed.")
@click.option("--dry-run", is_flag=True, help="Say what it takes: time, memory, disk. Nothing is written.")
@machine_options
@json_option
def distill(
    cache: Path,
    runs: Path,
    output: Path | None,
    resume: Path | None,
    dry_run: bool,
    accelerator: str,
    devices: int,
    arithmetic: str,
    threads: int | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Train a student on what a teacher says of photographs, crops of them and distorted versions.

    The budget is checked before anything is computed, and the input size is solved when none is given. The teacher
    speaks once, into --cache. A run that was cut off goes on with --resume FOLDER, to the same numbers.
    """
    require_training()
    if resume is None:
        call = _begun(flags, cache, runs, arithmetic)
    else:
        require_alone(resume)
        call, output = _gone_on_with(resume), resume
    from ..compress.budget_check import check_budget
    from ..compress.distill import distill as distill_student
    from ..compress.distill import require_distillable, student_system
    from ..compress.input_size import count_system
    from ..compress.teachers import load_teachers
    from .cost_show import describe_counts

    # From what costs nothing to find out to what takes hours, and nothing is written before all of it is known.
    student = student_system(call.recipe)
    cost = check_budget(student, call.budget, parse_size(call.image))
    say(f"student: {describe_counts(cost, lambda convention: count_system(student, convention))}")
    say_left_to_profile(call.budget, call.budget_text)
    recipe = with_weights(call.recipe, may_be_random=call.source.samples and call.usual_weights)
    call = replace(call, recipe=recipe, usual_weights=False)
    teacher = load_teachers(call.teachers, device=accelerator, threads=threads) if call.teachers else None
    photographs = call.source.load(teacher, call.selection, recipe.seed, threads)
    require_distillable(recipe, photographs, teacher)
    if output is not None and not dry_run:
        # Before further processes are started, which would not know why this one ends.
        goes_on(output, "distill", call.settings)
    fabric = launched(accelerator, devices, call.arithmetic, threads)(None)
    if dry_run:
        from .dry_run import distill_estimate, tell_estimate

        estimate = distill_estimate(recipe, photographs, teacher, call.cache, fabric, call.steps, output or runs)
        if fabric.is_global_zero:
            tell_estimate(estimate, as_json)
        return
    folder = output
    if fabric.is_global_zero:
        folder = start_run(runs, "distill", recipe.backbone, call.settings, folder=output)
        say(f"run {folder}; if it is cut off: edgeiqa distill --resume {folder}")
    folder = fabric.broadcast(folder)
    assert folder is not None
    with watching(folder, first=fabric.is_global_zero) as progress:
        report = distill_student(
            recipe,
            photographs,
            teacher,
            folder,
            cache=call.cache,
            fabric=fabric,
            most_steps=call.steps,
            watch=progress,
        )
    if not fabric.is_global_zero:
        return
    from .run_pages import write_distill_page

    write_distill_page(folder, recipe, report, call.budget)
    finish_run(folder)
    _tell(report, recipe, folder, as_json, samples=call.source.samples)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    """All that decides what comes of a run; it goes on with just this, whatever is newest then.

    Attributes:
        recipe: of the student.
        usual_weights: whether the call left them open.
        teachers: as `load_teachers` takes them; empty for none.
        source: of the photographs.
        selection: share of them that is only judged.
        steps: at most; None for all.
        budget_text: as the call has it.
        image: size of the photographs, for the aspect.
        cache: folder of the teacher cache.
        arithmetic: Fabric's name of it.
    """

    recipe: DistillRecipe
    usual_weights: bool
    teachers: tuple[str, ...]
    source: PhotographSource
    selection: float
    steps: int | None
    budget_text: str
    image: str
    cache: Path
    arithmetic: str

    @property
    def budget(self) -> Budget:
        return budget_of(self.budget_text)

    @property
    def settings(self) -> dict[str, Any]:
        """As ``run.json`` has it."""
        return {
            "recipe": self.recipe,
            "teacher": self.teachers[0] if len(self.teachers) == 1 else self.teachers or None,
            "photographs": self.source.settings,
            "selection": self.selection,
            "steps": self.steps,
            "budget": self.budget_text,
            "image": self.image,
            "cache": str(self.cache.resolve()),
            "arithmetic": self.arithmetic,
        }


def _begun(flags: dict[str, Any], cache: Path, runs: Path, arithmetic: str) -> _Call:
    budget_text = with_device(flags["budget_text"], flags["device"]) or BUDGET
    budget = budget_of(budget_text)
    parse_size(flags["image"])
    source = find_photographs_of(flags, runs)
    teachers = find_teachers(flags["teachers"], runs)
    return _Call(
        recipe=recipe_of(flags, budget, has_teacher=bool(teachers), samples=source.samples),
        usual_weights=flags["weights"] is None and flags["recipe_path"] is None,
        teachers=teachers,
        source=source,
        selection=flags["selection"],
        steps=flags["steps"] or (SAMPLE_STEPS if source.samples else None),
        budget_text=budget_text,
        image=flags["image"],
        cache=cache,
        arithmetic=arithmetic,
    )


def _gone_on_with(folder: Path) -> _Call:
    run = read_run(folder)
    settings = run.settings
    if run.kind != "distill":
        raise UsageError(f"{folder}, a run of {run.kind}", expected="a run of distill", mend="name such a folder")
    try:
        # One, several, or none.
        named = settings["teacher"]
        return _Call(
            recipe=convert_recipe(settings["recipe"], str(folder)),
            usual_weights=False,
            teachers=(named,) if isinstance(named, str) else tuple(named or ()),
            source=PhotographSource.of(settings["photographs"]),
            selection=settings["selection"],
            steps=settings["steps"],
            budget_text=settings["budget"],
            image=settings["image"],
            cache=Path(settings["cache"]),
            arithmetic=settings["arithmetic"],
        )
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"{folder}, whose run.json is not as this version writes it ({error!r})",
            expected="a run of distill",
            mend="begin a new run",
        ) from error


def _tell(report: DistillReport, recipe: DistillRecipe, folder: Path, as_json: bool, *, samples: bool) -> None:
    if as_json:
        print_json({"run": str(folder), "report": report})
        return
    from ..compress.models.weights import NoWeights

    click.echo(
        f"{report.student}: {report.macs / 1e9:.3g} GMACs, {report.parameters / 1e6:.3g} M parameters, learned "
        f"{report.steps} steps on {report.items} items of {report.photographs} photographs from {report.teacher}"
    )
    for name, accuracy in (("student", report.accuracy), ("teacher", report.teacher_accuracy)):
        if accuracy is not None:
            srcc = accuracy.srcc
            click.echo(
                f"{name} on the {report.heldout_is} ({accuracy.n}): SRCC {srcc.value:.3f} [{srcc.low:.3f}, "
                f"{srcc.high:.3f}], PLCC {accuracy.plcc.value:.3f}, RMSE {accuracy.rmse.value:.2f}"
            )
    if report.agreement is not None:
        agreement = report.agreement
        views = "" if report.judged in (None, report.heldout) else f"{report.judged} versions of "
        click.echo(
            f"rank agreement with the teacher on {views}{report.heldout} held-out photographs: SRCC "
            f"{agreement.value:.3f} [{agreement.low:.3f}, {agreement.high:.3f}]"
        )
    if report.accuracy is None and report.agreement is None:
        say(f"{report.heldout} held-out photographs are too few, or their scores too much alike, for a correlation")
    if isinstance(recipe.weights, NoWeights):
        short = ": after so short a training its scores mean nothing" if samples else ", and knows what it learned here"
        say(f"it began from RANDOM WEIGHTS{short}")
    say(f"{folder / 'report.html'}\nnext: edgeiqa export {folder}")
