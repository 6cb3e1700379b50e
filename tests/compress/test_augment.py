"""Augmentation by its closed forms: which pixels go where, and that views of one batch go through the same changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from edgeiqa.compress.augment import augment
from edgeiqa.compress.stages import Augmentation
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


def noise(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def augmented(view: Pixels, seed: int = 0, **how: Any) -> Pixels:
    before = view.copy()
    changed = augment(view, Augmentation(**{"flip": False, **how}), np.random.default_rng(seed))
    assert changed.dtype == torch.uint8
    # A memory map's rows are read by every epoch.
    np.testing.assert_array_equal(view, before)
    return changed.numpy()


def test_nothing_asked_for_gives_the_same_pixels() -> None:
    view = noise(5, 9, 7)
    np.testing.assert_array_equal(augmented(view), view)
    several = noise(5, 2, 9, 7)
    np.testing.assert_array_equal(augmented(several), several)


def test_a_flip_mirrors_those_that_are_drawn_left_to_right() -> None:
    view = noise(64, 6, 5)
    found = augmented(view, flip=True)
    mirrored = [bool((found[row] == view[row, :, ::-1]).all()) for row in range(64)]
    kept = [bool((found[row] == view[row]).all()) for row in range(64)]
    assert all(one != other for one, other in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48
    # Others are drawn with another seed, the same with the same.
    np.testing.assert_array_equal(augmented(view, flip=True), found)
    assert not np.array_equal(augmented(view, seed=1, flip=True), found)


def test_a_crop_is_a_part_of_the_view_the_same_for_a_batch() -> None:
    # Each pixel says its own row and column.
    rows, columns = np.mgrid[0:20, 0:30]
    view = np.broadcast_to(np.stack([rows, columns, 0 * rows], -1).astype(np.uint8), (3, 20, 30, 3)).copy()
    corners = set()
    for seed in range(300):
        found = augmented(view, seed=seed, crop=18)
        assert found.shape == (3, 18, 18, 3)
        top, left = int(found[0, 0, 0, 0]), int(found[0, 0, 0, 1])
        corners.add((top, left))
        np.testing.assert_array_equal(found, view[:, top : top + 18, left : left + 18])
    assert {top for top, _ in corners} == set(range(3))
    assert {left for _, left in corners} == set(range(13))


def test_a_crop_larger_than_the_view_leaves_that_side_whole() -> None:
    view = noise(2, 10, 30)
    assert augmented(view, crop=16).shape == (2, 10, 16, 3)
    np.testing.assert_array_equal(augmented(view, crop=64), view)


def test_a_translation_moves_whole_pixels() -> None:
    view = np.zeros((200, 15, 21, 3), dtype=np.uint8)
    view[:, 7, 10] = (10, 20, 250)
    found = augmented(view, translation=0.2)
    moves = set()
    for photograph in found:
        ((row, column),) = np.argwhere(photograph.any(-1))
        np.testing.assert_array_equal(photograph[row, column], (10, 20, 250))
        moves.add((int(row) - 7, int(column) - 10))
    # A fifth of either side, in either direction.
    assert {down for down, _ in moves} == set(range(-3, 4))
    assert {across for _, across in moves} == set(range(-4, 5))


def test_what_a_translation_brings_in_is_mirrored() -> None:
    height, width = 12, 10
    view = noise(40, height, width)
    wide = np.stack([np.pad(photograph, ((6, 6), (5, 5), (0, 0)), mode="reflect") for photograph in view])
    found = augmented(view, translation=0.5)
    places = []
    for photograph, around in zip(found, wide, strict=True):
        at = [
            (top, left)
            for top in range(13)
            for left in range(11)
            if np.array_equal(around[top : top + height, left : left + width], photograph)
        ]
        assert len(at) == 1, at
        places += at
    assert len(set(places)) > 20


@pytest.mark.parametrize("side", [1, 2])
def test_a_view_of_a_pixel_or_two_can_be_translated(side: int) -> None:
    view = noise(8, side, side)
    found = augmented(view, translation=0.5)
    for before, after in zip(view.reshape(8, -1, 3), found.reshape(8, -1, 3), strict=True):
        assert {tuple(pixel) for pixel in after.tolist()} <= {tuple(pixel) for pixel in before.tolist()}


def rings(height: int, width: int) -> Pixels:
    """A smooth picture that looks the same from all sides of its middle."""
    y, x = np.mgrid[0:height, 0:width]
    squared = (y - (height - 1) / 2) ** 2 + (x - (width - 1) / 2) ** 2
    return np.repeat((40 + 180 * np.exp(-squared / 40))[..., None], 3, -1).round().astype(np.uint8)


@pytest.mark.parametrize("shape", [(33, 33), (32, 48), (48, 31)])
def test_a_rotation_keeps_what_is_symmetric_about_the_middle(shape: tuple[int, int]) -> None:
    view = np.repeat(rings(*shape)[None], 12, 0)
    found = augmented(view, rotation_degrees=45.0).astype(int)
    # In the corners the mirrored borders come in.
    y, x = np.mgrid[0 : shape[0], 0 : shape[1]]
    inside = np.hypot(y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2) < min(shape) / 2 - 2
    assert np.abs(found - view)[:, inside].max() <= 3
    # A picture that is not so does not stay as it is.
    assert np.abs(augmented(noise(12, *shape), rotation_degrees=45.0).astype(int) - noise(12, *shape)).max() > 100


def test_a_rotation_turns_by_up_to_its_angle_either_way() -> None:
    # A bright spot to the right of the middle: on its circle, where it stands says the angle.
    y, x = np.mgrid[0:65, 0:97]
    spot = 250 * np.exp(-((y - 32) ** 2 + (x - 48 - 24) ** 2) / 8)
    view = np.repeat(np.repeat(spot[..., None], 3, -1).round().astype(np.uint8)[None], 60, 0)
    angles = []
    for photograph in augmented(view, rotation_degrees=30.0)[..., 0].astype(float):
        down, across = (float((axis * photograph).sum() / photograph.sum()) for axis in (y - 32, x - 48))
        assert np.hypot(down, across) == pytest.approx(24, abs=0.3)
        angles.append(np.degrees(np.arctan2(down, across)))
    assert max(map(abs, angles)) <= 30.5
    assert min(angles) < -20 and max(angles) > 20


def test_no_rotation_and_no_translation_by_chance_is_the_same_picture() -> None:
    view = noise(4, 16, 20)
    np.testing.assert_array_equal(augmented(view, rotation_degrees=1e-9), view)


def test_a_rotation_takes_the_translation_with_it_the_same_way() -> None:
    # A smooth hill, so that sampling between pixels changes little.
    y, x = np.mgrid[0:48, 0:64]
    hill = 220 * np.exp(-((y - 24) ** 2 + (x - 32) ** 2) / 30)
    view = np.repeat(np.repeat(hill[..., None], 3, -1).round().astype(np.uint8)[None], 30, 0)
    whole = augmented(view, translation=0.2)[..., 0].astype(float)
    turned = augmented(view, translation=0.2, rotation_degrees=1e-9)[..., 0].astype(float)
    for one, other in zip(whole, turned, strict=True):
        for axis in (y, x):
            middles = [(axis * photograph).sum() / photograph.sum() for photograph in (one, other)]
            assert middles[0] == pytest.approx(middles[1], abs=0.7)


CHANGES: list[dict[str, Any]] = [
    {"flip": True},
    {"crop": 14},
    {"translation": 0.3},
    {"rotation_degrees": 20.0},
    {"rotation_degrees": 10.0, "translation": 0.1, "crop": 14, "flip": True},
    {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5},
    {"blur_sigma": 1.5},
    {"noise": 40.0},
    {"crop": 14, "contrast": 0.5, "noise": 40.0},
]


@pytest.mark.parametrize("how", CHANGES, ids=str)
def test_the_images_of_one_photograph_are_changed_alike(how: dict[str, Any]) -> None:
    view = np.repeat(noise(6, 1, 18, 22), 3, 1)
    found = augmented(view, **how)
    assert found.shape[:2] == (6, 3)
    for image in (1, 2):
        np.testing.assert_array_equal(found[:, image], found[:, 0])
    # As if each photograph had but one.
    np.testing.assert_array_equal(found[:, 0], augmented(view[:, 0], **how))
    assert not np.array_equal(found[:, 0], view[:, 0, : found.shape[2], : found.shape[3]])


@pytest.mark.parametrize("how", CHANGES, ids=str)
def test_several_views_of_a_batch_go_through_the_same_changes(how: dict[str, Any]) -> None:
    # The second view has two images, of which the first is what the first view shows.
    view = noise(6, 18, 22)
    one, again = augmented(view, seed=5, **how), augmented(np.stack([view, 255 - view], 1), seed=5, **how)
    np.testing.assert_array_equal(again[:, 0], one)


def test_the_draws_of_a_view_do_not_depend_on_its_size() -> None:
    small, large = np.zeros((40, 10, 10, 3), dtype=np.uint8), np.zeros((40, 30, 20, 3), dtype=np.uint8)
    small[:, :, 0], large[:, :, 0] = 255, 255
    how = {"flip": True, "brightness": 0.3}
    found = [augmented(view, seed=2, **how)[:, 0, 0, 0] for view in (small, large)]
    np.testing.assert_array_equal(found[0], found[1])
    assert {0, 255} <= set(found[0].tolist())


def test_colour_blur_and_noise_leave_the_pixels_when_they_are_off() -> None:
    view = noise(8, 12, 12)
    off: dict[str, Any] = dict.fromkeys(("brightness", "contrast", "saturation", "blur_sigma", "noise"), 0.0)
    np.testing.assert_array_equal(augmented(view, **off), view)
    grey = np.repeat(view[..., :1], 3, -1)
    assert np.abs(augmented(grey, saturation=0.9).astype(int) - grey).max() <= 1
    plane = np.full((8, 12, 12, 3), 77, dtype=np.uint8)
    np.testing.assert_array_equal(augmented(plane, blur_sigma=2.0), plane)
    assert np.abs(augmented(plane, contrast=0.9).astype(int) - 77).max() <= 1


def test_brightness_multiplies_by_up_to_its_share() -> None:
    plane = np.full((300, 2, 2, 3), 100, dtype=np.uint8)
    found = augmented(plane, brightness=0.25)
    assert (found == found[:, :1, :1, :1]).all()
    assert 75 <= found.min() <= 77 and 123 <= found.max() <= 125


def test_noise_is_gaussian_and_up_to_its_deviation() -> None:
    plane = np.full((400, 24, 24, 3), 128, dtype=np.uint8)
    residuals = augmented(plane, noise=12.0).astype(float) - 128
    # Rounding adds a twelfth to the variance.
    deviations = np.sqrt(np.maximum((residuals**2).mean((1, 2, 3)) - 1 / 12, 0))
    assert deviations.max() < 12 * 1.1
    # Uniform over [0, 12], of which the three quartiles are 3, 6 and 9.
    assert np.quantile(deviations, [0.25, 0.5, 0.75]) == pytest.approx([3, 6, 9], abs=1)
    assert residuals.mean() == pytest.approx(0, abs=0.05)
    # 68.3 % and 95.4 % lie within one deviation and two.
    strong = deviations > 6
    scaled = np.abs(residuals[strong]) / deviations[strong, None, None, None]
    assert [(scaled < limit).mean() for limit in (1, 2)] == pytest.approx([0.683, 0.954], abs=0.02)
    # Neither neighbours, channels nor photographs share it.
    flat = residuals[strong] / deviations[strong, None, None, None]
    for one, other in (
        (flat[:, 1:], flat[:, :-1]),
        (flat[:, :, 1:], flat[:, :, :-1]),
        (flat[..., 0], flat[..., 1]),
        (flat[1:], flat[:-1]),
    ):
        assert (one * other).mean() == pytest.approx(0, abs=0.02)


def test_noise_ends_at_black_and_white() -> None:
    black, white = np.zeros((20, 8, 8, 3), dtype=np.uint8), np.full((20, 8, 8, 3), 255, dtype=np.uint8)
    assert augmented(black, noise=30.0).max() < 200
    assert augmented(white, noise=30.0).min() > 55
    # Half of it is cut off.
    assert (augmented(black, noise=30.0) == 0).mean() == pytest.approx(0.5, abs=0.1)


def test_noise_is_as_strong_on_a_larger_view() -> None:
    small, large = (np.full((60, side, side, 3), 128, dtype=np.uint8) for side in (32, 64))
    found = [augmented(view, seed=4, noise=40.0).astype(float).std((1, 2, 3)) for view in (small, large)]
    assert found[0] == pytest.approx(found[1], rel=0.1, abs=0.5)


def test_without_noise_the_draws_are_what_they_were_before_there_was_any() -> None:
    how: dict[str, Any] = {"crop": 14, "flip": True, "translation": 0.3, "contrast": 0.5, "blur_sigma": 1.0}
    view = noise(6, 18, 22)
    # Noise is drawn after all the rest, which it leaves as it is.
    np.testing.assert_array_equal(augmented(view, noise=1e-9, **how), augmented(view, **how))
    # Flips, angles, shifts, colours, sigmas and a corner: eight numbers a photograph and two.
    used, fresh = np.random.default_rng(9), np.random.default_rng(9)
    augment(view, Augmentation(**how), used)
    fresh.random(8 * 6 + 2)
    assert used.random() == fresh.random()


def test_a_blur_wider_than_the_view() -> None:
    assert augmented(noise(4, 8, 6), blur_sigma=16.0).shape == (4, 8, 6, 3)
    assert augmented(noise(4, 1, 6), blur_sigma=16.0).shape == (4, 1, 6, 3)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 20), st.integers(1, 20)),
    images=st.one_of(st.none(), st.integers(2, 3)),
    crop=st.one_of(st.none(), st.integers(1, 24)),
    flip=st.booleans(),
    rotation=st.sampled_from([0.0, 7.0]),
    translation=st.sampled_from([0.0, 0.5]),
    colour=st.sampled_from([0.0, 0.5]),
    blur=st.sampled_from([0.0, 3.0]),
    grain=st.sampled_from([0.0, 255.0]),
    seed=st.integers(0, 2**32),
)
def test_every_shape_comes_out_whole(
    shape: tuple[int, int, int],
    images: int | None,
    crop: int | None,
    flip: bool,
    rotation: float,
    translation: float,
    colour: float,
    blur: float,
    grain: float,
    seed: int,
) -> None:
    count, height, width = shape
    middle = () if images is None else (images,)
    view = noise(count, *middle, height, width, seed=seed)
    found = augmented(
        view,
        seed=seed,
        crop=crop,
        flip=flip,
        rotation_degrees=rotation,
        translation=translation,
        brightness=colour,
        contrast=colour,
        saturation=colour,
        blur_sigma=blur,
        noise=grain,
    )
    sides = (height, width) if crop is None else (min(crop, height), min(crop, width))
    assert found.shape == (count, *middle, *sides, 3)
    if not (rotation or colour or blur or grain):
        # Pixels are only moved.
        for before, after in zip(view, found, strict=True):
            known = {tuple(pixel) for pixel in before.reshape(-1, 3).tolist()}
            assert {tuple(pixel) for pixel in after.reshape(-1, 3).tolist()} <= known
