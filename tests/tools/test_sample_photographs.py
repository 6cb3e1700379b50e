"""Photographs that other packages ship: found where they are, in one order, without loading those packages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.errors import DataError, MissingExtraError
from edgeiqa.runtime.preprocess import Preprocess, Resize, View
from edgeiqa.tools.sample_photographs import CREDITS, sample_photographs
from PIL import Image

NAMES = ["china.jpg", "flower.jpg", "astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]


def found(monkeypatch: pytest.MonkeyPatch, packages: dict[str, Path]) -> None:
    """Let only these packages be installed."""

    def find_spec(name: str) -> ModuleSpec | None:
        if name not in packages:
            return None
        spec = ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(packages[name])]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


def install(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_they_are_natural_colour_photographs_in_one_order() -> None:
    paths = sample_photographs()
    assert [path.name for path in paths] == NAMES == [path.name for path in sample_photographs()]
    assert list(CREDITS) == NAMES
    for path in paths:
        with Image.open(path) as image:
            assert image.mode == "RGB" and min(image.size) >= 300 and max(image.size) <= 741
            pixels = np.asarray(image, dtype=np.float64)
        # Not grey: the channels differ; not drawn: nearly all levels are there.
        assert np.abs(pixels[..., 0] - pixels[..., 2]).mean() > 5
        assert len(np.unique(pixels)) > 200


def test_no_heavy_package_is_loaded() -> None:
    code = (
        "import sys; from edgeiqa.tools.sample_photographs import sample_photographs; sample_photographs();"
        "print([name for name in ('sklearn', 'skimage', 'scipy', 'torch', 'numpy') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_one_package_is_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = install(tmp_path, ["datasets/images/china.jpg", "datasets/images/flower.jpg"])
    found(monkeypatch, {"sklearn": folder})
    assert sample_photographs() == [folder / "datasets/images/china.jpg", folder / "datasets/images/flower.jpg"]


def test_without_either_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found(monkeypatch, {})
    with pytest.raises(MissingExtraError, match=r'pip install "edgeiqa\[samples\]"'):
        sample_photographs()


def test_a_package_without_its_photographs_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found(monkeypatch, {"sklearn": install(tmp_path, ["datasets/images/china.jpg"])})
    with pytest.raises(DataError, match=r"without flower\.jpg"):
        sample_photographs()


def test_the_runtime_opens_them() -> None:
    preprocess = Preprocess(views=(View(name="view", operations=(Resize(width=64, height=64),)),))
    assert all(min(open_photo(path, preprocess).image.size) >= 300 for path in sample_photographs())
