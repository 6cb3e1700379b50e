"""Options of ``quantize --sensitivity`` and ``--auto-mixed``, and from them to the answer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ..runtime.bundle import refuse_existing
from ..runtime.errors import UsageError
from .options import PathArgument, require_libraries, require_writable

__all__ = ["answer_sensitivity", "require_no_sensitivity", "sensitivity_options"]

Function = TypeVar("Function", bound=Callable[..., object])

_ENGINES = ("onnx", "openvino", "tensorrt")
_OPTIONS = (
    click.option("--sensitivity", is_flag=True, help="Measure what INT8 costs each block, in score points."),
    click.option(
        "--auto-mixed", is_flag=True, help="Search the fewest blocks to keep float that pass the rank gate; needs -o."
    ),
    click.option("--member", help="Of several networks."),
    click.option(
        "--target", type=click.Choice(_ENGINES), default="onnx", show_default=True, help="Whose recipe; for the search."
    ),
    click.option("--recipe", help="Of INT8: a name, or a JSON file. [default: that of the backbone's family]"),
    click.option(
        "--cpu", type=click.Choice(["x86", "arm"]), default="x86", show_default=True, help="That ONNX is for."
    ),
    click.option("--calibration", type=PathArgument, help="Photographs of the training side. [default: the run's]"),
    click.option(
        "--calibration-count", type=click.IntRange(min=16), default=300, show_default=True, help="Calibration images."
    ),
    click.option(
        "--count",
        type=click.IntRange(min=1),
        default=64,
        show_default=True,
        help="Views whose scores are compared: photographs and distorted versions of them.",
    ),
    click.option("--least-srcc", type=click.FloatRange(-1, 1), help="To FP32, in the rank gate. [default: .99]"),
    click.option(
        "--max-srcc-drop", type=click.FloatRange(min=0), help="To opinions, upper end of the interval. [default: .03]"
    ),
    click.option("--max-change", type=click.FloatRange(min=0), help="Of any one score, in points. [default: not held]"),
    click.option("--plot", type=PathArgument, help="Write the bar plot: NAME.png."),
    click.option("--html", type=PathArgument, help="Write a page with tables and the plot: NAME.html."),
    click.option("--overwrite", is_flag=True, help="Replace these files and the recipe."),
)
_SHARED = {"checkpoint", "data", "images", "split", "seed", "runs", "output", "threads", "as_json"}


def sensitivity_options(function: Function) -> Function:
    """All that ``--sensitivity`` and ``--auto-mixed`` need beside what a training has, too."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def _own() -> set[str]:
    @sensitivity_options
    def probe() -> None:
        """Carries the options."""

    return {option.name for option in probe.__click_params__ if option.name}  # type: ignore[attr-defined]


def _given() -> dict[str, str]:
    """Options of the call: parameter -> as it is written."""
    context = click.get_current_context()
    return {
        option.name: option.opts[-1]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    }


def require_no_sensitivity() -> None:
    """Refuse options of a measurement beside ``--aware``.

    Raises:
        UsageError: one was given.
    """
    out = [written for name, written in _given().items() if name in _own()]
    if out:
        raise UsageError(
            f"--aware with {', '.join(out)}",
            expected="--aware, or --sensitivity or --auto-mixed",
            mend="fine-tune first, then measure",
        )


def answer_sensitivity(
    network: Path | None,
    flags: dict[str, Any],
    *,
    runs: Path,
    output: Path | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure, search, write and tell what a call asks for.

    Args:
        network: a checkpoint, a run or a bundle; None for the newest run.
        flags: the call's options by parameter.
        runs: folder of runs.
        output: of the recipe.
        threads: of the engine.
        as_json: for machines.

    Raises:
        UsageError: options that do not go together, or a file that cannot be written.
        GateError: no choice of float blocks passes the gate.
    """
    _require_own_options()
    auto_mixed, plot, html = flags["auto_mixed"], flags["plot"], flags["html"]
    if auto_mixed != (output is not None):
        raise UsageError(
            "--auto-mixed without -o" if auto_mixed else "-o without --auto-mixed",
            expected="both: the recipe that is found goes there",
            mend="--auto-mixed -o recipe.json",
        )
    for path, suffix in ((output, ".json"), (plot, ".png"), (html, ".html")):
        if path is not None:
            _require_file(path, suffix, overwrite=flags["overwrite"])
    libraries: tuple[str, ...] = ("torch", "timm", "safetensors", "onnx", "onnxscript", "nncf", "scipy")
    libraries += ("openvino",) if flags["target"] == "openvino" else ()
    libraries += ("jinja2", "matplotlib") if plot is not None or html is not None else ()
    require_libraries(libraries, "compress,export")
    from .export_options import conversion_options, rank_limits
    from .quantize_sensitivity import SensitivityCall, run_sensitivity
    from .quantize_sensitivity_show import tell_sensitivity, write_sensitivity

    found = run_sensitivity(
        SensitivityCall(
            network=network,
            options=conversion_options(flags["recipe"], flags["cpu"], None, runs),
            limits=rank_limits(flags["least_srcc"], flags["max_srcc_drop"], flags["max_change"]),
            hold_drop=flags["max_srcc_drop"] is not None,
            runs=runs,
            threads=threads,
            seed=flags["seed"] or 0,
            **{
                name: flags[name]
                for name in (
                    *("member", "target", "auto_mixed", "calibration", "images", "data", "split"),
                    *("calibration_count", "count"),
                )
            },
        )
    )
    write_sensitivity(found, output=output, plot=plot, html=html)
    tell_sensitivity(found, output=output, as_json=as_json)


def _require_own_options() -> None:
    out = [written for name, written in _given().items() if name not in _own() | _SHARED]
    if out:
        raise UsageError(
            f"--sensitivity or --auto-mixed with {', '.join(out)}",
            expected="--aware with these, as they are of a training",
            mend="leave them out, or measure apart",
        )


def _require_file(path: Path, suffix: str, *, overwrite: bool) -> None:
    if path.suffix != suffix:
        raise UsageError(f"{path}", expected=f"a name that ends in {suffix}", mend=f"name it {path.name}{suffix}")
    refuse_existing(path, overwrite=overwrite)
    require_writable(path)
