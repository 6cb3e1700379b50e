"""A grid of configurations: what it expands to, and a run of it whose folds' members are the best candidates."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.compress import teach, teach_results
from edgeiqa.compress.checkpoint import RECORD_NAME
from edgeiqa.compress.grid import Configuration, GridRecipe
from edgeiqa.compress.models.records import Linear, Mlp
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.mos_transform import EvenMos
from edgeiqa.compress.stages import Augmentation, Cosine, ScoreLosses, rate_factor
from edgeiqa.compress.teach import CANDIDATES, MEMBERS, OUT_OF_FOLD, SELECTION
from edgeiqa.compress.teach_records import DataRecipe, TeachReport
from edgeiqa.compress.teachers import Teacher, load_teacher
from edgeiqa.runtime.errors import DataError, RecordError
from edgeiqa.tools.verb_teach import read_recipe

from .grey_planes import BACKBONE, QUICK, SIDE, write_photographs
from .taught_planes import PHOTOGRAPHS, Watching, run

replace = msgspec.structs.replace

PLAIN = Configuration(name="plain", augmentation=Augmentation(), losses=ScoreLosses(mse=1.0, huber=0.0, plcc=0.0))
OTHER = Configuration(
    name="other",
    augmentation=Augmentation(flip=False),
    losses=ScoreLosses(),
    schedule=Cosine(),
    head=Mlp(hidden=4),
    mos_transform=EvenMos(pieces=2),
    keep="last",
)
GRID = GridRecipe(
    name="grid",
    data=DataRecipe(folds=2, selection_fraction=0.2),
    backbone=BACKBONE,
    width=SIDE,
    height=SIDE,
    weights=NoWeights(seed=0),
    stage=QUICK,
    configurations=(PLAIN, OTHER),
    seed=3,
)


def test_every_configuration_on_every_fold() -> None:
    recipe = GRID.expanded()
    assert recipe.one_a_fold
    assert [(one.name, one.heldout_fold, one.seed) for one in recipe.members] == [
        ("plain-0", 0, 3),
        ("plain-1", 1, 4),
        ("other-0", 0, 3),
        ("other-1", 1, 4),
    ]
    plain, other = recipe.members[0], recipe.members[2]
    assert plain.stages == (replace(QUICK, name="plain", augmentation=Augmentation(), losses=PLAIN.losses),)
    assert (plain.keep, plain.mos_transform) == ("two_checkpoints", None)
    assert (other.keep, other.head, other.mos_transform) == ("last", OTHER.head, OTHER.mos_transform)
    assert other.stages[0].schedule == Cosine() and not other.stages[0].augmentation.flip


def test_what_a_configuration_does_not_say_is_the_stages() -> None:
    bare = Configuration(name="bare", source="a paper")
    (member, *_) = replace(GRID, configurations=(bare,)).expanded().members
    assert member.stages == (replace(QUICK, name="bare"),) and member.source == "a paper"


def test_names_are_there_once_and_can_be_folders() -> None:
    only = replace(PLAIN, compared=True)
    for configurations in ((), (PLAIN, PLAIN), (replace(PLAIN, name="a/b"),), (only,)):
        with pytest.raises(RecordError):
            replace(GRID, configurations=configurations)


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, TeachReport]:
    photographs, folder = tmp_path_factory.mktemp("planes"), tmp_path_factory.mktemp("run") / "grid"
    write_photographs(photographs, PHOTOGRAPHS)
    return photographs, folder, run(photographs, folder, GRID.expanded())


def test_a_folds_member_is_its_best_candidate(taught: tuple[Path, Path, TeachReport]) -> None:
    _, folder, report = taught
    assert len(report.candidates) == 4
    for fold in (0, 1):
        candidates = [one for one in report.candidates if one.fold == fold]
        (chosen,) = [one for one in candidates if one.chosen]
        assert chosen.agreement == max(one.agreement for one in candidates)
        assert report.members[fold].member == chosen.member
        assert report.members[fold].out_of_fold.srcc.value == pytest.approx(chosen.out_of_fold["srcc"])
        assert report.members[fold].selection.rmse.value == pytest.approx(chosen.selection["rmse"])
    kinds = {one.configuration: one.checkpoint for one in report.candidates}
    assert kinds["plain"] in ("loss", "r2") and kinds["other"] == ""
    members = {one.member for one in report.members}
    homes = {home.name: home.parent.name for home in folder.glob("*/*") if (home / RECORD_NAME).is_file()}
    assert homes == {one.member: MEMBERS if one.member in members else CANDIDATES for one in report.candidates}
    with (folder / OUT_OF_FOLD).open(newline="") as file:
        assert {line["member"] for line in csv.DictReader(file)} == members
    with (folder / SELECTION).open(newline="") as file:
        header = next(csv.reader(file))
    assert header == ["image", "sha256", "mos", *(one.member for one in report.members), "ensemble"]


def test_what_learned_nothing_or_is_for_comparison_is_not_chosen(
    taught: tuple[Path, Path, TeachReport], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs, _, report = taught
    fold = teach_results.fit_member_map
    dead = {one.member for one in report.candidates if one.chosen}

    def fit_member_map(raw: Any, mos: Any, member: Any, *rest: Any) -> Any:
        return fold(-raw if member.name in dead else raw, mos, member, *rest)

    for module in (teach_results, teach):
        monkeypatch.setattr(module, "fit_member_map", fit_member_map)
    watch = Watching()
    again = run(photographs, tmp_path / "dead", GRID.expanded(), watch=watch)
    assert {one.member for one in again.candidates} == {one.member for one in report.candidates} - dead
    assert sum("is no candidate" in line for line in watch.said) == len(dead)
    with pytest.raises(DataError, match="of which no candidate learned anything"):
        run(photographs, tmp_path / "dead", replace(GRID.expanded(), compared=("plain", "other")))


def test_a_choice_that_was_made_otherwise_is_put_right(taught: tuple[Path, Path, TeachReport]) -> None:
    photographs, folder, report = taught
    (other,) = [one.member for one in report.candidates if one.fold == 0 and not one.chosen]
    (folder / CANDIDATES / other).rename(folder / MEMBERS / other)
    assert run(photographs, folder, GRID.expanded()) == report
    assert {home.name for home in (folder / MEMBERS).iterdir()} == {one.member for one in report.members}


def test_it_teaches_with_the_members_alone(taught: tuple[Path, Path, TeachReport]) -> None:
    _, folder, report = taught
    teacher = load_teacher(str(folder), device="cpu")
    assert isinstance(teacher, Teacher)
    assert {member.name for member in teacher.members} == {one.member for one in report.members}


def test_a_finished_run_is_read_again_to_the_same_report(taught: tuple[Path, Path, TeachReport]) -> None:
    photographs, folder, report = taught
    watch = Watching()
    assert run(photographs, folder, GRID.expanded(), watch=watch) == report
    assert watch.steps == [] and sum("finished already" in line for line in watch.said) == 4


RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_the_convnext_ensemble_is_as_published() -> None:
    recipe = read_recipe(RECIPES / "vcip2025.toml")
    assert recipe.data.folds == 8 and len(recipe.members) == 80
    for member in recipe.members:
        (stage,) = member.stages
        assert (member.backbone, member.width, member.height) == ("convnext_large", 910, 512)
        assert (stage.epochs, stage.batch, stage.optimizer) == (70, 4, "adamw")
        changing = stage.augmentation
        assert (changing.brightness, changing.contrast, changing.saturation) == (0, 0, 0)
        assert (changing.blur_sigma, changing.noise) == (0, 0)
        assert member.keep == "two_checkpoints"
        rates = [
            stage.learning_rate * rate_factor(stage.schedule, step, steps=7000, steps_an_epoch=100)
            for step in (0, 999, 1000, 6999)
        ]
        assert rates == pytest.approx([1e-5, 1e-7, 1e-5, 1e-7], rel=0.01)
    heads = {member.head for member in recipe.members}
    assert heads == {Linear(), Mlp(hidden=256, activation="gelu", dropout=0.3)}
    losses = [one.stages[0].losses for one in recipe.members[::8]]
    assert {(one.mse, one.weighted_mse, one.huber, one.huber_delta) for one in losses} == {
        (1.0, 0.0, 0.0, 0.1),
        (0.0, 1.0, 0.0, 0.1),
        (0.0, 0.0, 1.0, 0.1),
    }


@pytest.mark.parametrize("name", ["vcip2025_lite0", "koniq_convnext", "koniq_cross_sampling", "clive_teachers"])
def test_a_recipe_of_teach_is_read(name: str) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    assert {member.heldout_fold for member in recipe.members} <= set(range(recipe.data.folds))


def test_koniq_70_30() -> None:
    plan = read_recipe(RECIPES / "koniq_convnext.toml").data
    assert (1 - plan.selection_fraction) * (1 - 1 / plan.folds) == pytest.approx(0.7)
