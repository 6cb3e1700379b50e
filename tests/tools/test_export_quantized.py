"""``edgeiqa export`` in other precisions than FP32: gated by rank, with maps of their own, or not written."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.verify import verify
from edgeiqa.tools.distill_inputs import PhotographSource
from edgeiqa.tools.runs import finish_run, start_run
from edgeiqa.tools.sample_photographs import sample_photographs

from .command import edgeiqa, files_in, require_refusal, rewritten
from .teach_runs import save_labelled, teach_run

COUNT = 60
LOOSE = ("--least-srcc", -1, "--max-srcc-drop", 2, "--calibration-count", 32)


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights in a run, with 32 photographs that were reserved and have opinions."""
    root = tmp_path_factory.mktemp("made")
    data = save_labelled(root / "data", COUNT)
    parts: dict[str, int | str] = {f"{place:02}.jpg": place % 2 for place in range(COUNT)}
    reserved = dict.fromkeys((f"{place:02}.jpg" for place in range(32)), "selection")
    return teach_run(root / "runs", data, parts | reserved) / "members" / "a"


def gates(bundle: Bundle, place: int = 0) -> dict[str, Any]:
    return {gate.kind: gate.report for gate in bundle.manifest.members[0].artefacts[place].gates}


def test_int8_for_two_engines(member: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", member, "--target", "onnx", "--target", "openvino", "--precision", "int8", *LOOSE)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "a.eiqa"), ran.err
    bundle = Bundle.open(Path("a.eiqa"))
    kinds = [(artefact.target, artefact.precision) for artefact in bundle.manifest.members[0].artefacts]
    assert kinds == [("onnx", "int8"), ("openvino", "int8")]
    chosen = []
    for place in (0, 1):
        told = gates(bundle, place)
        assert told["rank"]["photos"] == 32 and told["rank"]["srcc_drop"] is not None
        chosen.append(told["quantization"]["calibration"])
        assert told["quantization"]["calibration"]["count"] == 32
        refit = told["score_map_refit"]["members"]["a"]
        assert refit["rmse_after"] <= refit["rmse_before"]
    # One set for every target.
    assert chosen[0] == chosen[1]
    for engine in ("onnxruntime", "openvino"):
        assert verify(Scorer(bundle, engine=engine)).passed
    assert "onnx int8" in ran.out and "openvino int8" in ran.out
    assert "times as fast" in ran.err or "as fast as" in ran.err


def test_what_fails_the_gate_is_not_written(member: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", member, "--precision", "int8", "--calibration-count", 32, "--max-change", 0)
    assert ran.code == 1 and not files_in(in_folder)
    assert "FAILED" in ran.out and "expected at most 0" in ran.err and "nothing was written" in ran.err


def test_as_json_the_report_of_what_failed(member: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", member, "--precision", "int8", "--calibration-count", 32, "--max-change", 0, "--json")
    (artefact,) = ran.object["artefacts"]
    assert ran.code == 1 and ran.object["bundle"] is None
    assert (artefact["kind"], artefact["passed"], artefact["rank"]["passed"]) == ("onnx int8", False, False)
    assert ran.object["calibration"]["count"] == 32


def test_tensorrt_as_written_does_the_best_and_says_which(member: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", member, "--target", "tensorrt", "--calibration-count", 32, "-o", "rt.eiqa")
    assert ran.code == 0, ran.err
    bundle = Bundle.open(Path("rt.eiqa"))
    (artefact,) = bundle.manifest.members[0].artefacts
    assert (artefact.target, artefact.precision) == ("tensorrt", "fp16") and artefact.files[0].endswith(".onnx")
    built = len(artefact.files) == 2
    assert built == bool(artefact.capability)
    assert ("products of the engine" if built else "not built") in ran.err
    assert "tensorrt/a.build_engine.py" in bundle.manifest.parts
    assert "golden answers by onnxruntime" in gates(bundle)
    assert verify(Scorer(bundle, engine="onnxruntime", precision="fp16")).passed
    # Engines are kept: the second time nothing is built.
    again = edgeiqa("export", member, "--target", "tensorrt", "--calibration-count", 32, "-o", "again.eiqa")
    assert ("found in the cache" in again.err) == built


def test_bf16_where_it_cannot_be_made(member: Path, in_folder: Path) -> None:
    for target in ("onnx", "tensorrt"):
        ran = edgeiqa("export", member, "--target", target, "--precision", "bf16")
        require_refusal(ran, "bf16", "openvino")


def test_all_kinds_in_one_table(member: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", member, "--all", *LOOSE, "-o", "all.eiqa")
    assert ran.code == 0, ran.err
    for kind in ("onnx fp16", "onnx int8", "openvino bf16", "openvino int8", "tensorrt fp16", "tensorrt int8"):
        assert kind in ran.out
    assert "onnx bf16" in ran.out and "not made" in ran.out
    for kind in ("onnx fp32", "openvino fp32"):
        (line,) = [line for line in ran.out.splitlines() if line.strip().startswith(kind)]
        size, latency = (float(cell) for cell in line.split()[2:4])
        assert size > 0 and latency > 0 and "passed; " in line
    kept = {(one.target, one.precision) for one in Bundle.open(Path("all.eiqa")).manifest.members[0].artefacts}
    assert {("onnx", "fp32"), ("onnx", "int8"), ("openvino", "int8"), ("tensorrt", "int8")} <= kept


def test_from_a_bundle(small_bundle: Path, member: Path, in_folder: Path) -> None:
    photographs = member.parents[3] / "data/images"
    judged = in_folder / "judged"
    judged.mkdir()
    for place in range(30):
        shutil.copy(photographs / f"{place:02}.jpg", judged)
    flags = ("--calibration", photographs, "--images", judged, "--least-srcc", -1, "--calibration-count", 32)
    ran = edgeiqa("export", small_bundle, "--precision", "int8", *flags, "-o", "small8.eiqa")
    assert ran.code == 0, ran.err
    before, after = Bundle.open(small_bundle).manifest, Bundle.open(Path("small8.eiqa")).manifest
    assert (after.combine, after.scale) == (before.combine, before.scale)
    assert [photo.name for photo in after.golden] == [photo.name for photo in before.golden]
    ran = edgeiqa("export", "small8.eiqa", "--precision", "int8", *flags, "-o", "twice.eiqa")
    require_refusal(ran, "onnx int8", "FP32")
    assert not Path("twice.eiqa").exists()


def test_a_bundle_over_its_budget(small_bundle: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", small_bundle, "--budget", "100kB", "-o", "smaller.eiqa")
    require_refusal(ran, "100 kB", "--precision int8", "plan", code=1)
    assert not files_in(in_folder)


def test_a_bundle_without_its_graph_is_refused(small_bundle: Path, in_folder: Path) -> None:
    def drop(manifest: dict[str, Any]) -> None:
        artefacts = manifest["members"][0]["artefacts"]
        artefacts[:] = [artefact for artefact in artefacts if artefact["target"] != "onnx"]
        manifest["engine"] = "openvino"

    bundle = rewritten(small_bundle, in_folder / "bare.eiqa", drop)
    require_refusal(edgeiqa("export", bundle, "--target", "tensorrt"), "ONNX graph in FP32", "export the checkpoint")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--precision", "int8", "--recipe", "none-such"), ("none-such", "efficientnet_lite-onnx")),
        (("--all", "--precision", "int8"), ("--all and --precision",)),
        (("--target", "tensorrt", "--compute-capability", "ampere"), ("ampere",)),
        (("--precision", "int8", "--data", "mos.csv"), ("--images",)),
    ],
)
def test_what_does_not_go_together_is_refused(
    member: Path, in_folder: Path, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    require_refusal(edgeiqa("export", member, *flags), *words)
    assert not files_in(in_folder)


def test_copies_and_versions_of_few_photographs_are_not_enough(member: Path, in_folder: Path) -> None:
    same, one = in_folder / "same", in_folder / "one"
    for folder, count in ((same, 20), (one, 1)):
        folder.mkdir()
        for place in range(count):
            shutil.copy(member.parents[3] / "data/images/40.jpg", folder / f"{place}.jpg")
    before = files_in(in_folder)
    for named, words in (
        (("--calibration", same), ("1 photographs to calibrate on: same", "at least 16", "--calibration FOLDER")),
        (("--images", one), ("0 photographs for the gate to judge: one", "at least 30", "--images FOLDER")),
    ):
        ran = edgeiqa("export", member, "--precision", "int8", *named, *LOOSE, "-o", "few.eiqa")
        require_refusal(ran, *words)
    assert files_in(in_folder) == before


def test_photographs_and_versions_of_them_are_told_apart(member: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", member, "--precision", "int8", *LOOSE, "-o", "told.eiqa")
    assert ran.code == 0, ran.err
    told = gates(Bundle.open(Path("told.eiqa")))
    assert (told["rank"]["photos"], told["rank"]["versions"], told["rank"]["opinions"]) == (32, 0, 32)
    calibration = told["quantization"]["calibration"]
    assert calibration["count"] == 32 and 16 <= calibration["photographs"] <= 28
    assert calibration["versions"] == sum(one["count"] for one in calibration["strata"] if one["distortion"]) > 0
    assert "the selection part of teach-pair-001, 32 photographs" in calibration["source"]


def test_a_student_of_the_sample_photographs_is_exported_and_it_is_said(run_folder: Path, in_folder: Path) -> None:
    source = PhotographSource(data=None, images=None, unlabelled=(), split=None, score_range=(0.0, 100.0), samples=True)
    run = start_run(in_folder / "runs", "distill", "small", {"photographs": source.settings})
    shutil.copytree(run_folder / "first", run, dirs_exist_ok=True)
    held_out = hashlib.sha256(sample_photographs()[0].read_bytes()).hexdigest()
    (run / "selection.csv").write_text(f"image,sha256,kind,mos\n{sample_photographs()[0].name},{held_out},,\n")
    finish_run(run)
    flags = ("--precision", "fp16", "--least-srcc", -1, "--calibration-count", 16, "-o", "samples.eiqa")
    ran = edgeiqa("export", *flags)
    assert ran.code == 0, ran.err
    assert "sample photographs" in ran.err and "name your own" in ran.err
    rank = gates(Bundle.open(Path("samples.eiqa")))["rank"]
    assert (rank["photos"], rank["versions"], rank["opinions"]) == (48, 47, 0)
    # A limit that is asked for is held, or refused.
    held = edgeiqa("export", *flags, "--overwrite", "--max-srcc-drop", 1)
    require_refusal(held, "--max-srcc-drop, and 0 of 1 photographs", "--data mos.csv")
