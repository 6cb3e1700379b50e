"""How a network is trained, as data: stages, each with its parameters, rates, losses and augmentation."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from ..runtime.errors import require_field
from .data.cross_sampling import CrossSampling

__all__ = [
    "Augmentation",
    "Constant",
    "Cosine",
    "Keep",
    "OneCycle",
    "Schedule",
    "ScoreLosses",
    "Stage",
    "WarmRestarts",
    "rate_factor",
    "require_keepable",
]

Keep = Literal["last", "least_rmse", "greatest_srcc", "least_loss", "greatest_r2", "two_checkpoints", "least_range_mse"]
"""Which weights a training gives: those of the last epoch, or of the epoch that did best on what was held out.

``two_checkpoints`` keeps the epochs of the least loss and of the greatest R2, and gives the one with the greatest mean
of PLCC and SRCC; ``least_range_mse`` goes by the sum of the squared errors' means over five ranges of the opinions, so
that rare opinions count as much (sources: `keeping`).
"""


class OneCycle(msgspec.Struct, frozen=True, tag="one_cycle", kw_only=True, forbid_unknown_fields=True):
    """Up to the peak along a cosine for ``warm_up`` of the stage, then down along a cosine to 1/250,000 of it.

    L. N. Smith and N. Topin, "Super-Convergence", 2018, in the two-phase cosine form that torch has.

    Attributes:
        warm_up: share of the steps, in (0, 1).
    """

    warm_up: float = 0.3

    def __post_init__(self) -> None:
        require_field(0 < self.warm_up < 1, f"a warm-up of {self.warm_up}", "a share in (0, 1)")


class Cosine(msgspec.Struct, frozen=True, tag="cosine", kw_only=True, forbid_unknown_fields=True):
    """From the peak down along half a cosine.

    I. Loshchilov and F. Hutter, "SGDR: Stochastic gradient descent with warm restarts", 2017, eq. 5, without a restart.

    Attributes:
        warm_up_epochs: of a linear rise before it.
        minimum: the rate at the end as a share of the peak, in [0, 1).
    """

    warm_up_epochs: float = 0.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require_cosine(self.warm_up_epochs, self.minimum)


class WarmRestarts(msgspec.Struct, frozen=True, tag="warm_restarts", kw_only=True, forbid_unknown_fields=True):
    """`Cosine` again and again (the same source).

    Attributes:
        period_epochs: of the first cosine.
        factor: by which each next one is longer.
        warm_up_epochs: of a linear rise before the first.
        minimum: the rate at the end of each as a share of the peak, in [0, 1).
    """

    period_epochs: float
    factor: float = 1.0
    warm_up_epochs: float = 0.0
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _require_cosine(self.warm_up_epochs, self.minimum)
        periods = self.period_epochs > 0 and self.factor >= 1
        require_field(periods, f"periods of {self.period_epochs} x {self.factor}", "a period above 0, a factor from 1")


class Constant(msgspec.Struct, frozen=True, tag="constant", kw_only=True, forbid_unknown_fields=True):
    """The peak throughout."""


Schedule = OneCycle | Cosine | WarmRestarts | Constant


def _require_cosine(warm_up_epochs: float, minimum: float) -> None:
    require_field(warm_up_epochs >= 0, f"a warm-up of {warm_up_epochs} epochs", "0 or more")
    require_field(0 <= minimum < 1, f"a minimum of {minimum}", "a share of the peak, in [0, 1)")


def rate_factor(schedule: Schedule, step: int, *, steps: int, steps_an_epoch: int) -> float:
    """The learning rate of a step as a share of the peak, in [0, 1].

    Args:
        schedule: of the stage.
        step: from 0.
        steps: of the stage.
        steps_an_epoch: of the stage.
    """
    match schedule:
        case Constant():
            return 1.0
        case OneCycle(warm_up=share):
            # torch's OneCycleLR: from 1/25 of the peak, down to 1/25 of that over 10,000.
            peak = share * steps - 1
            if step <= peak:
                return _half_cosine(step / peak, 1 / 25, 1.0) if peak > 0 else 1.0
            return _half_cosine((step - peak) / max(steps - 1 - peak, 1e-9), 1.0, 1 / 250_000)
        case Cosine(warm_up_epochs=warm, minimum=minimum):
            before = warm * steps_an_epoch
            if step < before:
                return (step + 1) / (before + 1)
            return _half_cosine((step - before) / max(steps - before, 1e-9), 1.0, minimum)
        case WarmRestarts(period_epochs=period, factor=factor, warm_up_epochs=warm, minimum=minimum):
            before = warm * steps_an_epoch
            if step < before:
                return (step + 1) / (before + 1)
            at, length = step - before, period * steps_an_epoch
            while factor > 1 and at >= length:
                at, length = at - length, length * factor
            # Of equal periods there can be very many.
            at %= length
            return _half_cosine(at / length, 1.0, minimum)


def _half_cosine(share: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2


class Augmentation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done to a training batch's views. Colour, blur and noise change quality itself, so they are off.

    Attributes:
        crop: side in pixels of a square crop of the view, the same place for a batch; None leaves it whole.
        flip: mirror half the photographs left to right.
        rotation_degrees: largest angle of a rotation about the middle; photographs are drawn uniformly up to it, either
            way, with bicubic sampling and mirrored borders.
        translation: largest shift as a share of the view's sides, in whole pixels unless it is rotated as well.
        brightness: largest relative change; 0 is off, likewise the next two.
        contrast: likewise.
        saturation: likewise.
        blur_sigma: largest standard deviation in pixels of a Gaussian blur; 0 is off.
        noise: largest standard deviation, in grey levels of 0 to 255, of Gaussian noise that is added last, to each
            channel of each pixel its own; 0 is off. With ``contrast`` it is the "contrast and noise augmentation" of
            the cross-sampling paper (see `data.cross_sampling`), whose amounts are not known to us.
        whole_epochs: how many last epochs of the stage see whole, upright views, so that normalisation statistics are
            those of use.
    """

    crop: int | None = None
    flip: bool = True
    rotation_degrees: float = 0.0
    translation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    blur_sigma: float = 0.0
    noise: float = 0.0
    whole_epochs: int = 0

    def __post_init__(self) -> None:
        require_field(self.crop is None or self.crop >= 1, f"crops of {self.crop} pixels", "1 or more, or none")
        require_field(0 <= self.rotation_degrees <= 45, f"rotations of {self.rotation_degrees} degrees", "0 to 45")
        require_field(0 <= self.translation <= 0.5, f"translations of {self.translation}", "a share in [0, 0.5]")
        changes = (self.brightness, self.contrast, self.saturation)
        require_field(all(0 <= change < 1 for change in changes), f"colour changes of {changes}", "shares in [0, 1)")
        require_field(0 <= self.blur_sigma <= 16, f"a blur of {self.blur_sigma} pixels", "0 to 16")
        require_field(0 <= self.noise <= 255, f"noise of {self.noise} grey levels", "0 to 255")
        require_field(self.whole_epochs >= 0, f"{self.whole_epochs} epochs of whole views", "0 or more")


class ScoreLosses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of the losses between the network's scores and scores in [0, 1]; 0 leaves one out.

    Attributes:
        mse: of the mean squared error.
        weighted_mse: of the mean squared error in which opinions near the ends of the scale count more
            (`losses.weighted_mse_loss`).
        end_height: by how much more, at the ends; likewise the next two.
        end_distance: from the middle at which half of it is reached.
        end_width: in which the weight rises.
        huber: of the Huber loss over delta squared.
        huber_delta: where its parabola becomes a line.
        plcc: of one minus the batch's linear correlation.
    """

    mse: float = 0.0
    weighted_mse: float = 0.0
    end_height: float = 2.0
    end_distance: float = 0.25
    end_width: float = 0.05
    huber: float = 1.0
    huber_delta: float = 0.1
    plcc: float = 1.5

    def __post_init__(self) -> None:
        weights = (self.mse, self.weighted_mse, self.huber, self.plcc)
        require_field(all(0 <= weight < math.inf for weight in weights), f"weights of losses {weights}", "0 or more")
        ends = (self.end_height, self.end_distance, self.end_width)
        right = 0 <= ends[0] < math.inf and 0 <= ends[1] <= 0.5 and 0 < ends[2] < math.inf
        require_field(right, f"weights of the ends {ends}", "a height from 0, a distance in [0, 0.5], a width above 0")
        require_field(self.huber_delta > 0, f"a delta of {self.huber_delta}", "more than 0")

    @property
    def any(self) -> bool:
        """Whether one of them counts."""
        return max(self.mse, self.weighted_mse, self.huber, self.plcc) > 0


class Stage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stage of a training.

    Attributes:
        name: for the log.
        epochs: over the training photographs.
        parameters: which learn: ``all``, or the ``head`` (fusion and head) on a frozen trunk.
        batch: photographs a step over all processes; the last, smaller batch of an epoch is left out.
        learning_rate: of the trunk, the peak of the schedule.
        head_learning_rate: of fusion, head and projections, likewise.
        layer_decay: what each layer nearer to the pixels learns slower by, in (0, 1]; 1 for all alike.
        optimizer: ``adamw`` (I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019), or ``adam``
            (D. P. Kingma and J. Ba, "Adam: A method for stochastic optimization", 2015).
        weight_decay: of AdamW apart from the gradient; of Adam as an L2 penalty, added to the gradient.
        schedule: of the rates.
        losses: to the opinions.
        augmentation: of the views.
        freeze_batch_norm: whether batch norms keep the statistics they come with.
        gradient_clip: largest norm of the gradient; None for no limit.
        patience: epochs without a better held-out figure after which the stage ends; None to run them all.
        sampling: which photographs an epoch draws, by their opinions; None for every one once. A drawn epoch is
            shorter, and ``epochs``, the schedule and the patience count drawn ones.
    """

    name: str = "all"
    epochs: int = 10
    parameters: Literal["all", "head"] = "all"
    batch: int = 16
    learning_rate: float = 2e-4
    head_learning_rate: float = 2e-3
    layer_decay: float = 1.0
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: float = 1e-3
    schedule: Schedule = OneCycle()
    losses: ScoreLosses = ScoreLosses()
    augmentation: Augmentation = Augmentation()
    freeze_batch_norm: bool = False
    gradient_clip: float | None = None
    patience: int | None = None
    sampling: CrossSampling | None = None

    def __post_init__(self) -> None:
        require_field(self.epochs >= 1, f"{self.epochs} epochs", "at least 1")
        require_field(self.batch >= 2, f"batches of {self.batch}", "2 or more")
        rates = (self.learning_rate, self.head_learning_rate)
        require_field(all(0 < rate < math.inf for rate in rates), f"learning rates of {rates}", "more than 0")
        require_field(0 < self.layer_decay <= 1, f"a layer decay of {self.layer_decay}", "more than 0, at most 1")
        require_field(self.weight_decay >= 0, f"a weight decay of {self.weight_decay}", "0 or more")
        clip = self.gradient_clip
        require_field(clip is None or clip > 0, f"a gradient clip of {clip}", "more than 0, or none")
        require_field(self.patience is None or self.patience >= 1, f"a patience of {self.patience}", "1 or more")
        whole = self.augmentation.whole_epochs
        require_field(whole <= self.epochs, f"{whole} epochs of whole views", f"at most the stage's {self.epochs}")


def require_keepable(keep: Keep, stages: tuple[Stage, ...]) -> None:
    """Refuse a choice by the stages' loss where it is not one figure: of stages with other losses, or with none.

    Raises:
        RecordError: it is so.
    """
    if keep in ("least_loss", "two_checkpoints"):
        one = len({stage.losses for stage in stages}) == 1 and stages[0].losses.any
        require_field(one, f"keep = {keep!r} of stages whose losses differ, or are none", "the same losses in each")
