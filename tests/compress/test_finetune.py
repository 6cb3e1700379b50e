"""The plain fine-tune: it learns, resumes to the same numbers, and stops on a loss that is not finite."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import Checkpoint, load_checkpoint, read_record, save_checkpoint
from edgeiqa.compress.finetune import EpochFigures, FinetuneRecipe, finetune, load_views, predict
from edgeiqa.compress.models.network import QualityNet, build
from edgeiqa.compress.models.records import System
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.runtime.errors import DataError, ModelError, RecordError, UsageError
from edgeiqa.runtime.preprocess import single_view
from edgeiqa.runtime.score_map import ScoreMap
from numpy.typing import NDArray

Labelled = tuple[tuple[NDArray[np.uint8], ...], NDArray[np.float64]]
RECIPE = FinetuneRecipe(epochs=3, batch=8, learning_rate=1e-3, head_learning_rate=1e-2, crop=28, seed=3)


@pytest.fixture(scope="module")
def system() -> System:
    return one_backbone("mobilenetv3_small_050", 32, 32)


@pytest.fixture(scope="module")
def labelled() -> Labelled:
    """Planes of grey whose opinion is their brightness, with a little noise."""
    stream = np.random.default_rng(0)
    mos = stream.random(40)
    noise = stream.integers(-8, 9, (40, 32, 32, 3))
    return (np.clip(40 + 170 * mos[:, None, None, None] + noise, 0, 255).astype(np.uint8),), mos


def _train(
    system: System, labelled: Labelled, folder: Path, recipe: FinetuneRecipe = RECIPE, **options: object
) -> QualityNet:
    (views,), mos = labelled
    return finetune(
        system,
        NoWeights(seed=0),
        recipe,
        training=((views[:32],), mos[:32]),
        heldout=((views[32:],), mos[32:]),
        folder=folder,
        device="cpu",
        **options,  # type: ignore[arg-type]
    )


class _Killed(Exception):
    pass


def test_a_run_that_was_killed_resumes_to_the_same_bits(system: System, labelled: Labelled, tmp_path: Path) -> None:
    whole = _train(system, labelled, tmp_path / "whole")

    def kill(figures: EpochFigures) -> None:
        if figures.epoch == 1:
            raise _Killed

    with pytest.raises(_Killed):
        _train(system, labelled, tmp_path / "cut", on_epoch=kill)
    resumed = _train(system, labelled, tmp_path / "cut")
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    logs = [list(csv.DictReader((tmp_path / run / "metrics.csv").read_text().splitlines())) for run in ("whole", "cut")]
    for one_line, other_line in zip(*logs, strict=True):
        one_line.pop("seconds"), other_line.pop("seconds")
        assert one_line == other_line


def test_it_learns_what_can_be_learned(system: System, labelled: Labelled, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    seen: list[EpochFigures] = []
    recipe = msgspec.structs.replace(RECIPE, epochs=16)
    _train(
        system,
        labelled,
        tmp_path,
        recipe,
        on_step=lambda done, whole: steps.append((done, whole)),
        on_epoch=seen.append,
    )
    # Sums in another order (threads, processors) take another path; all of them go well down.
    assert min(figures.loss for figures in seen[-4:]) < 0.75 * seen[0].loss
    assert steps == [(step + 1, 64) for step in range(64)]
    assert [figures.epoch for figures in seen] == list(range(16))


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_state(
    system: System, labelled: Labelled, tmp_path: Path
) -> None:
    wild = msgspec.structs.replace(RECIPE, learning_rate=1e30, head_learning_rate=1e30)
    with pytest.raises(DataError, match=r"a loss of (nan|inf) in epoch \d+, step \d+, rows \["):
        _train(system, labelled, tmp_path, wild)


def test_fewer_photographs_than_a_batch(system: System, labelled: Labelled, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="32 training photographs"):
        _train(system, labelled, tmp_path, msgspec.structs.replace(RECIPE, batch=33))
    assert not (tmp_path / "metrics.csv").exists()


def test_recipes_out_of_range_are_refused() -> None:
    for wrong in ({"epochs": 0}, {"batch": 1}, {"learning_rate": 0.0}, {"full_size_epochs": 4}, {"huber_delta": -1.0}):
        with pytest.raises(RecordError):
            msgspec.structs.replace(RECIPE, **wrong)


def test_views_are_cut_by_the_runtime_and_predictions_do_not_depend_on_the_batch(
    system: System, data_root: Path
) -> None:
    paths = sorted((data_root / "clive" / "images").glob("*.jpg"))[:5]
    (views,) = load_views(paths, single_view(32, 32))
    assert views.shape == (5, 32, 32, 3)
    network = build(system, weights=NoWeights(seed=0)).train()
    together, alone = predict(network, (views,), batch=5), predict(network, (views,), batch=1)
    assert network.training
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert len(set(np.round(together, 6))) > 1


def test_a_checkpoint_round_trip_keeps_scores_to_the_bit(system: System, labelled: Labelled, tmp_path: Path) -> None:
    network = build(system, weights=NoWeights(seed=5))
    record = Checkpoint(name="student", system=system, score_map=ScoreMap(), provenance={"seed": 5})
    save_checkpoint(tmp_path / "run", record, network)
    read, loaded = load_checkpoint(tmp_path / "run")
    assert read == record
    assert not loaded.training
    np.testing.assert_array_equal(predict(loaded, labelled[0]), predict(network, labelled[0]))
    assert not list((tmp_path / "run").glob("*.partial"))


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


def test_the_state_of_another_run_is_refused(system: System, labelled: Labelled, tmp_path: Path) -> None:
    recipe = msgspec.structs.replace(RECIPE, epochs=1)
    _train(system, labelled, tmp_path, recipe)
    kept = (tmp_path / "resume.pt").read_bytes()
    (views,), mos = labelled
    for other_recipe, other in (
        (msgspec.structs.replace(recipe, epochs=2), labelled),
        (msgspec.structs.replace(recipe, learning_rate=1e-4), labelled),
        (recipe, ((views,), 1 - mos)),
        (recipe, ((views[::-1],), mos)),
    ):
        with pytest.raises(UsageError, match="the state of another run"):
            _train(system, other, tmp_path, other_recipe)
    assert (tmp_path / "resume.pt").read_bytes() == kept
    (tmp_path / "resume.pt").write_bytes(kept[:1000])
    with pytest.raises(UsageError, match="cannot be read"):
        _train(system, labelled, tmp_path, recipe)
