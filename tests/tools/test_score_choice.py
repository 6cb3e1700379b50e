"""The best, the worst, the good enough: what ``edgeiqa score`` shows of many scores, and what they are together."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edgeiqa.runtime.errors import UsageError
from edgeiqa.runtime.scorer import Score
from edgeiqa.tools.score_choice import Choice, Summary, choose, summarise
from hypothesis import given
from hypothesis import strategies as st

from .command import edgeiqa, require_refusal
from .grey import FLOAT32, light_bundle, save_grey, score_of, scored

# Few values, so that many are equal; a path is named twice at times.
VALUES = st.one_of(st.none(), st.sampled_from([-3.5, 0.0, 20.0, 20.0 + 1e-12, 50.0, 100.0]))
SCORES = st.lists(st.builds(lambda value, path: Score(value, path=path), VALUES, st.sampled_from("abcdé")), max_size=14)
LIMITS = st.sampled_from([-4.0, -3.5, 0.0, 20.0, 50.0, 100.0, 101.0])
CHOICES = st.one_of(
    st.builds(Choice, order=st.sampled_from(["input", "score", "path"])),
    st.builds(Choice, order=st.sampled_from(["input", "score", "path"]), threshold=LIMITS, invert=st.booleans()),
    st.builds(Choice, best=st.integers(1, 16), threshold=st.one_of(st.none(), LIMITS)),
    st.builds(Choice, worst=st.integers(1, 16), threshold=st.one_of(st.none(), LIMITS)),
)


def is_better(one: float, other: float, higher: bool) -> bool:
    return one > other if higher else one < other


def brute_force(scores: list[Score], choice: Choice, higher: bool) -> list[Score]:
    """What is shown, by comparing each with each."""
    picked: list[tuple[int, Score]] = []
    for index, score in enumerate(scores):
        everything = choice.best is None and choice.worst is None and choice.threshold is None
        if score.value is None:
            if everything:
                picked.append((index, score))
            continue
        if choice.threshold is not None:
            is_worse = is_better(choice.threshold, score.value, higher)
            if is_worse != choice.invert:
                continue
        picked.append((index, score))

    def comes_before(one: tuple[int, Score], other: tuple[int, Score]) -> bool:
        a, b = one[1], other[1]
        if choice.order == "path" and a.path != b.path:
            return str(a.path) < str(b.path)
        by_score = choice.order == "score" or choice.best is not None or choice.worst is not None
        if by_score and a.value != b.value:
            if a.value is None or b.value is None:
                return b.value is None
            return is_better(a.value, b.value, higher) == (choice.worst is None)
        return one[0] < other[0]

    placed: list[Score | None] = [None] * len(picked)
    for one in picked:
        placed[sum(comes_before(other, one) for other in picked if other[0] != one[0])] = one[1]
    ordered = [score for score in placed if score is not None]
    assert len(ordered) == len(picked)
    return ordered[: choice.best or choice.worst or len(ordered)]


@given(SCORES, CHOICES, st.booleans())
def test_what_is_shown_is_what_comparing_each_with_each_shows(scores: list[Score], choice: Choice, up: bool) -> None:
    shown = list(choose(iter(scores), choice, higher_is_better=up))
    # The very same ones: equal scores stay in the order in which they came.
    assert [id(score) for score in shown] == [id(score) for score in brute_force(scores, choice, up)]


@given(SCORES, LIMITS, st.booleans())
def test_a_threshold_and_its_inverse_share_out_all_that_could_be_read(
    scores: list[Score], limit: float, up: bool
) -> None:
    good, bad = (
        list(choose(scores, Choice(threshold=limit, invert=invert), higher_is_better=up)) for invert in (False, True)
    )
    assert sorted(map(id, good + bad)) == sorted(id(score) for score in scores if score.value is not None)
    assert limit not in [score.value for score in bad]


@given(SCORES, st.booleans())
def test_a_summary_is_of_all_that_came_by(scores: list[Score], up: bool) -> None:
    summary = Summary()
    assert [id(score) for score in summarise(iter(scores), summary, higher_is_better=up)] == list(map(id, scores))
    read = [score for score in scores if score.value is not None]
    values = [score.value for score in read if score.value is not None]
    assert (summary.scored, summary.failed) == (len(read), len(scores) - len(read))
    if not read:
        assert summary.best is None and summary.worst is None and math.isnan(summary.mean)
        return
    assert summary.mean == pytest.approx(math.fsum(values) / len(values), abs=1e-9)
    most, least = (max, min) if up else (min, max)
    assert summary.best is next(score for score in read if score.value == most(values))
    assert summary.worst is next(score for score in read if score.value == least(values))


@pytest.mark.parametrize(
    ("values", "higher", "text"),
    [
        ([], True, "0 photographs"),
        ([20.0], True, "1 photograph"),
        ([None], True, "1 photograph; 1 could not be read"),
        ([20.0, None], True, "2 photographs; 1 could not be read"),
        ([20.0, 50.004, 20.0], True, "3 photographs: mean 30.00, best 50.00 (1), worst 20.00 (0)"),
        (
            [20.0, 50.0, None, None],
            False,
            "4 photographs: mean 35.00, best 20.00 (0), worst 50.00 (1); 2 could not be read",
        ),
    ],
)
def test_a_summary_for_people(values: list[float | None], higher: bool, text: str) -> None:
    summary = Summary()
    assert len(list(summarise(scored(*values), summary, higher_is_better=higher))) == len(values)
    assert summary.text() == text


@pytest.mark.parametrize("choice", [Choice(), Choice(threshold=10.0), Choice(threshold=90.0, invert=True)])
def test_in_the_order_of_the_input_a_score_is_shown_before_the_next_is_known(choice: Choice) -> None:
    def one_and_then() -> Iterator[Score]:
        yield Score(50.0, path="a")
        raise ZeroDivisionError

    assert choice.streams
    shown = summarise(one_and_then(), Summary(), higher_is_better=True)
    assert next(choose(shown, choice, higher_is_better=True)).path == "a"


@pytest.mark.parametrize("choice", [Choice(order="score"), Choice(order="path"), Choice(best=1), Choice(worst=1)])
def test_in_another_order_all_have_to_be_known(choice: Choice) -> None:
    assert not choice.streams


# --- the command ------------------------------------------------------------------------------------------------------

LEVELS = {"d": 200, "a": 10, "c": 200, "e": 120, "b": 60}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return light_bundle(tmp_path_factory.mktemp("light"))


@pytest.fixture(scope="module")
def inverse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whose scores the lower ones are better."""
    return light_bundle(tmp_path_factory.mktemp("dark"), higher_is_better=False)


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """In no order, and one that cannot be read among them."""
    folder = tmp_path_factory.mktemp("greys")
    paths = [save_grey(folder / f"{name}.png", level) for name, level in LEVELS.items()]
    broken = folder / "broken.png"
    broken.write_bytes(b"no photograph")
    return [*paths[:2], broken, *paths[2:]]


def order_of(out: str) -> list[str]:
    return [Path(json.loads(line)["path"]).stem for line in out.splitlines()]


@pytest.mark.parametrize(
    ("options", "up", "down"),
    [
        ([], "d a broken c e b", "d a broken c e b"),
        (["--sort", "input"], "d a broken c e b", "d a broken c e b"),
        (["--sort", "score"], "d c e b a broken", "a b e d c broken"),
        (["--sort", "path"], "a b broken c d e", "a b broken c d e"),
        (["--best", 2], "d c", "a b"),
        (["--worst", 2], "a b", "d c"),
        (["--best", 99], "d c e b a", "a b e d c"),
        (["--threshold", 40], "d c e", "a b"),
        (["--threshold", 40, "--invert"], "a b", "d c e"),
        (["--threshold", 40, "--sort", "path"], "c d e", "a b"),
        (["--threshold", 40, "--worst", 1], "e", "b"),
        (["--threshold", 40, "--invert", "--best", 1, "--sort", "input"], "b", "e"),
        (["--threshold", 1000], "", "d a c e b"),
    ],
)
def test_what_is_printed(
    bundle: Path, inverse: Path, greys: list[Path], options: list[Any], up: str, down: str
) -> None:
    for used, names in ((bundle, up), (inverse, down)):
        ran = edgeiqa("score", *greys, "--bundle", used, *options, "--json")
        assert order_of(ran.out) == names.split()
        for line in ran.lines:
            if line["error"] is None:
                expected = score_of(LEVELS[Path(line["path"]).stem])
                assert line["score"] == pytest.approx(expected, abs=FLOAT32)
        # One that is not shown for want of a score is said, and the exit status tells of it in any case.
        said = ran.err.splitlines()
        assert (ran.code, said[-1]) == (1, "1 of 6 photographs could not be read")
        assert ("broken" in names) == (len(said) == 1)
        if "broken" not in names:
            assert said[0].startswith("left out: ") and "broken.png" in said[0]


def test_the_table_shows_the_same_and_all_of_them_in_its_last_line(bundle: Path, greys: list[Path]) -> None:
    ran = edgeiqa("score", *greys, "--bundle", bundle, "--best", 2)
    assert ran.code == 1
    *rows, last = [line for line in ran.out.splitlines() if ".png" in line]
    assert [Path(row.split()[0]).stem for row in rows] == ["d", "c"]
    mean = sum(map(score_of, LEVELS.values())) / 5
    assert last == (
        f"6 photographs: mean {mean:.2f}, best {score_of(200):.2f} ({greys[0]}), "
        f"worst {score_of(10):.2f} ({greys[1]}); 1 could not be read"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--best", 1, "--worst", 1], ["--best and --worst", "one of them"]),
        (["--sort", "score", "--best", 1], ["--sort with --best or --worst", "leave out --sort"]),
        (["--sort", "path", "--worst", 1], ["--sort with --best or --worst", "leave out --sort"]),
        (["--invert"], ["--invert without --threshold", "--threshold SCORE"]),
        (["--threshold", "nan"], ["--threshold nan", "a finite score"]),
        (["--threshold", "inf"], ["--threshold inf", "a finite score"]),
        (["--json", "--csv"], ["--json and --csv", "one of them"]),
        (["--resume", "scores.jsonl", "--json"], ["--resume with --json or --csv", "from the file"]),
        (["--resume", "scores.jsonl", "--csv"], ["--resume with --json or --csv", "from the file"]),
        (["--time-limit", 3], ["--time-limit without --isolate", "add --isolate"]),
        (["--isolate", "--time-limit", 0], ["a time limit of 0 s", "such as 30"]),
        (["--isolate", "--time-limit", -1], ["a time limit of -1 s", "such as 30"]),
        (["--best", 0], ["--best", "0"]),
        (["--worst", 0], ["--worst", "0"]),
        (["--streams", 0], ["--streams", "0"]),
        (["--sort", "size"], ["--sort", "size"]),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_loaded(
    greys: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[Any], words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # It is not the bundle that is complained of, though there is none.
    ran = edgeiqa("score", greys[0], "--bundle", tmp_path / "missing.eiqa", *options)
    require_refusal(ran, *words)
    assert "missing.eiqa" not in ran.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", [{"best": 1, "worst": 1}, {"order": "path", "best": 1}, {"invert": True}])
def test_a_choice_without_sense_cannot_be_made(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Choice(**options)
