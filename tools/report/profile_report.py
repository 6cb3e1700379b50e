"""The page of a profile: what scoring one photograph costs here, where the time goes, and what else would fit."""

from __future__ import annotations

from collections.abc import Sequence

from ...profiles.budget import Budget
from ...profiles.full_profile import Profile
from ...profiles.latency import Latency
from .budget_bars import UNITS, budget_bars
from .charts import bars_with_limits
from .page import Figure, Section, Table, render_page
from .profile_charts import Step, latency_breakdown
from .profile_layers import layer_sections
from .profile_outlook import Outlook, outlook_sections
from .text import counted, number

__all__ = ["profile_page"]

_NO_OUTLOOK = Outlook()


def profile_page(
    measured: Profile, *, budget: Budget | None = None, ways_out: Sequence[str] = (), outlook: Outlook = _NO_OUTLOOK
) -> str:
    """The report of a profile as HTML.

    Args:
        measured: with its violations of the budget.
        budget: that it is held against; None for none.
        ways_out: of a broken budget, a sentence each.
        outlook: the plan and what is known of accuracy, or why they are not there.

    Returns:
        The page, for `write_page`.
    """
    sections = [
        _budget(measured, budget, ways_out),
        _time(measured),
        *layer_sections(measured),
        *_precisions(measured),
        *outlook_sections(outlook),
        *_unmeasured(measured),
        _circumstances(measured),
    ]
    return render_page(f"Profile: {measured.subject}", sections, summary=_summary(measured, budget))


def _summary(measured: Profile, budget: Budget | None) -> str:
    threads = "threads not known" if measured.threads is None else counted(measured.threads, "thread")
    photograph = f"a photograph of {measured.photo_width}x{measured.photo_height} pixels"
    where = f"{measured.engine} {measured.engine_version}, {measured.precision}, {threads}, {measured.host.cpu}."
    paragraphs = [f"Measured with {photograph}: {where}"]
    whole = measured.file_to_score
    if whole is not None:
        paragraphs.append(
            f"From its file to its score: {_ms(whole.p50_ms)} ms (median of {counted(whole.runs, 'run')}; p95 "
            f"{_ms(whole.p95_ms)} ms)."
        )
    if budget is not None:
        if measured.violations:
            said = "; ".join(violation.describe() for violation in measured.violations)
            paragraphs.append(f"NOT within the budget {budget.name}: {said}.")
        else:
            paragraphs.append(f"Within the budget {budget.name}.")
    if measured.noise is not None and measured.noise.noisy:
        paragraphs.append(
            f"The machine was noisy: {'; '.join(measured.noise.reasons)}. Read the times as upper bounds."
        )
    return "\n\n".join(paragraphs)


def _quantities(measured: Profile) -> dict[str, float | None]:
    whole = measured.file_to_score
    return {
        "macs": measured.macs,
        "parameters": measured.parameters,
        "size_bytes": measured.size_bytes,
        "latency_p95_ms": None if whole is None else whole.p95_ms,
        "peak_rss_mib": measured.peak_rss_mib,
        "energy_mj": measured.energy_mj,
    }


def _budget(measured: Profile, budget: Budget | None, ways_out: Sequence[str]) -> Section:
    quantities = _quantities(measured)
    if budget is not None and budget.macs is not None and measured.convention != budget.convention:
        # In another convention it is no measurement of what the budget bounds.
        quantities["macs"] = None
    violated = {violation.quantity: violation for violation in measured.violations}
    rows = []
    for quantity, (name, scale, unit) in UNITS.items():
        value = quantities[quantity]
        limit = None if budget is None else budget.limits.get(quantity)
        broken = violated.get(quantity)
        verdict = "kept" if broken is None else "OVER" if broken.kind == "exceeded" else "not measured"
        rows.append(
            [
                name,
                "not measured" if value is None else f"{value / scale:.4g} {unit}",
                *(
                    ["", "", ""]
                    if limit is None
                    else [
                        f"{limit / scale:.4g} {unit}",
                        "" if value is None else f"{100 * value / limit:.3g} %",
                        verdict,
                    ]
                ),
            ]
        )
    if budget is None:
        table = Table("Multiply-adds are strict.", ("cost of one photograph", "measured"), [row[:2] for row in rows])
        return Section("Cost", "No budget was named: --budget or --device holds these figures to limits.", (), [table])
    table = Table(
        f"Multiply-adds are counted as {budget.convention}.",
        ("cost of one photograph", "measured", "limit", "of the limit", "verdict"),
        rows,
    )
    text = f"{budget.name}, {budget.status}; its source: {budget.source}."
    unmeasured = [UNITS[violation.quantity][0] for violation in measured.violations if violation.kind == "unmeasured"]
    if unmeasured:
        text += f"\n\nBounded, and not measured: {', '.join(unmeasured)}. So nobody knows whether it is kept."
    figure = Figure(bars_with_limits(budget_bars(budget, quantities)), "Shares of the limits, the upright lines.")
    tables = [table]
    if ways_out:
        parted = [way.partition(": ") for way in ways_out]
        tables.append(
            Table("Ways out.", ("way", "what is known of it"), [[way, known or way] for way, _, known in parted])
        )
    return Section("Budget", text, [figure], tables, beside=True)


def _time(measured: Profile) -> Section:
    stages = measured.stages
    timed: list[tuple[str, Latency]] = []
    if stages is not None:
        timed += [("decode", stages.decode), ("views", stages.views)]
        if len(stages.graph_by_member) > 1:
            timed += [(f"graph of {member}", latency) for member, latency in stages.graph_by_member.items()]
        else:
            timed.append(("graph", stages.graph))
        timed.append(("score map", stages.score_map))
    elif measured.graph is not None:
        timed.append(("graph", measured.graph))
    steps = [Step(name, latency.p50_ms, latency.p95_ms) for name, latency in timed]
    whole = measured.file_to_score
    rows = [*timed, *([] if whole is None else [("file to score", whole)])]
    if stages is not None and len(stages.graph_by_member) > 1:
        rows.insert(-1 if whole is not None else len(rows), ("all graphs", stages.graph))
    svg = latency_breakdown(steps, None if whole is None else Step("file to score", whole.p50_ms, whole.p95_ms))
    caption = (
        "Medians of each step alone, one after another, then of all in one call; thin lines to the 95th percentile."
    )
    runs = f", {counted(rows[0][1].runs, 'run')} after {rows[0][1].warmup} of warm-up" if rows else ""
    once = [("load", measured.load_ms), ("first score", measured.first_score_ms)]
    tables = [
        Table(
            f"Milliseconds{runs}. Spread: the distance between the quartiles as a part of the median.",
            ("step", "median", "p95", "p99", "spread"),
            [
                [
                    name,
                    _ms(latency.p50_ms),
                    _ms(latency.p95_ms),
                    "" if latency.p99_ms is None else _ms(latency.p99_ms),
                    f"{latency.spread:.0%}",
                ]
                for name, latency in rows
            ]
            + [[f"{name} (once)", _ms(value), "", "", ""] for name, value in once if value is not None],
        )
    ]
    if measured.throughput:
        tables.append(
            Table(
                f"Throughput from file to score, median of {counted(measured.throughput[0].rounds, 'round')}.",
                ("streams", "threads each", "photographs/s", "slowest", "fastest"),
                [
                    [str(rate.streams), str(rate.threads_each)]
                    + [number(speed, 1) for speed in (rate.photos_per_second, rate.slowest, rate.fastest)]
                    for rate in measured.throughput
                ],
            )
        )
    return Section("Where the time goes", "", [Figure(svg, caption)], tables, beside=True)


def _precisions(measured: Profile) -> list[Section]:
    compared = measured.precisions
    if compared is None:
        return []
    table = Table(
        "The graphs in each precision, in the same rounds.",
        ("precision", "median ms", "p95 ms", "spread", "score", "of the bundle"),
        [
            [
                contender.name,
                _ms(contender.latency.p50_ms),
                _ms(contender.latency.p95_ms),
                f"{contender.latency.spread:.0%}",
                "" if contender.score is None else number(contender.score, 2),
                "yes" if contender.in_bundle else "no: not what the bundle names",
            ]
            for contender in compared.contenders
        ],
    )
    words = [verdict.text for verdict in compared.verdicts]
    if len(compared.contenders) == 1:
        words.append("One precision for this engine in this bundle: no verdict of one against another.")
    words += [f"Left out: {name}: {why}" for name, why in compared.left_out.items()]
    return [Section("Precisions", "\n\n".join(words), tables=[table])]


def _unmeasured(measured: Profile) -> list[Section]:
    if not measured.unmeasured:
        return []
    rows = [[what.replace("_", " "), why] for what, why in measured.unmeasured.items()]
    return [Section("What was not measured", "", tables=[Table("With the reason.", ("what", "why"), rows)])]


def _circumstances(measured: Profile) -> Section:
    host, noise, energy = measured.host, measured.noise, measured.energy
    rows = [
        ["engine", f"{measured.engine} {measured.engine_version}, {measured.precision}"],
        ["threads", "not known" if measured.threads is None else str(measured.threads)],
        ["processor", f"{host.cpu} ({host.architecture}), {counted(host.cores, 'core')}"],
        ["system", f"{host.os}, Python {host.python}"],
    ]
    if noise is not None:
        quiet = f"quiet: a fixed loop varied by {noise.calibration.spread:.1%}"
        rows.append(["the machine was", f"NOISY: {'; '.join(noise.reasons)}" if noise.noisy else quiet])
    if energy is not None:
        rows.append(
            [
                "energy",
                f"{energy.joules_per_photo:.3g} J a photograph above idle ({energy.busy_watts:.1f} W while scoring, "
                f"{energy.idle_watts:.1f} W idle; {', '.join(energy.packages)})",
            ]
        )
    return Section("Circumstances", "", tables=[Table("Under which all of this was measured.", ("of", "what"), rows)])


def _ms(value: float) -> str:
    return f"{value:.1f}" if value >= 1 else f"{value:.3f}"
