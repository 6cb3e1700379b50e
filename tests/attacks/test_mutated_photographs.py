"""Files of photographs with damages of every kind: each is answered, and no other photograph notices."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.runtime.preprocess import Crop, DctDecode, Preprocess, Resize, View, single_view
from edgeiqa.runtime.scorer import Scorer

from ..runtime.bundles import Ingredients, Recipe, build
from .mutations import MUTATIONS, mutate, real_files

DAMAGED = 500
GOOD_EVERY = 10
# Members that decode each in a way of its own: whole, at a DCT scale, and as it is stored.
MEMBERS = (
    Ingredients("whole"),
    Ingredients("scaled", preprocess=single_view(8, 8, decode=DctDecode(margin=2.0))),
    Ingredients(
        "stored",
        graph="two_views.onnx",
        preprocess=Preprocess(
            views=(
                View(name="whole", operations=(Resize(width=8, height=8),)),
                View(name="five", operations=(Crop(width=4, height=4, at="five"),)),
            ),
            exif="ignore",
            colour="raw",
            alpha="drop",
        ),
    ),
)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("bundle")
    return Scorer(build(folder / "a.eiqa", Recipe(members=MEMBERS)), threads=1, streams=2)


def test_the_files_are_good_as_they_are(scorer: Scorer, tmp_path: Path) -> None:
    files = real_files()
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    scores = list(scorer.score_many(tmp_path / name for name in files))
    assert [score.error for score in scores] == [None] * len(files)
    # Of the same picture, but for its tone.
    assert all(score.value is not None and 20 < score.value < 80 for score in scores)
    sides = {tuple(sorted((score.width or 0, score.height or 0))) for score in scores}
    assert sides == {(90, 120)}


# Pillow warns of broken metadata and of many pixels.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_every_damaged_photograph_is_answered_and_the_good_ones_do_not_notice(scorer: Scorer, tmp_path: Path) -> None:
    generator = np.random.default_rng(20261129)
    files = real_files()
    good = []
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        good.append(tmp_path / name)
    alone = {path: replace(scorer.score(path), path=str(path)) for path in good}
    order, kinds = [], list(files)
    for index in range(DAMAGED):
        name = kinds[index % len(kinds)]
        path = tmp_path / f"{index:03}-{name}"
        path.write_bytes(mutate(files[name], generator))
        order.append(path)
        if index % GOOD_EVERY == 0:
            order.append(good[index // GOOD_EVERY % len(good)])
    scores = list(scorer.score_many(order))
    assert [score.path for score in scores] == [str(path) for path in order]
    outcomes: Counter[tuple[str, bool]] = Counter()
    for path, score in zip(order, scores, strict=True):
        if path in alone:
            assert score == alone[path]
            continue
        outcomes[path.suffix, score.value is not None] += 1
        if score.value is None:
            assert score.error is not None and "; expected " in score.error and "; to mend: " in score.error
            assert (score.members, score.spread, score.width, score.height) == ((), None, None, None)
        else:
            assert score.error is None and math.isfinite(score.value) and 0 <= score.value <= 100
            assert len(score.members) == 3 and score.width is not None and score.height is not None
    assert outcomes.total() == DAMAGED
    # Some damage is borne and some is not, whatever the kind: or the files were not damaged as they should be.
    for suffix in {Path(name).suffix for name in files}:
        assert min(outcomes[suffix, True], outcomes[suffix, False]) >= 3, outcomes


@pytest.mark.parametrize("mutation", [*MUTATIONS, mutate])
def test_damages_are_by_the_seed_and_leave_something(
    mutation: Callable[[bytes, np.random.Generator], bytes],
) -> None:
    data = bytes(range(256)) * 2
    first, again = (
        [mutation(data, generator) for _ in range(30)] for generator in (np.random.default_rng(3) for _ in range(2))
    )
    assert first == again
    assert len(set(first)) > 20
    assert sum(damaged != data for damaged in first) > 20
    for size in (1, 2, 3):
        generator = np.random.default_rng(size)
        assert all(mutation(data[:size], generator) for _ in range(50))
