"""What stops a training: numbers that are not finite, full disks, states of other runs; and nothing good is lost."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import RECORD_NAME, Checkpoint, save_checkpoint
from edgeiqa.compress.fit import STATE_NAME, Step
from edgeiqa.compress.judging import HeldOut
from edgeiqa.compress.labelled import ScoreObjective
from edgeiqa.compress.stages import Stage
from edgeiqa.runtime.errors import DataError, UsageError
from edgeiqa.runtime.score_map import ScoreMap
from numpy.typing import NDArray
from torch import Tensor

from .grey_planes import HEAD, HELD, MOS, QUICK, VIEWS, examples, fabric, network, same_bits, train

replace = msgspec.structs.replace


class Spoilt:
    """The examples, of which one, if any, has no opinion."""

    def __init__(self, row: int | None = None) -> None:
        self._examples = examples()
        self.row = row
        self.count, self.fingerprint = self._examples.count, self._examples.fingerprint
        self.batches: list[list[str]] = []

    def draw(
        self, rows: NDArray[np.int64], epoch: int, whole: bool
    ) -> tuple[Sequence[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
        self.batches.append([self.name(int(row)) for row in rows])
        views, targets = self._examples.draw(rows, epoch, whole)
        return views, {"mos": np.where(rows == self.row, np.nan, targets["mos"]).astype(np.float32)}

    def name(self, row: int) -> str:
        return self._examples.name(row)


def test_a_loss_that_is_not_finite_names_its_batch_and_keeps_the_last_good_state(tmp_path: Path) -> None:
    spoilt = Spoilt()
    whole, _ = train(tmp_path / "whole", (HEAD, QUICK))

    def spoil(step: Step) -> None:
        if step.done == 4:
            spoilt.row = 21

    with pytest.raises(DataError) as caught:
        train(tmp_path / "cut", (HEAD, QUICK), examples=spoilt, on_step=spoil, save_every_s=0.0)
    names = caught.value.got.split("on the batch: ")[1].split(", ")
    assert names == spoilt.batches[-1] and "plane 21" in names and len(names) == 8
    assert "(huber nan, plcc nan) in stage 2, epoch 1, step" in caught.value.got
    assert str(tmp_path / "cut" / STATE_NAME) in caught.value.mend and "learning rates" in caught.value.mend
    spoilt.row = None
    mended, _ = train(tmp_path / "cut", (HEAD, QUICK), examples=spoilt)
    assert same_bits(whole, mended)


def test_a_loss_that_is_not_finite_at_once(tmp_path: Path) -> None:
    spoilt = Spoilt(row=0)
    with pytest.raises(DataError, match="nothing had been kept yet"):
        train(tmp_path, (HEAD,), examples=spoilt)
    assert list(tmp_path.iterdir()) == []


def test_rates_beyond_all_bounds_stop_with_a_data_error(tmp_path: Path) -> None:
    wild = replace(QUICK, learning_rate=1e30, head_learning_rate=1e30)
    with pytest.raises(DataError, match=r"not finite.* in stage 1, epoch 1, step [12], on the batch: plane \d+"):
        train(tmp_path, (wild,))


class Cliff(ScoreObjective):
    """A finite loss with a gradient that is none, in one step."""

    def __init__(self, at: int) -> None:
        self.calls, self.at = 0, at

    def __call__(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], stage: Stage, seed: int
    ) -> dict[str, Tensor]:
        terms = super().__call__(outputs, targets, stage, seed)
        self.calls += 1
        if self.calls == self.at:
            score = outputs["score"]
            # The square root's slope at 0 is infinite, and that of |x - x| is 0.
            terms["cliff"] = (score - score.detach()).abs().sqrt().sum()
        return terms


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_gradient_that_is_not_finite_does_not_reach_the_state(tmp_path: Path, clip: float | None) -> None:
    stage = replace(QUICK, gradient_clip=clip)
    whole, _ = train(tmp_path / "whole", (stage,))
    # The last step of an epoch: its loss is finite, and no other loss comes before the state would be written.
    with pytest.raises(DataError, match="weights that are not finite in stage 1, epoch 2, step 4, on the batch: plane"):
        train(tmp_path / "cut", (stage,), objective=Cliff(at=8), keep="least_rmse")
    again, _ = train(tmp_path / "again", (stage,), keep="least_rmse")
    resumed, _ = train(tmp_path / "cut", (stage,), keep="least_rmse")
    assert same_bits(again, resumed) and all(bool(torch.isfinite(part).all()) for part in whole.state_dict().values())


def test_fewer_photographs_than_a_batch(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="32 training photographs; expected at least one batch of 33"):
        train(tmp_path / "run", (HEAD, replace(QUICK, batch=33)))
    assert not (tmp_path / "run").exists()


def test_the_state_of_another_run_is_refused(tmp_path: Path) -> None:
    train(tmp_path, (HEAD,))
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    others: list[dict[str, Any]] = [
        {"run": "another"},
        {"examples": examples(count=31)},
        {"examples": examples(mos=1 - MOS)},
        {"most_steps": 2},
        {"keep": "least_rmse"},
    ]
    for other in others:
        with pytest.raises(UsageError, match="the state of another run") as caught:
            train(tmp_path, (HEAD,), **other)
        assert str(tmp_path / STATE_NAME) in caught.value.mend
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == kept


@pytest.mark.parametrize("how", [{"keep": "greatest_srcc"}, {"stages": (replace(HEAD, patience=3),)}])
def test_other_held_out_photographs_are_another_run_where_they_decide(tmp_path: Path, how: dict[str, Any]) -> None:
    how = {"stages": (HEAD,), **how}
    train(tmp_path, **how)
    for heldout in (HeldOut((VIEWS,), HELD.rows, 1 - HELD.scores), HeldOut((VIEWS,), HELD.rows[::-1], HELD.scores)):
        with pytest.raises(UsageError, match="the state of another run"):
            train(tmp_path, heldout=heldout, **how)


def test_a_broken_state_is_refused(tmp_path: Path) -> None:
    train(tmp_path, (HEAD,))
    whole = (tmp_path / STATE_NAME).read_bytes()
    for broken in (whole[:1000], b"", whole[: len(whole) // 2], b"PK\x03\x04" + whole[100:]):
        (tmp_path / STATE_NAME).write_bytes(broken)
        with pytest.raises(UsageError, match=r"resume\.pt, which cannot be read .* to mend: name another folder"):
            train(tmp_path, (HEAD,))
        assert (tmp_path / STATE_NAME).read_bytes() == broken
    for other in ([1, 2], {"run": "of something else"}):
        torch.save(other, tmp_path / STATE_NAME)
        with pytest.raises(UsageError, match=r"cannot be read|another run"):
            train(tmp_path, (HEAD,))


def test_a_state_that_would_run_code_does_not(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"run": Code()}, tmp_path / STATE_NAME)
    with pytest.raises(UsageError, match="cannot be read"):
        train(tmp_path, (HEAD,))
    assert not (tmp_path / "ran").exists()


def test_the_best_weights_gone_is_no_silent_last_ones(tmp_path: Path) -> None:
    train(tmp_path, (HEAD,), keep="least_rmse")
    (tmp_path / "best_rmse.pt").unlink()
    with pytest.raises(UsageError, match=r"best_rmse\.pt, which cannot be read"):
        train(tmp_path, (HEAD,), keep="least_rmse")


@contextmanager
def files_no_larger_than(size_bytes: int) -> Iterator[None]:
    """The kernel refuses to write on, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size_bytes", [0, 100_000])
def test_a_file_that_cannot_be_written_on_keeps_the_older_state(tmp_path: Path, size_bytes: int) -> None:
    whole, _ = train(tmp_path / "whole", (QUICK,))
    limits: list[Any] = []

    def limit(line: Any) -> None:
        if line["epoch"] == 2:
            limits.append(files_no_larger_than(size_bytes))
            limits[-1].__enter__()

    try:
        with pytest.raises(DataError, match=r"cannot be written .* MB are free there; expected room") as caught:
            train(tmp_path / "cut", (QUICK,), on_epoch=limit)
    finally:
        limits[-1].__exit__(None, None, None)
    assert "give the same command again" in caught.value.mend
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["metrics.csv", STATE_NAME]
    lines: list[Any] = []
    resumed, history = train(tmp_path / "cut", (QUICK,), on_epoch=lines.append)
    assert same_bits(whole, resumed)
    # The first epoch was not done again.
    assert len(history) == 2 and [line["epoch"] for line in lines] == [2]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("file write failed")])
def test_a_disk_that_is_full_at_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    save, calls = torch.save, []

    def full(value: Any, path: Path) -> None:
        calls.append(path.name)
        # In the second epoch.
        if calls.count("best_rmse.pt.partial") == 2:
            path.write_bytes(b"half a file")
            raise error
        save(value, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(DataError, match=r"best_rmse\.pt cannot be written .*(No space|write failed)"):
        train(tmp_path / "cut", (QUICK,), keep="least_rmse")
    assert not list((tmp_path / "cut").glob("*.partial"))
    monkeypatch.undo()
    whole, _ = train(tmp_path / "whole", (QUICK,), keep="least_rmse")
    resumed, _ = train(tmp_path / "cut", (QUICK,), keep="least_rmse")
    assert same_bits(whole, resumed)


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").mkdir()
    with pytest.raises(DataError, match=r"metrics\.csv cannot be written"):
        train(tmp_path, (HEAD,))
    assert not list(tmp_path.glob("*.partial"))


def test_a_checkpoint_that_cannot_be_written(tmp_path: Path) -> None:
    net = network()
    record = Checkpoint(name="plane", system=net.system, score_map=ScoreMap(), provenance={})
    with files_no_larger_than(100_000), pytest.raises(DataError, match="cannot be written") as caught:
        save_checkpoint(tmp_path / "run", record, net)
    assert "free some room" in caught.value.mend
    assert list((tmp_path / "run").iterdir()) == []
    save_checkpoint(tmp_path / "run", record, net)
    assert (tmp_path / "run" / RECORD_NAME).is_file()


def test_a_batch_that_processes_cannot_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fabric()
    monkeypatch.setattr(type(made), "world_size", 3)
    with pytest.raises(UsageError, match="batches of 8 for 3 processes"):
        train(tmp_path / "run", (HEAD,), fabric=made)
    assert not (tmp_path / "run").exists()
