"""Packing and the parity gate: what is written reproduces its answers; what is not the network's is not written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from edgeiqa.export.gate import PARITY_TOLERANCE, ParityTolerance, Reference, gate_parity, write_gated
from edgeiqa.export.graph import store_as_fp16, to_onnx
from edgeiqa.export.openvino_graph import to_openvino
from edgeiqa.export.pack import Graph, PackedMember, Packing, Photograph, golden_photographs, pack, refit
from edgeiqa.profiles.parity import hash_photos
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import ExportError, GateError, PhotoError, RecordError, UsageError
from edgeiqa.runtime.manifest import Manifest, Mean, Median, Provenance, ScoreScale, WeightedMean
from edgeiqa.runtime.score_map import Affine, ScoreMap, Sigmoid
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.verify import verify
from numpy.typing import NDArray

from .networks import Exported, photograph

Views = Mapping[str, NDArray[np.uint8]]

TOLERANCE = PARITY_TOLERANCE["fp32"]
SIGMOID = ScoreMap(steps=(Sigmoid(slope=2.0, centre=0.1, low=0.0, high=100.0),))
MEMBERS = {"small": "mobilenet", "other": "convnext"}
PHOTOS = [photograph("waves", 0), photograph("portrait", 1, 90, 140)]


@pytest.fixture(scope="module")
def members(exported: Callable[[str], Exported]) -> list[PackedMember]:
    """Two members, each as ONNX and as OpenVINO's graph."""
    packed = []
    for name, network in MEMBERS.items():
        made = exported(network)
        graphs = (
            Graph("onnx", "fp32", "fp32", (made.data,), made.outputs, macs=7, parameters=8),
            Graph("openvino", "fp32", "fp32", to_openvino(made.data, store_fp16=False), made.outputs),
        )
        packed.append(PackedMember(name, made.network.system.preprocess, SIGMOID, graphs))
    return packed


@pytest.fixture(scope="module")
def reference(exported: Callable[[str], Exported]) -> Reference:
    """The networks in torch."""

    @torch.no_grad()
    def raw(name: str, views: Views) -> float:
        network: Any = exported(MEMBERS[name]).network
        return float(network(*(torch.from_numpy(view.copy())[None] for view in views.values()))["score"][0])

    return raw


def packed(members: list[PackedMember], **changes: Any) -> Packing:
    options: dict[str, Any] = {
        "combine": Mean(),
        "scale": ScoreScale(),
        "golden": PHOTOS,
        "provenance": Provenance(created="2026-01-01", versions={"edgeiqa": "0"}),
    }
    return pack("pair", members, **(options | changes))


@pytest.fixture(scope="module")
def packing(members: list[PackedMember]) -> Packing:
    return packed(members, card="# Pair\n")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, packing: Packing, reference: Reference) -> Bundle:
    path = tmp_path_factory.mktemp("bundle") / "pair.eiqa"
    return write_gated(path, packing, reference, PHOTOS, tolerance=TOLERANCE)[0]


def shifted(reference: Reference, by: float) -> Reference:
    """The networks, but for one member's answer to one photograph."""
    calls: list[str] = []

    def raw(name: str, views: Views) -> float:
        calls.append(name)
        return reference(name, views) + (by if calls.count("other") == 1 and name == "other" else 0.0)

    return raw


def nothing_written(folder: Path) -> bool:
    return not list(folder.iterdir())


def test_the_golden_answers_are_the_engines_own(written: Bundle) -> None:
    manifest = written.manifest
    assert [photo.name for photo in manifest.golden] == ["waves", "portrait"]
    scorer = Scorer(written)
    for index, photo in enumerate(PHOTOS):
        assert written.read(manifest.golden[index].source) == photo.data
        score = scorer.score(photo.data)
        assert score.value == pytest.approx(manifest.golden[index].score, abs=1e-3)
        raw = scorer.raw(photo.data)
        for member in manifest.members:
            assert member.artefacts[0].golden_raw[index] == pytest.approx(raw[member.name], abs=1e-4)
    # Two photographs that are not the same have answers that are not the same.
    assert abs(manifest.golden[0].score - manifest.golden[1].score) > 0.01


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_every_engine_verifies(written: Bundle, engine: str) -> None:
    seen = verify(Scorer(written, engine=engine))
    assert seen.passed, [check for check in seen.checks if not check.passed]
    # Each photograph: views and score of two members, and the combined score.
    assert len(seen.checks) == 2 * (2 * 2 + 1)


def test_the_gates_are_recorded_for_every_artefact(
    tmp_path: Path, packing: Packing, reference: Reference, written: Bundle
) -> None:
    bundle, reports = write_gated(tmp_path / "again.eiqa", packing, reference, PHOTOS, tolerance=TOLERANCE)
    assert [(report.engine, report.unit) for report in reports] == [
        ("onnxruntime", "score points"),
        ("onnxruntime", "raw"),
        ("openvino", "score points"),
        ("openvino", "raw"),
    ]
    assert all(report.passed and report.images_sha256 == hash_photos(p.data for p in PHOTOS) for report in reports)
    assert [report.photos for report in reports] == [2, 4, 2, 4]
    for member in bundle.manifest.members:
        for artefact in member.artefacts:
            assert [(gate.kind, gate.passed) for gate in artefact.gates] == [("parity", True)] * 2
            engine = {"onnx": "onnxruntime", "openvino": "openvino"}[artefact.target]
            assert {gate.report["engine"] for gate in artefact.gates} == {engine}
    # Nothing of a bundle depends on when or where it was made.
    assert bundle.path.read_bytes() == written.path.read_bytes()


def test_what_the_manifest_says(written: Bundle, members: list[PackedMember]) -> None:
    manifest = written.manifest
    assert (manifest.name, manifest.engine, manifest.precision) == ("pair", "onnxruntime", "fp32")
    assert written.read("card.md") == b"# Pair\n"
    first = manifest.members[0].artefacts[0]
    assert (first.macs, first.parameters, first.stored_as, first.score_map) == (7, 8, "fp32", SIGMOID)
    assert written.read(first.files[0]) == members[0].graphs[0].files[0]
    assert [len(artefact.files) for artefact in manifest.members[0].artefacts] == [1, 2]


@pytest.mark.parametrize(
    ("combine", "expected"),
    [(Mean(), lambda a, b: (a + b) / 2), (WeightedMean((3.0, 1.0)), lambda a, b: (3 * a + b) / 4), (Median(), None)],
)
def test_golden_scores_are_combined(
    members: list[PackedMember], combine: Any, expected: Callable[[float, float], float] | None
) -> None:
    manifest = packed(members, combine=combine).manifest
    for index, photo in enumerate(manifest.golden):
        scores = [float(SIGMOID.apply(member.artefacts[0].golden_raw[index])) for member in manifest.members]
        assert photo.score == pytest.approx((expected or (lambda a, b: (a + b) / 2))(*scores))


def test_members_of_one_preprocess_share_their_golden_views(members: list[PackedMember]) -> None:
    twin = PackedMember("twin", members[0].preprocess, SIGMOID, members[0].graphs)
    alone, both = packed(members[:1]), packed([members[0], twin])
    views = [sorted(name for name in made.parts if name.endswith(".png")) for made in (alone, both)]
    assert views[0] == views[1] and len(views[0]) == 2
    assert both.manifest.golden[0].views["twin"] == both.manifest.golden[0].views["small"]


@pytest.mark.parametrize("by", [0.05, -0.05, math.nan, math.inf])
def test_an_answer_that_is_not_the_networks_fails_the_gate(
    tmp_path: Path, packing: Packing, reference: Reference, by: float
) -> None:
    with pytest.raises(GateError, match=r"onnx fp32: .*from the network on waves") as caught:
        write_gated(tmp_path / "no.eiqa", packing, shifted(reference, by), PHOTOS, tolerance=TOLERANCE)
    assert caught.value.exit_code == 1
    assert "at most" in caught.value.expected and "nothing was written" in caught.value.mend
    assert nothing_written(tmp_path)


def test_a_failed_gate_leaves_the_file_that_was_there(tmp_path: Path, packing: Packing, reference: Reference) -> None:
    path = tmp_path / "there.eiqa"
    path.write_bytes(b"before")
    with pytest.raises(GateError):
        write_gated(path, packing, shifted(reference, 1.0), PHOTOS, tolerance=TOLERANCE, overwrite=True)
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["there.eiqa"]


def test_one_wrong_graph_of_several_fails_the_gate(
    tmp_path: Path, exported: Callable[[str], Exported], members: list[PackedMember], reference: Reference
) -> None:
    """The second target of a member is another network's."""
    small, other = members
    made = exported("mobilenet")
    half = to_onnx(_Scaled(made.network), made.shapes, made.outputs)
    wrong = Graph(
        "openvino", "fp32", "fp32", to_openvino(half.SerializeToString(), store_fp16=False), small.graphs[1].outputs
    )
    broken = PackedMember(small.name, small.preprocess, SIGMOID, (small.graphs[0], wrong))
    with pytest.raises(GateError, match="openvino fp32"):
        write_gated(tmp_path / "no.eiqa", packed([broken, other]), reference, PHOTOS, tolerance=TOLERANCE)
    assert nothing_written(tmp_path)


class _Scaled(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *views: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: value * 1.2 + 0.1 for name, value in self.network(*views).items()}


def test_a_difference_that_the_score_map_hides_is_caught_by_the_raw_scores(
    tmp_path: Path, members: list[PackedMember], reference: Reference
) -> None:
    clipped = ScoreMap(steps=(Affine(scale=1.0, offset=1e6),))
    hidden = packed([PackedMember(m.name, m.preprocess, clipped, m.graphs) for m in members])
    assert [photo.score for photo in hidden.manifest.golden] == [100.0, 100.0]
    path = tmp_path / "clipped.eiqa"
    bundle, _ = write_gated(path, hidden, reference, PHOTOS, tolerance=TOLERANCE)
    on_scores, on_raw = gate_parity(
        bundle, shifted(reference, 0.01), PHOTOS, engine="onnxruntime", precision="fp32", tolerance=TOLERANCE
    )
    assert on_scores.passed and on_scores.max_abs_difference == 0.0
    assert not on_raw.passed and on_raw.max_abs_difference == pytest.approx(0.01, abs=1e-4)
    assert on_raw.worst_photo == "waves: other"
    with pytest.raises(GateError, match=r"raw .* waves: other"):
        write_gated(tmp_path / "no.eiqa", hidden, shifted(reference, 0.01), PHOTOS, tolerance=TOLERANCE)


def test_a_network_that_sees_nothing_is_refused(tmp_path: Path, packing: Packing) -> None:
    with pytest.raises(GateError, match=r"the same raw score, 0\.5, for all 2 photographs"):
        write_gated(tmp_path / "no.eiqa", packing, lambda _name, _views: 0.5, PHOTOS, tolerance=TOLERANCE)
    assert not list(tmp_path.iterdir())


def test_a_wider_tolerance_lets_pass(tmp_path: Path, packing: Packing, reference: Reference) -> None:
    wide = ParityTolerance(score_points=10.0, raw_share=10.0, raw_noise=1e-3)
    _, reports = write_gated(tmp_path / "wide.eiqa", packing, shifted(reference, 0.01), PHOTOS, tolerance=wide)
    assert reports[1].max_abs_difference == pytest.approx(0.01, abs=1e-4)


def test_an_output_that_exists(tmp_path: Path, packing: Packing, reference: Reference, written: Bundle) -> None:
    path = tmp_path / "there.eiqa"
    path.write_bytes(b"before")
    with pytest.raises(UsageError, match="exists") as caught:
        write_gated(path, packing, reference, PHOTOS, tolerance=TOLERANCE)
    assert "--overwrite" in caught.value.mend
    assert path.read_bytes() == b"before"
    write_gated(path, packing, reference, PHOTOS, tolerance=TOLERANCE, overwrite=True)
    assert path.read_bytes() == written.path.read_bytes()


def test_weights_stored_as_fp16_pass_their_own_tolerance(
    tmp_path: Path, exported: Callable[[str], Exported], reference: Reference
) -> None:
    made = exported("mobilenet")
    stored = Graph("onnx", "fp32", "fp16", (store_as_fp16(made.model).SerializeToString(),), made.outputs)
    half = packed([PackedMember("small", made.network.system.preprocess, SIGMOID, (stored,))])
    bundle, reports = write_gated(tmp_path / "half.eiqa", half, reference, PHOTOS, tolerance=PARITY_TOLERANCE["fp16"])
    assert bundle.manifest.members[0].artefacts[0].stored_as == "fp16"
    assert reports[1].max_abs_difference is not None and reports[1].max_abs_difference > 1e-6


def test_what_cannot_be_packed(members: list[PackedMember]) -> None:
    small, other = members
    fewer = PackedMember(other.name, other.preprocess, SIGMOID, other.graphs[:1])
    without = PackedMember(other.name, other.preprocess, SIGMOID, ())
    for wrong, golden in (([], PHOTOS), (members, []), ([without], PHOTOS), ([small, fewer], PHOTOS)):
        with pytest.raises(ExportError, match="golden photographs and members with graphs") as caught:
            packed(list(wrong), golden=golden)
        assert caught.value.expected and caught.value.mend
    with pytest.raises(RecordError, match="a name of its own"):
        packed([small, small])
    with pytest.raises(RecordError, match="a score map"):
        packed(members, scale=ScoreScale(low=0.0, high=10.0))


@pytest.mark.parametrize("names", [("waves", "waves"), ("waves", "Waves"), ("a b",), ("../a",), ("",), ("ü",), (".a",)])
def test_golden_names_that_cannot_be_names_of_parts(members: list[PackedMember], names: tuple[str, ...]) -> None:
    with pytest.raises(ExportError, match="golden photographs named") as caught:
        packed(members, golden=[photograph(name) for name in names])
    assert caught.value.mend == "rename the files"


def test_a_photograph_that_cannot_be_read_is_named(
    members: list[PackedMember], written: Bundle, reference: Reference
) -> None:
    broken = Photograph("cut-off", PHOTOS[0].data[:300])
    with pytest.raises(PhotoError, match="cut-off: "):
        packed(members, golden=[PHOTOS[0], broken])
    with pytest.raises(PhotoError, match="cut-off: "):
        gate_parity(written, reference, [broken], engine="onnxruntime", precision="fp32", tolerance=TOLERANCE)


def test_the_gate_needs_photographs(written: Bundle, reference: Reference) -> None:
    with pytest.raises(UsageError, match="at least one"):
        gate_parity(written, reference, [], engine="onnxruntime", precision="fp32", tolerance=TOLERANCE)


def test_the_golden_photographs_that_ship() -> None:
    photos = golden_photographs()
    assert [photo.name for photo in photos] == ["coffee-blurred", "rocket"]
    assert all(photo.data.startswith(b"\xff\xd8") for photo in photos)
    assert sum(len(photo.data) for photo in photos) < 100_000


def maps(manifest: Manifest, score_map: ScoreMap) -> dict[tuple[int, str], ScoreMap]:
    return {(place, member.name): score_map for member in manifest.members for place in range(len(member.artefacts))}


def test_refit_changes_maps_and_scale_and_nothing_else(tmp_path: Path, written: Bundle) -> None:
    score_map = ScoreMap(steps=(Sigmoid(slope=1.0, centre=0.0, low=1.0, high=5.0),), low=1.0, high=5.0)
    new = refit(
        tmp_path / "mine.eiqa",
        written,
        maps(written.manifest, score_map),
        low=1.0,
        high=5.0,
        name="mine",
        note="fitted on mine",
    )
    assert (new.manifest.scale.low, new.manifest.scale.high) == (1.0, 5.0)
    assert {**new.manifest.parts, "card.md": None} == {**written.manifest.parts, "card.md": None}
    assert new.read("card.md").startswith(b"# mine\n\nfitted on mine.")
    assert (new.manifest.name, new.manifest.provenance.commands[-1]) == ("mine", "fitted on mine")
    for member, old in zip(new.manifest.members, written.manifest.members, strict=True):
        for artefact, before in zip(member.artefacts, old.artefacts, strict=True):
            assert artefact.score_map == score_map
            assert artefact.golden_raw == before.golden_raw
            assert artefact.golden_tolerance == pytest.approx(before.golden_tolerance * 4 / 100)
    for engine in ("onnxruntime", "openvino"):
        assert verify(Scorer(new, engine=engine)).passed
    scorer = Scorer(new)
    for photo, golden in zip(PHOTOS, new.manifest.golden, strict=True):
        value = scorer.score(photo.data).value
        assert value is not None and 1.0 < value < 5.0
        assert value == pytest.approx(golden.score, abs=1e-4)
        raw = Scorer(written).raw(photo.data)
        assert value == pytest.approx(np.mean([float(score_map.apply(one)) for one in raw.values()]), abs=1e-6)


def test_refit_over_a_file(tmp_path: Path, written: Bundle) -> None:
    path = tmp_path / "mine.eiqa"
    path.write_bytes(written.path.read_bytes())
    own = Bundle.open(path)
    with pytest.raises(UsageError, match="exists"):
        refit(path, own, maps(own.manifest, SIGMOID), low=0.0, high=100.0, name="mine", note="")
    assert path.read_bytes() == written.path.read_bytes()
    # The bundle itself may be the output: its parts are read before it is replaced.
    assert (
        refit(
            path, own, maps(own.manifest, SIGMOID), low=-50.0, high=100.0, name="mine", note="", overwrite=True
        ).manifest.scale.low
        == -50
    )
    assert verify(Scorer(Bundle.open(path))).passed
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.eiqa"]


def test_a_map_outside_the_new_scale_is_refused(tmp_path: Path, written: Bundle) -> None:
    with pytest.raises(RecordError, match="a range inside"):
        refit(
            tmp_path / "mine.eiqa", written, maps(written.manifest, SIGMOID), low=0.0, high=10.0, name="mine", note=""
        )
    assert nothing_written(tmp_path)
