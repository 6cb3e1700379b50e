"""Two processes take the steps of one, decide alike, and write once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .grey_planes import train
from .two_processes import EXACT

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, "-m", "tests.compress.two_processes", str(folder)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=ROOT, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads((folder / f"process-{rank}.json").read_text()) for rank in range(2)], folder


def test_two_processes_take_the_steps_of_one(processes: tuple[list[Any], Path], tmp_path: Path) -> None:
    seen, _ = processes
    _, history = train(tmp_path, EXACT)
    for line, alone in zip(seen[0]["exact"]["history"], history, strict=True):
        assert line.keys() == alone.keys()
        for name in line.keys() - {"seconds"}:
            assert line[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("run", ["exact", "lively", "again"])
def test_both_have_the_same_weights_and_figures(processes: tuple[list[Any], Path], run: str) -> None:
    first, second = (seen[run] for seen in processes[0])
    assert first["weights"] == second["weights"]
    assert first["history"] == second["history"]
    # Only the first one talks.
    assert second["told"] == []


def test_what_is_done_is_read_by_both_and_not_done_again(processes: tuple[list[Any], Path]) -> None:
    first = processes[0][0]
    assert first["again"]["told"] == [] and first["lively"]["told"] == list(range(1, len(first["lively"]["told"]) + 1))
    assert first["again"]["weights"] == first["lively"]["weights"]
    # Patience ended it.
    stages = [line["stage"] for line in first["lively"]["history"]]
    assert stages[0] == 1 and 2 <= stages.count(2) < 5


def test_one_set_of_files(processes: tuple[list[Any], Path]) -> None:
    _, folder = processes
    assert sorted(path.name for path in (folder / "exact").iterdir()) == ["best_rmse.pt", "metrics.csv", "resume.pt"]
    assert sorted(path.name for path in (folder / "lively").iterdir()) == ["metrics.csv", "resume.pt"]
