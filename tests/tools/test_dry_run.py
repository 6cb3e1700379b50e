"""What a dry run of ``teach`` reckons with: the steps that a training takes, and what lies on the disk meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.compress import step_time
from edgeiqa.compress.data.cross_sampling import CrossSampling
from edgeiqa.compress.data.dataset import read_csv
from edgeiqa.compress.stages import Keep
from edgeiqa.compress.step_time import StepTime
from edgeiqa.compress.teach_records import TeachRecipe
from edgeiqa.tools.dry_run import Expected, teach_estimate

from ..compress.grey_planes import QUICK, fabric, write_photographs
from ..compress.taught_planes import PHOTOGRAPHS, RECIPE, Watching, run

replace = msgspec.structs.replace

PARAMETERS = 1000


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("planes")
    write_photographs(folder, PHOTOGRAPHS)
    return folder


@pytest.fixture
def a_second_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes a second and looking takes none, in every network."""

    def measured(*_: Any) -> StepTime:
        return StepTime(1.0, 0.0, PARAMETERS, 12 * PARAMETERS, None)

    monkeypatch.setattr(step_time, "measure_step", measured)


def estimate(photographs: Path, recipe: TeachRecipe) -> Expected:
    dataset = read_csv(photographs / "mos.csv", photographs)
    return teach_estimate(recipe, dataset, lambda _: fabric(), photographs)


@pytest.mark.usefixtures("a_second_a_step")
@pytest.mark.parametrize("sampling", [None, CrossSampling(method=1, ranges=3), CrossSampling(method=3, ranges=8)])
def test_the_steps_are_those_of_the_training(photographs: Path, tmp_path: Path, sampling: CrossSampling | None) -> None:
    stages = (replace(QUICK, epochs=2, batch=4, sampling=sampling), replace(QUICK, epochs=1, batch=4))
    recipe = replace(RECIPE, members=tuple(replace(member, stages=stages) for member in RECIPE.members))
    watch = Watching()
    run(photographs, tmp_path, recipe, watch=watch)
    assert estimate(photographs, recipe).seconds == len(watch.steps)
    # Two thirds of 60 photographs, three epochs, two members.
    assert (len(watch.steps) == 2 * 3 * 10) == (sampling is None)


@pytest.mark.usefixtures("a_second_a_step")
def test_the_disk_has_room_for_the_checkpoints_of_the_best_epochs(photographs: Path) -> None:
    def disk(*keeps: Keep) -> int:
        members = tuple(
            replace(member, keep=keep, stages=(QUICK,)) for member, keep in zip(RECIPE.members, keeps, strict=True)
        )
        return estimate(photographs, replace(RECIPE, members=members)).disk_bytes

    weights = 4 * PARAMETERS
    last = disk("last", "last")
    # Two members, and a state of three times the weights with its partial successor.
    views = last - (2 + 6) * weights
    assert 75 * 32 * 32 * 3 <= views < 75 * 32 * 32 * 3 + 1000
    # One member is trained at a time: the one that keeps most counts.
    assert disk("last", "least_rmse") - last == weights
    assert disk("two_checkpoints", "least_rmse") - last == 2 * weights
