"""Learning from a teacher: what its cache holds as examples, and the losses to it as an objective."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.errors import DataError
from ..runtime.splitmix import hash_cell
from .data.items import Item
from .distill_records import DistillLosses
from .distillation_losses import (
    Projections,
    channel_statistics,
    disagreement_weight,
    feature_cosine,
    feature_mse,
    rank_loss,
    relational_angle,
    relational_distance,
)
from .labelled import score_terms
from .stages import Stage
from .teacher_cache import TeacherCache
from .teacher_members import Teacher
from .teacher_targets import Targets, speaking_features

__all__ = ["DistillObjective", "TransferExamples", "TransferSet", "group_items", "member_statistics"]

_STATISTICS_ITEMS = 2048
"""Items that a member's channel statistics are taken over, at most: a mean is known to 2 % of its deviation by then."""


def group_items(items: Sequence[Item]) -> list[list[int]]:
    """Places of the items, those together of which an epoch shows one: the crops of a photograph as it is.

    Each distorted version is alone.
    """
    groups: dict[str, list[int]] = {}
    for place, item in enumerate(items):
        key = f"{item.sha256} {place}" if item.distortion is not None else item.sha256
        groups.setdefault(key, []).append(place)
    return list(groups.values())


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferSet:
    """What a student learns from.

    Attributes:
        items: n of them.
        mos: opinions in [0, 1], NaN where there is none, float64 ``[n]``.
        said: what the teacher says of the items; None without a teacher.
        teacher: itself, for its features; None without one, and for a table of scores.
        cache: where they lie.
    """

    items: Sequence[Item]
    mos: NDArray[np.float64]
    said: Targets | None
    teacher: Teacher | None = None
    cache: TeacherCache | None = None


class TransferExamples:
    """A transfer set as `examples.Examples`: a row is a group of `group_items`, of which each epoch draws one item.

    Targets of a batch of n: ``mos`` ``[n]`` (NaN for none), ``teacher`` and ``spread`` ``[n]`` where there is a
    teacher, and with features ``member`` ``[n]``, the index of the member whose features stand in
    ``features.<index>.<name>`` ``[n, C]`` (zeros in the rows of other members). A step draws one member; a row of which
    it may not speak takes one that may.
    """

    def __init__(self, views: Sequence[NDArray[np.uint8]], transfer: TransferSet, *, seed: int, features: bool) -> None:
        self._views = views
        self._transfer = transfer
        self._groups = group_items(transfer.items)
        self._seed = seed
        self._features = features
        digest = hashlib.sha256(f"{seed} {features}".encode())
        for item in transfer.items:
            digest.update(item.key.encode())
        digest.update(np.ascontiguousarray(transfer.mos).data)
        if transfer.said is not None:
            digest.update(np.ascontiguousarray(transfer.said.scores).data)
        self._fingerprint = digest.hexdigest()

    @property
    def count(self) -> int:
        """Of groups."""
        return len(self._groups)

    @property
    def fingerprint(self) -> str:
        """Of items, opinions and the teacher's scores."""
        return self._fingerprint

    def name(self, row: int) -> str:
        """See `examples.Examples`."""
        item = self._transfer.items[self._groups[row][0]]
        kind = "" if item.distortion is None else f" ({item.distortion.kind} {item.distortion.severity:.2f})"
        return f"{item.path.name}{kind}"

    def draw(
        self, rows: NDArray[np.int64], epoch: int, whole: bool
    ) -> tuple[Sequence[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
        """See `examples.Examples`."""
        places = np.array([self._pick(int(row), epoch, whole) for row in rows])
        views = [view[places] for view in self._views]
        transfer = self._transfer
        targets = {"mos": transfer.mos[places].astype(np.float32)}
        if transfer.said is not None:
            targets["teacher"] = transfer.said.mean[places].astype(np.float32)
            targets["spread"] = transfer.said.spread[places].astype(np.float32)
        if self._features:
            targets |= self._feature_targets(places, hash_cell(self._seed, int(rows[0]), epoch))
        return views, targets

    def _pick(self, row: int, epoch: int, whole: bool) -> int:
        group = self._groups[row]
        return group[0] if whole else group[hash_cell(self._seed, row, epoch) % len(group)]

    def _feature_targets(self, places: NDArray[np.int64], draw: int) -> dict[str, NDArray[np.float32]]:
        transfer = self._transfer
        assert transfer.said is not None and transfer.teacher is not None and transfer.cache is not None
        mask = transfer.said.mask[places]
        count = mask.shape[1]
        # Of those that may speak of a row, the first from the drawn member on.
        offsets = (np.arange(count)[None, :] - draw % count) % count
        chosen = np.where(mask, offsets, count).argmin(1)
        targets = {"member": chosen.astype(np.float32)}
        for index, member in enumerate(transfer.teacher.members):
            mine = np.flatnonzero(chosen == index)
            found = (
                speaking_features(transfer.cache, transfer.teacher, transfer.said, places[mine], index)
                if mine.size
                else {}
            )
            for name, width in member.feature_widths.items():
                features = np.zeros((len(places), width), dtype=np.float32)
                if mine.size:
                    features[mine] = found[name]
                targets[f"features.{index}.{name}"] = features
        return targets


def member_statistics(transfer: TransferSet, index: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and standard deviation of each channel of a member's features over the items that it may speak of.

    Raises:
        DataError: it may speak of fewer than two.
    """
    assert transfer.said is not None and transfer.teacher is not None and transfer.cache is not None
    rows = np.flatnonzero(transfer.said.mask[:, index])
    if len(rows) < 2:
        raise DataError(
            f"{transfer.teacher.members[index].name}, which may speak of {len(rows)} of {len(transfer.items)} items",
            expected="at least two items",
            mend="--distortions 1, more photographs, or --feature-weight 0",
        )
    rows = rows[:: -(-len(rows) // _STATISTICS_ITEMS)]
    features = speaking_features(transfer.cache, transfer.teacher, transfer.said, rows, index)
    return {name: channel_statistics(torch.from_numpy(found)) for name, found in features.items()}


class DistillObjective(nn.Module):
    """The losses of a distillation; its projections learn with the student.

    Args:
        losses: weights of the terms.
        student_features: width by output name.
        transfer: for the members' feature widths and statistics; only needed where features count.
        seed: of the projections.

    Raises:
        ModelError: features of teacher and student that cannot be paired.
    """

    def __init__(
        self,
        losses: DistillLosses,
        student_features: Mapping[str, int],
        transfer: TransferSet,
        *,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.losses = losses
        self._members: list[str] = []
        if not losses.features:
            return
        assert transfer.teacher is not None
        # Names may repeat over checkpoints; places do not.
        widths = {str(index): member.feature_widths for index, member in enumerate(transfer.teacher.members)}
        self.projections = Projections(student_features, widths, seed=seed)
        self._members = list(widths)
        for index in range(len(self._members)):
            for name, (mean, std) in member_statistics(transfer, index).items():
                place = _buffer(index, name)
                self.register_buffer(f"mean_{place}", mean, persistent=False)
                self.register_buffer(f"std_{place}", std, persistent=False)

    def forward(
        self,
        outputs: dict[str, Tensor],
        targets: dict[str, Tensor],
        stage: Stage,
        seed: int,  # noqa: ARG002 - examples draw the member
    ) -> dict[str, Tensor]:
        """See `examples.Objective`."""
        losses, score = self.losses, outputs["score"].float()
        terms: dict[str, Tensor] = {}
        weight = None
        if "teacher" in targets:
            if losses.disagreement is not None:
                weight = disagreement_weight(targets["spread"], scale=losses.disagreement)
            if losses.score:
                said = score_terms(score, targets["teacher"], stage.losses, weight, prefix="teacher_")
                terms |= {name: losses.score * term for name, term in said.items()}
            if losses.rank:
                terms["rank"] = losses.rank * rank_loss(
                    score, targets["teacher"], margin=losses.rank_margin, proportional=True, weight=weight
                )
        labelled = torch.isfinite(targets["mos"])
        # A correlation of one photograph is none.
        if losses.mos and int(labelled.sum()) >= 2:
            said = score_terms(score[labelled], targets["mos"][labelled], stage.losses, prefix="mos_")
            terms |= {name: losses.mos * term for name, term in said.items()}
        if losses.features:
            terms |= self._feature_terms(outputs, targets, weight)
        # A batch may have no opinions and nothing else to learn from.
        return terms or {"nothing": score.sum() * 0.0}

    def _feature_terms(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], weight: Tensor | None
    ) -> dict[str, Tensor]:
        losses = self.losses
        sums: dict[str, Tensor] = {}
        count = len(targets["member"])
        for index, member in enumerate(self._members):
            rows = targets["member"] == index
            size = int(rows.sum())
            if size == 0:
                continue
            features = {name: output[rows] for name, output in outputs.items() if name != "score"}
            projected = self.projections(features, member)
            mine = None if weight is None else weight[rows]
            share = size / count
            for pair in self.projections.pairs[member]:
                target = targets[f"features.{index}.{pair.teacher}"][rows]
                place = _buffer(index, pair.teacher)
                known = {"mean": getattr(self, f"mean_{place}"), "std": getattr(self, f"std_{place}"), "weight": mine}
                part = share / len(self.projections.pairs[member])
                if losses.feature:
                    term = part * losses.feature * feature_mse(projected[pair.teacher], target, **known)
                    sums["feature"] = sums.get("feature", torch.zeros_like(term)) + term
                if losses.cosine:
                    term = part * losses.cosine * feature_cosine(projected[pair.teacher], target, **known)
                    sums["cosine"] = sums.get("cosine", torch.zeros_like(term)) + term
            last = self.projections.pairs[member][0]
            ours, theirs = features[last.student], targets[f"features.{index}.{last.teacher}"][rows]
            if losses.distance:
                term = share * losses.distance * relational_distance(ours, theirs)
                sums["distance"] = sums.get("distance", torch.zeros_like(term)) + term
            if losses.angle:
                term = share * losses.angle * relational_angle(ours, theirs)
                sums["angle"] = sums.get("angle", torch.zeros_like(term)) + term
        return sums


def _buffer(index: int, name: str) -> str:
    return f"{index}_{name.replace('.', '_')}"
