"""What `teach` and `distill` share: options of the machine, and progress on a terminal and in TensorBoard."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from ..runtime.errors import UsageError
from .options import require_libraries
from .show import say

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from rich.progress import Progress

    from ..compress.data.dataset import Dataset
    from ..compress.fit import Step
    from ..compress.watch import Watch

__all__ = [
    "Progression",
    "launched",
    "machine_options",
    "require_alone",
    "require_no_parts",
    "require_training",
    "say_splits",
    "watching",
]

Function = TypeVar("Function", bound=Callable[..., object])

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")

_LONGEST_WAIT = timedelta(days=7)
"""Of processes for the first one, which alone asks the teacher; torch's 30 minutes are too few for a large ensemble."""


def machine_options(function: Function) -> Function:
    """``--accelerator``, ``--devices``, ``--arithmetic``, ``--threads``: where and how a training is computed."""
    for option in (
        click.option("--threads", type=click.IntRange(min=1), help="Of torch on a CPU. [default: all processors]"),
        click.option(
            "--arithmetic",
            type=click.Choice(PRECISIONS),
            default=PRECISIONS[0],
            show_default=True,
            help="Of the training, as Lightning Fabric names it.",
        ),
        click.option("--devices", type=click.IntRange(min=1), default=1, show_default=True, help="Processes."),
        click.option("--accelerator", default="auto", show_default=True, help="cpu, cuda, mps, ..."),
    ):
        function = option(function)
    return function


def require_alone(resume: Path) -> None:
    """Refuse options beside ``--resume`` that the run has already settled.

    Raises:
        UsageError: another option was given than those of where it runs.
    """
    context = click.get_current_context()
    free = ("resume", "dry_run", "as_json", "accelerator", "devices", "threads")
    settled = [
        option.opts[-1]
        for option in context.command.params
        if option.name is not None
        and option.name not in free
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    if settled:
        raise UsageError(
            f"--resume {resume} with {', '.join(settled)}",
            expected="--resume alone: a run goes on with what it was begun with",
            mend="leave them out, or begin a new run without --resume",
        )


def require_no_parts(flags: Mapping[str, object], parts: Iterable[str]) -> None:
    """Refuse parts of a recipe beside ``--recipe``; parts that the settings file names give way to one of the call.

    Args:
        flags: options of the call by parameter, None or nothing where they were not given.
        parts: the parameters that a recipe stands for.

    Raises:
        UsageError: both were given in one place.
    """
    context = click.get_current_context()
    source = context.get_parameter_source("recipe_path")
    beside = [
        name
        for name in parts
        if flags[name] not in (None, ()) and context.get_parameter_source(name) in (source, ParameterSource.COMMANDLINE)
    ]
    if beside:
        options = {option.name: option.opts[-1] for option in context.command.params}
        raise UsageError(
            f"--recipe with {', '.join(options[name] for name in beside)}",
            expected="either a recipe or its parts",
            mend="write these into the recipe",
        )


def require_training() -> None:
    """Say that the extra is missing before any work is done.

    Raises:
        MissingExtraError: a library of it is not installed.
    """
    libraries = ("torch", "timm", "lightning", "safetensors", "scipy", "fvcore", "filelock", "tensorboard", "jinja2")
    require_libraries((*libraries, "matplotlib"), "compress")


def say_splits(data: Path, dataset: Dataset) -> None:
    """Say of a table that is taken whole that it has splits, if it has."""
    splits = sorted({photo.split for photo in dataset.photos if photo.split is not None})
    if len(splits) > 1:
        say(f"{data} has the splits {', '.join(splits)}: all are taken; --split NAME keeps the others out")


def launched(accelerator: str, devices: int, arithmetic: str, threads: int | None) -> Callable[[str | None], Fabric]:
    """A function from a precision (None: the run's) to a Fabric that is launched.

    Raises:
        UsageError: there is no such accelerator, or members of several precisions are to run in several processes.
    """
    import torch
    from lightning.fabric import Fabric
    from lightning.fabric.strategies.ddp import DDPStrategy

    if threads is not None:
        torch.set_num_threads(threads)
    made: dict[str, Fabric] = {}

    def fabric(precision: str | None) -> Fabric:
        wanted = precision or arithmetic
        if wanted in made:
            return made[wanted]
        if made and devices > 1:
            raise UsageError(
                f"members of the precisions {', '.join([*made, wanted])} in {devices} processes",
                expected="one precision in a run of several processes",
                mend="teach them in one process, or each precision in a run of its own",
            )
        # A backbone may have layers that its features do not pass through.
        strategy: Any = "auto" if devices == 1 else DDPStrategy(find_unused_parameters=True, timeout=_LONGEST_WAIT)
        try:
            found = Fabric(accelerator=accelerator, devices=devices, strategy=strategy, precision=wanted)  # type: ignore[arg-type]
        except Exception as error:
            # Lightning raises what its accelerators raise.
            raise UsageError(
                f"--accelerator {accelerator} --devices {devices} --arithmetic {wanted} ({error})",
                expected="an accelerator of this machine",
                mend="--accelerator auto, or cpu",
            ) from error
        found.launch()
        made[wanted] = found
        return found

    return fabric


class Progression:
    """Shows how far a training is: bars with the time left on a terminal, a line an epoch elsewhere."""

    def __init__(self, folder: Path, bars: Progress | None, seconds_between_lines: float = 30.0) -> None:
        self._folder = folder
        self._bars = bars
        self._tasks: dict[str, Any] = {}
        self._between = seconds_between_lines
        self._started: dict[str, tuple[float, int]] = {}
        self._reached: dict[str, int] = {}
        self._spoke = time.monotonic()
        self._writers: dict[str, Any] = {}

    def say(self, text: str) -> None:
        """See `compress.watch.Watch`."""
        if self._bars is None:
            say(text)
        else:
            self._bars.console.print(text, markup=False, highlight=False)

    def cut(self, done: int, total: int) -> None:
        """See `compress.watch.Watch`."""
        self._show("cutting views", done, total)

    def step(self, name: str, step: Step) -> None:
        """See `compress.watch.Watch`."""
        self._show(name, step.done, step.total, f"epoch {step.epoch + 1}, loss {step.loss:.4f}")

    def ask(self, done: int, total: int) -> None:
        """See `compress.watch.Watch`."""
        self._show("asking the teacher", done, total)

    def epoch(self, name: str, line: Mapping[str, float]) -> None:
        """See `compress.watch.Watch`."""
        facts = " ".join(f"{key} {value:.4g}" for key, value in line.items() if key not in ("stage",))
        self.say(f"{name}: {facts}")
        self._log(name, line)

    def _show(self, name: str, done: int, total: int, note: str = "") -> None:
        if done < self._reached.get(name, 0):
            # Another piece of work of that name, such as the views of the next member.
            self._started.pop(name, None)
            if self._bars is not None:
                self._bars.reset(self._tasks[name])
        self._reached[name] = done
        if self._bars is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(name, total=total, note=note)
            self._bars.update(self._tasks[name], completed=done, total=total, note=note, visible=done < total)
            return
        now = time.monotonic()
        began, first = self._started.setdefault(name, (now, done))
        if now - self._spoke >= self._between and done > first:
            self._spoke = now
            left = (now - began) / (done - first) * (total - done)
            say(f"{name}: {done} of {total}, {_minutes(left)} left{', ' + note if note else ''}")

    def _log(self, name: str, line: Mapping[str, float]) -> None:
        if name not in self._writers:
            # The logs of a run that goes on follow on those it has.
            from torch.utils.tensorboard import SummaryWriter

            self._writers[name] = SummaryWriter(self._folder / "tensorboard" / name, purge_step=int(line["epoch"]))
        for key, value in line.items():
            if key not in ("stage", "epoch") and math.isfinite(value):
                self._writers[name].add_scalar(key, value, int(line["epoch"]))
        self._writers[name].flush()

    def close(self) -> None:
        """Close the logs."""
        for writer in self._writers.values():
            writer.close()


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def watching(folder: Path, *, first: bool = True) -> Iterator[Watch]:
    """A `Progression` for a run, with bars where stderr is a terminal; only the first process says anything."""
    if not first:
        from ..compress.watch import SILENT

        yield SILENT
        return
    if not sys.stderr.isatty():
        progression = Progression(folder, None)
        try:
            yield progression
        finally:
            progression.close()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"))
    with Progress(
        *columns, TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=Console(stderr=True)
    ) as bars:
        progression = Progression(folder, bars)
        try:
            yield progression
        finally:
            progression.close()
