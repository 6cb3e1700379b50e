"""An ensemble for planes of grey, and a process that teaches it and may be killed.

``python -m tests.compress.taught_planes PHOTOGRAPHS FOLDER THREADS`` says a word before each step.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
import torch
from edgeiqa.compress.data.dataset import read_csv
from edgeiqa.compress.fit import Step
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.compress.teach import teach
from edgeiqa.compress.teach_records import DataRecipe, MemberRecipe, TeachRecipe, TeachReport

from .grey_planes import BACKBONE, HEAD, QUICK, SIDE, fabric

replace = msgspec.structs.replace

PHOTOGRAPHS = 75
# One of three folds is left out by nobody.
RECIPE = TeachRecipe(
    name="planes",
    data=DataRecipe(folds=3, selection_fraction=0.2),
    members=(
        MemberRecipe(
            name="two-stages",
            backbone=BACKBONE,
            width=SIDE,
            height=SIDE,
            heldout_fold=2,
            weights=NoWeights(seed=0),
            stages=(HEAD, replace(QUICK, epochs=2)),
            seed=4,
        ),
        MemberRecipe(
            name="head",
            backbone=BACKBONE,
            width=SIDE,
            height=SIDE,
            heldout_fold=0,
            weights=NoWeights(seed=0),
            stages=(replace(HEAD, epochs=3),),
            keep="least_rmse",
        ),
    ),
)


class Watching:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[tuple[str, int]] = []
        self.epochs: list[tuple[str, dict[str, float]]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def cut(self, done: int, total: int) -> None:
        pass

    def ask(self, done: int, total: int) -> None:
        pass

    def step(self, name: str, step: Step) -> None:
        self.steps.append((name, step.done))

    def epoch(self, name: str, line: Any) -> None:
        self.epochs.append((name, dict(line)))


def run(photographs: Path, folder: Path, recipe: TeachRecipe = RECIPE, **options: Any) -> TeachReport:
    """Teach the ensemble on the photographs of a folder."""
    given: dict[str, Any] = {"fabric": fabric(), **options}
    return teach(recipe, read_csv(photographs / "mos.csv", photographs), folder, **given)


class Saying(Watching):
    """Says a word for each photograph that is cut and each step."""

    def cut(self, done: int, total: int) -> None:
        sys.stdout.write("cut\n")
        sys.stdout.flush()

    def step(self, name: str, step: Step) -> None:
        sys.stdout.write("step\n")
        sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    run(Path(sys.argv[1]), Path(sys.argv[2]), watch=Saying())
