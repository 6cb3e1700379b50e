"""What is known of the accuracy of backbones, each figure with its source; they are in ``known_accuracy.toml``."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib import resources
from typing import Literal

import msgspec

from ..runtime.errors import RecordError

__all__ = ["ImageNet", "KnownAccuracy", "QualityFigure", "known_accuracy"]


class ImageNet(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well a backbone's pretrained weights classify ImageNet-1k's validation set.

    Attributes:
        weights: timm's tag of them.
        size: of the square input, in pixels.
        top1: percent.
        source: empty where it is the table's.
    """

    weights: str
    size: int
    top1: float
    source: str = ""


class QualityFigure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well a network with some backbone agrees with people's scores.

    Attributes:
        backbone: timm's name.
        dataset: of photographs.
        photographs: how many it is measured on.
        srcc: Spearman's correlation.
        plcc: Pearson's; None where the source gives none.
        macs: strict multiply-adds of one photograph, counted here; None where the source does not tell the network and
            its input well enough to count it.
        conditions: the network, what it was trained on, and which part it is measured on.
        origin: ``own`` (by this repository's command), ``published``, or ``computed`` from published predictions.
        source: command or citation.
    """

    backbone: str
    dataset: str
    photographs: int
    srcc: float
    plcc: float | None = None
    macs: int | None = None
    conditions: str
    origin: Literal["own", "published", "computed"]
    source: str

    def __post_init__(self) -> None:
        correlations = all(-1 <= value <= 1 for value in (self.srcc, self.plcc or 0.0))
        if not (self.photographs > 2 and correlations and (self.macs is None or self.macs > 0)):
            raise RecordError(
                f"{self.backbone} on {self.photographs} photographs with SRCC {self.srcc}, PLCC {self.plcc}, "
                f"{self.macs} multiply-adds",
                expected="correlations in [-1, 1] over at least 3 photographs, and multiply-adds above 0",
                mend="correct the figure",
            )


class _ImageNetTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    source: str
    backbones: dict[str, ImageNet]


class KnownAccuracy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that is known.

    Attributes:
        imagenet: by timm's name of the backbone, with the source of most figures.
        quality: agreement with people.
    """

    imagenet: _ImageNetTable
    quality: tuple[QualityFigure, ...]

    def top1(self, backbone: str) -> float | None:
        """ImageNet-1k top-1 in percent of a backbone by its bare name; None where it is not known."""
        found = self.imagenet.backbones.get(backbone)
        return None if found is None else found.top1

    def of(self, backbone: str) -> tuple[QualityFigure, ...]:
        """Figures of networks with this backbone."""
        return tuple(figure for figure in self.quality if figure.backbone == backbone)


@lru_cache(maxsize=1)
def known_accuracy() -> KnownAccuracy:
    """The figures that come with the package."""
    data = resources.files(__package__).joinpath("known_accuracy.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(data), KnownAccuracy)
