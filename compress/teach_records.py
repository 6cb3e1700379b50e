"""A teach run as data: its recipe, and the report that it leaves."""

from __future__ import annotations

from typing import Literal

import msgspec

from ..profiles.metrics import Accuracy
from ..runtime.errors import require_field
from ..runtime.preprocess import FULL_DECODE, DctDecode, FullDecode
from .models.records import Head, Linear
from .models.weights import Weights
from .mos_transform import MosTransform
from .stages import Keep, Stage, require_keepable

__all__ = ["Candidate", "DataRecipe", "FoldFigures", "MemberRecipe", "TeachRecipe", "TeachReport", "is_folder_name"]


def is_folder_name(name: str) -> bool:
    """Whether a folder can be called so."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


class DataRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which photographs, and how they are divided.

    Attributes:
        name: of the data set, for people.
        citation: what a work that uses it cites.
        licence: of the photographs.
        score_range: lowest and highest score of its scale.
        split: only the rows whose ``split`` is this.
        folds: of those that are not reserved.
        selection_fraction: share that no member sees, in (0, .5].
        seed: of the division.
    """

    name: str = ""
    citation: str = ""
    licence: str = ""
    score_range: tuple[float, float] = (0.0, 100.0)
    split: str | None = None
    folds: int = 8
    selection_fraction: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        require_field(self.folds >= 2, f"{self.folds} folds", "at least 2: each member leaves one out")
        fraction = self.selection_fraction
        require_field(0 < fraction <= 0.5, f"a selection fraction of {fraction}", "a share in (0, 0.5]")


class MemberRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One member of an ensemble.

    Attributes:
        name: a folder's name.
        backbone: timm's name.
        width: of its view, in pixels.
        height: likewise.
        heldout_fold: the fold it leaves out, from 0.
        weights: where its trunk starts.
        stages: of its training.
        head: from features to the score.
        pool: of the last feature map, as a `Branch` has it: for a plain vision transformer ``head`` is its class token,
            ``average`` its patches.
        features: indices of the backbone's stages whose pooled features it also gives; None for all that it has, at
            most four and evenly from the last backwards.
        decode: the decode policy that it is trained and run with.
        keep: which epoch's weights it has; a choice by the held-out fold flatters that fold's figures a little.
        mos_transform: of the opinions that it learns from; its score map begins with the inverse.
        precision: Fabric's name of the arithmetic; None for the run's.
        seed: of its head, order, augmentation and dropout.
        configuration: of a grid, whose row it is; for the report.
        source: where that row is published.
    """

    name: str
    backbone: str
    width: int
    height: int
    heldout_fold: int
    weights: Weights
    stages: tuple[Stage, ...] = (Stage(),)
    head: Head = Linear()
    pool: Literal["head", "average"] = "head"
    features: tuple[int, ...] | None = None
    decode: FullDecode | DctDecode = FULL_DECODE
    keep: Keep = "last"
    mos_transform: MosTransform | None = None
    precision: str | None = None
    seed: int = 0
    configuration: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        require_field(len(self.stages) >= 1, f"member {self.name!r} without stages", "at least one")
        require_keepable(self.keep, self.stages)
        require_field(is_folder_name(self.name), f"a member named {self.name!r}", "a name that can be a folder's")
        require_field(self.heldout_fold >= 0, f"a held-out fold of {self.heldout_fold}", "0 or more")
        require_field(0 <= self.seed < 2**63, f"a seed of {self.seed}", "a seed in [0, 2**63)")


class TeachRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole ensemble, as a TOML file has it.

    Attributes:
        name: of the ensemble.
        data: which photographs.
        members: one or more; each leaves one of the folds out.
        one_a_fold: whether those that leave out the same fold are candidates, of which the ensemble has the best
            (`teach_results.best_of_folds`).
        compared: configurations that are trained and reported beside the others, and never chosen.
    """

    name: str
    data: DataRecipe
    members: tuple[MemberRecipe, ...]
    one_a_fold: bool = False
    compared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_field(is_folder_name(self.name), f"a recipe named {self.name!r}", "a name that can be a folder's")
        names = [member.name for member in self.members]
        require_field(len(names) >= 1, f"recipe {self.name!r} without members", "at least one")
        require_field(len(set(names)) == len(names), f"members named {names}", "a name of its own for each")
        beyond = [member.name for member in self.members if member.heldout_fold >= self.data.folds]
        require_field(
            not beyond, f"members {beyond} that leave out a fold beyond {self.data.folds - 1}", "a fold of the data"
        )


class FoldFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one member gets right.

    Attributes:
        member: its name.
        fold: the one it left out.
        parameters: of its network.
        macs: multiply-adds a photograph, strict.
        out_of_fold: on the fold it left out, each fifth with a score map fitted on the others (see `teach`).
        selection: on the reserved part, with the member's own score map.
    """

    member: str
    fold: int
    parameters: int
    macs: int
    out_of_fold: Accuracy
    selection: Accuracy


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the members of which a fold's best was chosen.

    Attributes:
        member: its name.
        configuration: its row of the grid.
        source: where that row is published.
        fold: the one it left out.
        checkpoint: the held-out figure by which its epoch was kept: ``loss``, ``r2``, ...; empty for the last epoch.
        epoch: which that is, from 1.
        agreement: mean of PLCC and SRCC of its raw scores (behind the inverse of a MOS transform) on the fold: by this
            it was chosen or not.
        out_of_fold: SRCC, PLCC and RMSE on the fold, as `FoldFigures` has them.
        selection: likewise on the selection part.
        chosen: whether it is the fold's member.
    """

    member: str
    configuration: str
    source: str
    fold: int
    checkpoint: str
    epoch: int
    agreement: float
    out_of_fold: dict[str, float]
    selection: dict[str, float]
    chosen: bool


class TeachReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a teach run found.

    Attributes:
        name: of the ensemble.
        members: in the recipe's order.
        average: mean over members of the out-of-fold SRCC, PLCC and RMSE.
        pooled: all out-of-fold scores together, each photograph scored by the member that had not seen it. These are
            figures of one member a photograph, not of the ensemble.
        best_member: the member with the greatest SRCC on the selection part.
        ensemble: the mean of the members' mapped scores on the selection part.
        training: photographs in the folds.
        selection: photographs in the reserved part.
        candidates: all that were trained, where the ensemble has the best of each fold.
    """

    name: str
    members: tuple[FoldFigures, ...]
    average: dict[str, float]
    pooled: Accuracy
    best_member: str
    ensemble: Accuracy
    training: int
    selection: int
    candidates: tuple[Candidate, ...] = ()
