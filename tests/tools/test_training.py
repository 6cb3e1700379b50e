"""What `teach` and `distill` share: progress that says the time left, logs that agree, and options that do not go."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import click
import pytest
from edgeiqa.compress.fit import Step
from edgeiqa.compress.watch import SILENT
from edgeiqa.runtime.errors import MissingExtraError, UsageError
from edgeiqa.tools import training
from edgeiqa.tools.training import Progression, launched, machine_options, require_alone, require_training, watching
from rich.console import Console
from rich.progress import Progress, TextColumn
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ..compress.grey_planes import QUICK, train


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(training, "time", clock)
    return clock


def test_without_a_terminal_it_says_the_time_left(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progression(tmp_path, None, seconds_between_lines=30.0)
    # The first step, before which the network was built, says nothing of the others.
    clock.now += 300
    for done in range(1, 12):
        progress.step("lite1", Step(done, 100, 2, 0.25))
        clock.now += 10
    said = capsys.readouterr().err.splitlines()
    # After the first 10 s; after that, every 30 s.
    assert said == [
        "lite1: 2 of 100, 16:20 left, epoch 3, loss 0.2500",
        "lite1: 5 of 100, 15:50 left, epoch 3, loss 0.2500",
        "lite1: 8 of 100, 15:20 left, epoch 3, loss 0.2500",
        "lite1: 11 of 100, 14:50 left, epoch 3, loss 0.2500",
    ]


def test_a_run_that_goes_on_counts_only_the_steps_it_took(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = Progression(tmp_path, None)
    for done in (901, 905):
        progress.step("lite1", Step(done, 1000, 9, 1.0))
        clock.now += 40
    assert capsys.readouterr().err == "lite1: 905 of 1000, 15:50 left, epoch 10, loss 1.0000\n"


def test_work_that_begins_anew_has_its_own_time(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The views of a second member are cut after hours of training the first."""
    progress = Progression(tmp_path, None)
    for done in (1, 100):
        progress.cut(done, 100)
    clock.now += 7200
    for done in (1, 2, 3):
        progress.cut(done, 100)
        clock.now += 20
    assert capsys.readouterr().err == "cutting views: 2 of 100, 32:40 left\n"


def test_a_bar_that_begins_anew_is_not_done(tmp_path: Path) -> None:
    with Progress(TextColumn("{task.completed}"), console=Console(file=StringIO())) as bars:
        progress = Progression(tmp_path, bars)
        for done in (1, 5, 10):
            progress.cut(done, 10)
        assert bars.tasks[0].finished
        progress.cut(2, 10)
        task = bars.tasks[0]
        assert (len(bars.tasks), task.completed, task.finished, task.visible) == (1, 2, False, True)


def test_hours_are_told_as_such(clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progression(tmp_path, None)
    for done in (1, 2):
        progress.cut(done, 200)
        clock.now += 31
    progress.ask(1, 10)
    assert capsys.readouterr().err == "cutting views: 2 of 200, 1:42:18 left\n"


def test_bars_are_there_on_a_terminal(tmp_path: Path) -> None:
    screen = StringIO()
    columns = (TextColumn("{task.description} {task.completed}/{task.total} {task.fields[note]}"),)
    with Progress(*columns, console=Console(file=screen, force_terminal=True, width=120)) as bars:
        progress = Progression(tmp_path, bars)
        progress.step("lite1", Step(3, 10, 0, 0.5))
        progress.say("[lite1] says [/this]")
        task = bars.tasks[0]
        assert (task.description, task.completed, task.total, task.visible) == ("lite1", 3, 10, True)
        assert task.fields["note"] == "epoch 1, loss 0.5000"
        progress.step("lite1", Step(10, 10, 0, 0.5))
        assert not bars.tasks[0].visible
    assert "[lite1] says [/this]" in screen.getvalue()


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows of each tag, by step."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    assert all(len({event.step for event in values}) == len(values) for values in found.values())
    return {tag: {event.step: event.value for event in values} for tag, values in found.items()}


def require_same_numbers(events: dict[str, dict[int, float]], metrics: Path) -> None:
    with metrics.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines and set(events) == lines[0].keys() - {"stage", "epoch"}
    for name, values in events.items():
        assert list(values) == [int(line["epoch"]) for line in lines]
        assert list(values.values()) == pytest.approx([float(line[name]) for line in lines], rel=1e-6), name


class Killed(Exception):
    pass


def test_tensorboard_and_the_csv_hold_the_same_numbers(tmp_path: Path) -> None:
    stage = QUICK
    with watching(tmp_path) as progress:
        train(tmp_path / "member", (stage,), on_epoch=lambda line: progress.epoch("planes", line))
    require_same_numbers(scalars(tmp_path / "tensorboard" / "planes"), tmp_path / "member" / "metrics.csv")


def test_a_run_that_goes_on_takes_back_what_it_had_not_kept(tmp_path: Path) -> None:
    def epoch(progress: Any, until: int) -> Callable[[Any], None]:
        def told(line: Any) -> None:
            progress.epoch("planes", line)
            # Told, and not yet kept.
            if line["epoch"] == until:
                raise Killed

        return told

    with pytest.raises(Killed), watching(tmp_path) as progress:
        train(tmp_path / "member", (QUICK,), on_epoch=epoch(progress, 2))
    with watching(tmp_path) as progress:
        train(tmp_path / "member", (QUICK,), on_epoch=epoch(progress, 9))
    assert len(list((tmp_path / "tensorboard" / "planes").iterdir())) == 2
    require_same_numbers(scalars(tmp_path / "tensorboard" / "planes"), tmp_path / "member" / "metrics.csv")


def test_a_number_that_is_none_is_left_out_of_tensorboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watching(tmp_path) as progress:
        progress.epoch("planes", {"stage": 1, "epoch": 1, "loss": 0.5, "heldout_srcc": float("nan")})
    assert scalars(tmp_path / "tensorboard" / "planes") == {"loss": {1: 0.5}}
    assert capsys.readouterr().err == "planes: epoch 1 loss 0.5 heldout_srcc nan\n"


def test_other_processes_than_the_first_say_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with watching(tmp_path, first=False) as progress:
        assert progress is SILENT
        progress.say("a word")
        progress.epoch("planes", {"stage": 1, "epoch": 1, "loss": 0.5})
    assert capsys.readouterr() == ("", "") and list(tmp_path.iterdir()) == []


def test_a_fabric_for_each_precision() -> None:
    fabric = launched("cpu", 1, "32-true", None)
    assert fabric(None) is fabric("32-true") is fabric(None)
    half = fabric("bf16-mixed")
    assert half is not fabric(None) and half is fabric("bf16-mixed")
    assert str(half.device) == "cpu"


def test_an_accelerator_that_is_not_here() -> None:
    with pytest.raises(UsageError, match="--accelerator abacus --devices 1 --arithmetic 32-true") as caught:
        launched("abacus", 1, "32-true", None)(None)
    assert "cpu" in caught.value.mend


def test_several_precisions_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric import Fabric

    monkeypatch.setattr(Fabric, "launch", lambda self: None)
    fabric = launched("cpu", 2, "32-true", None)
    fabric(None)
    with pytest.raises(UsageError, match="precisions 32-true, bf16-mixed in 2 processes"):
        fabric("bf16-mixed")


@pytest.mark.parametrize("library", ["torch", "lightning", "tensorboard", "matplotlib"])
def test_a_library_that_is_missing_is_told_before_any_work(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else found(name))
    with pytest.raises(MissingExtraError, match=f"no {library}; expected the extra compress"):
        require_training()


def test_beside_resume_only_where_it_runs_may_be_said() -> None:
    @click.command()
    @click.option("--resume", type=click.Path(path_type=Path))
    @click.option("--epochs", type=int, default=10)
    @click.option("--split", "which")
    @machine_options
    def verb(resume: Path, **_: Any) -> None:
        require_alone(resume)

    def call(*arguments: str) -> None:
        verb.main(["--resume", "run", *arguments], standalone_mode=False)

    call()
    call("--devices", "2", "--accelerator", "cpu", "--threads", "3")
    with pytest.raises(UsageError, match="--resume run with --epochs, --split"):
        call("--epochs", "10", "--split", "train")
    with pytest.raises(UsageError, match="--resume run with --arithmetic"):
        call("--arithmetic", "32-true")
