"""A distillation as data: its recipe, and the report that it leaves."""

from __future__ import annotations

import math

import msgspec

from ..profiles.metrics import Accuracy, Interval
from ..runtime.errors import require_field
from ..runtime.preprocess import FULL_DECODE, DctDecode, FullDecode
from .models.records import Head, Linear
from .models.weights import Weights
from .stages import Augmentation, Keep, Stage, require_keepable

__all__ = ["DistillLosses", "DistillRecipe", "DistillReport", "Transfer"]


class DistillLosses(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of a distillation's losses; 0 leaves one out.

    Attributes:
        score: of a stage's score losses to the teacher's scores.
        mos: of a stage's score losses to the opinions, on the photographs that have one.
        feature: of the mean squared error to a member's pooled features.
        cosine: of one minus the cosine to them.
        distance: of the relation of distances in the batch.
        angle: of the relation of angles in the batch.
        rank: of the hinge on the teacher's order.
        rank_margin: of that hinge as a share of the teacher's difference, in [0, 1].
        disagreement: standard deviation of the members' scores, in [0, 1] units, that halves an image's weight; None
            for equal weights.
    """

    score: float = 1.0
    mos: float = 1.0
    feature: float = 0.5
    cosine: float = 0.0
    distance: float = 0.0
    angle: float = 0.0
    rank: float = 0.0
    rank_margin: float = 1.0
    disagreement: float | None = 0.1

    def __post_init__(self) -> None:
        weights = (self.score, self.mos, self.feature, self.cosine, self.distance, self.angle, self.rank)
        right = all(0 <= weight < math.inf for weight in weights)
        require_field(right, f"weights of losses {weights}", "0 or more")
        require_field(max(self.score, self.mos, self.rank) > 0, f"weights of losses {weights}", "a loss of the score")
        require_field(0 <= self.rank_margin <= 1, f"a rank margin of {self.rank_margin}", "a share in [0, 1]")
        scale = self.disagreement
        require_field(scale is None or scale > 0, f"a scale of disagreement of {scale}", "more than 0, or none")

    @property
    def features(self) -> bool:
        """Whether the teacher's features are needed."""
        return max(self.feature, self.cosine, self.distance, self.angle) > 0

    @property
    def teacher(self) -> bool:
        """Whether a teacher is needed."""
        return self.features or max(self.score, self.rank) > 0


class Transfer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What teacher and student look at of each photograph; see `data.transfer.transfer_items`.

    Attributes:
        crops: the whole of it, the whole mirrored, then parts.
        distortions: distorted versions.
        ladder: severities at which every crop is shown under every kind of distortion as well.
        seed: of the draws.
    """

    crops: int = 4
    distortions: int = 0
    ladder: tuple[float, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        require_field(self.crops >= 1 and self.distortions >= 0, f"{self}", "at least one crop, 0 or more distortions")
        right = all(0 < severity <= 1 for severity in self.ladder) and len(set(self.ladder)) == len(self.ladder)
        require_field(right, f"a ladder of {self.ladder}", "different severities in (0, 1]")


class DistillRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A student and how it learns.

    Attributes:
        name: of the student.
        backbone: timm's name.
        width: of its view, in pixels.
        height: likewise.
        weights: where its trunk starts.
        stages: of its training; their losses are taken to the teacher's scores and to the opinions, and their
            augmentation beside the crops, which are the teacher's as well, is normally none.
        losses: weights of the terms.
        transfer: what is looked at.
        head: from features to the score.
        features: indices of the backbone's stages that are outputs and that features are distilled into; None for at
            most four, evenly from the last backwards.
        decode: the decode policy it is trained and run with.
        keep: which epoch's weights it has, by what is held out.
        seed: of its head, order, projections and dropout.
    """

    name: str
    backbone: str
    width: int
    height: int
    weights: Weights
    stages: tuple[Stage, ...] = (Stage(augmentation=Augmentation(flip=False)),)
    losses: DistillLosses = DistillLosses()
    transfer: Transfer = Transfer()
    head: Head = Linear()
    features: tuple[int, ...] | None = None
    decode: FullDecode | DctDecode = FULL_DECODE
    keep: Keep = "last"
    seed: int = 0

    def __post_init__(self) -> None:
        require_field(len(self.stages) >= 1, f"student {self.name!r} without stages", "at least one")
        require_keepable(self.keep, self.stages)


class DistillReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a distillation came to.

    Attributes:
        student: its name.
        teacher: its name.
        parameters: of the student.
        macs: multiply-adds a photograph, strict.
        photographs: that it learned from.
        items: crops and distorted versions of them.
        steps: of training.
        heldout: photographs that were only judged.
        heldout_is: what these are: ``selection part``, or ``unlabelled photographs``.
        accuracy: of the student against opinions on them; None without opinions.
        teacher_accuracy: of the teacher likewise.
        agreement: SRCC between student and teacher on them, with its interval; None without a teacher, or where one of
            the two gives one score to all.
        history: lines of the log.
        judged: views of the photographs that were only judged: these, and where no person's opinions judge distorted
            versions of them; None in the reports of earlier versions.
    """

    student: str
    teacher: str
    parameters: int
    macs: int
    photographs: int
    items: int
    steps: int
    heldout: int
    heldout_is: str
    accuracy: Accuracy | None
    teacher_accuracy: Accuracy | None
    agreement: Interval | None
    history: tuple[dict[str, float], ...]
    judged: int | None = None
