"""Options that several verbs share, and what they mean."""

from __future__ import annotations

import glob
import importlib.util
import math
import os
import re
import shlex
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from ..runtime.decode import IMAGE_SUFFIXES
from ..runtime.errors import MissingExtraError, UsageError
from .show import say

if TYPE_CHECKING:
    from ..profiles.budget import Budget

__all__ = [
    "IMAGE_SUFFIXES",
    "PathArgument",
    "budget_of",
    "dataset_options",
    "device_option",
    "engine_options",
    "find_photographs",
    "json_option",
    "parse_size",
    "require_libraries",
    "require_name",
    "require_writable",
    "say_left_to_profile",
    "streams_option",
    "with_device",
]

Function = TypeVar("Function", bound=Callable[..., object])

PathArgument = click.Path(path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")


def streams_option(function: Function) -> Function:
    """``--streams``, for verbs that score many photographs."""
    return click.option(
        "--streams",
        type=click.IntRange(min=1),
        help="Photographs that graphs look at, at once; they share the threads. [default: one a processor, at most 4]",
    )(function)


def engine_options(function: Function) -> Function:
    """``--engine``, ``--precision`` and ``--threads``: the only ways to leave what the bundle names."""
    for option in (
        click.option(
            "--threads",
            type=click.IntRange(min=1),
            help="Threads of the engine for a photograph. [default: all processors, shared by photographs at once]",
        ),
        click.option(
            "--precision", type=click.Choice(["fp32", "fp16", "bf16", "int8"]), help="Another than the bundle's."
        ),
        click.option(
            "--engine", type=click.Choice(["onnxruntime", "openvino", "tensorrt"]), help="Another than the bundle's."
        ),
    ):
        function = option(function)
    return function


def _require_rising(_: click.Context, __: click.Parameter, bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UsageError(
            f"--score-range {low:g} {high:g}",
            expected="two finite numbers, the lower one first",
            mend="give the lowest and the highest score of the scale that mos is on",
        )
    return bounds


def dataset_options(function: Function) -> Function:
    """``--data``, ``--images``, ``--split`` and ``--score-range``: photographs with human scores."""
    for option in (
        click.option(
            "--score-range",
            type=(float, float),
            default=(0.0, 100.0),
            show_default=True,
            metavar="LOW HIGH",
            callback=_require_rising,
            help="Of the MOS column.",
        ),
        click.option("--split", help="Only the rows whose split is this."),
        click.option("--images", type=PathArgument, help="Folder of the photographs. [default: the CSV's]"),
        click.option("--data", type=PathArgument, required=True, help="CSV with the columns image and mos."),
    ):
        function = option(function)
    return function


def device_option(function: Function) -> Function:
    """``--device``: its limits are held beside those of ``--budget``."""
    return click.option("--device", metavar="NAME", help="A device whose limits hold too, such as raspberry-pi-5.")(
        function
    )


def with_device(budget: str | None, device: str | None) -> str | None:
    """What ``--budget`` and ``--device`` bound together, as `budget_of` takes it; None for nothing.

    A device that states no limit bounds nothing, which is said.

    Raises:
        UsageError: there is no such device.
    """
    if device is None:
        return budget
    from ..profiles.device import load_device

    if load_device(device).budget is None:
        say(f"the device {device} states no limit that can be held: give --budget")
        return budget
    return device if budget is None else f"{budget},{device}"


def budget_of(text: str) -> Budget:
    """What ``--budget`` says: amounts, a convention, and names of budgets and devices, with commas between.

    Where several bound one quantity, the tightest holds.

    Raises:
        UsageError: it is none of these, or bounds multiply-adds in several conventions.
    """
    from ..profiles.budget import budget_names, combine_budgets, load_budget, parse_budget
    from ..profiles.device import device_names, load_device

    budgets, amounts = [], []
    for part in (part.strip() for part in text.split(",")):
        if part in budget_names():
            budgets.append(load_budget(part))
        elif part in device_names():
            limits = load_device(part).budget
            if limits is None:
                raise UsageError(
                    f"--budget {text}: the device {part} states no limit",
                    expected="a budget, or a device with limits",
                    mend="give limits such as 50GMACs,30ms, and the device by --device",
                )
            budgets.append(limits)
        else:
            amounts.append(part)
    if amounts:
        try:
            budgets.insert(0, parse_budget(",".join(amounts)))
        except UsageError as unparsable:
            known = ", ".join(sorted({*budget_names(), *device_names()}))
            raise UsageError(
                f"--budget {text}: {unparsable.got}",
                expected=f"{unparsable.expected}; or names with commas between, of: {known}",
                mend="write limits with commas between, or a budget's name",
            ) from None
    return combine_budgets(budgets)


def say_left_to_profile(budget: Budget, text: str) -> None:
    """Say which limits need a measurement of a bundle, and so are not held by a verb that makes one.

    Args:
        budget: the limits.
        text: of ``--budget``, with the device's name.
    """
    from ..profiles.budget import MEASURED

    left = [name for name in MEASURED if name in budget.limits]
    if left:
        say(f"not held here: {', '.join(left)}; edgeiqa profile BUNDLE --budget {shlex.quote(text)} measures them")


def require_libraries(libraries: tuple[str, ...], extras: str) -> None:
    """Say that an extra is missing before any work is done; nothing is imported.

    Raises:
        MissingExtraError: one of the libraries is not installed.
    """
    missing = [library for library in libraries if importlib.util.find_spec(library) is None]
    if missing:
        raise MissingExtraError(
            f"no {', '.join(missing)}",
            expected=f"the extra{'s' if ',' in extras else ''} {extras}",
            mend=f'pip install "edgeiqa[{extras}]"',
        )


def require_name(bundle: Path) -> None:
    """Refuse a bundle's file whose name could not be the bundle's, before any work is done.

    Raises:
        UsageError: it has other characters than letters, digits, dots, underscores and hyphens, or is too long.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", bundle.stem):
        raise UsageError(
            f"-o {bundle}",
            expected="a name of letters, digits, . _ -, at most 64 of them",
            mend="give such a name, such as -o mine.eiqa",
        )


def require_writable(path: Path) -> None:
    """Refuse a file that could not be written, before any work is done; what is there stays as it is.

    Raises:
        UsageError: its folder is not there or may not be written to, or it is a folder itself.
    """
    got = None
    if path.is_dir():
        got = f"{path}, which is a folder"
    elif not path.parent.is_dir():
        got = f"{path}, in a folder that is not there"
    else:
        try:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            got = f"{path}: {error.strerror}"
    if got is not None:
        raise UsageError(
            got,
            expected="a file in a folder that is there and may be written to",
            mend="name another, or make the folder",
        )


def find_photographs(paths: tuple[Path, ...]) -> list[Path]:
    """The files that are named, and the images in the folders that are named, walked in order.

    A path that is not there and holds ``*``, ``?`` or ``[`` is a pattern, for shells that leave it as it is, and for
    quoted ones: what it matches is taken in order, ``**`` through folders.

    Raises:
        UsageError: a path is not there, a pattern matches nothing, or a folder holds no image.
    """
    found: list[Path] = []
    for path in [match for named in paths for match in _matches(named)]:
        if path.is_dir():
            inside = sorted(
                entry for entry in path.rglob("*") if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()
            )
            if not inside:
                raise UsageError(
                    f"{path}, a folder without images",
                    expected=f"files with one of the suffixes {' '.join(sorted(IMAGE_SUFFIXES))}",
                    mend="name another folder, or the files themselves",
                )
            others = sum(1 for entry in path.rglob("*") if entry.is_file()) - len(inside)
            if others:
                say(f"{path}: {others} files without an image's suffix are passed over")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}, which is not there", expected="a file or folder", mend="correct the path")
    return found


def _matches(path: Path) -> list[Path]:
    if os.path.lexists(path) or not glob.has_magic(str(path)):
        return [path]
    matches = sorted(map(Path, glob.glob(str(path), recursive=True)))  # noqa: PTH207 - a pattern may be absolute
    if not matches:
        raise UsageError(f"{path}, which matches nothing", expected="a file or folder", mend="correct the pattern")
    return matches


def parse_size(text: str) -> tuple[int, int]:
    """``WIDTHxHEIGHT`` in pixels.

    Raises:
        UsageError: it is not.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise UsageError(f"size {text!r}", expected="WIDTHxHEIGHT in pixels, such as 910x512", mend="write it so")
    return int(width), int(height)
