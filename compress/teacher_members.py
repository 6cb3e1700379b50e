"""What a teacher is: members that turn views into raw scores and pooled features, or a table of scores."""

from __future__ import annotations

import csv
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError, ModelError
from ..runtime.manifest import Combine, Mean
from ..runtime.preprocess import Preprocess
from ..runtime.score_map import Affine, ScoreMap

if TYPE_CHECKING:
    from torch import nn

    from .models.records import Normalisation

__all__ = [
    "Features",
    "Part",
    "ScoreTable",
    "Teacher",
    "TeacherMember",
    "TorchTeacher",
    "Views",
    "member_key",
    "range_map",
    "read_score_table",
]

Views = Mapping[str, NDArray[np.uint8]]
Features = dict[str, NDArray[np.float32]]
Part = int | Literal["selection"]
"""A part of the photographs that a teacher was made with: a fold's number, or the reserved selection part."""

_MUCH_OUTSIDE = 0.25
"""Share of a stated range by which the median raw score may lie outside it."""


@dataclass(frozen=True, kw_only=True)
class TeacherMember:
    """One network of a teacher.

    Attributes:
        name: for people.
        key: hex sha256 of weights or graph, preprocessing and output names: what it is in a teacher cache. The score
            map is no part of it, since the cache holds raw scores.
        preprocess: from a photograph to its views.
        score_map: raw score -> the outer scale.
        low: lowest score of the outer scale.
        high: highest.
        higher_is_better: whether the outer scale rises with quality.
        feature_widths: length C of each pooled feature vector, by output name.
        heldout_fold: the fold that it was not trained on; None where that is not known.
        raw_range: range of the raw score where it was stated by the user and not fitted; None where the map was fitted.
        forward: views, uint8 ``[n, (T,) H, W, 3]`` by name -> raw scores ``[n]``, features ``[n, C]`` by name.
        count_macs: strict multiply-adds of one item; None where they cannot be counted here.
    """

    name: str
    key: str
    preprocess: Preprocess
    score_map: ScoreMap
    low: float
    high: float
    feature_widths: Mapping[str, int]
    forward: Callable[[Views], tuple[NDArray[np.float64], Features]]
    count_macs: Callable[[], int | None] = lambda: None
    higher_is_better: bool = True
    heldout_fold: int | None = None
    raw_range: tuple[float, float] | None = None

    def run(self, views: Views) -> tuple[NDArray[np.float64], Features]:
        """Score items whose views were cut already.

        Args:
            views: by view name, uint8 ``[n, (T,) H, W, 3]``.

        Returns:
            Raw scores float64 ``[n]``; features float32 ``[n, C]`` by name, in the order of ``feature_widths``.

        Raises:
            ModelError: the views are not those of its preprocessing, or its answer is not of the stated shapes.
        """
        shapes = self.preprocess.shapes
        found = {name: view.shape[1:] for name, view in views.items()}
        counts = {len(view) for view in views.values()}
        if found != shapes or len(counts) != 1 or any(view.dtype != np.uint8 for view in views.values()):
            raise ModelError(
                f"views { ({name: (view.dtype.name, view.shape) for name, view in views.items()}) } for {self.name}",
                expected=f"uint8 [n, ...] of {shapes}",
                mend="cut them by the member's Preprocess",
            )
        (count,) = counts
        raw, features = self.forward(views)
        answered = {name: feature.shape for name, feature in features.items()}
        stated = {name: (count, width) for name, width in self.feature_widths.items()}
        if raw.shape != (count,) or answered != stated:
            raise ModelError(
                f"scores {raw.shape} and features {answered} of {self.name} for {count} items",
                expected=f"scores {(count,)} and features {stated}",
                mend="correct the network's outputs",
            )
        return (
            raw.astype(np.float64, copy=False),
            {name: features[name].astype(np.float32, copy=False) for name in self.feature_widths},
        )

    def unit(self, raw: NDArray[np.float64]) -> NDArray[np.float64]:
        """Raw scores, float64 of any shape -> quality in [0, 1], higher is better, of the same shape."""
        scores = (self.score_map.apply(raw) - self.low) / (self.high - self.low)
        return np.clip(scores if self.higher_is_better else 1.0 - scores, 0.0, 1.0)

    def require_range(self, raw: NDArray[np.float64]) -> None:
        """Check raw scores ``[n]`` against a range that was stated and not fitted.

        Raises:
            DataError: their median lies well outside it, so that the map would clip most of them.
        """
        if self.raw_range is None or raw.size == 0:
            return
        low, high = self.raw_range
        middle, slack = float(np.median(raw)), _MUCH_OUTSIDE * (high - low)
        if not low - slack <= middle <= high + slack:
            raise DataError(
                f"raw scores of {self.name} with a median of {middle:.4g}",
                expected=f"scores in the range {low:g} to {high:g} that it is said to give",
                mend="state the range of its raw scores: ?range=LOW,HIGH after its name, or a score map",
            )


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """Members, and what is known of the photographs they were trained on.

    Attributes:
        name: for people.
        members: at least one, no network twice.
        folds: hex sha256 of a photograph's bytes -> the part it belongs to; empty where that is not known.
        folds_known: whether ``folds`` says what the members were trained on. Where not, nothing can keep a label that
            a member has seen out of its targets.
        combine: of the members' scores.
    """

    name: str
    members: tuple[TeacherMember, ...]
    folds: Mapping[str, Part] = field(default_factory=dict)
    folds_known: bool = False
    combine: Combine = field(default_factory=Mean)

    def __post_init__(self) -> None:
        first_with: dict[str, str] = {}
        for member in self.members:
            if member.key in first_with:
                raise DataError(
                    f"members {first_with[member.key]} and {member.name} of {self.name}, which are the same network",
                    expected="each network once, or their spread means nothing",
                    mend="remove one of the two",
                )
            first_with[member.key] = member.name
        if not self.members:
            raise DataError(f"teacher {self.name} without members", expected="at least one", mend="name another")

    @property
    def macs_per_item(self) -> int | None:
        """Strict multiply-adds of all members for one item; None where one cannot be counted here."""
        counts = [member.count_macs() for member in self.members]
        known = [macs for macs in counts if macs is not None]
        return sum(known) if len(known) == len(counts) else None

    def speakers(self, part: Part | None, *, distorted: bool) -> tuple[bool, ...]:
        """Which members may speak on an item: the rule that no label leaks into a judgement.

        An undistorted photograph of a fold is judged only by the members that held this fold out; whatever else (the
        selection part, photographs that no member was trained on, distorted ones) by all.

        Args:
            part: that the item's photograph belongs to; None for one that no member was trained on.
            distorted: whether the item is a distorted version of it.

        Returns:
            One flag a member.

        Raises:
            DataError: no member held the photograph's fold out.
        """
        if distorted or part is None or part == "selection":
            return (True,) * len(self.members)
        allowed = tuple(member.heldout_fold == part for member in self.members)
        if not any(allowed):
            held = {member.name: member.heldout_fold for member in self.members}
            raise DataError(
                f"a photograph of fold {part}, which no member of {self.name} held out (they held out: {held})",
                expected="a member for each fold, or photographs without the others",
                mend="train that fold's member with edgeiqa teach, or leave its photographs out",
            )
        return allowed


@dataclass(frozen=True, kw_only=True)
class TorchTeacher:
    """A torch network as a teacher: what the factory of ``module:factory`` returns.

    Attributes:
        module: float ``[N, 3, H, W]``, normalised, to scores ``[N]`` or ``[N, 1]``; or to a dictionary with ``score``
            and any ``features.NAME`` of ``[N, C]``.
        preprocess: of one view of one image.
        normalisation: of its pixels.
        score_map: raw -> outer scale; without one, ``raw_range`` is mapped to 0-100 by a straight line.
        raw_range: of the raw score, lowest and highest; not used where there is a score map.
        name: for people; that of the factory if empty.
    """

    module: nn.Module
    preprocess: Preprocess
    normalisation: Normalisation
    score_map: ScoreMap | None = None
    raw_range: tuple[float, float] = (0.0, 1.0)
    name: str = ""


def range_map(low: float, high: float) -> ScoreMap:
    """The straight line from ``[low, high]`` to 0-100, clipped."""
    scale = 100.0 / (high - low)
    return ScoreMap(steps=(Affine(scale=scale, offset=-low * scale),), low=0.0, high=100.0)


def member_key(kind: str, preprocess: Preprocess, outputs: Sequence[str], facts: object, weights: bytes) -> str:
    """What identifies a member in a teacher cache, as hex sha256.

    Args:
        kind: of network, so that no two kinds can be taken for each other.
        preprocess: its own.
        outputs: names, in their order.
        facts: whatever else decides on its scores, as JSON.
        weights: sha256 of its weights or graph.
    """
    told = msgspec.json.encode((kind, preprocess, tuple(outputs), facts), order="sorted")
    return hashlib.sha256(hashlib.sha256(told).digest() + weights).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    """Scores of whole photographs from a model that lives elsewhere: a teacher without members that run.

    Attributes:
        path: of the CSV.
        scores: by image name, on the scale of ``score_range``.
        score_range: lowest and highest score of that scale, higher is better.
    """

    path: Path
    scores: Mapping[str, float]
    score_range: tuple[float, float]

    def unit_scores(self, images: Sequence[str]) -> NDArray[np.float64]:
        """Quality in [0, 1], float64 ``[n]``, of images by name.

        Raises:
            DataError: an image has no score.
        """
        missing = [image for image in images if image not in self.scores]
        if missing:
            raise DataError(
                f"{self.path} without a score for {_some(missing)}",
                expected="a score for every photograph",
                mend="add the rows, or leave these photographs out",
            )
        low, high = self.score_range
        return (np.array([self.scores[image] for image in images], dtype=np.float64) - low) / (high - low)

    def require_known(self, images: Collection[str]) -> None:
        """Check that every image of the table is among the photographs that there are.

        Raises:
            DataError: it names others.
        """
        there = set(images)
        unknown = [image for image in self.scores if image not in there]
        if unknown:
            raise DataError(
                f"{self.path}, which names {_some(unknown)}: no such photographs among the {len(there)} given",
                expected="the names of photographs, relative to their folder",
                mend="correct the column image, or name the folder the table was made for",
            )


def read_score_table(path: Path, score_range: tuple[float, float] = (0.0, 100.0)) -> ScoreTable:
    """Read a CSV with the columns ``image`` and ``score``.

    Args:
        path: of the table; other columns are passed over.
        score_range: of its scores.

    Raises:
        DataError: it cannot be read, a column is missing, an image stands twice, or a score is no number in the range.
    """
    low, high = score_range
    scores: dict[str, float] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            if not {"image", "score"} <= set(reader.fieldnames or ()):
                raise DataError(
                    f"{path} with the columns {', '.join(reader.fieldnames or ()) or 'none'}",
                    expected="columns image, score",
                    mend="name the columns so in the header line",
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                image, value = (row["image"] or "").strip(), _number(row["score"])
                if not image or image in scores:
                    raise DataError(
                        f"{where}: the image {image!r}{' a second time' if image else ''}",
                        expected="one row for each image",
                        mend="correct or remove the row",
                    )
                if not low <= value <= high:
                    raise DataError(
                        f"{where}: score {row['score']!r}",
                        expected=f"a number in the stated range, {low:g} to {high:g}",
                        mend="correct the cell, or state the scale: NAME.csv?range=LOW,HIGH",
                    )
                scores[image] = value
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error})",
            expected="a CSV with the columns image, score",
            mend="give the path of the table",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{path} is not a CSV in UTF-8 ({error})",
            expected="comma-separated values in UTF-8 with a header line",
            mend="save the table as CSV UTF-8",
        ) from error
    if not scores:
        raise DataError(f"{path} without rows", expected="a score for each photograph", mend="give a whole table")
    return ScoreTable(path=path, scores=scores, score_range=score_range)


def _number(cell: str | None) -> float:
    try:
        return float(cell or "")
    except ValueError:
        return math.nan


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
