from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.engines.engine import available_threads
from edgeiqa.runtime.errors import BundleFormatError, BundleHashError, EngineError, PhotoError, UsageError
from edgeiqa.runtime.manifest import Combine, Mean, Median, Precision, WeightedMean
from edgeiqa.runtime.preprocess import Crop, Preprocess, View, single_view
from edgeiqa.runtime.score_map import Affine, InversePiecewiseLinear, ScoreMap, Sigmoid
from edgeiqa.runtime.scorer import Score, Scorer, choose_artefact, combine_raw, load
from PIL import Image

from .available import ENGINE_NAMES, load_or_require_mend
from .bundles import TWO_VIEWS, Ingredients, Recipe, bake, build, changed, encoded, graph, mean_of, pixels
from .messages import require_message

# The difference that float32 arithmetic in another order makes, in score points of 100.
FLOAT32 = 1e-4
SIGMOID = ScoreMap(steps=(Sigmoid(slope=4.0, centre=0.5, high=100.0),))
BROKEN_LINE = ScoreMap(
    steps=(Affine(scale=2.0, offset=-1.0), InversePiecewiseLinear(mos=(0.0, 60.0, 100.0), transformed=(-1.0, 0.0, 1.0)))
)
HALVED = ScoreMap(steps=(Affine(scale=50.0),))


def members(*maps: ScoreMap) -> tuple[Ingredients, ...]:
    return tuple(Ingredients(f"m{index}", score_map=score_map) for index, score_map in enumerate(maps))


def mean_after_resize(picture: Any, side: int = 8) -> float:
    small = Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
    return float(np.asarray(small).mean() / 255)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_score_is_the_mapped_mean_of_the_view(engine: str, tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=members(SIGMOID)))
    scorer = load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine, threads=1))
    if scorer is None:
        return
    picture = pixels(100, 70, seed=4)
    score = scorer.score(picture)
    expected = 100 / (1 + np.exp(-4 * (mean_after_resize(picture) - 0.5)))
    assert score.value == pytest.approx(expected, abs=FLOAT32)
    assert score.value is not None
    assert score == Score(value=score.value, members=(score.value,), spread=None, width=100, height=70)
    assert scorer.raw(picture)["m0"] == pytest.approx(mean_after_resize(picture), abs=1e-6)
    assert (scorer.engine, scorer.precision, scorer.threads) == (engine, "fp32", 1)
    assert scorer.engine_version


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_members_with_views_of_their_own(engine: str, tmp_path: Path) -> None:
    recipe = Recipe(
        members=(
            Ingredients("whole"),
            Ingredients("both", graph="two_views.onnx", preprocess=TWO_VIEWS),
            Ingredients("again"),
        )
    )
    bundle = build(tmp_path / "a.eiqa", recipe)
    scorer = load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine))
    if scorer is None:
        return
    picture = pixels(33, 21)
    whole = np.asarray(Image.fromarray(picture).resize((8, 8), Image.Resampling.BICUBIC))
    corners = np.stack([picture[y : y + 4, x : x + 4] for y, x in ((0, 0), (0, 29), (17, 0), (17, 29), (8, 14))])
    expected = [whole.mean() / 2.55, mean_of({"whole": whole, "five": corners}) * 100, whole.mean() / 2.55]
    score = scorer.score(picture)
    assert score.members == pytest.approx(expected, abs=FLOAT32)
    assert score.value == pytest.approx(np.mean(expected), abs=FLOAT32)


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (Mean(), lambda scores: sum(scores) / 3),
        (WeightedMean((1.0, 2.0, 5.0)), lambda scores: (scores[0] + 2 * scores[1] + 5 * scores[2]) / 8),
        (Median(), lambda scores: sorted(scores)[1]),
    ],
)
def test_members_are_mapped_each_and_then_combined(combine: Combine, expected: Any, tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=members(SIGMOID, BROKEN_LINE, HALVED), combine=combine))
    picture = pixels(50, 40)
    raw = mean_after_resize(picture)
    line = 2 * raw - 1
    by_hand = [100 / (1 + np.exp(-4 * (raw - 0.5))), 60 + (60 if line < 0 else 40) * line, 50 * raw]
    score = Scorer(bundle).score(picture)
    assert score.members == pytest.approx(by_hand, abs=FLOAT32)
    assert score.value == pytest.approx(expected(by_hand), abs=FLOAT32)
    mean = sum(by_hand) / 3
    population = (sum((one - mean) ** 2 for one in by_hand) / 3) ** 0.5
    assert score.spread == pytest.approx(population, abs=FLOAT32)
    assert len(set(np.round(by_hand, 1))) == 3


def test_members_that_agree_have_no_spread_and_one_member_has_none(tmp_path: Path) -> None:
    two = build(tmp_path / "two.eiqa", Recipe(members=members(SIGMOID, SIGMOID)))
    assert Scorer(two).score(pixels()).spread == 0.0
    one = build(tmp_path / "one.eiqa", Recipe(members=members(SIGMOID)))
    assert Scorer(one).score(pixels()).spread is None


def test_combine_raw_needs_no_engine() -> None:
    manifest, _ = bake(Recipe(members=members(HALVED, ScoreMap(steps=(Affine(scale=100.0),)))))
    artefacts = {member.name: member.artefacts[0] for member in manifest.members}
    assert combine_raw(manifest, artefacts, {"m0": 0.4, "m1": 0.5}) == (35.0, (20.0, 50.0), 15.0)
    # The manifest's order, whatever the mapping's.
    assert combine_raw(manifest, artefacts, {"m1": 9.0, "m0": -1.0}) == (50.0, (0.0, 100.0), 50.0)


def test_every_source_gives_the_same_score(tmp_path: Path) -> None:
    scorer = Scorer(build(tmp_path / "a.eiqa"))
    picture = pixels(50, 40)
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(picture))
    sources = (path, str(path), path.read_bytes(), Image.fromarray(picture), picture)
    scores = [scorer.score(source) for source in sources]
    assert len(set(scores)) == 1
    (many,) = scorer.score_many([path])
    assert many == replace(scores[0], path=str(path))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_features_are_by_member_and_output(engine: str, tmp_path: Path) -> None:
    recipe = Recipe(members=(Ingredients("a", outputs=("score", "features.last")), Ingredients("b")))
    bundle = build(tmp_path / "a.eiqa", recipe)
    scorer = load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine))
    if scorer is None:
        return
    picture = pixels(8, 8)
    features = scorer.features(picture)
    assert {name: list(found) for name, found in features.items()} == {"a": ["score", "features.last"], "b": ["score"]}
    np.testing.assert_allclose(features["a"]["features.last"], picture.mean(axis=(0, 1)), rtol=1e-6)


# --- many photographs -------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(12):
        picture = pixels(20 + index, 15, seed=index)
        (tmp_path / f"{index:02}.png").write_bytes(encoded(picture))
    return tmp_path


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return Scorer(build(tmp_path / "bundle" / "a.eiqa", Recipe(members=members(SIGMOID, HALVED))))


def test_many_are_scored_in_order(folder: Path, scorer: Scorer) -> None:
    paths = sorted(folder.glob("*.png"), reverse=True)
    scores = list(scorer.score_many(paths))
    assert [score.path for score in scores] == [str(path) for path in paths]
    assert [score.width for score in scores] == list(range(31, 19, -1))
    assert [replace(score, path=None) for score in scores] == [scorer.score(path) for path in paths]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6])
def test_any_number_of_photographs(folder: Path, scorer: Scorer, count: int) -> None:
    paths = sorted(folder.glob("*.png"))[:count]
    assert [score.path for score in scorer.score_many(paths)] == [str(path) for path in paths]


def test_one_that_cannot_be_read_is_told_and_passed(folder: Path, scorer: Scorer) -> None:
    (folder / "03.png").write_bytes((folder / "03.png").read_bytes()[:60])
    (folder / "05.png").write_text("no photograph")
    (folder / "11.png").unlink()
    (folder / "07.png").unlink()
    (folder / "07.png").mkdir()
    bad = {"03.png": "cut off", "05.png": "no decoder", "07.png": "a folder", "11.png": "no file"}
    scores = list(scorer.score_many(folder / f"{index:02}.png" for index in range(12)))
    assert len(scores) == 12
    for index, score in enumerate(scores):
        name = f"{index:02}.png"
        assert score.path == str(folder / name)
        if name in bad:
            assert score.error is not None
            assert bad[name] in score.error
            assert "to mend" in score.error
            assert (score.value, score.members, score.spread, score.width, score.height) == (None, (), None, None, None)
        else:
            assert score.error is None
            assert score.value is not None


def test_a_score_does_not_depend_on_its_neighbours(folder: Path, scorer: Scorer) -> None:
    paths = sorted(folder.glob("*.png"))
    alone = {str(path): scorer.score(path).value for path in paths}
    for order in (paths, paths[::-1], paths[3:] + paths[:3], [paths[5]] * 4, paths[::2] + paths[1::2]):
        assert [(score.path, score.value) for score in scorer.score_many(order)] == [
            (str(path), alone[str(path)]) for path in order
        ]


def test_an_endless_stream_is_not_read_ahead_of_without_bound(folder: Path, scorer: Scorer) -> None:
    taken = 0

    def endless() -> Iterator[Path]:
        nonlocal taken
        for path in itertools.cycle(sorted(folder.glob("*.png"))):
            taken += 1
            yield path

    scores = scorer.score_many(endless())
    assert taken == 0
    ahead = 4 * (1 + max(scorer.streams, available_threads()))
    for index in range(30):
        next(scores)
        assert taken <= index + 1 + ahead
    scores.close()  # type: ignore[attr-defined]


def test_an_abandoned_run_leaves_no_thread(folder: Path, scorer: Scorer) -> None:
    before = set(threading.enumerate())
    scores = scorer.score_many(sorted(folder.glob("*.png")))
    next(scores)
    assert set(threading.enumerate()) - before
    scores.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before
    assert list(scores) == []
    # And by an error of the caller's own.
    with pytest.raises(ZeroDivisionError):
        for _ in scorer.score_many(sorted(folder.glob("*.png"))):
            raise ZeroDivisionError
    assert len(list(scorer.score_many(sorted(folder.glob("*.png"))))) == 12


def test_an_error_of_the_stream_of_paths_reaches_the_caller(folder: Path, scorer: Scorer) -> None:
    def broken() -> Iterator[Path]:
        yield folder / "00.png"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(scorer.score_many(broken()))


# --- engines, precisions, threads -------------------------------------------------------------------------------------


def test_an_engine_or_precision_that_the_bundle_does_not_hold(tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(precisions=("fp32", "fp16")),)))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"precision": "int8"}, "onnxruntime in int8 for member one, which holds onnx fp32, onnx fp16"),
        ({"precision": "fp8"}, "fp8"),
        ({"engine": "openvino", "precision": "bf16"}, "openvino in bf16"),
    ]
    for options, got in refused:
        with pytest.raises(UsageError) as caught:
            Scorer(bundle, **options)
        require_message(caught, got, "an artefact of the bundle", "--engine or --precision")
    with pytest.raises(UsageError) as caught:
        Scorer(bundle, engine="tensorflow")
    require_message(caught, "'tensorflow'", "onnxruntime, openvino")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_another_precision_of_the_bundle(tmp_path: Path, precision: Precision) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(precisions=("fp32", "fp16")),)))
    scorer = Scorer(bundle, precision=precision)
    assert scorer.precision == precision
    assert scorer.artefacts["one"].precision == precision


def test_an_engines_own_form_comes_before_one_it_also_reads(tmp_path: Path) -> None:
    manifest, _ = bake(Recipe(members=(Ingredients(openvino=True),)))
    member = manifest.members[0]
    assert choose_artefact(member, "onnxruntime", "fp32").target == "onnx"
    assert choose_artefact(member, "openvino", "fp32").target == "openvino"
    alone = changed(member, artefacts=member.artefacts[:1])
    assert choose_artefact(alone, "openvino", "fp32").target == "onnx"
    backwards = changed(member, artefacts=member.artefacts[::-1])
    assert choose_artefact(backwards, "openvino", "fp32").target == "openvino"
    with pytest.raises(UsageError):
        choose_artefact(changed(member, artefacts=member.artefacts[1:]), "onnxruntime", "fp32")


def test_a_graph_of_openvino_scores_as_the_onnx_it_came_from(tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(openvino=True),)))
    scorer = load_or_require_mend("openvino", lambda: Scorer(bundle, engine="openvino"))
    if scorer is None:
        return
    value = scorer.score(pixels()).value
    assert value == pytest.approx(Scorer(bundle).score(pixels()).value, abs=FLOAT32)


def test_an_engine_is_told_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    from edgeiqa.runtime.engines.ort import OnnxRuntimeEngine

    loaded = OnnxRuntimeEngine._load

    def listen(self: Any, files: Any, precision: Any, threads: Any) -> Any:
        told.append((precision, threads))
        return loaded(self, files, precision, threads)

    monkeypatch.setattr(OnnxRuntimeEngine, "_load", listen)
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(precisions=("fp32", "fp16")),)))
    Scorer(bundle, threads=3)
    Scorer(bundle, precision="fp16", threads=1)
    assert told == [("fp32", 3), ("fp16", 1)]


@pytest.mark.parametrize("threads", [0, -1])
def test_less_than_one_thread_is_refused(tmp_path: Path, threads: int) -> None:
    with pytest.raises(UsageError) as caught:
        Scorer(build(tmp_path / "a.eiqa"), threads=threads)
    require_message(caught, f"{threads} threads", "at least one", "--threads 1")


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_result_that_is_not_finite_is_an_engine_error(engine: str, tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients("one"), Ingredients("two", graph="nan.onnx"))))
    scorer = load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine))
    if scorer is None:
        return
    with pytest.raises(EngineError) as caught:
        scorer.score(pixels())
    require_message(caught, "not finite", "finite numbers", "edgeiqa verify")
    (tmp_path / "a.png").write_bytes(encoded(pixels()))
    (many,) = scorer.score_many([tmp_path / "a.png"])
    assert many.value is None
    assert many.error == str(caught.value)


def test_a_photograph_that_cannot_be_read_raises_where_there_is_one(scorer: Scorer, tmp_path: Path) -> None:
    with pytest.raises(PhotoError):
        scorer.score(tmp_path / "missing.jpg")
    with pytest.raises(PhotoError):
        scorer.raw(np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(PhotoError):
        scorer.features(b"")


def test_a_photograph_that_a_view_refuses(tmp_path: Path) -> None:
    strict = Preprocess(views=(View(name="image", operations=(Crop(width=8, height=8, small="refuse"),)),))
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(preprocess=strict),)))
    (tmp_path / "small.png").write_bytes(encoded(pixels(7, 7)))
    (score,) = Scorer(bundle).score_many([tmp_path / "small.png"])
    assert score.error is not None
    assert "at least 8x8" in score.error


def test_a_graph_that_is_not_what_the_manifest_says_is_not_loaded(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa")
    data = made.path.read_bytes()
    made.path.write_bytes(data.replace(graph("tiny.onnx"), graph("tiny.onnx")[::-1]))
    with pytest.raises(BundleHashError):
        Scorer(made)


def test_a_preprocess_that_is_not_the_graphs_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(preprocess=single_view(16, 16)),)))
    with pytest.raises(EngineError) as caught:
        Scorer(bundle)
    require_message(caught, "uint8 [N, 8, 8, 3]", "uint8 [1, 16, 16, 3]", "export the bundle again")


def test_load_opens_and_loads(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(precisions=("fp32", "fp16")),)))
    scorer = load(tmp_path / "a.eiqa", engine="onnxruntime", precision="fp16", threads=2)
    assert scorer.bundle == Bundle.open(made.path) == made
    assert (scorer.engine, scorer.precision, scorer.threads) == ("onnxruntime", "fp16", 2)
    with pytest.raises(BundleFormatError) as caught:
        load(tmp_path / "missing.eiqa")
    require_message(caught, "not there", "NAME.eiqa")


def test_a_photograph_is_decoded_once_for_members_that_see_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []

    def count(source: Any, preprocess: Preprocess) -> Any:
        opened.append(source)
        return open_photo(source, preprocess)

    bundle = build(tmp_path / "a.eiqa", Recipe(members=members(SIGMOID, HALVED, BROKEN_LINE)))
    made = Scorer(bundle)
    monkeypatch.setattr("edgeiqa.runtime.reading.open_photo", count)
    made.score(io.BytesIO(encoded(pixels())).getvalue())
    assert len(opened) == 1
