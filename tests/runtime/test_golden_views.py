from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.preprocess import Crop, Flip, Fragments, Operation, Patches, Preprocess, Resize, Scale, View
from edgeiqa.runtime.views import cut_view, cut_views
from PIL import Image

from .bundles import pixels
from .photographs import cut


def test_the_views_of_the_published_systems_on_a_uhd_photograph(data_root: Path) -> None:
    def view(name: str, *operations: Operation) -> View:
        return View(name=name, operations=operations)

    square = Crop(width=720, height=720)
    record = Preprocess(
        views=(
            view("resized", Resize(width=480, height=480)),
            view("fragments", Fragments(rows=15, columns=15, patch=32)),
            view("centre", Crop(width=480, height=480)),
            *(view(f"scale{k}", Scale(denominator=k), square) for k in (1, 2, 3)),
            view("baseline", Crop(width=1920, height=960), Resize(width=1280, height=720)),
        )
    )
    photo = open_photo(data_root / "uhd" / "nasa_89127.jpg", record)
    assert (photo.width, photo.height) == photo.image.size == (3840, 1846)
    views = cut_views(photo.image, record)
    assert {name: array.shape for name, array in views.items()} == {
        "resized": (480, 480, 3),
        "fragments": (480, 480, 3),
        "centre": (480, 480, 3),
        "scale1": (720, 720, 3),
        "scale2": (720, 720, 3),
        "scale3": (720, 720, 3),
        "baseline": (720, 1280, 3),
    }
    assert all(array.dtype == np.uint8 for array in views.values())
    whole = np.asarray(photo.image)
    assert np.array_equal(views["centre"], whole[683:1163, 1680:2160])
    assert np.array_equal(views["scale1"], whole[563:1283, 1560:2280])
    # A third of 1846 is 615 pixels, below the crop's 720: it is enlarged.
    baseline = Image.fromarray(whole[443:1403, 960:2880]).resize((1280, 720), Image.Resampling.BICUBIC)
    assert np.array_equal(views["baseline"], np.asarray(baseline))


def test_cutting_leaves_the_photograph_as_it_was() -> None:
    image = Image.fromarray(pixels(50, 40))
    before = image.tobytes()
    view = View(name="v", operations=(Scale(denominator=1), Crop(width=50, height=40)))
    result = cut_view(image, view).copy()
    result[:] = 0
    assert image.tobytes() == before


# Every port must cut just these pixels of `pixels(101, 67)`.
GOLDEN: dict[str, tuple[tuple[Operation, ...], str]] = {
    "stretch": (
        (Resize(width=48, height=32),),
        "42674ffffa951f46e77e294361e029c99d8c05678a9faa5b01ab6f397d49076d",
    ),
    "cover": (
        (Resize(width=32, height=32, fit="cover", interpolation="bilinear"),),
        "e8907eaff839c22049120e8b57954f885f59b38160edbd89d60d842e03f15132",
    ),
    "letterbox": (
        (Resize(width=40, height=40, fit="letterbox", interpolation="lanczos", fill=7),),
        "56995758213ef984624181a580b75b62b058a8f669a89ef8aca95b4356c240a2",
    ),
    "swap": (
        (Resize(width=24, height=48, orient="swap", interpolation="box"),),
        "2a06b230c76380f5468c03927b8855ac7b511c473dbd25ae611f248a3376e98e",
    ),
    "plain bicubic": (
        (Resize(width=48, height=32, antialias=False),),
        "0d2ea2b4176eff718f91c60126cbaf2719aaf5eb500328204d2edf42f85ccda8",
    ),
    "plain bilinear": (
        (Resize(width=48, height=32, interpolation="bilinear", antialias=False),),
        "53c30f70e943effd4edc88780dfb479a7ba03a71255a8554757c871ef0fc80ab",
    ),
    "hamming": (
        (Resize(width=31, height=17, interpolation="hamming"),),
        "9c03791ddf495f6d16fc83beca23bd03d2fbdbfe04121ef76dc88e876209c784",
    ),
    "nearest": (
        (Resize(width=31, height=17, interpolation="nearest"),),
        "196555d6219ffd910ef436e79da8ccf587ff0a4bb5fbefa18585c79d5a92fecd",
    ),
    "fragments": (
        (Fragments(rows=3, columns=4, patch=8, seed=5),),
        "778a2fb66450cafb1fc74532e40ad944f7bfdf4b8b402e63a1586d663690c105",
    ),
    "enlarged fragments": (
        (Fragments(rows=7, columns=7, patch=16),),
        "3b0b3a2c48135e31d65085ff69c1f7606d10212e416ea5fb078d6d54542881bd",
    ),
    "seeded": (
        (Crop(width=16, height=12, at="seeded", count=4, seed=9),),
        "23a3826de6c74662672ddb073323d4193d816524b267f0a5835ed4e9a7ee55eb",
    ),
    "ten": (
        (Crop(width=16, height=12, at="ten"),),
        "ab3dd385c40ff026c35d904326399eac34f8a563ef0ab2d0a6cbe8f513853707",
    ),
    "grid": (
        (Crop(width=16, height=12, at="grid", rows=2, columns=3),),
        "7856733022813361a4f95928c331277b6a54a227c6c61e33386b138698624b35",
    ),
    "scaled": (
        (Scale(denominator=3), Crop(width=30, height=20)),
        "d46f6c4c4ec07f0c3d2db2fcdde557d6f121e5dbc4ffa2cb35cc2417b8494fdb",
    ),
    "enlarged": (
        (Crop(width=150, height=99),),
        "490858c4ee05a142d46a71e2ade222b52528e876709a6cdf55e458912f3aceb5",
    ),
    "patches": (
        (Resize(width=36, height=24), Patches(rows=3, columns=3, shuffle_seed=1)),
        "505593e97ab43bd13c8608779abd15b413087cc798fc9787273add7a5e705f44",
    ),
    "flip": (
        (Resize(width=48, height=32), Flip()),
        "9718aee2bdd4643539a3faf2f453a5a7a09d0797e08a02e226d32c8286f687ed",
    ),
}


def test_the_picture_of_the_golden_views_is_the_pinned_one() -> None:
    digest = hashlib.sha256(pixels(101, 67).tobytes()).hexdigest()
    assert digest == "1f974a7e7a21eb5ae6f9853d8e9241d29b7cd6715279a965bfb5f50555d1484f"


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_views(name: str) -> None:
    operations, digest = GOLDEN[name]
    result = cut(pixels(101, 67), *operations)
    assert hashlib.sha256(np.ascontiguousarray(result).tobytes()).hexdigest() == digest


# And of `pixels(61, 143, seed=1)`: of tall photographs, Pillow's own order of passes depends on its version.
GOLDEN_TALL = {
    "stretch": "404401799de04dc27e87fb4b206b1addc468a7908ac7b032c87e56575634da45",
    "cover": "3bb7111c9d1de3fd02c82e10c70e4e76b4cf75f375dd283e09b020dd515440b0",
    "letterbox": "45fd0fe6df2ed2cf46dac3ac733a499ac7634639bea1d8dcd46eb77d21148da7",
    "swap": "3a9d57b9f7ab3c42e8e0685e7e23c5419ff274941b8f54c74428bfd685d2316e",
    "hamming": "677ab47f7574e1c6ff412f84f234b7c3e97bb63c778aa01ffb306e6b583856e9",
    "enlarged fragments": "280553f90ac78a96935d6582e3c3351dc462c7f91181ec8755e4d29b8008729d",
    "scaled": "db88c32c209ac64b7fb9dccab41c1661cee26d6c02c17e8669fabab98a27b616",
    "enlarged": "0fb5fd73ea4335513a2d3bc3e469339f1743ab14144b37b4429613d97bd434c4",
}


@pytest.mark.parametrize("name", GOLDEN_TALL)
def test_golden_views_of_a_tall_photograph(name: str) -> None:
    picture = pixels(61, 143, seed=1)
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    assert digest == "f0c4b9e7e3611c137f4b1be769e74cdbbb07f840ad70aedfa536fb7bae2ab1fe"
    result = cut(picture, *GOLDEN[name][0])
    assert hashlib.sha256(np.ascontiguousarray(result).tobytes()).hexdigest() == GOLDEN_TALL[name]
