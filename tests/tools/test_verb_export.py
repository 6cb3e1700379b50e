"""``edgeiqa export``: from checkpoints and records to a gated bundle, and all that is refused before any work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from edgeiqa.compress.checkpoint import load_checkpoint, save_checkpoint
from edgeiqa.export.pack import Photograph
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.manifest import WeightedMean
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.views import cut_views
from edgeiqa.tools import export_options, export_source, packing
from edgeiqa.tools.runs import finish_run, start_run
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from .command import edgeiqa, files_in, require_refusal, save_photo

TINY = ("--backbone", "test_efficientnet", "--size", "64x48", "--weights", "none")


def test_a_run_of_two_members_becomes_an_ensemble(run_folder: Path, pair_bundle: Path, photos: Path) -> None:
    bundle = Bundle.open(pair_bundle)
    manifest = bundle.manifest
    assert [member.name for member in manifest.members] == ["first", "second"]
    assert manifest.combine == WeightedMean((3.0, 1.0))
    scorer = Scorer(bundle)
    photo = Image.open(photos / "06.jpg")
    for member in manifest.members:
        record, network = load_checkpoint(run_folder / member.name)
        artefact = member.artefacts[0]
        assert (artefact.target, artefact.precision, artefact.stored_as) == ("onnx", "fp32", "fp16")
        assert artefact.score_map == record.score_map
        assert artefact.outputs == ("score", "features.last", "features.1")
        assert artefact.macs and artefact.parameters
        assert manifest.provenance.notes[member.name] == record.provenance
        view = torch.from_numpy(cut_views(photo, member.preprocess)["image"].copy())
        with torch.no_grad():
            expected = float(network(view[None])["score"])
        # Weights are rounded to FP16.
        assert scorer.raw(photo)[member.name] == pytest.approx(expected, rel=5e-3, abs=5e-3)
    assert {"edgeiqa", "torch", "timm", "onnx", "onnxruntime"} <= set(manifest.provenance.versions)
    assert edgeiqa("verify", pair_bundle).code == 0


def test_a_record_becomes_a_bundle_with_two_targets(small_bundle: Path) -> None:
    manifest = Bundle.open(small_bundle).manifest
    (member,) = manifest.members
    assert member.name == "mobilenetv3_small_050-64x64"
    assert [artefact.target for artefact in member.artefacts] == ["onnx", "openvino"]
    assert manifest.provenance.notes == {member.name: {"weights": "none", "system": member.name}}
    assert {member.preprocess.shapes["image"]} == {(64, 64, 3)}


def test_one_checkpoint_by_its_own_name(run_folder: Path, in_folder: Path) -> None:
    ran = edgeiqa("export", run_folder / "second", "--images", run_folder.parent.parent / "none", "--json")
    require_refusal(ran, "none", "not there")
    save_photo(in_folder / "photos" / "one.jpg", 1)
    save_photo(in_folder / "photos" / "two.jpg", 2)
    ran = edgeiqa("export", run_folder / "second", "--images", "photos", "--json")
    assert ran.code == 0
    result = ran.object
    assert (result["bundle"], result["size_bytes"]) == ("second.eiqa", Path("second.eiqa").stat().st_size)
    assert [(gate["engine"], gate["unit"], gate["photos"], gate["passed"]) for gate in result["gates"]] == [
        ("onnxruntime", "score points", 2, True),
        ("onnxruntime", "raw", 2, True),
    ]
    assert "exporting second to onnx fp32" in ran.err
    assert files_in(in_folder) == {"photos", "photos/one.jpg", "photos/two.jpg", "second.eiqa"}


def test_without_an_input_the_newest_run_is_taken(run_folder: Path, in_folder: Path) -> None:
    for age, name in enumerate(("new", "old")):
        target = in_folder / "runs" / name
        shutil.copytree(run_folder / "second", target / "member" if name == "new" else target)
        for path in target.rglob("checkpoint.json"):
            os.utime(path, (1e9 - age, 1e9 - age))
    ran = edgeiqa("export", "-o", "out/mine.eiqa")
    assert (ran.code, ran.out) == (0, "out/mine.eiqa\n")
    assert f"the newest run: {Path('runs') / 'new'}" in ran.err
    assert Bundle.open("out/mine.eiqa").manifest.name == "mine"


def test_a_run_of_teach_is_all_of_its_members_and_only_when_it_is_finished(run_folder: Path, in_folder: Path) -> None:
    run = start_run(in_folder / "runs", "teach", "pair", {})
    shutil.copytree(run_folder, run / "members")
    ran = edgeiqa("export", "-o", "mine.eiqa")
    require_refusal(ran, "not finished", f"edgeiqa teach --resume {run.relative_to(in_folder)}")
    finish_run(run)
    assert packing.find_checkpoints(run) == [run / "members" / "first", run / "members" / "second"]
    assert packing.find_checkpoints(run / "members" / "second") == [run / "members" / "second"]


def test_weights_of_a_file_are_said_by_name_alone(in_folder: Path) -> None:
    import timm

    model: Any = timm.create_model("test_efficientnet", num_classes=0)
    save_file(model.state_dict(), in_folder / "mine.safetensors")
    photo = save_photo(in_folder / "golden.jpg", 4)
    ran = edgeiqa(
        *("export", "--backbone", "test_efficientnet", "--size", "64x48", "-o", "mine.eiqa"),
        *("--weights", in_folder / "mine.safetensors", "--golden", photo),
    )
    assert ran.code == 0, ran.err
    assert "ITS HEAD IS RANDOM" in ran.err and "RANDOM WEIGHTS" not in ran.err
    bundle = Bundle.open("mine.eiqa")
    assert [golden.name for golden in bundle.manifest.golden] == ["golden"]
    assert bundle.manifest.provenance.notes["test_efficientnet-64x48"]["weights"] == "mine.safetensors"
    assert str(in_folder).encode() not in Path("mine.eiqa").read_bytes()


def test_random_weights_are_said_loudly_and_the_gate_refuses_other_answers(
    in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = packing.torch_reference

    def another(members: Any) -> Callable[[str, Mapping[str, NDArray[np.uint8]]], float]:
        reference = made(members)
        return lambda name, views: reference(name, views) + 0.1

    monkeypatch.setattr(export_source, "torch_reference", another)
    Path("mine.eiqa").write_bytes(b"before")
    ran = edgeiqa("export", *TINY, "-o", "mine.eiqa", "--overwrite", "--json")
    require_refusal(ran, "onnx fp32: score points", "at most 0.05", "--tolerance", code=1)
    assert "RANDOM WEIGHTS; its scores mean nothing" in ran.err
    assert all(f"GMACs {convention}" in ran.err for convention in ("strict", "ptflops-pytorch", "ptflops-aten"))
    assert files_in(in_folder) == {"mine.eiqa"} and Path("mine.eiqa").read_bytes() == b"before"


CONFLICTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "two kinds of input": (("--system", "three-view", *TINY), ("more than one of",)),
    "a checkpoint and a backbone": (("{run}", *TINY), ("more than one of",)),
    "a size with a checkpoint": (("{run}", "--size", "64x64"), ("--size or --weights with a checkpoint",)),
    "weights with a checkpoint": (("{run}", "--weights", "none"), ("--size or --weights with a checkpoint",)),
    "no weights": (("--backbone", "resnet18", "--size", "64x64"), ("no --weights", "hub, lite, none")),
    "no size": (("--backbone", "resnet18", "--weights", "none"), ("--backbone without --size", "WIDTHxHEIGHT")),
    "a size of a system": (("--system", "three-view", "--size", "64x64", "--weights", "none"), ("own sizes",)),
    "an unknown system": (("--system", "four-view", "--weights", "none"), ("'four-view'", "three-view, three-scale")),
    "an unknown backbone": (
        ("--backbone", "convnext_smal", "--size", "64x64", "--weights", "none"),
        ("'convnext_smal'", "near names: convnext_small"),
    ),
    "an unknown tag": (
        ("--backbone", "convnext_small.mine", "--size", "64x64", "--weights", "none"),
        ("convnext_small.mine", "convnext_small.fb_in22k"),
    ),
    "a size it cannot take": (
        ("--backbone", "vit_small_patch14_dinov2", "--size", "340x340", "--weights", "none"),
        ("340x340", "divisible by patch size (14)"),
    ),
    "a file of weights that is not there": (
        ("--backbone", "resnet18", "--size", "64x64", "--weights", "none.pth"),
        ("no file none.pth",),
    ),
    "a file that holds no weights": (
        ("--backbone", "resnet18", "--size", "64x64", "--weights", "{photo}"),
        ("cannot be read as weights",),
    ),
    "lite weights of another backbone": (
        ("--backbone", "resnet18", "--size", "64x64", "--weights", "lite"),
        ("tf_efficientnet_lite0",),
    ),
    "no run": ((), ("runs, which holds no run", "--backbone NAME")),
    "no runs there": (("--runs", "elsewhere"), ("elsewhere, which holds no run",)),
    "a checkpoint that is not there": (("nothing",), ("nothing, which holds no checkpoint",)),
    "a checkpoint that is a file": (("{photo}",), ("which holds no checkpoint",)),
    "the same member twice": (("{run}", "{run}"), ("members named",)),
    "weights of other members": (("{run}", "--combine", "1,2,3"), ("--combine 1,2,3", "or 2 weights")),
    "weights that are none": (("{run}", "--combine", "best"), ("--combine best",)),
    "weights that are not positive": (("{run}", "--combine", "1,0"), ("positive",)),
    "a golden photograph that is not there": ((*TINY, "--golden", "none.jpg"), ("none.jpg", "a photograph")),
    "a golden photograph that is a folder": ((*TINY, "--golden", "{run}"), ("a photograph",)),
    "two golden photographs of one name": ((*TINY, "--golden", "{photo}", "--golden", "{photo}"), ("rename",)),
    "images that are not there": ((*TINY, "--images", "none"), ("none, which is not there",)),
    "calibration images for FP32": (
        (*TINY, "--calibration", "none", "--max-change", "0"),
        ("--calibration, --max-change for onnx fp32", "another precision than fp32", "--precision int8"),
    ),
    "limits of pairs for FP32": (
        (*TINY, "--max-swapped-share", ".1", "--swap-margin", "2"),
        ("--max-swapped-share, --swap-margin for onnx fp32",),
    ),
    "opinions for FP32": ((*TINY, "--images", "{photo}", "--data", "mos.csv"), ("--data for onnx fp32",)),
    "a recipe for FP16": ((*TINY, "--precision", "fp16", "--recipe", "none-such"), ("--recipe for onnx fp16", "int8")),
    "a processor for OpenVINO": (
        (*TINY, "--target", "openvino", "--precision", "int8", "--cpu", "arm"),
        ("--cpu for openvino int8", "--target onnx --precision int8"),
    ),
    "compute capabilities without TensorRT": (
        (*TINY, "--compute-capability", "86"),
        ("--compute-capability for onnx fp32", "--target tensorrt"),
    ),
    "FP32's storage for INT8": (
        (*TINY, "--precision", "int8", "--store", "fp16", "--tolerance", "1"),
        ("--store, --tolerance for onnx int8", "openvino in fp32"),
    ),
}


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("reason", list(CONFLICTS))
def test_what_is_refused_before_any_work(run_folder: Path, photos: Path, in_folder: Path, reason: str) -> None:
    arguments, words = CONFLICTS[reason]
    given = [text.format(run=run_folder, photo=photos / "00.jpg") for text in arguments]
    require_refusal(edgeiqa("export", *given), *words)
    assert files_in(in_folder) == set()


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("size", ["64", "64x", "x64", "0x64", "64x64x3", "-64x64", "64 x 64", "big", "9000x9000"])
def test_sizes_that_are_none(in_folder: Path, size: str) -> None:
    ran = edgeiqa("export", "--backbone", "test_efficientnet", f"--size={size}", "--weights", "none")
    require_refusal(ran, size)
    assert files_in(in_folder) == set()


@pytest.mark.usefixtures("no_work")
def test_an_output_that_exists_is_refused_before_any_work(run_folder: Path, in_folder: Path) -> None:
    (in_folder / "mine.eiqa").write_bytes(b"before")
    (in_folder / "first.eiqa").write_bytes(b"before")
    (in_folder / "folder.eiqa").mkdir()
    require_refusal(edgeiqa("export", *TINY, "-o", "mine.eiqa"), "mine.eiqa, which exists", "--overwrite")
    # Without -o the name is the checkpoint's.
    require_refusal(edgeiqa("export", run_folder / "first"), "first.eiqa, which exists", "--overwrite")
    require_refusal(edgeiqa("export", *TINY, "-o", "folder.eiqa", "--overwrite"), "folder.eiqa", "give another -o")
    assert (in_folder / "mine.eiqa").read_bytes() == b"before"
    assert files_in(in_folder) == {"mine.eiqa", "first.eiqa", "folder.eiqa"}


@pytest.mark.usefixtures("no_work")
def test_a_checkpoint_that_is_broken(run_folder: Path, in_folder: Path) -> None:
    shutil.copytree(run_folder / "second", "second")
    record = Path("second/checkpoint.json")
    text = record.read_text()
    record.write_text(text[:-20])
    require_refusal(edgeiqa("export", "second"), "checkpoint.json", "a checkpoint's record")
    record.write_text(text)
    Path("second/weights.safetensors").write_bytes(b"short")
    require_refusal(edgeiqa("export", "second"), "weights.safetensors", "train again")
    Path("second/weights.safetensors").unlink()
    require_refusal(edgeiqa("export", "second"), "weights.safetensors", "train again")


def test_weights_of_the_hub_without_a_network(tmp_path: Path) -> None:
    """In a process of its own, that is told there is no network and has no cache."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    command = ("export", "--backbone", "convnext_atto", "--size", "64x64", "--weights", "hub")
    ran = subprocess.run(
        [sys.executable, "-m", "edgeiqa.tools", *command],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    for words in ("no weights for convnext_atto", "timm/convnext_atto", "--weights FILE", "lite", "none"):
        assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not [path for path in tmp_path.iterdir() if path.name != "cache"]


def test_a_network_that_cannot_be_exported_leaves_nothing(in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from edgeiqa.compress.models.network import QualityNet

    def forward(self: QualityNet, *views: torch.Tensor) -> dict[str, torch.Tensor]:
        bright = views[0].float().mean()
        return {"score": bright[None] * (2 if bright > 1 else 1), "features.last": views[0].float().mean((1, 2))}

    monkeypatch.setattr(QualityNet, "forward", forward)
    require_refusal(edgeiqa("export", *TINY, "-o", "out.eiqa"), "torch could not export the network")
    assert files_in(in_folder) == set()


def test_photographs_for_the_gate_are_named_when_they_are_broken(run_folder: Path, in_folder: Path) -> None:
    (in_folder / "photos").mkdir()
    (in_folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    ran = edgeiqa("export", run_folder / "second", "--images", "photos")
    require_refusal(ran, "broken.jpg, which no decoder recognises")
    assert not list(in_folder.glob("*.eiqa")) and not list(in_folder.rglob(".*"))


def test_many_photographs_are_compared_by_some(
    run_folder: Path, in_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(5):
        save_photo(in_folder / "photos" / f"{seed}.jpg", seed)
    monkeypatch.setattr(export_options, "MOST_PARITY", 2)
    assert [path.name for path in export_options.parity_photographs(Path("photos"))] == ["0.jpg", "2.jpg"]
    ran = edgeiqa("export", run_folder / "second", "--images", "photos", "--json")
    assert ran.code == 0, ran.err
    assert {gate["photos"] for gate in ran.object["gates"]} == {2}
    assert "2 of the 5 photographs of photos are compared with the network" in ran.err


@pytest.mark.usefixtures("no_work")
def test_a_broken_photograph_is_found_before_any_work(run_folder: Path, in_folder: Path) -> None:
    save_photo(in_folder / "photos" / "whole.jpg", 1)
    (in_folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    require_refusal(
        edgeiqa("export", run_folder / "second", "--images", "photos"), "broken.jpg, which no decoder recognises"
    )
    # And for other precisions, of which photographs are looked for later.
    flags = ("--precision", "int8", "--images", "photos", "--calibration", "photos")
    require_refusal(edgeiqa("export", run_folder / "second", *flags), "1 photographs that cannot be read", "broken.jpg")
    assert not list(in_folder.glob("*.eiqa"))


def test_what_the_settings_file_says_of_other_precisions_does_not_stand_in_the_way(
    run_folder: Path, in_folder: Path
) -> None:
    settings = '[export]\ncalibration = "none"\nrecipe = "none-such"\nmax_change = 0\ncompute_capability = "ampere"\n'
    (in_folder / "edgeiqa.toml").write_text(settings)
    ran = edgeiqa("export", run_folder / "second")
    assert (ran.code, ran.out) == (0, "second.eiqa\n"), ran.err


def test_a_budget_of_bytes_is_held_on_the_whole_file(run_folder: Path, in_folder: Path) -> None:
    assert edgeiqa("export", run_folder / "second", "-o", "mine.eiqa").code == 0
    before = Path("mine.eiqa").read_bytes()
    parts = sum(part.size_bytes for part in Bundle.open("mine.eiqa").manifest.parts.values())
    between = (parts + len(before)) // 2
    flags = ("-o", "mine.eiqa", "--overwrite", "--budget", f"{between}B", "--json")
    require_refusal(edgeiqa("export", run_folder / "second", *flags), "mine: size_bytes", "--store fp16", code=1)
    assert files_in(in_folder) == {"mine.eiqa"} and Path("mine.eiqa").read_bytes() == before
    assert edgeiqa("export", run_folder / "second", "-o", "other.eiqa", "--budget", f"{len(before) + 2}B").code == 0
    require_refusal(
        edgeiqa("export", "mine.eiqa", "-o", "third.eiqa", "--budget", f"{between}B"), "a smaller student", code=1
    )
    assert files_in(in_folder) == {"mine.eiqa", "other.eiqa"}


def test_photographs_are_read_by_name(tmp_path: Path) -> None:
    path = save_photo(tmp_path / "a.jpg", 0)
    assert packing.read_photographs([path]) == [Photograph("a.jpg", path.read_bytes())]


def test_a_name_that_could_not_be_a_bundles_is_refused_first(in_folder: Path) -> None:
    ran = edgeiqa("export", *TINY, "-o", "my bundle.eiqa")
    require_refusal(ran, "-o my bundle.eiqa", "letters, digits", "-o mine.eiqa")
    assert files_in(in_folder) == set()


def test_a_checkpoint_with_a_name_that_no_member_may_have(run_folder: Path, in_folder: Path, no_work: None) -> None:
    record, network = load_checkpoint(run_folder / "first")
    save_checkpoint(in_folder / "odd", msgspec.structs.replace(record, name="a+b"), network)
    require_refusal(edgeiqa("export", "odd"), "'a+b'", "letters, digits", "checkpoint.json")
