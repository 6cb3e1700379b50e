"""``edgeiqa export``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from ..runtime.bundle import Bundle, refuse_existing
from ..runtime.errors import UsageError
from ..runtime.manifest import Precision, StoredAs, Target
from .export_flags import is_plain, refuse_unused
from .export_inputs import find_members, only_bundle, parse_combine, read_golden
from .export_members import Within, refuse_members
from .options import (
    PathArgument,
    budget_of,
    device_option,
    find_photographs,
    json_option,
    require_libraries,
    require_name,
    say_left_to_profile,
    with_device,
)
from .show import say

if TYPE_CHECKING:
    from ..export.kinds import Kind
    from ..export.pack import Photograph
    from ..profiles.budget import Budget
    from ..runtime.manifest import Manifest
    from .export_source import Source
    from .packing import Trained

__all__ = ["export"]

_TARGETS: tuple[Target, ...] = ("onnx", "openvino", "tensorrt")
_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")


@click.command()
@click.argument("inputs", nargs=-1, type=PathArgument, metavar="[CHECKPOINT|BUNDLE]...")
@click.option(
    "--target", "targets", multiple=True, type=click.Choice(_TARGETS), help="May be repeated. [default: onnx]"
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(_PRECISIONS),
    help="Of the arithmetic; may be repeated. [default: fp32; fp16 for tensorrt]",
)
@click.option("--all", "everything", is_flag=True, help="Every precision of every target; keeps what passes.")
@click.option(
    "--store",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of FP32's weights in the file.",
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
    "--test-time",
    metavar="flip|five|ten|nine|seeded[:N]",
    help="Score the mirror image too, or crops of 7/8: as many times the multiply-adds. [default: the view alone]",
)
@click.option(
    "--combine", default="mean", show_default=True, help="Of several members: mean, median, or weights such as 0.6,0.4."
)
@click.option(
    "--members",
    "kept",
    help="Of a teach run, which it keeps: how many (chosen on the selection part), names with commas between, or best: "
    "as many as score best there. Choices are within the multiply-adds and bytes of --budget. [default: all]",
)
@click.option(
    "--images",
    type=PathArgument,
    help="Photographs for the gates, on which nothing was trained. [default: the golden ones for parity; for rank the "
    "run's selection part]",
)
@click.option("--data", type=PathArgument, help="CSV with opinions on --images; the rank gate then holds their SRCC.")
@click.option("--split", help="Only its rows of this split.")
@click.option("--calibration", type=PathArgument, help="Photographs of the training side. [default: those of the run]")
@click.option("--calibration-count", type=click.IntRange(min=16), default=300, show_default=True, help="How many.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of their choice.")
@click.option("--recipe", help="Of INT8: a name, or a JSON file. [default: that of the backbone's family]")
@click.option(
    "--cpu", type=click.Choice(["x86", "arm"]), default="x86", show_default=True, help="That ONNX in INT8 is for."
)
@click.option("--least-srcc", type=click.FloatRange(-1, 1), help="To FP32, in the rank gate. [default: .99]")
@click.option(
    "--max-srcc-drop", type=click.FloatRange(min=0), help="To opinions, upper end of the interval. [default: .03]"
)
@click.option(
    "--max-swapped-share",
    type=click.FloatRange(0, 1),
    help="Of the pairs of photographs that change order, such as .02. [default: not held]",
)
@click.option(
    "--swap-margin",
    type=click.FloatRange(min=0),
    help="Points by which such a pair must have moved to count. [default: a hundredth of the scale]",
)
@click.option("--max-change", type=click.FloatRange(min=0), help="Of any one score, in points. [default: not held]")
@click.option("--compute-capability", "capabilities", help="Of TensorRT engines, such as 86,89.")
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
    precisions: tuple[str, ...],
    everything: bool,
    store: str,
    output: Path | None,
    overwrite: bool,
    system: str | None,
    backbone: str | None,
    size: str | None,
    weights: str | None,
    test_time: str | None,
    combine: str,
    kept: str | None,
    images: Path | None,
    data: Path | None,
    split: str | None,
    calibration: Path | None,
    calibration_count: int,
    seed: int,
    recipe: str | None,
    cpu: str,
    least_srcc: float | None,
    max_srcc_drop: float | None,
    max_swapped_share: float | None,
    swap_margin: float | None,
    max_change: float | None,
    capabilities: str | None,
    golden: tuple[Path, ...],
    tolerance: float | None,
    runs: Path,
    budget: str | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Make a bundle of checkpoints (each a member; a run's folder names all in it) or of a bundle.

    Without one: of the newest run, that is the student that was distilled or fine-tuned last, or else the ensemble
    taught last.

    FP32 is compared with torch through the runtime's own path, file in and score out; every other precision is held to
    FP32's ranking by the rank gate, on photographs that no stage trained on, after its score map is fitted again. If a
    gate fails, nothing is written and the exit status is 1; with --all, if none passes. Networks are held to --budget
    before the export, and the file before it is written.
    """
    from ..export.kinds import kinds_of

    chosen = cast("tuple[Target, ...]", tuple(dict.fromkeys(targets)) or (_TARGETS if everything else ("onnx",)))
    if everything and precisions:
        raise UsageError("--all and --precision", expected="one of them", mend="leave one out")
    kinds = _all_kinds(chosen) if everything else kinds_of(chosen, cast("tuple[Precision, ...]", precisions))
    refuse_unused(kinds)
    plain = all(is_plain(kind) for kind in kinds)
    require_libraries(_libraries(kinds, plain=plain), "compress,export")
    from ..export.convert import require_recipe
    from ..export.pack import golden_photographs
    from .export_budget import bytes_a_weight
    from .export_options import conversion_options, parity_photographs, rank_limits
    from .export_show import tell_export
    from .export_steps import Quantization, export_kinds

    if device is not None:
        from ..profiles.device import load_device

        for target in chosen:
            load_device(device).require_target(target)
    several = None
    if test_time is not None:
        from .export_test_time import at_test_time, parse_test_time

        several = parse_test_time(test_time)
    bounds = with_device(budget, device)
    limits = None if bounds is None else budget_of(bounds)
    started = time.perf_counter()
    # All that can be refused is refused before the export, which takes minutes for a large network.
    if output is not None:
        require_name(output)
        refuse_existing(output, overwrite=overwrite)
    # Defaults of edgeiqa.toml may be for other kinds than this call's.
    options = conversion_options(
        recipe if any(kind.precision == "int8" for kind in kinds) else None,
        cpu,
        capabilities if any(kind.target == "tensorrt" for kind in kinds) else None,
        runs,
    )
    for kind in kinds:
        require_recipe(kind, options)
    golden_photos = read_golden(golden) if golden else ()
    photos: Sequence[Photograph | Path] = golden_photos or golden_photographs()
    if images and any(is_plain(kind) for kind in kinds):
        photos = parity_photographs(images)
    elif images:
        find_photographs((images,))
    path_of_bundle = only_bundle(inputs)
    members: list[Trained] = []
    folders: list[Path] = []
    if path_of_bundle is None:
        within = Within(budget=limits, images=several, bytes_a_weight=bytes_a_weight(kinds, cast("StoredAs", store)))
        members, folders = find_members(inputs, system, backbone, size, weights, runs, kept=kept, within=within)
        if several is not None:
            members = at_test_time(members, several)
        source, name = _of_networks(members, golden_photos or golden_photographs(), combine, limits, bounds)
    else:
        refuse_members(kept, path_of_bundle.name)
        if several is not None:
            raise UsageError(
                f"--test-time {several} with {path_of_bundle.name}, whose graphs take the images they were made for",
                expected="it with a run, checkpoints, --backbone or --system",
                mend="name the run or checkpoint that the bundle was made of",
            )
        source, name = _of_bundle(path_of_bundle, golden_photos, combine, limits)
    path = output or Path(f"{name}.eiqa")
    refuse_existing(path, overwrite=overwrite)
    from .export_photographs import find_export_photographs

    quantization = Quantization(
        photographs=partial(
            find_export_photographs,
            folders,
            calibration=calibration,
            images=images,
            data=data,
            split=split,
            most=calibration_count,
            seed=seed,
            hold_drop=max_srcc_drop is not None,
        ),
        count=calibration_count,
        seed=seed,
        options=options,
        limits=rank_limits(
            least_srcc, max_srcc_drop, max_change, max_swapped_share=max_swapped_share, swap_margin=swap_margin
        ),
        go_on=everything,
    )
    say(f"exporting {name} to {', '.join(map(str, kinds))}")
    tell = partial(tell_export, path=path, as_json=as_json, started=started, lacking=chosen if everything else ())
    exported = export_kinds(
        path,
        source,
        kinds,
        photos=photos,
        store=cast("StoredAs", store),
        tolerance=tolerance,
        quantization=None if plain else quantization,
        overwrite=overwrite,
        accept=None if limits is None else partial(_hold, members, limits),
        tell=tell,
    )
    tell(exported)


def _libraries(kinds: tuple[Kind, ...], *, plain: bool) -> tuple[str, ...]:
    needed = ["torch", "timm", "safetensors", "onnx", "onnxscript"]
    if any(kind.target == "openvino" for kind in kinds):
        needed.append("openvino")
    if any(kind.precision == "int8" for kind in kinds):
        needed.append("nncf")
    return tuple(needed if plain else [*needed, "scipy"])


def _all_kinds(targets: tuple[Target, ...]) -> tuple[Kind, ...]:
    from ..export.kinds import PRECISIONS, Kind

    return tuple(Kind(target, precision) for target in targets for precision in PRECISIONS[target])


def _of_networks(
    members: list[Trained], golden: tuple[Photograph, ...], combine: str, limits: Budget | None, bounds: str | None
) -> tuple[Source, str]:
    """Networks, which are counted, and held to the budget before anything is exported."""
    from .cost_show import describe_counts
    from .export_budget import count_members, hold_members
    from .export_source import source_of_trained

    cost = count_members(members) if limits is None else hold_members(members, limits)
    within = "" if limits is None else f"within {limits.name}: "
    counts = describe_counts(cost, lambda convention: count_members(members, convention))
    say(f"{within}{counts}; {cost.parameters / 1e6:.4g} M parameters")
    if limits is not None:
        say_left_to_profile(limits, bounds or "")
    name = members[0].name if len(members) == 1 else "ensemble"
    return source_of_trained(members, golden=golden, combine=parse_combine(combine, len(members))), name


def _of_bundle(path: Path, golden: tuple[Photograph, ...], combine: str, limits: Budget | None) -> tuple[Source, str]:
    """A bundle's graphs, whose multiply-adds and parameters are held to the budget first; bytes it may lose yet."""
    from .export_budget import hold_graphs
    from .export_source import source_of_bundle

    if combine != "mean":
        raise UsageError("--combine with a bundle", expected="the bundle's own rule", mend="leave it out")
    bundle = Bundle.open(path)
    if limits is not None:
        hold_graphs(bundle.manifest, 0, limits)
    return source_of_bundle(bundle, golden=golden), f"{path.stem}-export"


def _hold(members: list[Trained], limits: Budget, manifest: Manifest, size_bytes: int) -> None:
    from .export_budget import hold_exported, hold_graphs

    if members:
        hold_exported(members, manifest, size_bytes, limits)
    else:
        hold_graphs(manifest, size_bytes, limits)
