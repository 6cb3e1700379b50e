"""``edgeiqa teach``: a run from photographs to a report, gone on with by its folder alone; calls that cannot run."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.distill_plan import student_system
from edgeiqa.compress.grid import GridRecipe
from edgeiqa.compress.models.backbones import create_backbone
from edgeiqa.compress.stages import Augmentation, Stage
from edgeiqa.compress.teach import member_system
from edgeiqa.compress.teach_records import TeachRecipe, TeachReport
from edgeiqa.tools import verb_teach
from edgeiqa.tools.distill_recipe import convert_recipe
from edgeiqa.tools.runs import read_run, start_run
from edgeiqa.tools.training import Progression
from edgeiqa.tools.verb_teach import read_recipe

from ..compress.grey_planes import write_photographs
from .command import Ran, edgeiqa, files_in, require_refusal
from .test_training import require_same_numbers, scalars

ROOT = Path(__file__).resolve().parents[2]
PHOTOGRAPHS = 50

RECIPE = """
name = "planes"

[data]
name = "planes of grey"
folds = 2
selection_fraction = 0.2
"""
MEMBER = """
[[members]]
name = "{name}"
backbone = "mobilenetv3_small_050"
width = 32
height = 32
heldout_fold = {fold}
weights = {{ type = "none" }}

[[members.stages]]
epochs = 2
batch = 8
learning_rate = 1e-3
head_learning_rate = 1e-2
freeze_batch_norm = true
schedule = {{ type = "constant" }}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``mos.csv`` with the photographs beside it, and ``recipe.toml``."""
    folder = tmp_path_factory.mktemp("planes")
    write_photographs(folder, PHOTOGRAPHS)
    members = [MEMBER.format(name=f"fold-{fold}", fold=fold) for fold in range(2)]
    (folder / "recipe.toml").write_text("\n".join([RECIPE, *members]))
    return folder


def teach(data: Path, *more: object) -> Ran:
    return edgeiqa("teach", "--data", data / "mos.csv", "--accelerator", "cpu", *more)


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    """A run that was not cut off, and what the command said."""
    runs = tmp_path_factory.mktemp("runs")
    ran = teach(data, "--recipe", data / "recipe.toml", "--runs", runs, "--json")
    assert ran.code == 0, ran.err
    return runs / "teach-planes-001", ran


def test_a_run_and_its_folder(whole: tuple[Path, Ran], data: Path) -> None:
    folder, ran = whole
    assert ran.object["run"] == str(folder)
    assert ran.object["report"] == json.loads((folder / "report.json").read_text())
    report = msgspec.convert(ran.object["report"], TeachReport)
    assert (report.training, report.selection, len(report.members)) == (40, 10, 2)
    assert f"run {folder}; if it is cut off: edgeiqa teach --resume {folder}" in ran.err
    assert "fold-0: epoch 2 loss" in ran.err
    members = {f"members/fold-{fold}" for fold in range(2)}
    files = {path for path in files_in(folder) if (folder / path).is_file() and not path.startswith("tensorboard/")}
    assert files == {
        *("run.json", "report.json", "report.html", "out_of_fold.csv", "selection.csv"),
        *(f"{home}/{name}" for home in members for name in ("checkpoint.json", "metrics.csv", "weights.safetensors")),
    }
    run = read_run(folder)
    assert run.kind == "teach" and run.finished is not None
    recipe = msgspec.convert(run.settings["recipe"], TeachRecipe)
    asked = read_recipe(data / "recipe.toml")
    # The arithmetic decides the outcome, so the run says it.
    assert [member.precision for member in recipe.members] == ["32-true"] * 2
    assert recipe.data == asked.data and [one.name for one in recipe.members] == [one.name for one in asked.members]
    page = (folder / "report.html").read_text()
    assert "Teachers: planes" in page and "fold-1" in page and "<svg" in page


def test_the_logs_agree(whole: tuple[Path, Ran]) -> None:
    folder, _ = whole
    for name in ("fold-0", "fold-1"):
        require_same_numbers(scalars(folder / "tensorboard" / name), folder / "members" / name / "metrics.csv")


def test_what_people_see(whole: tuple[Path, Ran]) -> None:
    folder, _ = whole
    # Finished members are passed over, so this is quick; the page and the tables are written anew.
    before = {name: (folder / name).read_bytes() for name in ("out_of_fold.csv", "selection.csv", "report.json")}
    finished = read_run(folder).finished
    ran = edgeiqa("teach", "--resume", folder, "--accelerator", "cpu")
    assert ran.code == 0, ran.err
    assert "fold-0: finished already" in ran.err and str(folder / "report.html") in ran.err
    report = msgspec.json.decode(before["report.json"], type=TeachReport)
    assert f"best member on the selection part: {report.best_member}" in ran.err
    rows = [line.split() for line in ran.out.splitlines() if line.strip().startswith(("fold-", "ensemble", "pooled"))]
    assert [row[0] for row in rows] == ["fold-0", "fold-1", "pooled", "ensemble"]
    assert f"{report.ensemble.srcc.value:.3f}" in rows[-1] and f"{report.ensemble.rmse.value:.2f}" == rows[-1][-1]
    assert {name: (folder / name).read_bytes() for name in before} == before
    assert read_run(folder).finished == finished


class Killed(Exception):
    """Ends a run between two steps."""


def test_a_run_that_was_cut_goes_on_by_its_folder_alone(
    whole: tuple[Path, Ran], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, steps = Progression.step, []

    def kill(self: Progression, name: str, step: Any) -> None:
        original(self, name, step)
        steps.append(name)
        # In the second epoch of the second member.
        if len(steps) == 7:
            raise Killed

    folder = tmp_path / "mine"
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Progression, "step", kill)
        teach(data, "--recipe", data / "recipe.toml", "-o", folder)
    assert read_run(folder).finished is None and (folder / "members" / "fold-1" / "resume.pt").is_file()
    # From elsewhere, and with the data and the recipe as the run has them.
    monkeypatch.chdir(tmp_path)
    ran = edgeiqa("teach", "--resume", "mine", "--accelerator", "cpu", "--json")
    assert ran.code == 0, ran.err
    assert "fold-0: finished already" in ran.err and "fold-1: epoch 1 " not in ran.err
    for name in ("out_of_fold.csv", "selection.csv", "report.json"):
        assert (folder / name).read_bytes() == (whole[0] / name).read_bytes(), name


def test_two_processes_and_one_run(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edgeiqa.tools", "teach", "--data", data / "mos.csv", "--accelerator", "cpu"]
    options = ["--recipe", data / "recipe.toml", "--runs", tmp_path / "runs", "--devices", "2", "--json"]
    ran = subprocess.run(
        [str(word) for word in [*command, *options]], capture_output=True, text=True, timeout=500, check=False
    )
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "runs" / "teach-planes-001"
    # One line of JSON, one line for each epoch.
    (line,) = ran.stdout.splitlines()
    assert json.loads(line)["run"] == str(folder)
    assert ran.stderr.count("fold-1: epoch 2 ") == 1 and ran.stderr.count(f"run {folder};") == 1
    assert {path.split("/")[0] for path in files_in(tmp_path / "runs")} == {folder.name}
    assert {path for path in files_in(folder) if "/" not in path} == {
        *("members", "tensorboard", "run.json", "report.json", "report.html", "out_of_fold.csv", "selection.csv")
    }
    assert len(list((folder / "tensorboard" / "fold-0").iterdir())) == 1
    with (folder / "out_of_fold.csv").open(newline="") as file:
        scores = np.array([[float(row["score"]), float(row["mos"])] for row in csv.DictReader(file)])
    assert len(scores) == 40 and np.corrcoef(scores.T)[0, 1] > 0.5


def test_flags_make_a_recipe(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(Progression, "step", stop)
    flags = "--size 32x40 --size 48x32 --folds 3 --selection 0.2 --epochs 3 --batch 8 --learning-rate 1e-3 --seed 5"
    backbones = ("--backbone", "mobilenetv3_small_050", "--backbone", "test_efficientnet")
    more = ("--weights", "none", "--score-range", 0, 100, "--arithmetic", "bf16-mixed", "--runs", tmp_path)
    with pytest.raises(Killed):
        teach(data, *backbones, *flags.split(), *more)
    run = read_run(tmp_path / "teach-mixed-001")
    recipe = msgspec.convert(run.settings["recipe"], TeachRecipe)
    assert run.settings["data"] == str(data / "mos.csv") and run.settings["images"] == str(data)
    assert (recipe.data.folds, recipe.data.selection_fraction, recipe.data.seed) == (3, 0.2, 5)
    told = [(one.name, one.width, one.height, one.heldout_fold, one.seed, one.precision) for one in recipe.members]
    assert told == [
        ("mobilenetv3_small_050-0", 32, 40, 0, 5, "bf16-mixed"),
        ("test_efficientnet-1", 48, 32, 1, 6, "bf16-mixed"),
        ("mobilenetv3_small_050-2", 32, 40, 2, 7, "bf16-mixed"),
    ]
    # Crops of 11/12 of the shorter side.
    augmentation = Augmentation(crop=29, whole_epochs=1)
    stage = Stage(epochs=3, batch=8, learning_rate=1e-3, head_learning_rate=1e-2, augmentation=augmentation)
    assert [member.stages for member in recipe.members] == [(stage,)] * 3


def test_a_backbone_of_a_fixed_size_is_not_cropped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(Progression, "say", stop)
    with pytest.raises(Killed):
        size = ("--size", "32x32", "--weights", "none", "--folds", 2, "--epochs", 1, "--selection", 0.2)
        teach(data, "--backbone", "test_vit", *size, "-o", tmp_path / "run")
    recipe = msgspec.convert(read_run(tmp_path / "run").settings["recipe"], TeachRecipe)
    assert {member.stages[0].augmentation for member in recipe.members} == {Augmentation()}


def test_the_recipes_that_ship_have_systems() -> None:
    paths = sorted((ROOT / "recipes").glob("*.toml"))
    assert len(paths) >= 2
    for path in paths:
        if {"members", "configurations"} & set(tomllib.loads(path.read_text())):
            recipe = read_recipe(path)
            assert [member_system(member).name for member in recipe.members]


def test_the_recipes_of_the_documentation_are_such() -> None:
    text = (ROOT / "docs" / "distillation.md").read_text(encoding="utf-8")
    teachers, grid, student = (tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL))
    assert [member_system(member).name for member in msgspec.convert(teachers, TeachRecipe).members]
    assert [member_system(member).name for member in msgspec.convert(grid, GridRecipe).expanded().members]
    assert student_system(convert_recipe(student, "the documentation")).name


def refused(data: Path, tmp_path: Path, *words: str, arguments: tuple[object, ...], code: int = 2) -> None:
    ran = edgeiqa("teach", "--runs", tmp_path / "runs", "--accelerator", "cpu", *arguments)
    require_refusal(ran, *words, code=code)
    assert not (tmp_path / "runs").exists()


def test_calls_that_cannot_run(data: Path, tmp_path: Path) -> None:
    csv_path, recipe = data / "mos.csv", data / "recipe.toml"
    flags = ("--data", csv_path, "--backbone", "mobilenetv3_small_050", "--weights", "none", "--size", "32x32")

    def require(*words: str, arguments: tuple[object, ...]) -> None:
        refused(data, tmp_path, *words, arguments=arguments)

    require("no --data", arguments=("--recipe", recipe))
    require("neither --recipe nor --backbone", arguments=("--data", csv_path))
    require(
        "--recipe with --epochs, --seed", arguments=("--data", csv_path, "--recipe", recipe, "--epochs", 3, "--seed", 0)
    )
    require(
        "absent.toml",
        "recipes/default_ensemble.toml",
        arguments=("--data", csv_path, "--recipe", tmp_path / "absent.toml"),
    )
    require("absent.csv", arguments=("--data", tmp_path / "absent.csv", "--recipe", recipe))
    require("no folder", arguments=("--data", csv_path, "--images", tmp_path / "absent", "--recipe", recipe))
    require("3 sizes for 1 backbones", arguments=(*flags, "--size", "64x64", "--size", "64x32"))
    require("'32by32'", arguments=(*flags[:-1], "32by32"))
    require("'mobilenetv3_smal'", "mobilenetv3_small", arguments=("--data", csv_path, "--backbone", "mobilenetv3_smal"))
    require("no photograph", "split", arguments=(*flags, "--split", "train"))
    require("stated range, 0 to 1", arguments=(*flags, "--score-range", 0, 1))
    require("selection fraction of 0.9", arguments=(*flags, "--selection", 0.9))
    require("learning rates", arguments=(*flags, "--learning-rate", -1))
    require("'--folds'", arguments=(*flags, "--folds", 1))
    require("--accelerator abacus", arguments=(*flags, "--folds", 2, "--selection", 0.2, "--accelerator", "abacus"))
    require("--recipe with --backbone", arguments=("--data", csv_path, "--recipe", recipe, "--backbone", "x"))
    # Too few photographs for eight folds; none of this cut a view.
    require("50 photographs", "--folds 4", arguments=(*flags, "--folds", 8, "--selection", 0.2))
    require("at least one batch of 64", arguments=(*flags, "--folds", 2, "--selection", 0.2, "--batch", 64))


def test_weights_of_a_later_member_are_asked_for_first(data: Path, tmp_path: Path) -> None:
    members = [MEMBER.format(name=f"fold-{fold}", fold=fold) for fold in range(2)]
    absent = members[1].replace('type = "none"', f'type = "file", path = "{tmp_path}/absent.pth"')
    (tmp_path / "mine.toml").write_text("\n".join([RECIPE, members[0], absent]))
    call = ("--data", data / "mos.csv", "--recipe", tmp_path / "mine.toml")
    refused(data, tmp_path, "absent.pth", "--weights", arguments=call)
    refused(data, tmp_path, "absent.pth", "--weights", arguments=(*call, "--dry-run"))


def test_photographs_of_other_splits(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header, *rows = (data / "mos.csv").read_text().splitlines()
    parted = [f"{row},{'test' if place < 5 else 'train'}" for place, row in enumerate(rows)]
    first, image = rows[0].split(",")[0], (data / rows[0].split(",")[0]).read_bytes()
    for path in data.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "copy.png").write_bytes(image)
    (tmp_path / "mos.csv").write_text("\n".join([f"{header},split", *parted, "copy.png,50,train"]) + "\n")
    flags = ("--backbone", "mobilenetv3_small_050", "--weights", "none", "--size", "32x32", "--folds", 2)
    call = (*flags, "--selection", 0.25, "--epochs", 1, "--batch", 8, "--dry-run", "--json")
    ran = teach(tmp_path, *call)
    assert ran.code == 0 and "has the splits test, train: all are taken; --split NAME" in ran.err
    seen: list[set[str]] = []
    original = verb_teach._dataset

    def dataset(*given: Any) -> Any:
        made = original(*given)
        seen.append({photo.image for photo in made.photos})
        return made

    monkeypatch.setattr(verb_teach, "_dataset", dataset)
    ran = teach(tmp_path, *call, "--split", "train")
    assert ran.code == 0 and "1 photographs are kept out, as another split has them too" in ran.err
    assert "all are taken" not in ran.err
    assert seen == [{row.split(",")[0] for row in rows[5:]}] and not seen[0] & {first, "copy.png"}


def test_a_recipe_on_the_command_line_goes_before_parts_in_the_file(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("edgeiqa.toml").write_text('[teach]\nbackbone = "convnext_tiny"\nfolds = 7\nsplit = "train"\n')
    ran = teach(data, "--recipe", data / "recipe.toml", "--dry-run", "--json")
    assert ran.code == 0 and len(ran.object["lines"]) == 2, ran.err
    ran = teach(data, "--recipe", data / "recipe.toml", "--folds", 2)
    require_refusal(ran, "--recipe with --folds", "write these into the recipe")


def test_a_file_of_weights_is_found_from_another_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network = create_backbone("mobilenetv3_small_050", 32, 32, pretrained=False)
    torch.save(network.state_dict(), "mine.pth")

    def stop(*_: Any) -> None:
        raise Killed

    monkeypatch.setattr(Progression, "step", stop)
    flags = ("--backbone", "mobilenetv3_small_050", "--weights", "mine.pth", "--size", "32x32", "--folds", 2)
    with pytest.raises(Killed):
        teach(data, *flags, "--selection", 0.2, "--batch", 8, "-o", tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(Killed):
        edgeiqa("teach", "--resume", tmp_path / "run", "--accelerator", "cpu")


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        "name = 'a'",
        RECIPE + MEMBER.format(name="a", fold=5),
        RECIPE + MEMBER.format(name="a", fold=0) + "x = 1",
    ],
)
def test_a_recipe_that_is_none(data: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.toml").write_text(text)
    refused(data, tmp_path, "mine.toml", arguments=("--data", data / "mos.csv", "--recipe", tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    refused(data, tmp_path, "mine.toml", arguments=("--data", data / "mos.csv", "--recipe", tmp_path / "mine.toml"))


def test_folders_that_are_no_run_of_teach(whole: tuple[Path, Ran], data: Path, tmp_path: Path) -> None:
    folder, _ = whole
    recipe = ("--recipe", data / "recipe.toml")
    before = files_in(folder)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("")
    require_refusal(teach(data, *recipe, "-o", tmp_path / "thesis"), "thesis", "-o")
    assert files_in(tmp_path / "thesis") == {"chapter.tex"}
    require_refusal(edgeiqa("teach", "--resume", tmp_path / "thesis"), "run.json")
    other = start_run(tmp_path, "distill", "a", {"recipe": {}})
    require_refusal(edgeiqa("teach", "--resume", other), "no run of teach")
    # The same folder with other settings is another run.
    require_refusal(teach(data, *recipe, "-o", folder, "--arithmetic", "bf16-mixed"), "its recipe differ", "--resume")
    ran = edgeiqa("teach", "--resume", folder, "--epochs", 3, "--data", data / "mos.csv")
    require_refusal(ran, "--data, --epochs", "--resume alone")
    assert files_in(folder) == before


def test_a_dry_run_says_what_it_takes_and_writes_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {path: (data / path).stat().st_mtime_ns for path in files_in(data)}
    call = ("--recipe", data / "recipe.toml", "--dry-run")
    for_people = teach(data, *call)
    assert (for_people.code, for_people.err) == (0, "")
    lines = for_people.out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["fold-0", "fold-1"]
    assert lines[2].startswith("time 0 min ") and "memory" in lines[2] and lines[3].startswith("disk ")
    told = teach(data, *call, "--json").object
    assert set(told) == {
        *("seconds", "teacher_seconds", "peak_rss_mib", "peak_device_mib", "disk_bytes", "free_bytes", "lines")
    }
    assert told["peak_device_mib"] is None
    assert 0 < told["seconds"] < 600 and told["teacher_seconds"] == 0 and told["peak_rss_mib"] > 50
    # The views of all photographs, two sets of weights, and a state with its partial successor.
    parameters = (told["disk_bytes"] - (50 * 32 * 32 * 3 + 128)) / (4 * (2 + 6))
    assert 5e5 < parameters < 6e5
    assert files_in(tmp_path) == set()
    assert {path: (data / path).stat().st_mtime_ns for path in files_in(data)} == before


def test_a_dry_run_refuses_what_the_run_would(data: Path, tmp_path: Path) -> None:
    flags = ("--backbone", "mobilenetv3_small_050", "--weights", "none", "--size", "32x32", "--dry-run")
    refused(data, tmp_path, "--folds 4", arguments=("--data", data / "mos.csv", *flags, "--folds", 8))
