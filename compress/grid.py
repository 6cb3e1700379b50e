"""A grid of configurations: each is trained on every fold, and the best of a fold becomes the fold's member."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..runtime.errors import require_field
from ..runtime.preprocess import FULL_DECODE, DctDecode, FullDecode
from .models.records import Head, Linear
from .models.weights import Weights
from .mos_transform import MosTransform
from .stages import Augmentation, Keep, Schedule, ScoreLosses, Stage
from .teach_records import DataRecipe, MemberRecipe, TeachRecipe, is_folder_name

__all__ = ["Configuration", "GridRecipe"]


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one row of the grid does differently.

    Attributes:
        name: short; part of its members' names.
        source: where it is published; "ours" where it is not.
        augmentation: in place of the stage's; None for the stage's own.
        losses: likewise.
        schedule: likewise.
        head: from features to the score.
        mos_transform: of the opinions that it learns from.
        keep: in place of the grid's; None for that.
        compared: whether it is only trained and reported, and never chosen.
    """

    name: str
    source: str = "ours"
    augmentation: Augmentation | None = None
    losses: ScoreLosses | None = None
    schedule: Schedule | None = None
    head: Head = Linear()
    mos_transform: MosTransform | None = None
    keep: Keep | None = None
    compared: bool = False


class GridRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An ensemble of one member a fold, each the best of several configurations, as a TOML file has it.

    After "An Ensemble of ConvNeXt Models for Perceptual Quality Assessment of Filtered Images", VCIP 2025.

    Attributes:
        name: of the ensemble.
        data: which photographs.
        backbone: of all, timm's name.
        width: of their view, in pixels.
        height: likewise.
        weights: where their trunks start.
        stage: of their training, short of what a configuration says.
        configurations: at least one.
        keep: which epoch's weights they have.
        pool: as `MemberRecipe` has it, likewise the next three.
        features: likewise.
        decode: likewise.
        precision: likewise.
        seed: of fold 0; the next fold has the next one, the same for every configuration.
    """

    name: str
    data: DataRecipe
    backbone: str
    width: int
    height: int
    weights: Weights
    stage: Stage
    configurations: tuple[Configuration, ...]
    keep: Keep = "two_checkpoints"
    pool: Literal["head", "average"] = "head"
    features: tuple[int, ...] | None = None
    decode: FullDecode | DctDecode = FULL_DECODE
    precision: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        names = [one.name for one in self.configurations]
        require_field(len(names) >= 1, f"recipe {self.name!r} without configurations", "at least one")
        require_field(len(set(names)) == len(names), f"configurations named {names}", "a name of its own for each")
        only = all(one.compared for one in self.configurations)
        require_field(not only, f"recipe {self.name!r} whose configurations are all compared", "one that can be chosen")
        require_field(all(map(is_folder_name, names)), f"configurations named {names}", "names that can be a folder's")

    def expanded(self) -> TeachRecipe:
        """The recipe whose members are the candidates: configuration by configuration, on every fold.

        Raises:
            RecordError: a field is not as `MemberRecipe` or `TeachRecipe` has it.
        """
        return TeachRecipe(
            name=self.name,
            data=self.data,
            members=tuple(self._member(one, fold) for one in self.configurations for fold in range(self.data.folds)),
            one_a_fold=True,
            compared=tuple(one.name for one in self.configurations if one.compared),
        )

    def _member(self, one: Configuration, fold: int) -> MemberRecipe:
        stage = msgspec.structs.replace(
            self.stage,
            name=one.name,
            augmentation=one.augmentation or self.stage.augmentation,
            losses=one.losses or self.stage.losses,
            schedule=one.schedule or self.stage.schedule,
        )
        return MemberRecipe(
            name=f"{one.name}-{fold}",
            configuration=one.name,
            source=one.source,
            backbone=self.backbone,
            width=self.width,
            height=self.height,
            heldout_fold=fold,
            weights=self.weights,
            stages=(stage,),
            head=one.head,
            pool=self.pool,
            features=self.features,
            decode=self.decode,
            keep=one.keep or self.keep,
            mos_transform=one.mos_transform,
            precision=self.precision,
            seed=self.seed + fold,
        )
