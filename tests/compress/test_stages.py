"""Stages as data: learning rates by their closed forms, records that refuse what cannot be, and their TOML."""

from __future__ import annotations

import math
import tomllib
from typing import Any

import msgspec
import pytest
import torch
from edgeiqa.compress.data.cross_sampling import CrossSampling
from edgeiqa.compress.stages import (
    Augmentation,
    Constant,
    Cosine,
    OneCycle,
    Schedule,
    ScoreLosses,
    Stage,
    WarmRestarts,
    rate_factor,
    require_keepable,
)
from edgeiqa.runtime.errors import RecordError
from hypothesis import given
from hypothesis import strategies as st


def factors(schedule: Schedule, steps: int, steps_an_epoch: int = 1) -> list[float]:
    return [rate_factor(schedule, step, steps=steps, steps_an_epoch=steps_an_epoch) for step in range(steps)]


def torch_factors(scheduler: Any, steps: int, **options: Any) -> list[float]:
    """What torch's scheduler makes of a rate of 1, step by step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduler(optimizer, **options)
    rates = [float(optimizer.param_groups[0]["lr"])]
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
        rates.append(float(optimizer.param_groups[0]["lr"]))
    return rates


@pytest.mark.parametrize("warm_up", [0.05, 0.2, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("steps", [3, 7, 10, 97, 250])
def test_one_cycle_is_that_of_torch(steps: int, warm_up: float) -> None:
    found = factors(OneCycle(warm_up=warm_up), steps)
    wanted = torch_factors(torch.optim.lr_scheduler.OneCycleLR, steps, max_lr=1.0, total_steps=steps, pct_start=warm_up)
    assert found == pytest.approx(wanted, abs=1e-6)
    assert found[-1] == pytest.approx(1 / 250_000, abs=1e-12)


def test_one_cycle_of_one_and_two_steps() -> None:
    assert factors(OneCycle(), 1) == [pytest.approx(1 / 250_000)]
    assert factors(OneCycle(warm_up=0.5), 2) == [1.0, pytest.approx(1 / 250_000)]


@pytest.mark.parametrize("steps", [1, 5, 40])
def test_cosine(steps: int) -> None:
    found = factors(Cosine(minimum=0.1), steps)
    assert found == pytest.approx(
        [0.1 + 0.9 * (1 + math.cos(math.pi * step / steps)) / 2 for step in range(steps)], abs=1e-12
    )


def test_cosine_is_that_of_torch() -> None:
    wanted = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR, 20, T_max=20, eta_min=0.05)
    assert factors(Cosine(minimum=0.05), 20) == pytest.approx(wanted, abs=1e-6)


def test_a_warm_up_rises_by_equal_steps_to_the_peak_and_the_cosine_goes_on_from_there() -> None:
    found = factors(Cosine(warm_up_epochs=2, minimum=0.0), 50, steps_an_epoch=5)
    assert found[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert found[10] == 1.0
    assert found[10:] == pytest.approx(factors(Cosine(), 40))


def test_a_warm_up_of_part_of_an_epoch() -> None:
    found = factors(Cosine(warm_up_epochs=0.5), 8, steps_an_epoch=4)
    assert found[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])


@pytest.mark.parametrize(("period", "factor"), [(1, 1), (4, 1), (3, 2), (2, 3)])
def test_warm_restarts_are_those_of_torch(period: int, factor: int) -> None:
    wanted = torch_factors(
        torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, 30, T_0=period, T_mult=factor, eta_min=0.01
    )
    schedule = WarmRestarts(period_epochs=period, factor=factor, minimum=0.01)
    assert factors(schedule, 30) == pytest.approx(wanted, abs=1e-6)
    # Within an epoch the cosine goes on; at its beginnings it is the same.
    assert factors(schedule, 300, steps_an_epoch=10)[::10] == pytest.approx(wanted, abs=1e-6)


def test_warm_restarts_after_a_warm_up() -> None:
    schedule = WarmRestarts(period_epochs=2, factor=2, warm_up_epochs=1)
    found = factors(schedule, 28, steps_an_epoch=4)
    assert found[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert found[4:] == pytest.approx(factors(WarmRestarts(period_epochs=2, factor=2), 24, steps_an_epoch=4))
    assert [step for step, at in enumerate(found) if at == 1.0] == [4, 12]


def test_constant() -> None:
    assert factors(Constant(), 5) == [1.0] * 5


SCHEDULES = st.one_of(
    st.builds(OneCycle, warm_up=st.floats(0.001, 0.999)),
    st.builds(Cosine, warm_up_epochs=st.floats(0, 5), minimum=st.floats(0, 0.99)),
    st.builds(
        WarmRestarts,
        period_epochs=st.floats(1e-9, 10),
        factor=st.one_of(st.just(1.0), st.floats(1.1, 4)),
        warm_up_epochs=st.floats(0, 5),
        minimum=st.floats(0, 0.99),
    ),
    st.just(Constant()),
)


@given(schedule=SCHEDULES, epochs=st.integers(1, 6), steps_an_epoch=st.integers(1, 30))
def test_every_rate_is_a_share_of_the_peak(schedule: Schedule, epochs: int, steps_an_epoch: int) -> None:
    found = factors(schedule, epochs * steps_an_epoch, steps_an_epoch)
    assert all(0 <= factor <= 1 for factor in found)


@given(schedule=SCHEDULES)
def test_schedules_go_through_json(schedule: Schedule) -> None:
    stage = Stage(schedule=schedule)
    assert msgspec.json.decode(msgspec.json.encode(stage), type=Stage) == stage


TOML = """
name = "trunk too"
epochs = 12
parameters = "head"
batch = 8
learning_rate = 5e-5
head_learning_rate = 5e-4
layer_decay = 0.8
optimizer = "adam"
weight_decay = 0.05
schedule = { type = "warm_restarts", period_epochs = 4, factor = 2.0, warm_up_epochs = 0.5, minimum = 0.01 }
freeze_batch_norm = true
gradient_clip = 1.0
patience = 3

[losses]
mse = 1.0
weighted_mse = 0.5
end_height = 1.0
end_distance = 0.3
end_width = 0.1
huber = 0.0
huber_delta = 0.2
plcc = 0.5

[augmentation]
crop = 352
flip = false
rotation_degrees = 3.0
translation = 0.05
brightness = 0.1
contrast = 0.2
saturation = 0.3
blur_sigma = 0.5
noise = 4.0
whole_epochs = 2

[sampling]
method = "log"
base = 4.0
rounding = "nearest"
ranges = 6
"""


def test_a_stage_is_read_from_toml() -> None:
    stage = msgspec.convert(tomllib.loads(TOML), Stage)
    assert stage == Stage(
        name="trunk too",
        epochs=12,
        parameters="head",
        batch=8,
        learning_rate=5e-5,
        head_learning_rate=5e-4,
        layer_decay=0.8,
        optimizer="adam",
        weight_decay=0.05,
        schedule=WarmRestarts(period_epochs=4, factor=2.0, warm_up_epochs=0.5, minimum=0.01),
        losses=ScoreLosses(
            mse=1.0,
            weighted_mse=0.5,
            end_height=1.0,
            end_distance=0.3,
            end_width=0.1,
            huber=0.0,
            huber_delta=0.2,
            plcc=0.5,
        ),
        augmentation=Augmentation(
            crop=352,
            flip=False,
            rotation_degrees=3.0,
            translation=0.05,
            brightness=0.1,
            contrast=0.2,
            saturation=0.3,
            blur_sigma=0.5,
            noise=4.0,
            whole_epochs=2,
        ),
        freeze_batch_norm=True,
        gradient_clip=1.0,
        patience=3,
        sampling=CrossSampling(method="log", base=4.0, rounding="nearest", ranges=6),
    )
    # The text says every field, and a record comes back as the tables it was read from.
    written = msgspec.to_builtins(stage)
    assert msgspec.convert(written, Stage) == stage
    assert written == tomllib.loads(TOML)


def test_an_empty_table_is_the_default_stage_and_an_unknown_name_is_refused() -> None:
    assert msgspec.convert({}, Stage) == Stage()
    with pytest.raises(msgspec.ValidationError, match="epoch"):
        msgspec.convert({"epoch": 3}, Stage)
    with pytest.raises(msgspec.ValidationError, match="one_cylce"):
        msgspec.convert({"schedule": {"type": "one_cylce"}}, Stage)
    with pytest.raises(msgspec.ValidationError, match="sgd"):
        msgspec.convert({"optimizer": "sgd"}, Stage)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch": 1},
        {"learning_rate": 0.0},
        {"learning_rate": math.inf},
        {"head_learning_rate": -1e-3},
        {"head_learning_rate": math.nan},
        {"layer_decay": 0.0},
        {"layer_decay": 1.01},
        {"weight_decay": -1e-9},
        {"gradient_clip": 0.0},
        {"patience": 0},
        {"epochs": 2, "augmentation": Augmentation(whole_epochs=3)},
    ],
    ids=str,
)
def test_a_stage_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="expected"):
        Stage(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": 0},
        {"rotation_degrees": -1.0},
        {"rotation_degrees": 45.1},
        {"translation": 0.51},
        {"translation": math.nan},
        {"brightness": 1.0},
        {"contrast": -0.1},
        {"saturation": math.inf},
        {"blur_sigma": 16.1},
        {"noise": -0.1},
        {"noise": 255.1},
        {"noise": math.nan},
        {"whole_epochs": -1},
    ],
    ids=str,
)
def test_an_augmentation_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="expected"):
        Augmentation(**wrong)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (OneCycle, {"warm_up": 0.0}),
        (OneCycle, {"warm_up": 1.0}),
        (Cosine, {"warm_up_epochs": -0.1}),
        (Cosine, {"minimum": 1.0}),
        (WarmRestarts, {"period_epochs": 0.0}),
        (WarmRestarts, {"period_epochs": 1.0, "factor": 0.9}),
        (WarmRestarts, {"period_epochs": 1.0, "minimum": -0.1}),
        (ScoreLosses, {"mse": -1.0}),
        (ScoreLosses, {"plcc": math.inf}),
        (ScoreLosses, {"huber_delta": 0.0}),
        (ScoreLosses, {"weighted_mse": -1.0}),
        (ScoreLosses, {"end_height": -1.0}),
        (ScoreLosses, {"end_distance": 0.6}),
        (ScoreLosses, {"end_width": 0.0}),
    ],
    ids=str,
)
def test_schedules_and_losses_that_cannot_be(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match="expected"):
        kind(**wrong)


def test_whether_a_score_loss_counts() -> None:
    assert ScoreLosses().any
    assert ScoreLosses(mse=0.5, huber=0.0, plcc=0.0).any
    assert not ScoreLosses(mse=0.0, huber=0.0, plcc=0.0).any


def test_losses_that_differ_are_no_figure_to_keep_a_checkpoint_by() -> None:
    mse, huber = Stage(losses=ScoreLosses(mse=1.0, huber=0.0)), Stage()
    for keep in ("least_loss", "two_checkpoints"):
        require_keepable(keep, (huber, huber))
        for stages in ((mse, huber), (Stage(losses=ScoreLosses(huber=0.0, plcc=0.0)),)):
            with pytest.raises(RecordError, match="whose losses differ"):
                require_keepable(keep, stages)
    require_keepable("greatest_r2", (mse, huber))
