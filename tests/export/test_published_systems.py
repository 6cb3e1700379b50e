"""The published systems, random weights: from record to ONNX to bundle to the score of a 3840-wide photograph."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from edgeiqa import load
from edgeiqa.compress.models import SYSTEMS, NoWeights, build
from edgeiqa.export.gate import PARITY_TOLERANCE, write_gated
from edgeiqa.export.pack import Photograph, pack
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.manifest import Mean, Provenance, ScoreScale
from edgeiqa.runtime.verify import verify
from edgeiqa.runtime.views import cut_views
from edgeiqa.tools.packing import Trained, export_member, plain_map, torch_reference


# Views, and strict multiply-adds of the module: the graph has its batch normalisations folded (4 % less), or Swin's
# masks written out (2 % more).
@pytest.mark.parametrize(
    ("name", "views", "macs", "margin"),
    [
        ("challenge-baseline", ["image"], 4.087e9, 0.05),
        ("three-scale", ["scale1", "scale2", "scale3"], 18.98e9, 0.01),
        ("three-view", ["resized", "fragments", "centre"], 69.71e9, 0.03),
    ],
)
def test_from_record_to_score(
    data_root: Path, tmp_path: Path, name: str, views: list[str], macs: float, margin: float
) -> None:
    path = data_root / "uhd" / "ryan_schroeder.jpg"
    network = build(SYSTEMS[name](), weights=NoWeights(seed=0))
    member = Trained(name, network, plain_map(), {})
    photos = [Photograph("wide", path.read_bytes())]
    packing = pack(
        name,
        [export_member(member, ("onnx",), "fp32")],
        combine=Mean(),
        scale=ScoreScale(),
        golden=photos,
        provenance=Provenance(created="2026-01-01", versions={}),
    )
    tolerance = PARITY_TOLERANCE["fp32"]
    bundle, reports = write_gated(
        tmp_path / f"{name}.eiqa", packing, torch_reference([member]), photos, tolerance=tolerance
    )
    assert [report.passed for report in reports] == [True, True]
    scorer = load(bundle.path)
    score = scorer.score(path)
    assert (score.width, score.height) == (3840, 2560)
    with torch.no_grad():
        cut = cut_views(open_photo(path, network.system.preprocess).image, network.system.preprocess)
        raw = float(network(*(torch.from_numpy(view.copy())[None] for view in cut.values()))["score"])
    assert list(cut) == views
    assert score.value == pytest.approx(float(plain_map().apply(raw)), abs=0.05)
    assert 0.0 < float(score.value or 0.0) < 100.0
    assert verify(scorer).passed
    assert bundle.manifest.members[0].artefacts[0].macs == pytest.approx(macs, rel=margin)
