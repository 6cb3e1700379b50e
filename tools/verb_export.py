"""``edgeiqa export``."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click
import msgspec

from ..runtime.bundle import refuse_existing
from ..runtime.errors import UsageError
from ..runtime.manifest import Combine, Mean, Median, Provenance, ScoreScale, StoredAs, Target, WeightedMean
from .options import PathArgument, find_photographs, json_option, parse_size, require_libraries, require_name
from .show import print_json, say
from .weights_option import parse_weights

if TYPE_CHECKING:
    from ..export.pack import Photograph
    from .packing import Trained

__all__ = ["export"]


@click.command()
@click.argument("inputs", nargs=-1, type=PathArgument, metavar="[CHECKPOINT]...")
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=click.Choice(["onnx", "openvino"]),
    help="May be repeated. [default: onnx]",
)
@click.option("--precision", type=click.Choice(["fp32"]), default="fp32", show_default=True, help="Of the arithmetic.")
@click.option(
    "--store",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the weights in the file.",
)
@click.option(
    "-o", "--output", type=PathArgument, help="NAME.eiqa. [default: in the working folder, by the input's name]"
)
@click.option("--overwrite", is_flag=True, help="Replace the output.")
@click.option(
    "--system", help="Instead of a checkpoint: a published system (three-view, three-scale, challenge-baseline)."
)
@click.option("--backbone", help="Instead of a checkpoint: a timm backbone with a linear head.")
@click.option("--size", help="Of the backbone's input, WIDTHxHEIGHT.")
@click.option("--weights", help="Of --system or --backbone: hub, lite, none, or a file.")
@click.option(
    "--combine", default="mean", show_default=True, help="Of several members: mean, median, or weights such as 0.6,0.4."
)
@click.option("--images", type=PathArgument, help="Photographs for the parity gate. [default: the golden ones]")
@click.option(
    "--golden",
    multiple=True,
    type=PathArgument,
    help="JPEG photographs to pack with their answers. [default: two that ship]",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0, min_open=True),
    help="Of the parity gate, score points. [default: .05; .25 with --store fp16]",
)
@click.option(
    "--runs", type=PathArgument, default=Path("runs"), show_default=True, help="Where the newest run is looked for."
)
@json_option
def export(
    inputs: tuple[Path, ...],
    targets: tuple[str, ...],
    precision: str,  # noqa: ARG001 - one choice until quantization brings the others
    store: str,
    output: Path | None,
    overwrite: bool,
    system: str | None,
    backbone: str | None,
    size: str | None,
    weights: str | None,
    combine: str,
    images: Path | None,
    golden: tuple[Path, ...],
    tolerance: float | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Make a bundle of checkpoints (each a member; a run's folder names all in it). Without one: the newest run.

    Every graph is compared with torch through the runtime's own path, file in and score out, before anything is
    written; exit status 1 if one is further away than the tolerance.
    """
    chosen = cast("tuple[Target, ...]", tuple(dict.fromkeys(targets)) or ("onnx",))
    libraries = ("torch", "timm", "safetensors", "onnx", "onnxscript")
    require_libraries((*libraries, "openvino") if "openvino" in chosen else libraries, "compress,export")
    from ..export.gate import PARITY_TOLERANCE, write_gated
    from ..export.pack import golden_photographs, pack
    from .packing import export_member, library_versions, read_photographs, torch_reference

    started = time.perf_counter()
    # All that can be refused is refused before the export, which takes minutes for a large network.
    if output is not None:
        require_name(output)
        refuse_existing(output, overwrite=overwrite)
    golden_photos = _golden(golden) if golden else golden_photographs()
    photos = read_photographs(find_photographs((images,))) if images else golden_photos
    members = _members(inputs, system, backbone, size, weights, runs)
    combined = parse_combine(combine, len(members))
    name = output.stem if output else members[0].name if len(members) == 1 else "ensemble"
    path = output or Path(f"{name}.eiqa")
    refuse_existing(path, overwrite=overwrite)
    stored_as = cast("StoredAs", store)
    say(f"exporting {len(members)} member{'s' if len(members) > 1 else ''} to {', '.join(chosen)}")
    packed = [export_member(member, chosen, stored_as) for member in members]
    low, high = members[0].score_map.low, members[0].score_map.high
    packing = pack(
        name,
        packed,
        combine=combined,
        scale=ScoreScale(low=low, high=high),
        golden=golden_photos,
        provenance=Provenance(
            created=datetime.now(UTC).date().isoformat(),
            versions=library_versions(),
            notes={member.name: member.provenance for member in members},
        ),
    )
    usual = PARITY_TOLERANCE[stored_as]
    points = tolerance or usual.score_points * (high - low) / 100
    limit = replace(usual, score_points=points)
    bundle, reports = write_gated(path, packing, torch_reference(members), photos, tolerance=limit, overwrite=overwrite)
    if as_json:
        print_json(
            {"bundle": str(path), "size_bytes": bundle.size_bytes, "gates": [msgspec.to_builtins(r) for r in reports]}
        )
        return
    for report in reports:
        say(
            f"parity of {report.engine} {report.precision} with torch on {report.photos} photographs: at most "
            f"{report.max_abs_difference:.2g} {report.unit} (tolerance {report.tolerance:.2g})"
        )
    say(f"{bundle.size_bytes / 1e6:.2f} MB in {time.perf_counter() - started:.0f} s")
    click.echo(path)


def _golden(paths: tuple[Path, ...]) -> tuple[Photograph, ...]:
    from ..export.pack import Photograph, check_golden_names
    from .packing import read_photographs

    photos = tuple(Photograph(Path(photo.name).stem, photo.data) for photo in read_photographs(paths))
    check_golden_names(photos)
    return photos


def _members(
    inputs: tuple[Path, ...],
    system: str | None,
    backbone: str | None,
    size: str | None,
    weights: str | None,
    runs: Path,
) -> list[Trained]:
    from .packing import find_checkpoints, load_trained

    described = [option for option in (system, backbone) if option is not None]
    if len(described) + bool(inputs) > 1:
        raise UsageError(
            "more than one of checkpoints, --system and --backbone", expected="one of them", mend="leave the others out"
        )
    if described:
        return [_untrained(system, backbone, size, weights)]
    if size is not None or weights is not None:
        raise UsageError(
            "--size or --weights with a checkpoint",
            expected="them only with --backbone or --system",
            mend="leave them out",
        )
    if inputs:
        return load_trained([folder for path in inputs for folder in find_checkpoints(path)])
    run = _newest_run(runs)
    say(f"the newest run: {run}")
    return load_trained(find_checkpoints(run))


def _newest_run(runs: Path) -> Path:
    from ..compress.checkpoint import RECORD_NAME

    records = [*runs.glob(f"*/{RECORD_NAME}"), *runs.glob(f"*/*/{RECORD_NAME}")]
    if not records:
        raise UsageError(
            f"{runs}, which holds no run",
            expected="a run with a checkpoint",
            mend="name a checkpoint's folder, or --backbone NAME --size WIDTHxHEIGHT --weights hub|lite|none|FILE",
        )
    newest = max(records, key=lambda record: record.stat().st_mtime_ns)
    return runs / newest.relative_to(runs).parts[0]


def _untrained(system: str | None, backbone: str | None, size: str | None, weights: str | None) -> Trained:
    from ..compress.models.network import build, randomise_head
    from ..compress.models.systems import SYSTEMS, one_backbone
    from .packing import Trained, plain_map

    if weights is None:
        raise UsageError(
            "no --weights", expected="hub, lite, none, or a file", mend="give --weights; none means random weights"
        )
    if system is not None:
        if system not in SYSTEMS:
            raise UsageError(f"system {system!r}", expected=f"one of {', '.join(SYSTEMS)}", mend="name one of these")
        if size is not None:
            raise UsageError("--size with --system", expected="the system's own sizes", mend="leave --size out")
        record = SYSTEMS[system]()
    else:
        if backbone is None or size is None:
            raise UsageError("--backbone without --size", expected="both", mend="give --size WIDTHxHEIGHT")
        width, height = parse_size(size)
        record = one_backbone(backbone, width, height)
    what = "RANDOM WEIGHTS" if weights == "none" else "ITS HEAD IS RANDOM, as backbone weights bring none"
    say(f"{record.name}: {what}; its scores mean nothing")
    # With backbone weights the head starts at one score for all photographs, for training; here that would hide what
    # parity looks for.
    network = build(record, weights=parse_weights(weights))
    if weights != "none":
        randomise_head(network, seed=0)
    # Of a file its name and not where it lies: that is this machine's.
    provenance = {"weights": Path(weights).name, "system": record.name}
    return Trained(record.name, network, plain_map(), provenance)


def parse_combine(text: str, members: int) -> Combine:
    """``mean``, ``median``, or a weight a member with commas between.

    Raises:
        UsageError: it is none of these, or has another number of weights.
    """
    plain: dict[Literal["mean", "median"] | str, Combine] = {"mean": Mean(), "median": Median()}
    if text in plain:
        return plain[text]
    try:
        weights = tuple(float(weight) for weight in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != members:
        raise UsageError(f"--combine {text}", expected=f"mean, median, or {members} weights", mend="correct it")
    return WeightedMean(weights=weights)
