from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.profiles import roofline
from edgeiqa.profiles.engine_counters import ExecutedLayer
from edgeiqa.profiles.layers import LayerProfile, LayerTime
from edgeiqa.profiles.roofline import Peak, measure_bandwidth, measure_peak, offered_precisions, place_layers
from edgeiqa.runtime.errors import EdgeIQAError
from edgeiqa.runtime.manifest import Precision

FP32 = Peak(precision="fp32", macs_per_second=1e9, side=256, form="Conv", kernel="")
INT8 = Peak(precision="int8", macs_per_second=4e9, side=256, form="MatMul", kernel="")
BYTES_PER_SECOND = 1e8


def layer(name: str, macs: int | None, moved: int, time_ms: float, precision: Precision | None = "fp32") -> LayerTime:
    return LayerTime(
        name=name,
        engine_type="Conv",
        kernel="",
        precision=precision,
        time_ms=time_ms,
        spread=0,
        share=0,
        macs=macs,
        bytes_moved=moved,
        output=(1,),
    )


def placed(*layers: LayerTime) -> roofline.Roofline:
    profile = LayerProfile(
        member="one",
        runs=1,
        total_ms=sum(each.time_ms for each in layers),
        layers=layers,
        macs=sum(each.macs or 0 for each in layers),
        graph_macs=None,
        untold={},
    )
    return place_layers([profile], [FP32, INT8], BYTES_PER_SECOND, engine="onnxruntime", threads=1)


def test_what_limits_a_layer() -> None:
    # 1 ms of arithmetic at the peak, .1 ms of bytes; and the other way round.
    by_compute, by_memory = placed(layer("dense", 1_000_000, 10_000, 2.0), layer("thin", 100_000, 100_000, 4.0)).layers
    assert by_compute.bound == "compute"
    assert (by_compute.least_ms, by_compute.share) == pytest.approx((1, 0.5))
    assert by_compute.intensity == pytest.approx(100)
    assert by_compute.macs_per_second == pytest.approx(5e8)
    assert by_memory.bound == "memory"
    assert (by_memory.least_ms, by_memory.share) == pytest.approx((1, 0.25))


def test_the_peak_is_that_of_the_layers_precision() -> None:
    (quick,) = placed(layer("int8", 1_000_000, 100, 1.0, "int8")).layers
    assert quick.least_ms == pytest.approx(0.25)
    # No peak is known of bf16: the fastest known one is the limit.
    (other,) = placed(layer("bf16", 1_000_000, 100, 1.0, "bf16")).layers
    assert other.least_ms == pytest.approx(0.25)


def test_the_whole_is_the_sum_of_what_each_layer_needs_at_least() -> None:
    seen = placed(
        layer("dense", 1_000_000, 10_000, 2.0),
        layer("thin", 100_000, 100_000, 4.0),
        # No products: limited by its bytes, no point of its own.
        layer("relu", None, 200_000, 4.0),
    )
    assert [point.name for point in seen.layers] == ["dense", "thin"]
    (whole,) = seen.whole
    assert whole.bound == "memory"
    assert (whole.least_ms, whole.share) == pytest.approx((4, 0.4))
    assert (whole.macs, whole.bytes_moved, whole.time_ms) == (1_100_000, 310_000, 10.0)


def test_a_layer_that_the_engines_clock_shows_as_nothing() -> None:
    (point,) = placed(layer("tiny", 10, 10, 0.0)).layers
    assert 0 < point.share < float("inf")


def test_no_peak_no_roofline() -> None:
    with pytest.raises(EdgeIQAError, match="no peak"):
        place_layers([], [], 1.0, engine="openvino", threads=1)


@pytest.mark.parametrize(
    ("engine", "precision"), [("onnxruntime", "fp32"), ("onnxruntime", "int8"), ("openvino", "fp32")]
)
def test_peaks_of_this_machine(engine: str, precision: Precision) -> None:
    assert precision in offered_precisions(engine)
    peak = measure_peak(engine, precision, threads=1, sides=(64,))
    assert peak is not None and (peak.precision, peak.side) == (precision, 64)
    assert peak.macs_per_second > 1e6


def test_a_precision_that_the_engine_replaces_has_no_peak() -> None:
    assert measure_peak("onnxruntime", "bf16", threads=1, sides=(16,)) is None


def test_the_fastest_run_of_any_size_is_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_SESSIONS", 1)
    times = iter([(4.0, 2.0), (1.0, 3.0), (9.0, 9.0), (9.0, 8.0)])

    def run(*_: object, **__: object) -> tuple[ExecutedLayer, ...]:
        return (
            ExecutedLayer(
                name="y",
                engine_type="MatMul",
                kernel="k",
                precision="fp32",
                times_ms=next(times),
                inputs=((100, 100), (100, 100)),
                outputs=((100, 100),),
                bytes_moved=1,
            ),
        )

    monkeypatch.setattr(roofline, "run_with_counters", run)
    peak = measure_peak("onnxruntime", "fp32", threads=1, sides=(16, 32))
    assert peak == Peak(precision="fp32", macs_per_second=1e9, side=16, form="Conv", kernel="k")


def test_bandwidth_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "_LEAST_BYTES", 1 << 20)
    monkeypatch.setattr(roofline, "_MOST_BYTES", 1 << 20)
    assert measure_bandwidth(threads=2, runs=1) > 1e6


def test_the_last_cache(tmp_path: Path) -> None:
    assert roofline._last_cache_bytes(tmp_path) == 0
    for index, size in enumerate(("32K", "1024K", "32M", "")):
        (tmp_path / f"index{index}").mkdir()
        (tmp_path / f"index{index}" / "size").write_text(size)
    assert roofline._last_cache_bytes(tmp_path) == 32 << 20
