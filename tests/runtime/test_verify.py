from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.bundle import Bundle, encode_view, write_bundle
from edgeiqa.runtime.errors import BundleFormatError, BundleHashError, EngineError, PhotoError
from edgeiqa.runtime.manifest import Median
from edgeiqa.runtime.preprocess import DctDecode, single_view
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.verify import VIEW_TOLERANCE, Check, Verification, verify
from PIL import Image

from .available import ENGINE_NAMES, load_or_require_mend
from .bundles import TWO_VIEWS, Ingredients, Recipe, bake, build, changed, encoded, graph, pixels
from .messages import require_message

TWO = Recipe(
    members=(Ingredients("one", openvino=True), Ingredients("two", graph="two_views.onnx", preprocess=TWO_VIEWS)),
    combine=Median(),
)


def failed(verification: Verification) -> list[str]:
    return [check.what for check in verification.checks if not check.passed]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_bundle_verifies_on_every_engine(engine: str, tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", TWO)
    seen = load_or_require_mend(engine, lambda: verify(Scorer(bundle, engine=engine)))
    if seen is None:
        return
    assert seen.passed
    assert (seen.bundle, seen.engine, seen.precision) == ("tiny", engine, "fp32")
    assert seen.engine_version
    assert seen.parts == len(bundle.manifest.parts)
    # For each of two photographs: views and score of two members, and the combined score.
    assert [check.what for check in seen.checks] == [
        f"{photo}: {what}"
        for photo in ("smooth.png", "tall.jpg")
        for what in ("one: views", "one: score", "two: views", "two: score", "combined score")
    ]
    assert {check.unit for check in seen.checks} == {"grey levels", "score points"}
    assert all(check.difference == 0 for check in seen.checks if check.unit == "grey levels")
    assert all(check.difference < 1e-4 for check in seen.checks if check.unit == "score points")


def test_a_scaled_decode_verifies(tmp_path: Path) -> None:
    member = Ingredients(preprocess=single_view(8, 8, decode=DctDecode()))
    recipe = Recipe(members=(member,), photos={"a.jpg": encoded(pixels(80, 64), "JPEG")})
    assert verify(Scorer(build(tmp_path / "a.eiqa", recipe))).passed


def rewritten(path: Path, change: Any, recipe: Recipe = TWO) -> Bundle:
    """A bundle whose manifest and parts were changed, with hashes that agree."""
    manifest, parts = bake(recipe)
    manifest, parts = change(manifest, parts)
    return write_bundle(path, manifest, parts)


def first_artefact(manifest: Any, **fields: Any) -> Any:
    member = manifest.members[0]
    artefacts = tuple(changed(artefact, **fields) for artefact in member.artefacts)
    return changed(manifest, members=(changed(member, artefacts=artefacts), *manifest.members[1:]))


def test_a_tampered_golden_raw_score_does_not_pass(tmp_path: Path) -> None:
    def tamper(manifest: Any, parts: Any) -> Any:
        first, second = manifest.members[0].artefacts[0].golden_raw
        return first_artefact(manifest, golden_raw=(first + 0.01, second)), parts

    seen = verify(Scorer(rewritten(tmp_path / "a.eiqa", tamper)))
    assert not seen.passed
    assert failed(seen) == ["smooth.png: one: score"]
    (check,) = (check for check in seen.checks if not check.passed)
    assert check.difference == pytest.approx(1.0, abs=1e-4)
    assert (check.tolerance, check.unit) == (0.01, "score points")


def test_a_tampered_combined_score_does_not_pass(tmp_path: Path) -> None:
    def tamper(manifest: Any, parts: Any) -> Any:
        golden = manifest.golden[1]
        return changed(manifest, golden=(manifest.golden[0], changed(golden, score=golden.score + 0.02))), parts

    seen = verify(Scorer(rewritten(tmp_path / "a.eiqa", tamper)))
    assert failed(seen) == ["tall.jpg: combined score"]


def test_a_tampered_score_map_does_not_pass(tmp_path: Path) -> None:
    manifest, parts = bake(TWO)
    other = changed(manifest.members[0].artefacts[0].score_map, steps=())
    made = write_bundle(tmp_path / "a.eiqa", first_artefact(manifest, score_map=other), parts)
    # Raw scores agree, and so do their maps; what they combine to does not.
    assert failed(verify(Scorer(made))) == ["smooth.png: combined score", "tall.jpg: combined score"]


def test_a_tampered_graph_does_not_pass(tmp_path: Path) -> None:
    def tamper(manifest: Any, parts: Any) -> Any:
        halved = graph("tiny.onnx").replace(np.float32(1 / 255).tobytes(), np.float32(0.9 / 255).tobytes())
        assert halved != graph("tiny.onnx")
        return manifest, {**parts, "one.onnx": halved}

    seen = verify(Scorer(rewritten(tmp_path / "a.eiqa", tamper)))
    assert failed(seen) == [
        f"{photo}: {what}" for photo in ("smooth.png", "tall.jpg") for what in ("one: score", "combined score")
    ]


@pytest.mark.parametrize(("levels", "passes"), [(VIEW_TOLERANCE, True), (VIEW_TOLERANCE + 1, False)])
def test_views_that_are_cut_otherwise_here(tmp_path: Path, levels: int, passes: bool) -> None:
    def tamper(manifest: Any, parts: Any) -> Any:
        name = manifest.golden[0].views["two"]["five"]
        with Image.open(io.BytesIO(parts[name])) as image:
            view = np.asarray(image).reshape(5, 4, 4, 3).copy()
        view[3, 1, 2, 0] = view[3, 1, 2, 0] + levels if view[3, 1, 2, 0] < 128 else view[3, 1, 2, 0] - levels
        return manifest, {**parts, name: encode_view(view)}

    seen = verify(Scorer(rewritten(tmp_path / "a.eiqa", tamper)))
    (check,) = (check for check in seen.checks if check.what == "smooth.png: two: views")
    assert (check.difference, check.tolerance) == (levels, VIEW_TOLERANCE)
    assert check.passed is passes
    # Of the score one channel of 432 in grey levels is less than the tolerance.
    assert (failed(seen) == []) is passes


def test_a_part_that_is_not_what_the_manifest_says(tmp_path: Path) -> None:
    made = build(tmp_path / "a.eiqa", TWO)
    name = made.manifest.golden[0].views["one"]["image"]
    scorer = Scorer(made)
    view = made.read(name)
    data = made.path.read_bytes()
    at = data.index(view) + len(view) // 2
    made.path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(BundleHashError) as caught:
        verify(scorer)
    require_message(caught, name, "", "copy it again")


def test_a_part_that_no_score_depends_on_is_checked_too(tmp_path: Path) -> None:
    manifest, parts = bake(Recipe())
    made = write_bundle(tmp_path / "a.eiqa", manifest, {**parts, "LICENCE": b"all rights given"})
    scorer = Scorer(made)
    made.path.write_bytes(made.path.read_bytes().replace(b"given", b"taken"))
    with pytest.raises(BundleHashError):
        verify(scorer)


def test_golden_photographs_that_cannot_be_read(tmp_path: Path) -> None:
    def no_photo(manifest: Any, parts: Any) -> Any:
        return manifest, {**parts, manifest.golden[0].source: b"no photograph"}

    with pytest.raises(PhotoError):
        verify(Scorer(rewritten(tmp_path / "a.eiqa", no_photo)))

    def no_view(manifest: Any, parts: Any) -> Any:
        return manifest, {**parts, manifest.golden[0].views["one"]["image"]: b"no view"}

    with pytest.raises(BundleFormatError):
        verify(Scorer(rewritten(tmp_path / "b.eiqa", no_view)))


def test_a_result_that_is_not_finite_raises(tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(graph="nan.onnx"),)))
    with pytest.raises(EngineError):
        verify(Scorer(bundle))


@pytest.mark.parametrize(
    ("difference", "passes"),
    [(0.0, True), (0.5, True), (math.nextafter(0.5, 1), False), (math.nan, False), (math.inf, False)],
)
def test_a_check_passes_within_its_tolerance(difference: float, passes: bool) -> None:
    assert Check("score", difference, 0.5, "score points").passed is passes
