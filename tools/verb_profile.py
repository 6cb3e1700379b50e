"""``edgeiqa profile``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from ..profiles.baseline import compare_with_baseline, read_baseline
from ..profiles.budget import MEASURED, Budget, Quantity
from ..profiles.bundle_cost import count_bundle
from ..profiles.comparison import compare_bundles
from ..profiles.full_profile import measure_bundle, profile_bundle
from ..profiles.measurement import host_facts
from ..runtime.bundle import Bundle
from ..runtime.errors import UsageError
from .bundle_ways_out import bundle_ways_out
from .cost_show import show_cost
from .options import (
    PathArgument,
    budget_of,
    device_option,
    engine_options,
    json_option,
    parse_size,
    require_libraries,
    require_writable,
    with_device,
)
from .profile_inputs import choose_bundle
from .profile_show import show_baseline, show_comparison, show_profile
from .show import print_json, say

__all__ = ["measure_bundle", "profile"]


@click.command()
@click.argument("bundles", nargs=-1, type=PathArgument, metavar="[BUNDLE]...")
@click.option(
    "--photo", type=PathArgument, help="A photograph to measure with. [default: the bundle's first golden one]"
)
@click.option("--compare", is_flag=True, help="Measure two BUNDLEs or more side by side, from file to score.")
@click.option("--baseline", type=PathArgument, help="An older --json: print what changed beyond the noise.")
@click.option(
    "--cost", is_flag=True, help="Measure nothing: count by operator and layer, and list what is not counted."
)
@click.option("--brief", is_flag=True, help="Leave out layers, roofline, precisions and throughput.")
@click.option("--runs", type=click.IntRange(min=1), default=50, show_default=True, help="Measured runs.")
@click.option("--warmup", type=click.IntRange(min=0), default=5, show_default=True, help="Unmeasured runs before them.")
@click.option("--streams", type=click.IntRange(min=1), help="Most streams of the throughput. [default: the threads]")
@click.option(
    "--layers",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Slowest layers to print; of --cost the dearest.",
)
@click.option("--budget", help="Limits such as 50GMACs,16MB,30ms, or a name such as uhd-50g; exit status 1 if broken.")
@click.option("--html", type=PathArgument, help="Write a page: charts, layers that sort, the plan as far as counted.")
@click.option(
    "--image", default="3840x2160", show_default=True, help="WIDTHxHEIGHT of the photographs that the page plans for."
)
@click.option(
    "--runs-folder",
    type=PathArgument,
    default=Path("runs"),
    show_default=True,
    help="Where the newest student is when no BUNDLE is named, and the counts of edgeiqa plan.",
)
@device_option
@engine_options
@json_option
def profile(
    bundles: tuple[Path, ...],
    photo: Path | None,
    compare: bool,
    baseline: Path | None,
    cost: bool,
    brief: bool,
    runs: int,
    warmup: int,
    streams: int | None,
    layers: int,
    budget: str | None,
    html: Path | None,
    image: str,
    runs_folder: Path,
    device: str | None,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a bundle on this machine: cost, memory, latency by stage and layer, roofline, throughput, energy.

    Without BUNDLE: the newest student in the folder of runs, else the default one. What cannot be measured here is
    said, with the reason.
    """
    if cost and (compare or baseline is not None or html is not None or budget is not None or device is not None):
        raise UsageError(
            "--cost with --compare, --baseline, --html, --budget or --device",
            expected="--cost alone: it counts one bundle and measures nothing",
            mend="leave the others out, or --cost",
        )
    stated, budget = budget, with_device(budget, device)
    if html is not None:
        _require_page(html, (*bundles, photo, baseline), compare)
    size = parse_size(image)
    if compare:
        _compare(bundles, photo, runs, warmup, engine, precision, threads, baseline, budget, as_json)
        return
    if len(bundles) > 1:
        raise UsageError(
            f"{len(bundles)} bundles", expected="one, or --compare", mend="add --compare to measure them side by side"
        )
    limits = None if budget is None else budget_of(budget)
    older = None if baseline is None else read_baseline(baseline)
    opened = choose_bundle(bundles[0] if bundles else None, runs_folder)
    if cost:
        counted = count_bundle(opened)
        if as_json:
            print_json(counted)
        else:
            show_cost(counted, layers=layers)
        return
    if limits is not None:
        _say_before(opened, limits, device)
    tell: Callable[[str], object] = say if sys.stderr.isatty() else lambda _: None
    measured = profile_bundle(
        opened,
        _photo_or_golden(photo, opened),
        runs=runs,
        warmup=warmup,
        engine=engine,
        precision=precision,
        threads=threads,
        streams=streams,
        brief=brief,
        tell=tell,
    )
    if limits is not None:
        measured = msgspec.structs.replace(measured, violations=limits.check(measured))
    if as_json:
        print_json(measured)
    else:
        show_profile(measured, layers=layers)
    if older is not None and baseline is not None:
        report = compare_with_baseline(older, measured)
        if as_json:
            say(f"{sum(change.changed for change in report.changes)} quantities changed since {baseline.name}")
        else:
            show_baseline(report, baseline.name)
    if html is not None:
        from .profile_page import write_profile_page

        tell("the page")
        write_profile_page(
            html,
            measured,
            opened,
            budget=limits,
            budget_text=stated,
            device=device,
            image=size,
            runs=runs_folder,
        )
    if measured.violations and limits is not None:
        exceeded = any(violation.kind == "exceeded" for violation in measured.violations)
        what = "over the budget" if exceeded else "not known to keep the budget"
        click.echo(f"{what} {limits.name}:", err=True)
        for violation in measured.violations:
            click.echo(f"  {violation.describe()}", err=True)
        for way in bundle_ways_out(opened, measured, limits):
            click.echo(f"  {way}", err=True)
        sys.exit(1)


def _photo_or_golden(photo: Path | None, bundle: Bundle) -> Path | bytes:
    return photo if photo is not None else bundle.read(bundle.manifest.golden[0].source)


def _say_before(bundle: Bundle, budget: Budget, device: str | None) -> None:
    """Say what is over the budget before minutes of measuring, and of which machine the rest will be."""
    costs = [member.artefacts[0] for member in bundle.manifest.members]
    # A member whose cost is not known counts as nothing: the others may be over the limit alone.
    macs, parameters = sum(cost.macs or 0 for cost in costs), sum(cost.parameters or 0 for cost in costs)
    known: dict[Quantity, int] = {"parameters": parameters, "size_bytes": bundle.size_bytes, "macs": macs}
    if budget.convention != "strict":
        del known["macs"]
    for over in budget.exceeded_by(known):
        say(f"over the budget {budget.name} before anything is measured: {over.describe()}")
    here = [quantity for quantity in budget.limits if quantity in MEASURED]
    if device is not None and here:
        say(f"{', '.join(here)}: of this machine ({host_facts().cpu}), and not of {device}")


def _require_page(html: Path, others: tuple[Path | None, ...], compare: bool) -> None:
    """Refuse what would end without a page, or in the place of another file, before minutes of measuring."""
    if compare:
        raise UsageError(
            "--html with --compare", expected="the page of one bundle", mend="leave one of the two out; --json has both"
        )
    require_libraries(("jinja2", "matplotlib"), "report")
    require_writable(html)
    for other in others:
        if other is not None and other.exists() and html.exists() and html.samefile(other):
            raise UsageError(f"--html {html}, which is read", expected="a file of its own", mend="name another one")


def _compare(
    paths: tuple[Path, ...],
    photo: Path | None,
    runs: int,
    warmup: int,
    engine: str | None,
    precision: str | None,
    threads: int | None,
    baseline: Path | None,
    budget: str | None,
    as_json: bool,
) -> None:
    names = [path.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < 2 or len(set(names)) < len(names) or baseline is not None or budget is not None:
        raise UsageError(
            f"--compare of {len(names)} bundles ({', '.join(names) or 'none'})"
            + (" with --baseline or --budget" if baseline is not None or budget is not None else ""),
            expected="two or more different ones, without --baseline and --budget",
            mend="edgeiqa profile --compare A.eiqa B.eiqa",
        )
    opened = {name: Bundle.open(path) for name, path in zip(names, paths, strict=True)}
    first = next(iter(opened.values()))
    compared = compare_bundles(
        opened,
        _photo_or_golden(photo, first),
        engine=engine,
        precision=precision,
        threads=threads,
        warmup=warmup,
        runs=runs,
    )
    if as_json:
        print_json(compared)
    else:
        show_comparison(compared)
