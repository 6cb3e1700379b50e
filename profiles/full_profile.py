"""A bundle's profile on this machine: all that can be measured of it, and what could not be, with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle
from ..runtime.decode import open_photo
from ..runtime.errors import EdgeIQAError
from ..runtime.scorer import Score, Scorer
from ..runtime.views import cut_views
from .budget import Violation
from .comparison import Comparison, compare_precisions
from .energy import Energy, RaplCounter, measure_energy
from .layers import LayerProfile, profile_layers
from .measurement import Measurement, host_facts
from .noise import Noise, NoiseWatch
from .peak_memory import measure_peak_memory
from .roofline import Peak, Roofline, measure_bandwidth, measure_peak, offered_precisions, place_layers
from .stage_times import StageTimes, measure_stages
from .throughput import StreamRate, measure_throughput

__all__ = ["Profile", "measure_bundle", "profile_bundle"]

Result = TypeVar("Result")
Views = Mapping[str, Mapping[str, NDArray[np.uint8]]]

_MOST_COUNTED_RUNS = 10


class Profile(Measurement, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A measurement, with where its time goes. What is None or empty was not measured, and ``unmeasured`` says why.

    Attributes:
        format: of this record.
        noise: of the machine while latencies were measured.
        stages: decode, views, graph and score map, each alone.
        precisions: the graphs in each precision against the others.
        layers: by member, from the engine's own profiler.
        roofline: the machine's limits, and how near the layers come.
        throughput: at several streams.
        energy: of one photograph.
        unmeasured: what was not measured -> why.
        violations: of the budgets that the call named.
    """

    format: int = 1
    noise: Noise | None = None
    stages: StageTimes | None = None
    precisions: Comparison | None = None
    layers: tuple[LayerProfile, ...] = ()
    roofline: Roofline | None = None
    throughput: tuple[StreamRate, ...] = ()
    energy: Energy | None = None
    unmeasured: dict[str, str] = msgspec.field(default_factory=dict)
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A scorer that is ready, and how long that took."""

    scorer: Scorer
    load_ms: float
    first_score_ms: float
    score: Score
    views: Views


def measure_bundle(
    bundle: Bundle,
    source: Path | bytes,
    *,
    runs: int,
    warmup: int,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> Measurement:
    """Measure a bundle with one photograph: what a budget may bound, and no more.

    Args:
        bundle: opened.
        source: the photograph, a path or the bytes of a file.
        runs: measured runs.
        warmup: unmeasured runs before them.
        engine: another than the bundle's.
        precision: likewise.
        threads: of the engine; all processors unless said.

    Raises:
        UsageError, EngineError, MissingExtraError: as `Scorer`.
        PhotoError: the photograph cannot be read.
    """
    brief = profile_bundle(
        bundle, source, runs=runs, warmup=warmup, engine=engine, precision=precision, threads=threads, brief=True
    )
    return Measurement(**{name: getattr(brief, name) for name in Measurement.__struct_fields__})


def profile_bundle(
    bundle: Bundle,
    source: Path | bytes,
    *,
    runs: int,
    warmup: int,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    streams: int | None = None,
    brief: bool = False,
    tell: Callable[[str], object] = lambda _: None,
) -> Profile:
    """Profile a bundle with one photograph.

    Args:
        bundle: opened.
        source: the photograph, a path or the bytes of a file.
        runs: measured rounds.
        warmup: unmeasured rounds before them.
        engine: another than the bundle's.
        precision: likewise.
        threads: of the engine; all processors unless said.
        streams: most streams of the throughput; as many as threads unless said.
        brief: only what a budget may bound, the stages and the noise.
        tell: is told what is measured next.

    Raises:
        UsageError, EngineError, MissingExtraError: as `Scorer`.
        PhotoError: the photograph cannot be read.
    """
    tell("loading")
    loaded = _load(bundle, source, engine, precision, threads)
    scorer = loaded.scorer
    unmeasured: dict[str, str] = {}

    tell(f"latency, {runs} rounds")
    watch = NoiseWatch()
    stages = measure_stages(scorer, source, warmup=warmup, runs=runs, between=watch.tick)
    precisions = None
    if not brief:
        tell("precisions")
        precisions = compare_precisions(
            bundle,
            loaded.views,
            engine=scorer.engine,
            precision=scorer.precision,
            threads=scorer.threads,
            warmup=warmup,
            runs=runs,
            between=watch.tick,
        )
    noise = watch.finish()

    tell("peak memory, in a process of its own")
    peak_rss_mib = _attempt(
        "peak_rss_mib",
        unmeasured,
        lambda: measure_peak_memory(
            bundle.path, source, engine=scorer.engine, precision=scorer.precision, threads=scorer.threads
        ),
    )
    layers: tuple[LayerProfile, ...] = ()
    roofline: Roofline | None = None
    throughput: tuple[StreamRate, ...] = ()
    if brief:
        unmeasured.update(
            dict.fromkeys(("precisions", "layers", "roofline", "throughput"), "left out of a brief profile")
        )
    else:
        tell("layers, by the engine's profiler")
        layers = _layers(loaded, bundle, warmup, runs, unmeasured)
        tell("the machine's peaks and bandwidth")
        roofline = _attempt("roofline", unmeasured, lambda: _roofline(layers, scorer, unmeasured)) if layers else None
        if not layers:
            unmeasured["roofline"] = "no layers were measured"
        tell("throughput")
        throughput = measure_throughput(
            lambda each: _photo_call(bundle, source, scorer, each),
            most=streams or scorer.threads,
            threads=scorer.threads,
            photos=max(1, runs // 2),
        )
    tell("energy")
    energy = _attempt("energy", unmeasured, lambda: measure_energy(lambda: scorer.score(source), RaplCounter()))
    artefacts = [scorer.artefacts[member.name] for member in bundle.manifest.members]
    macs = [artefact.macs for artefact in artefacts if artefact.macs is not None]
    parameters = [artefact.parameters for artefact in artefacts if artefact.parameters is not None]
    return Profile(
        subject=bundle.manifest.name,
        host=host_facts(),
        engine=scorer.engine,
        engine_version=scorer.engine_version,
        precision=scorer.precision,
        threads=scorer.threads,
        load_ms=loaded.load_ms,
        first_score_ms=loaded.first_score_ms,
        graph=stages.graph,
        file_to_score=stages.file_to_score,
        photo_width=loaded.score.width,
        photo_height=loaded.score.height,
        peak_rss_mib=peak_rss_mib,
        energy_mj=None if energy is None else 1000 * energy.joules_per_photo,
        size_bytes=bundle.size_bytes,
        macs=sum(macs) if len(macs) == len(artefacts) else None,
        parameters=sum(parameters) if len(parameters) == len(artefacts) else None,
        noise=noise,
        stages=stages,
        precisions=precisions,
        layers=layers,
        roofline=roofline,
        throughput=throughput,
        energy=energy,
        unmeasured=unmeasured,
    )


def _load(
    bundle: Bundle, source: Path | bytes, engine: str | None, precision: str | None, threads: int | None
) -> _Loaded:
    started = time.perf_counter_ns()
    scorer = Scorer(bundle, engine=engine, precision=precision, threads=threads)
    ready = time.perf_counter_ns()
    score = scorer.score(source)
    first = time.perf_counter_ns()
    return _Loaded(
        scorer=scorer,
        load_ms=(ready - started) / 1e6,
        first_score_ms=(first - ready) / 1e6,
        score=score,
        views={
            member.name: cut_views(open_photo(source, member.preprocess).image, member.preprocess)
            for member in bundle.manifest.members
        },
    )


def _attempt(what: str, unmeasured: dict[str, str], measure: Callable[[], Result]) -> Result | None:
    """What is measured; where that cannot be, None and the reason."""
    try:
        return measure()
    except EdgeIQAError as error:
        unmeasured[what] = f"{error.got}; {error.mend}"
        return None


def _photo_call(bundle: Bundle, source: Path | bytes, like: Scorer, threads: int) -> Callable[[], object]:
    scorer = Scorer(bundle, engine=like.engine, precision=like.precision, threads=threads)
    return lambda: scorer.score(source)


def _layers(
    loaded: _Loaded, bundle: Bundle, warmup: int, runs: int, unmeasured: dict[str, str]
) -> tuple[LayerProfile, ...]:
    scorer = loaded.scorer
    layers = _attempt(
        "layers",
        unmeasured,
        lambda: profile_layers(
            bundle,
            scorer.artefacts,
            loaded.views,
            engine=scorer.engine,
            threads=scorer.threads,
            warmup=min(warmup, 2),
            runs=min(runs, _MOST_COUNTED_RUNS),
        ),
    )
    if layers is not None and not any(profile.layers for profile in layers):
        unmeasured["layers"] = f"no counters: {scorer.engine} {scorer.engine_version} gave no layer's time"
    return tuple(profile for profile in layers or () if profile.layers)


def _roofline(layers: tuple[LayerProfile, ...], scorer: Scorer, unmeasured: dict[str, str]) -> Roofline:
    peaks: list[Peak] = []
    for precision in offered_precisions(scorer.engine):
        peak = measure_peak(scorer.engine, precision, threads=scorer.threads)
        if peak is None:
            unmeasured[f"peak of {precision}"] = f"{scorer.engine} computed the product in another precision"
        else:
            peaks.append(peak)
    bandwidth = measure_bandwidth(threads=scorer.threads)
    return place_layers(layers, peaks, bandwidth, engine=scorer.engine, threads=scorer.threads)
