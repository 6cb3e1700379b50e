"""Pack what ships (``python -m edgeiqa.tools.default_bundle``): the ensemble that `teach` trained, and its student.

``ensemble`` packs the members of a run of `teach`, weights as FP16. ``student`` gives a bundle that `export` made
and gated its name, card and origin. Recipes and commands are in ``recipes/default_ensemble.toml`` and
``recipes/default_student.toml``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
import msgspec

from ..compress.checkpoint import RECORD_NAME
from ..compress.teach import MEMBERS, REPORT
from ..compress.teach_records import DataRecipe, TeachRecipe, TeachReport
from ..export.fuse import fold_batch_norms, round_to_fp16
from ..export.gate import PARITY_TOLERANCE, write_gated
from ..export.pack import CARD_NAME, golden_photographs, pack
from ..runtime.bundle import Bundle, refuse_existing, write_bundle
from ..runtime.errors import UsageError
from ..runtime.manifest import Mean, Provenance, ScoreScale
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
from .runs import read_run
from .verb_teach import read_recipe

if TYPE_CHECKING:
    from ..compress.models.network import QualityNet

__all__ = ["main", "released"]

_COMMANDS = (
    "edgeiqa teach --recipe recipes/default_ensemble.toml --data DIR/mos.csv --images DIR/images -o runs/ensemble",
    "python -m edgeiqa.tools.default_bundle ensemble runs/ensemble --images PHOTOGRAPHS --card docs/default-bundle.md "
    "-o ensemble.eiqa",
)
_STUDENT_COMMANDS = (
    "edgeiqa distill --recipe recipes/default_student.toml --teacher default --data DIR/mos.csv --images DIR/images "
    "--selection 0.05 -o runs/student",
    "edgeiqa export runs/student --precision int8 -o exported.eiqa",
    "python -m edgeiqa.tools.default_bundle student exported.eiqa --recipe recipes/default_ensemble.toml "
    "--data 'LIVE In the Wild Image Quality Challenge, all 930 photographs but 46' --card docs/default-bundle.md "
    "-o default.eiqa",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Pack the default bundle and its teacher."""


@main.command(name="ensemble")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="NAME.eiqa.")
@click.option("--images", type=click.Path(path_type=Path), required=True, help="Photographs for the parity gate.")
@click.option("--card", type=click.Path(path_type=Path), help="Model card, Markdown, to pack.")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
def ensemble_command(run: Path, output: Path, images: Path, card: Path | None, overwrite: bool) -> None:
    """Pack the members of RUN, a run of edgeiqa teach.

    Batch norms are folded, weights stored as FP16, and the bundle is gated on every photograph of --images.
    """
    _pack(run, output, images, card, overwrite)


@main.command(name="student")
@click.argument("exported", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="NAME.eiqa.")
@click.option(
    "--recipe", type=click.Path(path_type=Path), required=True, help="Of the teachers: data, citation and licence."
)
@click.option("--data", "learned_from", help="What it learned from, for people. [default: as the teachers]")
@click.option("--card", type=click.Path(path_type=Path), required=True, help="Model card, Markdown, to pack.")
@click.option("--overwrite", is_flag=True, help="Replace the output.")
def student_command(
    exported: Path, output: Path, recipe: Path, learned_from: str | None, card: Path, overwrite: bool
) -> None:
    """Give EXPORTED, a bundle of `edgeiqa export`, the name, card and origin that it ships with; its graphs stay."""
    refuse_existing(output, overwrite=overwrite)
    data = read_recipe(recipe).data
    bundle = Bundle.open(exported)
    provenance = msgspec.structs.replace(
        bundle.manifest.provenance,
        commands=_STUDENT_COMMANDS,
        data=learned_from or data.name,
        citation=data.citation,
        licence=_licence(data),
    )
    manifest = msgspec.structs.replace(bundle.manifest, name=output.stem, provenance=provenance)
    parts = {name: bundle.read(name) for name in bundle.manifest.parts} | {CARD_NAME: card.read_bytes()}
    written = write_bundle(output, manifest, parts, overwrite=overwrite)
    click.echo(f"{output}: {written.size_bytes / 1e6:.2f} MB")


def _licence(data: DataRecipe) -> str:
    return f"weights: Apache-2.0; photographs: {data.licence}"


def _ensemble_of(folder: Path) -> tuple[TeachRecipe, tuple[str, ...]]:
    """The recipe of a run of `teach`, and the names of its ensemble's members, each of which is trained.

    Raises:
        UsageError: it is no such run, or a member is missing.
    """
    run = read_run(folder)
    if run.kind != "teach":
        raise UsageError(f"{folder}, a run of {run.kind}", expected="a run of teach", mend="name such a folder")
    try:
        recipe = msgspec.convert(run.settings.get("recipe"), TeachRecipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"{folder}: {error}", expected="a run of teach", mend="name its folder") from error
    # Of a grid the recipe names the candidates, and the report those that were chosen.
    names = _chosen(folder) if recipe.one_a_fold else tuple(member.name for member in recipe.members)
    missing = [name for name in names if not (folder / MEMBERS / name / RECORD_NAME).is_file()]
    if missing:
        raise UsageError(
            f"{folder} without {', '.join(missing)}",
            expected="every member",
            mend=f"let it finish: edgeiqa teach --resume {folder}",
        )
    return recipe, names


def _chosen(folder: Path) -> tuple[str, ...]:
    path = folder / REPORT
    try:
        report = msgspec.json.decode(path.read_bytes(), type=TeachReport)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} ({error})",
            expected="the report of a finished run, which names each fold's member",
            mend=f"let it finish: edgeiqa teach --resume {folder}",
        ) from error
    return tuple(one.member for one in report.members)


def _pack(run: Path, output: Path, images: Path, card: Path | None, overwrite: bool) -> None:
    refuse_existing(output, overwrite=overwrite)
    recipe, names = _ensemble_of(run)
    members = [released(member) for member in load_trained([run / MEMBERS / name for name in names])]
    packing = pack(
        output.stem,
        [export_member(member, ("onnx",), "fp16") for member in members],
        combine=Mean(),
        scale=ScoreScale(),
        golden=golden_photographs(),
        provenance=Provenance(
            created=max(member.provenance["created"] for member in members),
            versions=library_versions(),
            commands=_COMMANDS,
            data=recipe.data.name,
            citation=recipe.data.citation,
            licence=_licence(recipe.data),
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
