from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.engines.engine import (
    GraphEngine,
    GraphInput,
    available_threads,
    installed_engines,
    open_engine,
)
from edgeiqa.runtime.engines.onnx_bytes import require_one_file
from edgeiqa.runtime.errors import EngineError, MissingExtraError, UsageError
from edgeiqa.runtime.manifest import Artefact
from numpy.typing import NDArray

from .available import ENGINE_NAMES, load_or_require_mend, refused_or_require_mend
from .bundles import artefact, graph, pixels
from .messages import require_message

IMAGE = {"image": (8, 8, 3)}
SCORE_AND_FEATURES = ("score", "features.last")
PICTURE = pixels(8, 8)


def opened(
    engine: str,
    name: str = "tiny.onnx",
    *,
    inputs: Mapping[str, tuple[int, ...]] = IMAGE,
    record: Artefact | None = None,
    threads: int = 1,
) -> GraphEngine | None:
    record = record or artefact([name])
    files = [graph(file) for file in record.files]
    return load_or_require_mend(engine, lambda: open_engine(engine, record, files, inputs=inputs, threads=threads))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_graph_gives_its_score_and_features(engine: str) -> None:
    made = opened(engine, record=artefact(["tiny.onnx"], outputs=SCORE_AND_FEATURES))
    if made is None:
        return
    results = made.run({"image": PICTURE}, SCORE_AND_FEATURES)
    assert list(results) == list(SCORE_AND_FEATURES)
    assert all(result.dtype == np.float32 for result in results.values())
    assert results["score"].shape == ()
    assert float(results["score"]) == pytest.approx(PICTURE.mean() / 255, abs=1e-6)
    np.testing.assert_allclose(results["features.last"], PICTURE.mean(axis=(0, 1)), rtol=1e-6)
    assert list(made.run({"image": PICTURE})) == ["score"]
    assert (made.name, made.inputs, made.outputs, made.threads) == (engine, IMAGE, SCORE_AND_FEATURES, 1)
    assert made.version


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_views_of_several_images_and_several_views(engine: str) -> None:
    shapes: dict[str, tuple[int, ...]] = {"five": (5, 4, 4, 3), "whole": (8, 8, 3)}
    made = opened(engine, "two_views.onnx", inputs=shapes)
    if made is None:
        return
    five = np.stack([pixels(4, 4, seed=seed) for seed in range(5)])
    expected = (PICTURE.mean() + five.mean()) / 2 / 255
    assert float(made.run({"whole": PICTURE, "five": five})["score"]) == pytest.approx(expected, abs=1e-6)
    assert float(made.run({"five": five, "whole": PICTURE})["score"]) == pytest.approx(expected, abs=1e-6)


def test_an_openvino_graph_runs_on_openvino_alone() -> None:
    record = artefact(["tiny.xml", "tiny.bin"], target="openvino", outputs=SCORE_AND_FEATURES)
    with pytest.raises(EngineError) as caught:
        opened("onnxruntime", record=record)
    require_message(caught, "a graph for openvino", "onnx or tensorrt for onnxruntime", "--engine")
    made = opened("openvino", record=record)
    if made is not None:
        assert float(made.run({"image": PICTURE})["score"]) == pytest.approx(PICTURE.mean() / 255, abs=1e-6)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_results_are_not_written_over_by_the_next_photograph(engine: str) -> None:
    made = opened(engine, record=artefact(["tiny.onnx"], outputs=SCORE_AND_FEATURES))
    if made is None:
        return
    first = made.run({"image": PICTURE}, SCORE_AND_FEATURES)
    before = {name: result.copy() for name, result in first.items()}
    made.run({"image": 255 - PICTURE}, SCORE_AND_FEATURES)
    assert all(np.array_equal(first[name], before[name]) for name in SCORE_AND_FEATURES)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_views_in_any_memory_order_give_the_same(engine: str) -> None:
    made = opened(engine)
    if made is None:
        return
    mirrored = PICTURE[:, ::-1]
    read_only = PICTURE.copy()
    read_only.flags.writeable = False
    plain = made.run({"image": np.ascontiguousarray(mirrored)})["score"]
    assert made.run({"image": mirrored})["score"] == plain
    assert made.run({"image": np.asfortranarray(PICTURE)})["score"] == made.run({"image": read_only})["score"]


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize(
    ("views", "got"),
    [
        ({}, "views []"),
        ({"photo": PICTURE}, "views ['photo']"),
        ({"image": PICTURE, "more": PICTURE}, "views ['image', 'more']"),
        ({"image": PICTURE.astype(np.float32)}, "float32 (8, 8, 3)"),
        ({"image": PICTURE[:7]}, "uint8 (7, 8, 3)"),
        ({"image": PICTURE[None]}, "uint8 (1, 8, 8, 3)"),
    ],
)
def test_views_of_another_shape_are_refused(engine: str, views: Any, got: str) -> None:
    made = opened(engine)
    if made is None:
        return
    with pytest.raises(EngineError) as caught:
        made.run(views)
    require_message(caught, got)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_an_output_that_was_not_declared_is_refused(engine: str) -> None:
    made = opened(engine)
    if made is None:
        return
    with pytest.raises(EngineError) as caught:
        made.run({"image": PICTURE}, ("score", "features.last"))
    require_message(caught, "['features.last']", "score")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "got"),
    [
        ("tiny.onnx", {"photo": (8, 8, 3)}, ("score",), "inputs ['image']"),
        ("tiny.onnx", {"image": (8, 8, 3), "more": (8, 8, 3)}, ("score",), "inputs ['image']"),
        ("two_views.onnx", {"whole": (8, 8, 3)}, ("score",), "inputs ['five', 'whole']"),
        ("tiny.onnx", IMAGE, ("score", "scene"), "outputs ['features.last', 'score']"),
        ("tiny.onnx", {"image": (16, 16, 3)}, ("score",), "uint8 [N, 8, 8, 3]"),
        ("tiny.onnx", {"image": (5, 8, 8, 3)}, ("score",), "uint8 [N, 8, 8, 3]"),
        ("float_input.onnx", IMAGE, ("score",), "not uint8 [N, 8, 8, 3]"),
    ],
)
def test_a_graph_that_is_not_as_stated_is_refused_when_it_is_loaded(
    engine: str, name: str, inputs: Any, outputs: tuple[str, ...], got: str
) -> None:
    record = artefact([name], outputs=outputs)
    refused_or_require_mend(
        engine,
        lambda: open_engine(engine, record, [graph(name)], inputs=inputs, threads=1),
        got,
        "export the bundle again",
    )


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("nan.onnx", "score of"),
        ("three_scores.onnx", "{'score': (1, 3)}"),
        ("score_without_batch.onnx", "{'score': ()}"),
        # OpenVINO sees by the shapes alone that this one cannot run, and refuses to load it.
        ("fails_to_run.onnx", "the graph"),
    ],
)
def test_a_result_that_is_no_score_is_an_engine_error(engine: str, name: str, got: str) -> None:
    def load_and_run() -> object:
        made = open_engine(engine, artefact([name]), [graph(name)], inputs=IMAGE, threads=1)
        return made.run({"image": PICTURE})

    refused_or_require_mend(engine, load_and_run, got)


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("data", [b"not a graph", graph("tiny.onnx")[:200], graph("tiny.onnx") + b"\x07"])
def test_what_is_no_graph_is_refused(engine: str, data: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        open_engine(engine, artefact(), [data], inputs=IMAGE, threads=1)
    require_message(caught, "")


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_no_bytes_are_no_graph(engine: str) -> None:
    load = lambda: open_engine(engine, artefact(), [b""], inputs=IMAGE, threads=1)  # noqa: E731
    refused_or_require_mend(engine, load, "the graph")


def test_an_unknown_engine() -> None:
    with pytest.raises(UsageError) as caught:
        open_engine("tensorflow", artefact(), [graph("tiny.onnx")], inputs=IMAGE, threads=1)
    require_message(caught, "'tensorflow'", "onnxruntime, openvino")


def test_an_engine_whose_library_is_missing_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "edgeiqa.runtime.engines.ov", raising=False)
    with pytest.raises(MissingExtraError) as caught:
        open_engine("openvino", artefact(), [graph("tiny.onnx")], inputs=IMAGE, threads=1)
    require_message(caught, "no openvino", "to run on openvino", 'pip install "edgeiqa[openvino]"')


def test_installed_engines_are_told_without_loading_them() -> None:
    code = (
        "import sys; from edgeiqa.runtime.engines.engine import installed_engines; print(installed_engines());"
        "assert not {'openvino', 'onnxruntime', 'tensorrt'} & set(sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    found = installed_engines()
    assert told.strip() == str(found)
    assert set(found) == set(ENGINE_NAMES)
    modules = {"tensorrt": ("tensorrt", "onnxruntime_ep_nv_tensorrt_rtx")}
    for name, version in found.items():
        here = [module for module in modules.get(name, (name,)) if importlib.util.find_spec(module) is not None]
        assert (version is None) == (not here)


def test_available_threads() -> None:
    assert available_threads() >= 1


def test_what_a_declared_input_takes() -> None:
    declared = GraphInput(True, (None, 8, None, 3))
    assert declared.takes((1, 8, 5, 3))
    assert not declared.takes((1, 9, 5, 3))
    assert not declared.takes((8, 5, 3))
    assert not GraphInput(False, (None, 8, 8, 3)).takes((1, 8, 8, 3))
    assert str(declared) == "uint8 [N, 8, N, 3]"


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message, shorter than 128 bytes."""
    tag = number << 3 | 2
    written = bytes([tag]) if tag < 128 else bytes([tag & 0x7F | 0x80, tag >> 7])
    assert len(content) < 128
    return written + bytes([len(content)]) + content


EXTERNAL = field(13, field(1, b"location"))
IN_GRAPH = {
    "an initializer": field(5, EXTERNAL),
    "only its location": field(5, bytes([14 << 3, 1])),
    "a sparse initializer's values": field(15, field(1, EXTERNAL)),
    "a sparse initializer's indices": field(15, field(2, EXTERNAL)),
    "a sparse constant": field(1, field(5, field(22, field(1, EXTERNAL)))),
    "a list of sparse constants": field(1, field(5, field(23, field(1, EXTERNAL)))),
    "a constant": field(1, field(5, field(5, EXTERNAL))),
    "a list of constants": field(1, field(5, field(10, EXTERNAL))),
    "a branch": field(1, field(5, field(6, field(5, EXTERNAL)))),
    "one of several branches": field(1, field(5, field(11, field(5, EXTERNAL)))),
    "a branch of a branch": field(1, field(5, field(6, field(1, field(5, field(6, field(5, EXTERNAL))))))),
}


@pytest.mark.parametrize("where", IN_GRAPH)
def test_weights_in_another_file_are_found_wherever_they_are_named(where: str) -> None:
    with pytest.raises(EngineError) as caught:
        require_one_file(field(8, b"opset") + field(7, field(2, b"name") + IN_GRAPH[where]))
    require_message(caught, "keeps weights in another file", "whole in one file", "export")


@pytest.mark.parametrize(
    "model",
    [
        field(25, field(7, field(5, field(5, EXTERNAL)))),  # the constant of a function's node
        field(25, field(11, field(5, EXTERNAL))),  # the default of a function's attribute
        field(20, field(1, field(5, EXTERNAL))),  # the graph of a training step's start
        field(20, field(2, field(5, EXTERNAL))),  # and of the step
        field(7, b"") + field(7, field(5, EXTERNAL)),  # a graph in two pieces
    ],
)
def test_weights_in_another_file_are_found_outside_of_the_graph(model: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        require_one_file(model)
    require_message(caught, "keeps weights in another file")


def test_a_name_that_looks_like_such_weights_is_no_such_weights() -> None:
    # A name of the graph is text; whatever its bytes would mean elsewhere.
    require_one_file(field(7, field(2, field(5, EXTERNAL))))


@pytest.mark.parametrize(
    "data",
    [
        b"\x3a",  # a field without its length
        b"\x3a\x05ab",  # shorter than its length
        b"\x3b",  # a group
        b"\x00\x01",  # field number 0
        b"\x80" * 11,  # a number without an end
        b"\x3a\xff\xff\xff\xff\x0f",  # a length of 4 GiB
        b"\x08\x0aORTM" + b"\0" * 8,  # onnxruntime's own format
        b"\x39\x00\x00",  # a fixed number cut off
    ],
)
def test_bytes_that_are_no_onnx_are_refused(data: bytes) -> None:
    with pytest.raises(EngineError) as caught:
        require_one_file(data)
    require_message(caught, "", "an ONNX model, whole in one file")


@pytest.mark.parametrize("name", ["tiny.onnx", "two_views.onnx", "nan.onnx"])
def test_graphs_that_are_whole_pass(name: str) -> None:
    require_one_file(graph(name))


def test_a_photographs_score_does_not_depend_on_the_threads() -> None:
    scores: list[NDArray[np.float32]] = []
    for threads in (1, 2):
        made = opened("onnxruntime", threads=threads)
        assert made is not None
        scores.append(made.run({"image": PICTURE})["score"])
    assert scores[0] == scores[1]
