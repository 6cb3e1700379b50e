"""Mixed precision by search: the fewest blocks that must stay float for a quantized network to pass its gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..runtime.errors import UsageError

__all__ = ["MixedSearch", "fewest_float_blocks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MixedSearch:
    """What a search found.

    Attributes:
        float_blocks: kept float, in the ranking's order; empty where none need be, None where not even all suffice.
        tries: each set of float blocks that was tried, in order, and whether it passed.
    """

    float_blocks: tuple[str, ...] | None
    tries: tuple[tuple[tuple[str, ...], bool], ...]


def fewest_float_blocks(ranking: Sequence[str], passes: Callable[[tuple[str, ...]], bool]) -> MixedSearch:
    """The fewest blocks kept float, taken from a ranking, that pass a gate.

    First none; then the first 1, 2, 4, ... of the ranking, up to all, until one passes; then, by bisection, the
    shortest beginning of the ranking that passes; at last each of its blocks is given up once, the last first, and
    stays so where the rest still passes. No set is tried twice: of n blocks, k of them kept, that is about
    2 log2 n + k tries.

    The gate is taken to be monotone: where some blocks suffice, more do too. It nearly is (errors of blocks may cancel,
    and a bootstrap's bound moves a little), so what is found passes, always, but there may be a smaller set: that of
    another order, or one among shorter beginnings than the bisection looked at.

    Args:
        ranking: of all blocks that may stay float, the one that is worth most first.
        passes: quantizes with just these blocks float, and judges.

    Raises:
        UsageError: a block stands in the ranking twice.
    """
    if len(set(ranking)) < len(ranking):
        raise UsageError("a ranking with a block twice", expected="each block once", mend="rank them again")
    tried: dict[tuple[str, ...], bool] = {}

    def suffices(blocks: Sequence[str]) -> bool:
        kept = tuple(blocks)
        if kept not in tried:
            tried[kept] = passes(kept)
        return tried[kept]

    def found(blocks: tuple[str, ...] | None) -> MixedSearch:
        return MixedSearch(float_blocks=blocks, tries=tuple(tried.items()))

    if suffices(()):
        return found(())
    # So many are too few, and so many enough.
    few, enough = 0, min(1, len(ranking))
    while not suffices(ranking[:enough]):
        if enough == len(ranking):
            return found(None)
        few, enough = enough, min(2 * enough, len(ranking))
    while enough - few > 1:
        middle = (few + enough) // 2
        if suffices(ranking[:middle]):
            enough = middle
        else:
            few = middle
    kept = tuple(ranking[:enough])
    for block in reversed(kept):
        rest = tuple(other for other in kept if other != block)
        if suffices(rest):
            kept = rest
    return found(kept)
