"""Make the default bundle (``python -m edgeiqa.tools.default_bundle``): train its members by a recipe, then pack them.

This is the replayable command behind ``runtime/data/default.eiqa``; its recipe is ``recipes/default.toml``.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec
import numpy as np

from ..compress.checkpoint import RECORD_NAME, Checkpoint, save_checkpoint
from ..compress.data.dataset import Dataset, read_csv, select
from ..compress.data.splits import Split, split_folds
from ..compress.finetune import EpochFigures, FinetuneRecipe, finetune, load_views, predict
from ..compress.models.systems import one_backbone
from ..compress.models.weights import Weights
from ..export.fuse import fold_batch_norms, round_to_fp16
from ..export.gate import PARITY_TOLERANCE, write_gated
from ..export.pack import golden_photographs, pack
from ..profiles.fit_score_map import fit_sigmoid
from ..profiles.metrics import plcc, rmse, srcc
from ..runtime.bundle import refuse_existing
from ..runtime.errors import UsageError
from ..runtime.manifest import Mean, Provenance, ScoreScale
from ..runtime.preprocess import FULL_DECODE, DctDecode, FullDecode
from .command import run as run_command
from .options import find_photographs
from .packing import (
    Trained,
    export_member,
    library_versions,
    load_trained,
    read_photographs,
    torch_reference,
)

if TYPE_CHECKING:
    from ..compress.models.network import QualityNet

__all__ = ["DefaultRecipe", "main", "read_recipe", "released"]


_RECIPE_NAME = "recipe.json"


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
    decode: FullDecode | DctDecode = FULL_DECODE


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
    _train(read_recipe(recipe_path), data, images, output, device)


def _train(recipe: DefaultRecipe, data: Path, images: Path, output: Path, device: str) -> None:
    dataset = read_csv(data, images, score_range=recipe.data.score_range)
    if recipe.data.split is not None:
        dataset = select(dataset, split=recipe.data.split)
    split = split_folds(dataset, recipe.data.folds, recipe.data.selection_fraction, recipe.data.seed)
    output.mkdir(parents=True, exist_ok=True)
    (output / _RECIPE_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(recipe), indent=2))
    for member in recipe.members:
        folder = output / member.name
        if (folder / RECORD_NAME).is_file():
            click.echo(f"{member.name}: finished already", err=True)
            continue
        _train_member(recipe, member, dataset, split, folder, device)


def _train_member(
    recipe: DefaultRecipe,
    member: MemberRecipe,
    dataset: Dataset,
    split: Split,
    folder: Path,
    device: str,
) -> None:
    system = one_backbone(member.backbone, member.width, member.height, stages=(1, 2, 3, 4), decode=member.decode)
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
    low, high = 0.0, 100.0
    raw = predict(network, views["heldout"])
    fitted_on = f"{len(heldout)} out-of-fold photographs (fold {member.heldout_fold} of {recipe.data.folds})"
    score_map = fit_sigmoid(raw, low + (high - low) * mos[heldout], low=low, high=high, fitted_on=fitted_on)
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
        "data": msgspec.to_builtins(recipe.data),
        "versions": {name: version(name) for name in ("edgeiqa", "torch", "timm", "lightning", "pillow")},
        "training_photographs": len(training),
        "selection": figures,
    }
    save_checkpoint(
        folder, Checkpoint(name=member.name, system=system, score_map=score_map, provenance=provenance), network
    )


@main.command(name="pack")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="NAME.eiqa.")
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Photographs for the parity gate.")
@click.option("--card", type=click.Path(path_type=Path), help="Model card, Markdown, to pack.")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
def pack_command(run: Path, output: Path, images: Path, card: Path | None, overwrite: bool) -> None:
    """Pack the members of a run: batch norms folded, weights stored as FP16, gated on every photograph of --images."""
    _pack(run, output, images, card, overwrite)


def _recipe_of(run: Path) -> DefaultRecipe:
    """The recipe of a run, each of whose members is trained.

    Raises:
        UsageError: it is no run, or a member is missing.
    """
    try:
        recipe = msgspec.json.decode((run / _RECIPE_NAME).read_bytes(), type=DefaultRecipe)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{run}: {error}", expected="a run of train", mend="name its folder") from error
    missing = [member.name for member in recipe.members if not (run / member.name / RECORD_NAME).is_file()]
    if missing:
        raise UsageError(f"{run} without {', '.join(missing)}", expected="every member", mend="let train finish")
    return recipe


def _pack(run: Path, output: Path, images: Path, card: Path | None, overwrite: bool) -> None:
    refuse_existing(output, overwrite=overwrite)
    recipe = _recipe_of(run)
    members = [released(member) for member in load_trained([run / member.name for member in recipe.members])]
    data = members[0].provenance["data"]
    packing = pack(
        output.stem,
        [export_member(member, ("onnx",), "fp16") for member in members],
        combine=Mean(),
        scale=ScoreScale(),
        golden=golden_photographs(),
        provenance=Provenance(
            created=max(member.provenance["created"] for member in members),
            versions=library_versions(),
            commands=(
                "python -m edgeiqa.tools.default_bundle train --recipe recipes/default.toml --data DIR/mos.csv "
                "--images DIR/images -o runs/default",
                "python -m edgeiqa.tools.default_bundle pack runs/default --images PHOTOGRAPHS "
                "--card docs/default-bundle.md -o default.eiqa",
            ),
            data=data["name"],
            citation=data["citation"],
            licence=f"weights: Apache-2.0; photographs: {data['licence']}",
            notes={member.name: member.provenance for member in members},
        ),
        card="" if card is None else card.read_text(),
    )
    bundle, reports = write_gated(
        output,
        packing,
        torch_reference(members),
        read_photographs(find_photographs((images,))),
        # The reference holds the released weights, so FP16 storage is held to the tolerance of FP32.
        tolerance=PARITY_TOLERANCE["fp32"],
        overwrite=overwrite,
    )
    for report in reports:
        largest = f"{report.max_abs_difference:.2g} {report.unit}"
        click.echo(f"parity of {report.engine} with torch on {report.photos} photographs: at most {largest}", err=True)
    click.echo(f"{output}: {bundle.size_bytes / 1e6:.2f} MB")


def released(member: Trained) -> Trained:
    """A member with the weights that are released: batch norms folded, then rounded to the FP16 they are stored as."""
    network = fold_batch_norms(member.network, member.network.system.preprocess.shapes)
    return replace(member, network=cast("QualityNet", round_to_fp16(network)))


if __name__ == "__main__":
    run_command(main, "python -m edgeiqa.tools.default_bundle")
