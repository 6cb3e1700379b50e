"""Many photographs at once: however many threads and streams work on them, each has the score that it has alone."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from edgeiqa import load
from edgeiqa.runtime.engines.ort import OnnxRuntimeEngine
from edgeiqa.runtime.errors import UsageError
from edgeiqa.runtime.reading import read_views
from edgeiqa.runtime.scorer import Score, Scorer, busy_streams
from numpy.typing import NDArray

from .available import load_or_require_mend
from .bundles import build, encoded, pixels
from .messages import require_message

CPU_ENGINES = ("onnxruntime", "openvino")
# How far a score may move when its sums are shared between threads in another way, in points of 100.
OTHER_THREADS = 1e-3

Loaded = Callable[[str, int, int], Scorer | None]


def processors(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let this process have so many processors."""
    monkeypatch.setattr("edgeiqa.runtime.scorer.available_threads", lambda: count)


# --- how many ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (8, 1)),
        ({"streams": 1}, (8, 1)),
        ({"streams": 2}, (4, 2)),
        ({"streams": 3}, (2, 3)),
        ({"streams": 8}, (1, 8)),
        ({"streams": 9}, (1, 9)),
        ({"threads": 3}, (3, 1)),
        ({"threads": 3, "streams": 4}, (3, 4)),
    ],
)
def test_the_processors_are_divided_between_the_streams(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, Any], expected: tuple[int, int]
) -> None:
    processors(monkeypatch, 8)
    bundle = build(tmp_path / "a.eiqa")
    for scorer in (Scorer(bundle, **options), load(tmp_path / "a.eiqa", **options)):
        assert (scorer.threads, scorer.streams) == expected


@pytest.mark.parametrize("number", [0, -1])
def test_less_than_one_stream_is_refused(tmp_path: Path, number: int) -> None:
    with pytest.raises(UsageError) as caught:
        Scorer(build(tmp_path / "a.eiqa"), streams=number)
    require_message(caught, f"{number} streams", "at least one", "--streams 1")


def test_busy_streams_keep_the_processors_busy_and_are_at_most_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    found, of_four_threads = [], []
    for count in (1, 2, 3, 8, 16, 64):
        processors(monkeypatch, count)
        found.append(busy_streams())
        of_four_threads.append(busy_streams(4))
    assert found == [1, 2, 3, 8, 16, 16]
    assert of_four_threads == [1, 1, 1, 2, 4, 16]


@pytest.mark.parametrize("streams", [1, 3])
def test_graphs_look_at_as_many_photographs_at_once_as_there_are_streams(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, streams: int
) -> None:
    processors(monkeypatch, 6)
    at_once, most, lock = 0, 0, threading.Lock()
    # Nobody passes it before all streams have come.
    together = threading.Barrier(streams, timeout=60)
    infer = OnnxRuntimeEngine._infer

    def count(
        self: OnnxRuntimeEngine, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]
    ) -> dict[str, NDArray[np.float32]]:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        together.wait()
        try:
            return infer(self, batch, outputs)
        finally:
            with lock:
                at_once -= 1

    monkeypatch.setattr(OnnxRuntimeEngine, "_infer", count)
    scorer = Scorer(build(tmp_path / "a.eiqa"), threads=1, streams=streams)
    (tmp_path / "a.png").write_bytes(encoded(pixels()))
    scores = list(scorer.score_many([tmp_path / "a.png"] * 12))
    assert [score.error for score in scores] == [None] * 12
    assert most == streams


# --- the same score ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    """The default bundle in an engine, on threads and streams; loaded once each."""
    made: dict[tuple[str, int, int], Scorer | None] = {}

    def get(engine: str, threads: int, streams: int) -> Scorer | None:
        key = (engine, threads, streams)
        if key not in made:
            made[key] = load_or_require_mend(engine, lambda: load(engine=engine, threads=threads, streams=streams))
        return made[key]

    return get


@pytest.fixture(scope="module")
def photographs(data_root: Path) -> list[Path]:
    """Three of LIVE In the Wild, which lie far apart."""
    return [data_root / "clive" / "images" / name for name in ("10.jpg", "100.jpg", "1000.jpg")]


@pytest.fixture(scope="module")
def on_one_thread(loaded: Loaded, photographs: list[Path]) -> Callable[[str], dict[str, float]]:
    """Each photograph's score by itself, on one thread and one stream of an engine."""
    found: dict[str, dict[str, float]] = {}

    def get(engine: str) -> dict[str, float]:
        scorer = loaded(engine, 1, 1)
        assert scorer is not None
        if engine not in found:
            found[engine] = {str(path): value_of(scorer.score(path)) for path in photographs}
        return found[engine]

    return get


def value_of(score: Score) -> float:
    assert score.value is not None, score.error
    return score.value


@pytest.mark.parametrize(("threads", "streams"), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2)])
@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_a_score_is_the_same_to_the_bit_whatever_is_beside_it(
    loaded: Loaded,
    photographs: list[Path],
    on_one_thread: Callable[[str], dict[str, float]],
    tmp_path: Path,
    engine: str,
    threads: int,
    streams: int,
) -> None:
    scorer = loaded(engine, threads, streams)
    if scorer is None:
        return
    alone = {str(path): scorer.score(path) for path in photographs}
    first, second, third = photographs
    (tmp_path / "broken.jpg").write_bytes(first.read_bytes()[:5000])
    order = [third, first, tmp_path / "broken.jpg", first, second, third, tmp_path / "missing.jpg", second, first]
    scores = list(scorer.score_many(order))
    assert [score.path for score in scores] == [str(path) for path in order]
    for score, path in zip(scores, order, strict=True):
        if path.parent == tmp_path:
            assert score.value is None and score.error is not None and str(path) in score.error
        else:
            assert score == replace(alone[str(path)], path=str(path))
    reference = on_one_thread(engine)
    assert max(reference.values()) - min(reference.values()) > 20
    for name, value in reference.items():
        assert value_of(alone[name]) == pytest.approx(value, abs=OTHER_THREADS)


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_threads_may_share_a_scorer(loaded: Loaded, photographs: list[Path], engine: str, streams: int) -> None:
    scorer = loaded(engine, 1, streams)
    if scorer is None:
        return
    alone = {path: scorer.score(path) for path in photographs}
    together = threading.Barrier(4, timeout=60)

    def score_all(start: int) -> list[tuple[Path, Score]]:
        together.wait()
        return [(path, scorer.score(path)) for path in photographs[start % 3 :] + photographs[: start % 3]]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(score_all, range(4)):
            assert len(found) == 3
            assert all(score == alone[path] for path, score in found)


@pytest.mark.parametrize("streams", [1, 2, 5])
@pytest.mark.parametrize("engine", CPU_ENGINES)
def test_no_thread_gets_the_answer_of_another(tmp_path: Path, engine: str, streams: int) -> None:
    # A small graph, whose answer is the photograph's mean: there is much to mix up in little time.
    bundle = build(tmp_path / "a.eiqa")
    scorer = load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine, threads=1, streams=streams))
    if scorer is None:
        return
    together = threading.Barrier(6, timeout=60)

    def score_greys(first: int) -> None:
        together.wait()
        for level in range(first, 256, 6):
            picture = np.full((8, 8, 3), level, dtype=np.uint8)
            raw = scorer.features(picture)["one"]["score"] if level % 2 else scorer.raw(picture)["one"]
            assert float(raw) == pytest.approx(level / 255, abs=1e-6)
            assert value_of(scorer.score(picture)) == pytest.approx(level / 2.55, abs=1e-4)

    with ThreadPoolExecutor(6) as pool:
        assert len(list(pool.map(score_greys, range(6)))) == 6


# --- how far ahead ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for level in range(0, 250, 10):
        (tmp_path / f"{level:03}.png").write_bytes(encoded(np.full((8, 8, 3), level, dtype=np.uint8)))
    return tmp_path


def closed(scores: Iterator[Score]) -> None:
    scores.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("available", "streams", "workers"), [(1, 1, 2), (3, 1, 4), (2, 4, 5)])
def test_an_endless_list_is_scored_and_read_a_little_ahead(
    monkeypatch: pytest.MonkeyPatch, folder: Path, available: int, streams: int, workers: int
) -> None:
    processors(monkeypatch, available)
    scorer = Scorer(build(folder / "a.eiqa"), threads=1, streams=streams)
    read, taken, lock = 0, 0, threading.Lock()

    def count(*arguments: Any) -> Any:
        nonlocal read
        with lock:
            read += 1
        return read_views(*arguments)

    def endless() -> Iterator[Path]:
        nonlocal taken
        for path in itertools.cycle(sorted(folder.glob("*.png"))):
            taken += 1
            yield path

    monkeypatch.setattr("edgeiqa.runtime.scorer.read_views", count)
    scores = scorer.score_many(endless())
    for index in range(60):
        score = next(scores)
        assert score.path is not None
        assert value_of(score) == pytest.approx(int(Path(score.path).stem) / 2.55, abs=1e-4)
        assert index < read <= taken <= index + 1 + 4 * workers
        # Beside them one that takes the items.
        assert len([t for t in threading.enumerate() if t.name.startswith("edgeiqa")]) <= workers + 1
    closed(scores)


def test_closing_ends_the_work(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    processors(monkeypatch, 1)
    scorer = Scorer(build(folder / "a.eiqa"), threads=1)
    read: list[str] = []
    let_on = threading.Event()

    def wait_after_the_first(path: str, preprocesses: Any) -> Any:
        read.append(path)
        assert path == str(paths[0]) or let_on.wait(60)
        return read_views(path, preprocesses)

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *arguments: Any, **options: Any) -> None:
            # Whoever was at work goes on only now.
            let_on.set()
            super().shutdown(*arguments, **options)

    monkeypatch.setattr("edgeiqa.runtime.scorer.read_views", wait_after_the_first)
    monkeypatch.setattr("edgeiqa.runtime.in_order.ThreadPoolExecutor", Pool)
    paths = sorted(folder.glob("*.png"))
    scores = scorer.score_many(paths)
    assert next(scores).path == str(paths[0])
    closed(scores)
    # Two workers: one more than the processor.
    assert set(read) <= {str(path) for path in paths[:3]} and len(read) == len(set(read))
    assert list(scores) == []


def test_a_mistake_of_the_program_is_not_taken_for_a_broken_photograph(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    def broken(path: str, preprocesses: Any) -> Any:
        if path.endswith("030.png"):
            raise ZeroDivisionError
        return read_views(path, preprocesses)

    monkeypatch.setattr("edgeiqa.runtime.scorer.read_views", broken)
    scores = Scorer(build(folder / "a.eiqa"), threads=1).score_many(sorted(folder.glob("*.png")))
    assert [next(scores).error for _ in range(3)] == [None] * 3
    with pytest.raises(ZeroDivisionError):
        next(scores)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgeiqa")]


@pytest.mark.parametrize(("threads", "streams", "sessions"), [(1, 4, 1), (2, 3, 3), (4, 1, 1)])
def test_streams_of_several_threads_have_sessions_of_their_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, threads: int, streams: int, sessions: int
) -> None:
    made: list[object] = []
    real = onnxruntime.InferenceSession

    def counted(graph: bytes, *arguments: Any, **named: Any) -> Any:
        made.append(graph)
        return real(graph, *arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    scorer = Scorer(build(tmp_path / "a.eiqa"), threads=threads, streams=streams)
    assert len(made) == sessions
    picture = pixels()
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(lambda _: scorer.score(picture), range(40)))
    assert set(scores) == {Scorer(build(tmp_path / "b.eiqa"), threads=threads).score(picture)}
