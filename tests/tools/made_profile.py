"""Profiles that nobody measured, for the tests of their page."""

from __future__ import annotations

from typing import Any

from edgeiqa.profiles.comparison import Comparison, Contender
from edgeiqa.profiles.full_profile import Profile
from edgeiqa.profiles.latency import Latency
from edgeiqa.profiles.layers import LayerProfile, LayerTime
from edgeiqa.profiles.measurement import HostFacts
from edgeiqa.profiles.noise import Noise
from edgeiqa.profiles.roofline import Peak, Roofline, place_layers
from edgeiqa.profiles.stage_times import StageTimes
from edgeiqa.profiles.throughput import StreamRate

PEAKS = (
    Peak(precision="fp32", macs_per_second=100e9, side=512, form="Conv", kernel=""),
    Peak(precision="int8", macs_per_second=400e9, side=512, form="MatMul", kernel="gemm"),
)
BANDWIDTH = 20e9


def latency(p50_ms: float, p95_ms: float | None = None) -> Latency:
    top = 1.1 * p50_ms if p95_ms is None else p95_ms
    return Latency(
        runs=20,
        warmup=5,
        min_ms=0.9 * p50_ms,
        p50_ms=p50_ms,
        p95_ms=top,
        max_ms=1.1 * top,
        mean_ms=p50_ms,
        std_ms=0.1,
        p99_ms=1.05 * top,
        iqr_ms=0.05 * p50_ms,
    )


def layer(name: str, time_ms: float, macs: int | None, moved: int = 1_000_000, kind: str = "Conv") -> LayerTime:
    return LayerTime(
        name=name,
        engine_type=kind,
        kernel="",
        precision="fp32",
        time_ms=time_ms,
        spread=0.1,
        share=0.0,
        macs=macs,
        bytes_moved=moved,
        output=(1, 8, 4, 4),
    )


LAYERS = {
    "first": [
        layer("conv_1", 2.0, 50_000_000),
        layer("conv_2", 0.5, 40_000_000),
        layer("relu", 0.75, None, kind="Relu"),
    ],
    "second": [layer("conv_1", 4.0, 10_000_000, 30_000_000), layer("fc", 0.001, 1000, 4000, kind="Gemm")],
}


def layer_profile(member: str, layers: list[LayerTime]) -> LayerProfile:
    return LayerProfile(
        member=member,
        runs=10,
        total_ms=sum(each.time_ms for each in layers),
        layers=tuple(layers),
        macs=sum(each.macs or 0 for each in layers),
        graph_macs=80_000_000,
        untold={"Attention": 0.25} if member == "second" else {},
    )


def made_roofline(layers: tuple[LayerProfile, ...]) -> Roofline:
    return place_layers(layers, PEAKS, BANDWIDTH, engine="onnxruntime", threads=2)


def made_profile(*names: str, **changes: Any) -> Profile:
    """A profile of the members ``first`` and ``second``, or of these names; with other fields where they are given."""
    members = names or tuple(LAYERS)
    layers = tuple(
        layer_profile(member, own)
        for member, own in zip(members, (list(LAYERS.values()) * 9)[: len(members)], strict=True)
    )
    graphs = {member: latency(10.0 + at) for at, member in enumerate(members)}
    facts: dict[str, Any] = {
        "subject": "made",
        "host": HostFacts(cpu="An Abacus", architecture="wood", cores=2, os="Linux", python="3.11"),
        "engine": "onnxruntime",
        "engine_version": "1.0",
        "precision": "fp32",
        "threads": 2,
        "load_ms": 100.0,
        "first_score_ms": 50.0,
        "graph": latency(20.0),
        "file_to_score": latency(30.0, 33.0),
        "photo_width": 640,
        "photo_height": 480,
        "peak_rss_mib": 200.0,
        "size_bytes": 15_000_000,
        "macs": 2_500_000_000,
        "parameters": 7_000_000,
        "noise": Noise(noisy=False, reasons=(), seconds=3.0, calibration=latency(1.0)),
        "stages": StageTimes(
            decode=latency(4.0, 5.0),
            views=latency(2.0),
            graph=latency(20.0),
            score_map=latency(0.02),
            file_to_score=latency(30.0, 33.0),
            graph_by_member=graphs,
        ),
        "precisions": Comparison(
            of="graph",
            contenders=(
                Contender(
                    name="onnxruntime fp32",
                    engine="onnxruntime",
                    precision="fp32",
                    in_bundle=True,
                    latency=latency(20.0),
                    score=55.5,
                ),
            ),
            verdicts=(),
            left_out={"bf16": "not here"},
        ),
        "layers": layers,
        "roofline": made_roofline(layers),
        "throughput": (
            StreamRate(
                streams=1, threads_each=2, photos=9, rounds=3, photos_per_second=33.3, slowest=30.0, fastest=35.0
            ),
        ),
        "unmeasured": {"energy": "no counters of <energy>"},
    }
    return Profile(**(facts | changes))
