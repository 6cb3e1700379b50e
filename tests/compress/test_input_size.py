"""The input size that a limit of multiply-adds allows."""

from __future__ import annotations

import math

import pytest
from edgeiqa.compress.input_size import InputSize, count_system, network_stride, solve_input_size
from edgeiqa.compress.models import Branch, Linear, System, one_backbone
from edgeiqa.profiles.cost import CONVENTIONS
from edgeiqa.runtime.errors import BudgetError, ModelError, UsageError
from edgeiqa.runtime.preprocess import Operation, Patches, Preprocess, Resize, View

SMALL = "mobilenetv3_small_050"


@pytest.mark.parametrize(
    ("backbone", "stride"),
    [(SMALL, 32), ("tf_efficientnet_lite0", 32), ("vit_tiny_patch16_224", 16), ("vit_small_patch14_dinov2", 14)],
)
def test_network_stride(backbone: str, stride: int) -> None:
    assert network_stride(backbone) == stride


def test_an_unknown_backbone() -> None:
    with pytest.raises(ModelError, match="mobilenetv3_small_050"):
        solve_input_size("mobilenetv3_small_05", macs_limit=10**9)


def test_convnext_small_under_50_gmacs_for_3840x2160() -> None:
    solved = solve_input_size("convnext_small", macs_limit=50 * 10**9)
    assert (solved.width, solved.height) == (704, 384)
    assert solved.macs == pytest.approx(46.90e9, rel=1e-4)
    assert solved.parameters == 49_455_457


def allowed(image: tuple[int, int], stride: int) -> list[tuple[int, int]]:
    """All sizes within the image and 5 % of its aspect, from the most pixels."""
    across, down = image
    sizes = [
        (stride * columns, stride * rows)
        for columns in range(1, across // stride + 1)
        for rows in range(1, down // stride + 1)
        if abs(columns / rows / (across / down) - 1) <= 0.05
    ]
    return sorted(sizes, key=math.prod, reverse=True)


@pytest.mark.parametrize(
    ("backbone", "macs_limit", "image"),
    [
        (SMALL, 15 * 10**6, (320, 240)),
        (SMALL, 10 * 10**6, (192, 256)),
        ("vit_tiny_patch16_224", 300 * 10**6, (192, 144)),
        ("swin_tiny_patch4_window7_224", 2 * 10**9, (256, 192)),
    ],
    ids=["landscape", "portrait", "attention", "attention in windows"],
)
def test_it_is_what_counting_every_size_finds(backbone: str, macs_limit: int, image: tuple[int, int]) -> None:
    solved = solve_input_size(backbone, macs_limit=macs_limit, image=image)
    sizes = allowed(image, network_stride(backbone))
    assert (solved.width, solved.height) != sizes[0]
    costs = ((size, count_system(one_backbone(backbone, *size)).macs) for size in sizes)
    best, macs = next((size, macs) for size, macs in costs if macs <= macs_limit)
    assert math.prod((solved.width, solved.height)) == math.prod(best)
    assert solved.macs == macs


def test_a_limit_is_kept_to_the_last_multiply_add() -> None:
    at_limit = count_system(one_backbone(SMALL, 224, 128)).macs
    kept = solve_input_size(SMALL, macs_limit=at_limit)
    assert (kept.width, kept.height, kept.macs) == (224, 128, at_limit)
    with pytest.raises(BudgetError):
        solve_input_size(SMALL, macs_limit=at_limit - 1)


def test_a_vision_transformer_is_sized_in_its_patches() -> None:
    solved = solve_input_size("vit_small_patch14_dinov2", macs_limit=5 * 10**9)
    assert (solved.width, solved.height) == (266, 154)
    assert solved.macs == count_system(one_backbone("vit_small_patch14_dinov2", 266, 154)).macs <= 5 * 10**9


def test_it_is_never_larger_than_the_image_nor_than_the_largest() -> None:
    solved = solve_input_size(SMALL, macs_limit=50 * 10**9, image=(500, 500))
    assert (solved.width, solved.height) == (480, 480)
    solved = solve_input_size(SMALL, macs_limit=50 * 10**9, image=(500, 500), largest=(320, 400))
    assert (solved.width, solved.height) == (320, 320)


def test_a_limit_that_nothing_meets() -> None:
    with pytest.raises(BudgetError) as caught:
        solve_input_size(SMALL, macs_limit=10**6)
    smallest = count_system(one_backbone(SMALL, 224, 128)).macs
    assert f"{smallest / 1e6:.4g} MMACs at 224x128" in caught.value.got
    assert caught.value.expected == "at most 1 MMACs"
    assert caught.value.exit_code == 1


def test_a_system_of_any_recipe_can_be_solved() -> None:
    def several_stages(width: int, height: int) -> System:
        return one_backbone(SMALL, width, height, stages=(1, 3))

    wide = solve_input_size(several_stages, macs_limit=60 * 10**6, stride=64, aspect_tolerance=0.2, image=(640, 480))
    assert wide.width % 64 == wide.height % 64 == 0
    cost = count_system(several_stages(wide.width, wide.height))
    assert wide == InputSize(width=wide.width, height=wide.height, macs=cost.macs, parameters=cost.parameters)


def test_a_recipe_whose_size_does_not_matter_costs_the_same_everywhere() -> None:
    system = one_backbone(SMALL, 64, 64)
    solved = solve_input_size(lambda _width, _height: system, macs_limit=10**9, image=(640, 480))
    assert (solved.width, solved.height) == (640, 480)
    assert solved.macs == count_system(system).macs


@pytest.mark.parametrize(
    "options",
    [
        {"macs_limit": 0},
        {"image": (0, 100)},
        {"image": (31, 31)},
        {"image": (3840, 32), "largest": (320, 320)},
        {"largest": (-1, 5)},
        {"stride": 0},
        {"aspect_tolerance": -0.1},
        {"aspect_tolerance": 1.0},
        {"aspect_tolerance": math.nan},
    ],
)
def test_numbers_out_of_range(options: dict[str, object]) -> None:
    arguments: dict[str, object] = {"macs_limit": 10**9, "stride": 32, **options}
    with pytest.raises(UsageError):
        solve_input_size(SMALL, **arguments)  # type: ignore[arg-type]


def test_a_network_that_takes_none_of_the_sizes_is_not_a_broken_budget() -> None:
    with pytest.raises(ModelError, match="vit_tiny_patch16_224"):
        solve_input_size("vit_tiny_patch16_224", macs_limit=10**9, image=(100, 100), stride=25)


def test_sizes_that_a_network_refuses_are_passed_over() -> None:
    # Of the multiples of 24 those of 16 are the multiples of 48.
    solved = solve_input_size("vit_tiny_patch16_224", macs_limit=10**9, image=(120, 120), stride=24)
    assert (solved.width, solved.height) == (96, 96)


def test_nine_patches_cost_nine_times_one() -> None:
    branch = Branch(name="image", backbone=SMALL, views=("image",))

    def system(*operations: Operation) -> System:
        preprocess = Preprocess(views=(View(name="image", operations=operations),))
        return System(name="patched", preprocess=preprocess, branches=(branch,), head=Linear())

    nine, one = system(Resize(width=96, height=96), Patches(rows=3, columns=3)), system(Resize(width=32, height=32))
    assert nine.preprocess.shapes == {"image": (9, 32, 32, 3)}
    # The head sees the mean of the nine.
    many, single = count_system(nine).by_operator, count_system(one).by_operator
    assert many == {operator: macs * (1 if operator == "linear" else 9) for operator, macs in single.items()}
    for convention in CONVENTIONS:
        assert count_system(nine, convention).macs == pytest.approx(9 * count_system(one, convention).macs, rel=0.01)


def test_a_system_costs_all_its_views_in_each_convention() -> None:
    system = one_backbone(SMALL, 64, 64)
    strict, pytorch, aten = (count_system(system, convention) for convention in CONVENTIONS)
    assert [cost.convention for cost in (strict, pytorch, aten)] == list(CONVENTIONS)
    assert len({strict.macs, pytorch.macs, aten.macs}) == 3
    assert strict.parameters == pytorch.parameters == aten.parameters
    assert strict.input_sizes == aten.input_sizes == {"image": (1, 64, 64, 3)}
