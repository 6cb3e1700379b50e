"""Make the default bundle (``python -m edgeiqa.tools.default_bundle``): train its members by a recipe, then pack them.

This is the replayable command behind ``runtime/data/default.eiqa``; its recipe is ``recipes/default.toml``.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from ..compress.checkpoint import Checkpoint, save_checkpoint
from ..compress.data.dataset import Dataset, read_csv, select
from ..compress.data.splits import Split, split_folds
from ..compress.finetune import EpochFigures, FinetuneRecipe, finetune, load_views, predict
from ..compress.models.systems import one_backbone
from ..compress.models.weights import Weights
from ..profiles.metrics import plcc, rmse, srcc
from ..runtime.errors import EdgeIQAError, UsageError

__all__ = ["DefaultRecipe", "main", "read_recipe"]


class DataRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which photographs, and how they are divided."""

    name: str
    citation: str
    licence: str
    score_range: tuple[float, float]
    folds: int
    selection_fraction: float
    seed: int
    split: str | None = None


class MemberRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member: its backbone, input, starting weights, the fold it leaves out, and its fine-tune."""

    name: str
    backbone: str
    width: int
    height: int
    heldout_fold: int
    weights: Weights
    finetune: FinetuneRecipe


class DefaultRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole recipe, as ``recipes/default.toml`` has it."""

    name: str
    data: DataRecipe
    members: tuple[MemberRecipe, ...]


def read_recipe(path: Path) -> DefaultRecipe:
    """Read a recipe.

    Raises:
        UsageError: there is no such file, or it is no recipe.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), DefaultRecipe)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{path}: {error}", expected="a recipe such as recipes/default.toml", mend="correct it"
        ) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Train the members of the default bundle by a recipe, and pack them."""


@main.command()
@click.option("--recipe", "recipe_path", type=click.Path(path_type=Path), required=True)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="CSV with image, mos and split.")
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Folder of the photographs.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder of the run; resumed if there."
)
@click.option("--device", default="auto", help="Lightning Fabric's accelerator.")
def train(recipe_path: Path, data: Path, images: Path, output: Path, device: str) -> None:
    """Fine-tune each member; a member that is finished is passed over, one that was cut off goes on."""
    try:
        _train(read_recipe(recipe_path), recipe_path, data, images, output, device)
    except EdgeIQAError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(error.exit_code) from error


def _train(recipe: DefaultRecipe, recipe_path: Path, data: Path, images: Path, output: Path, device: str) -> None:
    dataset = read_csv(data, images, score_range=recipe.data.score_range)
    if recipe.data.split is not None:
        dataset = select(dataset, split=recipe.data.split)
    split = split_folds(dataset, recipe.data.folds, recipe.data.selection_fraction, recipe.data.seed)
    for member in recipe.members:
        folder = output / member.name
        if (folder / "checkpoint.json").is_file():
            click.echo(f"{member.name}: finished already", err=True)
            continue
        _train_member(recipe, recipe_path, member, dataset, split, folder, device)


def _train_member(
    recipe: DefaultRecipe,
    recipe_path: Path,
    member: MemberRecipe,
    dataset: Dataset,
    split: Split,
    folder: Path,
    device: str,
) -> None:
    system = one_backbone(member.backbone, member.width, member.height, stages=(1, 2, 3, 4))
    mos = dataset.unit_mos
    paths = [photo.path for photo in dataset.photos]
    heldout = np.array(split.folds[member.heldout_fold])
    training = np.array(sorted(set(range(len(paths))) - set(split.selection) - set(heldout.tolist())))
    selection = np.array(split.selection)
    views = {
        name: load_views([paths[row] for row in rows], system.preprocess)
        for name, rows in (("training", training), ("heldout", heldout), ("selection", selection))
    }
    click.echo(f"{member.name}: {len(training)} train, {len(heldout)} held out, {len(selection)} selection", err=True)

    def tell(figures: EpochFigures) -> None:
        facts = " ".join(f"{name} {value:.4g}" for name, value in asdict(figures).items())
        click.echo(f"{member.name}: {facts}", err=True)

    network = finetune(
        system,
        member.weights,
        member.finetune,
        training=(views["training"], mos[training]),
        heldout=(views["heldout"], mos[heldout]),
        folder=folder,
        device=device,
        on_epoch=tell,
    )
    from ..profiles.fit_score_map import fit_sigmoid

    low, high = 0.0, 100.0
    raw = predict(network, views["heldout"])
    score_map = fit_sigmoid(raw, low + (high - low) * mos[heldout], low=low, high=high)
    score_map = msgspec.structs.replace(
        score_map,
        fitted_on=f"{len(heldout)} out-of-fold photographs (fold {member.heldout_fold} of {recipe.data.folds})",
    )
    judged = score_map.apply(predict(network, views["selection"]))
    people = low + (high - low) * mos[selection]
    figures = {
        "n": len(selection),
        "srcc": srcc(judged, people),
        "plcc": plcc(judged, people),
        "rmse": rmse(judged, people),
    }
    click.echo(f"{member.name}: selection part {figures}", err=True)
    provenance: dict[str, Any] = {
        "created": datetime.now(UTC).date().isoformat(),
        "recipe": msgspec.to_builtins(member),
        "recipe_sha256": hashlib.sha256(recipe_path.read_bytes()).hexdigest(),
        "data": msgspec.to_builtins(recipe.data),
        "versions": {name: version(name) for name in ("edgeiqa", "torch", "timm", "lightning", "pillow")},
        "training_photographs": len(training),
        "selection": figures,
    }
    save_checkpoint(
        folder, Checkpoint(name=member.name, system=system, score_map=score_map, provenance=provenance), network
    )


if __name__ == "__main__":
    main()
