"""``edgeiqa quantize --aware``: a student that learns to bear INT8."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import msgspec

from ..runtime.errors import DataError, UsageError
from .distill_inputs import PhotographSource, find_photographs_of
from .distill_recipe import SAMPLE_STEPS
from .runs import RUN_NAME, finish_run, goes_on, newest_run, read_run, start_run
from .show import print_json, say
from .training import launched, require_training, watching

if TYPE_CHECKING:
    from ..compress.distill_plan import TransferPhotographs
    from ..compress.quant_aware_records import QuantAwareRecipe, QuantAwareReport

__all__ = ["AwareCall", "begin_aware", "resume_aware", "run_quantization_aware"]

_KIND, _MODE = "quantize", "aware"
_SELECTION = "selection.csv"
_SAMPLE_BATCH = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class AwareCall:
    """All that decides what comes of a quantization-aware run; it goes on with just this, whatever is newest then.

    Attributes:
        checkpoint: folder of the network that it starts from.
        recipe: how it learns.
        source: of the photographs.
        selection: share of them that is only judged, where no run has reserved any.
        steps: at most; None for all.
        arithmetic: Fabric's name of it.
    """

    checkpoint: Path
    recipe: QuantAwareRecipe
    source: PhotographSource
    selection: float
    steps: int | None
    arithmetic: str

    @property
    def settings(self) -> dict[str, Any]:
        """As ``run.json`` has it."""
        return {
            "mode": _MODE,
            "checkpoint": str(self.checkpoint.resolve()),
            "recipe": self.recipe,
            "photographs": self.source.settings,
            "selection": self.selection,
            "steps": self.steps,
            "arithmetic": self.arithmetic,
        }


def begin_aware(checkpoint: Path | None, flags: dict[str, Any], runs: Path, arithmetic: str) -> AwareCall:
    """What a call asks for: its checkpoint, else the newest distill run; its photographs, else those of that run.

    Args:
        checkpoint: a folder with a checkpoint; None for the newest.
        flags: the other options of the call, None where they were not given.
        runs: folder of runs.
        arithmetic: Fabric's name of it.

    Raises:
        UsageError: no run, no photographs, or a value out of its range.
    """
    if checkpoint is None:
        checkpoint = newest_run(runs, "distill")
        if checkpoint is None:
            raise UsageError(
                f"{runs}, which holds no finished run of distill",
                expected="a student to fine-tune",
                mend="name a checkpoint's folder, or distill one: edgeiqa distill --student NAME",
            )
        say(f"student: {checkpoint}, the newest distill run")
    named = any(flags[name] for name in ("data", "images", "unlabelled", "split"))
    source = find_photographs_of(flags, runs) if named else _source_of(checkpoint)
    return AwareCall(
        checkpoint=checkpoint,
        recipe=_recipe_of(flags, samples=source.samples),
        source=source,
        selection=flags["selection"],
        steps=flags["steps"] or (SAMPLE_STEPS if source.samples else None),
        arithmetic=arithmetic,
    )


def _recipe_of(flags: Mapping[str, Any], *, samples: bool) -> QuantAwareRecipe:
    from ..compress.distill_records import Transfer
    from ..compress.fake_quant import FakeQuantization
    from ..compress.quant_aware_records import FINE_TUNING, QuantAwareLosses, QuantAwareRecipe

    def given(**names: str) -> dict[str, Any]:
        return {field: flags[flag] for field, flag in names.items() if flags[flag] is not None}

    change = msgspec.structs.replace
    stage = change(FINE_TUNING, batch=_SAMPLE_BATCH) if samples else FINE_TUNING
    rates = given(learning_rate="learning_rate", head_learning_rate="learning_rate")
    losses = given(score="score_weight", mos="mos_weight", feature="feature_weight", rank="rank_weight")
    simulated = given(activations="activations", float_blocks="float_blocks", float_sums="float_sums")
    return QuantAwareRecipe(
        stages=(change(stage, **given(epochs="epochs", batch="batch"), **rates),),
        losses=QuantAwareLosses(**losses),
        transfer=change(Transfer(crops=1, distortions=1), **given(crops="crops", distortions="distortions")),
        quantization=FakeQuantization(**simulated),
        **given(seed="seed"),
    )


def resume_aware(folder: Path) -> AwareCall:
    """The call that began a run.

    Raises:
        UsageError: the folder is not that of such a run.
    """
    from ..compress.quant_aware_records import QuantAwareRecipe

    run = read_run(folder)
    settings = run.settings
    if run.kind != _KIND or settings.get("mode") != _MODE:
        raise UsageError(
            f"{folder}, a run of {run.kind}", expected="a run of quantize --aware", mend="name such a folder"
        )
    try:
        return AwareCall(
            checkpoint=Path(settings["checkpoint"]),
            recipe=msgspec.convert(settings["recipe"], QuantAwareRecipe),
            source=PhotographSource.of(settings["photographs"]),
            selection=settings["selection"],
            steps=settings["steps"],
            arithmetic=settings["arithmetic"],
        )
    except (KeyError, TypeError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{folder}, whose run.json is not as this version writes it ({error!r})",
            expected="a run of quantize --aware",
            mend="begin a new run",
        ) from error


def run_quantization_aware(
    call: AwareCall,
    *,
    runs: Path,
    output: Path | None,
    accelerator: str,
    devices: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Fine-tune, or go on with it, and tell what came of it.

    Args:
        call: what is asked for.
        runs: folder in which a new run is made.
        output: folder of the run; None for a new one.
        accelerator: Fabric's name of it.
        devices: processes.
        threads: of torch; None for all processors.
        as_json: the report as JSON.

    Raises:
        DataError, ModelError, UsageError: as `compress.quant_aware.quantization_aware`.
    """
    require_training()
    from ..compress.checkpoint import read_record
    from ..compress.quant_aware import quantization_aware, require_quantization_aware

    # From what costs nothing to find out to what takes hours, and nothing is written before all of it is known.
    name = read_record(call.checkpoint).name
    photographs = _photographs(call, threads)
    require_quantization_aware(call.recipe, photographs)
    if output is not None:
        # Before further processes are started, which would not know why this one ends.
        goes_on(output, _KIND, call.settings)
    fabric = launched(accelerator, devices, call.arithmetic, threads)(None)
    folder = output
    if fabric.is_global_zero:
        folder = start_run(runs, _KIND, name, call.settings, folder=output)
        say(f"run {folder}; if it is cut off: edgeiqa quantize --resume {folder}")
    folder = fabric.broadcast(folder)
    assert folder is not None
    with watching(folder, first=fabric.is_global_zero) as progress:
        report = quantization_aware(
            call.recipe, call.checkpoint, photographs, folder, fabric=fabric, most_steps=call.steps, watch=progress
        )
    if not fabric.is_global_zero:
        return
    finish_run(folder)
    _tell(report, folder, as_json)


def _run_of(checkpoint: Path) -> Path | None:
    """The folder with ``run.json``: the checkpoint's own, or the one whose ``members`` it is among."""
    for folder in (checkpoint, *checkpoint.resolve().parents[:2]):
        if (folder / RUN_NAME).is_file():
            return folder
    return None


def _source_of(checkpoint: Path) -> PhotographSource:
    """The photographs that a student learned from."""
    run = _run_of(checkpoint)
    settings = None if run is None else read_run(run).settings.get("photographs")
    try:
        source = PhotographSource.of(cast("dict[str, Any]", settings))
    except (KeyError, TypeError):
        raise UsageError(
            f"{checkpoint}, which does not say what photographs it learned from",
            expected="photographs to learn from",
            mend="--images FOLDER, or --data mos.csv with --split train",
        ) from None
    say(f"photographs: those of {run}")
    return source


def _photographs(call: AwareCall, threads: int | None) -> TransferPhotographs:
    """Those of the source; what the checkpoint's run has only judged, this one only judges as well."""
    found = call.source.load(None, call.selection, call.recipe.seed, threads)
    reserved = set(_reserved((_run_of(call.checkpoint) or call.checkpoint) / _SELECTION))
    everything = (*found.training, *found.heldout)
    judged = tuple(photo for photo in everything if photo.sha256 in reserved)
    if not judged:
        return found
    learned = tuple(photo for photo in everything if photo.sha256 not in reserved)
    return replace(found, training=learned, heldout=judged)


def _reserved(table: Path) -> Sequence[str]:
    if not table.is_file():
        return ()
    try:
        with table.open(newline="", encoding="utf-8") as file:
            return [row["sha256"] for row in csv.DictReader(file)]
    except (OSError, KeyError, UnicodeDecodeError) as error:
        raise DataError(
            f"{table} ({error!r})", expected="the table that the run wrote", mend="restore it, or train again"
        ) from error


def _tell(report: QuantAwareReport, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json({"run": str(folder), "report": report})
        return
    click.echo(
        f"{report.student}: learned {report.steps} steps on {report.items} items of {report.photographs} photographs, "
        f"with {report.quantized} layers in simulated INT8"
    )
    views = "" if report.judged == report.heldout else f"{report.judged} versions of "
    for what, interval in (
        ("INT8 before", report.int8_before),
        ("INT8 now", report.int8_after),
        ("FP32 now", report.fp32_after),
    ):
        if interval is not None:
            click.echo(
                f"{what}, to FP32 before, on {views}{report.heldout} held-out photographs: SRCC {interval.value:.4f} "
                f"[{interval.low:.4f}, {interval.high:.4f}]"
            )
    click.echo(
        f"INT8 changes a score by {report.change_before:.2f} points on average before, and by "
        f"{report.change_after:.2f} now (maps as they were)"
    )
    for what, accuracy in (
        ("FP32 before", report.accuracy_before),
        ("FP32 now", report.accuracy),
        ("INT8 before", report.accuracy_int8_before),
        ("INT8 now", report.accuracy_int8),
    ):
        if accuracy is not None:
            srcc = accuracy.srcc
            click.echo(f"{what}, to opinions: SRCC {srcc.value:.3f} [{srcc.low:.3f}, {srcc.high:.3f}]")
    if report.int8_after is None:
        say(f"{report.heldout} held-out photographs are too few, or their scores too much alike, for a correlation")
    say(f"INT8 is simulated here; what an engine makes of it: edgeiqa export {folder} --precision int8")
