"""The model grammar: views -> branches -> fusion -> head, over timm.

Records and published systems are there without torch; the names that need it are imported when they are asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ...runtime.errors import MissingExtraError
from .records import (
    HALF,
    IMAGENET,
    Attention,
    Branch,
    Concat,
    Fusion,
    Gated,
    Head,
    Linear,
    Mean,
    Mlp,
    Normalisation,
    System,
)
from .systems import SYSTEMS, challenge_baseline, one_backbone, three_scale, three_view

if TYPE_CHECKING:
    from .network import QualityNet, build, for_export, output_names
    from .weights import FileWeights, HubWeights, LiteWeights, NoWeights, Weights

__all__ = [
    "HALF",
    "IMAGENET",
    "SYSTEMS",
    "Attention",
    "Branch",
    "Concat",
    "FileWeights",
    "Fusion",
    "Gated",
    "Head",
    "HubWeights",
    "Linear",
    "LiteWeights",
    "Mean",
    "Mlp",
    "NoWeights",
    "Normalisation",
    "QualityNet",
    "System",
    "Weights",
    "build",
    "challenge_baseline",
    "for_export",
    "one_backbone",
    "output_names",
    "three_scale",
    "three_view",
]

_NEED_TORCH = {
    "QualityNet": "network",
    "build": "network",
    "for_export": "network",
    "output_names": "network",
    "FileWeights": "weights",
    "HubWeights": "weights",
    "LiteWeights": "weights",
    "NoWeights": "weights",
    "Weights": "weights",
}


def __getattr__(name: str) -> object:
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f".{_NEED_TORCH[name]}", __name__), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{name} needs {error.name}, which is not installed",
            expected="the extra compress",
            mend='pip install "edgeiqa[compress]"',
        ) from error
