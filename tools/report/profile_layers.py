"""The layers of a profile's page: under the roofline, by kind, and one by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ...profiles.full_profile import Profile
from ...profiles.layers import LayerTime
from ...profiles.roofline import RooflinePoint
from .page import Figure, Section, Table
from .profile_charts import kinds_of_layers, roofline_plot
from .text import counted, number, on_one_line, shorten

__all__ = ["layer_sections"]

_NUMBERED = 5
_KINDS = 5
# Characters of a cell, so that the table of layers fits on paper.
_MOST_CELL = 24


def layer_sections(measured: Profile) -> list[Section]:
    """The roofline with the time by kind of layer, and the table of all layers; or why there are none."""
    placed = _placed(measured)
    if not placed:
        why = measured.unmeasured.get("layers", "the profile holds none")
        return [Section("Roofline and layers", f"No layers: {why}.")]
    sections = []
    roofline = measured.roofline
    figures = []
    tables = []
    text = f"No roofline: {measured.unmeasured.get('roofline', 'the profile holds none')}."
    if roofline is not None:
        text = _HOW_TO_READ
        at = {id(point): index for index, point in enumerate(roofline.layers)}
        shares = {at[id(point)]: layer.share for _, layer, point in placed if point is not None}
        slowest = [(rank, *row) for rank, row in enumerate(placed, 1) if row[2] is not None][:_NUMBERED]
        numbers = {at[id(point)]: rank for rank, _, _, point in slowest}
        names = "; ".join(
            f"{rank} {shorten(on_one_line(layer.name), 48)} of {member}" for rank, member, layer, _ in slowest
        )
        figures.append(
            Figure(
                roofline_plot(roofline, shares=shares, numbers=numbers),
                f"The larger a mark, the more time. Numbers: places in the table of layers. The slowest here: {names}.",
            )
        )
        tables = [_limits(measured), _whole(measured)]
    figures.append(Figure(kinds_of_layers(_kinds(measured)), "Time of all layers by kind, as the engine names it."))
    sections.append(Section("Roofline", text, figures, tables, beside=bool(tables)))
    sections.append(Section("Layers", _untold(measured), tables=[_layer_table(measured, placed)]))
    return sections


_HOW_TO_READ = (
    "A layer can be no faster than its multiply-adds at the machine's peak (level lines) and no faster than its bytes "
    "from memory (the slope). On the slope, fewer bytes help: smaller precision, fused layers; under the level line, "
    "fewer multiply-adds or a faster precision. Above the slope its data were in a cache."
)


def _placed(measured: Profile) -> list[tuple[str, LayerTime, RooflinePoint | None]]:
    """Every layer with its member and its place under the roofline, the slowest first."""
    rows: list[tuple[str, LayerTime, RooflinePoint | None]] = []
    for profile in measured.layers:
        points = [] if measured.roofline is None else measured.roofline.layers
        # Names may come twice; those with products are in the layers' order.
        own = iter([point for point in points if point.member == profile.member])
        rows += [(profile.member, layer, next(own, None) if layer.macs else None) for layer in profile.layers]
    return sorted(rows, key=lambda row: -row[1].time_ms)


def _kinds(measured: Profile) -> dict[str, dict[str, float]]:
    """Milliseconds by kind of layer and member, the most first, what is little together at the end."""
    times: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for profile in measured.layers:
        for layer in profile.layers:
            times[layer.engine_type][profile.member] += layer.time_ms
    order = sorted(times, key=lambda kind: -sum(times[kind].values()))
    kept = {kind: dict(times[kind]) for kind in order[:_KINDS]}
    if order[_KINDS:]:
        rest: dict[str, float] = defaultdict(float)
        for kind in order[_KINDS:]:
            for member, time_ms in times[kind].items():
                rest[member] += time_ms
        kept[f"{len(order) - _KINDS} other kinds"] = dict(rest)
    return kept


def _limits(measured: Profile) -> Table:
    roofline = measured.roofline
    assert roofline is not None
    return Table(
        f"Limits of this machine in {roofline.engine}, {counted(roofline.threads, 'thread')}.",
        ("limit", "measured", "by"),
        [
            *(
                [
                    f"peak {peak.precision}",
                    f"{peak.macs_per_second / 1e9:.1f} GMACs/s",
                    f"{peak.form} of side {peak.side} {peak.kernel}".strip(),
                ]
                for peak in roofline.peaks
            ),
            ["memory", f"{roofline.bytes_per_second / 1e9:.1f} GB/s", "copying, read and write"],
        ],
    )


def _whole(measured: Profile) -> Table:
    assert measured.roofline is not None
    return Table(
        "Each member's graph as a whole. Least: the sum over its layers at their limits; share: least / measured.",
        ("member", "MACs/byte", "GMACs/s", "least ms", "ms", "share", "mostly"),
        [
            [
                point.member,
                number(point.intensity, 1),
                number(point.macs_per_second / 1e9, 1),
                number(point.least_ms, 2),
                number(point.time_ms, 2),
                f"{point.share:.0%}",
                point.bound,
            ]
            for point in measured.roofline.whole
        ],
    )


def _layer_table(measured: Profile, placed: Sequence[tuple[str, LayerTime, RooflinePoint | None]]) -> Table:
    members = len(measured.layers) > 1
    total = sum(profile.total_ms for profile in measured.layers)
    rows = []
    for rank, (member, layer, point) in enumerate(placed, 1):
        seconds = layer.time_ms / 1e3
        rows.append(
            [
                on_one_line(layer.name),
                str(rank),
                *([shorten(on_one_line(member), _MOST_CELL)] if members else []),
                shorten(on_one_line(layer.kernel or layer.engine_type), _MOST_CELL),
                layer.precision or "",
                "x".join(map(str, layer.output)),
                f"{layer.time_ms:.3f}",
                f"{100 * layer.time_ms / total:.2f}" if total > 0 else "",
                "" if layer.macs is None else f"{layer.macs / 1e6:.2f}",
                f"{layer.bytes_moved / 1e6:.2f}",
                "" if layer.macs is None or seconds <= 0 else f"{layer.macs / seconds / 1e9:.1f}",
                "" if point is None else f"{100 * point.share:.0f}",
                "" if point is None else point.bound,
            ]
        )
    runs = max(profile.runs for profile in measured.layers)
    return Table(
        f"All {len(rows)} layers, the slowest first, by the engine's own profiler, medians of {counted(runs, 'run')}; "
        "a heading sorts. Empty: no product, or the engine does not tell.",
        (
            "layer",
            "#",
            *(["member"] if members else []),
            *("kind", "precision", "output", "ms", "% of time", "MMACs", "MB", "GMACs/s", "% of roofline", "bound by"),
        ),
        rows,
        sortable=True,
    )


def _untold(measured: Profile) -> str:
    words = []
    for profile in measured.layers:
        if profile.graph_macs:
            words.append(
                f"{profile.member}: products of {profile.macs / 1e9:.3f} GMACs, "
                f"{profile.macs / profile.graph_macs:.1%} of the graph's strict {profile.graph_macs / 1e9:.3f}"
                f"{' (the engine pads channels)' if profile.macs > 1.001 * profile.graph_macs else ''}."
            )
        for kind, share in profile.untold.items():
            words.append(
                f"{profile.member}: not told by the engine are products inside {kind} ({share:.1%} of the time)."
            )
    return "\n\n".join(words)
