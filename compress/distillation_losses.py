"""Losses between a student and its teacher beyond the score itself: features, relations in the batch, ranks.

Pure functions of tensors over a batch of N images, each giving a scalar that is finite, with finite gradients, also
for batches whose rows are all equal. Where a loss has nothing to compare (one image, only ties) it is 0. Half
precision is computed in float32. Teachers are constants: no gradient flows into them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..runtime.errors import ModelError, UsageError
from .losses import weighted_mean

__all__ = [
    "Pair",
    "Projections",
    "channel_statistics",
    "disagreement_weight",
    "feature_cosine",
    "feature_mse",
    "pair_features",
    "rank_loss",
    "relational_angle",
    "relational_distance",
]

_LEAST_STD = 1e-6
_LEAST_DISTANCE = 1e-6
"""Vectors shorter than this have no direction, and a smaller mean distance counts as this: what is divided by a length
has a gradient that grows without bound as a batch collapses."""


def channel_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of each channel of a teacher's features ``[M, C]``: float32 ``[C]``.

    Taken once over the transfer images, for `feature_mse` and `feature_cosine`.
    """
    std, mean = torch.std_mean(features.detach().double(), 0, correction=0)
    return mean.float(), std.float()


def feature_mse(
    projected: Tensor, teacher: Tensor, *, mean: Tensor, std: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Mean squared error to the teacher's standardised features, a scalar; 1 for the teacher's mean.

    Pooled features hold a large part that is the same for all images, and a few channels of far larger scale than the
    rest. Standardised by channel, every channel counts alike, only what differs between images is left to be learned,
    and the loss is the share of the variance that is not explained, comparable over teachers. (Layer normalisation
    would keep the constant part and the large channels.) A channel that never changes has the target 0.

    Args:
        projected: of the student, in standardised units, float ``[N, C]``.
        teacher: raw, float ``[N, C]``.
        mean: of the teacher's channels, float ``[C]``; see `channel_statistics`.
        std: likewise, from 0.
        weight: of each image, float ``[N]`` from 0; only ratios matter.

    Source: A. Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, equation 3 (there on raw maps).
    """
    target = _standardised(teacher, mean, std)
    return weighted_mean((_full(projected) - target).square().mean(1), weight)


def feature_cosine(
    projected: Tensor, teacher: Tensor, *, mean: Tensor, std: Tensor, weight: Tensor | None = None
) -> Tensor:
    """One minus the mean cosine to the teacher's standardised features: a scalar in [0, 2].

    Args and the reason for standardising are those of `feature_mse`: raw pooled features of any two photographs point
    nearly the same way. A row of zeros has the cosine 0.
    """
    unit, target = _unit(_full(projected)), _unit(_standardised(teacher, mean, std))
    return 1.0 - weighted_mean((unit * target).sum(1), weight)


def relational_distance(student: Tensor, teacher: Tensor, *, rows: Tensor | None = None) -> Tensor:
    """Huber loss (delta 1) between pairwise Euclidean distances, each side's divided by their mean; a scalar.

    Args:
        student: features, float ``[N, C_s]``.
        teacher: features, float ``[N, C_t]``.
        rows: bool ``[N]``, the images that take part; all if not given.

    Source: W. Park et al., "Relational Knowledge Distillation", CVPR 2019, equations 6 to 8, over all unordered pairs.
    """
    student, teacher = _rows(student, rows), _rows(teacher.detach(), rows)
    if len(student) < 2:
        return student.sum() * 0.0
    return functional.huber_loss(_relative_distances(student), _relative_distances(teacher))


def relational_angle(student: Tensor, teacher: Tensor, *, rows: Tensor | None = None) -> Tensor:
    """Huber loss (delta 1) between the cosines of the angles that triplets of images form; a scalar.

    Memory grows with N cubed and with N squared times the width: it is meant for batches of up to about a hundred.

    Args:
        student: features, float ``[N, C_s]``. Where two of its rows are equal, the cosine at them is 0.
        teacher: features, float ``[N, C_t]``. Triplets in which it has equal rows have no angle and do not count.
        rows: bool ``[N]``, the images that take part; all if not given.

    Source: W. Park et al., "Relational Knowledge Distillation", CVPR 2019, equations 9 and 10.
    """
    student, teacher = _rows(student, rows), _rows(teacher.detach(), rows)
    cosines, _ = _cosines(student)
    targets, defined = _cosines(teacher)
    each = functional.huber_loss(cosines, targets, reduction="none")
    return torch.where(defined, each, 0.0).sum() / defined.sum().clamp_min(1)


def rank_loss(
    score: Tensor,
    teacher: Tensor,
    *,
    margin: float,
    tie: float = 0.0,
    proportional: bool = False,
    weight: Tensor | None = None,
) -> Tensor:
    """Hinge on pairs in the teacher's order: the mean of ``max(0, m - (s_i - s_j))`` over ``t_i > t_j``; a scalar.

    Args:
        score: of the student, float ``[N]``.
        teacher: its scores, float ``[N]``.
        margin: m, from 0, in units of the score; with ``proportional``, m is margin times ``t_i - t_j``.
        tie: pairs whose teacher's scores are nearer than this do not count; pairs of equal scores never do.
        proportional: see margin; up to 1, a student that equals its teacher then has the loss 0.
        weight: of each image, float ``[N]`` from 0; a pair weighs the product.

    Raises:
        UsageError: a margin or a tie that is negative or not a number.

    Source: X. Liu et al., "RankIQA: Learning from Rankings for No-reference Image Quality Assessment", ICCV 2017,
    equation 3, with the teacher's order for that of the distortions.
    """
    if not (margin >= 0 and tie >= 0):
        raise UsageError(
            f"a rank loss of margin {margin} and tie {tie}",
            expected="both at least 0, in units of the score",
            mend="correct the margin or the tie",
        )
    score, teacher = _full(score), _full(teacher.detach())
    lead = teacher[:, None] - teacher[None, :]
    least = margin * lead if proportional else margin
    each = torch.relu(least - (score[:, None] - score[None, :]))
    pair_weight = ((lead > 0) & (lead >= tie)).to(score.dtype)
    if weight is not None:
        weight = weight.to(score.dtype)
        pair_weight = pair_weight * weight[:, None] * weight[None, :]
    return weighted_mean(each.flatten(), pair_weight.flatten())


def disagreement_weight(spread: Tensor, *, scale: float) -> Tensor:
    """Weights of images on which a teacher's members disagree: ``1 / (1 + (spread / scale)^2)``, with mean 1.

    Args:
        spread: standard deviation of the members' scores, float ``[N]`` from 0; 0 for a single member.
        scale: the spread that halves the weight, in the same unit.

    Returns:
        Float ``[N]``, a constant for gradients: up to a factor the precision of targets whose errors have the variance
        ``scale^2 + spread^2``.

    Raises:
        UsageError: a scale that is not more than 0.
    """
    if not scale > 0:
        raise UsageError(
            f"a scale of disagreement of {scale}", expected="a spread of more than 0", mend="correct the scale"
        )
    each = 1.0 / (1.0 + (_full(spread.detach()) / scale).square())
    return each / each.mean().clamp_min(torch.finfo(each.dtype).tiny)


def _full(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _standardised(teacher: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (_full(teacher.detach()) - mean) / std.clamp_min(_LEAST_STD)


def _rows(features: Tensor, rows: Tensor | None) -> Tensor:
    return _full(features if rows is None else features[rows])


def _unit(vectors: Tensor) -> Tensor:
    """Vectors ``[..., C]`` of length 1; of nothing, zeros with the gradient 0."""
    squared = vectors.square().sum(-1, keepdim=True)
    # The root of zero has no gradient: it is taken elsewhere only.
    nonzero = squared > _LEAST_DISTANCE**2
    return torch.where(nonzero, vectors / torch.where(nonzero, squared, 1.0).sqrt(), 0.0)


def _relative_distances(features: Tensor) -> Tensor:
    # Its gradient at distance zero is zero.
    distances = functional.pdist(features)
    return distances / distances.mean().clamp_min(_LEAST_DISTANCE)


def _cosines(features: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines at j of the triplets (j, i, k), ``[N, N, N]``, and which of them are angles of three different points."""
    towards = _unit(features[None, :] - features[:, None])
    apart = towards.detach().square().sum(-1) > 0
    others = ~torch.eye(len(features), dtype=torch.bool, device=features.device)
    return towards @ towards.mT, apart[:, :, None] & apart[:, None, :] & others


@dataclass(frozen=True, slots=True)
class Pair:
    """A teacher's feature and the student's that is projected onto it, by name."""

    teacher: str
    student: str


def pair_features(student: Mapping[str, int], teacher: Mapping[str, int]) -> tuple[Pair, ...]:
    """Pair a teacher's pooled features with the student's, by their names.

    A name that ends in a number (``features.3``) is a stage, any other (``features.last``) the last vector; what goes
    before the dot tells branches apart. Last goes with last. Stages go together from the end backwards, the deepest
    with the deepest, as far as both have some; the shallow rest of the deeper network stays unpaired. Of a network
    with several branches, branches go together in their order, and the last one stands in where the student has fewer.

    Args:
        student: width by name.
        teacher: likewise.

    Returns:
        The pairs, in the order of the teacher's branches, each one's last first and then the stages from the deepest.

    Raises:
        ModelError: nothing can be paired.
    """
    branches = list(_branches(student).values())
    pairs: list[Pair] = []
    for index, theirs in enumerate(_branches(teacher).values() if branches else ()):
        ours = branches[min(index, len(branches) - 1)]
        for kind in ("last", "stages"):
            pairs += [Pair(*names) for names in zip(theirs[kind], ours[kind], strict=False)]
    if not pairs:
        raise ModelError(
            f"a teacher with the features {sorted(teacher) or 'none'} and a student with {sorted(student) or 'none'}",
            expected="a last vector on both sides, or stages on both",
            mend="--feature-weight 0, or a teacher and a student that output features of the same kind",
        )
    return tuple(pairs)


def _branches(features: Mapping[str, int]) -> dict[str, dict[str, list[str]]]:
    """Names by branch and kind, the stages from the deepest."""
    branches: dict[str, dict[str, list[str]]] = {}
    for name in features:
        prefix, _, end = name.rpartition(".")
        kind = "stages" if re.fullmatch("[0-9]+", end) else "last"
        branches.setdefault(prefix, {"last": [], "stages": []})[kind].append(name)
    for kinds in branches.values():
        kinds["stages"].sort(key=lambda name: int(name.rpartition(".")[2]), reverse=True)
    return branches


class Projections(nn.Module):
    """Learned linear maps from a student's pooled features to those of each member of its teacher.

    One map, with bias, a member and pair of `pair_features`. Only the maps of the member that a step draws get a
    gradient from it. They are training's alone: the student is stored without them.

    Attributes:
        pairs: by member, in the order of the teacher.
    """

    def __init__(self, student: Mapping[str, int], members: Mapping[str, Mapping[str, int]], *, seed: int = 0) -> None:
        """Draw the maps.

        Args:
            student: width of each of its features, by name.
            members: by member's name likewise.
            seed: of their weights; torch's global generator is left alone.

        Raises:
            ModelError: a member whose features cannot be paired with the student's; the message names it.
        """
        super().__init__()
        self.pairs: dict[str, tuple[Pair, ...]] = {}
        maps: list[nn.Linear] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for member, widths in members.items():
                try:
                    self.pairs[member] = pair_features(student, widths)
                except ModelError as error:
                    got = f"the member {member!r}: {error.got}"
                    raise ModelError(got, expected=error.expected, mend=error.mend) from error
                maps += [nn.Linear(student[pair.student], widths[pair.teacher]) for pair in self.pairs[member]]
        # Names of members may hold characters that names of modules must not.
        self.maps = nn.ModuleList(maps)
        self._first: dict[str, int] = {}
        first = 0
        for member, pairs in self.pairs.items():
            self._first[member] = first
            first += len(pairs)

    def forward(self, student_features: Mapping[str, Tensor], member: str) -> dict[str, Tensor]:
        """Project onto one member.

        Args:
            student_features: float ``[N, C]`` by name, at least those that are paired.
            member: its name.

        Returns:
            Float ``[N, C_t]`` by the member's feature names, in standardised units (see `feature_mse`).

        Raises:
            ModelError: the teacher has no such member.
        """
        if member not in self.pairs:
            raise ModelError(
                f"no member {member!r} in the teacher",
                expected=f"one of: {', '.join(self.pairs) or 'none'}",
                mend="name one of them",
            )
        first = self._first[member]
        return {
            pair.teacher: self.maps[first + offset](student_features[pair.student])
            for offset, pair in enumerate(self.pairs[member])
        }
