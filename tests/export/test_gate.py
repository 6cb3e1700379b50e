"""The parity gate: photographs are read one at a time, what fails is reported, and the file is held to its size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from edgeiqa.export import gate, rank_gate
from edgeiqa.export.gate import PARITY_TOLERANCE, Reference, Views, judge_parity, parity_refusal, write_judged
from edgeiqa.export.pack import Graph, PackedMember, Packing, Photograph, pack
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import BudgetError, PhotoError, UsageError
from edgeiqa.runtime.manifest import GateRecord, Manifest, Mean, Provenance, ScoreScale
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid

from .networks import Exported, photograph

TOLERANCE = PARITY_TOLERANCE["fp32"]
PHOTOS = [photograph(f"p{place}", place) for place in range(3)]


@pytest.fixture(scope="module")
def packing(exported: Callable[[str], Exported]) -> Packing:
    """One member as FP32, and as what has passed the rank gate."""
    made = exported("mobilenet")
    passed = GateRecord(kind="rank", passed=True, report={})
    graphs = (
        Graph("onnx", "fp32", "fp32", (made.data,), made.outputs),
        Graph("onnx", "fp16", "fp32", (made.data,), made.outputs, gates=(passed,)),
    )
    score_map = ScoreMap(steps=(Sigmoid(slope=2.0, centre=0.1, low=0.0, high=100.0),))
    return pack(
        "one",
        [PackedMember("net", made.network.system.preprocess, score_map, graphs)],
        combine=Mean(),
        scale=ScoreScale(),
        golden=PHOTOS[:1],
        provenance=Provenance(created="", versions={}),
    )


@pytest.fixture(scope="module")
def reference(exported: Callable[[str], Exported]) -> Reference:
    network = exported("mobilenet").network

    @torch.no_grad()
    def raw(_: str, views: Views) -> float:
        return float(network(*(torch.from_numpy(view.copy())[None] for view in views.values()))["score"][0])

    return raw


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    found = []
    for photo in PHOTOS:
        found.append(tmp_path / f"{photo.name}.jpg")
        found[-1].write_bytes(photo.data)
    return found


def test_files_are_read_one_at_a_time(
    packing: Packing, reference: Reference, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    read = rank_gate.photograph_bytes

    def reading(photo: Photograph | Path) -> bytes:
        steps.append(photo.name)
        return read(photo)

    def asked(name: str, views: Views) -> float:
        steps.append("asked")
        return reference(name, views)

    monkeypatch.setattr(gate, "photograph_bytes", reading)
    reports, none = judge_parity(packing, asked, paths, tolerance=TOLERANCE)
    assert none == () and all(report.passed for report in reports)
    assert steps[:6] == ["p0.jpg", "asked", "p1.jpg", "asked", "p2.jpg", "asked"]
    whole, _ = judge_parity(packing, reference, PHOTOS, tolerance=TOLERANCE)
    assert [report.images_sha256 for report in reports] == [report.images_sha256 for report in whole]


def test_a_file_that_is_gone_is_named(packing: Packing, reference: Reference, paths: list[Path]) -> None:
    paths[1].unlink()
    with pytest.raises(PhotoError, match=r"p1\.jpg cannot be read"):
        judge_parity(packing, reference, paths, tolerance=TOLERANCE)


def test_what_fails_is_reported(packing: Packing, reference: Reference) -> None:
    (scores, raw), _ = judge_parity(
        packing, lambda name, views: reference(name, views) + 1, PHOTOS, tolerance=TOLERANCE
    )
    assert not scores.passed and not raw.passed
    error = parity_refusal("onnx fp32", raw)
    assert error.exit_code == 1 and error.got.startswith("onnx fp32: raw 1 away from the network on p")


def test_the_file_is_accepted_before_it_is_there(tmp_path: Path, packing: Packing, reference: Reference) -> None:
    path = tmp_path / "one.eiqa"
    gates = judge_parity(packing, reference, PHOTOS, tolerance=TOLERANCE)
    seen: list[int] = []

    def see(manifest: Manifest, size_bytes: int) -> None:
        assert (
            not path.exists() and [record.kind for record in manifest.members[0].artefacts[0].gates] == ["parity"] * 2
        )
        seen.append(size_bytes)

    def refuse(_: Manifest, size_bytes: int) -> None:
        raise BudgetError(f"{size_bytes} B", expected="fewer", mend="none")

    with pytest.raises(BudgetError):
        write_judged(path, packing, gates, accept=refuse)
    assert not list(tmp_path.iterdir())
    bundle = write_judged(path, packing, gates, accept=see)
    assert seen == [bundle.size_bytes] == [path.stat().st_size]
    # A file that is to be replaced stays as it is.
    before = path.read_bytes()
    with pytest.raises(BudgetError):
        write_judged(path, packing, gates, overwrite=True, accept=refuse)
    with pytest.raises(UsageError, match="exists"):
        write_judged(path, packing, gates)
    assert path.read_bytes() == before and Bundle.open(path).size_bytes == len(before)
