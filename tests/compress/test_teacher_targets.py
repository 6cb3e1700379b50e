"""What a teacher says of an item: no label leaks into a judgement, and the scores are those of the runtime."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.compress.data.items import Item, cut_item
from edgeiqa.compress.teacher_cache import TeacherCache
from edgeiqa.compress.teacher_fill import fill
from edgeiqa.compress.teacher_members import ScoreTable, Teacher, range_map
from edgeiqa.compress.teacher_targets import Targets, speaking_features, table_targets, targets
from edgeiqa.runtime.errors import DataError
from edgeiqa.runtime.manifest import Median, WeightedMean
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid

from .quick_teachers import SMALL, all_items, items_of, means, member, save_photographs, teacher

MEMBERS = tuple(member(f"fold{fold}", 10 * fold, heldout_fold=fold) for fold in range(3))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    save_photographs(folder, 5)
    return folder


@pytest.fixture(scope="module")
def items(photographs: Path) -> list[Item]:
    return all_items(photographs)


@pytest.fixture(scope="module")
def folds(items: list[Item]) -> dict[str, Any]:
    """The first two photographs of folds 0 and 2, the third of the selection part; no member knows the others."""
    return {items[0].sha256: 0, items[3].sha256: 2, items[6].sha256: "selection"}


@pytest.fixture(scope="module")
def cache(items: list[Item], folds: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> TeacherCache:
    opened = TeacherCache(tmp_path_factory.mktemp("cache") / "cache")
    fill(opened, teacher(*MEMBERS, folds=folds, folds_known=True), items)
    return opened


def said(cache: TeacherCache, who: Teacher, items: list[Item]) -> Targets:
    found = targets(cache, who, items)
    assert found.keys == tuple(item.key for item in items)
    assert found.mean.shape == found.spread.shape == (len(items),)
    assert found.mask.shape == found.scores.shape == (len(items), len(who.members))
    assert np.array_equal(np.isnan(found.scores), ~found.mask)
    assert np.isfinite(found.mean).all() and (found.spread >= 0).all()
    return found


def test_of_a_photograph_that_members_were_trained_on_only_the_one_that_left_it_out_speaks(
    cache: TeacherCache, items: list[Item], folds: dict[str, Any]
) -> None:
    found = said(cache, teacher(*MEMBERS, folds=folds, folds_known=True), items)
    one, none_but_two, everyone = [True, False, False], [False, False, True], [True, True, True]
    # Of each photograph: the whole, a crop, a distorted version.
    assert found.mask.tolist() == [
        *[one, one, everyone],
        *[none_but_two, none_but_two, everyone],
        *[everyone] * 9,
    ]
    assert found.members == ("fold0", "fold1", "fold2")
    view = np.array([means({"image": cut_item(item, SMALL)["image"][None]})[0] for item in items])
    # Member f adds f / 10 to the view's mean; the map is the straight line that keeps [0, 1].
    expected = view[:, None] + np.array([0.0, 0.1, 0.2])
    np.testing.assert_allclose(found.scores[found.mask], expected[found.mask], atol=1e-12)
    added = np.array([0, 0, 0.1, 0.2, 0.2, 0.1, *[0.1] * 9])
    np.testing.assert_allclose(found.mean, view + added, atol=1e-12)
    # The population's standard deviation of 0, .1 and .2.
    apart = np.sqrt(0.02 / 3)
    np.testing.assert_allclose(found.spread, [0, 0, apart, 0, 0, *[apart] * 10], atol=1e-12)


def test_the_same_bytes_under_another_name_are_the_same_photograph(
    cache: TeacherCache, items: list[Item], folds: dict[str, Any], tmp_path: Path
) -> None:
    copy = tmp_path / "renamed.png"
    copy.write_bytes(items[0].path.read_bytes())
    found = said(cache, teacher(*MEMBERS, folds=folds), items_of(copy))
    assert found.mask.tolist() == [[True, False, False]] * 2 + [[True] * 3]


def test_a_fold_that_no_member_left_out_is_refused(
    cache: TeacherCache, items: list[Item], folds: dict[str, Any]
) -> None:
    lacking = teacher(*MEMBERS[:2], folds=folds)
    with pytest.raises(DataError, match="fold 2, which no member of quick held out"):
        targets(cache, lacking, items)
    # Of its distorted version nobody's label is repeated.
    assert said(cache, lacking, [items[5]]).mask.all()
    with pytest.raises(DataError, match="no items"):
        targets(cache, lacking, [])


def test_a_teacher_that_does_not_know_its_folds_is_told_by_the_cache(cache: TeacherCache, items: list[Item]) -> None:
    forgetful = teacher(*MEMBERS)
    assert not forgetful.folds_known
    found = said(cache, forgetful, items)
    assert found.mask[:6].sum(axis=1).tolist() == [1, 1, 3, 1, 1, 3] and found.mask[6:].all()


def test_members_that_the_cache_has_in_different_parts_are_refused(items: list[Item], tmp_path: Path) -> None:
    with TeacherCache(tmp_path / "cache") as opened:
        for fold, one in enumerate(MEMBERS):
            fill(opened, teacher(one, folds={items[0].sha256: fold}), items[:1])
        with pytest.raises(DataError, match=r"in the parts 0, 1, 2"):
            targets(opened, teacher(*MEMBERS), items[:1])


def test_what_is_not_in_the_cache_is_asked_for(cache: TeacherCache, items: list[Item]) -> None:
    with pytest.raises(DataError, match="no member"):
        targets(cache, teacher(member("stranger", 1)), items)


def test_silent_members_need_not_have_been_run(items: list[Item], folds: dict[str, Any], tmp_path: Path) -> None:
    who = teacher(*MEMBERS, folds=folds)
    with TeacherCache(tmp_path / "cache") as opened:
        fill(opened, who, items, only_speakers=True)
        found = said(opened, who, items)
        assert found.mask.sum() == 4 * 1 + 11 * 3
        with pytest.raises(DataError, match="has not spoken"):
            opened.read(MEMBERS[1].key, [items[0].key])


def test_features_come_from_members_that_may_speak(
    cache: TeacherCache, items: list[Item], folds: dict[str, Any]
) -> None:
    who = teacher(*MEMBERS, folds=folds)
    found = said(cache, who, items)
    features = speaking_features(cache, who, found, [5, 0, 2], 0)
    assert {name: values.shape for name, values in features.items()} == {"features.last": (3, 5), "features.0": (3, 3)}
    _, told = MEMBERS[0].run({"image": np.stack([cut_item(items[row], SMALL)["image"] for row in (5, 0, 2)])})
    for name, values in features.items():
        assert np.array_equal(values, told[name].astype(np.float16).astype(np.float32))
    with pytest.raises(DataError, match="fold1 asked of 2 items whose labels it was trained on"):
        speaking_features(cache, who, found, [0, 1, 2], 1)


def test_members_are_combined_as_their_bundle_says(
    cache: TeacherCache, items: list[Item], folds: dict[str, Any]
) -> None:
    weighted = said(cache, teacher(*MEMBERS, folds=folds, combine=WeightedMean((1.0, 1.0, 6.0))), items[5:7])
    np.testing.assert_allclose(weighted.mean, (weighted.scores * [1, 1, 6]).sum(axis=1) / 8)
    median = said(cache, teacher(*MEMBERS, folds=folds, combine=Median()), items[5:7])
    np.testing.assert_allclose(median.mean, median.scores[:, 1])
    # Those that may not speak have no weight.
    alone = said(cache, teacher(*MEMBERS, folds=folds, combine=WeightedMean((1.0, 1.0, 6.0))), items[:1])
    assert alone.mean[0] == alone.scores[0, 0]


def test_scores_are_in_zero_to_one_on_any_outer_scale(cache: TeacherCache, items: list[Item]) -> None:
    sigmoid = ScoreMap(steps=(Sigmoid(slope=3.0, centre=0.4, low=1.0, high=5.0),), low=1.0, high=5.0)
    fitted = replace(MEMBERS[0], score_map=sigmoid, low=1.0, high=5.0)
    worse = replace(fitted, higher_is_better=False)
    raw, _ = cache.read(MEMBERS[0].key, [item.key for item in items[6:]])
    expected = 1 / (1 + np.exp(-3 * (raw - 0.4)))
    np.testing.assert_allclose(said(cache, teacher(fitted), items[6:]).mean, expected, atol=1e-12)
    np.testing.assert_allclose(said(cache, teacher(worse), items[6:]).mean, 1 - expected, atol=1e-12)


def test_raw_scores_far_outside_the_stated_range_are_refused(cache: TeacherCache, items: list[Item]) -> None:
    percent = replace(MEMBERS[0], score_map=range_map(0.0, 0.01), raw_range=(0.0, 0.01))
    with pytest.raises(DataError, match=r"median of 0\.\d+; expected scores in the range 0 to 0.01.*range=LOW,HIGH"):
        targets(cache, teacher(percent), items[6:])
    said(cache, teacher(replace(MEMBERS[0], raw_range=(0.0, 1.0))), items[6:])


def test_a_table_of_scores_speaks_of_whole_photographs_only(photographs: Path, items: list[Item]) -> None:
    whole = items[::3]
    names = [item.path.name for item in whole]
    table = ScoreTable(
        path=Path("mine.csv"), scores={name: 1.0 + place for place, name in enumerate(names)}, score_range=(1.0, 5.0)
    )
    found = table_targets(table, whole[::-1], names[::-1])
    assert found.mean.tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert found.spread.tolist() == [0.0] * 5 and found.mask.all() and found.members == ("mine",)
    for part in items[1:3]:
        with pytest.raises(DataError, match=r"1 crops or distorted photographs.*mine\.csv"):
            table_targets(table, [part], names[:1])
    with pytest.raises(DataError, match=r"names 003\.png, 004\.png: no such photographs among the 3 given"):
        table_targets(table, whole[:3], names[:3])
    fewer = replace(table, scores=dict.fromkeys(names[:2], 2.0))
    with pytest.raises(DataError, match=r"without a score for 002\.png, 003\.png, 004\.png"):
        table_targets(fewer, whole, names)
