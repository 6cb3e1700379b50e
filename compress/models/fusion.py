"""Fusion: from the branches' feature vectors to one vector a photograph."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.attention import Attention as SelfAttention
from torch import Tensor, nn

from ...runtime.errors import ModelError
from . import records

__all__ = [
    "AttentionFusion",
    "ConcatFusion",
    "FusionBlock",
    "GatedFusion",
    "MeanFusion",
    "build_fusion",
    "images_averaged",
]


class FusionBlock(nn.Module):
    """Base of the fusions: ``forward(vectors)`` -> ``[N, width]``.

    Its input is a list of V tensors, one for each view of each branch: float ``[N, C_v]``, or ``[N, T_v, C_v]`` for a
    view of T_v > 1 images.

    Attributes:
        width: length of the fused vector.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


def images_averaged(vectors: Tensor) -> Tensor:
    """The mean over the images of a view: ``[N, T, C]`` -> ``[N, C]``; ``[N, C]`` stays as it is."""
    return vectors.mean(1) if vectors.ndim == 3 else vectors


def _each_averaged(vectors: list[Tensor]) -> list[Tensor]:
    return [images_averaged(images) for images in vectors]


class MeanFusion(FusionBlock):
    """`records.Mean`."""

    def forward(self, vectors: list[Tensor]) -> Tensor:
        """V of ``[N, C]`` or ``[N, T_v, C]`` -> ``[N, C]``."""
        return torch.stack(_each_averaged(vectors), 1).mean(1)


class ConcatFusion(FusionBlock):
    """`records.Concat`."""

    def forward(self, vectors: list[Tensor]) -> Tensor:
        """V of ``[N, C_v]`` or ``[N, T_v, C_v]`` -> ``[N, sum of C_v]``."""
        return torch.cat(_each_averaged(vectors), 1)


class GatedFusion(FusionBlock):
    """`records.Gated`."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.norm = nn.LayerNorm(width)
        self.gate = nn.Linear(width, 1)
        nn.init.zeros_(self.gate.weight)
        nn.init.zeros_(self.gate.bias)

    def forward(self, vectors: list[Tensor]) -> Tensor:
        """V of ``[N, C]`` or ``[N, T_v, C]`` -> ``[N, C]``."""
        stacked = torch.stack(_each_averaged(vectors), 1)
        weights = self.gate(self.norm(stacked)).softmax(1)
        fused: Tensor = (weights * stacked).sum(1)
        return fused


class AttentionFusion(FusionBlock):
    """`records.Attention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__(width)
        self.norm = nn.LayerNorm(width)
        attention: Any = SelfAttention(width, num_heads=heads, qkv_bias=True)
        # The fused kernel is opaque to fvcore.
        attention.fused_attn = False
        self.attention = attention

    def forward(self, vectors: list[Tensor]) -> Tensor:
        """V of ``[N, C]`` or ``[N, T_v, C]`` -> ``[N, C]``."""
        tokens = torch.cat([vector if vector.ndim == 3 else vector.unsqueeze(1) for vector in vectors], 1)
        attended: Tensor = tokens + self.attention(self.norm(tokens))
        return attended.mean(1)


def build_fusion(fusion: records.Fusion, widths: list[int]) -> FusionBlock:
    """The block of a fusion.

    Args:
        fusion: its record.
        widths: of the V feature vectors that it joins.

    Raises:
        ModelError: vectors of unequal width for a fusion that needs one width, or one that its heads do not divide.
    """
    if isinstance(fusion, records.Concat):
        return ConcatFusion(sum(widths))
    if len(set(widths)) > 1:
        raise ModelError(
            f"feature vectors of widths {widths} for the fusion {type(fusion).__name__}",
            expected="vectors of one width",
            mend="use Concat, or backbones of one width",
        )
    width = widths[0]
    match fusion:
        case records.Mean():
            return MeanFusion(width)
        case records.Gated():
            return GatedFusion(width)
        case records.Attention(heads=heads):
            if width % heads:
                raise ModelError(
                    f"{heads} attention heads on feature vectors of width {width}",
                    expected="a number of heads that divides the width",
                    mend="set the fusion's heads",
                )
            return AttentionFusion(width, heads)
