"""K-fold ensembles: who judges whom, figures that follow from the tables, and runs that go on to the same files."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import RECORD_NAME, WEIGHTS_NAME, load_checkpoint
from edgeiqa.compress.data.dataset import read_csv
from edgeiqa.compress.data.splits import Split
from edgeiqa.compress.judging import predict
from edgeiqa.compress.labelled import LabelledExamples
from edgeiqa.compress.teach import MEMBERS, OUT_OF_FOLD, REPORT, SELECTION, divide, member_system
from edgeiqa.compress.teach_records import TeachReport
from edgeiqa.compress.teach_results import cross_fitted
from edgeiqa.profiles.fit_score_map import fit_sigmoid
from edgeiqa.profiles.metrics import evaluate
from edgeiqa.runtime.splitmix import permutation

from .grey_planes import planes, write_photographs
from .taught_planes import PHOTOGRAPHS, RECIPE, Watching, run

ROOT = Path(__file__).resolve().parents[2]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def columns(lines: list[dict[str, str]], *names: str) -> list[Any]:
    return [np.array([float(line[name]) for line in lines]) for name in names]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planes")
    write_photographs(folder, PHOTOGRAPHS)
    return folder


class Taught:
    """A run that was not cut off, and what was seen of it."""

    def __init__(self, photographs: Path, folder: Path) -> None:
        self.folder, self.watch = folder, Watching()
        self.learned_from: list[list[str]] = []
        original = LabelledExamples.of

        def of(views: Any, scores: Any, rows: Any, names: Any, keys: Any) -> LabelledExamples:
            self.learned_from.append([names[row] for row in rows])
            return original(views, scores, rows, names, keys)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LabelledExamples, "of", of)
            self.report = run(photographs, folder, watch=self.watch)
        self.split: Split = divide(RECIPE, read_csv(photographs / "mos.csv", photographs))
        self.out_of_fold, self.selection = table(folder / OUT_OF_FOLD), table(folder / SELECTION)

    def of_member(self, name: str) -> list[dict[str, str]]:
        return [line for line in self.out_of_fold if line["member"] == name]


@pytest.fixture(scope="module")
def taught(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Taught:
    return Taught(photographs, tmp_path_factory.mktemp("run") / "teach")


def test_the_folder_of_a_run(taught: Taught) -> None:
    files = {path.relative_to(taught.folder).as_posix() for path in taught.folder.rglob("*") if path.is_file()}
    members = [f"{MEMBERS}/{member.name}/{name}" for member in RECIPE.members for name in (RECORD_NAME, WEIGHTS_NAME)]
    logs = [f"{MEMBERS}/{member.name}/metrics.csv" for member in RECIPE.members]
    assert files == {OUT_OF_FOLD, SELECTION, REPORT, *members, *logs}
    assert msgspec.json.decode((taught.folder / REPORT).read_bytes(), type=TeachReport) == taught.report
    assert [name for name, _ in taught.watch.epochs] == ["two-stages"] * 3 + ["head"] * 3


def test_a_photograph_is_judged_only_by_the_member_that_left_it_out(taught: Taught) -> None:
    parts = [taught.split.selection, *taught.split.folds]
    assert sorted(row for part in parts for row in part) == list(range(PHOTOGRAPHS))
    named = [{f"{row:03}.png" for row in part} for part in parts]
    for member, learned_from in zip(RECIPE.members, taught.learned_from, strict=True):
        left_out, reserved = named[1 + member.heldout_fold], named[0]
        assert set(learned_from) == set().union(*named) - left_out - reserved
        assert {line["image"] for line in taught.of_member(member.name)} == left_out
    assert [line["image"] for line in taught.selection] == sorted(named[0])


def test_a_fold_that_nobody_left_out_has_rows_without_a_member(taught: Taught) -> None:
    alone = [line for line in taught.out_of_fold if line["fold"] == "1"]
    assert [line["image"] for line in alone] == [f"{row:03}.png" for row in taught.split.folds[1]]
    assert {(line["member"], line["raw"], line["score"]) for line in alone} == {("", "", "")}
    assert len(taught.out_of_fold) == PHOTOGRAPHS - len(taught.split.selection)


def test_the_tables_say_the_opinions_as_they_were_given(taught: Taught, photographs: Path) -> None:
    opinions = {line["image"]: float(line["mos"]) for line in table(photographs / "mos.csv")}
    for line in (*taught.out_of_fold, *taught.selection):
        assert float(line["mos"]) == pytest.approx(opinions[line["image"]], abs=1e-9)
        assert len(line["sha256"]) == 64


def test_the_reports_figures_follow_from_the_tables(taught: Taught) -> None:
    report = taught.report
    reserved = taught.selection
    (mos,) = columns(reserved, "mos")
    judged: list[dict[str, str]] = []
    for member, figures in zip(RECIPE.members, report.members, strict=True):
        lines = taught.of_member(member.name)
        judged += lines
        scores, truth = columns(lines, "score", "mos")
        assert figures.out_of_fold == evaluate(scores, truth)
        assert figures.selection == evaluate(columns(reserved, member.name)[0], mos)
        assert (figures.member, figures.fold) == (member.name, member.heldout_fold)
        # It has learned something, or there would be nothing to see here.
        assert figures.out_of_fold.srcc.value > 0.8
    scores, truth = columns(judged, "score", "mos")
    assert report.pooled == evaluate(scores, truth)
    assert report.ensemble == evaluate(columns(reserved, "ensemble")[0], mos)
    for name in ("srcc", "plcc", "rmse"):
        values = [getattr(figures.out_of_fold, name).value for figures in report.members]
        assert report.average[name] == pytest.approx(sum(values) / 2)
    greatest = max(report.members, key=lambda figures: figures.selection.srcc.value)
    assert report.best_member == greatest.member
    assert (report.name, report.training, report.selection) == ("planes", PHOTOGRAPHS - len(reserved), len(reserved))
    both = np.mean(columns(reserved, "two-stages", "head"), axis=0)
    np.testing.assert_allclose(columns(reserved, "ensemble")[0], both, rtol=1e-12)


def test_a_checkpoint_gives_the_scores_of_the_tables(taught: Taught) -> None:
    views, _ = planes(PHOTOGRAPHS)
    for member, figures in zip(RECIPE.members, taught.report.members, strict=True):
        record, network = load_checkpoint(taught.folder / MEMBERS / member.name)
        assert record.system == member_system(member) and record.name == member.name
        assert figures.parameters == sum(parameter.numel() for parameter in network.parameters())
        assert figures.macs > 1e5
        lines = taught.of_member(member.name)
        raw, truth = columns(lines, "raw", "mos")
        rows = np.array([int(line["image"][:3]) for line in lines])
        np.testing.assert_allclose(predict(network, (views,), rows), raw, atol=1e-5)
        # The member's own map is fitted on the whole fold that it left out, and maps the selection part.
        fitted = fit_sigmoid(raw, truth, 0.0, 100.0, fitted_on=record.score_map.fitted_on)
        assert record.score_map == fitted
        reserved = np.array([int(line["image"][:3]) for line in taught.selection])
        said = record.score_map.apply(predict(network, (views,), reserved))
        np.testing.assert_allclose(said, columns(taught.selection, member.name)[0], atol=1e-3)
        assert record.provenance["heldout_fold"] == member.heldout_fold
        assert record.provenance["training_photographs"] == len(taught.learned_from[RECIPE.members.index(member)])
        history = record.provenance["history"]
        assert [line["epoch"] for line in history] == [1, 2, 3]


def test_out_of_fold_scores_are_cross_fitted(taught: Taught) -> None:
    for member in RECIPE.members:
        lines = taught.of_member(member.name)
        raw, mos, scores = columns(lines, "raw", "mos", "score")
        order = np.array(permutation(member.seed, len(lines)))
        for part in range(5):
            judged = order[part::5]
            others = np.array(sorted(set(order.tolist()) - set(judged.tolist())))
            expected = fit_sigmoid(raw[others], mos[others], 0.0, 100.0).apply(raw[judged])
            np.testing.assert_allclose(scores[judged], expected, rtol=1e-9)


def test_no_mapped_score_knows_its_own_opinion() -> None:
    stream = np.random.default_rng(0)
    raw = stream.normal(size=40)
    mos = 1 / (1 + np.exp(-(2 * raw + stream.normal(0, 0.3, 40))))
    before = cross_fitted(raw, mos, RECIPE.members[0], None)
    order = permutation(RECIPE.members[0].seed, 40)
    for row in (0, 7, 23):
        changed = mos.copy()
        changed[row] = 1 - changed[row]
        after = cross_fitted(raw, changed, RECIPE.members[0], None)
        own = [other for other in order if order.index(other) % 5 == order.index(row) % 5]
        others = sorted(set(range(40)) - set(own))
        np.testing.assert_array_equal(after[own], before[own])
        assert (after[others] != before[others]).all()


def test_a_member_that_is_finished_is_passed_over(taught: Taught, photographs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(taught.folder, tmp_path / "run"))
    # The second one is not finished: its record is written last.
    (folder / MEMBERS / "head" / RECORD_NAME).unlink()
    (folder / REPORT).unlink()
    watch = Watching()
    report = run(photographs, folder, watch=watch)
    assert report == taught.report
    assert {name for name, _ in watch.steps} == {"head"}
    assert [text for text in watch.said if "finished" in text] == ["two-stages: finished already"]
    assert same_run(folder, taught.folder)


def test_a_run_that_is_done_writes_the_same_again(taught: Taught, photographs: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(taught.folder, tmp_path / "run"))
    for name in (OUT_OF_FOLD, SELECTION, REPORT):
        (folder / name).unlink()
    watch = Watching()
    assert run(photographs, folder, watch=watch) == taught.report
    assert watch.steps == [] and same_run(folder, taught.folder)


def timeless(path: Path) -> Any:
    """What a file says, less how long it took."""
    if path.name == RECORD_NAME:
        record = json.loads(path.read_text())
        for line in record["provenance"]["history"]:
            line.pop("seconds")
        record["provenance"].pop("created")
        return record
    if path.name == "metrics.csv":
        return [{name: cell for name, cell in line.items() if name != "seconds"} for line in table(path)]
    return path.read_bytes()


def same_run(one: Path, other: Path) -> bool:
    named = [sorted(path.relative_to(run) for path in run.rglob("*") if path.is_file()) for run in (one, other)]
    assert named[0] == named[1]
    assert {name for name in named[0] if timeless(one / name) != timeless(other / name)} == set()
    return True


def test_a_run_that_was_killed_goes_on_to_the_same_files(taught: Taught, photographs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    draw = random.Random(0)
    kill_after(draw.randrange(5, len(taught.watch.steps)), photographs, folder)
    kill_after(draw.randrange(1, 5), photographs, folder)
    watch = Watching()
    assert run(photographs, folder, watch=watch) == taught.report
    assert same_run(folder, taught.folder)


def kill_after(steps: int, photographs: Path, folder: Path) -> None:
    """Kill a teaching process after so many of its steps, wherever it then is."""
    command = [sys.executable, "-m", "tests.compress.taught_planes"]
    arguments = [str(photographs), str(folder), str(torch.get_num_threads())]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        for line in process.stdout:
            steps -= line == "step\n"
            if steps == 0:
                break
        assert steps == 0, "it ended by itself"
        process.kill()
    assert process.returncode == -9
