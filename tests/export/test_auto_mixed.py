"""The fewest float blocks: found in few tries, and passing whatever the gate does."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from edgeiqa.export.auto_mixed import fewest_float_blocks
from edgeiqa.runtime.errors import UsageError
from hypothesis import given
from hypothesis import strategies as st

RANKING = tuple("abcdefghijklmnopq")


def gate(*needed: str) -> Callable[[tuple[str, ...]], bool]:
    return lambda blocks: set(needed) <= set(blocks)


def test_nothing_is_kept_float_where_nothing_need_be() -> None:
    search = fewest_float_blocks(RANKING, gate())
    assert (search.float_blocks, search.tries) == ((), (((), True),))


def test_doubling_then_bisection_then_what_can_be_given_up() -> None:
    search = fewest_float_blocks(RANKING, gate("b", "f"))
    assert search.float_blocks == ("b", "f")
    sizes = [len(blocks) for blocks, _ in search.tries]
    assert sizes[:7] == [0, 1, 2, 4, 8, 6, 5]
    # Then the six without each of them in turn, from the last; without the last it is the five that failed.
    assert sizes[7:] == [5, 4, 3, 2, 2] and [passed for _, passed in search.tries[7:]] == [
        True,
        True,
        True,
        False,
        True,
    ]


@given(st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, max(0, n - 1)), max_size=n))))
def test_a_monotone_gate_gives_just_the_blocks_it_needs(case: tuple[int, set[int]]) -> None:
    count, needed = case[0], {str(place) for place in case[1] if place < case[0]}
    ranking = [str(place) for place in range(count)]
    search = fewest_float_blocks(ranking, gate(*needed))
    assert search.float_blocks == tuple(block for block in ranking if block in needed)
    tried = [blocks for blocks, _ in search.tries]
    assert len(set(tried)) == len(tried)
    longest = max(len(blocks) for blocks in tried)
    assert len(tried) <= 2 * math.log2(count + 1) + longest + 3


@given(st.integers(0, 2**32), st.integers(0, 12))
def test_whatever_the_gate_does_what_is_found_has_passed(seed: int, count: int) -> None:
    ranking = [str(place) for place in range(count)]

    def moody(blocks: tuple[str, ...]) -> bool:
        return hash((seed, blocks)) % 3 == 0

    search = fewest_float_blocks(ranking, moody)
    verdicts = dict(search.tries)
    if search.float_blocks is None:
        assert not moody(tuple(ranking)) and not any(verdicts.values())
    else:
        assert verdicts[search.float_blocks] and moody(search.float_blocks)
        assert list(search.float_blocks) == [block for block in ranking if block in search.float_blocks]


@pytest.mark.parametrize("ranking", [(), ("a",), RANKING])
def test_a_gate_that_nothing_passes(ranking: tuple[str, ...]) -> None:
    search = fewest_float_blocks(ranking, lambda _: False)
    assert search.float_blocks is None and search.tries[-1] == (ranking, False)


def test_a_block_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        fewest_float_blocks(["a", "b", "a"], gate())
