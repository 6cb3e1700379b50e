"""``--weights``: where a network's weights come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..compress.models.weights import Weights

__all__ = ["parse_weights"]


def parse_weights(text: str, *, seed: int = 0) -> Weights:
    """``hub``, ``lite``, ``none`` (random, of that seed), or the path of a file."""
    from ..compress.models.weights import FileWeights, HubWeights, LiteWeights, NoWeights

    named: dict[str, Weights] = {"hub": HubWeights(), "lite": LiteWeights(), "none": NoWeights(seed=seed)}
    return named[text] if text in named else FileWeights(path=text)
