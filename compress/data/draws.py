"""Numbers drawn for a photograph from a seed and its key, by SplitMix64: any port draws the same."""

from __future__ import annotations

import re

from ...runtime.errors import UsageError
from ...runtime.splitmix import hash_cell

__all__ = ["CROP_DRAWS", "DISTORTION_DRAWS", "LADDER_DRAWS", "photograph_number"]

CROP_DRAWS = 1
DISTORTION_DRAWS = 2
LADDER_DRAWS = 3
"""What numbers are drawn for; draws for one purpose say nothing of those for another."""


def photograph_number(seed: int, key: str, purpose: int, index: int) -> int:
    """The number in [0, 2**64) of a photograph: ``hash_cell(hash_cell(seed, k, purpose), index, 0)``.

    ``k`` is the integer that the first 16 hexadecimal digits of the key write.

    Args:
        seed: of the draws, in [0, 2**63).
        key: hexadecimal sha256 of the photograph's file.
        purpose: what is drawn.
        index: of the draw, from 0.

    Raises:
        UsageError: the seed is out of its range, or the key is no such sha256.
    """
    if not 0 <= seed < 2**63:
        raise UsageError(f"a seed of {seed}", expected="a seed in [0, 2**63)", mend="give another seed")
    if re.fullmatch(r"[0-9a-f]{64}", key) is None:
        raise UsageError(
            f"a photograph's key {key!r}",
            expected="a sha256 of 64 lower-case hexadecimal digits",
            mend="give the sha256 of the photograph's file",
        )
    return hash_cell(hash_cell(seed, int(key[:16], 16), purpose), index, 0)
