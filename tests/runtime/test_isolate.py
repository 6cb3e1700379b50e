"""Photographs read in processes of their own: the same pixels, and one that hangs or crashes costs only itself."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.errors import PhotoError, UsageError
from edgeiqa.runtime.isolate import IsolatedReader, _work
from edgeiqa.runtime.preprocess import Crop, Preprocess, View
from edgeiqa.runtime.reading import read_views
from edgeiqa.runtime.scorer import Score, Scorer
from PIL import Image

from .bundles import TWO_VIEWS, VIEW_8X8, Ingredients, Recipe, build, encoded, pixels
from .messages import require_message
from .photographs import oriented, stored_as

BOTH = (TWO_VIEWS, VIEW_8X8)
# Long for a small photograph on a busy machine, short for a test.
LIMIT_S = 3.0


def children() -> set[int | None]:
    return {process.pid for process in multiprocessing.active_children()}


def workers_of(reader: IsolatedReader) -> list[int]:
    return [worker.process.pid for worker in reader._all if worker.process.pid is not None]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo.png").write_bytes(encoded(stored_as(pixels(50, 40), 6), exif=oriented(6)))
    return tmp_path / "photo.png"


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A path that lets whoever opens it wait, for ever."""
    os.mkfifo(tmp_path / "endless.jpg")
    return tmp_path / "endless.jpg"


@pytest.fixture(scope="module")
def reader() -> Iterator[IsolatedReader]:
    """For what costs no worker."""
    before = children()
    with IsolatedReader(BOTH, limit_s=60.0) as made:
        assert children() == before
        yield made
    assert children() == before


# --- the same answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["path", "text", "bytes", "bytearray", "memoryview", "array", "image"])
def test_its_views_are_those_of_read_views(reader: IsolatedReader, photo: Path, source: str) -> None:
    data = photo.read_bytes()
    sources: dict[str, Any] = {
        **{"path": photo, "text": str(photo)},
        **{"bytes": data, "bytearray": bytearray(data), "memoryview": memoryview(data)},
        **{"array": pixels(50, 40), "image": Image.fromarray(pixels(50, 40))},
    }
    found, expected = reader.read(sources[source]), read_views(photo, BOTH)
    assert (found.width, found.height) == (expected.width, expected.height) == (50, 40)
    assert list(found.views) == list(expected.views)
    for preprocess, views in expected.views.items():
        assert list(found.views[preprocess]) == list(views)
        for name, view in views.items():
            assert found.views[preprocess][name].dtype == np.uint8
            assert np.array_equal(found.views[preprocess][name], view)


def test_a_worker_serves_many_photographs_and_has_its_share_of_memory(reader: IsolatedReader, photo: Path) -> None:
    reader.read(photo)
    (pid,) = workers_of(reader)
    for _ in range(3):
        reader.read(photo)
    assert workers_of(reader) == [pid]
    assert pid != os.getpid()
    if sys.platform == "linux":
        assert resource.prlimit(pid, resource.RLIMIT_AS)[0] == 8 << 30


def test_its_errors_are_those_of_read_views(reader: IsolatedReader, photo: Path, tmp_path: Path) -> None:
    data = photo.read_bytes()
    (tmp_path / "cut.png").write_bytes(data[:60])
    (tmp_path / "text.jpg").write_text("a photograph of a cat")
    (tmp_path / "empty.jpg").touch()
    name = os.fsdecode(b"caf\xe9.jpg")
    bad: list[Any] = [
        *(tmp_path / file for file in ("cut.png", "text.jpg", "empty.jpg", "missing.jpg", "text.jpg/a.jpg", name)),
        *(tmp_path, b"", b"no photograph", data[:60], "nul\0.jpg", np.zeros((4, 4), np.uint8)),
    ]
    for source in bad:
        with pytest.raises(PhotoError) as expected:
            read_views(source, BOTH)
        with pytest.raises(PhotoError) as found:
            reader.read(source)
        assert (found.value.got, found.value.expected, found.value.mend) == (
            expected.value.got,
            expected.value.expected,
            expected.value.mend,
        )
    assert reader.read(photo).width == 50


@pytest.mark.parametrize("limit", [0, 0.0, -1.0, math.nan])
def test_a_limit_that_is_not_positive_is_refused(tmp_path: Path, photo: Path, limit: float) -> None:
    with pytest.raises(UsageError) as caught:
        IsolatedReader(BOTH, limit_s=limit)
    require_message(caught, f"{limit:g} s", "more than 0")
    with pytest.raises(UsageError):
        list(Scorer(build(tmp_path / "a.eiqa")).score_many([photo], isolate_s=limit))


@pytest.mark.parametrize("limit", [3e6, math.inf])
def test_a_limit_without_end_is_a_limit_or_is_refused(photo: Path, limit: float) -> None:
    try:
        with IsolatedReader(BOTH, limit_s=limit) as patient:
            assert patient.read(photo).width == 50
    except UsageError:
        pass


# --- photographs that do harm -----------------------------------------------------------------------------------------


def test_one_that_hangs_is_given_up_at_the_limit(photo: Path, endless: Path) -> None:
    before = children()
    with IsolatedReader(BOTH, limit_s=LIMIT_S) as reader:
        assert reader.read(photo).width == 50
        (first,) = workers_of(reader)
        with pytest.raises(PhotoError) as caught:
            reader.read(endless)
        require_message(caught, f"{endless}, which took longer than 3 s", "a photograph that decodes", "more time")
        assert first not in children()
        assert reader.read(photo).width == 50
        (second,) = workers_of(reader)
        assert second != first
    assert children() == before


def test_one_that_crashes_its_decoder_costs_only_itself(photo: Path, endless: Path) -> None:
    before = children()
    begun, ended = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    widths: list[int] = []

    def read_three(reader: IsolatedReader) -> None:
        widths.append(reader.read(photo).width)
        begun.set()
        try:
            reader.read(endless)
        except PhotoError as error:
            errors.append(error)
        widths.append(reader.read(photo).width)
        ended.set()

    with IsolatedReader(BOTH, limit_s=120.0) as reader:
        thread = threading.Thread(target=read_three, args=(reader,))
        thread.start()
        assert begun.wait(60)
        (worker,) = workers_of(reader)
        os.kill(worker, signal.SIGTERM)
        assert ended.wait(60)
        thread.join()
    (error,) = errors
    assert f"{endless}, which ended the process that decoded it (exit -{int(signal.SIGTERM)})" in str(error)
    assert "leave it out" in str(error)
    assert widths == [50, 50]
    assert children() == before


# Where memory is asked for: for the pixels, and for what the views are cut from.
@pytest.mark.parametrize("where", ["PIL.ImageFile.ImageFile.load_prepare", "edgeiqa.runtime.reading.cut_views"])
def test_one_that_takes_more_memory_than_there_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photo: Path, where: str
) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(photo.read_bytes())

    def ask(*_: object) -> Any:
        raise MemoryError

    def read(source: object, preprocesses: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            if source == str(large):
                patch.setattr(where, ask)
            return read_views(str(source), preprocesses)

    # The worker's own loop, in a thread; this process is left its memory.
    monkeypatch.setattr("edgeiqa.runtime.isolate._bound_memory", lambda: None)
    monkeypatch.setattr("edgeiqa.runtime.isolate.read_views", read)
    here, there = multiprocessing.Pipe()
    thread = threading.Thread(target=_work, args=(there, BOTH), daemon=True)
    thread.start()
    here.send(str(large))
    here.send(str(photo))
    ready, error, after = (here.recv() for _ in range(3))
    here.close()
    thread.join(60)
    assert not thread.is_alive()
    assert ready == "ready"
    assert isinstance(error, PhotoError) and f"{large}, which takes more than 8 GiB" in str(error)
    assert after.width == 50


# --- a scorer's many --------------------------------------------------------------------------------------------------


@pytest.fixture
def scorer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scorer:
    """Of two members with views of their own, on two workers."""
    monkeypatch.setattr("edgeiqa.runtime.scorer.available_threads", lambda: 2)
    recipe = Recipe(members=(Ingredients("whole"), Ingredients("both", graph="two_views.onnx", preprocess=TWO_VIEWS)))
    return Scorer(build(tmp_path / "bundle" / "a.eiqa", recipe), threads=1)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    for index in range(8):
        (tmp_path / f"{index}.png").write_bytes(encoded(pixels(20 + index, 15, seed=index)))
    (tmp_path / "3.png").write_bytes(b"no photograph")
    return [tmp_path / f"{index}.png" for index in range(8)]


def test_isolated_scores_are_the_same_to_the_bit(scorer: Scorer, paths: list[Path]) -> None:
    before = children()
    expected = list(scorer.score_many(paths))
    assert [score.value is None for score in expected] == [index == 3 for index in range(8)]
    scores = scorer.score_many(paths, isolate_s=60.0)
    found = [next(scores)]
    assert 1 <= len(children() - before) <= 2
    found += scores
    assert found == expected
    assert children() == before
    # And a run that is abandoned.
    scores = scorer.score_many(paths, isolate_s=60.0)
    assert next(scores) == expected[0]
    scores.close()  # type: ignore[attr-defined]
    assert children() == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgeiqa")]


def test_scores_go_on_past_one_that_crashes(
    scorer: Scorer, paths: list[Path], endless: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeiqa.runtime.scorer.available_threads", lambda: 1)
    before = children()
    first, last = (replace(scorer.score(path), path=str(path)) for path in paths[:2])
    scores = scorer.score_many([paths[0], endless, paths[1]], isolate_s=120.0)
    assert next(scores) == first
    (worker,) = children() - before
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    killed, after = scores
    assert killed == Score(value=None, error=killed.error, path=str(endless))
    assert killed.error is not None and f"{endless}, which ended" in killed.error and "exit -9" in killed.error
    assert after == last
    assert children() == before


def test_a_view_that_refuses_a_photograph_refuses_it_there_too(tmp_path: Path) -> None:
    strict = Preprocess(views=(View(name="image", operations=(Crop(width=8, height=8, small="refuse"),)),))
    scorer = Scorer(build(tmp_path / "a.eiqa", Recipe(members=(Ingredients(preprocess=strict),))))
    (tmp_path / "small.png").write_bytes(encoded(pixels(7, 7)))
    (here,) = scorer.score_many([tmp_path / "small.png"])
    (isolated,) = scorer.score_many([tmp_path / "small.png"], isolate_s=60.0)
    assert isolated == here
    assert here.error is not None and "at least 8x8" in here.error


# --- programs ---------------------------------------------------------------------------------------------------------

UNGUARDED = """
import sys, edgeiqa
for score in edgeiqa.load(threads=1).score_many(sys.argv[1:], isolate_s=60):
    print(score.error)
"""

SLEEPER = """
import sys, time
from edgeiqa.runtime.isolate import IsolatedReader
from edgeiqa.runtime.preprocess import single_view
if __name__ == "__main__":
    reader = IsolatedReader([single_view(8, 8)], limit_s=60)
    reader.read(sys.argv[1])
    print("read", flush=True)
    time.sleep(600)
"""


def started(folder: Path, program: str, *arguments: object) -> subprocess.Popen[str]:
    (folder / "program.py").write_text(program)
    return subprocess.Popen(
        [sys.executable, str(folder / "program.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    )


def test_a_script_without_a_guard_is_told_what_it_lacks(tmp_path: Path, photo: Path) -> None:
    process = started(tmp_path, UNGUARDED, photo)
    out, err = process.communicate(timeout=300)
    # It is no photograph's fault, so that the run ends.
    assert process.returncode != 0 and out == ""
    last = err.splitlines()[-1]
    assert "EngineError" in last and 'if __name__ == "__main__":' in last and "did not start" in last


def test_workers_do_not_outlive_a_program_that_is_killed(tmp_path: Path, photo: Path) -> None:
    process = started(tmp_path, SLEEPER, photo)
    assert process.stdout is not None
    assert process.stdout.readline() == "read\n"
    process.kill()
    # All that hold the other end have to end before there is an end to read.
    out, _ = process.communicate(timeout=120)
    assert (out, process.returncode) == ("", -9)
