"""One small bundle, one of two members, and a folder of photographs, made once for all tests of the command."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from edgeiqa.compress.checkpoint import Checkpoint, save_checkpoint
from edgeiqa.compress.models import NoWeights, build, one_backbone
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.tools import export_source

from .command import edgeiqa, save_photo

# Backbone, what its head is multiplied by so that scores of different photographs lie apart, and the map's centre.
MEMBERS = {"first": ("mobilenetv3_small_050", 2000.0, 0.0), "second": ("test_efficientnet", -1000.0, 0.4)}


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One member of random weights, as ONNX and as OpenVINO's graph."""
    path = tmp_path_factory.mktemp("small") / "small.eiqa"
    ran = edgeiqa(
        *("export", "--backbone", "mobilenetv3_small_050", "--size", "64x64", "--weights", "none"),
        *("--target", "onnx", "--target", "openvino", "-o", path),
    )
    assert (ran.code, ran.out) == (0, f"{path}\n"), ran.err
    return path


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two members, each a checkpoint with a score map of its own."""
    run = tmp_path_factory.mktemp("runs") / "training"
    for index, (name, (backbone, factor, centre)) in enumerate(MEMBERS.items()):
        system = one_backbone(backbone, 64, 64, stages=(1,))
        network = build(system, weights=NoWeights(seed=index))
        with torch.no_grad():
            network.head.output.weight.mul_(factor)
        score_map = ScoreMap(steps=(Sigmoid(slope=3.0, centre=centre, low=0.0, high=100.0),), fitted_on="nothing")
        save_checkpoint(
            run / name, Checkpoint(name=name, system=system, score_map=score_map, provenance={"seed": index}), network
        )
    return run


@pytest.fixture(scope="session")
def pair_bundle(run_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two members, weights stored as FP16."""
    path = tmp_path_factory.mktemp("pair") / "pair.eiqa"
    ran = edgeiqa("export", run_folder, "--store", "fp16", "--combine", "3,1", "-o", path)
    assert ran.code == 0, ran.err
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty photographs of several sharpnesses, ``00.jpg`` to ``19.jpg``."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(20):
        save_photo(folder / f"{seed:02}.jpg", seed, blur=seed % 3, size=(120 + 4 * seed, 90))
    return folder


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting a network fails the test: what can be refused is refused before."""

    def worked(*_: object) -> None:
        raise AssertionError("a network was exported before the call was refused")

    monkeypatch.setattr(export_source, "export_member", worked)
    monkeypatch.setattr(export_source, "float_model", worked)
