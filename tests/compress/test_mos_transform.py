"""MOS transforms: even by construction, bounded, and undone exactly by the score map of whoever learned on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.compress.checkpoint import read_record
from edgeiqa.compress.data.dataset import read_csv
from edgeiqa.compress.labelled import LabelledExamples
from edgeiqa.compress.mos_transform import EvenMos, even_transform, resolve
from edgeiqa.compress.teach import MEMBERS, OUT_OF_FOLD, teach
from edgeiqa.compress.teach_records import MemberRecipe
from edgeiqa.runtime.errors import DataError, RecordError
from edgeiqa.runtime.score_map import InversePiecewiseLinear, Sigmoid
from hypothesis import given
from hypothesis import strategies as st

from .grey_planes import fabric, write_photographs
from .taught_planes import PHOTOGRAPHS, RECIPE
from .test_teach import table

ENDS = InversePiecewiseLinear(mos=(0.0, 0.3, 0.7, 1.0), transformed=(0.0, 0.4, 0.6, 1.0))
replace = msgspec.structs.replace


def bell(count: int = 4000) -> Any:
    return np.random.default_rng(0).normal(0.55, 0.12, count).clip(0, 1)


def test_each_piece_holds_as_many_opinions() -> None:
    mos = bell()
    transform = even_transform(mos, pieces=4, most_slope=100.0)
    assert transform.transformed == pytest.approx((0, 0.25, 0.5, 0.75, 1))
    counts, _ = np.histogram(transform.forward(mos), bins=4, range=(0, 1))
    assert counts == pytest.approx(1000, abs=1)


def test_a_uniform_scale_is_left_as_it_is() -> None:
    mos = np.linspace(0, 1, 1001)
    transform = even_transform(mos, pieces=5, most_slope=4.0)
    assert transform.forward(mos) == pytest.approx(mos, abs=1e-12)


@given(
    st.lists(st.floats(0, 1), min_size=40, max_size=200),
    st.integers(2, 4),
    st.floats(1.1, 20),
)
def test_any_opinions_give_a_rising_map_of_bounded_slopes_that_is_undone(
    opinions: list[float], pieces: int, most_slope: float
) -> None:
    mos = np.array(opinions)
    transform = even_transform(mos, pieces=pieces, most_slope=most_slope)
    slopes = np.diff(transform.transformed) / np.diff(transform.mos)
    assert slopes.max() <= most_slope * (1 + 1e-6) and slopes.min() >= 1 / most_slope * (1 - 1e-6)
    assert (transform.mos[0], transform.mos[-1], transform.transformed[0], transform.transformed[-1]) == (0, 1, 0, 1)
    assert transform.apply(transform.forward(mos)) == pytest.approx(mos, abs=1e-9)


def test_what_cannot_be_a_transform() -> None:
    with pytest.raises(DataError, match=r"39 opinions.*fewer pieces"):
        resolve(EvenMos(), np.linspace(0, 1, 39))
    with pytest.raises(DataError, match=r"from \[0.0, 0.9\].*begin both lists"):
        resolve(InversePiecewiseLinear(mos=(0.0, 0.9), transformed=(0.0, 1.0)), bell())
    assert resolve(ENDS, bell()) == ENDS
    for pieces, most_slope in ((1, 4.0), (65, 4.0), (4, 1.0), (4, float("nan"))):
        with pytest.raises(RecordError):
            EvenMos(pieces=pieces, most_slope=most_slope)


def test_a_recipe_names_it() -> None:
    member = RECIPE.members[0]
    for transform in (EvenMos(pieces=3), ENDS):
        text = msgspec.json.encode(replace(member, mos_transform=transform))
        assert msgspec.json.decode(text, type=MemberRecipe).mos_transform == transform
    text = msgspec.json.encode(member).replace(b'"mos_transform":null', b'"mos_transform":{"type":"even","pieces":3}')
    assert msgspec.json.decode(text, type=MemberRecipe).mos_transform == EvenMos(pieces=3)


def test_a_member_learns_transformed_opinions_and_its_map_gives_opinions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photographs(tmp_path / "photographs", PHOTOGRAPHS)
    dataset = read_csv(tmp_path / "photographs" / "mos.csv", tmp_path / "photographs")
    learned: list[Any] = []
    original = LabelledExamples.of

    def of(views: Any, scores: Any, rows: Any, **named: Any) -> LabelledExamples:
        learned.append((scores, rows))
        return original(views, scores, rows, **named)

    monkeypatch.setattr(LabelledExamples, "of", of)
    recipe = replace(RECIPE, members=(replace(RECIPE.members[0], mos_transform=ENDS),))
    teach(recipe, dataset, tmp_path / "run", fabric=fabric())
    ((targets, _),) = learned
    assert targets == pytest.approx(ENDS.forward(dataset.unit_mos))
    assert np.abs(targets - dataset.unit_mos).max() > 0.05
    score_map = read_record(tmp_path / "run" / MEMBERS / recipe.members[0].name).score_map
    inverse, sigmoid = score_map.steps
    assert inverse == ENDS and isinstance(sigmoid, Sigmoid)
    # Cross-fitted scores are opinions again, on the outer scale.
    lines = [line for line in table(tmp_path / "run" / OUT_OF_FOLD) if line["member"]]
    mos, score = (np.array([float(line[name]) for line in lines]) for name in ("mos", "score"))
    assert np.corrcoef(mos, score)[0, 1] > 0.5
    assert np.abs(score - mos).mean() < 25
