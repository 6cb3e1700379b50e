"""What a budget leaves: counts that are foretold, limits, dominance, the compromise, the cache."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
import timm
from edgeiqa.compress import plan_counts
from edgeiqa.compress.input_size import count_system
from edgeiqa.compress.known_accuracy import known_accuracy
from edgeiqa.compress.models import one_backbone
from edgeiqa.compress.plan import Plan, _peak_gmacs_a_second, plan
from edgeiqa.compress.plan_counts import CountCache, cost_law
from edgeiqa.compress.plan_front import PlanRow, compromise, dominates, pareto_front
from edgeiqa.compress.plan_space import BACKBONES, VIEWS, ladder, share_of_crops, share_of_resized, solvable_sizes
from edgeiqa.profiles.budget import Budget, parse_budget
from edgeiqa.profiles.device import Device, FactSource
from edgeiqa.runtime.errors import BudgetError, ModelError, UsageError
from edgeiqa.runtime.manifest import Precision
from hypothesis import given
from hypothesis import strategies as st

SMALL = ("mobilenetv3_small_050", "mobilenetv3_small_100", "test_efficientnet")
IMAGE = (320, 192)


@pytest.fixture(scope="module")
def cache() -> CountCache:
    """Counts of all tests of this file, in memory."""
    return CountCache()


def small_plan(cache: CountCache, budget: str | Budget = "20MMACs", **options: Any) -> Plan:
    limits = parse_budget(budget) if isinstance(budget, str) else budget
    return plan(limits, cache=cache, **({"image": IMAGE, "backbones": SMALL} | options))


# Counts


@pytest.mark.parametrize(
    ("backbone", "sizes"),
    [
        ("mobilenetv3_small_050", [(320, 192), (736, 416)]),
        ("test_efficientnet", [(320, 192), (96, 96)]),
        ("test_convnext2", [(320, 192), (500, 300)]),
        ("test_vit", [(320, 192), (192, 320)]),
    ],
)
def test_a_foretold_count_is_the_count(cache: CountCache, backbone: str, sizes: list[tuple[int, int]]) -> None:
    sounding = cache.sounding(backbone)
    for width, height in sizes:
        cost = count_system(one_backbone(backbone, width, height))
        on_stride = width % sounding.stride == height % sounding.stride == 0
        # Sides that the stride divides leave nothing over; of others a row of positions more or less is computed.
        assert sounding.macs(width * height) == pytest.approx(cost.macs, rel=1e-9 if on_stride else 0.03)
        # Position embeddings are as many as the positions.
        assert sounding.parameters == cost.parameters or not sounding.any_size


def test_a_law_goes_through_its_points() -> None:
    line = cost_law([(10, 105), (20, 205)])
    assert [line(pixels) for pixels in (10, 20, 1000)] == [105, 205, 10_005]
    parabola = cost_law([(pixels, 3 * pixels**2 + 7 * pixels + 5) for pixels in (1, 2, 4)])
    assert parabola(10**6) == 3 * 10**12 + 7 * 10**6 + 5


@pytest.mark.parametrize("view", ["three-scale", "fragments"])
def test_the_cost_of_a_view_is_that_of_its_images(cache: CountCache, view: Any) -> None:
    kind = VIEWS[view]
    macs = cache.count(kind.system("test_efficientnet", 224, 224)).macs
    assert macs == pytest.approx(kind.images * cache.sounding("test_efficientnet").macs(224 * 224), rel=0.005)


# Shares


def test_shares_of_a_photograph() -> None:
    assert share_of_resized((1920, 1080), (3840, 2160)) == 0.25
    assert share_of_resized((4000, 4000), (3840, 2160)) == 1
    # One crop at its native scale; at 1:2 three more quarters of it are seen, at 1:3 five more ninths.
    assert share_of_crops((720, 720), (7200, 7200), (1,)) == pytest.approx(0.01)
    assert share_of_crops((720, 720), (7200, 7200)) == pytest.approx(0.01 * (1 + 3 / 4 + 5 / 9))
    # What lies beyond the photograph is not seen.
    assert share_of_crops((100, 100), (100, 100)) == 1
    assert share_of_crops((100, 100), (200, 100)) == pytest.approx(0.5 + 0.5 / 4)


@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.tuples(st.integers(300, 900), st.integers(300, 900)),
)
def test_a_share_is_one_and_grows_with_the_crop(size: tuple[int, int], image: tuple[int, int]) -> None:
    share = share_of_crops(size, image)
    assert share_of_resized(size, image) - 1e-12 <= share <= 1
    assert share <= share_of_crops((size[0] + 1, size[1]), image) + 1e-12
    assert share <= 3 * share_of_resized(size, image) + 1e-12


def test_sizes_are_of_the_stride_and_within_the_photograph() -> None:
    sizes = ladder((3840, 2160), 32, True)
    assert sizes[0] == (3840, 2160) and (1920, 1088) in sizes and (480, 256) in sizes
    assert all(width <= 3840 and height <= 2160 for width, height in sizes)
    assert all(width % 14 == height % 14 == 0 for width, height in ladder((3840, 2160), 14, False))
    assert solvable_sizes("three-scale", (100, 70), 32) == [(64, 64), (32, 32)]
    assert solvable_sizes("whole", (31, 31), 32) == []


# Budgets


def test_a_budget_that_equals_the_count_keeps_it_and_one_less_drops_it(cache: CountCache) -> None:
    macs = count_system(one_backbone(SMALL[0], 320, 192)).macs
    options = {"backbones": SMALL[:1], "views": ("whole",), "members": (1,), "size": (320, 192)}
    found = small_plan(cache, f"{macs}MACs", **options)
    (row,) = found.rows
    assert (row.macs, row.counted, found.kept, found.dropped, found.recommended) == (macs, True, 3, {}, 0)
    with pytest.raises(BudgetError) as caught:
        small_plan(cache, f"{macs - 1}MACs", **options)
    assert caught.value.exit_code == 1
    for way in ("a smaller input", "a smaller student", "fewer members"):
        assert way in caught.value.mend


def test_bytes_leave_the_precisions_that_fit(cache: CountCache) -> None:
    parameters = cache.sounding(SMALL[0]).parameters
    found = small_plan(cache, f"{2 * parameters}B", backbones=SMALL[:1], views=("whole",), members=(1, 2, 4))
    assert found.rows[0].size_bytes == {"fp16": 2 * parameters, "int8": parameters}
    assert {row.members: list(row.size_bytes) for row in found.others} == {2: ["int8"]}
    sizes = found.considered // 9
    assert (found.kept, found.dropped) == (3 * sizes, {"size_bytes": 6 * sizes})


def test_what_is_considered_is_kept_or_dropped(cache: CountCache) -> None:
    found = small_plan(cache)
    assert found.kept + found.dropped["macs"] == found.considered
    for row in (*found.rows, *found.others):
        assert row.counted and row.macs <= 20_000_000
        assert row.size_bytes == {"fp32": 4 * row.parameters, "fp16": 2 * row.parameters, "int8": row.parameters}
    assert {row.members for row in found.rows} == {1}
    pair = next(row for row in found.others if (row.members, row.view) == (2, "three-scale"))
    assert pair.macs == 2 * count_system(VIEWS["three-scale"].system(pair.backbone, *pair.size)).macs
    assert {(row.members, row.view) for row in found.others} >= {(8, "whole"), (1, "three-scale")}


def test_members_share_a_budget(cache: CountCache) -> None:
    one, eight = (small_plan(cache, members=(count,), views=("whole",), backbones=SMALL[:1]) for count in (1, 8))
    assert max(row.share for row in one.rows) > max(row.share for row in eight.rows)
    assert all(row.parameters == 8 * cache.sounding(SMALL[0]).parameters for row in eight.rows)
    assert eight.recommended is None


def test_a_limit_of_time_is_held_against_the_estimate(cache: CountCache) -> None:
    found = small_plan(cache, "1min", members=(1,), views=("whole",))
    assert {row.latency for row in found.rows} == {"estimated"} and found.dropped == {}
    slowest = max(row.latency_ms for row in found.rows)
    assert "latency_p95_ms" in small_plan(cache, f"{0.9 * slowest:f}ms", members=(1,), views=("whole",)).dropped


def test_measured_times(cache: CountCache) -> None:
    found = small_plan(cache, "8MMACs", members=(1, 2), views=("whole",), backbones=SMALL[:1], measure=True)
    assert {row.latency for row in (*found.rows, *found.others)} == {"measured"}
    assert all(row.latency_ms > 0 for row in found.rows)


def test_a_limit_of_time_is_held_against_what_is_measured(cache: CountCache, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"members": (1,), "views": ("whole",), "backbones": SMALL[:1]}
    free = small_plan(cache, "8MMACs", **options)
    # Slow where the estimate said fast, at all sizes but the smallest.
    smallest = min(row.macs for row in small_plan(cache, "8MMACs", **options).rows)
    largest = max(row.latency_ms for row in free.rows)

    def time_of(system: Any) -> float:
        return largest if cache.count(system).macs <= smallest / 2 else 1000 * largest

    monkeypatch.setattr(cache, "measure_ms", time_of)
    found = small_plan(cache, f"8MMACs,{10 * largest:f}ms", measure=True, **options)
    assert found.dropped["latency_p95_ms"] >= 1
    assert all(row.latency == "measured" and row.latency_ms <= 10 * largest for row in found.rows)
    assert max(row.macs for row in found.rows) < max(row.macs for row in free.rows)
    monkeypatch.setattr(cache, "measure_ms", lambda _: 1000 * largest)
    with pytest.raises(BudgetError, match="over at its own size"):
        small_plan(cache, f"8MMACs,{10 * largest:f}ms", measure=True, **options)


@pytest.mark.parametrize(
    ("precisions", "peaks", "expected"),
    [
        (("fp32", "fp16", "int8"), {"int8": 16.75}, 16_750),
        # Tensor cores compute FP16 and INT8 many times as fast: the peak of FP32 bounds nothing.
        (("fp32", "fp16", "bf16", "int8"), {"fp32": 7.555}, None),
        (("fp32",), {"fp32": 2.0, "int8": 8.0}, 8_000),
        (("fp32", "bf16"), {"fp16": 1.0, "fp32": 0.5}, 1_000),
        ((), {"fp32": 2.0}, 2_000),
        (("fp32",), {}, None),
    ],
)
def test_only_the_fastest_precisions_peak_bounds_a_latency(
    precisions: tuple[Precision, ...], peaks: dict[Precision, float], expected: float | None
) -> None:
    stated = FactSource(source="its data sheet", status="documented")
    given = {"targets": ("onnx",)} | {"precisions": precisions} | {"peak_tmacs": peaks}
    sources = {name: stated for name, fact in given.items() if fact}
    device = Device(name="d", description="d", sources=sources, **given)  # type: ignore[arg-type]
    assert _peak_gmacs_a_second(device) == expected
    assert _peak_gmacs_a_second(None) is None


def test_limits_that_cannot_be_foretold_are_named(cache: CountCache) -> None:
    limits = Budget(name="b", macs=20_000_000, peak_rss_mib=1.0, source="here", status="stated")
    assert small_plan(cache, limits, backbones=SMALL[:1], members=(1,)).unplanned == ("peak_rss_mib",)


def test_a_budget_that_nothing_meets_says_what_is_nearest(cache: CountCache) -> None:
    with pytest.raises(BudgetError, match=r"which none of .* candidates meets; the nearest is") as caught:
        small_plan(cache, "1kMACs")
    assert "kMACs" in caught.value.got and "parameters" in caught.value.got and caught.value.exit_code == 1
    assert caught.value.expected == "at most macs 1 kMACs" and "times a limit" in caught.value.got
    with pytest.raises(BudgetError, match="no input that any of the backbones takes"):
        small_plan(cache, image=(20, 20), views=("whole",))


@pytest.mark.parametrize("options", [{"backbones": ()}, {"members": (0,)}, {"views": ()}, {"image": (0, 9)}])
def test_an_empty_choice(cache: CountCache, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="a plan for photographs of"):
        small_plan(cache, **options)


def test_an_unknown_backbone(cache: CountCache) -> None:
    with pytest.raises(ModelError, match="mobilenetv3_small_050"):
        small_plan(cache, backbones=("mobilenetv3_small_05",))


def test_a_budget_in_another_convention(cache: CountCache) -> None:
    limits = Budget(name="b", macs=10**9, convention="ptflops-aten", source="here", status="stated")
    with pytest.raises(UsageError, match="ptflops-aten"):
        small_plan(cache, limits)


# Dominance


def row(
    parameters: int = 10, share: float = 0.5, top1: float | None = 70.0, macs: int = 5, view: Any = "whole"
) -> PlanRow:
    return PlanRow(
        backbone="b",
        view=view,
        width=64,
        height=64,
        members=1,
        macs=macs,
        counted=True,
        parameters=parameters,
        size_bytes={"fp32": 4 * parameters},
        share=share,
        top1=top1,
        latency_ms=1.0,
    )


def test_dominance() -> None:
    assert dominates(row(parameters=9), row()) and dominates(row(share=0.6), row()) and dominates(row(top1=71.0), row())
    assert not dominates(row(parameters=9, share=0.4), row())
    assert dominates(row(), row(top1=None)) and not dominates(row(top1=None), row())
    # Multiply-adds decide between equals, and nothing else.
    assert dominates(row(macs=4), row()) and not dominates(row(macs=4, share=0.4), row())
    assert dominates(row(share=0.6, macs=6), row())
    assert dominates(row(), row(view="fragments")) and not dominates(row(view="fragments"), row())
    assert not dominates(row(), row())


rows_of_any_kind = st.builds(
    row,
    parameters=st.integers(1, 4),
    share=st.sampled_from([0.1, 0.5, 1.0]),
    top1=st.sampled_from([None, 60.0, 70.0]),
    macs=st.integers(1, 3),
    view=st.sampled_from(["whole", "fragments"]),
)


@given(st.lists(rows_of_any_kind, max_size=12))
def test_the_front_is_what_nothing_dominates(rows: list[PlanRow]) -> None:
    front = pareto_front(rows)
    assert front == [at for at, mine in enumerate(rows) if not any(dominates(other, mine) for other in rows)]
    for at, mine in enumerate(rows):
        assert at in front or any(dominates(rows[better], mine) for better in front)
    backwards = pareto_front(rows[::-1])
    assert front == sorted(len(rows) - 1 - at for at in backwards)


@given(rows_of_any_kind, rows_of_any_kind, rows_of_any_kind)
def test_dominance_is_an_order(a: PlanRow, b: PlanRow, c: PlanRow) -> None:
    assert not dominates(a, a) and not (dominates(a, b) and dominates(b, a))
    assert not (dominates(a, b) and dominates(b, c)) or dominates(a, c)


def test_the_compromise_is_between_the_ends() -> None:
    rows = [row(share=1.0, top1=60.0), row(share=0.1, top1=76.0), row(share=0.01, top1=80.0)]
    assert compromise(rows) == 1
    assert compromise(rows[:1]) == 0
    assert compromise([row(macs=9), row(macs=3)]) == 1
    # A backbone of which nothing is known does not stretch the scale, and is not taken.
    assert compromise([*rows, row(share=0.5, top1=None)]) == 1
    assert compromise([row(share=0.5, top1=None), row(share=0.6, top1=None)]) == 1


# The cache


def test_what_was_counted_is_not_counted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "runs" / "cache.json"
    options: dict[str, Any] = {"backbones": SMALL[:1], "views": ("whole",), "members": (1, 2)}
    first = small_plan(CountCache(path), **options)
    assert first.counted > 0 and list(path.parent.iterdir()) == [path]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("counted again")

    for name in ("count_system", "count_module", "build", "measure_latency"):
        monkeypatch.setattr(plan_counts, name, refuse)
    again = small_plan(CountCache(path), **options)
    assert again.counted == 0
    assert msgspec.structs.replace(again, counted=first.counted, seconds=first.seconds) == first


def test_counts_of_other_versions_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "cache.json"
    CountCache(path).sounding("test_efficientnet")
    stored = json.loads(path.read_text())
    stored["versions"]["timm"] = "0.0.1"
    stored["soundings"]["test_efficientnet"]["parameters"] = 1
    path.write_text(json.dumps(stored))
    cache = CountCache(path)
    assert cache.sounding("test_efficientnet").parameters > 1 and cache.counted == 2
    assert json.loads(path.read_text())["versions"]["timm"] == timm.__version__


@pytest.mark.parametrize("text", ["", "{", "[]", '{"versions": {}, "counts": {"a": {"macs": "b"}}}', "\xff"])
def test_a_broken_cache_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cache.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="not a cache of counts") as caught:
        CountCache(path)
    assert caught.value.mend.startswith(f"rm {path}")


# The tables


def test_every_backbone_is_timms_and_what_is_known_is_of_its_weights() -> None:
    known = known_accuracy()
    assert len(BACKBONES) == len(set(BACKBONES)) >= 30
    for backbone in BACKBONES:
        cfg = timm.get_pretrained_cfg(backbone)
        entry = known.imagenet.backbones.get(backbone)
        assert cfg is not None and (entry is not None) == bool(cfg.has_weights), backbone
        if entry is not None:
            assert entry.weights == cfg.tag and 50 < entry.top1 < 90 and entry.size % 2 == 0
            # A vision transformer's figure is of a linear classifier at another size.
            assert entry.source or entry.size == cfg.input_size[-1], backbone
    for figure in known.quality:
        assert timm.is_model(figure.backbone) and figure.source and figure.conditions
    assert known.top1("resnet18") is None and math.isclose(known.top1("mobilenetv3_large_100") or 0, 75.786)
