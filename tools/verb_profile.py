"""``edgeiqa profile``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import msgspec

from ..profiles.latency import measure_latency, peak_rss_mib
from ..profiles.measurement import Measurement, host_facts
from ..runtime.bundle import Bundle
from ..runtime.decode import open_photo
from ..runtime.scorer import Scorer, default_bundle
from ..runtime.views import cut_views
from .options import PathArgument, budget_of, engine_options, json_option
from .show import print_json, print_table

__all__ = ["profile"]


@click.command()
@click.argument("bundle", required=False, type=PathArgument)
@click.option(
    "--photo", type=PathArgument, help="A photograph to measure with. [default: the bundle's first golden one]"
)
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True, help="Measured runs.")
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True, help="Unmeasured runs before them.")
@click.option("--budget", help="Limits such as 50GMACs,16MB,30ms, or a name such as uhd-50g; exit status 1 if broken.")
@engine_options
@json_option
def profile(
    bundle: Path | None,
    photo: Path | None,
    runs: int,
    warmup: int,
    budget: str | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a bundle on this machine: cost, load time, latency of the graph and from file to score, memory, bytes.

    Without BUNDLE: the default one.
    """
    limits = None if budget is None else budget_of(budget)
    opened = default_bundle() if bundle is None else Bundle.open(bundle)
    source: Path | bytes = photo if photo is not None else opened.read(opened.manifest.golden[0].source)
    measurement = _measure(opened, source, runs, warmup, engine, precision, threads)
    violations = () if limits is None else limits.check(measurement)
    if as_json:
        print_json({**msgspec.to_builtins(measurement), "violations": [msgspec.to_builtins(v) for v in violations]})
    else:
        _show(measurement)
    if violations and limits is not None:
        click.echo(f"over the budget {limits.name}:", err=True)
        for violation in violations:
            click.echo(f"  {violation.describe()}", err=True)
        sys.exit(1)


def _measure(
    bundle: Bundle,
    source: Path | bytes,
    runs: int,
    warmup: int,
    engine: str | None,
    precision: str | None,
    threads: int | None,
) -> Measurement:
    started = time.perf_counter_ns()
    scorer = Scorer(bundle, engine=engine, precision=precision, threads=threads)
    loaded = time.perf_counter_ns()
    score = scorer.score(source)
    first = time.perf_counter_ns()
    members = bundle.manifest.members
    views = {m.name: cut_views(open_photo(source, m.preprocess).image, m.preprocess) for m in members}
    graph = measure_latency(lambda: [scorer.run_views(n, v) for n, v in views.items()], warmup=warmup, runs=runs)
    file_to_score = measure_latency(lambda: scorer.score(source), warmup=warmup, runs=runs)
    artefacts = [scorer.artefacts[member.name] for member in members]
    macs = [artefact.macs for artefact in artefacts if artefact.macs is not None]
    parameters = [artefact.parameters for artefact in artefacts if artefact.parameters is not None]
    return Measurement(
        subject=bundle.manifest.name,
        host=host_facts(),
        engine=scorer.engine,
        engine_version=scorer.engine_version,
        precision=scorer.precision,
        threads=scorer.threads,
        load_ms=(loaded - started) / 1e6,
        first_score_ms=(first - loaded) / 1e6,
        graph=graph,
        file_to_score=file_to_score,
        photo_width=score.width,
        photo_height=score.height,
        peak_rss_mib=peak_rss_mib(),
        size_bytes=bundle.size_bytes,
        macs=sum(macs) if len(macs) == len(artefacts) else None,
        parameters=sum(parameters) if len(parameters) == len(artefacts) else None,
    )


def _show(measured: Measurement) -> None:
    def written(value: float | None, scale: float, digits: int, unit: str) -> str:
        return "not known" if value is None else f"{value / scale:.{digits}f} {unit}"

    host = measured.host
    rows = [
        ["multiply-adds (strict)", written(measured.macs, 1e9, 3, "GMACs")],
        ["parameters", written(measured.parameters, 1e6, 3, "M")],
        ["file", written(measured.size_bytes, 1e6, 2, "MB")],
        ["load", written(measured.load_ms, 1, 0, "ms")],
        ["first score", written(measured.first_score_ms, 1, 1, "ms")],
    ]
    for what, latency in (("graph", measured.graph), ("file to score", measured.file_to_score)):
        if latency is not None:
            spread = f"{latency.p50_ms:.1f} ms, p95 {latency.p95_ms:.1f} ms"
            rows.append([f"{what}, median of {latency.runs} runs", spread])
    rows.append(["peak memory of this process", written(measured.peak_rss_mib, 1, 0, "MiB")])
    engine = f"{measured.engine} {measured.engine_version}, {measured.precision}"
    print_table(
        [f"{measured.subject} on a {measured.photo_width}x{measured.photo_height} photograph", "measured"],
        rows,
        title=f"{engine}, {measured.threads} threads, {host.cpu}",
    )
