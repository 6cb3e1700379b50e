"""``edgeiqa.toml`` in the working folder: it sets defaults, the call's own options win, and what it names must be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from edgeiqa.compress import teachers

from .command import edgeiqa, files_in, require_refusal, save_photo

TINY = 'student = "test_efficientnet"\nsize = "32x32"\nweights = "none"\nbatch = 4\n'


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def worked(*_: object, **__: object) -> None:
        raise AssertionError("a teacher was loaded before the call was refused")

    monkeypatch.setattr(teachers, "load_teacher", worked)


def settings(text: str) -> None:
    Path("edgeiqa.toml").write_text(text, encoding="utf-8")


def test_it_sets_defaults_and_the_call_wins(in_folder: Path, small_bundle: Path, photos: Path) -> None:
    settings('[score]\nengine = "tflite"\n[verify]\nengine = "tflite"\n')
    ran = edgeiqa("score", photos / "00.jpg", "--bundle", small_bundle)
    assert ran.code == 2 and "'tflite' is not one of" in ran.err
    ran = edgeiqa("score", photos / "00.jpg", "--bundle", small_bundle, "--engine", "onnxruntime", "--json")
    assert ran.code == 0, ran.err
    assert "edgeiqa.toml: engine = 'tflite', where the call does not say otherwise" in ran.err
    # Another verb's table is not its own, and nothing is said of it.
    ran = edgeiqa("info", small_bundle)
    assert (ran.code, ran.err) == (0, "")


def test_flags_and_options_that_are_required(in_folder: Path, small_bundle: Path, photos: Path) -> None:
    settings(f'[score]\njson = true\nbundle = "{small_bundle}"\n')
    ran = edgeiqa("score", photos / "00.jpg")
    assert ran.code == 0 and json.loads(ran.out)
    settings('[calibrate]\ndata = "none.csv"\n')
    ran = edgeiqa("calibrate", small_bundle, "-o", "out.eiqa")
    assert ran.code == 2 and "Missing option" not in ran.err and "none.csv" in ran.err


def test_a_distillation_takes_the_photographs_it_names(in_folder: Path) -> None:
    for place in range(6):
        save_photo(in_folder / "mine" / f"{place}.jpg", place, size=(64, 48))
        save_photo(in_folder / "others" / f"{place}.jpg", 10 + place, size=(64, 48))
    settings(
        f'[distill]\n{TINY}unlabelled = ["mine", "others"]\nteacher = "default"\nscore-weight = 0.5\nthreads = 1\n'
    )
    before = files_in(in_folder)
    ran = edgeiqa("distill", "--dry-run")
    assert ran.code == 0, ran.err
    assert "unlabelled = ['mine', 'others']" in ran.err and "student = 'test_efficientnet'" in ran.err
    assert "items of 12 photographs" in ran.out
    # Paths are those of the working folder, as on the command line, and an option that is given is not added to.
    ran = edgeiqa("distill", "--dry-run", "--unlabelled", "mine")
    assert ran.code == 0 and "items of 6 photographs" in ran.out
    assert files_in(in_folder) == before


def test_hyphens_or_underscores_and_lists_for_several_values(in_folder: Path) -> None:
    for name in ("score-range", "score_range"):
        settings(f"[evaluate]\n{name} = [5, 1]\n")
        ran = edgeiqa("evaluate", "--data", "mos.csv", "x.eiqa")
        require_refusal(ran, "--score-range 5 1", "the lower one first")


def test_a_group_of_verbs_has_a_table_each(in_folder: Path) -> None:
    settings("[cache.fill]\ncrops = 0\n")
    ran = edgeiqa("cache", "fill", "default", "--images", ".")
    assert ran.code == 2 and "0 is not in the range" in ran.err
    settings("[cache]\ncrops = 2\n")
    require_refusal(edgeiqa("cache", "info"), "[crops], which is not a verb", "fill")


WRONG: dict[str, tuple[str, tuple[str, ...]]] = {
    "no TOML": ("[distill\n", ("edgeiqa.toml: ", "TOML with a table a verb")),
    "an unknown verb": ("[destil]\n", ("[destil], which is not a verb", "one of: distill")),
    "an unknown option": ("[distill]\nstudnet = 'x'\n", ("studnet in [distill]", "one of: student")),
    "an option of another verb": ("[score]\nstudent = 'x'\n", ("student in [score], which is not an option of score",)),
    "an unknown option of a verb that is not called": ("[teach]\nbogus = 1\n", ("bogus in [teach]",)),
    "help": ("[distill]\nhelp = true\n", ("help in [distill]",)),
    "a value outside of all tables": ("student = 'x'\n", ("[student], which is not a verb",)),
    "a verb that is no table": ("distill = 3\n", ("distill = 3", "a table [distill] of options")),
    "a table for an option": ("[distill.student]\nname = 'x'\n", ("a string or a number",)),
    "a list for one value": ("[distill]\nstudent = ['x']\n", ("student = ['x'] in [distill]", "a string or a number")),
    "one value for a list": ("[distill]\nunlabelled = 3\n", ("a list in brackets",)),
    "too few values": ("[distill]\nscore-range = [1]\n", ("a list of 2 values in brackets",)),
    "a word for a flag": ("[distill]\njson = 'yes'\n", ("json = 'yes' in [distill]", "true or false")),
    "a flag for a word": ("[distill]\nstudent = true\n", ("a string or a number",)),
    "an option twice": ("[distill]\nscore_weight = 1\nscore-weight = 2\n", ("score-weight in [distill] twice",)),
}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("reason", list(WRONG))
def test_what_it_must_not_say(in_folder: Path, reason: str) -> None:
    text, words = WRONG[reason]
    settings(text)
    require_refusal(edgeiqa("distill", "--dry-run"), "edgeiqa.toml", *words)
    assert files_in(in_folder) == {"edgeiqa.toml"}


def test_bytes_that_are_no_text(in_folder: Path) -> None:
    Path("edgeiqa.toml").write_bytes(b"\xff\xfe")
    require_refusal(edgeiqa("doctor"), "edgeiqa.toml: ", "move edgeiqa.toml away")


@pytest.mark.usefixtures("no_work")
def test_a_recipe_on_the_command_line_goes_before_parts_in_the_file(in_folder: Path) -> None:
    settings('[distill]\nstudent = "resnet18"\ncrops = 3\n')
    Path("recipe.toml").write_text("name = 3")
    # The parts are passed over, and the recipe is read.
    require_refusal(edgeiqa("distill", "--recipe", "recipe.toml"), "recipe.toml: ", "a recipe of a distillation")
    require_refusal(edgeiqa("distill", "--recipe", "recipe.toml", "--seed", 3), "--recipe with --seed")
    settings('[distill]\nstudent = "resnet18"\nrecipe = "recipe.toml"\n')
    require_refusal(edgeiqa("distill"), "--recipe with --student")


@pytest.mark.usefixtures("no_work")
def test_a_run_that_goes_on_does_not_mind_it(in_folder: Path) -> None:
    settings('[distill]\nstudent = "resnet18"\n')
    require_refusal(edgeiqa("distill", "--resume", "nowhere"), "nowhere/run.json")


def test_help_says_that_there_is_such_a_file(in_folder: Path) -> None:
    assert "edgeiqa.toml in the working folder sets defaults" in edgeiqa("--help").out
    settings("[bogus]\n")
    assert edgeiqa("--help").code == 0
