"""The roofline: how near each layer comes to what the machine can do at most.

A layer can be no faster than its multiply-adds at the machine's peak, and no faster than its bytes at the memory's
bandwidth. Both limits are measured here, in the same engine, in the same process, on as many threads.

Source: Williams, Waterman, Patterson, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), 2009.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ..runtime.errors import EdgeIQAError
from ..runtime.manifest import Precision
from .engine_counters import run_with_counters
from .layers import LayerProfile, count_product_macs
from .product_graph import write_product

__all__ = [
    "Peak",
    "Roofline",
    "RooflinePoint",
    "measure_bandwidth",
    "measure_peak",
    "offered_precisions",
    "place_layers",
]

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_LEAST_BYTES, _MOST_BYTES = 64 << 20, 256 << 20
_PIECES = 8
_SESSIONS = 4


class Peak(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fastest large matrix product that an engine was seen to compute.

    Attributes:
        precision: of its arithmetic, as the engine reports it.
        macs_per_second: of the fastest run.
        side: of the square matrices.
        form: in which it was fastest.
        kernel: the engine's implementation; empty where it does not tell.
    """

    precision: Precision
    macs_per_second: float
    side: int
    form: Literal["MatMul", "Conv"]
    kernel: str


class RooflinePoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A layer, or a whole graph, under the roofline.

    Attributes:
        member: of the bundle.
        name: of the layer; empty for the whole graph.
        macs: multiply-adds of its products.
        bytes_moved: of inputs, weights and outputs, each once.
        time_ms: measured.
        intensity: multiply-adds a byte.
        macs_per_second: reached.
        bound: what limits it there, ``compute`` or ``memory``; of a whole graph, what most of its least time is for.
        least_ms: time at the limit; of a whole graph, the sum over its layers.
        share: of the roofline that is reached, least_ms / time_ms. More than 1 where data stay in the caches, which are
            faster than the memory.
    """

    member: str
    name: str
    macs: int
    bytes_moved: int
    time_ms: float
    intensity: float
    macs_per_second: float
    bound: Literal["compute", "memory"]
    least_ms: float
    share: float


class Roofline(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine's limits, and where a bundle's layers stand under them.

    Attributes:
        engine: in which the peaks were measured.
        threads: that were used.
        peaks: of each precision that the engine offers here.
        bytes_per_second: read and written by copying arrays larger than the caches; the fastest run.
        whole: each member's graph.
        layers: with products, in each member's order.
    """

    engine: str
    threads: int
    peaks: tuple[Peak, ...]
    bytes_per_second: float
    whole: tuple[RooflinePoint, ...]
    layers: tuple[RooflinePoint, ...]


def offered_precisions(engine: str) -> tuple[Precision, ...]:
    """The precisions in which an engine, which must be installed, computes products on this machine."""
    if engine != "openvino":
        return ("fp32", "int8")
    import openvino

    offered = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    named: tuple[tuple[str, Precision], ...] = (("FP32", "fp32"), ("BF16", "bf16"), ("FP16", "fp16"), ("INT8", "int8"))
    return tuple(precision for name, precision in named if name in offered)


def measure_peak(engine: str, precision: Precision, *, threads: int, sides: Sequence[int] = (512, 1024)) -> Peak | None:
    """Measure the fastest large product in an engine.

    Square matrices, as a ``MatMul`` and as a convolution of 1x1. The time is the one that the engine's own profiler
    gives for the product alone, as for the layers of a graph; the fastest run of any form and size counts, since this
    is a limit: small products fit between two interruptions, large ones fill many cores.

    Args:
        engine: which must be installed.
        precision: that it is told.
        threads: of the engine.
        sides: of the matrices, from 16, powers of two.

    Returns:
        None where the engine computed in another precision than it was told.
    """
    generator = np.random.default_rng(0)
    best: Peak | None = None
    arithmetic: Literal["float", "int8"] = "int8" if precision == "int8" else "float"
    forms: tuple[Literal["MatMul", "Conv"], ...] = ("MatMul", "Conv")
    for side, form in ((side, form) for side in sides for form in forms):
        weight = generator.standard_normal((side, side), dtype=np.float32)
        shape = (side, side) if form == "MatMul" else (1, side, side // 16, 16)
        given = generator.integers(0, 256, shape, dtype=np.uint8)
        graph = write_product(weight, shape, form=form, arithmetic=arithmetic)
        feeds = {"a": given if arithmetic == "int8" else given.astype(np.float32)}
        # Several sessions of few runs: counters are finest in the first ones.
        for _ in range(_SESSIONS):
            executed = run_with_counters(engine, [graph], feeds, precision=precision, threads=threads, warmup=1, runs=3)
            for layer in executed:
                macs = count_product_macs(layer.engine_type, layer.inputs, layer.outputs)
                if macs and layer.precision == precision and min(layer.times_ms) > 0:
                    rate = macs / min(layer.times_ms) * 1e3
                    if best is None or rate > best.macs_per_second:
                        best = Peak(
                            precision=precision, macs_per_second=rate, side=side, form=form, kernel=layer.kernel
                        )
    return best


def measure_bandwidth(*, threads: int, runs: int = 5) -> float:
    """Bytes a second that copying large arrays reads and writes together, in numpy, on that many threads.

    Each array is four times the last cache, 64 MiB at least and 256 MiB at most, and is gone through in pieces, so that
    what was copied a piece ago is of no use for the next. The fastest piece counts. What the processor reads of a line
    before it writes it is not counted.
    """
    size = min(max(4 * _last_cache_bytes(_CACHES), _LEAST_BYTES), _MOST_BYTES) // 8 // threads
    parts = [(np.ones(size), np.zeros(size)) for _ in range(threads)]
    piece = size // _PIECES
    fastest = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for index in range((runs + 1) * _PIECES):
            where = slice(index % _PIECES * piece, (index % _PIECES + 1) * piece)
            start = time.perf_counter()
            list(pool.map(lambda part, where=where: np.copyto(part[1][where], part[0][where]), parts))
            seconds = time.perf_counter() - start
            # The first time through, the system still hands out the memory.
            if index >= _PIECES:
                fastest = max(fastest, 2 * 8 * piece * threads / seconds)
    return fastest


def _last_cache_bytes(folder: Path) -> int:
    """The size of the last cache that Linux lists for a core; 0 where it lists none."""
    sizes = [0]
    for file in sorted(folder.glob("index*/size")):
        try:
            text = file.read_text(encoding="ascii").strip()
            sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0))
        except (OSError, ValueError):
            continue
    return max(sizes)


def place_layers(
    profiles: Sequence[LayerProfile], peaks: Sequence[Peak], bytes_per_second: float, *, engine: str, threads: int
) -> Roofline:
    """Place measured layers under measured limits.

    A layer in a precision of which no peak is known is held against the fastest that is known. Layers without products
    are limited by the memory alone, and count in their graph's whole.

    Args:
        profiles: of each member.
        peaks: at least one.
        bytes_per_second: the memory's.
        engine: that all was measured in.
        threads: likewise.

    Raises:
        EdgeIQAError: no peak.
    """
    if not peaks:
        raise EdgeIQAError(
            f"no peak of {engine}", expected="a large product that its profiler shows", mend="name another --engine"
        )
    known = {peak.precision: peak.macs_per_second for peak in peaks}
    fastest = max(known.values())
    points: list[RooflinePoint] = []
    whole: list[RooflinePoint] = []
    for profile in profiles:
        compute_ms = memory_ms = 0.0
        for layer in profile.layers:
            peak = fastest if layer.precision is None else known.get(layer.precision, fastest)
            by_macs, by_bytes = (layer.macs or 0) / peak * 1e3, layer.bytes_moved / bytes_per_second * 1e3
            if by_macs >= by_bytes:
                compute_ms += by_macs
            else:
                memory_ms += by_bytes
            if layer.macs:
                points.append(
                    _point(
                        profile.member,
                        layer.name,
                        layer.macs,
                        layer.bytes_moved,
                        layer.time_ms,
                        max(by_macs, by_bytes),
                        by_macs >= by_bytes,
                    )
                )
        if profile.layers:
            moved = sum(layer.bytes_moved for layer in profile.layers)
            whole.append(
                _point(
                    profile.member,
                    "",
                    profile.macs,
                    moved,
                    profile.total_ms,
                    compute_ms + memory_ms,
                    compute_ms >= memory_ms,
                )
            )
    return Roofline(
        engine=engine,
        threads=threads,
        peaks=tuple(peaks),
        bytes_per_second=bytes_per_second,
        whole=tuple(whole),
        layers=tuple(points),
    )


def _point(
    member: str, name: str, macs: int, bytes_moved: int, time_ms: float, least_ms: float, by_compute: bool
) -> RooflinePoint:
    # Counters tick in microseconds: a layer may take none.
    seconds = max(time_ms, 1e-3) / 1e3
    return RooflinePoint(
        member=member,
        name=name,
        macs=macs,
        bytes_moved=bytes_moved,
        time_ms=time_ms,
        intensity=macs / max(bytes_moved, 1),
        macs_per_second=macs / seconds,
        bound="compute" if by_compute else "memory",
        least_ms=least_ms,
        share=least_ms / 1e3 / seconds,
    )
