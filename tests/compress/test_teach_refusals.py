"""What an ensemble is refused for: other runs, too few photographs, a member that learned nothing, recipes that lie."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgeiqa.compress.checkpoint import RECORD_NAME, load_checkpoint, read_record
from edgeiqa.compress.data.dataset import read_csv
from edgeiqa.compress.models.records import Mlp
from edgeiqa.compress.models.weights import FileWeights
from edgeiqa.compress.teach import MEMBERS, REPORT, teach
from edgeiqa.compress.teach_records import DataRecipe, MemberRecipe, TeachRecipe
from edgeiqa.compress.teach_results import cross_fitted
from edgeiqa.runtime.errors import DataError, ModelError, RecordError, UsageError

from .grey_planes import HEAD, QUICK, fabric, write_photographs
from .taught_planes import PHOTOGRAPHS, RECIPE, Watching, run

replace = msgspec.structs.replace

SHORT = replace(RECIPE, members=(replace(RECIPE.members[0], stages=(HEAD,)),))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planes")
    write_photographs(folder, PHOTOGRAPHS)
    return folder


@pytest.fixture(scope="module")
def finished(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run(photographs, folder, SHORT)
    return folder


def refused(photographs: Path, folder: Path, recipe: TeachRecipe) -> UsageError:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(UsageError) as caught:
        run(photographs, folder, recipe)
    assert {path: path.read_bytes() for path in before} == before
    return caught.value


def test_a_folder_of_another_run_is_refused(finished: Path, photographs: Path) -> None:
    (member,) = SHORT.members
    other_member = refused(photographs, finished, replace(SHORT, members=(replace(member, seed=9),)))
    assert "a finished member of another run (its recipe differ)" in other_member.got and "-o" in other_member.mend
    other_data = refused(photographs, finished, replace(SHORT, data=replace(SHORT.data, seed=1)))
    assert "its data," in other_data.got


def test_other_opinions_are_another_run(finished: Path, photographs: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(photographs, tmp_path / "changed"))
    header, first, *rest = (changed / "mos.csv").read_text().splitlines()
    image, mos = first.split(",")
    (changed / "mos.csv").write_text("\n".join([header, f"{image},{float(mos) + 1e-3}", *rest]) + "\n")
    assert "its data_fingerprint" in refused(changed, finished, SHORT).got


def test_other_photographs_are_another_run(finished: Path, photographs: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(photographs, tmp_path / "changed"))
    (changed / "000.png").write_bytes((changed / "000.png").read_bytes() + b"\0")
    assert "its data_fingerprint" in refused(changed, finished, SHORT).got


def test_a_record_that_says_nothing_of_its_recipe_is_of_another_run(
    finished: Path, photographs: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    path = folder / MEMBERS / "two-stages" / RECORD_NAME
    record = msgspec.json.decode(path.read_bytes())
    record["provenance"] = {"recipe": {"name": 1}}
    path.write_bytes(msgspec.json.encode(record))
    assert (
        "its recipe, data, heldout_fold, training_photographs, data_fingerprint differ"
        in refused(photographs, folder, SHORT).got
    )


def test_a_member_in_the_middle_of_another_run(photographs: Path, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    class Stopping(Watching):
        def step(self, name: str, step: Any) -> None:
            # After the head's epoch.
            if step.done == 6:
                raise Stop

    with pytest.raises(Stop):
        run(photographs, tmp_path, watch=Stopping())
    kept = (tmp_path / MEMBERS / "two-stages" / "resume.pt").read_bytes()
    first, second = RECIPE.members
    other = replace(RECIPE, members=(replace(first, stages=(HEAD,)), second))
    with pytest.raises(UsageError, match="the state of another run"):
        run(photographs, tmp_path, other)
    assert (tmp_path / MEMBERS / "two-stages" / "resume.pt").read_bytes() == kept


def test_too_few_photographs_for_the_folds(photographs: Path, tmp_path: Path) -> None:
    def told(**data: Any) -> DataError:
        with pytest.raises(DataError) as caught:
            members = tuple(replace(member, heldout_fold=0) for member in RECIPE.members)
            recipe = TeachRecipe(name="planes", data=DataRecipe(**data), members=members)
            run(photographs, tmp_path / "run", recipe)
        assert caught.value.exit_code == 2
        assert not (tmp_path / "run").exists()
        return caught.value

    many = told(folds=8, selection_fraction=0.2)
    assert f"{PHOTOGRAPHS} photographs, which leave 7 for the smallest of 8 folds" in many.got
    assert "--folds 4" in many.mend and "--selection" not in many.mend
    reserved = told(folds=2, selection_fraction=0.05)
    assert "--selection" in reserved.mend and "--folds" not in reserved.mend
    assert "at least 10 in each" in reserved.expected
    # Nothing can be divided at all.
    assert "fewer folds" in told(folds=80, selection_fraction=0.2).mend


def test_fewer_photographs_than_a_batch(photographs: Path, tmp_path: Path) -> None:
    members = tuple(replace(member, stages=(HEAD, replace(QUICK, batch=64))) for member in RECIPE.members)
    with pytest.raises(
        DataError, match="40 photographs for two-stages to learn from; expected at least one batch of 64"
    ):
        run(photographs, tmp_path / "run", replace(RECIPE, members=members))
    assert not (tmp_path / "run").exists()


def test_a_member_that_learned_nothing_keeps_its_state(photographs: Path, tmp_path: Path) -> None:
    idle = replace(HEAD, head_learning_rate=1e-30, weight_decay=0.0)
    recipe = replace(RECIPE, members=(replace(RECIPE.members[0], stages=(idle,)), RECIPE.members[1]))
    for steps in (5, 0):
        watch = Watching()
        with pytest.raises(DataError, match=r"two-stages, whose scores of .* do not rise with the opinions") as caught:
            run(photographs, tmp_path, recipe, watch=watch)
        assert len(watch.steps) == steps and "resume.pt" in caught.value.mend
        home = tmp_path / MEMBERS / "two-stages"
        assert sorted(path.name for path in home.iterdir()) == ["metrics.csv", "resume.pt"]
    assert not (tmp_path / REPORT).exists()


def test_scores_that_fall_as_opinions_rise_name_the_member() -> None:
    raw = np.linspace(0, 1, 30)
    with pytest.raises(DataError, match="head, whose scores of 24 of its 30 out-of-fold photographs do not rise"):
        cross_fitted(raw, 1 - raw, RECIPE.members[1], None)


def test_weights_that_are_not_there_stop_it_before_photographs_are_cut(photographs: Path, tmp_path: Path) -> None:
    absent = replace(RECIPE.members[0], weights=FileWeights(path=str(tmp_path / "absent.safetensors")))
    watch = Watching()
    watch.cut = lambda done, total: pytest.fail("cut")  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="absent"):
        run(photographs, tmp_path / "run", replace(RECIPE, members=(absent,)), watch=watch)


def test_each_member_has_a_fabric_of_its_own_precision(photographs: Path, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def made(precision: str | None) -> Any:
        asked.append(precision)
        return fabric()

    first, _ = RECIPE.members
    short = replace(first, stages=(HEAD,))
    recipe = replace(RECIPE, members=(short, replace(short, name="half", heldout_fold=0, precision="bf16-mixed")))
    teach(recipe, read_csv(photographs / "mos.csv", photographs), tmp_path, fabric=made)
    assert asked == [None, "bf16-mixed"]
    assert read_record(tmp_path / MEMBERS / "half").provenance["recipe"]["precision"] == "bf16-mixed"


def test_the_seed_is_that_of_the_head_too(photographs: Path, tmp_path: Path) -> None:
    seeds: dict[str, Any] = {}
    idle = replace(HEAD, head_learning_rate=1e-3)
    for seed in (0, 1):
        member = replace(RECIPE.members[0], name=f"seed{seed}", head=Mlp(hidden=4), stages=(idle,), seed=seed)
        run(photographs, tmp_path / str(seed), replace(RECIPE, members=(member,)))
        _, network = load_checkpoint(tmp_path / str(seed) / MEMBERS / member.name)
        head: Any = network.head
        seeds[member.name] = head.layers[0].weight.detach()
    # Five steps of that rate have not made the difference.
    assert float((seeds["seed0"] - seeds["seed1"]).abs().mean()) > 0.01


MEMBER: dict[str, Any] = {field: getattr(RECIPE.members[0], field) for field in RECIPE.members[0].__struct_fields__}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DataRecipe(folds=1),
        lambda: DataRecipe(selection_fraction=0.0),
        lambda: DataRecipe(selection_fraction=0.51),
        lambda: MemberRecipe(**{**MEMBER, "name": "../elsewhere"}),
        lambda: MemberRecipe(**{**MEMBER, "name": ".."}),
        lambda: MemberRecipe(**{**MEMBER, "stages": ()}),
        lambda: MemberRecipe(**{**MEMBER, "heldout_fold": -1}),
        lambda: MemberRecipe(**{**MEMBER, "seed": -1}),
        lambda: TeachRecipe(name="a", data=DataRecipe(), members=()),
        lambda: TeachRecipe(name="../a", data=DataRecipe(), members=RECIPE.members),
        lambda: TeachRecipe(name="a", data=DataRecipe(), members=RECIPE.members[:1] * 2),
        lambda: TeachRecipe(name="a", data=DataRecipe(folds=2), members=RECIPE.members),
    ],
)
def test_recipes_that_cannot_be(wrong: Callable[[], object]) -> None:
    with pytest.raises(RecordError, match="expected"):
        wrong()


def test_a_recipe_goes_through_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(RECIPE), type=TeachRecipe) == RECIPE
