"""What a teach run says in the end: score maps fitted out of fold, the choice of a fold's member, report and tables."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..profiles.fit_score_map import fit_sigmoid
from ..profiles.metrics import evaluate, plcc, rmse, srcc
from ..runtime.errors import DataError
from ..runtime.score_map import InversePiecewiseLinear, ScoreMap
from ..runtime.splitmix import permutation
from .data.dataset import Dataset
from .data.splits import Split
from .keeping import kept_of
from .run_files import write_table
from .teach_records import Candidate, FoldFigures, MemberRecipe, TeachRecipe, TeachReport

__all__ = [
    "HIGH",
    "LOW",
    "OUT_OF_FOLD",
    "SELECTION",
    "NothingLearnedError",
    "TeachData",
    "Trained",
    "agreement",
    "best_of_folds",
    "cross_fitted",
    "fit_member_map",
    "make_report",
    "write_tables",
]

OUT_OF_FOLD, SELECTION = "out_of_fold.csv", "selection.csv"
LOW, HIGH = 0.0, 100.0
_PARTS = 5


class NothingLearnedError(DataError):
    """A member's scores do not rise with the opinions."""


@dataclass(frozen=True, slots=True)
class TeachData:
    """The photographs of a run, their division and their files' hashes."""

    dataset: Dataset
    split: Split
    sha256: tuple[str, ...]

    def rows(self, *parts: Sequence[int]) -> NDArray[np.int64]:
        """Of some parts, ascending."""
        return np.array(sorted(row for part in parts for row in part), dtype=np.int64)

    @property
    def fingerprint(self) -> str:
        """Of the photographs, their scores, and their division."""
        rows = [(sha, photo.mos) for sha, photo in zip(self.sha256, self.dataset.photos, strict=True)]
        return hashlib.sha256(msgspec.json.encode((rows, self.split))).hexdigest()


@dataclass(frozen=True, slots=True)
class Trained:
    """What a member says: raw and mapped scores of the fold it left out (rows) and of the selection part.

    ``agreement`` is the mean of PLCC and SRCC of the raw scores on the fold, behind the inverse of a MOS transform.
    """

    member: MemberRecipe
    parameters: int
    macs: int
    rows: NDArray[np.int64]
    raw: NDArray[np.float64]
    cross_fitted: NDArray[np.float64]
    selection: NDArray[np.float64]
    history: Sequence[Mapping[str, float]]
    agreement: float


def best_of_folds(recipe: TeachRecipe, trained: Sequence[Trained]) -> list[Trained]:
    """Of each fold the member with the greatest mean of PLCC and SRCC on it, in the folds' order; of equals the first.

    Source: "An Ensemble of ConvNeXt Models for Perceptual Quality Assessment of Filtered Images", VCIP 2025. The choice
    flatters the fold's figures; the selection part, which has no part in it, judges what is chosen.

    Raises:
        DataError: of a fold no candidate has learned anything.
    """
    chosen = []
    for fold in sorted({member.heldout_fold for member in recipe.members}):
        candidates = [
            one
            for one in trained
            if one.member.heldout_fold == fold and one.member.configuration not in recipe.compared
        ]
        if not candidates:
            raise DataError(
                f"fold {fold}, of which no candidate learned anything",
                expected="at least one whose scores rise with the opinions",
                mend="train longer or at other rates, in a new run",
            )
        chosen.append(max(candidates, key=lambda one: one.agreement))
    return chosen


def agreement(said: NDArray[np.float64], mos: NDArray[np.float64]) -> float:
    """Mean of PLCC and SRCC."""
    return (plcc(said, mos) + srcc(said, mos)) / 2


def fit_member_map(
    raw: NDArray[np.float64],
    unit_mos: NDArray[np.float64],
    member: MemberRecipe,
    transform: InversePiecewiseLinear | None,
    fitted_on: str,
) -> ScoreMap:
    """From raw scores to opinions: the transform's inverse, where there is one, then a sigmoid."""
    try:
        opinion = raw if transform is None else transform.apply(raw)
        fitted = fit_sigmoid(opinion, LOW + (HIGH - LOW) * unit_mos, LOW, HIGH, fitted_on=fitted_on)
    except DataError as error:
        raise NothingLearnedError(
            f"{member.name}, whose scores of {fitted_on} do not rise with the opinions ({error.got})",
            expected="a member that has learned something",
            mend="train it longer or at other rates, in a new run; what it has is kept in its resume.pt",
        ) from error
    return fitted if transform is None else msgspec.structs.replace(fitted, steps=(transform, *fitted.steps))


def cross_fitted(
    raw: NDArray[np.float64],
    unit_mos: NDArray[np.float64],
    member: MemberRecipe,
    transform: InversePiecewiseLinear | None,
) -> NDArray[np.float64]:
    """Each fifth of a fold's scores with a map that was fitted on the others; float64 ``[n]``, 0 to 100."""
    order = np.array(permutation(member.seed, len(raw)))
    mapped = np.empty(len(raw))
    for part in range(_PARTS):
        judged = order[part::_PARTS]
        fitted = np.setdiff1d(order, judged)
        fitted_on = f"{len(fitted)} of its {len(raw)} out-of-fold photographs"
        mapped[judged] = fit_member_map(raw[fitted], unit_mos[fitted], member, transform, fitted_on).apply(raw[judged])
    return mapped


def make_report(
    recipe: TeachRecipe, data: TeachData, trained: Sequence[Trained], candidates: Sequence[Trained] = ()
) -> TeachReport:
    """The report of the ensemble's members, and in short of those that were not chosen."""
    outer = LOW + (HIGH - LOW) * data.dataset.unit_mos
    selection = data.rows(data.split.selection)
    members = tuple(
        FoldFigures(
            member=one.member.name,
            fold=one.member.heldout_fold,
            parameters=one.parameters,
            macs=one.macs,
            out_of_fold=evaluate(one.cross_fitted, outer[one.rows]),
            selection=evaluate(one.selection, outer[selection]),
        )
        for one in trained
    )
    best = max(trained, key=lambda one: srcc(one.selection, outer[selection]))
    pooled_rows = np.concatenate([one.rows for one in trained])
    return TeachReport(
        name=recipe.name,
        members=members,
        average={
            name: float(np.mean([getattr(figures.out_of_fold, name).value for figures in members]))
            for name in ("srcc", "plcc", "rmse")
        },
        pooled=evaluate(np.concatenate([one.cross_fitted for one in trained]), outer[pooled_rows]),
        best_member=best.member.name,
        ensemble=evaluate(np.mean([one.selection for one in trained], axis=0), outer[selection]),
        training=sum(len(fold) for fold in data.split.folds),
        selection=len(selection),
        candidates=tuple(_candidate(one, data, chosen=any(one is other for other in trained)) for one in candidates),
    )


def _candidate(one: Trained, data: TeachData, *, chosen: bool) -> Candidate:
    outer = LOW + (HIGH - LOW) * data.dataset.unit_mos
    kept = kept_of(one.history, one.member.keep)

    def figures(scores: NDArray[np.float64], rows: NDArray[np.int64]) -> dict[str, float]:
        mos = outer[rows]
        return {"srcc": srcc(scores, mos), "plcc": plcc(scores, mos), "rmse": rmse(scores, mos)}

    return Candidate(
        member=one.member.name,
        configuration=one.member.configuration,
        source=one.member.source,
        fold=one.member.heldout_fold,
        checkpoint="" if kept is None else kept.figure,
        epoch=len(one.history) if kept is None else kept.epoch + 1,
        agreement=one.agreement,
        out_of_fold=figures(one.cross_fitted, one.rows),
        selection=figures(one.selection, data.rows(data.split.selection)),
        chosen=chosen,
    )


def write_tables(data: TeachData, trained: Sequence[Trained], folder: Path) -> None:
    """Write the out-of-fold scores and those of the selection part; see `teach.teach`."""
    outer = LOW + (HIGH - LOW) * data.dataset.unit_mos
    photos = data.dataset.photos

    def known(row: int) -> list[object]:
        return [photos[row].image, data.sha256[row], repr(float(outer[row]))]

    lines: list[list[object]] = []
    for fold, rows in enumerate(data.split.folds):
        speaking = [one for one in trained if one.member.heldout_fold == fold]
        lines += [
            [*known(row), fold, one.member.name, repr(float(raw)), repr(float(score))]
            for one in speaking
            for row, raw, score in zip(one.rows.tolist(), one.raw, one.cross_fitted, strict=True)
        ]
        if not speaking:
            lines += [[*known(row), fold, "", "", ""] for row in rows]
    write_table(folder / OUT_OF_FOLD, ["image", "sha256", "mos", "fold", "member", "raw", "score"], lines)
    scores = np.stack([one.selection for one in trained], axis=1)
    write_table(
        folder / SELECTION,
        ["image", "sha256", "mos", *(one.member.name for one in trained), "ensemble"],
        [
            [*known(row), *(repr(float(score)) for score in said), repr(float(said.mean()))]
            for row, said in zip(data.rows(data.split.selection).tolist(), scores, strict=True)
        ],
    )
