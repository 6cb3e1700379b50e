"""The maker of the default bundle: packs a finished run of `teach`, and refuses what is none."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from edgeiqa.compress.checkpoint import Checkpoint, save_checkpoint
from edgeiqa.compress.distill_plan import student_system
from edgeiqa.compress.distill_records import DistillRecipe
from edgeiqa.compress.models import NoWeights, build, one_backbone
from edgeiqa.compress.models.weights import LiteWeights
from edgeiqa.compress.stages import Augmentation, OneCycle, ScoreLosses
from edgeiqa.compress.teach import CANDIDATES, MEMBERS, REPORT, member_system
from edgeiqa.compress.teach_records import DataRecipe, MemberRecipe, TeachRecipe
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import UsageError
from edgeiqa.runtime.preprocess import DctDecode
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.runtime.scorer import Scorer, default_bundle, ensemble_bundle
from edgeiqa.runtime.verify import verify
from edgeiqa.tools.default_bundle import main
from edgeiqa.tools.distill_recipe import convert_recipe
from edgeiqa.tools.runs import finish_run, start_run
from edgeiqa.tools.verb_teach import read_recipe

from ..compress.grey_planes import write_photographs
from ..compress.taught_planes import PHOTOGRAPHS
from ..compress.taught_planes import run as teach
from ..compress.test_grid import GRID
from ..runtime.bundles import build as build_bundle
from .command import save_photo

ROOT = Path(__file__).resolve().parents[2]
ENSEMBLE = ROOT / "recipes" / "default_ensemble.toml"


STUDENTS = "*_student.toml"


def test_the_recipes_that_ship_are_recipes() -> None:
    paths = sorted(set((ROOT / "recipes").glob("*.toml")) - set((ROOT / "recipes").glob(STUDENTS)))
    names = [read_recipe(path).name for path in paths]
    assert "default-ensemble" in names and len(set(names)) == len(names)


def student_recipe(path: Path) -> DistillRecipe:
    return convert_recipe(tomllib.loads(path.read_text()), path.name)


def test_the_students_that_ship_are_recipes() -> None:
    names = [student_recipe(path).name for path in sorted((ROOT / "recipes").glob(STUDENTS))]
    assert "lite0" in names and len(set(names)) == len(names)


def test_the_recipe_of_the_ensemble_is_that_of_its_card() -> None:
    recipe = read_recipe(ENSEMBLE)
    data = recipe.data
    assert (data.split, data.folds, data.selection_fraction, data.seed) == ("train", 8, 0.15, 0)
    assert [(member.name, member.heldout_fold, member.seed) for member in recipe.members] == [
        ("lite0", 0, 0),
        ("lite1", 1, 1),
    ]
    for member in recipe.members:
        assert (member.weights, member.decode, member.keep) == (LiteWeights(), DctDecode(margin=2.0), "last")
        (stage,) = member.stages
        assert (stage.epochs, stage.batch, stage.parameters) == (10, 16, "all")
        assert (stage.learning_rate, stage.head_learning_rate, stage.weight_decay) == (2e-4, 2e-3, 1e-3)
        assert (stage.schedule, stage.losses) == (OneCycle(), ScoreLosses(huber=1.0, huber_delta=0.1, plcc=1.5))
        assert stage.augmentation == Augmentation(crop=352, flip=True, whole_epochs=1)


def test_its_networks_are_those_of_the_ensemble_that_ships() -> None:
    shipped = ensemble_bundle().manifest
    recipe = read_recipe(ENSEMBLE)
    assert [member.name for member in recipe.members] == [member.name for member in shipped.members]
    for member, packed in zip(recipe.members, shipped.members, strict=True):
        assert member_system(member).preprocess == packed.preprocess


def _run(folder: Path, *, names: tuple[str, ...] = ("one", "two")) -> Path:
    """A run of `teach` with members of random weights, of which those named are trained."""
    recipe = TeachRecipe(
        name="default",
        data=DataRecipe(name="waves", citation="nobody", licence="CC0", folds=2),
        members=tuple(
            MemberRecipe(
                name=name, backbone="test_efficientnet", width=64, height=64, heldout_fold=fold, weights=NoWeights()
            )
            for fold, name in enumerate(("one", "two"))
        ),
    )
    settings = {"recipe": recipe, "data": "mos.csv", "images": "images"}
    start_run(folder.parent, "teach", "default", settings, folder=folder)
    for seed, name in enumerate(names):
        system = one_backbone("test_efficientnet", 64, 64)
        network = build(system, weights=NoWeights(seed=seed))
        with torch.no_grad():
            network.head.output.weight.mul_(2000.0)
        score_map = ScoreMap(steps=(Sigmoid(slope=3.0, centre=0.0, low=0.0, high=100.0),), fitted_on="nothing")
        record = Checkpoint(
            name=name, system=system, score_map=score_map, provenance={"created": f"2026-01-0{seed + 1}"}
        )
        save_checkpoint(folder / MEMBERS / name, record, network)
    finish_run(folder)
    return folder


def _packed(*arguments: object) -> None:
    CliRunner().invoke(main, ["ensemble", *map(str, arguments)], catch_exceptions=False, standalone_mode=False)


def test_a_run_becomes_a_bundle_that_says_how_it_was_made(tmp_path: Path) -> None:
    run = _run(tmp_path / "run")
    for seed in range(3):
        save_photo(tmp_path / "photos" / f"{seed}.jpg", seed)
    (tmp_path / "card.md").write_text("# The card\n")
    output = tmp_path / "made.eiqa"
    _packed(run, "--images", tmp_path / "photos", "--card", tmp_path / "card.md", "-o", output)
    bundle = Bundle.open(output)
    provenance = bundle.manifest.provenance
    assert [member.name for member in bundle.manifest.members] == ["one", "two"]
    assert provenance.commands[0].startswith("edgeiqa teach --recipe recipes/default_ensemble.toml ")
    assert provenance.commands[1].startswith("python -m edgeiqa.tools.default_bundle ensemble ")
    assert (provenance.data, provenance.citation, provenance.created) == ("waves", "nobody", "2026-01-02")
    assert "CC0" in provenance.licence
    assert {artefact.stored_as for member in bundle.manifest.members for artefact in member.artefacts} == {"fp16"}
    assert verify(Scorer(bundle)).passed


def test_of_a_grid_the_members_are_packed_and_not_the_candidates(tmp_path: Path) -> None:
    recipe = GRID.expanded()
    run = start_run(tmp_path, "teach", "grid", {"recipe": recipe, "data": "mos.csv", "images": "images"})
    output = tmp_path / "made.eiqa"
    with pytest.raises(UsageError, match=r"report\.json") as caught:
        _packed(run, "--images", tmp_path, "-o", output)
    assert f"edgeiqa teach --resume {run}" in caught.value.mend
    write_photographs(tmp_path / "planes", PHOTOGRAPHS)
    report = teach(tmp_path / "planes", run, recipe)
    finish_run(run)
    save_photo(tmp_path / "photos" / "0.jpg", 0)
    _packed(run, "--images", tmp_path / "photos", "-o", output)
    names = [member.name for member in Bundle.open(output).manifest.members]
    assert names == [one.member for one in report.members]
    assert len(names) == 2 and len(list((run / CANDIDATES).iterdir())) == 2
    (run / MEMBERS / names[1] / "checkpoint.json").unlink()
    with pytest.raises(UsageError, match=f"without {names[1]}"):
        _packed(run, "--images", tmp_path / "photos", "-o", output, "--overwrite")
    (run / REPORT).write_text("{}")
    with pytest.raises(UsageError, match=r"report\.json"):
        _packed(run, "--images", tmp_path / "photos", "-o", output, "--overwrite")


def test_what_is_no_finished_run_of_teach_is_refused(tmp_path: Path) -> None:
    unfinished = _run(tmp_path / "unfinished", names=("one",))
    other = start_run(tmp_path, "distill", "x", {}, folder=tmp_path / "other")
    broken = start_run(tmp_path, "teach", "x", {"recipe": {}}, folder=tmp_path / "broken")
    (tmp_path / "empty").mkdir()
    for folder, words in (
        (unfinished, "without two"),
        (other, "a run of distill"),
        (broken, "missing required field"),
        (tmp_path / "empty", r"run\.json"),
    ):
        with pytest.raises(UsageError, match=words):
            _packed(folder, "--images", tmp_path, "-o", tmp_path / "made.eiqa")
    assert not (tmp_path / "made.eiqa").exists()


def test_a_student_gets_name_card_and_origin(tmp_path: Path) -> None:
    exported = build_bundle(tmp_path / "exported.eiqa")
    (tmp_path / "card.md").write_text("# The card\n")
    arguments = ["student", exported.path, "--recipe", ENSEMBLE, "--card", tmp_path / "card.md"]
    arguments += ["--data", "all but a few"]
    output = tmp_path / "named.eiqa"
    CliRunner().invoke(main, [*map(str, arguments), "-o", str(output)], catch_exceptions=False, standalone_mode=False)
    bundle = Bundle.open(output)
    assert bundle.manifest.name == "named" and bundle.read("card.md") == b"# The card\n"
    assert bundle.manifest.provenance.commands[0].startswith("edgeiqa distill --recipe recipes/default_student.toml ")
    assert bundle.manifest.provenance.data == "all but a few"
    assert bundle.manifest.members == exported.manifest.members
    assert verify(Scorer(bundle)).passed


def test_the_default_bundle_is_one_small_int8_student() -> None:
    bundle, ensemble = default_bundle(), ensemble_bundle()
    (member,) = bundle.manifest.members
    recipe = student_recipe(ROOT / "recipes" / "default_student.toml")
    assert student_system(recipe).preprocess == member.preprocess
    (artefact,) = member.artefacts
    assert (artefact.target, artefact.precision) == ("onnx", "int8")
    gates = {gate.kind: gate for gate in artefact.gates}
    assert gates["rank"].passed and gates["rank"].report["srcc"] >= 0.99
    # It learned from all of the 930 photographs but these.
    assert gates["rank"].report["photos"] == 46 and gates["rank"].report["srcc_drop"]["high"] <= 0.03
    assert bundle.size_bytes <= 6_000_000 and bundle.size_bytes + ensemble.size_bytes <= 16_000_000
