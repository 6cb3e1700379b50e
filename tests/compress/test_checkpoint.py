"""Checkpoints: what was written comes back to the bit, and what is none of them is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import Checkpoint, load_checkpoint, read_record, save_checkpoint
from edgeiqa.compress.models.network import build
from edgeiqa.compress.models.records import System
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.runtime.errors import ModelError
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid


@pytest.fixture(scope="module")
def system() -> System:
    return one_backbone("mobilenetv3_small_050", 32, 32, stages=(1,))


def test_a_checkpoint_round_trip_keeps_scores_to_the_bit(system: System, tmp_path: Path) -> None:
    network = build(system, weights=NoWeights(seed=5)).eval()
    score_map = ScoreMap(steps=(Sigmoid(slope=3.0, centre=0.4, low=0.0, high=100.0),), low=0.0, high=100.0)
    record = Checkpoint(name="student", system=system, score_map=score_map, provenance={"seed": 5})
    save_checkpoint(tmp_path / "run", record, network)
    read, loaded = load_checkpoint(tmp_path / "run")
    assert read == record == read_record(tmp_path / "run")
    assert not loaded.training
    views = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8))
    with torch.inference_mode():
        said, expected = loaded(views), network(views)
    assert said.keys() == expected.keys()
    assert all(torch.equal(said[name], expected[name]) for name in said)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint.json", "weights.safetensors"]


def test_an_older_record_does_not_stand_beside_newer_weights(
    system: System, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Checkpoint(name="a", system=system, score_map=ScoreMap(), provenance={})
    save_checkpoint(tmp_path, record, build(system, weights=NoWeights(seed=0)))

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(msgspec.json, "encode", cut_off)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, record, build(system, weights=NoWeights(seed=1)))
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load_checkpoint(tmp_path)


def test_a_folder_that_is_no_checkpoint_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ModelError, match=r"notes\.txt"):
        read_record(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        read_record(tmp_path / "nowhere")
    (tmp_path / "checkpoint.json").write_text('{"name": 1}')
    with pytest.raises(ModelError, match="a checkpoint's record"):
        read_record(tmp_path)


def test_weights_of_another_network_are_refused(system: System, tmp_path: Path) -> None:
    network = build(system, weights=NoWeights(seed=0))
    save_checkpoint(tmp_path / "a", Checkpoint(name="a", system=system, score_map=ScoreMap(), provenance={}), network)
    other = one_backbone("mobilenetv3_small_075", 32, 32)
    record = Checkpoint(name="a", system=other, score_map=ScoreMap(), provenance={})
    (tmp_path / "a" / "checkpoint.json").write_bytes(msgspec.json.encode(record))
    with pytest.raises(ModelError, match="the weights of mobilenetv3_small_075"):
        load_checkpoint(tmp_path / "a")


def test_weights_that_are_cut_off_are_refused(system: System, tmp_path: Path) -> None:
    record = Checkpoint(name="a", system=system, score_map=ScoreMap(), provenance={})
    save_checkpoint(tmp_path, record, build(system, weights=NoWeights(seed=0)))
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        load_checkpoint(tmp_path)
