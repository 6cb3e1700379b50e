"""Is it worth it? The kinds of an export side by side, and against what the engine offers besides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..export.kinds import Kind
from ..export.pack import TARGET_ENGINE, Graph
from ..profiles.comparison import Verdict, compare_precisions
from ..runtime.decode import open_photo
from ..runtime.engines.engine import available_threads
from ..runtime.manifest import Target
from ..runtime.views import cut_views
from .export_scorers import FloatBundle, float_graphs, temporary_bundle

__all__ = ["Speed", "compare_speed"]

_WARM_UP, _RUNS = 5, 30
_RUN_HERE: tuple[Target, ...] = ("onnx", "openvino")


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What was measured, engine by engine.

    Attributes:
        latencies_ms: median of a graph, by its kind's name.
        verdicts: of each two of an engine, which they name as ``openvino bf16``.
        left_out: what could not be run here and why, likewise.
    """

    latencies_ms: Mapping[str, float] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def faster_than(self, kind: Kind, unfit: Collection[Kind]) -> Verdict | None:
        """The verdict of what is fastest over a kind, beyond the noise and ``unfit`` ones apart; None if none is."""
        engine = TARGET_ENGINE[kind.target]
        out = {f"{engine} {other.precision}" for other in unfit if other.target == kind.target}
        mine = f"{engine} {kind.precision}"
        beaten = [v for v in self.verdicts if v.beyond_noise and v.slower == mine and v.faster not in out]
        return max(beaten, key=lambda verdict: verdict.ratio, default=None)


def compare_speed(
    floats: FloatBundle, graphs: Mapping[Kind, Mapping[str, Graph]], targets: Collection[Target]
) -> Speed:
    """Measure the graphs of each engine in the same rounds, on a golden photograph, all threads.

    FP32 is always among them, and for OpenVINO also what it offers from the FP32 graph (bf16), whether it was asked for
    or not: it may be faster than INT8.

    Args:
        floats: the members.
        graphs: by kind and member; those of targets that no engine here runs are passed over.
        targets: measured even where they have no other graphs than FP32's.
    """
    latencies: dict[str, float] = {}
    verdicts: list[Verdict] = []
    left_out: dict[str, str] = {}
    for target in _RUN_HERE:
        if target not in targets:
            continue
        kinds = [kind for kind in graphs if kind.target == target]
        base = float_graphs(floats)
        side_by_side = {
            name: (graph, *(graphs[kind][name] for kind in kinds if kind != Kind("onnx", "fp32")))
            for name, graph in base.items()
        }
        views = {
            member.name: cut_views(open_photo(floats.golden[0].data, member.preprocess).image, member.preprocess)
            for member in floats.members
        }
        engine = TARGET_ENGINE[target]
        with temporary_bundle(floats, side_by_side) as bundle:
            compared = compare_precisions(
                bundle,
                views,
                engine=engine,
                precision="fp32",
                threads=available_threads(),
                warmup=_WARM_UP,
                runs=_RUNS,
            )
        for contender in compared.contenders:
            latencies[f"{target} {contender.precision}"] = contender.latency.p50_ms
        verdicts += compared.verdicts
        left_out |= compared.left_out
    return Speed(latencies_ms=latencies, verdicts=tuple(verdicts), left_out=left_out)
