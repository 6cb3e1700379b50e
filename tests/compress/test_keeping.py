"""Which epoch's weights a training gives, from logs that can be read by eye."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

import pytest
from edgeiqa.compress.keeping import CRITERIA, better, chosen, kept_name, kept_of, remove_kept
from edgeiqa.compress.stages import Keep


def line(loss: float, r2: float, plcc: float = 0.5, srcc: float = 0.5, **others: float) -> dict[str, float]:
    figures = {"loss": loss, "r2": r2, "plcc": plcc, "srcc": srcc, "rmse": 10 - r2, "range_mse": 5.0, **others}
    return {f"heldout_{name}": value for name, value in figures.items()}


def test_every_choice_is_in_the_table() -> None:
    assert set(CRITERIA) == set(get_args(Keep))


@pytest.mark.parametrize(
    ("keep", "epoch"),
    [("least_loss", 1), ("greatest_r2", 2), ("least_rmse", 2), ("greatest_srcc", 0), ("least_range_mse", 3)],
)
def test_one_figure_keeps_its_best_epoch(keep: Keep, epoch: int) -> None:
    log = [
        line(0.5, 0.1, srcc=0.9),
        line(0.2, 0.3),
        line(0.4, 0.6, srcc=0.8),
        line(0.9, 0.2, range_mse=4.0),
    ]
    kept = kept_of(log, keep)
    assert kept is not None and kept.epoch == epoch


def test_the_last_epoch_needs_no_checkpoint() -> None:
    assert kept_of([line(0.5, 0.1), line(0.9, 0.0)], "last") is None


@pytest.mark.parametrize(
    ("of_loss", "of_r2", "figure"),
    [((0.7, 0.7), (0.8, 0.5), "loss"), ((0.7, 0.7), (0.8, 0.7), "r2"), ((0.7, 0.7), (0.6, 0.8), "loss")],
)
def test_of_two_checkpoints_the_greater_mean_of_both_correlations_wins(
    of_loss: tuple[float, float], of_r2: tuple[float, float], figure: str
) -> None:
    log = [line(0.2, 0.3, *of_loss), line(0.4, 0.6, *of_r2), line(0.9, 0.1, 0.99, 0.99)]
    kept = kept_of(log, "two_checkpoints")
    assert kept is not None and (kept.figure, kept.epoch) == (figure, 0 if figure == "loss" else 1)


def test_equals_and_undefined_figures_do_not_take_a_place() -> None:
    log = [line(math.nan, math.nan), line(0.2, 0.3), line(0.2, 0.3), line(math.nan, 0.1)]
    best = {one.figure: one for one in better({}, log[:1], "two_checkpoints")}
    assert {one.value for one in best.values()} == {-math.inf}
    assert [one.figure for one in better(best, log[:2], "two_checkpoints")] == ["loss", "r2"]
    kept = kept_of(log, "two_checkpoints")
    assert kept is not None and kept.epoch == 1
    # A log in JSON has no such numbers at all.
    bare = [{name: value for name, value in one.items() if math.isfinite(value)} for one in log]
    assert kept_of(bare, "two_checkpoints") == kept


def test_a_checkpoint_without_correlations_loses_to_one_that_has_them() -> None:
    log = [line(0.1, 0.2, math.nan, math.nan), line(0.4, 0.6, 0.1, 0.1)]
    best = {one.figure: one for one in better({}, log[:1], "two_checkpoints")}
    best |= {one.figure: one for one in better(best, log, "two_checkpoints")}
    kept = chosen(best, log, "two_checkpoints")
    assert kept is not None and kept.figure == "r2"


def test_what_is_kept_is_removed_in_the_end(tmp_path: Path) -> None:
    for name in (kept_name("loss"), kept_name("r2"), kept_name("srcc"), "metrics.csv"):
        (tmp_path / name).touch()
    remove_kept(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]
