from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from edgeiqa.runtime.splitmix import hash_cell, mix, offsets, permutation

GAMMA = 0x9E3779B97F4A7C15


def reference(seed: int, count: int) -> list[int]:
    """The generator as it was published, with state, in 64-bit arithmetic of numpy."""
    outputs = []
    state = np.array([seed], dtype=np.uint64)
    for _ in range(count):
        state += np.uint64(GAMMA)
        z = state.copy()
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        outputs.append(int((z ^ (z >> np.uint64(31)))[0]))
    return outputs


# The generator's published outputs for these seeds.
PUBLISHED = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC, 0x1B39896A51A8749B],
    1234567: [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ],
}


@pytest.mark.parametrize("seed", PUBLISHED)
def test_mix_gives_the_outputs_of_the_reference_generator(seed: int) -> None:
    drawn = [mix((seed + step * GAMMA) % 2**64) for step in range(5)]
    assert drawn == PUBLISHED[seed] == reference(seed, 5)


@pytest.mark.parametrize("state", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_mix_agrees_with_64_bit_arithmetic_at_the_edges(state: int) -> None:
    assert mix(state) == reference(state, 1)[0]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ((0, 0, 0), 0x238275BC38FCBE91),
        ((0, 0, 1), 0x2F32A78496C67C60),
        ((0, 1, 0), 0x44E5B98100C67FB0),
        ((42, 14, 7), 0x28B8CE951484E823),
        ((2**63 - 1, 63, 63), 0x0417A054BD2CF2BF),
    ],
)
def test_cells_have_their_pinned_numbers(cell: tuple[int, int, int], number: int) -> None:
    assert hash_cell(*cell) == number == mix(mix(mix(cell[0]) ^ cell[1]) ^ cell[2])


def test_offsets_are_the_pinned_ones() -> None:
    drawn = [offsets(0, row, column, 113, 225) for row in range(2) for column in range(3)]
    assert drawn == [(38, 80), (53, 36), (34, 142), (30, 146), (60, 102), (79, 188)]
    # y of the low half, x of the high.
    assert offsets(42, 14, 7, 2**32, 2**32) == (0x1484E823, 0x28B8CE95)
    assert offsets(7, 3, 5, 1, 1) == (0, 0)


def test_the_worked_example_of_the_documentation() -> None:
    # Cell (2, 3) of 15x15 patches of 32 pixels from 3840x2160: of 256x144 pixels, at (left 768, top 288).
    assert hash_cell(0, 2, 3) == 0xD01F0FA532C0E4A0
    y, x = offsets(0, 2, 3, 144 - 32 + 1, 256 - 32 + 1)
    assert (768 + x, 288 + y) == (842, 294)


def test_offsets_fill_their_range_evenly() -> None:
    drawn = [offsets(3, row, column, 5, 7) for row in range(100) for column in range(100)]
    assert {y for y, _ in drawn} == set(range(5))
    assert {x for _, x in drawn} == set(range(7))
    # 10,000 / 35 = 286 a place, with a standard deviation of 17.
    assert all(200 < count < 370 for count in Counter(drawn).values())


def test_permutations_are_the_pinned_ones() -> None:
    assert permutation(0, 9) == [7, 4, 8, 6, 3, 1, 0, 2, 5]
    assert permutation(1, 9) == [0, 6, 3, 1, 4, 7, 2, 8, 5]
    assert permutation(42, 9) == [3, 0, 2, 5, 6, 8, 1, 7, 4]
    assert permutation(0, 2) == [1, 0]
    assert permutation(1, 1) == [0]


@pytest.mark.parametrize("count", [0, 1, 2, 9, 100])
def test_a_permutation_holds_each_once(count: int) -> None:
    assert sorted(permutation(11, count)) == list(range(count))


def test_all_permutations_of_three_appear_about_equally() -> None:
    seen = Counter(tuple(permutation(seed, 3)) for seed in range(6000))
    assert len(seen) == 6
    assert all(870 < count < 1130 for count in seen.values())
