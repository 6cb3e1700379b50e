from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.profiles import full_profile, roofline
from edgeiqa.profiles.full_profile import Profile, measure_bundle, profile_bundle
from edgeiqa.profiles.measurement import Measurement
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import EngineError, PhotoError

from ..runtime.bundles import Ingredients, Recipe, build, encoded, pixels

PHOTO = encoded(pixels())


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return build(tmp_path / "two.eiqa", Recipe(members=(Ingredients(name="one"), Ingredients(name="two"))))


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A roofline of small arrays: nothing here depends on how fast the machine is."""
    monkeypatch.setattr(roofline, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(roofline, "_SESSIONS", 1)


def test_a_whole_profile(bundle: Bundle) -> None:
    told: list[str] = []
    seen = profile_bundle(bundle, PHOTO, runs=2, warmup=0, threads=1, streams=2, tell=told.append)
    assert seen.stages is not None and seen.graph == seen.stages.graph
    assert seen.file_to_score == seen.stages.file_to_score
    assert [layers.member for layers in seen.layers] == ["one", "two"]
    for layers in seen.layers:
        assert sum(layer.share for layer in layers.layers) == pytest.approx(1)
    assert seen.roofline is not None and {peak.precision for peak in seen.roofline.peaks} >= {"fp32"}
    assert [whole.member for whole in seen.roofline.whole] == ["one", "two"]
    assert [rate.streams for rate in seen.throughput] == [1, 2]
    assert seen.noise is not None and seen.noise.calibration.runs == 4
    assert seen.precisions is not None and len(seen.precisions.contenders) == 1
    assert seen.peak_rss_mib is not None and seen.peak_rss_mib > 10
    # Either it was measured, or it is said why not.
    assert (seen.energy is None) == ("energy" in seen.unmeasured)
    # Nobody counted these graphs: not known, and not zero.
    assert (seen.macs, seen.parameters) == (None, None)
    assert len(told) >= 6
    assert Profile.from_json(seen.to_json()) == seen


def test_a_brief_profile_says_what_it_left_out(bundle: Bundle) -> None:
    seen = profile_bundle(bundle, PHOTO, runs=2, warmup=0, threads=1, brief=True)
    left_out = {"precisions", "layers", "roofline", "throughput"}
    # Energy may be bounded: it is measured, or it is said why not.
    assert set(seen.unmeasured) - {"energy"} == left_out and (seen.energy is None) == ("energy" in seen.unmeasured)
    assert "brief" not in seen.unmeasured.get("energy", "")
    assert (seen.precisions, seen.layers, seen.roofline, seen.throughput) == (None, (), None, ())
    assert seen.stages is not None and seen.noise is not None and seen.peak_rss_mib is not None


def test_a_measurement_is_no_more_than_one(bundle: Bundle) -> None:
    seen = measure_bundle(bundle, PHOTO, runs=2, warmup=0, threads=1)
    assert type(seen) is Measurement
    assert Measurement.from_json(seen.to_json()) == seen


def test_no_counters_are_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeiqa.profiles.layers.run_with_counters", lambda *_, **__: ())
    seen = profile_bundle(bundle, PHOTO, runs=1, warmup=0, threads=1, streams=1)
    assert seen.layers == () and seen.roofline is None
    assert seen.unmeasured["layers"].startswith("no counters: onnxruntime")
    assert seen.unmeasured["roofline"] == "no layers were measured"


def test_a_profiler_that_fails_is_said(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> float:
        raise EngineError("a product that it refuses", expected="one it runs", mend="another --engine")

    monkeypatch.setattr(full_profile, "measure_peak", fail)
    monkeypatch.setattr(full_profile, "measure_peak_memory", fail)
    seen = profile_bundle(bundle, PHOTO, runs=1, warmup=0, threads=1, streams=1)
    assert (seen.roofline, seen.peak_rss_mib) == (None, None)
    assert seen.unmeasured["roofline"] == seen.unmeasured["peak_rss_mib"]
    assert seen.unmeasured["roofline"] == "a product that it refuses; another --engine"


def test_a_photograph_that_cannot_be_read_ends_it(bundle: Bundle) -> None:
    with pytest.raises(PhotoError):
        profile_bundle(bundle, b"nothing", runs=1, warmup=0)
