"""Heads: from the fused vector to the raw score."""

from __future__ import annotations

from torch import Tensor, nn

from . import records

__all__ = ["ScoreHead", "build_head"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "hardswish": nn.Hardswish}


class ScoreHead(nn.Module):
    """Layers before the last one, then one linear output: float ``[N, C]`` -> raw score ``[N]``.

    Attributes:
        layers: dropout, or hidden layer, activation and dropout.
        output: the last linear layer.
    """

    def __init__(self, layers: nn.Sequential, width: int) -> None:
        super().__init__()
        self.layers = layers
        self.output = nn.Linear(width, 1)

    def forward(self, vectors: Tensor) -> Tensor:
        """See the class."""
        score: Tensor = self.output(self.layers(vectors)).squeeze(1)
        return score


def build_head(head: records.Head, width: int) -> ScoreHead:
    """The layers of a head.

    Args:
        head: its record.
        width: C, of the fused vector.
    """
    match head:
        case records.Linear(dropout=dropout):
            return ScoreHead(nn.Sequential(nn.Dropout(dropout)), width)
        case records.Mlp(hidden=hidden, activation=activation, dropout=dropout):
            layers = nn.Sequential(nn.Linear(width, hidden), _ACTIVATIONS[activation](), nn.Dropout(dropout))
            return ScoreHead(layers, hidden)
