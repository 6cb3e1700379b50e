from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from edgeiqa.runtime.errors import RecordError
from edgeiqa.runtime.preprocess import (
    Crop,
    DctDecode,
    Flip,
    Fragments,
    FullDecode,
    Operation,
    Patches,
    Preprocess,
    Resize,
    Scale,
    View,
    single_view,
)

from .messages import require_message

BASE = Resize(width=96, height=48)


def view(*operations: Operation) -> View:
    return View(name="v", operations=operations)


@pytest.mark.parametrize(
    ("operations", "shape"),
    [
        ([Resize(width=910, height=512)], (512, 910, 3)),
        ([Resize(width=910, height=512, fit="letterbox", orient="swap")], (512, 910, 3)),
        ([Crop(width=20, height=10)], (10, 20, 3)),
        ([Crop(width=20, height=10, at="five")], (5, 10, 20, 3)),
        ([Crop(width=20, height=10, at="ten")], (10, 10, 20, 3)),
        ([Crop(width=20, height=10, at="grid", rows=2, columns=3)], (6, 10, 20, 3)),
        ([Crop(width=20, height=10, at="grid")], (10, 20, 3)),
        ([Crop(width=20, height=10, at="seeded", count=7)], (7, 10, 20, 3)),
        ([Fragments(rows=15, columns=15, patch=32)], (480, 480, 3)),
        ([Fragments(rows=2, columns=3, patch=16)], (32, 48, 3)),
        ([Crop(width=1920, height=960), Resize(width=1280, height=720)], (720, 1280, 3)),
        ([Resize(width=1280, height=720), Crop(width=512, height=512, at="five")], (5, 512, 512, 3)),
        ([Scale(denominator=3), Crop(width=720, height=720)], (720, 720, 3)),
        ([BASE, Scale(denominator=5)], (10, 19, 3)),
        ([BASE, Scale(denominator=64)], (1, 2, 3)),
        ([BASE, Patches(rows=3, columns=4)], (12, 16, 24, 3)),
        ([BASE, Patches(rows=1, columns=1)], (48, 96, 3)),
        ([BASE, Crop(width=40, height=40, at="five"), Patches(rows=2, columns=2)], (20, 20, 20, 3)),
        ([Crop(width=64, height=64, at="five"), Resize(width=8, height=8)], (5, 8, 8, 3)),
        ([BASE, Fragments(rows=7, columns=7, patch=4)], (28, 28, 3)),
        ([BASE, Flip()], (2, 48, 96, 3)),
        ([BASE, Flip(), Flip(), Crop(width=40, height=40, at="five")], (20, 40, 40, 3)),
        ([Crop(width=64, height=64, at="five"), Flip(), Resize(width=8, height=8)], (10, 8, 8, 3)),
    ],
)
def test_the_static_shape_of_a_chain(operations: list[Operation], shape: tuple[int, ...]) -> None:
    assert view(*operations).shape == shape


def test_shapes_are_by_name_and_in_order() -> None:
    record = Preprocess(
        views=(View(name="b", operations=(BASE,)), View(name="a", operations=(Crop(width=2, height=4),)))
    )
    assert list(record.shapes.items()) == [("b", (48, 96, 3)), ("a", (4, 2, 3))]


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda: Resize(width=0, height=8), "0x8"),
        (lambda: Resize(width=8, height=-1), "8x-1"),
        (lambda: Resize(width=8193, height=8), "8193x8"),
        (lambda: Resize(width=8, height=8, fill=256), "256"),
        (lambda: Resize(width=8, height=8, fill=-1), "-1"),
        (lambda: Resize(width=8, height=8, interpolation="lanczos", antialias=False), "lanczos without antialias"),
        (lambda: Resize(width=8, height=8, interpolation="box", antialias=False), "box without antialias"),
        (lambda: Crop(width=0, height=8), "0x8"),
        (lambda: Crop(width=8, height=8, rows=0), "0x1"),
        (lambda: Crop(width=8, height=8, columns=65), "1x65"),
        (lambda: Crop(width=8, height=8, count=0), "0 seeded"),
        (lambda: Crop(width=8, height=8, count=257), "257 seeded"),
        (lambda: Crop(width=8, height=8, seed=-1), "-1"),
        (lambda: Crop(width=8, height=8, seed=2**63), str(2**63)),
        (lambda: Fragments(rows=0, columns=1, patch=1), "0x1"),
        (lambda: Fragments(rows=1, columns=65, patch=1), "1x65"),
        (lambda: Fragments(rows=1, columns=1, patch=0), "patch of 0"),
        (lambda: Fragments(rows=64, columns=1, patch=129), "129x8256"),
        (lambda: Fragments(rows=1, columns=1, patch=1, seed=-5), "-5"),
        (lambda: Scale(denominator=0), "1/0"),
        (lambda: Scale(denominator=65), "1/65"),
        (lambda: Patches(rows=0, columns=1), "0x1"),
        (lambda: Patches(rows=1, columns=1, shuffle_seed=-1), "-1"),
        (lambda: DctDecode(margin=0.99), "0.99"),
        (lambda: DctDecode(margin=16.5), "16.5"),
        (lambda: DctDecode(margin=math.nan), "nan"),
        (lambda: DctDecode(margin=math.inf), "inf"),
        (lambda: View(name="", operations=(BASE,)), "''"),
        (lambda: View(name="Big", operations=(BASE,)), "'Big'"),
        (lambda: View(name="1st", operations=(BASE,)), "'1st'"),
        (lambda: View(name="a" * 33, operations=(BASE,)), "a" * 33),
        (lambda: View(name="a\n", operations=(BASE,)), "'a\\n'"),
        (lambda: View(name="é", operations=(BASE,)), "'é'"),
        (lambda: view(), "0 operations"),
        (lambda: view(*[BASE] * 17), "17 operations"),
        (lambda: view(Scale(denominator=2)), "depends on the photograph"),
        (lambda: view(Patches(rows=2, columns=2)), "an unknown size"),
        (lambda: view(Scale(denominator=2), Patches(rows=2, columns=2)), "an unknown size"),
        (lambda: view(BASE, Patches(rows=5, columns=2)), "5x2 patches of (48, 96)"),
        (lambda: view(Flip(), BASE), "a flip of an unknown size"),
        (lambda: view(Scale(denominator=2), Flip(), BASE), "a flip of an unknown size"),
        (lambda: view(BASE, *[Flip()] * 14, BASE), "75497472 pixels"),
        (lambda: view(Resize(width=8192, height=8192)), "67108864 pixels"),
        (lambda: view(Crop(width=512, height=512, at="seeded", count=245)), "64225280 pixels"),
        (lambda: Preprocess(views=()), "0 views"),
        (lambda: Preprocess(views=tuple(View(name=f"v{i}", operations=(BASE,)) for i in range(17))), "17 views"),
        (lambda: Preprocess(views=(view(BASE), view(BASE))), "['v', 'v']"),
    ],
)
def test_a_field_out_of_range_is_refused_with_a_full_message(make: Any, got: str) -> None:
    with pytest.raises(RecordError) as caught:
        make()
    require_message(caught, got)


def test_the_images_between_two_operations_are_bounded_too() -> None:
    # 256 crops of 67 megapixels, which a resize to 1x1 would hide from the last shape: 51 GB.
    with pytest.raises(RecordError) as caught:
        view(Crop(width=8000, height=8000, at="seeded", count=256), Resize(width=1, height=1))
    require_message(caught, "16384000000 pixels", "64000000")


def test_the_largest_views_are_allowed() -> None:
    assert view(Resize(width=8192, height=7812)).shape == (7812, 8192, 3)
    assert view(*[BASE] * 16).shape == (48, 96, 3)
    assert view(Crop(width=500, height=500, at="seeded", count=256)).shape == (256, 500, 500, 3)


@pytest.mark.parametrize(
    "native",
    [
        (Crop(width=8, height=8),),
        (Fragments(rows=2, columns=2, patch=4),),
        (Scale(denominator=2), Crop(width=8, height=8)),
        (Crop(width=8, height=8), BASE),
    ],
)
def test_a_dct_decode_is_refused_with_views_of_native_pixels(native: tuple[Operation, ...]) -> None:
    views = (View(name="whole", operations=(BASE,)), View(name="sharp", operations=native))
    with pytest.raises(RecordError) as caught:
        Preprocess(views=views, decode=DctDecode())
    require_message(caught, "sharp", "a full decode", "set decode to full")
    assert "whole" not in caught.value.got
    assert Preprocess(views=views).wanted_scale(4000, 3000) == 1.0


def test_a_crop_behind_a_resize_needs_no_native_pixels() -> None:
    record = Preprocess(views=(view(BASE, Crop(width=8, height=8)),), decode=DctDecode())
    assert record.wanted_scale(960, 480) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("fields", "size", "scale"),
    [
        # stretch and cover need the larger of the two ratios, letterbox the smaller.
        ({"fit": "stretch"}, (1000, 1000), 0.4),
        ({"fit": "cover"}, (1000, 1000), 0.4),
        ({"fit": "letterbox"}, (1000, 1000), 0.2),
        ({"fit": "stretch"}, (4000, 500), 0.4),
        ({"fit": "letterbox"}, (4000, 500), 0.1),
        # Upright photographs, kept and turned.
        ({"fit": "stretch"}, (500, 1000), 0.8),
        ({"fit": "stretch", "orient": "swap"}, (500, 1000), 0.4),
        ({"fit": "letterbox", "orient": "swap"}, (500, 1000), 0.4),
        ({"fit": "letterbox"}, (500, 1000), 0.2),
        # Squares do not turn; small photographs are not reduced.
        ({"fit": "stretch", "orient": "swap"}, (800, 800), 0.5),
        ({"fit": "stretch"}, (400, 200), 1.0),
        ({"fit": "stretch"}, (100, 100), 1.0),
    ],
)
def test_the_wanted_scale(fields: dict[str, Any], size: tuple[int, int], scale: float) -> None:
    resize = Resize(width=400, height=200, **fields)
    plain = Preprocess(views=(view(resize),), decode=DctDecode())
    assert plain.wanted_scale(*size) == pytest.approx(scale, abs=1e-12)
    double = Preprocess(views=(view(resize),), decode=DctDecode(margin=2.0))
    assert double.wanted_scale(*size) == pytest.approx(min(1.0, 2 * scale), abs=1e-12)
    assert Preprocess(views=(view(resize),)).wanted_scale(*size) == 1.0


def test_the_largest_view_sets_the_wanted_scale() -> None:
    views = tuple(View(name=f"v{side}", operations=(Resize(width=side, height=side),)) for side in (100, 300, 200))
    assert Preprocess(views=views, decode=DctDecode()).wanted_scale(1000, 1000) == pytest.approx(0.3)


EVERYTHING = Preprocess(
    views=(
        View(
            name="resized",
            operations=(
                Resize(
                    width=64,
                    height=32,
                    fit="letterbox",
                    orient="swap",
                    interpolation="bilinear",
                    antialias=False,
                    fill=3,
                ),
                Scale(denominator=2),
                Patches(rows=2, columns=4, shuffle_seed=2**63 - 1),
            ),
        ),
        View(
            name="cropped",
            operations=(Crop(width=9, height=8, at="seeded", rows=2, columns=3, count=4, seed=5, small="refuse"),),
        ),
        View(name="spliced", operations=(Fragments(rows=3, columns=4, patch=5, seed=6), Flip())),
    ),
    exif="ignore",
    colour="raw",
    alpha="drop",
)


@pytest.mark.parametrize(
    "record", [EVERYTHING, single_view(8, 8), single_view(640, 480, decode=DctDecode(margin=1.5), fit="cover")]
)
def test_a_record_survives_json(record: Preprocess) -> None:
    data = msgspec.json.encode(record)
    again = msgspec.json.decode(data, type=Preprocess)
    assert again == record
    assert hash(again) == hash(record)
    assert msgspec.json.encode(again) == data


def test_the_names_of_operations_in_json_are_the_formats() -> None:
    data = msgspec.to_builtins(EVERYTHING)
    assert [step["type"] for item in data["views"] for step in item["operations"]] == [
        "resize",
        "scale",
        "patches",
        "crop",
        "fragments",
        "flip",
    ]
    assert msgspec.to_builtins(Flip()) == {"type": "flip"}
    assert data["decode"] == {"type": "full"}
    assert msgspec.to_builtins(DctDecode(margin=2.0)) == {"type": "dct", "margin": 2.0}


@pytest.mark.parametrize(
    "broken",
    [
        '{"views": [{"name": "v", "operations": [{"type": "blur", "width": 8, "height": 8}]}]}',
        '{"views": [{"name": "v", "operations": [{"type": "resize", "width": 8, "height": 8, "sharp": true}]}]}',
        '{"views": [{"name": "v", "operations": [{"type": "resize", "width": 8.5, "height": 8}]}]}',
        '{"views": [{"name": "v", "operations": [{"type": "scale", "denominator": 1}, {"type": "flip", "up": true}]}]}',
        '{"views": [{"name": "v", "operations": [{"type": "resize", "width": 99999, "height": 8}]}]}',
        '{"views": [{"name": "v", "operations": [{"type": "resize", "width": 8, "height": 8, "fit": "squeeze"}]}]}',
        '{"views": [{"name": "v", "operations": [{"type": "resize", "width": 8, "height": 8}]}], "gamma": 2}',
        '{"views": [{"name": "v", "operations": [{"type": "resize", "width": 8, "height": 8}]}], "alpha": "grey"}',
        '{"decode": {"type": "dct"}, "views": [{"name": "v", "operations": [{"type": "scale", "denominator": 1}]}]}',
        '{"decode": {"type": "fast"}, "views": [{"name": "v", "operations": [{"type": "scale", "denominator": 1}]}]}',
    ],
)
def test_json_that_is_unknown_or_out_of_range_is_refused(broken: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(broken, type=Preprocess)


def test_single_view_is_one_stretched_bicubic_resize() -> None:
    record = single_view(910, 512)
    assert record == Preprocess(
        views=(
            View(
                name="image",
                operations=(Resize(width=910, height=512, fit="stretch", interpolation="bicubic", antialias=True),),
            ),
        ),
        decode=FullDecode(),
    )
    assert single_view(8, 8, fit="cover").views[0].operations == (Resize(width=8, height=8, fit="cover"),)
