"""``edgeiqa export --members``: which members of a teach run a bundle keeps, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import Checkpoint, save_checkpoint
from edgeiqa.compress.models import NoWeights, build, one_backbone
from edgeiqa.export.kinds import Kind
from edgeiqa.profiles.budget import parse_budget
from edgeiqa.profiles.metrics import srcc
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import BudgetError, DataError
from edgeiqa.runtime.manifest import Mean
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.tools import export_source
from edgeiqa.tools.export_budget import bytes_a_weight, count_members
from edgeiqa.tools.export_members import Within, keep_members
from edgeiqa.tools.export_test_time import parse_test_time
from edgeiqa.tools.packing import find_checkpoints, load_trained
from edgeiqa.tools.runs import finish_run, start_run
from PIL import Image

from .command import edgeiqa, files_in, require_refusal

# Input size: the best member alone is the largest.
SIZES = {"a": 32, "b": 64, "c": 32, "d": 48}


def save_run(runs: Path, sizes: dict[str, int], kind: str = "teach") -> Path:
    """A finished run of members with random weights, and scores of its selection part.

    ``b`` is the best alone; the errors of ``a`` and ``c`` are each other's opposite; ``d`` is noise.
    """
    run = start_run(runs, kind, "small", {})
    for index, (name, size) in enumerate(sizes.items()):
        system = one_backbone("test_efficientnet", size, size)
        network = build(system, weights=NoWeights(seed=index))
        with torch.no_grad():
            network.head.output.weight.mul_(500.0)
        score_map = ScoreMap(steps=(Sigmoid(slope=1.0, centre=0.1 * index, low=0.0, high=100.0),), low=0.0, high=100.0)
        record = Checkpoint(name=name, system=system, score_map=score_map, provenance={"seed": index})
        save_checkpoint(run / "members" / name, record, network)
    rng = np.random.default_rng(3)
    mos = rng.uniform(0, 100, 40)
    error = 40 * rng.normal(size=40)
    said = {"a": mos + error, "b": mos + 2 * rng.normal(size=40), "c": mos - error, "d": rng.uniform(0, 100, 40)}
    with (run / "selection.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        # Not in the order of the folders, by which nothing is to be known.
        names = list(reversed(sizes))
        writer.writerow(["image", "sha256", "mos", *names, "ensemble"])
        for row in range(40):
            scores = [float(said[name][row]) for name in names]
            writer.writerow([f"{row}.jpg", f"{row:064x}", float(mos[row]), *scores, float(np.mean(scores))])
    finish_run(run)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("teach"), SIZES)


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting a network fails the test."""

    def worked(*_: object) -> None:
        raise AssertionError("a network was exported before the call was refused")

    monkeypatch.setattr(export_source, "export_member", worked)


def kept(run: Path, members: str, budget: str | None = None, *, test_time: str | None = None, weight: int = 4) -> str:
    """The names of those that are kept; ``weight`` is its bytes."""
    within = Within(
        budget=None if budget is None else parse_budget(budget),
        images=None if test_time is None else parse_test_time(test_time),
        bytes_a_weight=weight,
    )
    return "".join(folder.name for folder in keep_members(run, find_checkpoints(run), members, within))


def test_a_bundle_of_named_members_scores_as_their_mean(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = edgeiqa("export", run, "--members", "d, a")
    assert (ran.code, ran.out) == (0, "ensemble.eiqa\n"), ran.err
    assert f"kept of {run.name}: d, a (2 of 4); SRCC on the selection part: " in ran.err
    bundle = Bundle.open("ensemble.eiqa")
    assert [member.name for member in bundle.manifest.members] == ["d", "a"]
    assert bundle.manifest.combine == Mean()
    assert edgeiqa("export", run, "-o", "all.eiqa").code == 0
    whole = Bundle.open("all.eiqa")
    maps = {member.name: member.artefacts[0].score_map for member in whole.manifest.members}
    assert [member.artefacts[0].score_map for member in bundle.manifest.members] == [maps["d"], maps["a"]]
    for name in ("06.jpg", "11.jpg"):
        photo = Image.open(photos / name)
        all_of_them = dict(zip(maps, Scorer(whole).score(photo).members, strict=True))
        score = Scorer(bundle).score(photo)
        assert score.members == pytest.approx((all_of_them["d"], all_of_them["a"]), abs=1e-4)
        assert score.value == pytest.approx((all_of_them["d"] + all_of_them["a"]) / 2, abs=1e-4)


def test_the_newest_run_and_a_single_member(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = edgeiqa("export", "--runs", run.parent, "--members", "1")
    # It has its own name, as a checkpoint has.
    assert (ran.code, ran.out) == (0, "b.eiqa\n"), ran.err
    assert [member.name for member in Bundle.open("b.eiqa").manifest.members] == ["b"]
    assert f"the newest run: {run}" in ran.err and "chosen there, it is flattered" in ran.err


def test_how_many_and_as_many_as_score_best(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kept(run, "1") == "b" and kept(run, "4") == "abcd"
    # Forward selection keeps those before.
    assert "b" in kept(run, "2") and set(kept(run, "2")) < set(kept(run, "3"))
    with (run / "selection.csv").open() as file:
        rows = list(csv.DictReader(file))
    mos = [float(row["mos"]) for row in rows]

    def reached(names: str) -> float:
        return srcc(np.mean([[float(row[name]) for row in rows] for name in names], axis=0), mos)

    best = kept(run, "best")
    assert reached(best) == pytest.approx(max(reached(kept(run, str(count))) for count in range(1, 5)))
    capsys.readouterr()
    kept(run, "2")
    said = capsys.readouterr().err
    assert f"SRCC on the selection part: {reached(kept(run, '2')):.3f} (" in said
    assert f"of all 4 {reached('abcd'):.3f}" in said


def test_choices_are_within_the_multiply_adds_of_a_budget(run: Path) -> None:
    macs = {folder.name: count_members(load_trained([folder])).macs for folder in find_checkpoints(run)}
    assert macs["a"] == macs["c"] < macs["d"] < macs["b"]
    # The best alone is too large; the two whose errors cancel are not.
    assert kept(run, "best", f"{2 * macs['a']}MACs") == kept(run, "2", f"{2 * macs['a']}MACs") == "ac"
    assert kept(run, "best", f"{2 * macs['a'] - 1}MACs") in ("a", "c")
    # A budget of something else does not choose.
    assert kept(run, "1", "1ms") == "b"
    with pytest.raises(BudgetError, match="--members 3, of which forward selection takes 2 within"):
        kept(run, "3", f"{2 * macs['a']}MACs")
    with pytest.raises(BudgetError, match="none of which is within macs"):
        kept(run, "best", f"{macs['a'] - 1}MACs")


def test_choices_are_within_the_bytes_of_a_budget(run: Path) -> None:
    parameters = {count_members(load_trained([folder])).parameters for folder in find_checkpoints(run)}
    (each,) = parameters
    assert kept(run, "1", f"{4 * each}B") == kept(run, "best", f"{8 * each - 1}B") == "b"
    assert len(kept(run, "2", f"{8 * each}B")) == 2
    with pytest.raises(BudgetError, match="--members 2, of which forward selection takes 1 within"):
        kept(run, "2", f"{8 * each - 1}B")
    with pytest.raises(BudgetError, match="none of which is within size_bytes"):
        kept(run, "best", f"{4 * each - 1}B")
    # Weights of a byte leave room for four times as many.
    assert kept(run, "4", f"{4 * each}B", weight=1) == "abcd"
    macs = count_members(load_trained([run / "members" / "a"])).macs
    # Two that the multiply-adds let be, of which the bytes let one.
    both = f"{2 * macs}MACs,{4 * each}B"
    assert kept(run, "best", f"{2 * macs}MACs,{8 * each}B") == "ac" and kept(run, "best", both) in ("a", "c")


def test_a_weight_has_the_bytes_of_the_kind_that_takes_most() -> None:
    whole, small = Kind("onnx", "fp32"), Kind("openvino", "int8")
    assert [bytes_a_weight([kind], "fp32") for kind in (whole, Kind("openvino", "bf16"), small)] == [4, 2, 1]
    assert bytes_a_weight([small, whole], "fp32") == 4 and bytes_a_weight([whole, small], "fp16") == 2
    # Its graphs hold FP32's weights whatever --store says.
    assert bytes_a_weight([Kind("tensorrt", "fp32")], "fp16") == 4


@pytest.mark.usefixtures("no_work")
def test_a_choice_knows_how_the_weights_are_stored(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    each = count_members(load_trained([run / "members" / "a"])).parameters
    call = ("export", run, "--members", "3", "--budget", f"{7 * each}B")
    require_refusal(edgeiqa(*call, "--store", "fp16", "--members", "4"), "selection takes 3 within", code=1)
    require_refusal(edgeiqa(*call), "selection takes 1 within", code=1)


def test_choices_count_the_images_of_test_time(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    macs = count_members(load_trained([run / "members" / "a"])).macs
    # Twice but for the head, which runs once.
    assert kept(run, "best", f"{2 * macs}MACs", test_time="flip") in ("a", "c")
    assert kept(run, "best", f"{4 * macs}MACs", test_time="flip") == "ac"
    with pytest.raises(BudgetError, match="none of which is within macs"):
        kept(run, "1", f"{macs}MACs", test_time="flip")
    monkeypatch.chdir(tmp_path)
    # What is chosen passes the check of the networks that are exported.
    ran = edgeiqa("export", run, "--members", "best", "--test-time", "flip", "--budget", f"{4 * macs}MACs")
    assert (ran.code, ran.out) == (0, "ensemble.eiqa\n"), ran.err
    assert [member.name for member in Bundle.open("ensemble.eiqa").manifest.members] == ["a", "c"]


def test_named_members_need_no_table_and_chosen_ones_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = save_run(tmp_path, {"a": 32, "b": 32})
    table = run / "selection.csv"
    text = table.read_text()
    table.write_text(text.replace(",mos,b,a,", ",mos,b,other,"))
    with pytest.raises(DataError, match="whose selection part was scored by b, other"):
        kept(run, "1")
    table.unlink()
    with pytest.raises(DataError, match="edgeiqa teach --resume"):
        kept(run, "best")
    assert kept(run, "b") == "b"
    assert "b (1 of 2); SRCC on the selection part: not known" in capsys.readouterr().err


REFUSED: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an unknown name": (("{run}", "--members", "a,e"), ("no member 'e' in", "some of a,b,c,d")),
    "a name twice": (("{run}", "--members", "a,a"), ("a member twice",)),
    "no name": (("{run}", "--members", ""), ("no member ''",)),
    "none": (("{run}", "--members", "0"), ("--members 0", "1 to 4")),
    "more than there are": (("{run}", "--members", "5"), ("--members 5", "1 to 4")),
    "a backbone": (
        ("--backbone", "test_efficientnet", "--size", "32x32", "--weights", "none", "--members", "1"),
        ("--members 1 with --system or --backbone", "one teach run"),
    ),
    "a bundle": (("{bundle}", "--members", "first"), ("--members first with", "one teach run")),
    "a checkpoint": (("{run}/members/a", "--members", "a"), ("no teach run",)),
    "two runs": (("{run}", "{run}", "--members", "1"), ("with 2 inputs",)),
    "checkpoints of no run": (("{folder}", "--members", "first"), ("no teach run",)),
    "a run of one member": (("{single}", "--members", "1"), ("a run of one member",)),
    "a student": (("{student}", "--members", "1"), ("no teach run",)),
}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("reason", list(REFUSED))
def test_what_is_refused_before_any_work(
    run: Path, run_folder: Path, pair_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    arguments, words = REFUSED[reason]
    places = {"run": run, "folder": run_folder, "bundle": pair_bundle}
    if reason == "a run of one member":
        places["single"] = save_run(tmp_path / "runs", {"a": 32})
    if reason == "a student":
        places["student"] = save_run(tmp_path / "runs", {"a": 32, "b": 32}, "distill")
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    require_refusal(edgeiqa("export", *(text.format(**places) for text in arguments)), *words)
    assert files_in(work) == set()


def test_a_budget_that_is_too_small_is_an_honest_no(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_refusal(edgeiqa("export", run, "--members", "best", "--budget", "1MACs"), "none of which", code=1)
    assert files_in(tmp_path) == set()
