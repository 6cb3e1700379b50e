"""Where the time of one photograph goes: decode, views, graph, score map, each alone and all together."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.decode import PhotoSource, open_photo
from ..runtime.preprocess import Preprocess
from ..runtime.scorer import Scorer
from ..runtime.views import cut_views
from .latency import Latency, latency_of, measure_together

__all__ = ["StageTimes", "measure_stages"]


class StageTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Latencies of one photograph's stages, measured side by side in the same rounds.

    Attributes:
        decode: of the file to pixels; once for each preprocessing that members do not share.
        views: pixels to views, likewise.
        graph: views to raw scores, all members one after another.
        score_map: raw scores to the combined score.
        file_to_score: all of it in one call, as users call it.
        graph_by_member: each member's part of ``graph``, measured alone.
    """

    decode: Latency
    views: Latency
    graph: Latency
    score_map: Latency
    file_to_score: Latency
    graph_by_member: dict[str, Latency]


def measure_stages(
    scorer: Scorer,
    source: PhotoSource,
    *,
    warmup: int,
    runs: int,
    between: Callable[[], object] | None = None,
) -> StageTimes:
    """Measure the stages of scoring a photograph.

    Args:
        scorer: loaded.
        source: the photograph, as `Scorer.score` takes it; a path is read from the disk's cache after the first time.
        warmup: unmeasured rounds first.
        runs: measured rounds; each runs every stage alone once, and all together once.
        between: run after each measured round, unmeasured.

    Raises:
        UsageError: no runs.
        PhotoError: the photograph cannot be read.
        EngineError: a graph's result is not finite.
    """
    members = scorer.bundle.manifest.members
    distinct: list[Preprocess] = []
    for member in members:
        if member.preprocess not in distinct:
            distinct.append(member.preprocess)
    photos = [open_photo(source, preprocess).image for preprocess in distinct]
    views: dict[str, dict[str, NDArray[np.uint8]]] = {
        member.name: cut_views(photos[distinct.index(member.preprocess)], member.preprocess) for member in members
    }
    raw = {name: scorer.run_views(name, cut) for name, cut in views.items()}
    calls: dict[str, Callable[[], object]] = {
        "decode": lambda: [open_photo(source, preprocess) for preprocess in distinct],
        "views": lambda: [cut_views(photo, how) for photo, how in zip(photos, distinct, strict=True)],
        "graph": lambda: [scorer.run_views(name, cut) for name, cut in views.items()],
        "score_map": lambda: scorer.combine(raw),
        "file_to_score": lambda: scorer.score(source),
    }
    if len(members) > 1:
        for name, cut in views.items():
            calls[f"graph of {name}"] = lambda name=name, cut=cut: scorer.run_views(name, cut)  # type: ignore[misc]
    measured = {
        name: latency_of(durations, warmup=warmup)
        for name, durations in measure_together(calls, warmup=warmup, runs=runs, between=between).items()
    }
    return StageTimes(
        decode=measured["decode"],
        views=measured["views"],
        graph=measured["graph"],
        score_map=measured["score_map"],
        file_to_score=measured["file_to_score"],
        graph_by_member={name: measured.get(f"graph of {name}", measured["graph"]) for name in views},
    )
