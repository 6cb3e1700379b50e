"""``edgeiqa export``."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click
import msgspec

from ..runtime.bundle import refuse_existing
from ..runtime.errors import UsageError
from ..runtime.manifest import Combine, Mean, Median, StoredAs, Target, WeightedMean
from .options import (
    PathArgument,
    budget_of,
    device_option,
    find_photographs,
    json_option,
    parse_size,
    require_libraries,
    require_name,
    say_left_to_profile,
    with_device,
)
from .runs import newest_run
from .show import print_json, say
from .weights_option import parse_weights

if TYPE_CHECKING:
    from ..export.pack import Packing, Photograph
    from ..profiles.budget import Budget
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
@click.option("--budget", help="Limits such as 50GMACs,4MB, or a name such as uhd-50g; over them nothing is written.")
@device_option
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
    budget: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Make a bundle of checkpoints (each a member; a run's folder names all in it). Without one: the newest run.

    That is the student that was distilled last, or else the ensemble that was taught last.

    Every graph is compared with torch through the runtime's own path, file in and score out, before anything is
    written; exit status 1 if one is further away than the tolerance. Networks are held to --budget before the export,
    and the file before it is written.
    """
    chosen = cast("tuple[Target, ...]", tuple(dict.fromkeys(targets)) or ("onnx",))
    libraries = ("torch", "timm", "safetensors", "onnx", "onnxscript")
    require_libraries((*libraries, "openvino") if "openvino" in chosen else libraries, "compress,export")
    from ..export.pack import golden_photographs
    from .cost_show import describe_counts
    from .export_budget import count_members, hold_exported, hold_members
    from .packing import export_gated, read_photographs

    if device is not None:
        from ..profiles.device import load_device

        for target in chosen:
            load_device(device).require_target(target)
    bounds = with_device(budget, device)
    limits = None if bounds is None else budget_of(bounds)
    started = time.perf_counter()
    # All that can be refused is refused before the export, which takes minutes for a large network.
    if output is not None:
        require_name(output)
        refuse_existing(output, overwrite=overwrite)
    golden_photos = _golden(golden) if golden else golden_photographs()
    photos = read_photographs(find_photographs((images,))) if images else golden_photos
    members = _members(inputs, system, backbone, size, weights, runs)
    cost = count_members(members) if limits is None else hold_members(members, limits)
    within = "" if limits is None else f"within {limits.name}: "
    counts = describe_counts(cost, lambda convention: count_members(members, convention))
    say(f"{within}{counts}; {cost.parameters / 1e6:.4g} M parameters")
    if limits is not None:
        say_left_to_profile(limits, bounds or "")
    combined = parse_combine(combine, len(members))
    name = output.stem if output else members[0].name if len(members) == 1 else "ensemble"
    path = output or Path(f"{name}.eiqa")
    refuse_existing(path, overwrite=overwrite)
    say(f"exporting {len(members)} member{'s' if len(members) > 1 else ''} to {', '.join(chosen)}")
    bundle, reports = export_gated(
        path,
        members,
        golden=golden_photos,
        photos=photos,
        targets=chosen,
        store=cast("StoredAs", store),
        combine=combined,
        tolerance=tolerance,
        overwrite=overwrite,
        accept=None if limits is None else partial(_accept, members, limits),
    )
    if limits is not None:
        # A file is some kilobytes more than its parts.
        hold_exported(members, bundle.manifest, bundle.size_bytes, limits)
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


def _accept(members: list[Trained], limits: Budget, packing: Packing) -> None:
    from .export_budget import hold_exported

    hold_exported(members, packing.manifest, sum(len(part) for part in packing.parts.values()), limits)


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
    """The student that was finished last, else the ensemble, else whatever has the newest checkpoint."""
    from ..compress.checkpoint import RECORD_NAME

    for kind in ("distill", "teach"):
        run = newest_run(runs, kind)
        if run is not None:
            return run
    records = [path for pattern in ("*", "*/*", "*/members/*") for path in runs.glob(f"{pattern}/{RECORD_NAME}")]
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
