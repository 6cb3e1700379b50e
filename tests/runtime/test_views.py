from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.errors import PhotoError
from edgeiqa.runtime.preprocess import Crop, Flip, Fragments, Patches, Resize, Scale, View
from edgeiqa.runtime.splitmix import offsets, permutation
from edgeiqa.runtime.views import cut_view
from PIL import Image

from .bundles import pixels
from .messages import require_message
from .photographs import UInt8, cut


def addresses(width: int, height: int) -> UInt8:
    """Every pixel tells where it is: red is x, green is y, and blue what is left of both above 255."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x % 256, y % 256, x // 256 + 16 * (y // 256)], axis=-1).astype(np.uint8)


def plain(width: int, height: int, colour: tuple[int, int, int] = (10, 20, 30)) -> UInt8:
    return np.full((height, width, 3), colour, dtype=np.uint8)


# --- resize -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize("fit", ["stretch", "cover"])
@pytest.mark.parametrize("size", [(40, 30), (3, 200), (1, 1), (16, 16)])
def test_a_constant_image_stays_constant(interpolation: Any, fit: Any, size: tuple[int, int]) -> None:
    result = cut(plain(*size), Resize(width=16, height=16, fit=fit, interpolation=interpolation))
    assert (result == (10, 20, 30)).all()


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("fit", ["stretch", "cover"])
def test_a_constant_image_stays_constant_without_antialias(interpolation: Any, fit: Any) -> None:
    op = Resize(width=16, height=12, fit=fit, interpolation=interpolation, antialias=False)
    # Pillow's affine transform leaves a border black only where it samples outside; centres never are.
    assert (cut(plain(40, 30), op) == (10, 20, 30)).all()


@pytest.mark.parametrize("fit", ["stretch", "cover", "letterbox"])
@pytest.mark.parametrize("antialias", [True, False])
def test_a_resize_to_its_own_size_changes_nothing(fit: Any, antialias: bool) -> None:
    picture = pixels(23, 17)
    assert np.array_equal(cut(picture, Resize(width=23, height=17, fit=fit, antialias=antialias)), picture)


def test_a_box_stretch_is_the_mean_of_blocks() -> None:
    picture = pixels(24, 12)
    result = cut(picture, Resize(width=6, height=4, interpolation="box"))
    means = picture.astype(np.float64).reshape(4, 3, 6, 4, 3).mean(axis=(1, 3))
    # Pillow goes across, rounds to 8 bits, then goes down and rounds again.
    assert np.abs(result - means).max() <= 1.0


@pytest.mark.parametrize("interpolation", ["box", "bilinear", "hamming", "bicubic", "lanczos"])
@pytest.mark.parametrize("size", [(90, 40), (40, 90), (40, 400), (30, 31), (11, 90)])
def test_pixels_are_resampled_across_first_and_then_down(interpolation: Any, size: tuple[int, int]) -> None:
    picture = pixels(*size, seed=5)
    kernel = Image.Resampling[interpolation.upper()]
    across = Image.fromarray(picture).resize((24, size[1]), kernel)
    result = cut(picture, Resize(width=24, height=20, interpolation=interpolation))
    assert np.array_equal(result, np.asarray(across.resize((24, 20), kernel)))


@pytest.mark.parametrize("fit", ["stretch", "cover"])
def test_a_sliver_is_refused_before_it_takes_all_memory(fit: Any) -> None:
    # 8000 x 40,000 in between; the photograph is 40,000 pixels.
    with pytest.raises(PhotoError) as caught:
        cut(plain(1, 40_000), Resize(width=8000, height=8, fit=fit))
    require_message(caught, "320000000 pixels", "at most 200000000", "leave it out")
    assert cut(plain(40_000, 1), Resize(width=8, height=8, fit=fit)).shape == (8, 8, 3)


def test_cover_keeps_the_centre_and_cuts_evenly() -> None:
    wide = addresses(100, 40)
    assert np.array_equal(cut(wide, Resize(width=40, height=40, fit="cover")), wide[:, 30:70])
    tall = addresses(40, 100)
    assert np.array_equal(cut(tall, Resize(width=40, height=40, fit="cover")), tall[30:70])


def test_cover_of_an_odd_overhang_is_cut_at_half_pixels() -> None:
    wide = addresses(41, 20)
    result = cut(wide, Resize(width=20, height=20, fit="cover", interpolation="bilinear"))
    # The box begins at 10.5: each column is the mean of two, rounded half up.
    expected = (wide[:, 10:30].astype(int) + wide[:, 11:31] + 1) // 2
    assert np.abs(result[:, 1:-1].astype(int) - expected[:, 1:-1]).max() <= 1


def test_cover_takes_every_size_of_photograph() -> None:
    # In floating point 187 * (3 / 187) is above 3: the box would begin left of the photograph.
    for width, side in ((3, 187), (6, 187), (12, 187), (7, 25)):
        for size in ((width, 3 * width), (3 * width, width)):
            assert (cut(plain(*size), Resize(width=side, height=side, fit="cover")) == (10, 20, 30)).all()


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        # left, top, width, height of the photograph in a frame of 40x20
        ((80, 20), (0, 5, 40, 10)),
        ((20, 20), (10, 0, 20, 20)),
        ((10, 20), (15, 0, 10, 20)),
        ((3, 20), (18, 0, 3, 20)),
        # 20 * 40 / 500 = 1.6 pixels high
        ((500, 20), (0, 9, 40, 2)),
        # never less than one pixel
        ((4000, 3), (0, 9, 40, 1)),
    ],
)
def test_letterbox_bars(size: tuple[int, int], inner: tuple[int, int, int, int]) -> None:
    result = cut(plain(*size, colour=(200, 100, 50)), Resize(width=40, height=20, fit="letterbox", fill=7))
    expected = plain(40, 20, colour=(7, 7, 7))
    left, top, width, height = inner
    expected[top : top + height, left : left + width] = (200, 100, 50)
    assert np.array_equal(result, expected)


def test_letterbox_of_its_own_aspect_has_no_bars() -> None:
    picture = pixels(40, 20)
    assert np.array_equal(cut(picture, Resize(width=40, height=20, fit="letterbox")), picture)


def test_letterbox_of_any_size_fits_its_frame() -> None:
    for width in range(1, 120, 7):
        for height in range(1, 120, 11):
            result = cut(
                plain(width, height, colour=(255, 255, 255)), Resize(width=31, height=17, fit="letterbox", fill=0)
            )
            lit = np.argwhere(result[..., 0] > 0)
            (top, left), (bottom, right) = lit.min(axis=0), lit.max(axis=0)
            assert top <= 17 - 1 - bottom <= top + 1
            assert left <= 31 - 1 - right <= left + 1


def test_swap_turns_counter_clockwise_by_a_quarter() -> None:
    tall = addresses(20, 40)
    result = cut(tall, Resize(width=40, height=20, orient="swap"))
    # Counter-clockwise: the right edge becomes the top one.
    assert np.array_equal(result, np.rot90(tall))
    assert np.array_equal(result[0], tall[:, -1])
    wide = addresses(40, 20)
    assert np.array_equal(cut(wide, Resize(width=20, height=40, orient="swap")), np.rot90(wide))


@pytest.mark.parametrize(
    ("size", "view"), [((40, 20), (40, 20)), ((20, 20), (40, 20)), ((40, 20), (20, 20)), ((20, 20), (20, 20))]
)
def test_swap_leaves_alone_what_lies_right_or_is_square(size: tuple[int, int], view: tuple[int, int]) -> None:
    picture = pixels(*size)
    swapped = cut(picture, Resize(width=view[0], height=view[1], orient="swap"))
    assert np.array_equal(swapped, cut(picture, Resize(width=view[0], height=view[1])))


def test_keep_does_not_turn() -> None:
    tall = plain(20, 40)
    tall[:20] = 255
    result = cut(tall, Resize(width=40, height=20, interpolation="box"))
    assert (result[:10] == 255).all()
    assert (result[10:] == (10, 20, 30)).all()


def test_without_antialias_points_are_sampled_at_the_centres() -> None:
    picture = addresses(40, 20)
    result = cut(picture, Resize(width=8, height=4, interpolation="nearest", antialias=False))
    assert np.array_equal(result, picture[2::5, 2::5])


# --- crop -------------------------------------------------------------------------------------------------------------


def test_a_centre_crop() -> None:
    picture = addresses(101, 50)
    # What cannot be shared evenly stays on the right and at the bottom.
    assert np.array_equal(cut(picture, Crop(width=20, height=11)), picture[19:30, 40:60])


def test_five_crops_are_the_corners_and_the_centre() -> None:
    picture = addresses(50, 30)
    result = cut(picture, Crop(width=20, height=10, at="five"))
    corners = [(0, 0), (0, 30), (20, 0), (20, 30), (10, 15)]
    for crop, (top, left) in zip(result, corners, strict=True):
        assert np.array_equal(crop, picture[top : top + 10, left : left + 20])


def test_ten_crops_are_the_five_and_their_mirror_images() -> None:
    picture = addresses(50, 30)
    five = cut(picture, Crop(width=20, height=10, at="five"))
    ten = cut(picture, Crop(width=20, height=10, at="ten"))
    assert np.array_equal(ten[:5], five)
    assert np.array_equal(ten[5:], five[:, :, ::-1])


def test_a_grid_of_crops_goes_from_edge_to_edge_row_by_row() -> None:
    picture = addresses(50, 30)
    result = cut(picture, Crop(width=20, height=10, at="grid", rows=2, columns=3))
    places = [(top, left) for top in (0, 20) for left in (0, 15, 30)]
    for crop, (top, left) in zip(result, places, strict=True):
        assert np.array_equal(crop, picture[top : top + 10, left : left + 20])


def test_one_row_or_column_of_a_grid_is_in_the_middle() -> None:
    picture = addresses(50, 30)
    result = cut(picture, Crop(width=20, height=10, at="grid", rows=1, columns=2))
    assert np.array_equal(result, np.stack([picture[10:20, 0:20], picture[10:20, 30:50]]))


def test_seeded_crops_are_at_the_offsets_of_splitmix() -> None:
    picture = addresses(50, 30)
    result = cut(picture, Crop(width=20, height=10, at="seeded", count=6, seed=9))
    for index, crop in enumerate(result):
        top, left = offsets(9, index, 0, 21, 31)
        assert np.array_equal(crop, picture[top : top + 10, left : left + 20])


def test_seeded_crops_of_a_photograph_of_their_own_size_are_all_of_it() -> None:
    picture = pixels(20, 10)
    result = cut(picture, Crop(width=20, height=10, at="seeded", count=3, seed=1))
    assert all(np.array_equal(crop, picture) for crop in result)


def test_a_small_photograph_is_padded_with_black_around_its_centre() -> None:
    picture = plain(5, 4)
    result = cut(picture, Crop(width=10, height=7, small="pad"))
    expected = np.zeros((7, 10, 3), dtype=np.uint8)
    expected[1:5, 2:7] = (10, 20, 30)
    assert np.array_equal(result, expected)


def test_a_photograph_that_is_small_on_one_side_is_padded_there_alone() -> None:
    picture = addresses(50, 4)
    result = cut(picture, Crop(width=10, height=6, small="pad"))
    expected = np.zeros((6, 10, 3), dtype=np.uint8)
    expected[1:5] = picture[:, 20:30]
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("size", "grown"), [((5, 4), (10, 8)), ((4, 5), (10, 13)), ((50, 4), (88, 7)), ((7, 3), (17, 7)), ((9, 7), (10, 8))]
)
def test_a_small_photograph_is_enlarged_until_it_covers_the_crop(size: tuple[int, int], grown: tuple[int, int]) -> None:
    picture = pixels(*size)
    large = np.asarray(Image.fromarray(picture).resize(grown, Image.Resampling.BICUBIC))
    top, left = (grown[1] - 7) // 2, (grown[0] - 10) // 2
    assert np.array_equal(cut(picture, Crop(width=10, height=7)), large[top : top + 7, left : left + 10])


def test_an_enlargement_that_fits_just_so_is_not_a_pixel_larger() -> None:
    # In floating point 7 * (29 / 7) is above 29, and rounds up to 30.
    picture = pixels(7, 7)
    large = np.asarray(Image.fromarray(picture).resize((29, 29), Image.Resampling.BICUBIC))
    assert np.array_equal(cut(picture, Crop(width=29, height=29)), large)


@pytest.mark.parametrize("size", [(9, 20), (20, 9), (9, 9)])
def test_a_small_photograph_is_refused_where_the_model_says_so(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoError) as caught:
        cut(plain(*size), Crop(width=10, height=10, small="refuse"))
    require_message(caught, f"{size[0]}x{size[1]}", "at least 10x10")
    assert cut(plain(10, 10), Crop(width=10, height=10, small="refuse")).shape == (10, 10, 3)


@pytest.mark.parametrize("small", ["enlarge", "pad"])
@pytest.mark.parametrize("size", [(40_000, 1), (1, 40_000)])
def test_a_strip_is_not_grown_without_bound(small: Any, size: tuple[int, int]) -> None:
    with pytest.raises(PhotoError) as caught:
        cut(plain(*size), Crop(width=8000, height=8000, small=small))
    require_message(caught, f"{size[0]}x{size[1]}", "at most 200000000 pixels", "leave it out")


# --- fragments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "op"),
    [
        ((101, 67), Fragments(rows=3, columns=4, patch=8, seed=5)),
        ((480, 480), Fragments(rows=15, columns=15, patch=32)),
        ((1000, 501), Fragments(rows=15, columns=15, patch=32)),
        ((33, 17), Fragments(rows=2, columns=4, patch=8, seed=1)),
    ],
)
def test_each_patch_is_the_source_at_its_pinned_offset(size: tuple[int, int], op: Fragments) -> None:
    picture = addresses(*size)
    width, height = size
    result = cut(picture, op)
    p = op.patch
    assert result.shape == (op.rows * p, op.columns * p, 3)
    for row in range(op.rows):
        for column in range(op.columns):
            top, bottom = row * height // op.rows, (row + 1) * height // op.rows
            left, right = column * width // op.columns, (column + 1) * width // op.columns
            y, x = offsets(op.seed, row, column, bottom - top - p + 1, right - left - p + 1)
            patch = result[row * p : (row + 1) * p, column * p : (column + 1) * p]
            assert np.array_equal(patch, picture[top + y : top + y + p, left + x : left + x + p])
            assert top + y + p <= bottom
            assert left + x + p <= right


def test_fifteen_by_fifteen_fragments_of_32_are_480x480() -> None:
    view = View(name="v", operations=(Fragments(rows=15, columns=15, patch=32),))
    assert view.shape == (480, 480, 3)
    # One patch a cell fills a photograph of just that size.
    picture = addresses(480, 480)
    assert np.array_equal(cut_view(Image.fromarray(picture), view), picture)


def test_a_small_photograph_is_enlarged_before_it_is_spliced() -> None:
    picture = pixels(20, 10)
    # 7 * 16 = 112 on the shorter side; 224 on the other.
    large = np.asarray(Image.fromarray(picture).resize((224, 112), Image.Resampling.BICUBIC))
    op = Fragments(rows=7, columns=7, patch=16, seed=3)
    assert np.array_equal(cut(picture, op), cut(large, op))


def test_seeds_of_fragments_differ() -> None:
    picture = addresses(200, 200)
    first, second = (cut(picture, Fragments(rows=4, columns=4, patch=8, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)


# --- scale and patches ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "denominator", "scaled"),
    [
        ((5, 7), 2, (3, 4)),
        ((3, 9), 2, (2, 5)),
        ((4, 6), 4, (1, 2)),
        ((10, 11), 3, (3, 4)),
        ((1, 1), 64, (1, 1)),
        ((31, 96), 64, (1, 2)),
        ((3840, 2160), 3, (1280, 720)),
    ],
)
def test_scales_round_half_up(size: tuple[int, int], denominator: int, scaled: tuple[int, int]) -> None:
    # A crop that refuses small photographs tells the size: it takes just that one and no larger.
    width, height = scaled
    exact = Crop(width=width, height=height, small="refuse")
    assert cut(plain(*size), Scale(denominator=denominator), exact).shape == (height, width, 3)
    for larger in ((width + 1, height), (width, height + 1)):
        with pytest.raises(PhotoError):
            cut(plain(*size), Scale(denominator=denominator), Crop(width=larger[0], height=larger[1], small="refuse"))


def test_a_scale_of_one_changes_nothing_and_others_are_bicubic() -> None:
    picture = pixels(40, 30)
    assert np.array_equal(cut(picture, Scale(denominator=1), Crop(width=40, height=30)), picture)
    half = np.asarray(Image.fromarray(picture).resize((20, 15), Image.Resampling.BICUBIC))
    assert np.array_equal(cut(picture, Scale(denominator=2), Crop(width=20, height=15)), half)


def test_patches_are_cut_row_by_row() -> None:
    picture = addresses(12, 6)
    result = cut(picture, Crop(width=12, height=6), Patches(rows=2, columns=3))
    expected = [picture[top : top + 3, left : left + 4] for top in (0, 3) for left in (0, 4, 8)]
    assert np.array_equal(result, np.stack(expected))


def test_shuffled_patches_are_in_the_order_of_the_permutation() -> None:
    picture = addresses(12, 6)
    ordered = cut(picture, Crop(width=12, height=6), Patches(rows=2, columns=3))
    shuffled = cut(picture, Crop(width=12, height=6), Patches(rows=2, columns=3, shuffle_seed=1))
    order = permutation(1, 6)
    assert order != sorted(order)
    assert np.array_equal(shuffled, ordered[order])


def test_operations_apply_to_each_image_in_turn() -> None:
    picture = addresses(40, 40)
    result = cut(picture, Crop(width=20, height=20, at="five"), Patches(rows=2, columns=2))
    five = cut(picture, Crop(width=20, height=20, at="five"))
    for index, crop in enumerate(five):
        quarters = [crop[top : top + 10, left : left + 10] for top in (0, 10) for left in (0, 10)]
        assert np.array_equal(result[4 * index : 4 * index + 4], np.stack(quarters))


def test_a_flip_gives_each_image_and_then_its_mirror_image() -> None:
    picture = addresses(40, 30)
    assert np.array_equal(cut(picture, Crop(width=40, height=30), Flip()), np.stack([picture, picture[:, ::-1]]))
    five = cut(picture, Crop(width=20, height=10, at="five"))
    doubled = cut(picture, Crop(width=20, height=10, at="five"), Flip())
    assert np.array_equal(doubled[::2], five)
    assert np.array_equal(doubled[1::2], five[:, :, ::-1])
