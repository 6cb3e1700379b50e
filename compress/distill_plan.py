"""What a distillation will look at, and what of it is refused before anything is computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..runtime.errors import DataError, ModelError, UsageError
from ..runtime.splitmix import permutation
from .data.items import Item, Photograph
from .data.transfer import transfer_items
from .distill_records import DistillRecipe
from .distillation import group_items
from .distillation_losses import pair_features
from .models.backbones import feature_stages
from .models.network import output_names
from .models.records import System
from .models.systems import one_backbone
from .teacher_members import ScoreTable, Teacher

__all__ = [
    "TransferPhotographs",
    "hold_out",
    "judged_items",
    "learned_items",
    "require_distillable",
    "student_system",
]

_LEAST_JUDGED = 12
_LEAST_SPOKEN_OF = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferPhotographs:
    """The photographs of a distillation, no content twice.

    Attributes:
        training: that are learned from.
        heldout: that are only judged.
        mos: opinions in [0, 1] by sha256, for those that have one.
        images: names by sha256, as tables have them.
        left_out: names of photographs that are there and take no part (of another split, or there twice): a table of
            scores may know them.
    """

    training: tuple[Photograph, ...]
    heldout: tuple[Photograph, ...]
    mos: Mapping[str, float]
    images: Mapping[str, str]
    left_out: frozenset[str] = frozenset()

    @property
    def judged_by_people(self) -> bool:
        """Whether all that is held out has opinions."""
        return bool(self.heldout) and all(photo.sha256 in self.mos for photo in self.heldout)


def hold_out(
    photographs: Sequence[Photograph], *, fraction: float, seed: int
) -> tuple[list[Photograph], list[Photograph]]:
    """Divide unlabelled photographs into those that are learned from and at least one that is only judged.

    Args:
        photographs: n of them.
        fraction: that is only judged, in (0, 0.5].
        seed: of the draw.

    Raises:
        DataError: there are fewer than two.
        UsageError: the fraction is out of its range.
    """
    if not 0 < fraction <= 0.5:
        raise UsageError(f"a share of {fraction:g}", expected="a share in (0, 0.5]", mend="--selection 0.15")
    if len(photographs) < 2:
        raise DataError(
            f"{len(photographs)} photographs", expected="at least two: one is only judged", mend="give more photographs"
        )
    order = permutation(seed, len(photographs))
    apart = set(order[: max(1, round(fraction * len(photographs)))])
    return (
        [photo for place, photo in enumerate(photographs) if place not in apart],
        [photo for place, photo in enumerate(photographs) if place in apart],
    )


def student_system(recipe: DistillRecipe) -> System:
    """The student, short of its weights.

    Raises:
        ModelError: there is no such backbone, or it has no such stages.
    """
    stages = feature_stages(recipe.backbone) if recipe.features is None else recipe.features
    return one_backbone(
        recipe.backbone, recipe.width, recipe.height, head=recipe.head, stages=stages, decode=recipe.decode
    )


def learned_items(recipe: DistillRecipe, photographs: TransferPhotographs) -> list[Item]:
    """What is learned from."""
    plan = recipe.transfer
    return transfer_items(
        photographs.training, crops=plan.crops, distortions=plan.distortions, ladder=plan.ladder, seed=plan.seed
    )


def judged_items(
    recipe: DistillRecipe, photographs: TransferPhotographs, teacher: Teacher | ScoreTable | None
) -> list[Item]:
    """What is only judged: whole photographs, as people saw them where all have opinions, else distorted ones as well.

    Of few photographs there are more distorted versions, so that there is an order to agree on; a ladder is one. A
    table of scores knows of none.
    """
    plan = recipe.transfer
    if photographs.judged_by_people or isinstance(teacher, ScoreTable):
        return [Item(path=photo.path, sha256=photo.sha256) for photo in photographs.heldout]
    distortions = plan.distortions
    if not plan.ladder:
        distortions = max(distortions, -(-_LEAST_JUDGED // max(1, len(photographs.heldout))) - 1)
    return transfer_items(photographs.heldout, crops=1, distortions=distortions, ladder=plan.ladder, seed=plan.seed)


def require_distillable(
    recipe: DistillRecipe, photographs: TransferPhotographs, teacher: Teacher | ScoreTable | None
) -> None:
    """Refuse what cannot end well: nothing is computed and nothing written.

    Raises:
        DataError: too few photographs for a batch or for a member's features, a photograph of a fold that no member
            held out, or a table of scores that does not fit the photographs.
        ModelError: features of teacher and student that cannot be paired, or a student that cannot be built.
        UsageError: losses to a teacher without one, to opinions without any, or what a table of scores cannot say.
    """
    losses = recipe.losses
    if teacher is None and losses.teacher:
        raise UsageError(
            "losses to a teacher, and none",
            expected="a teacher, or a loss to opinions alone",
            mend="name a teacher with --teacher, or: --score-weight 0 --feature-weight 0 --mos-weight 1",
        )
    if not losses.teacher and not any(photo.sha256 in photographs.mos for photo in photographs.training):
        raise UsageError(
            "a loss to opinions alone, and photographs without opinions",
            expected="photographs with opinions",
            mend="--data mos.csv",
        )
    if isinstance(teacher, ScoreTable):
        _require_table(recipe, photographs, teacher)
    items = learned_items(recipe, photographs)
    batch = max(stage.batch for stage in recipe.stages)
    count = len(group_items(items))
    if count < batch:
        raise DataError(
            f"{len(photographs.training)} photographs to learn from, {count} with their distorted versions",
            expected=f"at least one batch of {batch}",
            mend=f"give more photographs, --distortions {-(-batch // max(1, len(photographs.training)))}, or a smaller "
            "--batch",
        )
    if isinstance(teacher, Teacher):
        _require_speakers(recipe, items, judged_items(recipe, photographs, teacher), teacher)


def _require_table(recipe: DistillRecipe, photographs: TransferPhotographs, table: ScoreTable) -> None:
    plan = recipe.transfer
    asked = {
        f"{plan.crops} crops": plan.crops > 1,
        f"{plan.distortions} distorted versions": plan.distortions > 0,
        "a ladder of distortions": bool(plan.ladder),
        "losses to features": recipe.losses.features,
    }
    if any(asked.values()):
        raise UsageError(
            f"{', '.join(what for what, wanted in asked.items() if wanted)}, of {table.path}, a table of scores",
            expected="its scores alone, of whole photographs: it says nothing of parts, distorted versions or features",
            mend="--crops 1 --distortions 0 --feature-weight 0, or a teacher that runs",
        )
    names = [photographs.images[photo.sha256] for photo in (*photographs.training, *photographs.heldout)]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(
            f"{len(twice)} names that several photographs have, such as {twice[0]}",
            expected=f"one photograph for each name in {table.path}",
            mend="name one folder that holds them all, so that the names say which is meant",
        )
    table.require_known({*names, *photographs.left_out})
    table.unit_scores(names)


def _require_speakers(recipe: DistillRecipe, learned: Sequence[Item], judged: Sequence[Item], teacher: Teacher) -> None:
    speaking = np.zeros(len(teacher.members), dtype=np.int64)
    for items, counts in ((learned, True), (judged, False)):
        for item in items:
            may = teacher.speakers(teacher.folds.get(item.sha256), distorted=item.distortion is not None)
            speaking += np.array(may) * counts
    if not recipe.losses.features:
        return
    student = dict.fromkeys(output_names(student_system(recipe))[1:], 0)
    for member, count in zip(teacher.members, speaking, strict=True):
        try:
            pair_features(student, member.feature_widths)
        except ModelError as error:
            raise ModelError(
                f"the member {member.name}: {error.got}", expected=error.expected, mend=error.mend
            ) from error
        if count < _LEAST_SPOKEN_OF:
            raise DataError(
                f"{member.name}, which may speak of {count} of {len(learned)} items",
                expected=f"at least {_LEAST_SPOKEN_OF}: its features are measured by their means and deviations",
                mend="--distortions 1, more photographs, or --feature-weight 0",
            )
