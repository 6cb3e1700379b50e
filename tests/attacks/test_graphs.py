"""Graphs and photographs that harm, in bundles that keep every rule of the format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import BundleFormatError, EngineError, PhotoError
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.verify import verify

from ..runtime.available import ENGINE_NAMES, load_or_require_mend, refused_or_require_mend
from ..runtime.bundles import Ingredients, Recipe, graph, pixels
from ..runtime.messages import require_message
from .forge import forge, put
from .test_archive import png_header


def with_parts(folder: Path, changes: dict[str, bytes], recipe: Recipe | None = None) -> Bundle:
    """A bundle of other parts, with hashes that agree."""
    return Bundle.open(forge(folder, parts=lambda parts: {**parts, **changes}, recipe=recipe))


def relocated(data: bytes, place: str) -> bytes:
    """A graph whose weights lie at another place; protobuf's lengths are made to agree by a name as long."""
    assert len(place) == len("weights.bin")
    assert data.count(b"weights.bin") == 1
    return data.replace(b"weights.bin", place.encode())


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("name", ["external.onnx", "external_in_a_branch.onnx"])
@pytest.mark.parametrize("place", ["weights.bin", "../outs.bin", "/tmp/se.bin"])
def test_a_graph_that_would_read_another_file(
    engine: str, name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file is there, where an engine would look for it.
    (tmp_path / "inside").mkdir()
    for path in (tmp_path / "inside" / "weights.bin", tmp_path / "outs.bin"):
        np.array([1, 2, 3], dtype=np.float32).tofile(path)
    monkeypatch.chdir(tmp_path / "inside")
    bundle = with_parts(tmp_path, {"one.onnx": relocated(graph(name), place)})
    # Refused before an engine sees it, so also where the engine is not installed.
    with pytest.raises(EngineError) as caught:
        Scorer(bundle, engine=engine)
    require_message(caught, "keeps weights in another file", "whole in one file", "export the bundle again")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_weights_beside_the_graph_in_the_bundle_are_no_better(engine: str, tmp_path: Path) -> None:
    weights = np.array([1, 2, 3], dtype=np.float32).tobytes()
    bundle = with_parts(tmp_path, {"one.onnx": graph("external.onnx"), "weights.bin": weights})
    with pytest.raises(EngineError):
        Scorer(bundle, engine=engine)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize(
    "data",
    [graph("tiny.xml"), b"/etc/passwd", b"../../weights.onnx", b"\x08\x0aORTM" + bytes(100), graph("tiny.onnx")[:-40]],
    ids=["another format", "a path", "a climbing path", "onnxruntime's own format", "cut off"],
)
def test_bytes_that_are_no_onnx(engine: str, data: bytes, tmp_path: Path) -> None:
    bundle = with_parts(tmp_path, {"one.onnx": data})
    with pytest.raises(EngineError) as caught:
        Scorer(bundle, engine=engine)
    require_message(caught, "", "an ONNX model, whole in one file")


@pytest.mark.parametrize("name", ["float_input.onnx", "two_views.onnx"])
@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_graph_of_other_inputs(engine: str, name: str, tmp_path: Path) -> None:
    bundle = with_parts(tmp_path, {"one.onnx": graph(name)})
    refused_or_require_mend(engine, lambda: Scorer(bundle, engine=engine), "a graph", "export the bundle again")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_graph_of_another_input_shape(engine: str, tmp_path: Path) -> None:
    def enlarge(data: Any) -> None:
        for operation in data["members"][0]["preprocess"]["views"][0]["operations"]:
            operation["width"] = 4096

    bundle = Bundle.open(forge(tmp_path, manifest=enlarge))
    refused_or_require_mend(
        engine, lambda: Scorer(bundle, engine=engine), "uint8 [N, 8, 8, 3]", "export the bundle again"
    )


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("name", ["nan.onnx", "three_scores.onnx", "score_without_batch.onnx", "fails_to_run.onnx"])
def test_a_graph_that_gives_no_score(engine: str, name: str, tmp_path: Path) -> None:
    bundle = with_parts(tmp_path, {"one.onnx": graph(name)})
    refused_or_require_mend(engine, lambda: Scorer(bundle, engine=engine).score(pixels()), "")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_an_operator_that_no_engine_has(engine: str, tmp_path: Path) -> None:
    bundle = with_parts(tmp_path, {"one.onnx": graph("tiny.onnx").replace(b"ReduceMean", b"RunCommand")})
    refused_or_require_mend(engine, lambda: Scorer(bundle, engine=engine), "refused the graph")


OPENVINO = Recipe(members=(Ingredients(openvino=True),))


@pytest.mark.parametrize(
    "changes",
    [
        {"one.xml": graph("tiny.onnx")},
        {"one.xml": graph("external.onnx")},
        {"one.xml": b""},
        {"one.xml": b"/etc/passwd"},
        {"one.xml": b"\n" + graph("tiny.xml")},
    ],
    ids=["onnx", "onnx with weights elsewhere", "empty", "a path", "a line before"],
)
def test_what_is_no_openvino_graph_is_not_given_to_openvino(changes: dict[str, bytes], tmp_path: Path) -> None:
    bundle = with_parts(tmp_path, changes, OPENVINO)
    with pytest.raises(EngineError) as caught:
        Scorer(bundle, engine="openvino")
    require_message(caught, "an OpenVINO graph of 2 files", "XML, then its weights", "export the bundle again")


def test_an_openvino_graph_without_its_weights(tmp_path: Path) -> None:
    path = forge(tmp_path, manifest=put(["members", 0, "artefacts", 1, "files"], ["one.xml"]), recipe=OPENVINO)
    with pytest.raises(EngineError) as caught:
        Scorer(Bundle.open(path), engine="openvino")
    require_message(caught, "an OpenVINO graph of 1 files")


@pytest.mark.parametrize(
    "changes",
    [
        {"one.bin": b""},
        {"one.bin": graph("tiny.bin")[:-8]},
        {"one.xml": graph("tiny.xml")[:900]},
        {"one.xml": graph("tiny.xml").replace(b'offset="0"', b'offset="18446744073709551615"')},
        {"one.xml": graph("tiny.xml").replace(b'offset="0"', b'offset="1000000"')},
    ],
    ids=["no weights", "weights cut off", "cut off", "an offset that wraps", "an offset outside"],
)
def test_an_openvino_graph_that_reaches_outside_its_weights(changes: dict[str, bytes], tmp_path: Path) -> None:
    bundle = with_parts(tmp_path, changes, OPENVINO)
    refused_or_require_mend("openvino", lambda: Scorer(bundle, engine="openvino"), "refused the graph")


# --- golden photographs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_golden_photograph_that_is_a_bomb(engine: str, tmp_path: Path) -> None:
    bundle = with_parts(tmp_path, {"golden/smooth.png": png_header(60_000, 60_000)})
    scorer = load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine))
    if scorer is None:
        return
    with pytest.raises(PhotoError) as caught:
        verify(scorer)
    require_message(caught, "3600000000", "at most")


def test_a_golden_view_that_is_a_bomb(tmp_path: Path) -> None:
    name = "golden/smooth.png.one.image.png"
    scorer = Scorer(with_parts(tmp_path, {name: png_header(60_000, 60_000)}))
    with pytest.raises(BundleFormatError) as caught:
        verify(scorer)
    require_message(caught, "a golden view", "an RGB PNG of 8x8")
