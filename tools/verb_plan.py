"""``edgeiqa plan``: what a budget leaves, and which of it to take."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import (
    PathArgument,
    budget_of,
    device_option,
    json_option,
    parse_size,
    require_libraries,
    require_writable,
    with_device,
)
from .show import print_json, print_table, say, with_progress

if TYPE_CHECKING:
    from ..compress.plan import Plan
    from ..compress.plan_front import PlanRow
    from ..profiles.budget import Budget
    from ..profiles.device import Device

__all__ = ["CACHE_NAME", "go_on_command", "plan"]

CACHE_NAME = "plan-cache.json"
_BUDGET = "50GMACs"
_WORK = {"macs", "latency_p95_ms"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--budget", "budget_text", help="Amounts such as 50GMACs,4MB or a name. [default: the device's, or 50GMACs]"
)
@device_option
@click.option("--image", default="3840x2160", show_default=True, help="WIDTHxHEIGHT of the photographs.")
@click.option("--backbone", "backbones", multiple=True, help="timm's name; may be repeated. [default: about forty]")
@click.option("--size", help="WIDTHxHEIGHT of the input, the only one to look at.")
@click.option(
    "--view",
    "views",
    multiple=True,
    type=click.Choice(["whole", "three-scale", "fragments"]),
    help="May be repeated. [default: all; with --size whole]",
)
@click.option("--members", multiple=True, type=click.IntRange(1, 64), help="May be repeated. [default: 1, 2, 4 and 8]")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Of weights on disk; may be repeated. [default: all]",
)
@click.option("--measure", is_flag=True, help="Time the short list on this machine, in torch.")
@click.option("--html", type=PathArgument, help="Write a page with the Pareto plot.")
@click.option(
    "--runs", type=PathArgument, default=Path("runs"), show_default=True, help=f"Folder of {CACHE_NAME}, the counts."
)
@json_option
def plan(
    budget_text: str | None,
    device: str | None,
    image: str,
    backbones: tuple[str, ...],
    size: str | None,
    views: tuple[str, ...],
    members: tuple[int, ...],
    precisions: tuple[str, ...],
    measure: bool,
    html: Path | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Find the student that fits: backbones x input sizes x views x members x precisions, held to a budget.

    Prints the Pareto front of what is left, marks one row with *, and says how to go on with it. Exit status 1 where
    nothing fits.
    """
    require_libraries(("torch", "timm", "fvcore", "matplotlib", "jinja2"), "compress")
    if html is not None:
        require_writable(html)
    budget, target = _limits(budget_text, device)
    photograph, only = parse_size(image), None if size is None else parse_size(size)
    from ..compress.plan import plan as find
    from ..compress.plan_counts import CountCache
    from ..compress.plan_space import BACKBONES, MEMBERS, PRECISIONS, VIEWS

    found = find(
        budget,
        image=photograph,
        backbones=tuple(dict.fromkeys(backbones)) or BACKBONES,
        views=[view for view in VIEWS if view in (views or (("whole",) if only else tuple(VIEWS)))],
        members=sorted(set(members)) or MEMBERS,
        precisions=[precision for precision in PRECISIONS if precision in (precisions or PRECISIONS)],
        size=only,
        device=target,
        cache=CountCache(runs / CACHE_NAME),
        measure=measure,
        progress=with_progress,
    )
    go_on = go_on_command(found, budget_text, device)
    _tell(found, go_on, as_json)
    if target is not None and found.machine != target.name:
        say(f"the highest throughput of {target.name} is not documented: ms are of this machine, and no bound for it")
    if html is not None:
        from .report.page import write_page
        from .report.plan_report import plan_page

        write_page(html, plan_page(found, go_on=go_on))
        say(str(html))


def _limits(budget_text: str | None, device_name: str | None) -> tuple[Budget, Device | None]:
    from ..profiles.device import load_device

    limits = with_device(budget_text, device_name) or _BUDGET
    budget = budget_of(limits)
    # What a device takes of a file leaves every input size, and so hours of counting; what a user states is meant so.
    bounding = _WORK if budget_text is None else {*_WORK, "parameters", "size_bytes"}
    if not bounding & set(budget.limits):
        say(f"{limits} bounds {', '.join(budget.limits)} alone: held to {_BUDGET} besides")
        budget = budget_of(f"{_BUDGET},{limits}")
    return budget, None if device_name is None else load_device(device_name)


def _tell(found: Plan, go_on: str, as_json: bool) -> None:
    width, height = found.image
    dropped = ", ".join(f"{count:,} by {quantity}" for quantity, count in found.dropped.items())
    say(
        f"{found.considered:,} candidates for photographs of {width}x{height}: {found.kept:,} within the budget "
        f"{found.budget.name}, {found.considered - found.kept:,} dropped{f' ({dropped})' if dropped else ''}; "
        f"{found.seconds:.0f} s, {found.counted} counts made"
    )
    if found.unplanned:
        say(f"not foretold, and not held: {', '.join(found.unplanned)}; edgeiqa profile measures them")
    if as_json:
        print_json(found)
        return
    print_table(
        _COLUMNS, [_cells(row, at == found.recommended) for at, row in enumerate(found.rows)], title="Pareto front"
    )
    if found.others:
        print_table(
            _COLUMNS, [_cells(row, False) for row in found.others], title="The compromise of other ways to look"
        )
    latency = {row.latency for row in found.rows}
    say(
        f"ms: {' or '.join(sorted(latency))}, {found.machine}, the networks alone; a tilde: foretold, not counted; "
        "top-1: of the backbone on ImageNet; SRCC: the best known of a network with it, with its data set"
    )
    say(go_on or "no row is one that distill makes as it is: whole photograph, one member, weights")


_COLUMNS = ("backbone", "view", "input", "members", "GMACs", "M par.", "MB", "pixels seen", "ms", "top-1", "SRCC")


def _cells(row: PlanRow, recommended: bool) -> list[str]:
    best = max(row.quality, key=lambda figure: figure.srcc, default=None)
    return [
        f"{'* ' if recommended else ''}{row.backbone}",
        row.view,
        f"{row.width}x{row.height}",
        str(row.members),
        f"{'' if row.counted else '~'}{row.macs / 1e9:.2f}",
        f"{row.parameters / 1e6:.2f}",
        " ".join(f"{name} {size_bytes / 1e6:.1f}" for name, size_bytes in row.size_bytes.items()),
        f"{100 * row.share:.1f} %",
        f"{row.latency_ms:.0f}",
        "" if row.top1 is None else f"{row.top1:.1f}",
        "" if best is None else f"{best.srcc:.3f} {best.dataset}",
    ]


def go_on_command(found: Plan, budget_text: str | None, device_name: str | None) -> str:
    """The command that makes the recommended row; empty where there is none."""
    if found.recommended is None:
        return ""
    row = found.rows[found.recommended]
    width, height = found.image
    words = ["edgeiqa", "distill", "--student", row.backbone, "--size", f"{row.width}x{row.height}"]
    words += ["--image", f"{width}x{height}"]
    words += ["--budget", budget_text] if budget_text is not None else []
    words += ["--device", device_name] if device_name is not None else []
    return shlex.join(words)
