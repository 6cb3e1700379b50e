from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.runtime.errors import RecordError
from edgeiqa.runtime.manifest import (
    SUPPORTED_REQUIREMENTS,
    Combine,
    Manifest,
    Mean,
    Median,
    Member,
    Part,
    ScoreScale,
    WeightedMean,
    requirements,
)
from edgeiqa.runtime.preprocess import Flip, Preprocess, Resize, View
from edgeiqa.runtime.score_map import Isotonic, ScoreMap

from .bundles import VIEW_8X8, Ingredients, Recipe, artefact, bake, changed
from .messages import require_message

TWO = Recipe(members=(Ingredients("one"), Ingredients("two")))


@pytest.mark.parametrize(
    ("combine", "scores", "expected"),
    [
        (Mean(), [10.0, 20.0, 60.0], 30.0),
        (Mean(), [42.0], 42.0),
        (WeightedMean((1.0, 2.0, 1.0)), [10.0, 20.0, 60.0], 27.5),
        (WeightedMean((1e-6, 2e-6, 1e-6)), [10.0, 20.0, 60.0], 27.5),
        # Sums of these would overflow.
        (WeightedMean((1e308, 1e308)), [10.0, 20.0], 15.0),
        (WeightedMean((5e-324, 5e-324)), [10.0, 20.0], 15.0),
        (Median(), [10.0, 60.0, 20.0], 20.0),
        (Median(), [10.0, 60.0, 20.0, 30.0], 25.0),
    ],
)
def test_combinations(combine: Combine, scores: list[float], expected: float) -> None:
    result = combine(np.array(scores))
    assert isinstance(result, float)
    assert result == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weights", [(), (1.0, 0.0), (1.0, -1.0), (math.nan,), (math.inf, 1.0)])
def test_weights_that_are_not_positive_and_finite_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(RecordError) as caught:
        WeightedMean(weights)
    require_message(caught, f"weights {weights}", "positive finite weights")


def test_a_manifest_survives_json() -> None:
    manifest, _ = bake(Recipe(members=(Ingredients("one"), Ingredients("two")), combine=WeightedMean((1.0, 3.0))))
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest


def test_unknown_fields_of_a_later_minor_format_are_passed_over() -> None:
    manifest, _ = bake(Recipe())
    data = msgspec.to_builtins(manifest)
    data["colour_of_the_box"] = "red"
    data["members"][0]["nickname"] = "uno"
    data["members"][0]["artefacts"][0]["energy_mj"] = 3
    data["format"] = "1.9"
    assert msgspec.convert(data, Manifest) == changed(manifest, format="1.9")


def test_unknown_fields_of_what_changes_a_score_are_not() -> None:
    manifest, _ = bake(Recipe())
    for path in (["preprocess"], ["artefacts", 0, "score_map"]):
        data: Any = msgspec.to_builtins(manifest)
        place = data["members"][0]
        for step in path:
            place = place[step]
        place["gamma"] = 2.2
        with pytest.raises(msgspec.ValidationError, match="gamma"):
            msgspec.convert(data, Manifest)


def first_member(**fields: Any) -> Any:
    return lambda manifest: changed(manifest, members=(changed(manifest.members[0], **fields), *manifest.members[1:]))


def first_artefact(**fields: Any) -> Any:
    def change(manifest: Manifest) -> Manifest:
        made = changed(manifest.members[0].artefacts[0], **fields)
        return first_member(artefacts=(made,))(manifest)  # type: ignore[no-any-return]

    return change


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda m: changed(m, name="a b"), "'a b'"),
        (lambda m: changed(m, name=""), "''"),
        (lambda m: changed(m, name=".hidden"), "'.hidden'"),
        (lambda m: changed(m, name="a" * 65), "a" * 65),
        (lambda m: changed(m, name="new\nline"), "new"),
        (lambda m: changed(m, members=()), "0 members"),
        (lambda m: changed(m, members=(m.members[0],) * 2), "['one', 'one']"),
        (lambda m: changed(m, combine=WeightedMean((1.0,))), "1 weights for 2 members"),
        (lambda m: changed(m, parts={}), "one.onnx"),
        (lambda m: changed(m, golden=()), "no golden photograph"),
        (lambda m: changed(m, golden=m.golden[:1]), "2 golden scores"),
        (lambda m: changed(m, golden=(changed(m.golden[0], views={}), m.golden[1])), "golden views []"),
        (lambda m: changed(m, golden=(changed(m.golden[0], source="gone.png"), m.golden[1])), "gone.png"),
        (lambda m: changed(m, scale=ScoreScale(low=0.0, high=50.0)), "(0.0, 100.0)"),
        (lambda m: changed(m, scale=ScoreScale(low=1.0, high=100.0)), "(0.0, 100.0)"),
        (first_member(name="x/y"), "'x/y'"),
        (first_member(artefacts=()), "without artefacts"),
        (first_artefact(golden_raw=(1.0,)), "1 golden scores"),
        (first_artefact(golden_raw=(1.0, math.nan)), "golden raw scores"),
        (first_artefact(golden_tolerance=0.0), "tolerance of 0.0"),
        (first_artefact(golden_tolerance=math.nan), "tolerance of nan"),
        (first_artefact(golden_tolerance=math.inf), "tolerance of inf"),
        (first_artefact(files=()), "files ()"),
        (first_artefact(files=("a", "b", "c")), "files ('a', 'b', 'c')"),
        (first_artefact(files=("elsewhere.onnx",)), "elsewhere.onnx"),
        (first_artefact(outputs=()), "outputs ()"),
        (first_artefact(outputs=("features.last", "score")), "features.last"),
        (first_artefact(score_map=ScoreMap(low=-1.0, high=100.0)), "(-1.0, 100.0)"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(change: Any, got: str) -> None:
    manifest, _ = bake(TWO)
    with pytest.raises(RecordError) as caught:
        change(manifest)
    require_message(caught, got, "", "edgeiqa export")


def test_a_bundle_with_a_flip_says_so_in_requires() -> None:
    manifest, _ = bake(TWO)
    flipped = Preprocess(views=(View(name="image", operations=(Resize(width=8, height=8), Flip())),))
    assert requirements(manifest.members) == ()
    with pytest.raises(RecordError) as caught:
        first_member(preprocess=flipped)(manifest)
    require_message(caught, "of ['flip']", "each of them in requires", "edgeiqa export")
    said = first_member(preprocess=flipped)(changed(manifest, requires=("flip",)))
    assert requirements(said.members) == said.requires == ("flip",)
    assert set(said.requires) <= SUPPORTED_REQUIREMENTS
    # One that needs nothing of what it requires is no worse for it.
    assert changed(manifest, requires=("flip",)).members == manifest.members


def test_a_bundle_with_an_isotonic_map_says_so_in_requires() -> None:
    pieces = ScoreMap(steps=(Isotonic(raw=(0.0, 1.0), score=(20.0, 80.0)),))
    manifest, _ = bake(Recipe())
    (graph,) = manifest.members[0].artefacts
    mapped = first_member(artefacts=(changed(graph, score_map=pieces),))
    with pytest.raises(RecordError) as caught:
        mapped(manifest)
    require_message(caught, "requires [] with views or score maps of ['isotonic']", "each of them in requires")
    said = mapped(changed(manifest, requires=("isotonic",)))
    assert requirements(said.members) == said.requires == ("isotonic",)
    assert set(said.requires) <= SUPPORTED_REQUIREMENTS


def test_artefacts_of_a_member_differ_in_target_precision_or_capability() -> None:
    with pytest.raises(RecordError) as caught:
        Member(name="m", preprocess=VIEW_8X8, artefacts=(artefact(), artefact(["other.onnx"])))
    require_message(caught, "artefacts", "one for each target, precision and capability")
    kinds = (artefact(), artefact(precision="fp16"), artefact(["a.xml", "a.bin"], target="openvino"))
    assert len(Member(name="m", preprocess=VIEW_8X8, artefacts=kinds).artefacts) == 3


@pytest.mark.parametrize(
    ("sha256", "size_bytes"),
    [("", 1), ("0" * 63, 1), ("G" * 64, 1), ("A" * 64, 1), ("0" * 64 + "\n", 1), ("0" * 64, -1)],
)
def test_a_part_has_a_hash_and_a_size(sha256: str, size_bytes: int) -> None:
    with pytest.raises(RecordError):
        Part(sha256=sha256, size_bytes=size_bytes)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf)])
def test_a_scale_has_a_range(low: float, high: float) -> None:
    with pytest.raises(RecordError) as caught:
        ScoreScale(low=low, high=high)
    require_message(caught, f"[{low}, {high}]", "low < high")
