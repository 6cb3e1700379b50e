"""The README's commands for a device run as they stand, with the default bundle."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from .installed import python, save_photo, scripts_first

README = Path(__file__).resolve().parents[2] / "README.md"
TEXT = README.read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"<!-- device -->\n```\n(.*?)```\n<!-- end -->", TEXT, re.DOTALL)
SNIPPETS: list[str] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photographs under the names that the README uses."""
    for seed, name in enumerate(("photo.jpg", "holiday/beach.png", "holiday/day2/hills.jpg", "a.jpg", "b.jpg")):
        save_photo(tmp_path / name, seed)
    return tmp_path


def test_the_readme_has_commands_for_a_device() -> None:
    assert len(BLOCKS) == 2 and len(SNIPPETS) == 1


@pytest.mark.parametrize("command", [line for block in BLOCKS for line in block.splitlines() if line.strip()])
def test_a_command_for_a_device(folder: Path, command: str) -> None:
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=scripts_first(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip()
    if "--html" in command:
        assert (folder / "sheet.html").stat().st_size > 1000
    if "--resume" in command:
        assert len((folder / "scores.jsonl").read_text().splitlines()) == 2
    if "score" in command and "--json" in command:
        paths = [json.loads(line)["path"] for line in ran.stdout.splitlines()]
        assert paths == ["photo.jpg", "holiday/beach.png", "holiday/day2/hills.jpg"]
    if "unpack" in command:
        assert (folder / "unpacked" / "manifest.json").is_file() and list((folder / "unpacked").rglob("*.onnx"))


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_python_of_the_readme(folder: Path, snippet: str) -> None:
    ran = python(snippet, folder)
    assert (ran.returncode, ran.stderr) == (0, "")
    first, a, b = ran.stdout.splitlines()
    assert 0 <= float(first.split()[0]) <= 100
    assert a.startswith("a.jpg ") and b.startswith("b.jpg ") and a.endswith(" None")
