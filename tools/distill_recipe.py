"""The student that a call of `distill` asks for: its recipe, by its parts or whole, and whether it can be begun."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ..runtime.errors import ModelError, UsageError
from .options import parse_size
from .show import say
from .training import require_no_parts
from .weights_option import parse_weights

if TYPE_CHECKING:
    from ..compress.distill_records import DistillLosses, DistillRecipe
    from ..profiles.budget import Budget

__all__ = ["BUDGET", "SAMPLE_STEPS", "convert_recipe", "recipe_of", "with_weights"]

BUDGET = "50GMACs"
# What a trial on the sample photographs is, so that it ends in minutes on two cores.
SAMPLE_STEPS, _SAMPLE_BATCH = 12, 2

_LOSS_FLAGS = {
    "score_weight": "score",
    "mos_weight": "mos",
    "feature_weight": "feature",
    "cosine_weight": "cosine",
    "distance_weight": "distance",
    "angle_weight": "angle",
    "rank_weight": "rank",
}
_PARTS = (
    *("student", "size", "weights", "epochs", "batch", "learning_rate", "crops", "distortions", "seed"),
    *_LOSS_FLAGS,
)


def recipe_of(flags: dict[str, Any], budget: Budget, *, has_teacher: bool, samples: bool) -> DistillRecipe:
    """The recipe of a call.

    Args:
        flags: options of the call, None where they were not given.
        budget: that the input size is solved from where none is given.
        has_teacher: False for a student of opinions alone.
        samples: whether it is a trial on the sample photographs.

    Raises:
        UsageError: no student, a recipe beside its parts, one that cannot be read, no size and no limit to solve it by.
        BudgetError: no size is within the budget.
        ModelError: there is no such backbone.
    """
    path: Path | None = flags["recipe_path"]
    if path is not None:
        require_no_parts(flags, _PARTS)
        try:
            return convert_recipe(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UsageError(f"{path}: {error}", expected="a recipe of a distillation", mend="correct it") from error
    from ..compress.distill_records import DistillRecipe, Transfer
    from ..compress.stages import Augmentation, Stage

    backbone: str | None = flags["student"]
    if backbone is None:
        raise UsageError("no --student", expected="timm's name of a backbone", mend="--student convnext_small")
    width, height = parse_size(flags["size"]) if flags["size"] else _solved(backbone, budget, flags["image"])

    def given(name: str, otherwise: Any) -> Any:
        return otherwise if flags[name] is None else flags[name]

    seed, epochs, rate = given("seed", 0), given("epochs", 10), given("learning_rate", 2e-4)
    return DistillRecipe(
        name=f"{backbone}-{width}x{height}",
        backbone=backbone,
        width=width,
        height=height,
        weights=parse_weights(given("weights", "hub"), seed=seed),
        stages=(
            Stage(
                epochs=epochs,
                batch=given("batch", _SAMPLE_BATCH if samples else 16),
                learning_rate=rate,
                head_learning_rate=10 * rate,
                augmentation=Augmentation(flip=False, whole_epochs=min(1, epochs - 1)),
            ),
        ),
        losses=_losses(flags, has_teacher),
        # Nobody but a teacher speaks of distorted versions. What is drawn is the same for every seed of a student, and
        # what `cache fill` draws: the teacher is asked once for all of them.
        transfer=Transfer(crops=given("crops", 4), distortions=given("distortions", int(has_teacher))),
        seed=seed,
    )


def convert_recipe(value: object, where: str) -> DistillRecipe:
    """A recipe as TOML or JSON has it.

    Raises:
        UsageError: it is none; the message says where it was found.
    """
    from ..compress.distill_records import DistillRecipe

    try:
        return msgspec.convert(value, DistillRecipe)
    except msgspec.ValidationError as error:
        raise UsageError(f"{where}: {error}", expected="a recipe of a distillation", mend="correct it") from error


def with_weights(recipe: DistillRecipe, *, may_be_random: bool) -> DistillRecipe:
    """The recipe with weights that can be had: they are loaded once before anything that takes long.

    A file is named by its whole path, so that a run can go on from another folder.

    Args:
        recipe: of the student.
        may_be_random: whether random ones, said loudly, will do where the hub's cannot be had.

    Raises:
        ModelError: they cannot be had, or do not fit.
        MissingExtraError: they are in a package that is not installed.
    """
    from ..compress.distill import student_system
    from ..compress.models.weights import FileWeights, HubWeights, NoWeights, load_backbone

    weights = recipe.weights
    if isinstance(weights, FileWeights):
        recipe = msgspec.structs.replace(recipe, weights=FileWeights(path=str(Path(weights.path).resolve())))
    if isinstance(weights, NoWeights):
        return recipe
    try:
        (branch,) = student_system(recipe).branches
        load_backbone(branch, recipe.width, recipe.height, weights)
    except ModelError as error:
        if not (may_be_random and isinstance(weights, HubWeights)):
            raise
        say(
            f"RANDOM WEIGHTS: {error.got}. On sample photographs the command is only tried out; its scores mean nothing"
        )
        return msgspec.structs.replace(recipe, weights=NoWeights(seed=recipe.seed))
    return recipe


def _losses(flags: dict[str, Any], has_teacher: bool) -> DistillLosses:
    from ..compress.distill_records import DistillLosses

    defaults = DistillLosses() if has_teacher else DistillLosses(score=0.0, feature=0.0)
    chosen = {field: flags[flag] for flag, field in _LOSS_FLAGS.items() if flags[flag] is not None}
    return msgspec.structs.replace(defaults, **chosen)


def _solved(backbone: str, budget: Budget, image: str) -> tuple[int, int]:
    from ..compress.input_size import solve_input_size
    from ..profiles.amounts import Amount, format_amount

    if budget.macs is None:
        raise UsageError(
            f"a budget without MACs ({budget.name}) and no --size",
            expected="either: the input size is solved from multiply-adds",
            mend=f"--size 704x384, or --budget {BUDGET}",
        )
    if budget.convention != "strict":
        raise UsageError(
            f"a budget in the convention {budget.convention} and no --size",
            expected="either strict or a size: sizes are solved in strict",
            mend="--size 704x384",
        )
    solved = solve_input_size(backbone, macs_limit=budget.macs, image=parse_size(image))
    say(
        f"{backbone} within {format_amount(Amount('macs', budget.macs))} for {image}: {solved.width}x{solved.height}, "
        f"{format_amount(Amount('macs', solved.macs))}"
    )
    return solved.width, solved.height
