"""The rank gate on real graphs: a bundle against itself, and graphs that shift, flatten, reverse or overflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from edgeiqa.export.calibration import CalibrationImages
from edgeiqa.export.graph import graph_bytes
from edgeiqa.export.pack import Graph, PackedMember, Photograph, cut_photograph, pack
from edgeiqa.export.rank_gate import LEAST_GATE_PHOTOS, gate_rank, rank_record, rank_refusal, refit_maps
from edgeiqa.profiles.parity import hash_photos
from edgeiqa.profiles.rank import RankReport
from edgeiqa.runtime.bundle import write_bundle
from edgeiqa.runtime.errors import DataError, EngineError, GateError, PhotoError, UsageError
from edgeiqa.runtime.manifest import Mean, Provenance, ScoreScale
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.runtime.scorer import Scorer, load
from onnx import TensorProto, helper

from .networks import Exported, photograph

Make = Callable[..., Scorer]
PHOTOS = [photograph(f"waves-{seed}", seed) for seed in range(LEAST_GATE_PHOTOS)]


def with_nodes(model: onnx.ModelProto, *nodes: tuple[str, float | None]) -> bytes:
    """The graph with operators of ``(name, second operand)`` behind its score."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in changed.graph.node:
        for place, output in enumerate(node.output):
            if output == "score":
                node.output[place] = "score.0"
    for place, (operator, operand) in enumerate(nodes):
        inputs = [f"score.{place}"]
        if operand is not None:
            inputs.append(f"operand.{place}")
            changed.graph.initializer.append(helper.make_tensor(inputs[1], TensorProto.FLOAT, [], [operand]))
        output = "score" if place == len(nodes) - 1 else f"score.{place + 1}"
        changed.graph.node.append(helper.make_node(operator, inputs, [output]))
    return graph_bytes(changed)


@pytest.fixture(scope="module")
def raw(exported: Callable[[str], Exported], tmp_path_factory: pytest.TempPathFactory) -> np.ndarray[Any, Any]:
    """The network's own raw scores of the photographs."""
    scorer = bundle_of(exported("mobilenet"), tmp_path_factory.mktemp("raw") / "a.eiqa", ScoreMap(), [], PHOTOS[0])
    return np.array([scorer.raw(photo.data)["net"] for photo in PHOTOS])


@pytest.fixture(scope="module")
def make(
    exported: Callable[[str], Exported], raw: np.ndarray[Any, Any], tmp_path_factory: pytest.TempPathFactory
) -> Make:
    """A scorer of the network with operators behind its score; its map spreads the photographs over the scale."""
    score_map = ScoreMap(steps=(Sigmoid(slope=float(2 / raw.std()), centre=float(raw.mean()), low=0.0, high=100.0),))
    golden = PHOTOS[int(raw.argmax())]

    def made(*nodes: tuple[str, float | None], scale: ScoreScale | None = None) -> Scorer:
        path = tmp_path_factory.mktemp("bundle") / "net.eiqa"
        return bundle_of(exported("mobilenet"), path, score_map, nodes, golden, scale)

    return made


def bundle_of(
    made: Exported,
    path: Path,
    score_map: ScoreMap,
    nodes: Any,
    golden: Photograph,
    scale: ScoreScale | None = None,
) -> Scorer:
    data = with_nodes(made.model, *nodes) if nodes else made.data
    graph = Graph("onnx", "fp32", "fp32", (data,), made.outputs)
    packing = pack(
        "net",
        [PackedMember("net", made.network.system.preprocess, score_map, (graph,))],
        combine=Mean(),
        scale=scale or ScoreScale(),
        golden=[golden],
        provenance=Provenance(created="2026-01-01", versions={"edgeiqa": "0"}),
    )
    return Scorer(write_bundle(path, packing.manifest, packing.parts), threads=1)


def images(scorer: Scorer) -> dict[str, CalibrationImages[Photograph]]:
    (member,) = scorer.bundle.manifest.members
    return {member.name: CalibrationImages(PHOTOS, lambda photo: cut_photograph(photo, member.preprocess))}


def test_the_default_bundle_against_itself_changes_nothing(tmp_path: Path) -> None:
    scorer = load(threads=1)
    paths = []
    for photo in PHOTOS:
        paths.append(tmp_path / f"{photo.name}.jpg")
        paths[-1].write_bytes(photo.data)
    done: list[tuple[int, int]] = []
    mos = [math.nan, *(float(place) for place in range(1, len(paths)))]
    report = gate_rank(
        scorer,
        scorer,
        paths,
        mos=mos,
        versions=5,
        least_srcc=1.0,
        max_srcc_drop=0.0,
        max_swapped_share=0.0,
        max_change=0.0,
        resamples=100,
        on_photo=lambda *at: done.append(at),
    )
    assert report.passed and (report.opinions, report.versions) == (LEAST_GATE_PHOTOS - 1, 5)
    assert (report.srcc, report.largest_change, report.mean_change, report.swapped_share) == (1.0, 0.0, 0.0, 0.0)
    assert (report.engine, report.precision, report.photos) == (scorer.engine, scorer.precision, LEAST_GATE_PHOTOS)
    assert report.images_sha256 == hash_photos(photo.data for photo in PHOTOS)
    assert report.worst_photo == "waves-0.jpg" and report.distinct_got == LEAST_GATE_PHOTOS
    assert done[-1] == (LEAST_GATE_PHOTOS, LEAST_GATE_PHOTOS) and len(done) == LEAST_GATE_PHOTOS
    record = rank_record(report)
    assert (record.kind, record.passed) == ("rank", True)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(record.report)), RankReport) == report


def test_a_shift_of_raw_scores_keeps_the_order_and_moves_the_scores(make: Make, raw: np.ndarray[Any, Any]) -> None:
    report = gate_rank(make(), make(("Add", float(raw.std()))), PHOTOS)
    assert report.passed and report.srcc is not None and report.srcc > 0.999
    assert report.mean_change is not None and report.mean_change > 10
    assert report.largest_change is not None and report.largest_change > report.mean_change


def test_a_refit_takes_that_shift_back(make: Make, raw: np.ndarray[Any, Any]) -> None:
    reference, judged = make(), make(("Mul", 0.8), ("Add", float(raw.std())))
    seen: list[tuple[int, int]] = []
    refit = refit_maps(reference, judged, images(judged), on_photo=lambda *at: seen.append(at))["net"]
    assert refit.rmse_before > 10 and refit.rmse_after < 0.05
    assert refit.scale == pytest.approx(1 / 0.8, rel=1e-2)
    assert seen[-1] == (len(PHOTOS), len(PHOTOS))
    member = judged.bundle.manifest.members[0]
    judged.artefacts["net"] = msgspec.structs.replace(member.artefacts[0], score_map=refit.score_map)
    report = gate_rank(reference, judged, PHOTOS, max_change=0.2)
    assert report.passed, report.failures
    # The reference's own map is corrected, whatever the judged side has by now.
    assert refit_maps(reference, judged, images(judged))["net"] == refit


def test_photographs_that_trade_places_fail(make: Make, raw: np.ndarray[Any, Any]) -> None:
    # As an activation that saturates at its median would.
    report = gate_rank(make(), make(("Max", float(np.median(raw)))), PHOTOS)
    assert not report.passed and report.srcc is not None and report.srcc < 0.95
    assert report.distinct_got is not None and report.distinct_got <= LEAST_GATE_PHOTOS // 2 + 1
    assert report.swapped_share is not None and report.swapped_share > 0.1
    refusal = rank_refusal("onnx int8", report)
    assert refusal.exit_code == 1
    assert refusal.got.startswith("onnx int8: SRCC to the reference") and "nothing was written" in refusal.mend


def test_a_graph_that_gives_one_score_fails_and_has_no_map(make: Make) -> None:
    reference, flat = make(), make(("Mul", 0.0))
    report = gate_rank(reference, flat, PHOTOS)
    assert not report.passed and report.srcc is None
    assert report.failures == ("the same score of the artefact for all 30 photographs, so that there is no order",)
    with pytest.raises(GateError, match=r"onnxruntime fp32, member net: quantized raw scores .* the same for all 30"):
        refit_maps(reference, flat, images(flat))


def test_a_graph_that_reverses_the_order_fails_and_has_no_map(make: Make) -> None:
    reference, reversed_ = make(), make(("Neg", None))
    report = gate_rank(reference, reversed_, PHOTOS)
    assert not report.passed and report.srcc is not None and report.srcc < -0.99
    with pytest.raises(GateError, match="do not rise with the reference's scores"):
        refit_maps(reference, reversed_, images(reversed_))


def test_a_graph_that_is_not_finite_on_a_photograph_fails(make: Make, raw: np.ndarray[Any, Any]) -> None:
    # Defined for the best photograph, which is the golden one, and for no other.
    second = float(np.sort(raw)[-2])
    top = float(raw.max())
    broken = make(("Sub", (second + top) / 2), ("Log", None))
    name = PHOTOS[0 if raw.argmax() else 1].name
    with pytest.raises(GateError, match=f"onnxruntime fp32 on {name}: .*not finite") as caught:
        gate_rank(make(), broken, PHOTOS)
    assert caught.value.exit_code == 1
    with pytest.raises(GateError, match=r"member net: .*not finite"):
        refit_maps(make(), broken, images(broken))
    with pytest.raises(EngineError, match="not finite"):
        gate_rank(broken, make(), PHOTOS)


def test_a_photograph_that_cannot_be_read_is_named(make: Make, tmp_path: Path) -> None:
    scorer = make()
    cut_off: list[Photograph | Path] = [*PHOTOS[:-1], Photograph("cut-off", PHOTOS[-1].data[:400])]
    with pytest.raises(PhotoError, match=r"^cut-off: "):
        gate_rank(scorer, scorer, cut_off)
    with pytest.raises(PhotoError, match=r"gone\.jpg cannot be read"):
        gate_rank(scorer, scorer, [tmp_path / "gone.jpg", *PHOTOS])


def test_too_few_photographs_are_refused(make: Make) -> None:
    with pytest.raises(DataError, match="29 photographs for the rank gate; expected at least 30"):
        gate_rank(make(), make(), PHOTOS[1:])


def test_opinions_of_other_photographs_are_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="29 opinions"):
        gate_rank(make(), make(), PHOTOS, mos=list(range(29)))


def test_bundles_of_different_scales_are_refused(make: Make) -> None:
    other = make(scale=ScoreScale(low=-100.0, high=200.0))
    with pytest.raises(UsageError, match=r"a scale of \[0, 100\] and of \[-100, 200\]"):
        gate_rank(make(), other, PHOTOS)
    # On a wider scale the margin is wider.
    assert gate_rank(other, other, PHOTOS).swap_margin == 3.0


def test_maps_of_other_members_are_refused(make: Make) -> None:
    scorer = make()
    with pytest.raises(UsageError, match="the same members on both sides"):
        refit_maps(scorer, load(threads=1), images(scorer))
    with pytest.raises(UsageError, match="images for each"):
        refit_maps(scorer, scorer, {})
