"""``edgeiqa distill``: as its users call it, with and without a network, and all that is refused before any work."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.compress import distill as distill_module
from edgeiqa.compress import teachers
from edgeiqa.compress.checkpoint import load_checkpoint, save_checkpoint
from edgeiqa.compress.distill_records import DistillReport
from edgeiqa.compress.models import weights
from edgeiqa.compress.models.backbones import create_backbone
from edgeiqa.profiles.metrics import evaluate
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import DataError
from edgeiqa.tools import packing
from edgeiqa.tools.runs import finish_run, read_run, start_run

from .command import Ran, edgeiqa, files_in, require_refusal, save_photo, write_table
from .report_page import Page
from .teach_runs import save_labelled, teach_run

# A student of .1 M parameters, and few steps of it.
TINY = ("--student", "test_efficientnet", "--size", "32x32", "--weights", "none")
SHORT = (*TINY, "--batch", "4", "--steps", "2", "--crops", "2", "--threads", "1", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data`` (20 photographs, 4 of them the test's) and an ensemble in ``runs``."""
    root = tmp_path_factory.mktemp("taught")
    data = save_labelled(root / "data", 20, test=4)
    parts: dict[str, int | str] = {f"{place:02}.jpg": place % 2 for place in range(16)}
    teach_run(root / "runs", data, parts | dict.fromkeys(("02.jpg", "05.jpg", "08.jpg", "11.jpg"), "selection"))
    return root


@pytest.fixture(scope="module")
def distilled(taught: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A run from the ensemble's own photographs, and what was said."""
    runs = tmp_path_factory.mktemp("distilled") / "runs"
    shutil.copytree(taught / "runs", runs)
    return runs, edgeiqa("distill", *SHORT, "--runs", runs, "--cache", runs / "cache", "--json")


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a teacher fails the test: what can be refused is refused before."""

    def worked(*_: object, **__: object) -> None:
        raise AssertionError("a teacher was loaded before the call was refused")

    monkeypatch.setattr(teachers, "load_teacher", worked)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub fails as it does without a network and without a cache."""
    create: Callable[..., Any] = create_backbone

    def failing(*given: Any, pretrained: bool, **options: Any) -> Any:
        if pretrained:
            raise OSError("no connection")
        return create(*given, pretrained=False, **options)

    monkeypatch.setattr(weights, "create_backbone", failing)


def newest(runs: Path) -> Path:
    return max(runs.glob("distill-*"), key=lambda path: path.stat().st_mtime_ns)


def on_a_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str, str]:
    """Exit status, stdout, and what a terminal shows of stderr."""
    here, there = pty.openpty()
    shown: list[bytes] = []
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=there) as process:
        os.close(there)
        # A terminal that nobody holds any more cannot be read.
        while True:
            try:
                part = os.read(here, 65536)
            except OSError:
                break
            if not part:
                break
            shown.append(part)
        assert process.stdout is not None
        out = process.stdout.read().decode()
    os.close(here)
    return process.returncode, out, b"".join(shown).decode(errors="replace")


def without_colours(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


def test_the_bare_command_without_a_network(tmp_path: Path) -> None:
    """As it is written in the README, in an empty folder: it ends in minutes, and says what it is worth."""
    environment = os.environ | {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
        "COLUMNS": "400",
        "TERM": "xterm",
    }
    (tmp_path / "empty").mkdir()
    call = ["distill", "--teacher", "ensemble", "--student", "convnext_small", "--steps", "3"]
    code, out, shown = on_a_terminal([sys.executable, "-m", "edgeiqa.tools", *call], tmp_path / "empty", environment)
    assert code == 0, shown
    for words in (
        "the default ensemble",
        "the sample photographs of scikit-learn and scikit-image",
        "convnext_small within 50 GMACs for 3840x2160: 704x384, 46.9 GMACs",
        # Beside the convention that budgets enforce, those of others.
        "student: 46.9 GMACs strict, ",
        "GMACs ptflops-aten (docs/budgets.md: what each leaves out)",
        "RANDOM WEIGHTS: no weights for convnext_small",
        "it began from RANDOM WEIGHTS",
        "edgeiqa distill --resume",
    ):
        assert words in shown, words
    # A bar with the time left.
    assert re.search(r"convnext_small-704x384 \S+ 2/3 \d:\d\d:\d\d epoch 1, loss \d", without_colours(shown))
    assert "46.9 GMACs, 49.5 M parameters, learned 3 steps on 30 items of 6 photographs from ensemble" in out
    run = newest(tmp_path / "empty" / "runs")
    record, _ = load_checkpoint(run)
    assert record.system.preprocess.shapes == {"image": (384, 704, 3)}
    assert (run / "report.html").is_file() and read_run(run).finished is not None
    assert record.provenance["recipe"]["weights"] == {"type": "none", "seed": 0}


@pytest.mark.usefixtures("no_network", "no_work")
@pytest.mark.parametrize("named", ["--images", "--data", "--unlabelled"])
def test_the_users_own_photographs_without_a_network(taught: Path, in_folder: Path, named: str) -> None:
    """Hours are at stake: nothing is computed and nothing written."""
    value = taught / "data" / ("mos.csv" if named == "--data" else "images")
    ran = edgeiqa("distill", "--student", "test_resnet", "--size", "32x32", "--teacher", "ensemble", named, value)
    require_refusal(
        ran, "no weights for test_resnet", "no connection", "--weights FILE", "--weights lite", "--weights none"
    )
    assert files_in(in_folder) == set()


@pytest.mark.usefixtures("no_network", "no_work")
def test_the_hubs_weights_that_are_asked_for_are_not_replaced(in_folder: Path) -> None:
    """Not even for a trial on the sample photographs."""
    ran = edgeiqa("distill", "--student", "test_resnet", "--size", "32x32", "--weights", "hub")
    require_refusal(ran, "no weights for test_resnet", "--weights none")
    assert "RANDOM WEIGHTS" not in ran.err and files_in(in_folder) == set()


@pytest.mark.usefixtures("no_work")
def test_over_the_budget_there_are_three_ways_out(in_folder: Path) -> None:
    ran = edgeiqa("distill", "--student", "convnext_small", "--size", "910x512", "--weights", "none")
    require_refusal(
        ran,
        *("79.74 GMACs of 50 GMACs", "a smaller input, --size 704x384", "a smaller student, --student convnext_tiny"),
        "fewer members",
        code=1,
    )
    assert files_in(in_folder) == set()


def test_a_student_of_the_newest_ensemble_and_its_photographs(taught: Path, distilled: tuple[Path, Ran]) -> None:
    runs, ran = distilled
    assert ran.code == 0, ran.err
    run = newest(runs)
    report = msgspec.convert(ran.object["report"], DistillReport)
    assert ran.object["run"] == str(run)
    assert report == msgspec.json.decode((run / "report.json").read_bytes(), type=DistillReport)
    # Of 16 photographs of split=train four are the ensemble's selection part.
    assert (report.photographs, report.heldout, report.heldout_is) == (12, 4, "selection part")
    assert (report.items, report.steps, report.teacher) == (12 * 3, 2, "teach-pair-001")
    assert "teacher: " in ran.err and "photographs: those of " in ran.err
    with (run / "selection.csv").open() as file:
        lines = [line.strip().split(",") for line in file][1:]
    assert [line[0] for line in lines] == ["02.jpg", "05.jpg", "08.jpg", "11.jpg"]
    mos, said, student = (np.array([float(line[column]) for line in lines]) for column in (4, 5, 6))
    assert report.accuracy == evaluate(student, mos) and report.teacher_accuracy == evaluate(said, mos)
    settings = read_run(run).settings
    assert settings["teacher"] == str((runs / "teach-pair-001").resolve())
    assert settings["photographs"]["data"] == str((taught / "data" / "mos.csv").resolve())
    assert load_checkpoint(run)[0].name == "test_efficientnet-32x32"


def test_the_page_of_a_run(distilled: tuple[Path, Ran]) -> None:
    page = Page((newest(distilled[0]) / "report.html").read_text(encoding="utf-8"))
    text = " ".join("".join(parts) for _, _, parts in page.elements)
    for words in ("Student: test_efficientnet-32x32", "teach-pair-001", "2 crops, 1 drawn distortions", "GMACs"):
        assert words in text, words
    assert len([tag for tag, _, _ in page.elements if tag == "svg"]) >= 3


def test_a_bundle_is_made_of_the_newest_student_and_else_of_the_newest_ensemble(
    distilled: tuple[Path, Ran], taught: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An ensemble that is newer than the student does not stand in for it.
    shutil.copytree(distilled[0], "runs")
    later = start_run(Path("runs"), "teach", "later", {})
    shutil.copytree(taught / "runs" / "teach-pair-001" / "members", later / "members")
    finish_run(later)
    ran = edgeiqa("export")
    assert (ran.code, ran.out) == (0, "test_efficientnet-32x32.eiqa\n"), ran.err
    assert "the newest run: runs/distill-test_efficientnet-001" in ran.err
    assert [member.name for member in Bundle.open(ran.out.strip()).manifest.members] == ["test_efficientnet-32x32"]
    shutil.rmtree(newest(Path("runs")))
    taken: list[Path] = []

    def load(folders: list[Path]) -> None:
        taken.extend(folders)
        raise DataError("enough", expected="no more", mend="nothing")

    monkeypatch.setattr(packing, "load_trained", load)
    require_refusal(edgeiqa("export"), "enough", f"the newest run: {later}")
    assert taken == [later / "members" / "a", later / "members" / "b"]


def test_resume_needs_nothing_else(
    taught: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distilled: tuple[Path, Ran]
) -> None:
    """Neither the same folder, nor that the ensemble it was begun with is still the newest."""
    shutil.copytree(taught, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    data = Path("runs/teach-pair-001/run.json")
    data.write_text(data.read_text().replace(str(taught), str(tmp_path / "work")))

    def cut(*_: object) -> None:
        raise DataError("no room", expected="room", mend="make room")

    monkeypatch.setattr(distill_module, "save_checkpoint", cut)
    call = ("--data", "data/mos.csv", "--images", "data/images", "--split", "train", "--cache", "cache")
    ran = edgeiqa("distill", *SHORT, *call, "-o", "mine")
    require_refusal(ran, "no room")
    assert "if it is cut off: edgeiqa distill --resume mine" in ran.err
    assert Path("mine/resume.pt").is_file() and not Path("mine/checkpoint.json").exists()
    monkeypatch.setattr(distill_module, "save_checkpoint", save_checkpoint)
    parts: dict[str, int | str] = {"00.jpg": 0, "01.jpg": 1, "02.jpg": "selection"}
    teach_run(Path("runs"), Path("data/mos.csv"), parts, label="newer")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    ran = edgeiqa("distill", "--resume", tmp_path / "work" / "mine", "--json", "--threads", 1)
    assert ran.code == 0, ran.err
    report = ran.object["report"]
    assert (report["teacher"], report["steps"]) == ("teach-pair-001", 2)
    assert files_in(tmp_path / "elsewhere") == set()
    # As it would have been without the cut, and in another folder.
    ours, whole = (load_checkpoint(at)[1].state_dict() for at in (tmp_path / "work" / "mine", newest(distilled[0])))
    assert all((ours[name] == whole[name]).all() for name in whole)
    again = edgeiqa("distill", "--resume", tmp_path / "work" / "mine")
    assert again.code == 0 and "finished already" in again.err


def test_a_table_of_scores_through_the_command(taught: Path, in_folder: Path) -> None:
    images = taught / "data" / "images"
    write_table(Path("scores.csv"), [(f"{place:02}.jpg", 4 * place + 5) for place in range(20)], "image,score")
    call = ("distill", *TINY, "--batch", 4, "--steps", 2, "--teacher", "scores.csv", "--images", images)
    before = files_in(in_folder)
    words = ("4 crops, 1 distorted versions, losses to features", "--crops 1 --distortions 0 --feature-weight 0")
    require_refusal(edgeiqa(*call), *words)
    # The mend is right.
    mended = (*call, *words[1].split())
    with Path("scores.csv").open("a") as file:
        file.write("strange.jpg,50\n")
    require_refusal(edgeiqa(*mended), "which names strange.jpg", "correct the column image")
    assert files_in(in_folder) == before
    Path("scores.csv").write_text(Path("scores.csv").read_text().replace("strange.jpg,50\n", ""))
    ran = edgeiqa(*mended, "--json")
    assert ran.code == 0, ran.err
    assert (ran.object["report"]["teacher"], ran.object["report"]["items"]) == ("scores.csv", 17)
    # Those of another split are no strangers.
    ran = edgeiqa(*mended, "--data", taught / "data" / "mos.csv", "--split", "train", "--batch", 8, "-o", "parted")
    assert ran.code == 0, ran.err
    assert read_run(newest(Path("runs"))).settings["teacher"] == str(in_folder / "scores.csv")


def test_opinions_alone(taught: Path, in_folder: Path) -> None:
    ran = edgeiqa(
        *("distill", *SHORT, "--teacher", "none", "--data", taught / "data" / "mos.csv"),
        *("--images", taught / "data" / "images", "--split", "train", "--selection", 0.25, "-o", "mine"),
    )
    assert ran.code == 0, ran.err
    assert (
        "learned 2 steps on 24 items of 12 photographs from none" in ran.out
        and "student on the selection part" in ran.out
    )
    assert (in_folder / "mine" / "report.html").is_file() and not (in_folder / "runs").exists()


def test_several_teachers_and_several_seeds(taught: Path, in_folder: Path) -> None:
    members = taught / "runs" / "teach-pair-001" / "members"
    both = ("--teacher", members / "a", "--teacher", members / "b", "--images", taught / "data" / "images")
    ran = edgeiqa("distill", *SHORT, *both, "--seed", 4, "-o", "mine")
    assert ran.code == 0, ran.err
    settings = read_run(Path("mine")).settings
    assert settings["teacher"] == [str(members / "a"), str(members / "b")]
    # What is drawn is no part of a student's seed: the teacher is asked once for all.
    assert (settings["recipe"]["seed"], settings["recipe"]["transfer"]["seed"]) == (4, 0)
    assert " photographs from a + b" in ran.out
    # 3 held-out photographs, each with 3 distorted versions.
    assert "rank agreement with the teacher on 12 versions of 3 held-out photographs: SRCC" in ran.out
    assert ran.err.endswith("next: edgeiqa export mine\n") and "RANDOM WEIGHTS, and knows what it learned" in ran.err
    again = edgeiqa("distill", "--resume", "mine", "--threads", 1)
    assert again.code == 0 and "finished already" in again.err
    require_refusal(edgeiqa("distill", *SHORT, *both, "--teacher", "none"), "--teacher none", "leave none out")


def test_a_dry_run_writes_nothing(taught: Path, in_folder: Path) -> None:
    call = ("distill", *TINY, "--teacher", taught / "runs" / "teach-pair-001", "--images", taught / "data" / "images")
    (in_folder / "empty").mkdir()
    ran = edgeiqa(*call, "--dry-run", "--json", "--cache", "empty", "-o", "mine")
    assert ran.code == 0, ran.err
    told = ran.object
    assert told["seconds"] > told["teacher_seconds"] > 0 and told["disk_bytes"] > 0 < told["free_bytes"]
    assert files_in(in_folder) == {"empty"}
    ran = edgeiqa(*call, "--dry-run")
    assert ran.code == 0 and re.search(r"^time \d+ min \d+ s, .*memory", ran.out, re.MULTILINE)
    assert re.search(r"^teacher teach-pair-001: (\d+) of \1 items", ran.out, re.MULTILINE)
    assert files_in(in_folder) == {"empty"}


def test_a_whole_recipe(distilled: tuple[Path, Ran], taught: Path, in_folder: Path) -> None:
    recipe = read_run(newest(distilled[0])).settings["recipe"] | {"name": "mine", "width": 64}
    del recipe["features"]
    write_toml(recipe)
    call = ("distill", "--recipe", "recipe.toml", "--images", taught / "data" / "images")
    teacher = ("--teacher", taught / "runs" / "teach-pair-001")
    require_refusal(edgeiqa(*call, *teacher, "--student", "x", "--crops", 2), "--recipe with --student, --crops")
    ran = edgeiqa(*call, *teacher, "--steps", 1)
    assert ran.code == 0, ran.err
    record, _ = load_checkpoint(newest(Path("runs")))
    assert record.name == "mine" and record.system.preprocess.shapes == {"image": (32, 64, 3)}
    Path("recipe.toml").write_text("name = 3")
    require_refusal(edgeiqa(*call, *teacher), "recipe.toml: ", "a recipe of a distillation")
    Path("recipe.toml").write_text("name = ")
    require_refusal(edgeiqa(*call, *teacher), "recipe.toml: ")


def write_toml(recipe: dict[str, Any]) -> None:
    """Inline tables throughout: enough for a recipe."""

    def written(value: object) -> str:
        if isinstance(value, dict):
            known = (f"{name} = {written(part)}" for name, part in value.items() if part is not None)
            return f"{{{', '.join(known)}}}"
        if isinstance(value, list):
            return f"[{', '.join(map(written, value))}]"
        return json.dumps(value)

    Path("recipe.toml").write_text("\n".join(f"{name} = {written(value)}" for name, value in recipe.items()))


REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no student": ((), ("no --student", "--student convnext_small")),
    "an unknown student": (("--student", "convnext_smal", "--size", "64x64"), ("near names: convnext_small",)),
    "a size that is none": (("--student", "test_resnet", "--size", "64"), ("size '64'",)),
    "an image that is none": ((*TINY, "--image", "4k"), ("size '4k'",)),
    "a budget that is none": ((*TINY, "--budget", "50 apples"), ("--budget 50 apples",)),
    "no limit to solve a size by": (("--student", "test_resnet", "--budget", "4MB"), ("no --size", "--size 704x384")),
    "a split without a table": ((*TINY, "--split", "train"), ("--split without --data",)),
    "a rate of nothing": ((*TINY, "--learning-rate", "0"), ("learning rates of (0.0, 0.0)",)),
    "no loss of the score": ((*TINY, "--score-weight", "0", "--mos-weight", "0"), ("weights of losses",)),
    "a recipe that is not there": (("--recipe", "none.toml"), ("none.toml",)),
    "weights that are not there": (("--student", "test_resnet", "--size", "64x64", "--weights", "no.pth"), ("no.pth",)),
    "a run that is none": (("--resume", "nowhere"), ("nowhere/run.json", "the folder of a run")),
    "a run of something else": (("--resume", "{taught}/runs/teach-pair-001"), ("a run of teach",)),
    "options beside a run": (("--resume", "{run}", "--student", "x"), ("--resume", "with --student")),
}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("reason", list(REFUSED))
def test_what_is_refused_before_any_work(
    taught: Path, distilled: tuple[Path, Ran], in_folder: Path, reason: str
) -> None:
    arguments, words = REFUSED[reason]
    given = [text.format(taught=taught, run=newest(distilled[0])) for text in arguments]
    require_refusal(edgeiqa("distill", *given), *words)
    assert files_in(in_folder) == set()


def test_what_is_refused_of_photographs_and_teachers(taught: Path, in_folder: Path) -> None:
    images = taught / "data" / "images"
    save_photo(in_folder / "two" / "a.jpg", 1)
    save_photo(in_folder / "two" / "b.jpg", 2)
    write_table(Path("mos.csv"), [("a.jpg", 3), ("c.jpg", 4)])
    (in_folder / "mine").mkdir()
    (in_folder / "mine" / "thesis.txt").write_text("years of work")
    before = files_in(in_folder)
    ensemble = ("--teacher", taught / "runs" / "teach-pair-001")
    call = ("distill", *TINY)
    require_refusal(edgeiqa(*call, "--teacher", "absent.eiqa", "--images", images), "absent.eiqa")
    require_refusal(edgeiqa(*call, *ensemble, "--images", "nowhere"), "no folder nowhere")
    require_refusal(edgeiqa(*call, *ensemble, "--data", "mos.csv", "--images", "two"), "c.jpg")
    require_refusal(edgeiqa(*call, *ensemble, "--images", "two"), "1 photographs to learn from", "batch of 16")
    require_refusal(edgeiqa(*call, *ensemble, "--images", images, "--selection", 0.9), "a share of 0.9")
    require_refusal(edgeiqa(*call, *ensemble, "--images", images, "-o", "mine"), "holds files", "name another folder")
    require_refusal(edgeiqa(*call, "--teacher", "none", "--images", images), "photographs without opinions", "--data")
    alone = (*call, "--teacher", "none", "--images", images, "--score-weight", 1)
    require_refusal(edgeiqa(*alone), "losses to a teacher, and none")
    require_refusal(edgeiqa(*call, *ensemble, "--images", images, "--accelerator", "abacus"), "abacus")
    assert files_in(in_folder) == before
