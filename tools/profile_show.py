"""Printing profiles for people."""

from __future__ import annotations

from ..profiles.baseline import BaselineReport
from ..profiles.comparison import Comparison
from ..profiles.full_profile import Profile
from ..profiles.latency import Latency
from ..profiles.layers import LayerProfile
from ..profiles.noise import Noise
from ..profiles.roofline import Roofline
from .show import print_table

__all__ = ["show_baseline", "show_comparison", "show_profile"]


def show_profile(profile: Profile, *, layers: int) -> None:
    """Print a profile as tables.

    Args:
        profile: measured.
        layers: how many of the slowest layers to show of each member.
    """
    _show_head(profile)
    if profile.precisions is not None:
        _show_precisions(profile.precisions)
    for member in profile.layers if layers else ():
        _show_layers(member, profile.roofline, layers)
    if profile.roofline is not None:
        _show_roofline(profile.roofline)
    if profile.throughput:
        print_table(
            ["streams (a thread and a scorer each)", "engine threads each", "photographs/s", "slowest", "fastest"],
            [
                [str(rate.streams), str(rate.threads_each)]
                + [f"{speed:.1f}" for speed in (rate.photos_per_second, rate.slowest, rate.fastest)]
                for rate in profile.throughput
            ],
            title=f"throughput, file to score, median of {profile.throughput[0].rounds} rounds",
        )
    if profile.energy is not None:
        energy = profile.energy
        print(
            f"energy: {energy.joules_per_photo:.3g} J a photograph above idle "
            f"({energy.busy_watts:.1f} W while scoring, {energy.idle_watts:.1f} W idle; {', '.join(energy.packages)})"
        )
    for what, why in profile.unmeasured.items():
        print(f"not measured: {what}: {why}")
    if profile.noise is not None:
        _show_noise(profile.noise)


def _show_head(profile: Profile) -> None:
    rows = [
        ["multiply-adds (strict)", _amount(profile.macs, 1e9, 3, "GMACs"), "", "", ""],
        ["parameters", _amount(profile.parameters, 1e6, 3, "M"), "", "", ""],
        ["file", _amount(profile.size_bytes, 1e6, 2, "MB"), "", "", ""],
        ["peak memory of a process that scores one", _amount(profile.peak_rss_mib, 1, 0, "MiB"), "", "", ""],
        ["load", _amount(profile.load_ms, 1, 0, "ms"), "", "", ""],
        ["first score", _amount(profile.first_score_ms, 1, 1, "ms"), "", "", ""],
    ]
    stages = profile.stages
    timed: list[tuple[str, Latency | None]] = [("file to score", profile.file_to_score)]
    if stages is not None:
        timed += [("  decode alone", stages.decode), ("  views alone", stages.views)]
    timed.append(("  graph alone", profile.graph))
    if stages is not None:
        if len(stages.graph_by_member) > 1:
            timed += [(f"    {name}", latency) for name, latency in stages.graph_by_member.items()]
        timed.append(("  score map alone", stages.score_map))
    for what, latency in timed:
        if latency is not None:
            p99 = "" if latency.p99_ms is None else _ms(latency.p99_ms)
            rows.append([what, _ms(latency.p50_ms), _ms(latency.p95_ms), p99, f"{latency.spread:.0%}"])
    runs = "" if profile.graph is None else f", {profile.graph.runs} runs after {profile.graph.warmup}"
    print_table(
        [
            f"{profile.subject} on a {profile.photo_width}x{profile.photo_height} photograph",
            *("median", "p95", "p99", "spread"),
        ],
        rows,
        title=f"{profile.engine} {profile.engine_version}, {profile.precision}, {profile.threads} threads, "
        f"{profile.host.cpu}{runs}",
    )


def _show_precisions(compared: Comparison) -> None:
    print_table(
        ["graph, side by side", "median ms", "spread", "score", "of the bundle"],
        [
            [
                contender.name,
                f"{contender.latency.p50_ms:.2f}",
                f"{contender.latency.spread:.0%}",
                "" if contender.score is None else f"{contender.score:.2f}",
                "yes" if contender.in_bundle else "no: not what the bundle names",
            ]
            for contender in compared.contenders
        ],
    )
    for verdict in compared.verdicts:
        print(verdict.text)
    if len(compared.contenders) == 1:
        print("one precision for this engine in this bundle: no verdict of one against another")
    for name, why in compared.left_out.items():
        print(f"left out: {name}: {why}")


def _show_layers(member: LayerProfile, roofline: Roofline | None, most: int) -> None:
    # Names may come twice, or be empty; the points are those of the layers with products, in their order.
    own = iter([] if roofline is None else [point for point in roofline.layers if point.member == member.member])
    placed = [(layer, next(own, None) if layer.macs else None) for layer in member.layers]
    rows = []
    for layer, point in sorted(placed, key=lambda pair: -pair[0].time_ms)[:most]:
        rows.append(
            [
                layer.name,
                layer.kernel or layer.engine_type,
                f"{layer.time_ms:.3f}",
                f"{layer.share:.1%}",
                "" if layer.macs is None else f"{layer.macs / 1e6:.1f}",
                f"{layer.bytes_moved / 1e6:.1f}",
                "" if point is None else f"{point.share:.0%} ({point.bound})",
            ]
        )
    count = len(member.layers)
    print_table(
        [
            f"{member.member}: slowest {len(rows)} of {count} layers",
            "kernel",
            "ms",
            "share",
            "MMACs",
            "MB",
            "of roofline",
        ],
        rows,
        title=f"layers by the engine's profiler, median of {member.runs} runs; all layers {member.total_ms:.2f} ms",
    )
    if member.graph_macs:
        part = member.macs / member.graph_macs
        more = " (onnxruntime pads channels to its block of 8 or 16)" if part > 1.001 else ""
        print(
            f"products of these layers: {member.macs / 1e9:.3f} GMACs, {part:.1%} of the graph's strict "
            f"{member.graph_macs / 1e9:.3f} GMACs{more}"
        )
    for kind, share in member.untold.items():
        print(f"not told by the engine: products inside {kind} layers, if any ({share:.1%} of the time)")


def _show_roofline(roofline: Roofline) -> None:
    print_table(
        [f"limits of this machine in {roofline.engine}, {roofline.threads} threads", "measured", "by"],
        [
            *(
                [
                    f"peak {peak.precision}",
                    f"{peak.macs_per_second / 1e9:.1f} GMACs/s",
                    f"{peak.form} {peak.side} {peak.kernel}".strip(),
                ]
                for peak in roofline.peaks
            ),
            ["memory", f"{roofline.bytes_per_second / 1e9:.1f} GB/s", "copy, read and write"],
        ],
    )
    for whole in roofline.whole:
        print(
            f"{whole.member}: {whole.intensity:.1f} MACs a byte, {whole.macs_per_second / 1e9:.1f} GMACs/s, "
            f"{whole.share:.0%} of the roofline ({whole.least_ms:.2f} of {whole.time_ms:.2f} ms; mostly {whole.bound})"
        )


def _show_noise(noise: Noise) -> None:
    if noise.noisy:
        print(f"the machine was NOISY: {'; '.join(noise.reasons)}")
    else:
        print(f"the machine was quiet: a fixed loop varied by {noise.calibration.spread:.1%}")


def show_comparison(compared: Comparison) -> None:
    """Print bundles that were measured side by side; each one's time is divided by the first one's."""
    first = compared.contenders[0].latency.p50_ms
    print_table(
        [f"{compared.of}, side by side", "engine", "median ms", "p95", "spread", "x first", "score"],
        [
            [
                contender.name,
                f"{contender.engine} {contender.precision}",
                f"{contender.latency.p50_ms:.2f}",
                f"{contender.latency.p95_ms:.2f}",
                f"{contender.latency.spread:.0%}",
                f"{contender.latency.p50_ms / first:.2f}",
                "" if contender.score is None else f"{contender.score:.2f}",
            ]
            for contender in compared.contenders
        ],
    )
    for verdict in compared.verdicts:
        print(verdict.text)
    if compared.noise is not None:
        _show_noise(compared.noise)


def show_baseline(report: BaselineReport, name: str) -> None:
    """Print what changed since an older profile, and how many quantities did not."""
    for condition in report.differing:
        print(f"not the same as in {name}: {condition}")
    changed = [change for change in report.changes if change.changed]
    if changed:
        print_table(
            [f"changed since {name}, beyond the noise", "before", "now", "ratio", "noise"],
            [
                [
                    change.quantity,
                    f"{change.before:.6g}",
                    f"{change.now:.6g}",
                    "" if change.ratio is None else f"{change.ratio:.3f}",
                    f"{change.noise:.1%}",
                ]
                for change in changed
            ],
        )
    rest = len(report.changes) - len(changed)
    print(f"{len(changed)} quantities changed since {name}; {rest} did not, or within the noise")
    if report.machine_ratio is not None:
        print(f"a fixed loop takes {report.machine_ratio:.3f} of the time it took then")


def _amount(value: float | None, scale: float, digits: int, unit: str) -> str:
    return "not known" if value is None else f"{value / scale:.{digits}f} {unit}"


def _ms(value: float) -> str:
    return f"{value:.1f} ms" if value >= 1 else f"{value:.3f} ms"
