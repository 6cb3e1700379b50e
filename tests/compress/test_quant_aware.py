"""Quantization-aware fine-tuning from end to end: it learns, leaves a plain checkpoint, resumes, and refuses."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress import quant_aware as module
from edgeiqa.compress.checkpoint import load_checkpoint
from edgeiqa.compress.data.items import Item, cut_item
from edgeiqa.compress.distill_plan import TransferPhotographs
from edgeiqa.compress.fake_quant import FakeQuantization
from edgeiqa.compress.judging import predict
from edgeiqa.compress.quant_aware_learning import QuantAwareObjective, feature_variances
from edgeiqa.compress.quant_aware_records import QuantAwareLosses, QuantAwareRecipe, QuantAwareReport
from edgeiqa.compress.stages import ScoreLosses, Stage
from edgeiqa.runtime.errors import DataError, ModelError, RecordError, UsageError
from PIL import Image

from . import quick_quantization
from .quick_quantization import RECIPE, SIDE, STAGE, hostile, run, save_hostile, stretch
from .quick_students import planes, save_planes, table

COUNT = 24


def recipe(*, losses: dict[str, float] | None = None, **changed: object) -> QuantAwareRecipe:
    stage = msgspec.structs.replace(STAGE, **changed)
    return msgspec.structs.replace(RECIPE, stages=(stage,), losses=QuantAwareLosses(**(losses or {})))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads take another path."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_planes(tmp_path_factory.mktemp("photographs"), COUNT)


@pytest.fixture(scope="module")
def photographs(folder: Path) -> TransferPhotographs:
    return planes(folder)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a network that INT8 spoils."""
    return save_hostile(tmp_path_factory.mktemp("start") / "student")


@pytest.fixture(scope="module")
def learned(
    start: Path, photographs: TransferPhotographs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, QuantAwareReport]:
    at = tmp_path_factory.mktemp("learned") / "run"
    return at, run(recipe(epochs=6), start, photographs, at)


def brightness(path: Path) -> float:
    with Image.open(path) as image:
        return float(np.asarray(image).mean() / 255)


def raw_scores(at: Path, photographs: TransferPhotographs) -> np.ndarray:
    record, network = load_checkpoint(at)
    items = [Item(path=photo.path, sha256=photo.sha256) for photo in photographs.heldout]
    views = np.stack([cut_item(item, record.system.preprocess)["image"] for item in items])
    return predict(network, (views,))


def test_the_stretched_network_is_the_same_in_fp32() -> None:
    """So what is measured on it is what INT8 does."""
    views = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, SIDE, SIDE, 3), dtype=np.uint8))
    small, large = hostile(2.0), hostile(64.0)
    with torch.no_grad():
        torch.testing.assert_close(small(views)["score"], large(views)["score"], rtol=1e-3, atol=1e-3)
        stretch(large, 2.0)


def test_int8_comes_nearer_to_what_fp32_said(learned: tuple[Path, QuantAwareReport]) -> None:
    _, report = learned
    assert report.int8_before is not None and report.int8_after is not None and report.fp32_after is not None
    assert report.int8_after.value > report.int8_before.value + 0.3
    assert report.fp32_after.value > 0.95
    assert report.change_after < 0.7 * report.change_before and report.change_before > 5
    first = report.history[0]
    assert {"teacher_huber", "teacher_plcc", "feature"} < set(first) and not {"mos_huber", "mos_plcc"} & set(first)
    # Of 16 photographs each whole and distorted, in batches of 8.
    assert (report.photographs, report.items, report.steps, len(report.history)) == (16, 32, 24, 6)
    # Of 8 held out there are distorted versions too, so that there is an order.
    assert (report.heldout, report.judged, report.heldout_is) == (8, 16, "unlabelled photographs")
    assert (report.accuracy, report.accuracy_before) == (None, None)


def test_what_it_leaves_is_an_ordinary_checkpoint(
    learned: tuple[Path, QuantAwareReport], start: Path, photographs: TransferPhotographs
) -> None:
    at, report = learned
    assert sorted(path.name for path in at.iterdir()) == [
        *("checkpoint.json", "metrics.csv", "report.json", "selection.csv", "weights.safetensors")
    ]
    assert msgspec.json.decode((at / "report.json").read_bytes(), type=QuantAwareReport) == report
    (before, old), (record, network) = load_checkpoint(start), load_checkpoint(at)
    assert (record.name, record.system) == (before.name, before.system)
    assert record.provenance["quantization_aware"] is True and record.provenance["before"] == before.provenance
    assert "before quantization-aware training" in record.score_map.fitted_on
    # Batch norms kept their statistics; weights did not stay.
    states = old.state_dict(), network.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0] if "running" in name)
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    was, now = raw_scores(start, photographs), raw_scores(at, photographs)
    assert np.isfinite(now).all() and np.abs(now - was).mean() < 0.3
    # The table has the scores of both in FP32.
    rows = [row for row in table(at / "selection.csv") if not row["kind"]]
    np.testing.assert_allclose([float(row["student"]) for row in rows], record.score_map.apply(now), atol=1e-3)
    np.testing.assert_allclose([float(row["teacher"]) for row in rows], before.score_map.apply(was), atol=1e-3)
    assert {row["mos"] for row in rows} == {""}


def test_opinions_count_where_there_are_some(start: Path, photographs: TransferPhotographs, tmp_path: Path) -> None:
    everyone = (*photographs.training, *photographs.heldout)
    labelled = replace(photographs, mos={photo.sha256: brightness(photo.path) for photo in everyone})
    report = run(recipe(), start, labelled, tmp_path / "run", most_steps=3)
    assert {"mos_huber", "mos_plcc"} < set(report.history[0])
    assert (report.steps, report.judged, report.heldout_is) == (3, 8, "selection part")
    assert report.accuracy_before is not None and report.accuracy_int8_before is not None
    rows = table(tmp_path / "run" / "selection.csv")
    assert [float(row["mos"]) for row in rows] == pytest.approx(
        [100 * labelled.mos[photo.sha256] for photo in photographs.heldout]
    )
    assert "opinions on 8 held-out images" in load_checkpoint(tmp_path / "run")[0].score_map.fitted_on


def test_a_map_that_cannot_be_fitted_stays(start: Path, photographs: TransferPhotographs, tmp_path: Path) -> None:
    """Opinions against the order of the scores: the raw scores were to stay, so the map does."""
    everyone = (*photographs.training, *photographs.heldout)
    against = replace(photographs, mos={photo.sha256: 1 - brightness(photo.path) for photo in everyone})
    run(recipe(losses={"mos": 0.0}), start, against, tmp_path / "run", most_steps=1)
    assert load_checkpoint(tmp_path / "run")[0].score_map == load_checkpoint(start)[0].score_map


def test_the_feature_loss_is_the_share_of_variance_that_is_lost() -> None:
    network = hostile(1.0)
    views = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3), dtype=np.uint8)
    variances = feature_variances(network, (views,), np.arange(6), batch=4)
    with torch.no_grad():
        outputs = dict(network(torch.from_numpy(views)))
    assert set(variances) == set(outputs) - {"score"}
    own = {f"own.{name}": value for name, value in outputs.items()}
    nothing = torch.full((6,), torch.nan)
    targets = {"teacher": outputs["score"], "spread": torch.zeros(6), "mos": nothing, **own}
    stage = Stage(losses=ScoreLosses(mse=1.0, huber=0.0, plcc=0.0), freeze_batch_norm=True)
    objective = QuantAwareObjective(QuantAwareLosses(feature=2.0), variances)
    same = objective(outputs, targets, stage, 0)
    assert {name: float(term) for name, term in same.items()} == {"teacher_mse": 0.0, "feature": 0.0}
    means = {name: value.mean(0, keepdim=True).expand_as(value) for name, value in outputs.items()}
    assert float(objective(means, targets, stage, 0)["feature"]) == pytest.approx(2.0, rel=1e-3)


def killed(folder: Path, start: Path, at: Path, step: int) -> None:
    script = Path(quick_quantization.__file__)
    command = [sys.executable, "-m", f"{__package__}.{script.stem}"] if __package__ else [sys.executable, str(script)]
    ran = subprocess.run(
        [*command, str(folder), str(start), str(at), str(step)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=script.parents[2],
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr


def test_a_run_that_was_killed_comes_to_the_same_bits(
    start: Path, folder: Path, photographs: TransferPhotographs, tmp_path: Path
) -> None:
    whole = run(RECIPE, start, photographs, tmp_path / "whole")
    killed(folder, start, tmp_path / "cut", 6)
    assert (tmp_path / "cut" / "resume.pt").is_file() and not (tmp_path / "cut" / "checkpoint.json").exists()
    resumed = run(RECIPE, start, photographs, tmp_path / "cut")
    assert without_seconds(resumed) == without_seconds(whole)
    states = [load_checkpoint(tmp_path / name)[1].state_dict() for name in ("whole", "cut")]
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    assert (tmp_path / "whole" / "selection.csv").read_bytes() == (tmp_path / "cut" / "selection.csv").read_bytes()
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {
        path.name for path in (tmp_path / "cut").iterdir()
    }


def without_seconds(report: QuantAwareReport) -> QuantAwareReport:
    return msgspec.structs.replace(report, history=tuple({**line, "seconds": 0.0} for line in report.history))


def test_a_finished_run_is_not_trained_again_and_another_is_refused(
    start: Path, photographs: TransferPhotographs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(RECIPE, start, photographs, tmp_path / "run", most_steps=2)
    # As a kill between checkpoint and report would leave it.
    (tmp_path / "run" / "report.json").unlink()
    monkeypatch.setattr(module, "fit", None)
    assert run(RECIPE, start, photographs, tmp_path / "run", most_steps=2) == first
    assert (tmp_path / "run" / "report.json").is_file()
    other = save_hostile(tmp_path / "other", factor=2.0)
    for what, checkpoint, steps in ((RECIPE, start, 3), (recipe(epochs=3), start, 2), (RECIPE, other, 2)):
        with pytest.raises(UsageError, match="a finished student of another run"):
            run(what, checkpoint, photographs, tmp_path / "run", most_steps=steps)


def test_what_is_refused_before_anything_is_written(
    start: Path, photographs: TransferPhotographs, tmp_path: Path
) -> None:
    at = tmp_path / "run"
    with pytest.raises(UsageError, match="photographs without opinions"):
        run(recipe(losses={"score": 0.0, "mos": 1.0}), start, photographs, at)
    with pytest.raises(DataError, match="32 with their distorted versions"):
        run(recipe(batch=64), start, photographs, at)
    with pytest.raises(DataError, match="0 to judge by"):
        run(RECIPE, start, replace(photographs, heldout=()), at)
    with pytest.raises(ModelError, match=r"checkpoint\.json"):
        run(RECIPE, tmp_path, photographs, at)
    shutil.copytree(start, tmp_path / "broken")
    (tmp_path / "broken" / "weights.safetensors").write_bytes(b"weights")
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        run(RECIPE, tmp_path / "broken", photographs, at)
    blocks = FakeQuantization(float_blocks=("backbone.blocks.99*",))
    with pytest.raises(UsageError, match=r"backbone\.blocks\.99"):
        run(msgspec.structs.replace(RECIPE, quantization=blocks), start, photographs, at)
    assert not at.exists()


def test_recipes_that_make_no_sense() -> None:
    with pytest.raises(RecordError, match="weights of losses"):
        QuantAwareLosses(score=0.0, mos=0.0)
    with pytest.raises(RecordError, match="batch norms"):
        QuantAwareRecipe(stages=(Stage(),))
    with pytest.raises(RecordError, match="without stages"):
        QuantAwareRecipe(stages=())
