"""``edgeiqa score --resume``: whatever cuts it off, the file ends as if nothing had, and nothing is scored twice."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from edgeiqa import load
from edgeiqa.runtime.errors import UsageError
from edgeiqa.runtime.scorer import Score
from edgeiqa.tools.score_journal import ScoreJournal, json_line, scorer_name

from ..runtime.bundles import Ingredients, Recipe, build
from .command import edgeiqa, require_refusal, rewritten
from .grey import light_bundle, save_grey, scored, stdin_of, untouched

KEYS = ["path", "score", "members", "spread", "width", "height", "error", "scorer"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """In no order; names of all kinds, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("greys")
    names = ["z.png", "a, b.png", "two\nlines.png", os.fsdecode(b"caf\xe9.png"), "ünï.png", "broken.png", '"q".png']
    paths = [save_grey(folder / name, 30 * index, size=(9 + index, 7)) for index, name in enumerate(names)]
    (folder / "broken.png").write_bytes(b"no photograph")
    return paths


def undisturbed(folder: Path, bundle: Path, paths: list[Path]) -> bytes:
    """The file of a run that nothing cut off."""
    file = folder / "undisturbed.jsonl"
    edgeiqa("score", *paths, "--bundle", bundle, "--resume", file)
    return file.read_bytes()


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_line_a_photograph_in_the_order_of_the_input(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    ran = edgeiqa("score", *greys, "--bundle", bundle, "--resume", tmp_path / "scores.jsonl")
    assert (ran.code, ran.err) == (1, "1 of 7 photographs could not be read\n")
    text = (tmp_path / "scores.jsonl").read_text(encoding="ascii")
    assert text.endswith("\n")
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    assert [list(line) for line in lines] == [KEYS] * 7
    assert {line.pop("scorer") for line in lines} == {scorer_name(load(bundle))}
    assert lines == edgeiqa("score", *greys, "--bundle", bundle, "--json").lines
    # Of the scores themselves nothing is printed: they stand in the file.
    (summary,) = ran.out.splitlines()
    assert summary.startswith("7 photographs: mean 31.37, best 70.59 (") and summary.endswith("; 1 could not be read")


def test_a_photograph_that_is_named_twice_is_scored_once(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    first, second, *_ = greys
    file = tmp_path / "scores.jsonl"
    ran = edgeiqa("score", second, first, second, first, "--bundle", bundle, "--resume", file)
    assert ran.code == 0
    assert file.read_bytes() == undisturbed(tmp_path, bundle, [second, first])
    assert ran.out.startswith("2 photographs: ")


def test_a_finished_file_is_not_scored_again(
    tmp_path: Path, bundle: Path, greys: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_: object) -> Any:
        raise AssertionError(f"{path} was scored")

    monkeypatch.setattr("edgeiqa.runtime.scorer.read_views", refuse)
    file = tmp_path / "scores.jsonl"
    with ScoreJournal(file, load(bundle)) as journal:
        kept = [replace(score, path=str(path)) for score, path in zip(scored(*range(7)), greys, strict=True)]
        assert list(journal.keep(kept)) == kept
    with untouched(file):
        ran = edgeiqa("score", *greys[::-1], greys[0], "--bundle", bundle, "--resume", file)
    assert ran.code == 0
    assert ran.err == f"{file} holds 7 photographs, which are not scored again\n"
    assert ran.out.startswith("7 photographs: mean 3.00, best 6.00 (")


def test_more_photographs_are_added_to_a_finished_file(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    file = tmp_path / "scores.jsonl"
    edgeiqa("score", *greys[:3], "--bundle", bundle, "--resume", file)
    with_three = file.read_bytes()
    ran = edgeiqa("score", greys[3], greys[1], greys[4], "--bundle", bundle, "--resume", file)
    assert ran.code == 0 and f"{file} holds 3 photographs" in ran.err
    assert ran.out.startswith("5 photographs: ")
    assert file.read_bytes().startswith(with_three)
    assert file.read_bytes() == undisturbed(tmp_path, bundle, greys[:5])


def test_what_is_chosen_is_of_old_and_new_ones(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    file = tmp_path / "scores.jsonl"
    edgeiqa("score", greys[6], greys[0], "--bundle", bundle, "--resume", file)
    ran = edgeiqa("score", greys[4], greys[5], "--bundle", bundle, "--resume", file, "--best", 2)
    assert ran.code == 1 and "left out: " in ran.err
    rows = [line.split()[0] for line in ran.out.splitlines() if line.strip().startswith("/")]
    assert rows == [str(greys[6]), str(greys[4])]
    assert len(file.read_bytes().splitlines()) == 4


# --- what was cut off -------------------------------------------------------------------------------------------------


def test_whatever_is_left_of_a_line_the_file_ends_as_if_nothing_had_happened(
    tmp_path: Path, bundle: Path, greys: list[Path]
) -> None:
    whole = undisturbed(tmp_path, bundle, greys)
    ends = [index + 1 for index, byte in enumerate(whole) if byte == 10]
    assert len(ends) == 7
    places = [0, 1, 5, 9, *(end + step for end in (ends[0], ends[3], ends[6]) for step in (-1, 0, 1, 8, 40))]
    for place in sorted({place for place in places if place <= len(whole)}):
        file = tmp_path / "cut.jsonl"
        file.write_bytes(whole[:place])
        ran = edgeiqa("score", *greys, "--bundle", bundle, "--resume", file)
        assert ran.code == 1
        assert file.read_bytes() == whole, place
        held = sum(end <= place for end in ends)
        said = f"{file} holds {held} photographs, which are not scored again\n"
        assert ran.err == (said if held else "") + "1 of 7 photographs could not be read\n"


def test_a_run_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path, bundle: Path) -> None:
    paths = [save_grey(tmp_path / f"{index:02}.png", 5 * index, size=(10 + index, 9)) for index in range(40)]
    paths[20].write_bytes(b"no photograph")
    file = tmp_path / "scores.jsonl"
    # As on one processor, so that it is known how many it takes in advance.
    program = (
        "import edgeiqa.runtime.scorer as scorer\nscorer.available_threads = lambda: 1\n"
        "from edgeiqa.tools.command import main\nmain()"
    )
    options = ["--bundle", bundle, "--resume", file, "--streams", 1]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "score", "-", *map(str, options)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    try:
        assert process.stdin is not None
        # The list does not end: it waits for more in the midst of its work.
        process.stdin.write(b"".join(os.fsencode(path) + b"\n" for path in paths[:30]))
        process.stdin.flush()
        deadline = time.monotonic() + 120
        while not file.exists() or file.read_bytes().count(b"\n") < 20:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        # Meanwhile the file is its own.
        refused = edgeiqa("score", *paths, *options)
        require_refusal(refused, str(file), "another process is writing")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -9
    killed = file.read_bytes()
    lines = killed.count(b"\n")
    assert 20 <= lines <= 30
    ran = edgeiqa("score", *paths, *options)
    assert ran.code == 1
    assert f"{file} holds {lines} photographs" in ran.err
    assert file.read_bytes().startswith(killed)
    assert file.read_bytes() == undisturbed(tmp_path, bundle, paths)


def test_a_disk_that_is_full_leaves_a_file_to_go_on_with(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    whole = undisturbed(tmp_path, bundle, greys)
    file = tmp_path / "scores.jsonl"
    # No file may grow beyond two lines and a bit, as where the disk is full.
    bound = len(b"".join(whole.splitlines(keepends=True)[:2])) + 25
    program = (
        f"import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({bound}, {resource.RLIM_INFINITY}))\n"
        "from edgeiqa.tools.command import main\nmain()"
    )
    arguments = ["score", *greys, "--bundle", bundle, "--resume", file]
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 2 and ran.stderr.startswith("error: ") and "Traceback" not in ran.stderr
    assert file.read_bytes() == whole[:bound]
    assert edgeiqa(*arguments).code == 1
    assert file.read_bytes() == whole


# --- what is refused --------------------------------------------------------------------------------------------------

NOT_SCORES = {
    "text": b"my notes\n",
    "text without an end": b"my notes",
    "one letter": b"x",
    "blank lines": b"\n\n",
    "null": b"null\n",
    "a list": b"[]\n",
    "bytes": b"\xff\xfe\0\0\n",
    "bytes without an end": bytes(range(200)),
    "zeros": bytes(100),
    "other json": b'{"path":"a.png","score":1.0}\n',
    "an object without an end": b'{"photographs": "/srv/photographs", "keep": true}',
    "an object of a path without an end": b'{"path": "/srv/photographs", "keep": true}',
    "deep json": b"[" * 100_000 + b"\n",
    "long numbers": b'{"path":"a","score":1' + b"0" * 5000 + b"}\n",
}


@pytest.mark.parametrize("data", NOT_SCORES.values(), ids=list(NOT_SCORES))
def test_a_file_of_something_else_is_left_as_it_is(
    tmp_path: Path, bundle: Path, greys: list[Path], data: bytes
) -> None:
    file = tmp_path / "mine"
    file.write_bytes(data)
    with untouched(file):
        ran = edgeiqa("score", greys[0], "--bundle", bundle, "--resume", file)
        require_refusal(ran, str(file), "a file that --resume wrote, or a new one", "name another file")


def test_a_file_that_is_scores_only_at_its_beginning_is_left_as_it_is(
    tmp_path: Path, bundle: Path, greys: list[Path]
) -> None:
    whole = undisturbed(tmp_path, bundle, greys)
    first, second, *_ = whole.splitlines(keepends=True)
    json_of_score = json.dumps(edgeiqa("score", greys[0], "--bundle", bundle, "--json").object).encode()
    for data, where in (
        (whole + b"my notes\n", "line 8"),
        (whole + b"my notes", "ends in no line"),
        (first + b"\n" + second, "line 2"),
        (first + json_of_score + b"\n", "line 2"),
        (first.replace(b'"score":', b'"value":') + second, "line 1"),
        (first + second.replace(b'"width":10', b'"width":"ten"'), "line 2"),
        (first + second.replace(b'"width":10', b'"width":10,"more":1'), "line 2"),
    ):
        file = tmp_path / "mine"
        file.write_bytes(data)
        with untouched(file):
            ran = edgeiqa("score", *greys, "--bundle", bundle, "--resume", file)
            require_refusal(ran, str(file), where, "name another file")


def test_a_file_of_another_scorer_is_left_as_it_is(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    file = tmp_path / "scores.jsonl"
    assert edgeiqa("score", greys[0], "--bundle", bundle, "--resume", file).code == 0
    # Of the same name, and other in one number.
    other = rewritten(bundle, tmp_path / "light.eiqa", lambda manifest: manifest["scale"].update(high=101.0))
    precisions = build(tmp_path / "both.eiqa", Recipe(members=(Ingredients(precisions=("fp32", "fp16")),))).path
    by_both = tmp_path / "both.jsonl"
    assert edgeiqa("score", greys[0], "--bundle", precisions, "--resume", by_both).code == 0
    for held, options, words in (
        (file, ["--bundle", other], scorer_name(load(other))),
        (file, ["--bundle", bundle, "--engine", "openvino"], "openvino"),
        (by_both, ["--bundle", precisions, "--precision", "fp16"], "fp16"),
    ):
        with untouched(held):
            ran = edgeiqa("score", *greys, *options, "--resume", held)
            require_refusal(ran, str(held), "line 1 was scored by", words, "name another file, or go on with that")
    # A copy of the bundle is the bundle.
    (tmp_path / "copy.eiqa").write_bytes(bundle.read_bytes())
    assert edgeiqa("score", greys[0], "--bundle", tmp_path / "copy.eiqa", "--resume", file).code == 0


def test_a_file_that_another_process_writes_is_left_to_it(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    file = tmp_path / "scores.jsonl"
    file.write_bytes(undisturbed(tmp_path, bundle, greys)[:-20])
    with file.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with untouched(file):
            ran = edgeiqa("score", *greys, "--bundle", bundle, "--resume", file)
            require_refusal(ran, str(file), "another process is writing", "wait for it")
    assert edgeiqa("score", *greys, "--bundle", bundle, "--resume", file).code == 1
    assert len(file.read_bytes().splitlines()) == 7


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path, bundle: Path, greys: list[Path]) -> None:
    for path in (tmp_path, tmp_path / "none" / "scores.jsonl", tmp_path / ("x" * 300)):
        ran = edgeiqa("score", greys[0], "--bundle", bundle, "--resume", path)
        require_refusal(ran)
    assert not list(tmp_path.iterdir())


# --- the record itself ------------------------------------------------------------------------------------------------


def test_scores_come_back_as_they_were(tmp_path: Path, bundle: Path) -> None:
    scorer = load(bundle)
    scores = [
        Score(0.1 + 0.2, (1e-300, 100.0), 5e-324, 4000, 3000, None, "a\u2028b.png"),
        Score(None, error="b is broken\n; expected more", path=os.fsdecode(b"\xff\n.png")),
        Score(-0.0, (-0.0,), None, 1, 1, None, '"\\'),
    ]
    file = tmp_path / "scores.jsonl"
    with ScoreJournal(file, scorer) as journal:
        assert journal.done == 0
        for score in journal.keep(scores):
            # It is in the file before it is handed on.
            last = json.loads(file.read_bytes().splitlines()[-1])
            assert last == {**json_line(score), "scorer": scorer_name(scorer)}
    with ScoreJournal(file, scorer) as journal:
        assert journal.done == 3
        assert repr(list(journal.kept())) == repr(scores)
        paths = [scores[1].path, "c", scores[0].path, "c", "d"]
        assert list(journal.left(path for path in paths if path is not None)) == ["c", "d"]
        with pytest.raises(UsageError, match="another process"):
            ScoreJournal(file, scorer)


def test_a_list_on_stdin_is_gone_on_with(
    tmp_path: Path, bundle: Path, greys: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scores.jsonl"
    for count in (3, 7):
        stdin_of(monkeypatch, b"\0".join(os.fsencode(path) for path in greys[:count]))
        edgeiqa("score", "-", "--null", "--bundle", bundle, "--resume", file)
    assert file.read_bytes() == undisturbed(tmp_path, bundle, greys)
