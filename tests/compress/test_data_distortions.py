from __future__ import annotations

import hashlib
import io
import math
from collections import Counter

import msgspec
import numpy as np
import pytest
from edgeiqa.compress.data.distortions import KINDS, Distortion, Kind, distort, draw_distortion, ladder
from edgeiqa.runtime.errors import PhotoError, RecordError, UsageError
from edgeiqa.runtime.splitmix import mix
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

KEY = hashlib.sha256(b"a photograph").hexdigest()
SEVERITIES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 1.0)
# Directions of the exposure.
BRIGHTER = next(seed for seed in range(99) if mix(seed) % 2 == 0)
DARKER = next(seed for seed in range(99) if mix(seed) % 2 == 1)


@pytest.fixture(scope="module", params=["china.jpg", "flower.jpg"])
def photograph(request: pytest.FixtureRequest) -> Image.Image:
    return Image.fromarray(load_sample_image(request.param))


def distorted(image: Image.Image, kind: Kind, severity: float, seed: int = 0) -> NDArray[np.float64]:
    result = distort(image, Distortion(kind=kind, severity=severity, seed=seed))
    assert result.mode == "RGB"
    assert result.size == image.size
    return np.asarray(result, dtype=np.float64)


def psnr(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / np.mean((one - other) ** 2)))


def grey(level: int, width: int = 40, height: int = 30) -> Image.Image:
    return Image.new("RGB", (width, height), (level,) * 3)


@pytest.mark.parametrize("seed", [BRIGHTER, DARKER])
@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_severity_is_farther_from_the_photograph(photograph: Image.Image, kind: Kind, seed: int) -> None:
    before = np.array(photograph)
    steps = [psnr(distorted(photograph, kind, severity, seed), before) for severity in SEVERITIES]
    assert steps == sorted(steps, reverse=True)
    # From hardly to be seen to plain to be seen.
    assert steps[0] > 26
    assert steps[-1] < 27
    assert steps[0] - steps[-1] > 7
    assert np.array_equal(np.asarray(photograph), before)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_distortion_gives_the_same_pixels(photograph: Image.Image, kind: Kind) -> None:
    assert np.array_equal(distorted(photograph, kind, 0.5, 3), distorted(photograph, kind, 0.5, 3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1)])
def test_the_smallest_photographs_keep_their_size(kind: Kind, size: tuple[int, int]) -> None:
    distorted(Image.new("RGB", size, (10, 200, 30)), kind, 1.0)


def test_blur_spreads_an_edge_by_its_share_of_the_longer_side() -> None:
    for width, height in ((400, 100), (1600, 40)):
        edge = np.zeros((height, width, 3), dtype=np.uint8)
        edge[:, width // 2 :] = 255
        row = distorted(Image.fromarray(edge), "blur", 0.5)[height // 2, :, 0]
        # A blurred step rises by the Gaussian: its spread is the rise's standard deviation.
        rise = np.diff(row) / 255
        places = np.arange(width - 1)
        mean = (rise * places).sum()
        spread = math.sqrt((rise * (places - mean) ** 2).sum())
        assert spread == pytest.approx(0.005 * width, rel=0.15)


def test_noise_has_its_spread_and_no_mean_and_is_independent() -> None:
    noise = distorted(grey(128, 300, 200), "noise", 0.4, 5) - 128
    assert noise.std() == pytest.approx(0.4 * 51, rel=0.02)
    assert abs(noise.mean()) < 0.3
    assert abs(np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert not np.array_equal(noise, distorted(grey(128, 300, 200), "noise", 0.4, 6) - 128)


def test_noise_does_not_depend_on_how_many_rows_are_done_at_a_time(
    photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = distorted(photograph, "noise", 0.7, 1)
    monkeypatch.setattr("edgeiqa.compress.data.distortions._NOISE_PIXELS", 640 * 7)
    assert np.array_equal(distorted(photograph, "noise", 0.7, 1), whole)


@pytest.mark.parametrize(("severity", "quality"), [(1e-9, 60), (0.5, 13), (1.0, 3)])
def test_jpeg_is_written_at_the_stated_quality(photograph: Image.Image, severity: float, quality: int) -> None:
    file = io.BytesIO()
    photograph.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    with Image.open(file) as written:
        assert np.array_equal(distorted(photograph, "jpeg", severity), np.asarray(written))


def test_resampling_forgets_what_is_finer_than_its_factor() -> None:
    stripes = np.zeros((96, 96, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    # Of a period of two pixels nothing is left at a factor of 8, and a plane stays.
    inner = distorted(Image.fromarray(stripes), "resampling", 1.0)[16:-16, 16:-16]
    assert np.ptp(inner) < 20
    assert np.all(distorted(grey(77), "resampling", 1.0) == 77)


@pytest.mark.parametrize(("seed", "stops"), [(BRIGHTER, 1.5), (DARKER, -1.5)])
def test_exposure_multiplies_linear_light(seed: int, stops: float) -> None:
    def light(level: float) -> float:
        return level / 255 / 12.92 if level / 255 <= 0.04045 else ((level / 255 + 0.055) / 1.055) ** 2.4

    for level in (0, 2, 30, 90, 140):
        result = float(distorted(grey(level), "exposure", 0.5, seed)[0, 0, 0])
        # Half a grey level of rounding, as light.
        assert light(result - 0.51) <= light(level) * 2**stops <= light(result + 0.51)
    assert distorted(grey(255), "exposure", 0.5, BRIGHTER).min() == 255


def test_contrast_draws_towards_the_mean_luma() -> None:
    halves = np.full((10, 20, 3), 40, dtype=np.uint8)
    halves[:, 10:] = 200
    result = distorted(Image.fromarray(halves), "contrast", 0.5)
    # 120 is the mean; of 80 levels on either side .55 are left.
    assert sorted(set(result.ravel())) == [76, 164]
    assert np.all(distorted(grey(9), "contrast", 1.0) == 9)
    # ITU-R BT.601: pure green has a luma of 149.685, which Pillow holds as 150.
    assert distorted(Image.new("RGB", (4, 4), (0, 255, 0)), "contrast", 0.8)[0, 0].tolist() == [108, 179, 108]


def test_a_ladder_goes_kind_by_kind_with_one_seed() -> None:
    steps = ladder(("noise", "blur"), (0.2, 1), seed=4)
    assert [(step.kind, step.severity, step.seed) for step in steps] == [
        ("noise", 0.2, 4),
        ("noise", 1.0, 4),
        ("blur", 0.2, 4),
        ("blur", 1.0, 4),
    ]
    assert ladder((), (0.2,)) == ()


def test_draws_are_the_pinned_ones() -> None:
    assert [draw_distortion(7, KEY, index) for index in range(3)] == [
        Distortion(kind="resampling", severity=0.2, seed=736474693),
        Distortion(kind="resampling", severity=0.16, seed=1400941815),
        Distortion(kind="blur", severity=0.412, seed=2980498471),
    ]


def test_draws_take_every_kind_and_severity_evenly() -> None:
    drawn = [draw_distortion(0, hashlib.sha256(bytes([i, j])).hexdigest()) for i in range(60) for j in range(60)]
    # 600 of each, with a standard deviation of 22.
    assert all(480 < count < 720 for count in Counter(d.kind for d in drawn).values())
    assert len({d.kind for d in drawn}) == len(KINDS)
    severities = np.array([d.severity for d in drawn])
    assert severities.min() == pytest.approx(0.1, abs=0.002)
    assert severities.max() == pytest.approx(1.0, abs=0.002)
    assert severities.mean() == pytest.approx(0.55, abs=0.02)
    directions = [mix(d.seed) % 2 for d in drawn if d.kind == "exposure"]
    assert 0.4 < np.mean(directions) < 0.6
    assert len({draw_distortion(0, KEY, index) for index in range(50)}) == 50


@pytest.mark.parametrize(
    "wrong",
    [
        *({"kind": "sharpen"}, {"severity": 0}, {"severity": 1.001}, {"severity": math.nan}),
        *({"seed": -1}, {"seed": 2**63}, {"seed": 1.0}),
    ],
)
def test_distortions_check_themselves(wrong: dict[str, object]) -> None:
    whole: dict[str, object] = {"kind": "blur", "severity": 0.5, "seed": 0}
    with pytest.raises(RecordError):
        Distortion(**{**whole, **wrong})  # type: ignore[arg-type]


def test_a_distortion_goes_to_json_and_back() -> None:
    distortion = Distortion(kind="noise", severity=1, seed=2**62)
    assert msgspec.json.encode(distortion) == b'{"kind":"noise","severity":1.0,"seed":4611686018427387904}'
    assert msgspec.json.decode(msgspec.json.encode(distortion), type=Distortion) == distortion


def test_what_cannot_be_distorted_is_told() -> None:
    with pytest.raises(PhotoError, match="mode L"):
        distort(Image.new("L", (4, 4)), Distortion(kind="blur", severity=1))
    with pytest.raises(PhotoError, match="65501x1 to be written as JPEG"):
        distort(Image.new("RGB", (65501, 1)), Distortion(kind="jpeg", severity=1))
    with pytest.raises(UsageError):
        draw_distortion(0, KEY, -1)
    with pytest.raises(UsageError):
        draw_distortion(0, "nokey")
