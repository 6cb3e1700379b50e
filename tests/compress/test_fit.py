"""The training loop: it learns what it is told to, keeps what it is told to keep, and resumes to the same bits."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.data.cross_sampling import CrossSampling
from edgeiqa.compress.fit import STATE_NAME, Step
from edgeiqa.compress.judging import predict
from edgeiqa.compress.labelled import ScoreObjective
from edgeiqa.compress.models.records import Mlp
from edgeiqa.compress.stages import Augmentation, OneCycle, ScoreLosses, Stage
from edgeiqa.profiles.metrics import rmse, srcc
from edgeiqa.runtime.errors import UsageError
from torch import Tensor, nn

from .grey_planes import HEAD, HELD, MOS, QUICK, TRAINING, VIEWS, Upside, network, same_bits, train

replace = msgspec.structs.replace


class Killed(Exception):
    """Ends a run between two steps."""


def kill_at(step: int) -> Callable[[Step], None]:
    def on_step(at: Step) -> None:
        if at.done == step:
            raise Killed

    return on_step


def log(folder: Path) -> list[dict[str, str]]:
    """``metrics.csv`` without the seconds."""
    with (folder / "metrics.csv").open(newline="") as file:
        return [{name: cell for name, cell in line.items() if name != "seconds"} for line in csv.DictReader(file)]


def timeless(history: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in line.items() if name != "seconds"} for line in history]


def test_it_learns_what_can_be_learned(tmp_path: Path) -> None:
    steps: list[Step] = []
    lines: list[Mapping[str, float]] = []
    net, history = train(tmp_path, (replace(QUICK, epochs=4),), on_step=steps.append, on_epoch=lines.append)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]
    assert history[-1]["heldout_srcc"] > 0.9 and history[-1]["heldout_rmse"] < 0.85 * history[0]["heldout_rmse"]
    assert [(step.done, step.total, step.epoch) for step in steps] == [(at + 1, 16, at // 4) for at in range(16)]
    assert lines == history
    assert not net.training and all(parameter.requires_grad for parameter in net.parameters())
    # The log says what was returned, and the figures are those of the network as it is.
    assert [{name: float(cell) for name, cell in line.items()} for line in log(tmp_path)] == timeless(history)
    raw = predict(net, HELD.views, HELD.rows)
    assert history[-1]["heldout_srcc"] == srcc(raw, HELD.scores)
    assert history[-1]["heldout_rmse"] == rmse(100 * raw, 100 * HELD.scores)
    for line in history:
        assert line["loss"] == pytest.approx(line["huber"] + line["plcc"], rel=1e-5)


def test_the_last_steps_rate_is_logged(tmp_path: Path) -> None:
    _, history = train(tmp_path, (replace(QUICK, schedule=OneCycle(warm_up=0.5)),))
    assert [line["learning_rate"] for line in history] == pytest.approx([1e-3, 1e-3 / 250_000])


def test_predictions_do_not_depend_on_the_batch_and_leave_the_mode_as_it_was() -> None:
    net = network().train()
    with torch.no_grad():
        net.head.output.weight.normal_(generator=torch.Generator().manual_seed(0))
    together, alone = predict(net, (VIEWS,), batch=48), predict(net, (VIEWS,), batch=5)
    assert net.training and together.dtype == np.float64
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert len(set(np.round(together, 4))) > 10
    rows = np.array([7, 3, 3])
    np.testing.assert_allclose(predict(net, (VIEWS,), rows), together[rows], atol=1e-4)


class Scaled(nn.Module):
    """An objective with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.8))

    def forward(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], stage: Stage, seed: int
    ) -> dict[str, Tensor]:
        noise = torch.randn(len(outputs["score"]), generator=torch.Generator().manual_seed(seed))
        return ScoreObjective()({"score": self.scale * outputs["score"] + 0.01 * noise}, targets, stage, seed)


# All that is drawn: order, flips, moves, dropout, the objective's own noise; and statistics that go on in every batch.
LIVELY = (
    replace(HEAD, losses=ScoreLosses(mse=1.0, plcc=0.0)),
    replace(
        QUICK,
        batch=10,
        schedule=OneCycle(),
        learning_rate=1e-4,
        freeze_batch_norm=False,
        gradient_clip=1.0,
        augmentation=Augmentation(crop=28, translation=0.1, whole_epochs=1),
    ),
)


def lively(folder: Path, **options: Any) -> tuple[Any, Any, list[dict[str, float]]]:
    objective = Scaled()
    net, history = train(folder, LIVELY, network=network(Mlp(hidden=8, dropout=0.3)), objective=objective, **options)
    return net, objective, history


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, list[dict[str, float]], Path]:
    folder = tmp_path_factory.mktemp("whole")
    return *lively(folder), folder


# The stages have 4 and 2 x 3 steps. The state is written at each epoch's end, and here after each step too.
@pytest.mark.parametrize(
    ("save_every_s", "cuts"),
    [(300.0, (2, 5)), (300.0, (8, 9)), (0.0, (1, 4, 5)), (0.0, (6, 7, 10))],
)
def test_a_run_that_was_cut_resumes_to_the_same_bits(
    whole: tuple[Any, Any, list[dict[str, float]], Path], tmp_path: Path, save_every_s: float, cuts: tuple[int, ...]
) -> None:
    net, objective, history, folder = whole
    for cut in cuts:
        with pytest.raises(Killed):
            lively(tmp_path, save_every_s=save_every_s, on_step=kill_at(cut))
    steps: list[int] = []
    resumed, resumed_objective, lines = lively(
        tmp_path, save_every_s=save_every_s, on_step=lambda step: steps.append(step.done)
    )
    # It went on from where the last state was written, and not from the beginning.
    kept = cuts[-1] - 1 if save_every_s == 0 else max(end for end in (0, 4, 7) if end < cuts[-1])
    assert steps == list(range(kept + 1, 11))
    assert same_bits(net, resumed)
    assert torch.equal(objective.scale, resumed_objective.scale) and float(objective.scale.detach()) != 0.8
    assert timeless(lines) == timeless(history)
    assert log(tmp_path) == log(folder)


def test_a_run_that_is_done_is_not_done_again(tmp_path: Path) -> None:
    first, history = train(tmp_path, (HEAD,))
    again, lines = train(tmp_path, (HEAD,), on_step=kill_at(1), on_epoch=lambda _: pytest.fail("an epoch again"))
    assert same_bits(first, again) and lines == history


def test_two_stages_the_head_first_and_then_all(tmp_path: Path) -> None:
    before, (net, history) = network(), train(tmp_path, (HEAD, QUICK))
    assert [(line["stage"], line["epoch"]) for line in history] == [(1, 1), (2, 2), (2, 3)]
    changed = {
        name: not torch.equal(one, other)
        for (name, one), other in zip(before.named_parameters(), net.parameters(), strict=True)
    }
    assert all(changed.values()), [name for name, is_so in changed.items() if not is_so]


def test_learning_the_head_leaves_the_trunk_to_the_bit(tmp_path: Path) -> None:
    before, (net, _) = network(), train(tmp_path, (replace(HEAD, freeze_batch_norm=False),))
    assert any("running_mean" in name for name in net.trunks.state_dict())
    for (name, one), other in zip(before.trunks.state_dict().items(), net.trunks.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert not torch.equal(before.head.output.weight, net.head.output.weight)


def statistics(net: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in net.state_dict().items() if "running" in name or "tracked" in name}


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norms_keep_their_statistics_only_when_frozen(tmp_path: Path, frozen: bool) -> None:
    before, (net, _) = network(), train(tmp_path, (replace(QUICK, epochs=1, freeze_batch_norm=frozen),))
    kept = [torch.equal(one, statistics(net)[name]) for name, one in statistics(before).items()]
    assert len(kept) > 50 and (all(kept) if frozen else not any(kept))
    # Their scales learn either way.
    scale = "trunks.0.model.bn1.weight"
    assert not torch.equal(before.state_dict()[scale], net.state_dict()[scale])


def gradients_seen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seen: list[float] = []
    step = torch.optim.AdamW.step

    def noting(self: Any, *arguments: Any, **named: Any) -> Any:
        parts = [part.grad.norm() for group in self.param_groups for part in group["params"] if part.grad is not None]
        seen.append(float(torch.stack(parts).norm()))
        return step(self, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", noting)
    return seen


def test_gradients_are_clipped_to_their_norm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = gradients_seen(monkeypatch)
    train(tmp_path / "free", (replace(QUICK, epochs=1),))
    free, clip = list(seen), 0.5 * min(seen)
    seen.clear()
    train(tmp_path / "clipped", (replace(QUICK, epochs=1, gradient_clip=clip),))
    assert len(free) == len(seen) == 4
    assert seen == pytest.approx([clip] * 4, rel=1e-3)


WORSE = replace(QUICK, name="worse", epochs=8, patience=2)


def test_patience_ends_a_stage_and_the_next_one_begins(tmp_path: Path) -> None:
    stages = (WORSE, replace(HEAD, name="head"))
    _, history = train(tmp_path / "whole", stages, objective=Upside())
    figures = [line["heldout_rmse"] for line in history]
    best = figures.index(min(figures[:-1]))
    # Two epochs without a better one, and no more.
    assert [line["stage"] for line in history] == [1] * (best + 3) + [2]
    assert best + 3 < WORSE.epochs
    # In the second epoch without a better one, and right after it.
    for cut in (4 * (best + 2) + 2, 4 * (best + 3) + 1):
        folder = tmp_path / str(cut)
        with pytest.raises(Killed):
            train(folder, stages, objective=Upside(), on_step=kill_at(cut))
        _, lines = train(folder, stages, objective=Upside())
        assert timeless(lines) == timeless(history)


RISE_AND_FALL = (replace(QUICK, epochs=2), replace(QUICK, name="worse", epochs=2))


def test_of_two_checkpoints_the_better_is_given(tmp_path: Path) -> None:
    net, history = train(tmp_path, RISE_AND_FALL, objective=Upside(), keep="two_checkpoints")
    losses, r2 = ([line[name] for line in history] for name in ("heldout_loss", "heldout_r2"))
    best = max(
        (history[losses.index(min(losses))], history[r2.index(max(r2))]),
        key=lambda line: line["heldout_plcc"] + line["heldout_srcc"],
    )
    raw = predict(net, HELD.views, HELD.rows)
    assert srcc(raw, HELD.scores) == best["heldout_srcc"]
    assert rmse(100 * raw, 100 * HELD.scores) == best["heldout_rmse"]
    assert (tmp_path / "best_loss.pt").exists() and (tmp_path / "best_r2.pt").exists()


@pytest.mark.parametrize("keep", ["greatest_srcc", "least_rmse", "last"])
def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path, keep: str) -> None:
    net, history = train(tmp_path / "whole", RISE_AND_FALL, objective=Upside(), keep=keep)
    raw = predict(net, HELD.views, HELD.rows)
    correlations, errors = ([line[name] for line in history] for name in ("heldout_srcc", "heldout_rmse"))
    assert correlations[-1] < max(correlations) and errors[-1] > min(errors)
    if keep == "greatest_srcc":
        assert srcc(raw, HELD.scores) == max(correlations)
    else:
        expected = min(errors) if keep == "least_rmse" else errors[-1]
        assert rmse(100 * raw, 100 * HELD.scores) == expected
    # Cut after the best epoch, it still has it.
    with pytest.raises(Killed):
        train(tmp_path / "cut", RISE_AND_FALL, objective=Upside(), keep=keep, on_step=kill_at(14))
    resumed, lines = train(tmp_path / "cut", RISE_AND_FALL, objective=Upside(), keep=keep)
    assert same_bits(net, resumed) and timeless(lines) == timeless(history)


class Silent(ScoreObjective):
    """Teaches nothing in its first four steps, so that the first epoch's scores are all one and have no correlation."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], stage: Stage, seed: int
    ) -> dict[str, Tensor]:
        self.calls += 1
        terms = super().__call__(outputs, targets, stage, seed)
        return {name: 0.0 * term for name, term in terms.items()} if self.calls <= 4 else terms


def test_an_epoch_without_a_correlation_is_not_the_best(tmp_path: Path) -> None:
    stage = replace(QUICK, epochs=3, weight_decay=0.0)
    net, history = train(tmp_path, (stage,), objective=Silent(), keep="greatest_srcc")
    assert math.isnan(history[0]["heldout_srcc"]) and history[0]["loss"] == 0
    assert srcc(predict(net, HELD.views, HELD.rows), HELD.scores) == max(line["heldout_srcc"] for line in history[1:])


def test_a_trial_of_a_few_steps(tmp_path: Path) -> None:
    steps: list[Step] = []
    _, history = train(tmp_path, (QUICK,), most_steps=6, on_step=steps.append)
    assert [(step.done, step.total) for step in steps] == [(at + 1, 6) for at in range(6)]
    assert len(history) == 2
    # It is another run than one without the limit, or with a higher one.
    kept = (tmp_path / STATE_NAME).read_bytes()
    for other in (None, 7):
        with pytest.raises(Exception, match="another run"):
            train(tmp_path, (QUICK,), most_steps=other)
    assert (tmp_path / STATE_NAME).read_bytes() == kept


def test_without_anything_held_out(tmp_path: Path) -> None:
    _, history = train(tmp_path, (QUICK,), heldout=None, keep="least_rmse")
    assert [set(line) for line in history] == [
        {"stage", "epoch", "loss", "huber", "plcc", "learning_rate", "seconds"}
    ] * 2
    assert not (tmp_path / "best_rmse.pt").exists()


def test_cross_sampling_draws_each_epoch_anew(tmp_path: Path) -> None:
    seen: list[list[int]] = [[]]

    class Watched(ScoreObjective):
        def __call__(
            self, outputs: dict[str, Tensor], targets: dict[str, Tensor], stage: Stage, seed: int
        ) -> dict[str, Tensor]:
            seen[-1].extend(round(1e6 * value) for value in targets["mos"].tolist())
            return super().__call__(outputs, targets, stage, seed)

    stage = replace(QUICK, epochs=3, batch=4, sampling=CrossSampling(method=1, ranges=2))
    opinions = MOS[:TRAINING]
    smallest = min(int((opinions < 0.5).sum()), int((opinions >= 0.5).sum()))
    _, history = train(
        tmp_path, (stage,), objective=Watched(), opinions=opinions, on_epoch=lambda _line: seen.append([])
    )
    epochs = seen[:3]
    for drawn in epochs:
        assert len(drawn) == len(set(drawn)) == 2 * smallest // 4 * 4
    assert len({frozenset(drawn) for drawn in epochs}) > 1 and len(history) == 3
    with pytest.raises(UsageError, match="cross-sampling"):
        train(tmp_path / "none", (stage,))
