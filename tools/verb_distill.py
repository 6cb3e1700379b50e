"""``edgeiqa distill``: a student that keeps what a teacher knows, inside a budget."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ..runtime.errors import ModelError, UsageError
from .options import PathArgument, json_option, parse_size
from .runs import finish_run, read_run, start_run
from .show import print_json, say
from .training import launched, machine_options, require_training, watching
from .verb_cache import DEFAULT_FOLDER
from .weights_option import parse_weights

if TYPE_CHECKING:
    from ..compress.distill_records import DistillRecipe, DistillReport
    from ..compress.teacher_members import ScoreTable, Teacher
    from ..profiles.budget import Budget

__all__ = ["distill"]

_BUDGET = "50GMACs"
_IMAGE = "3840x2160"
_LOSS_FLAGS = {
    "score_weight": "score",
    "mos_weight": "mos",
    "feature_weight": "feature",
    "cosine_weight": "cosine",
    "distance_weight": "distance",
    "angle_weight": "angle",
    "rank_weight": "rank",
}
# What a trial on the sample photographs is, so that it ends in minutes on two cores.
_SAMPLE_STEPS, _SAMPLE_BATCH = 12, 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--teacher",
    default="ensemble",
    show_default=True,
    help="ensemble (the newest teach run, else the default bundle), a run, checkpoints, MODULE:FACTORY, "
    "timm:NAME@FILE, torchvision:NAME@FILE, a bundle, an ONNX graph, a CSV of scores, or none.",
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
    "--budget", "budget_text", default=_BUDGET, show_default=True, help="Amounts such as 50GMACs,4MB or a name."
)
@click.option("--image", default=_IMAGE, show_default=True, help="WIDTHxHEIGHT of the photographs, for the aspect.")
@click.option("--weights", help="hub, lite, none or a file. [default: hub]")
@click.option("--recipe", "recipe_path", type=PathArgument, help="TOML of a whole DistillRecipe, instead of its parts.")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: 10]")
@click.option("--steps", type=click.IntRange(min=1), help="End after so many steps.")
@click.option("--batch", type=click.IntRange(min=2), help="[default: 16]")
@click.option("--learning-rate", type=float, help="Of the trunk; the head's is ten times it. [default: 2e-4]")
@click.option("--crops", type=click.IntRange(min=1), help="Of each photograph; the first is whole. [default: 4]")
@click.option("--distortions", type=click.IntRange(min=0), help="Distorted versions of each. [default: 1]")
@click.option("--score-weight", type=float, help="Of the losses to the teacher's scores.")
@click.option("--mos-weight", type=float, help="Of the losses to opinions.")
@click.option("--feature-weight", type=float, help="Of the squared error to the members' features.")
@click.option("--cosine-weight", type=float, help="Of the cosine to them.")
@click.option("--distance-weight", type=float, help="Of the relation of distances in a batch.")
@click.option("--angle-weight", type=float, help="Of the relation of angles in a batch.")
@click.option("--rank-weight", type=float, help="Of the hinge on the teacher's order.")
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
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
    if resume is not None:
        run = read_run(resume)
        if run.kind != "distill":
            raise UsageError(f"{resume}, a run of {run.kind}", expected="a run of distill", mend="name such a folder")
        flags, output = _restored(run.settings["flags"]), resume
        cache = Path(run.settings["cache"])
    from .distill_inputs import find_photographs_of, find_teacher

    if flags["student"] is None and flags["recipe_path"] is None:
        raise UsageError("no --student", expected="timm's name of a backbone", mend="--student convnext_small")
    spec = find_teacher(flags["teacher"], runs)
    photographs_of = find_photographs_of(flags, runs)
    recipe, budget = _recipe(flags, photographs_of.samples)
    _check(recipe, budget, flags)
    teacher = _teacher(spec, accelerator, threads)
    photographs = photographs_of.load(teacher, flags["selection"], recipe.seed, threads)
    fabric = launched(accelerator, devices, arithmetic, threads)(None)
    steps = flags["steps"] or (_SAMPLE_STEPS if photographs_of.samples else None)
    if dry_run:
        from .dry_run import distill_estimate, tell_estimate

        tell_estimate(distill_estimate(recipe, photographs, teacher, cache, fabric, steps), as_json)
        return
    folder = output
    if fabric.is_global_zero:
        # A run goes on with what it was begun with, even when a newer ensemble has come since.
        kept = {**flags, "teacher": spec, **photographs_of.flags}
        settings = {"flags": _plain(kept), "cache": str(cache.resolve())}
        folder = start_run(runs, "distill", recipe.backbone, settings, folder=output)
        say(f"run {folder}; if it is cut off: edgeiqa distill --resume {folder}")
    folder = fabric.broadcast(folder)
    assert folder is not None
    from ..compress.distill import distill as distill_student

    with watching(folder) as progress:
        report = distill_student(
            recipe, photographs, teacher, folder, cache=cache, fabric=fabric, most_steps=steps, watch=progress
        )
    if not fabric.is_global_zero:
        return
    from .run_pages import write_distill_page

    write_distill_page(folder, recipe, report, budget)
    finish_run(folder)
    _tell(report, recipe, folder, as_json)
    _check_after(recipe, report, budget)


def _plain(flags: dict[str, Any]) -> dict[str, Any]:
    """Options as JSON has them; paths absolute, so that the run can go on from elsewhere."""

    def plain(value: object) -> object:
        if isinstance(value, Path):
            return str(value.resolve())
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        return value

    return {name: plain(value) for name, value in flags.items()}


def _restored(flags: dict[str, Any]) -> dict[str, Any]:
    paths = ("data", "images", "recipe_path")
    restored = {name: Path(value) if name in paths and value is not None else value for name, value in flags.items()}
    restored["unlabelled"] = tuple(Path(path) for path in flags["unlabelled"])
    restored["score_range"] = tuple(flags["score_range"])
    return restored


def _recipe(flags: dict[str, Any], samples: bool) -> tuple[DistillRecipe, Budget]:
    from ..compress.distill_records import DistillLosses, DistillRecipe, Transfer
    from ..compress.stages import Augmentation, Stage
    from .options import budget_of

    budget = budget_of(flags["budget_text"])
    path: Path | None = flags["recipe_path"]
    if path is not None:
        try:
            return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), DistillRecipe), budget
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
            raise UsageError(f"{path}: {error}", expected="a recipe of a distillation", mend="correct it") from error
    backbone: str = flags["student"]
    width, height = parse_size(flags["size"]) if flags["size"] else _solved(backbone, budget, flags["image"])
    defaults = DistillLosses()
    chosen = {field: flags[flag] for flag, field in _LOSS_FLAGS.items() if flags[flag] is not None}
    seed = flags["seed"] or 0
    rate = flags["learning_rate"] or 2e-4
    weights = flags["weights"] or "hub"
    if samples and flags["weights"] is None:
        weights = _weights_for_samples(backbone, width, height)
    recipe = DistillRecipe(
        name=f"{backbone}-{width}x{height}",
        backbone=backbone,
        width=width,
        height=height,
        weights=parse_weights(weights, seed=seed),
        stages=(
            Stage(
                epochs=flags["epochs"] or 10,
                batch=flags["batch"] or (_SAMPLE_BATCH if samples else 16),
                learning_rate=rate,
                head_learning_rate=10 * rate,
                augmentation=Augmentation(flip=False, whole_epochs=min(1, (flags["epochs"] or 10) - 1)),
            ),
        ),
        losses=msgspec.structs.replace(defaults, **chosen),
        transfer=Transfer(
            crops=flags["crops"] or 4,
            distortions=1 if flags["distortions"] is None else flags["distortions"],
            seed=seed,
        ),
        seed=seed,
    )
    return recipe, budget


def _solved(backbone: str, budget: Budget, image: str) -> tuple[int, int]:
    from ..compress.input_size import solve_input_size
    from ..profiles.amounts import Amount, format_amount

    if budget.macs is None:
        raise UsageError(
            f"a budget without MACs ({budget.name}) and no --size",
            expected="either: the input size is solved from multiply-adds",
            mend=f"--size 704x384, or --budget {_BUDGET}",
        )
    solved = solve_input_size(backbone, macs_limit=budget.macs, image=parse_size(image))
    say(
        f"{backbone} within {format_amount(Amount('macs', budget.macs))} for {image}: {solved.width}x{solved.height}, "
        f"{format_amount(Amount('macs', solved.macs))}"
    )
    return solved.width, solved.height


def _weights_for_samples(backbone: str, width: int, height: int) -> str:
    """``hub`` where its weights can be had; else random ones, said loudly, as nothing but the command is tried out."""
    from ..compress.models.records import Branch
    from ..compress.models.weights import HubWeights, load_backbone

    try:
        load_backbone(Branch(name="image", backbone=backbone, views=("image",)), width, height, HubWeights())
    except ModelError as error:
        say(
            f"RANDOM WEIGHTS: {error.got}. On sample photographs the command is only tried out; its scores mean nothing"
        )
        return "none"
    return "hub"


def _check(recipe: DistillRecipe, budget: Budget, flags: dict[str, Any]) -> None:
    """Hold the student to the budget, with random weights, before anything else is done."""
    from ..compress.budget_check import check_budget
    from ..compress.distill import student_system

    check_budget(student_system(recipe), budget, parse_size(flags["image"]))


def _check_after(recipe: DistillRecipe, report: DistillReport, budget: Budget) -> None:
    from ..compress.budget_check import check_budget
    from ..compress.distill import student_system

    if budget.macs is not None and report.macs > budget.macs:
        check_budget(student_system(recipe), budget)


def _teacher(spec: str | None, accelerator: str, threads: int | None) -> Teacher | ScoreTable | None:
    from ..compress.teachers import load_teacher

    return None if spec is None else load_teacher(spec, device=accelerator, threads=threads)


def _tell(report: DistillReport, recipe: DistillRecipe, folder: Path, as_json: bool) -> None:
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
        click.echo(
            f"rank agreement with the teacher on {report.heldout} held-out photographs: SRCC {agreement.value:.3f} "
            f"[{agreement.low:.3f}, {agreement.high:.3f}]"
        )
    if isinstance(recipe.weights, NoWeights):
        say("it began from RANDOM WEIGHTS: after so short a training its scores mean nothing")
    say(f"{folder / 'report.html'}\nnext: edgeiqa export {folder}")
