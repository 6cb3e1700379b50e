"""``edgeiqa quantize``: what INT8 does to a network, and what mends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ..runtime.errors import UsageError
from .options import PathArgument, json_option
from .quantize_aware import begin_aware, resume_aware, run_quantization_aware
from .quantize_sensitivity_options import answer_sensitivity, require_no_sensitivity, sensitivity_options
from .training import machine_options, require_alone, require_training

__all__ = ["quantize"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("checkpoint", required=False, type=PathArgument, metavar="[CHECKPOINT]")
@click.option("--aware", is_flag=True, help="Fine-tune under simulated INT8: for when calibration fails its gate.")
@click.option("--data", type=PathArgument, help="CSV with the columns image and mos. [default: the student's own]")
@click.option("--images", type=PathArgument, help="Folder of photographs, labelled if there is --data.")
@click.option("--unlabelled", multiple=True, type=PathArgument, help="Folder of further photographs; may be repeated.")
@click.option("--split", help="Only the rows whose split is this; photographs of others are kept out altogether.")
@click.option("--score-range", type=(float, float), default=(0.0, 100.0), metavar="LOW HIGH", help="Of the MOS column.")
@click.option(
    "--selection",
    type=float,
    default=0.15,
    show_default=True,
    help="Share that is only judged, where the student's run has reserved none.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="[default: 5]")
@click.option("--steps", type=click.IntRange(min=1), help="End after so many steps.")
@click.option("--batch", type=click.IntRange(min=2), help="[default: 16]")
@click.option("--learning-rate", type=float, help="[default: 2e-5]")
@click.option("--crops", type=click.IntRange(min=1), help="Of each photograph; the first is whole. [default: 1]")
@click.option("--distortions", type=click.IntRange(min=0), help="Distorted versions of each. [default: 1]")
@click.option("--score-weight", type=float, help="Of the losses to its own scores in FP32. [default: 1]")
@click.option("--mos-weight", type=float, help="Of the losses to opinions. [default: 0.1]")
@click.option("--feature-weight", type=float, help="Of the error of its features. [default: 0.5]")
@click.option("--rank-weight", type=float, help="Of the hinge on its own order.")
@click.option(
    "--activations",
    type=click.Choice(["symmetric", "asymmetric"]),
    help="8-bit grids: about zero, for every target, or with a zero point, not for TensorRT and Arm. "
    "[default: symmetric]",
)
@click.option(
    "--float-block",
    "float_blocks",
    multiple=True,
    help="Pattern of blocks that stay float, such as backbone.blocks.0*.",
)
@click.option("--float-sums", is_flag=True, default=None, help="The sums of residual blocks stay float.")
@click.option("--seed", type=click.IntRange(min=0), help="[default: 0]")
@click.option("--runs", type=PathArgument, default=Path("runs"), show_default=True, help="Folder of runs.")
@click.option(
    "-o",
    "--output",
    type=PathArgument,
    help="Folder of this run [default: a new one in --runs]; of --auto-mixed the recipe's file, NAME.json.",
)
@click.option("--resume", type=PathArgument, help="Go on with the run in this folder; no other option is needed.")
@machine_options
@sensitivity_options
@json_option
def quantize(
    checkpoint: Path | None,
    aware: bool,
    runs: Path,
    output: Path | None,
    resume: Path | None,
    accelerator: str,
    devices: int,
    arithmetic: str,
    threads: int | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Find out what INT8 costs a network block by block, keep the fewest blocks float, or fine-tune a student for it.

    CHECKPOINT is a student's folder (for --sensitivity and --auto-mixed also a bundle); without it, that of the newest
    distill run.

    --sensitivity quantizes each block alone, and leaves each alone out, and ranks them by the error in score points.
    --auto-mixed then searches the fewest blocks to keep float with which the rank gate passes, and writes a recipe that
    edgeiqa export --precision int8 --recipe takes; where nothing passes, the exit status is 1.

    --aware fine-tunes under simulated INT8. What comes out is an FP32 checkpoint that edgeiqa export --precision int8
    quantizes as any other. A run that was cut off goes on with --resume FOLDER, to the same numbers.
    """
    if resume is None and not aware and (flags["sensitivity"] or flags["auto_mixed"]):
        answer_sensitivity(checkpoint, flags, runs=runs, output=output, threads=threads, as_json=as_json)
        return
    require_training()
    if resume is not None:
        require_alone(resume)
        call, output = resume_aware(resume), resume
    elif aware:
        require_no_sensitivity()
        call = begin_aware(checkpoint, flags, runs, arithmetic)
    else:
        raise UsageError(
            "quantize without saying what",
            expected="--sensitivity, --auto-mixed, --aware, or --resume FOLDER",
            mend="edgeiqa quantize --sensitivity; graphs are quantized by: edgeiqa export --precision int8",
        )
    run_quantization_aware(
        call,
        runs=runs,
        output=output,
        accelerator=accelerator,
        devices=devices,
        threads=threads,
        as_json=as_json,
    )
