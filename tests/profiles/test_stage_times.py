from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.profiles import stage_times
from edgeiqa.profiles.stage_times import measure_stages
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.errors import PhotoError
from edgeiqa.runtime.preprocess import single_view
from edgeiqa.runtime.scorer import Scorer

from ..runtime.bundles import TWO_VIEWS, Ingredients, Recipe, build, encoded, pixels

PHOTO = encoded(pixels())


def test_each_stage_and_each_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = (
        Ingredients(name="one"),
        Ingredients(name="same"),
        Ingredients(name="other", graph="two_views.onnx", preprocess=TWO_VIEWS),
    )
    scorer = Scorer(build(tmp_path / "three.eiqa", Recipe(members=members)), threads=1)
    decoded: list[object] = []

    def count(source, preprocess):  # type: ignore[no-untyped-def]
        decoded.append(preprocess)
        return open_photo(source, preprocess)

    monkeypatch.setattr(stage_times, "open_photo", count)
    ticks: list[int] = []
    seen = measure_stages(scorer, PHOTO, warmup=1, runs=4, between=lambda: ticks.append(1))
    assert len(ticks) == 4
    assert list(seen.graph_by_member) == ["one", "same", "other"]
    for latency in (seen.decode, seen.views, seen.graph, seen.score_map, seen.file_to_score):
        assert (latency.runs, latency.warmup) == (4, 1) and latency.p99_ms is not None
    # Two members share a preprocessing: it is decoded twice a run, not three times.
    assert len(decoded) == 2 + 5 * 2 and len(set(map(repr, decoded))) == 2


def test_one_member_is_the_graph(tmp_path: Path) -> None:
    recipe = Recipe(members=(Ingredients(preprocess=single_view(8, 8)),))
    scorer = Scorer(build(tmp_path / "one.eiqa", recipe), threads=1)
    seen = measure_stages(scorer, PHOTO, warmup=0, runs=2)
    assert seen.graph_by_member == {"one": seen.graph}


def test_a_photograph_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(PhotoError):
        measure_stages(Scorer(build(tmp_path / "one.eiqa"), threads=1), b"nothing", warmup=0, runs=1)
