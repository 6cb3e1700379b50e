"""SplitMix64, written out so that a port in any language draws the same numbers.

Source: G. L. Steele, D. Lea, C. H. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014, with the
output function of S. Vigna's public-domain ``splitmix64``. All arithmetic is modulo 2**64.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1


def mix(state: int) -> int:
    """One SplitMix64 step: add the golden gamma, then mix. Returns an integer in [0, 2**64).

    ``mix(0)`` is the first output of the reference generator seeded with 0.
    """
    z = (state + 0x9E3779B97F4A7C15) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


def hash_cell(seed: int, row: int, column: int) -> int:
    """The number of a cell: ``mix(mix(mix(seed) ^ row) ^ column)``, in [0, 2**64)."""
    return mix(mix(mix(seed & _MASK) ^ row) ^ column)


def offsets(seed: int, row: int, column: int, span_y: int, span_x: int) -> tuple[int, int]:
    """A cell's offset ``(y, x)`` with ``0 <= y < span_y`` and ``0 <= x < span_x``.

    y is the low 32 bits of the cell's number modulo ``span_y``, x the high 32 bits modulo ``span_x``.
    """
    number = hash_cell(seed, row, column)
    return (number & 0xFFFFFFFF) % span_y, (number >> 32) % span_x


def permutation(seed: int, count: int) -> list[int]:
    """A permutation of ``range(count)``: Fisher-Yates from the end, ``j = hash_cell(seed, i, 0) % (i + 1)``."""
    order = list(range(count))
    for i in range(count - 1, 0, -1):
        j = hash_cell(seed, i, 0) % (i + 1)
        order[i], order[j] = order[j], order[i]
    return order
