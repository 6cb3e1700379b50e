"""``edgeiqa teach``: a K-fold ensemble of teachers from photographs with opinions."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ..runtime.errors import UsageError
from .options import PathArgument, json_option, parse_size
from .runs import finish_run, goes_on, read_run, start_run
from .show import print_json, print_table, say
from .training import (
    launched,
    machine_options,
    require_alone,
    require_no_parts,
    require_training,
    say_splits,
    watching,
)
from .weights_option import parse_weights

if TYPE_CHECKING:
    from ..compress.data.dataset import Dataset
    from ..compress.teach_records import MemberRecipe, TeachRecipe, TeachReport
    from ..profiles.metrics import Interval

__all__ = ["read_recipe", "teach"]

_SETTINGS = ("recipe", "data", "images")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", type=PathArgument, help="CSV with the columns image and mos.")
@click.option("--images", type=PathArgument, help="Folder of the photographs. [default: the CSV's]")
@click.option("--recipe", "recipe_path", type=PathArgument, help="TOML, such as recipes/default_ensemble.toml.")
@click.option("--backbone", "backbones", multiple=True, help="timm's name; several take turns over the folds.")
@click.option(
    "--size", "sizes", multiple=True, help="WIDTHxHEIGHT of the view, one or one a backbone. [default: 384x384]"
)
@click.option("--folds", type=click.IntRange(min=2), help="Members, each leaving one fold out. [default: 5]")
@click.option("--selection", type=float, help="Share of photographs that no member sees. [default: 0.15]")
@click.option("--epochs", type=click.IntRange(min=1), help="[default: 10]")
@click.option("--batch", type=click.IntRange(min=2), help="[default: 16]")
@click.option("--learning-rate", type=float, help="Of the trunk; the head's is ten times it. [default: 2e-4]")
@click.option("--crop", type=click.IntRange(min=1), help="Side of training crops. [default: 11/12 of the view's]")
@click.option("--weights", help="hub, lite, none or a file. [default: hub]")
@click.option("--split", help="Only the rows whose split is this.")
@click.option("--score-range", type=(float, float), metavar="LOW HIGH", help="Of the MOS column. [default: 0 100]")
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
@click.option("--runs", type=PathArgument, default=Path("runs"), show_default=True, help="Folder of runs.")
@click.option("-o", "--output", type=PathArgument, help="Folder of this run. [default: a new one in --runs]")
@click.option("--resume", type=PathArgument, help="Go on with the run in this folder; no other option is needed.")
@click.option("--dry-run", is_flag=True, help="Say what it takes: time, memory, disk. Nothing is written.")
@machine_options
@json_option
def teach(
    data: Path | None,
    images: Path | None,
    recipe_path: Path | None,
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
    """Train an ensemble of teachers: each member leaves one fold out, and nobody sees the selection part.

    A run that was cut off goes on with --resume FOLDER, to the same numbers. The run's folder holds a checkpoint a
    member, the out-of-fold and selection scores, TensorBoard and CSV logs, report.json and report.html.
    """
    require_training()
    if resume is not None:
        require_alone(resume)
        run = read_run(resume)
        settings = run.settings
        if run.kind != "teach" or any(name not in settings for name in _SETTINGS):
            raise UsageError(f"{resume}, no run of teach", expected="a run of teach", mend="name such a folder")
        data, images = Path(settings["data"]), Path(settings["images"])
        recipe = _converted(settings["recipe"], str(resume))
        output = resume
    else:
        if data is None:
            raise UsageError("no --data", expected="a CSV with the columns image and mos", mend="--data mos.csv")
        recipe = _settled(_recipe(recipe_path, flags), arithmetic)
        images = data.parent if images is None else images
        settings = {"recipe": recipe, "data": str(data.resolve()), "images": str(images.resolve())}
    dataset = _dataset(data, images, recipe)
    from ..compress.teach import divide, require_weights

    split = divide(recipe, dataset)
    require_weights(recipe, output)
    fabric = launched(accelerator, devices, arithmetic, threads)
    if dry_run:
        from .dry_run import teach_estimate, tell_estimate

        estimate = teach_estimate(recipe, dataset, fabric, output or runs)
        if fabric(recipe.members[0].precision).is_global_zero:
            tell_estimate(estimate, as_json)
        return
    if output is not None:
        # Before further processes are started, which would not know why this one ends.
        goes_on(output, "teach", settings)
    first = fabric(recipe.members[0].precision)
    folder = output
    if first.is_global_zero:
        folder = start_run(runs, "teach", recipe.name, settings, folder=output)
        say(f"run {folder}; if it is cut off: edgeiqa teach --resume {folder}")
    folder = first.broadcast(folder)
    assert folder is not None
    from ..compress.teach import teach as teach_ensemble

    with watching(folder, first=first.is_global_zero) as progress:
        report = teach_ensemble(recipe, dataset, folder, fabric=fabric, split=split, watch=progress)
    if first.is_global_zero:
        from .run_pages import write_teach_page

        write_teach_page(folder, recipe, report)
        finish_run(folder)
        _tell(report, folder, as_json)


def read_recipe(path: Path) -> TeachRecipe:
    """Read a recipe.

    Raises:
        UsageError: there is no such file, or it is no recipe.
    """
    try:
        return _converted(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f"{path}: {error}", expected="a recipe such as recipes/default_ensemble.toml", mend="correct it"
        ) from error


def _converted(value: object, where: str) -> TeachRecipe:
    from ..compress.grid import GridRecipe
    from ..compress.teach_records import TeachRecipe

    try:
        if isinstance(value, dict) and "configurations" in value:
            return msgspec.convert(value, GridRecipe).expanded()
        return msgspec.convert(value, TeachRecipe)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{where}: {error}", expected="a recipe such as recipes/default_ensemble.toml", mend="correct it"
        ) from error


def _recipe(path: Path | None, given: dict[str, Any]) -> TeachRecipe:
    if path is not None:
        require_no_parts(given, given)
        return read_recipe(path)
    flags = {name: value for name, value in given.items() if value not in (None, ())}
    from ..compress.stages import Augmentation, Stage
    from ..compress.teach_records import DataRecipe, MemberRecipe, TeachRecipe

    backbones: tuple[str, ...] = flags.get("backbones", ())
    if not backbones:
        raise UsageError(
            "neither --recipe nor --backbone",
            expected="a recipe, or timm's name of a network",
            mend="--backbone convnext_tiny, or --recipe recipes/default_ensemble.toml",
        )
    sizes = [parse_size(size) for size in flags.get("sizes", ("384x384",))]
    if len(sizes) not in (1, len(backbones)):
        raise UsageError(
            f"{len(sizes)} sizes for {len(backbones)} backbones",
            expected="one, or one a backbone",
            mend="repeat --size",
        )
    folds, seed = flags.get("folds", 5), flags.get("seed", 0)
    rate = flags.get("learning_rate", 2e-4)
    members = []
    for fold in range(folds):
        backbone, (width, height) = backbones[fold % len(backbones)], sizes[fold % len(sizes)]
        crop = None if _is_fixed(backbone) else flags.get("crop", min(width, height) * 11 // 12)
        epochs = flags.get("epochs", 10)
        members.append(
            MemberRecipe(
                name=f"{backbone}-{fold}",
                backbone=backbone,
                width=width,
                height=height,
                heldout_fold=fold,
                weights=parse_weights(flags.get("weights", "hub")),
                stages=(
                    Stage(
                        epochs=epochs,
                        batch=flags.get("batch", 16),
                        learning_rate=rate,
                        head_learning_rate=10 * rate,
                        augmentation=Augmentation(crop=crop, whole_epochs=min(1, epochs - 1) if crop else 0),
                    ),
                ),
                seed=seed + fold,
            )
        )
    return TeachRecipe(
        name=backbones[0] if len(set(backbones)) == 1 else "mixed",
        data=DataRecipe(
            score_range=flags.get("score_range", (0.0, 100.0)),
            split=flags.get("split"),
            folds=folds,
            selection_fraction=flags.get("selection", 0.15),
            seed=seed,
        ),
        members=tuple(members),
    )


def _settled(recipe: TeachRecipe, arithmetic: str) -> TeachRecipe:
    """What a run keeps, so that it can go on from another folder and with no other option.

    The members that do not say their precision have the run's; a file of weights is named by its whole path.
    """
    from ..compress.models.weights import FileWeights

    def settled(member: MemberRecipe) -> MemberRecipe:
        weights = member.weights
        if isinstance(weights, FileWeights):
            weights = FileWeights(path=str(Path(weights.path).resolve()))
        return msgspec.structs.replace(member, precision=member.precision or arithmetic, weights=weights)

    return msgspec.structs.replace(recipe, members=tuple(settled(member) for member in recipe.members))


def _is_fixed(backbone: str) -> bool:
    from ..compress.models.backbones import has_fixed_size

    return has_fixed_size(backbone)


def _dataset(data: Path, images: Path, recipe: TeachRecipe) -> Dataset:
    from ..compress.data.dataset import read_csv
    from ..compress.data.splits import select_apart

    whole = read_csv(data, images, score_range=recipe.data.score_range, citation=recipe.data.citation)
    if recipe.data.split is None:
        say_splits(data, whole)
        return whole
    dataset = select_apart(whole, recipe.data.split)
    if out := sum(photo.split == recipe.data.split for photo in whole.photos) - len(dataset.photos):
        say(f"{out} photographs are kept out, as another split has them too")
    return dataset


def _interval(figure: Interval) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _tell_candidates(report: TeachReport) -> None:
    chosen = sorted((one for one in report.candidates if one.chosen), key=lambda one: one.fold)
    rows = [
        (
            str(one.fold),
            f"{one.configuration or one.member} ({one.source})",
            one.checkpoint or "last",
            str(one.epoch),
            *(f"{one.out_of_fold[name]:.3f}" for name in ("plcc", "srcc")),
            f"{one.out_of_fold['rmse']:.2f}",
        )
        for one in chosen
    ]
    title = f"best set-up of each fold, of {len(report.candidates)} candidates"
    print_table(("fold", "set-up", "checkpoint", "epoch", "PLCC", "SRCC", "RMSE"), rows, title=title)


def _tell(report: TeachReport, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json({"run": str(folder), "report": report})
        return
    rows: list[tuple[str, ...]] = [
        (
            f"{one.member} (fold {one.fold})",
            _interval(one.out_of_fold.srcc),
            _interval(one.out_of_fold.plcc),
            f"{one.out_of_fold.rmse.value:.2f}",
            _interval(one.selection.srcc),
            _interval(one.selection.plcc),
            f"{one.selection.rmse.value:.2f}",
        )
        for one in report.members
    ]
    if report.candidates:
        _tell_candidates(report)
    average = [f"{report.average[name]:.3f}" for name in ("srcc", "plcc")]
    rows.append(("average", *average, f"{report.average['rmse']:.2f}", "", "", ""))
    pooled, ensemble = report.pooled, report.ensemble
    rows.append(("pooled", _interval(pooled.srcc), _interval(pooled.plcc), f"{pooled.rmse.value:.2f}", "", "", ""))
    rows.append(
        ("ensemble", "", "", "", _interval(ensemble.srcc), _interval(ensemble.plcc), f"{ensemble.rmse.value:.2f}")
    )
    columns = ("", "out of fold SRCC", "PLCC", "RMSE", "selection SRCC", "PLCC", "RMSE")
    print_table(
        columns, rows, title=f"{report.name}: {report.training} photographs in folds, {report.selection} reserved"
    )
    say(f"best member on the selection part: {report.best_member}")
    say(f"{folder / 'report.html'}")
