"""Which is faster: graphs and bundles measured side by side, with ratios of the same rounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.bundle import Bundle
from ..runtime.decode import PhotoSource
from ..runtime.engines.engine import GraphEngine, open_engine
from ..runtime.errors import EdgeIQAError, UsageError
from ..runtime.manifest import Artefact, Precision
from ..runtime.scorer import Scorer, choose_artefact, combine_raw
from .latency import Latency, latency_of, measure_together
from .noise import Noise, NoiseWatch
from .roofline import offered_precisions

__all__ = ["Comparison", "Contender", "Verdict", "compare_bundles", "compare_calls", "compare_precisions"]

# Under this, quartiles that lie apart are the order of the calls or the alignment of an array.
_LEAST_DIFFERENCE = 0.02


class Contender(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of those that were compared.

    Attributes:
        name: in the verdicts.
        engine: that ran it.
        precision: that the engine was told.
        in_bundle: False of a precision that the bundle does not name: the engine runs another one's graph in it.
        latency: of what was compared.
        score: of the photograph; None where the engine gave none.
    """

    name: str
    engine: str
    precision: str
    in_bundle: bool
    latency: Latency
    score: float | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Two contenders against each other.

    Attributes:
        faster: the one with the smaller median.
        slower: the other.
        ratio: median of slower / faster over the rounds, each round's two runs against each other.
        low: its lower quartile.
        high: its upper quartile.
        beyond_noise: the quartiles are on the same side of 1, and the ratio is 1.02 or more.
        text: for people.
    """

    faster: str
    slower: str
    ratio: float
    low: float
    high: float
    beyond_noise: bool
    text: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Contenders, measured in the same rounds.

    Attributes:
        of: what was measured of each: ``graph`` or ``file to score``.
        contenders: at least one; the first is the one that the call names.
        verdicts: of each two.
        left_out: contenders that could not be run, and why.
        noise: of the machine meanwhile; None where it is said elsewhere.
    """

    of: str
    contenders: tuple[Contender, ...]
    verdicts: tuple[Verdict, ...]
    left_out: dict[str, str] = {}
    noise: Noise | None = None


def compare_calls(durations_ms: Mapping[str, NDArray[np.float64]]) -> tuple[Verdict, ...]:
    """The verdict of each two, from durations of the same rounds.

    Args:
        durations_ms: by name float64 ``[runs]``, as `latency.measure_together` gives them.
    """
    verdicts = []
    for first, second in combinations(durations_ms, 2):
        slower, faster = sorted((first, second), key=lambda name: -float(np.median(durations_ms[name])))
        low, ratio, high = np.percentile(durations_ms[slower] / np.maximum(durations_ms[faster], 1e-6), (25, 50, 75))
        beyond = bool(low > 1 and ratio >= 1 + _LEAST_DIFFERENCE)
        between = f"quartiles {low:.2f} to {high:.2f}"
        verdicts.append(
            Verdict(
                faster=faster,
                slower=slower,
                ratio=float(ratio),
                low=float(low),
                high=float(high),
                beyond_noise=beyond,
                text=f"{faster} is {ratio:.2f} times as fast as {slower} here ({between})"
                if beyond
                else f"{first} and {second} are as fast as each other here, within the noise ({between})",
            )
        )
    return tuple(verdicts)


@dataclass(frozen=True, slots=True)
class _Graphs:
    """A bundle's graphs, loaded in one engine and precision."""

    engines: dict[str, GraphEngine]
    artefacts: dict[str, Artefact]
    in_bundle: bool


def compare_precisions(
    bundle: Bundle,
    views: Mapping[str, Mapping[str, NDArray[np.uint8]]],
    *,
    engine: str,
    precision: str,
    threads: int,
    warmup: int,
    runs: int,
    between: Callable[[], object] | None = None,
) -> Comparison:
    """Compare the graphs of a bundle in each precision that it holds for an engine.

    In OpenVINO also in the precisions in which it can run the graph that is named, if that is an fp32 one.

    Args:
        bundle: opened.
        views: by member name, by view name, uint8 without the batch.
        engine: which must be installed.
        precision: the one that the call names; the first contender.
        threads: of the engine.
        warmup: unmeasured rounds.
        runs: measured rounds.
        between: run after each measured round.

    Raises:
        UsageError, EngineError: the named precision cannot be run.
    """
    members = bundle.manifest.members
    held = {artefact.precision for member in members for artefact in member.artefacts}
    offered = offered_precisions(engine) if engine == "openvino" and precision == "fp32" else ()
    order = dict.fromkeys((precision, *sorted(held), *(other for other in offered if other in ("bf16", "fp16"))))
    loaded: dict[str, _Graphs] = {}
    left_out: dict[str, str] = {}
    for other in order:
        name = f"{engine} {other}"
        try:
            loaded[name] = _load(bundle, engine, other, precision, threads)
        except EdgeIQAError as error:
            if other == precision:
                raise
            left_out[name] = error.got
    raw: dict[str, dict[str, float]] = {}

    def score(name: str) -> None:
        raw[name] = {member: float(run.run(views[member])["score"]) for member, run in loaded[name].engines.items()}

    for name in list(loaded):
        try:
            score(name)
        except EdgeIQAError as error:
            if name == f"{engine} {precision}":
                raise
            left_out[name] = error.got
            del loaded[name]
    calls = {name: lambda name=name: score(name) for name in loaded}
    measured = measure_together(calls, warmup=warmup, runs=runs, between=between)
    return Comparison(
        of="graph",
        contenders=tuple(
            Contender(
                name=name,
                engine=engine,
                precision=name.split()[1],
                in_bundle=graphs.in_bundle,
                latency=latency_of(measured[name], warmup=warmup),
                score=combine_raw(bundle.manifest, graphs.artefacts, raw[name])[0],
            )
            for name, graphs in loaded.items()
        ),
        verdicts=compare_calls(measured),
        left_out=left_out,
    )


def _load(bundle: Bundle, engine: str, precision: str, named: str, threads: int) -> _Graphs:
    """The bundle's own artefacts of a precision; where it has none, the named one's, run in that precision."""
    members = bundle.manifest.members
    try:
        artefacts = {member.name: choose_artefact(member, engine, precision) for member in members}
        in_bundle = True
    except UsageError:
        if engine != "openvino" or precision not in ("bf16", "fp16"):
            raise
        told: Precision = "bf16" if precision == "bf16" else "fp16"
        artefacts = {
            member.name: msgspec.structs.replace(choose_artefact(member, engine, named), precision=told)
            for member in members
        }
        in_bundle = False
    return _Graphs(
        engines={
            member.name: open_engine(
                engine,
                artefacts[member.name],
                [bundle.read(file) for file in artefacts[member.name].files],
                inputs=member.preprocess.shapes,
                threads=threads,
            )
            for member in members
        },
        artefacts=artefacts,
        in_bundle=in_bundle,
    )


def compare_bundles(
    bundles: Mapping[str, Bundle],
    photo: PhotoSource,
    *,
    engine: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
    warmup: int,
    runs: int,
) -> Comparison:
    """Compare bundles from a photograph's file to its score.

    Args:
        bundles: opened, by the name that stands in the verdicts; at least one.
        photo: that each of them scores.
        engine: another than each bundle names.
        precision: likewise.
        threads: of each engine.
        warmup: unmeasured rounds.
        runs: measured rounds.

    Raises:
        UsageError, EngineError, MissingExtraError: as `Scorer`.
        PhotoError: the photograph cannot be read.
    """
    scorers = {
        name: Scorer(bundle, engine=engine, precision=precision, threads=threads) for name, bundle in bundles.items()
    }
    scores = {name: scorer.score(photo).value for name, scorer in scorers.items()}
    watch = NoiseWatch()
    calls = {name: lambda scorer=scorer: scorer.score(photo) for name, scorer in scorers.items()}
    measured = measure_together(calls, warmup=warmup, runs=runs, between=watch.tick)
    return Comparison(
        of="file to score",
        contenders=tuple(
            Contender(
                name=name,
                engine=scorer.engine,
                precision=scorer.precision,
                in_bundle=True,
                latency=latency_of(measured[name], warmup=warmup),
                score=scores[name],
            )
            for name, scorer in scorers.items()
        ),
        verdicts=compare_calls(measured),
        noise=watch.finish(),
    )
