from __future__ import annotations

import hashlib
import math

import msgspec
import numpy as np
import pytest
from edgeiqa.compress.data.crops import Crop, draw_crops
from edgeiqa.compress.data.draws import CROP_DRAWS, photograph_number
from edgeiqa.runtime.errors import RecordError, UsageError
from edgeiqa.runtime.splitmix import hash_cell, mix
from hypothesis import given
from hypothesis import strategies as st

KEY = hashlib.sha256(b"a photograph").hexdigest()
SIDES = st.integers(1, 9000)


def parts(width: int, height: int, count: int, *, seed: int = 0, key: str = KEY, smallest: float = 0.6) -> list[Crop]:
    """The crops after the whole photograph and its mirror image."""
    drawn = draw_crops(width, height, count, seed=seed, key=key, smallest=smallest)[2:]
    assert len(drawn) == count - 2
    return [crop for crop in drawn if crop is not None]


def test_the_whole_comes_first_and_then_its_mirror_image() -> None:
    assert draw_crops(640, 427, 1, seed=0, key=KEY) == (None,)
    assert draw_crops(640, 427, 2, seed=0, key=KEY) == (None, Crop(x=0, y=0, width=640, height=427, flip=True))


@given(SIDES, SIDES, st.integers(0, 2**63 - 1), st.floats(0.01, 1), st.binary())
def test_parts_lie_inside_and_keep_the_aspect(width: int, height: int, seed: int, smallest: float, data: bytes) -> None:
    for crop in parts(width, height, 6, seed=seed, key=hashlib.sha256(data).hexdigest(), smallest=smallest):
        assert crop.lies_in(width, height)
        longer, of = (crop.width, width) if width >= height else (crop.height, height)
        assert smallest * of <= longer <= of
        shorter = min(crop.width, crop.height) if width != height else longer
        assert abs(shorter - longer * min(width, height) / of) <= 0.5 or shorter == 1


def test_crops_are_the_pinned_ones() -> None:
    # What any port must draw.
    assert photograph_number(7, KEY, CROP_DRAWS, 2) == 17536809080124642252
    assert draw_crops(4000, 3000, 5, seed=7, key=KEY)[2:] == (
        Crop(x=478, y=74, width=3519, height=2639, flip=True),
        Crop(x=481, y=208, width=3459, height=2594, flip=False),
        Crop(x=533, y=311, width=3440, height=2580, flip=True),
    )


def test_a_crop_is_as_the_documentation_computes_it() -> None:
    (crop,) = parts(1000, 500, 3, seed=3)
    number = mix(mix(mix(mix(mix(mix(3) ^ int(KEY[:16], 16)) ^ CROP_DRAWS)) ^ 2) ^ 0)
    assert number == photograph_number(3, KEY, CROP_DRAWS, 2)
    side = 600 + hash_cell(number, 0, 0) % 401
    place = hash_cell(number, 0, 1)
    assert (crop.width, crop.height) == (side, math.floor(side / 2 + 0.5))
    assert (crop.y, crop.x) == ((place & 0xFFFFFFFF) % (501 - crop.height), (place >> 32) % (1001 - crop.width))


def test_more_crops_begin_with_the_same_ones() -> None:
    few, many = (draw_crops(640, 427, count, seed=1, key=KEY) for count in (4, 9))
    assert many[:4] == few


def test_half_of_the_parts_are_mirrored_and_which_half_is_drawn() -> None:
    firsts = []
    for seed in range(40):
        flips = [crop.flip for crop in parts(640, 427, 12, seed=seed)]
        assert sum(flips) == 5
        firsts.append(flips[0])
    assert 8 < sum(firsts) < 32


def test_photographs_and_seeds_draw_other_crops() -> None:
    other = hashlib.sha256(b"another").hexdigest()
    drawn = [tuple(parts(4000, 3000, 4, seed=s, key=k)) for s in (0, 1) for k in (KEY, other)]
    assert len(set(drawn)) == 4


def test_sides_and_places_fill_their_range_evenly() -> None:
    crops = parts(4000, 3000, 2002)
    sides = np.array([crop.width for crop in crops])
    assert sides.min() < 2410
    assert sides.max() > 3990
    # A mean of 3200 whose standard error is 400 / sqrt(3) / sqrt(2000) * 2 = 10.
    assert abs(sides.mean() - 3200) < 50
    spare = [(crop.x / (4000 - crop.width), crop.y / (3000 - crop.height)) for crop in crops if crop.width < 3900]
    assert np.allclose(np.mean(spare, axis=0), 0.5, atol=0.04)
    assert abs(np.corrcoef(np.array(spare).T)[0, 1]) < 0.1


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"count": 0}, {"smallest": 0.0}, {"smallest": 1.01}, {"smallest": math.nan}, {"seed": -1}]
    + [{"key": key} for key in ("", "abc", KEY.upper(), KEY + "0")],
)
def test_arguments_out_of_range(wrong: dict[str, object]) -> None:
    arguments: dict[str, object] = {"width": 10, "height": 10, "count": 3, "seed": 0, "key": KEY, **wrong}
    with pytest.raises(UsageError):
        draw_crops(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"x": -1}, {"y": -1}, {"width": 0}, {"height": -5}, {"x": 1.0}, {"width": np.int64(3)}, {"flip": 1}]
)
def test_crops_check_themselves(wrong: dict[str, object]) -> None:
    whole: dict[str, object] = {"x": 0, "y": 0, "width": 2, "height": 2, "flip": False}
    with pytest.raises(RecordError):
        Crop(**{**whole, **wrong})  # type: ignore[arg-type]


def test_a_crop_goes_to_json_and_back() -> None:
    crop = Crop(x=1, y=2, width=3, height=4, flip=True)
    assert msgspec.json.decode(msgspec.json.encode(crop), type=Crop) == crop
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"x":0,"y":0,"width":0,"height":1}', type=Crop)
