"""The model grammar as data: views -> branches -> fusion -> head.

A `System` is a whole network short of its weights: it is stored beside every checkpoint, and the next published
system is one more record. Nothing here imports torch or timm; whether a backbone exists is found out by `build`.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from ...runtime.errors import require_field
from ...runtime.preprocess import Preprocess

__all__ = [
    "HALF",
    "IMAGENET",
    "Attention",
    "Branch",
    "Concat",
    "Fusion",
    "Gated",
    "Head",
    "Linear",
    "Mean",
    "Mlp",
    "Normalisation",
    "System",
]


def _is_name(name: str) -> bool:
    return re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) is not None


class Normalisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a backbone expects of its pixels: ``(pixel - mean) / std`` of pixel values in [0, 1], in the order R, G, B.

    Attributes:
        mean: each in [0, 1].
        std: each in (0, 1].
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        require_field(
            all(0.0 <= value <= 1.0 for value in self.mean),
            f"a mean of {self.mean}",
            "three values in [0, 1]",
        )
        require_field(all(0.0 < value <= 1.0 for value in self.std), f"a std of {self.std}", "three values in (0, 1]")


IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's training set, which most backbones were trained with."""
HALF = Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
"""[0, 1] to [-1, 1], as EfficientNet-Lite and many vision transformers were trained with."""


class Branch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backbone and the views it looks at.

    Attributes:
        name: a lower-case identifier; part of the names of its outputs.
        backbone: timm's name, with or without a tag of pretrained weights (``convnext_small.fb_in22k``).
        views: names of the views, each turned into one feature vector by the same weights. A view of T > 1 images
            gives T vectors, of which every fusion but `Attention` sees the mean.
        pool: ``head`` is timm's own way from the last feature map to the features before its classifier (ConvNeXt:
            average and norm; EfficientNet: average of 1280 channels; ViT: its class token or average). ``average``
            is the plain average of the last feature map over its positions, and the layers that only the head uses
            (MobileNetV3's second convolution, ConvNeXt's last norm) are left out of the network.
        stages: indices, ascending, of the intermediate stages whose spatially averaged features the network also
            outputs. What a stage is, timm says (ConvNeXt: 4 stages; ViT: each block).
        normalisation: of the backbone's pixels.
    """

    name: str
    backbone: str
    views: tuple[str, ...]
    pool: Literal["head", "average"] = "head"
    stages: tuple[int, ...] = ()
    normalisation: Normalisation = IMAGENET

    def __post_init__(self) -> None:
        require_field(
            _is_name(self.name),
            f"a branch named {self.name!r}",
            "a lower-case identifier of at most 32 characters",
        )
        require_field(self.backbone != "", f"branch {self.name!r} with an empty backbone", "timm's name of a backbone")
        require_field(len(self.views) >= 1, f"branch {self.name!r} without views", "at least one")
        unique = len(set(self.views)) == len(self.views)
        require_field(unique, f"branch {self.name!r} with views {self.views}", "each view once")
        ascending = list(self.stages) == sorted(set(self.stages)) and all(stage >= 0 for stage in self.stages)
        require_field(
            ascending,
            f"branch {self.name!r} with stages {self.stages}",
            "ascending indices from 0, each once",
        )


class Mean(msgspec.Struct, frozen=True, tag="mean", kw_only=True, forbid_unknown_fields=True):
    """The mean of the feature vectors: V vectors ``[N, C]`` -> ``[N, C]``. All must be of one width."""


class Concat(msgspec.Struct, frozen=True, tag="concat", kw_only=True, forbid_unknown_fields=True):
    """The feature vectors side by side: V vectors ``[N, C_v]`` -> ``[N, sum of C_v]``."""


class Gated(msgspec.Struct, frozen=True, tag="gated", kw_only=True, forbid_unknown_fields=True):
    """A weighted mean with learned weights: V vectors ``[N, C]`` -> ``[N, C]``. All must be of one width.

    The weights are the softmax over the V vectors of one learned linear function of each (layer-normalised) vector,
    so they sum to one and depend on the photograph. The function starts at zero: at first it is the plain mean.
    """


class Attention(msgspec.Struct, frozen=True, tag="attention", kw_only=True, forbid_unknown_fields=True):
    """One block of self-attention over all vectors, then their mean: ``[N, S, C]`` -> ``[N, C]``.

    S counts every image of every view, so that patches attend to each other. All vectors must be of one width, a
    multiple of ``heads``. There is no position code: the order of views and patches does not matter. The block is
    ``x + attention(norm(x))`` (A. Vaswani et al., "Attention is all you need", 2017, in its pre-norm form).
    """

    heads: int = 8

    def __post_init__(self) -> None:
        require_field(1 <= self.heads <= 64, f"{self.heads} attention heads", "1 to 64")


Fusion = Mean | Concat | Gated | Attention


def _require_dropout(dropout: float) -> None:
    require_field(0.0 <= dropout < 1.0, f"a dropout of {dropout}", "a probability in [0, 1)")


class Linear(msgspec.Struct, frozen=True, tag="linear", kw_only=True, forbid_unknown_fields=True):
    """One linear layer: ``[N, C]`` -> ``[N]``.

    Attributes:
        dropout: of its input while training, a probability in [0, 1).
    """

    dropout: float = 0.0

    def __post_init__(self) -> None:
        _require_dropout(self.dropout)


class Mlp(msgspec.Struct, frozen=True, tag="mlp", kw_only=True, forbid_unknown_fields=True):
    """A hidden layer and a linear one: ``[N, C]`` -> ``[N, hidden]`` -> ``[N]``.

    Attributes:
        hidden: its width.
        activation: after the hidden layer.
        dropout: after the activation while training, a probability in [0, 1).
    """

    hidden: int
    activation: Literal["gelu", "relu", "hardswish"] = "gelu"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require_field(1 <= self.hidden <= 65536, f"a hidden width of {self.hidden}", "1 to 65536")
        _require_dropout(self.dropout)


Head = Linear | Mlp


class System(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A network short of its weights.

    Attributes:
        name: for people and file names.
        preprocess: from a photograph to the views, which are the network's inputs in this order.
        branches: at least one; each view of ``preprocess`` is seen by at least one of them.
        fusion: joins the branches' feature vectors, in the order of the branches and of each one's views.
        head: from the joined features to the raw score.
    """

    name: str
    preprocess: Preprocess
    branches: tuple[Branch, ...]
    fusion: Fusion = Concat()
    head: Head = Linear()

    def __post_init__(self) -> None:
        require_field(self.name != "", "a system with an empty name", "a name")
        require_field(len(self.branches) >= 1, f"system {self.name!r} without branches", "at least one")
        names = [branch.name for branch in self.branches]
        require_field(len(set(names)) == len(names), f"branches named {names}", "a name of its own for each")
        cut = [view.name for view in self.preprocess.views]
        seen = [view for branch in self.branches for view in branch.views]
        unknown = [view for view in seen if view not in cut]
        require_field(not unknown, f"branches that look at views {unknown}", f"views of the preprocess: {cut}")
        unused = [view for view in cut if view not in seen]
        require_field(not unused, f"views {unused} that no branch looks at", "every view used by a branch")
