"""What `export` is called with: checkpoints, a bundle, a backbone, photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..runtime.errors import UsageError
from ..runtime.manifest import Combine, Mean, Median, WeightedMean
from .export_members import Within, keep_members, refuse_members
from .options import parse_size
from .runs import finished_runs, newest_run
from .show import say
from .weights_option import parse_weights

if TYPE_CHECKING:
    from ..export.pack import Photograph
    from .packing import Trained

__all__ = ["find_members", "only_bundle", "parse_combine", "read_golden"]


def only_bundle(inputs: tuple[Path, ...]) -> Path | None:
    """The bundle that a call names; None where it names checkpoints or nothing.

    Raises:
        UsageError: a bundle beside other inputs.
    """
    bundles = [path for path in inputs if path.suffix == ".eiqa" and not path.is_dir()]
    if bundles and len(inputs) > 1:
        raise UsageError(
            f"{len(inputs)} inputs, {bundles[0].name} among them", expected="one bundle alone", mend="leave others out"
        )
    return bundles[0] if bundles else None


def read_golden(paths: tuple[Path, ...]) -> tuple[Photograph, ...]:
    """Photographs to pack, named by their files without suffix."""
    from ..export.pack import Photograph, check_golden_names
    from .packing import read_photographs

    photos = tuple(Photograph(Path(photo.name).stem, photo.data) for photo in read_photographs(paths))
    check_golden_names(photos)
    return photos


def find_members(
    inputs: tuple[Path, ...],
    system: str | None,
    backbone: str | None,
    size: str | None,
    weights: str | None,
    runs: Path,
    *,
    kept: str | None = None,
    within: Within | None = None,
) -> tuple[list[Trained], list[Path]]:
    """The networks that a call names, and the folders of those that are checkpoints.

    Of a teach run only those that ``kept`` keeps (`export_members.keep_members`), if it is given; chosen ``within``.
    """
    from .packing import find_checkpoints, load_trained

    described = [option for option in (system, backbone) if option is not None]
    if len(described) + bool(inputs) > 1:
        raise UsageError(
            "more than one of checkpoints, --system and --backbone", expected="one of them", mend="leave the others out"
        )
    if described:
        refuse_members(kept, "--system or --backbone")
        return [_untrained(system, backbone, size, weights)], []
    if size is not None or weights is not None:
        raise UsageError(
            "--size or --weights with a checkpoint",
            expected="them only with --backbone or --system",
            mend="leave them out",
        )
    if not inputs:
        inputs = (_newest_run(runs),)
        say(f"the newest run: {inputs[0]}")
    folders = [folder for path in inputs for folder in find_checkpoints(path)]
    if kept is not None:
        if len(inputs) > 1:
            refuse_members(kept, f"{len(inputs)} inputs")
        folders = keep_members(inputs[0], folders, kept, within or Within())
    return load_trained(folders), folders


def _newest_run(runs: Path) -> Path:
    """The student that was distilled or fine-tuned last, else the ensemble, else whatever has the newest checkpoint."""
    from ..compress.checkpoint import RECORD_NAME

    for folder, run in reversed(finished_runs(runs)):
        # What quantize only measured is no student.
        if run.kind == "distill" or (run.kind == "quantize" and (folder / RECORD_NAME).is_file()):
            return folder
    ensemble = newest_run(runs, "teach")
    if ensemble is not None:
        return ensemble
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
