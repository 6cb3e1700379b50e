"""``edgeiqa teach`` with a grid of configurations: its tables, its folder, and a bundle of its members."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from edgeiqa.compress.teach_records import TeachReport
from edgeiqa.runtime.bundle import Bundle

from ..compress.grey_planes import write_photographs
from .command import edgeiqa, require_refusal

PHOTOGRAPHS = 50

RECIPE = """
name = "grid"
backbone = "mobilenetv3_small_050"
width = 32
height = 32
weights = { type = "none" }
data = { folds = 2, selection_fraction = 0.2 }

[stage]
epochs = 2
batch = 8
learning_rate = 1e-3
head_learning_rate = 1e-2
freeze_batch_norm = true
schedule = { type = "constant" }

[[configurations]]
name = "plain"
source = "a paper"

[[configurations]]
name = "mlp"
head = { type = "mlp", hidden = 8 }

[[configurations]]
name = "last"
keep = "last"
compared = true
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run, and what the command wrote on stdout."""
    folder = tmp_path_factory.mktemp("planes")
    write_photographs(folder, PHOTOGRAPHS)
    (folder / "grid.toml").write_text(RECIPE)
    options = ("--data", folder / "mos.csv", "--recipe", folder / "grid.toml", "--accelerator", "cpu")
    ran = edgeiqa("teach", *options, "-o", folder / "run")
    assert ran.code == 0, ran.err
    return folder / "run", ran.out


def test_the_best_set_up_of_each_fold_is_told(run: tuple[Path, str]) -> None:
    folder, out = run
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=TeachReport)
    assert "best set-up of each fold, of 6 candidates" in " ".join(out.split())
    chosen = [one for one in report.candidates if one.chosen]
    assert [one.fold for one in sorted(chosen, key=lambda one: one.fold)] == [0, 1]
    for one in chosen:
        assert one.configuration in ("plain", "mlp") and f"{one.configuration} ({one.source})" in out
        assert one.checkpoint in ("loss", "r2")
    assert {path.name for path in (folder / "members").iterdir()} == {one.member for one in chosen}
    page = (folder / "report.html").read_text()
    assert all(one.member in page for one in chosen) and "last-0" not in page


def test_its_members_are_what_is_exported(run: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = run
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=TeachReport)
    ran = edgeiqa("export", folder, "-o", tmp_path / "grid.eiqa")
    assert ran.code == 0, ran.err
    names = [member.name for member in Bundle.open(tmp_path / "grid.eiqa").manifest.members]
    assert sorted(names) == sorted(one.member for one in report.members)


def test_a_grid_that_cannot_be(tmp_path: Path) -> None:
    write_photographs(tmp_path, 3)
    (tmp_path / "grid.toml").write_text(RECIPE.replace('name = "mlp"', 'name = "plain"'))
    ran = edgeiqa("teach", "--data", tmp_path / "mos.csv", "--recipe", tmp_path / "grid.toml", "--runs", tmp_path / "r")
    require_refusal(ran, "configurations named ['plain', 'plain', 'last']")
