"""Quantization-aware fine-tuning as data: its recipe, and the report that it leaves."""

from __future__ import annotations

import math

import msgspec

from ..profiles.metrics import Accuracy, Interval
from ..runtime.errors import require_field
from .distill_records import Transfer
from .fake_quant import FakeQuantization
from .stages import Augmentation, Keep, OneCycle, Stage, require_keepable

__all__ = ["FINE_TUNING", "QuantAwareLosses", "QuantAwareRecipe", "QuantAwareReport"]

FINE_TUNING = Stage(
    name="quantization-aware",
    epochs=5,
    learning_rate=2e-5,
    head_learning_rate=2e-5,
    weight_decay=0.0,
    schedule=OneCycle(warm_up=0.1),
    augmentation=Augmentation(flip=False),
    freeze_batch_norm=True,
    gradient_clip=1.0,
)
"""A tenth of the rates of a distillation: the network is to stay what it is."""


class QuantAwareLosses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of the losses; 0 leaves one out.

    Attributes:
        score: of a stage's score losses to the raw scores of the float network that it starts from.
        rank: of the hinge on their order.
        feature: of the error of the pooled features, as a share of their variance.
        mos: of a stage's score losses to the opinions, on the photographs that have one.
    """

    score: float = 1.0
    rank: float = 0.0
    feature: float = 0.5
    mos: float = 0.1

    def __post_init__(self) -> None:
        weights = (self.score, self.rank, self.feature, self.mos)
        require_field(all(0 <= weight < math.inf for weight in weights), f"weights of losses {weights}", "0 or more")
        require_field(max(self.score, self.rank, self.mos) > 0, f"weights of losses {weights}", "a loss of the score")


class QuantAwareRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a network learns to bear INT8.

    Attributes:
        stages: of its training; their losses are taken to the float network's scores and to the opinions.
        losses: weights of the terms.
        transfer: what is looked at of each photograph.
        quantization: what is simulated.
        calibration: photographs that the ranges are first set by, at most.
        keep: which epoch's weights it has, by what is held out.
        seed: of the order.
    """

    stages: tuple[Stage, ...] = (FINE_TUNING,)
    losses: QuantAwareLosses = QuantAwareLosses()
    transfer: Transfer = Transfer(crops=1, distortions=1)
    quantization: FakeQuantization = FakeQuantization()
    calibration: int = 128
    keep: Keep = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        require_field(len(self.stages) >= 1, "a fine-tuning without stages", "at least one")
        require_keepable(self.keep, self.stages)
        frozen = all(stage.freeze_batch_norm for stage in self.stages)
        require_field(frozen, "batch norms that take new statistics", "freeze_batch_norm in every stage")
        require_field(self.calibration >= 1, f"{self.calibration} photographs for ranges", "at least 1")


class QuantAwareReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a quantization-aware fine-tuning came to.

    INT8 is the simulated one here; what an engine makes of the network, `export` measures.

    Attributes:
        student: its name.
        quantized: how many layers have fake quantizers.
        photographs: that it learned from.
        items: crops and distorted versions of them.
        steps: of training.
        heldout: photographs that were only judged.
        judged: views of them.
        heldout_is: what these are: ``selection part``, or ``unlabelled photographs``.
        int8_before: SRCC between the network before it learned, in INT8 and in FP32; None for no correlation, likewise
            the next two.
        int8_after: the same of the network as it is now, in INT8, to what it was in FP32.
        fp32_after: of the network as it is now, in FP32, to what it was.
        change_before: mean absolute change of a held-out score by INT8 before it learned, in points of a hundred.
        change_after: by INT8 and by what it learned, from FP32 before.
        accuracy_before: in FP32 against opinions, as it was; None without opinions.
        accuracy: in FP32 against opinions, as it is now.
        accuracy_int8_before: in INT8 against opinions, as it was.
        accuracy_int8: in INT8 against opinions, as it is now.
        history: lines of the log; what they say of held-out photographs is in INT8.
    """

    student: str
    quantized: int
    photographs: int
    items: int
    steps: int
    heldout: int
    judged: int
    heldout_is: str
    int8_before: Interval | None
    int8_after: Interval | None
    fp32_after: Interval | None
    change_before: float
    change_after: float
    accuracy_before: Accuracy | None
    accuracy: Accuracy | None
    accuracy_int8_before: Accuracy | None
    accuracy_int8: Accuracy | None
    history: tuple[dict[str, float], ...]
