"""Which backbone, at which input size, in which views, with how many members: what a budget leaves, its Pareto front.

Costs are strict counts (`profiles.cost`) of networks with random weights: no weight is fetched. A backbone is counted
at two or three small sizes and foretold at all others; what is short-listed is counted at its own size, and dropped if
it breaks the budget after all.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from ..profiles.amounts import Amount, format_amount
from ..profiles.budget import Budget, Quantity
from ..profiles.device import Device
from ..runtime.errors import BudgetError, UsageError
from .budget_check import check_budget
from .known_accuracy import KnownAccuracy, known_accuracy
from .models.backbones import pretrained_cfg
from .plan_counts import CountCache, Sounding, this_machine
from .plan_front import Candidate, PlanRow, compromise, pareto_front
from .plan_space import BACKBONES, MEMBERS, PRECISIONS, VIEWS, Precision, ViewName, solvable_sizes

__all__ = ["MOST_COUNTED_BYTES", "Plan", "plan"]

MOST_COUNTED_BYTES = 6 * 10**9
"""A network whose count would hold about as much memory as this is left foretold."""

# Of the largest output of a layer: what a forward in torch holds at its peak, with the input and copies of it.
_HELD_OUTPUTS = 4
_HELD_BY: tuple[Quantity, ...] = ("macs", "parameters", "size_bytes", "latency_p95_ms")
_LIMITS_SOLVED_FOR = (1.0, 0.85)
# Hardware computes no slower in the fewer bits.
_BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8}

Progress = Callable[[Iterable[Any], int, str], Iterator[Any]]
"""From items, their number and what is done to the items, as they are taken."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a budget leaves.

    Attributes:
        image: width and height of the photographs, in pixels.
        budget: the limits.
        considered: candidates, each precision counted on its own.
        dropped: how many of them exceed a limit, by limit; one may exceed several.
        kept: how many are within the budget.
        rows: the Pareto front of the fewest members that were asked for, by share and then by top-1, the most first.
        recommended: index into ``rows``: the `compromise` of those that ``distill`` can make as they are (the whole
            photograph, one member, pretrained weights); None where there is none.
        others: of each other view and number of members the compromise of its own front.
        unplanned: limits of the budget that a plan cannot foretell.
        machine: that latencies are of: this one's processor and threads, or a device's name.
        counted: how many counts were made; the others were known.
        seconds: that it took.
    """

    image: tuple[int, int]
    budget: Budget
    considered: int
    dropped: dict[Quantity, int]
    kept: int
    rows: tuple[PlanRow, ...]
    recommended: int | None
    others: tuple[PlanRow, ...]
    unplanned: tuple[Quantity, ...] = ()
    machine: str
    counted: int
    seconds: float


def _without_bar(items: Iterable[Any], _total: int, _what: str) -> Iterator[Any]:
    yield from items


def plan(
    budget: Budget,
    *,
    image: tuple[int, int] = (3840, 2160),
    backbones: Sequence[str] = BACKBONES,
    views: Sequence[ViewName] = tuple(VIEWS),
    members: Sequence[int] = MEMBERS,
    precisions: Sequence[Precision] = tuple(PRECISIONS),
    size: tuple[int, int] | None = None,
    device: Device | None = None,
    cache: CountCache | None = None,
    measure: bool = False,
    progress: Progress = _without_bar,
) -> Plan:
    """Look at every backbone x size x view x members x precision, drop what breaks a budget, and keep the Pareto front.

    Args:
        budget: multiply-adds, parameters and bytes are held by all; a limit of latency is held against the estimated
            time of the networks alone. Other limits are listed in `Plan.unplanned`.
        image: width and height of the photographs.
        backbones: timm's names.
        views: ways to look at a photograph, of `VIEWS`.
        members: numbers of networks.
        precisions: of weights on disk, of `PRECISIONS`.
        size: the only input size to look at.
        device: whose documented throughput bounds latencies from below; without one, or one of which none is
            documented in its fastest precision, latencies are of this machine. Its budget is not looked at.
        cache: of counts.
        measure: time the front's networks at their sizes; a limit of latency then drops those that exceed it.
        progress: shows how far it is.

    Raises:
        BudgetError: nothing is within the budget. For one backbone at one size with the three ways out.
        UsageError: an empty choice, a budget in another convention than strict, or a device with ``measure``.
        ModelError: timm has no such backbone, or it does not run.
    """
    started = time.monotonic()
    choices = {"backbones": backbones, "views": views, "members": members, "precisions": precisions}
    _require_choice(image, choices, members)
    _require_budget(budget, device, measure)
    peak = _peak_gmacs_a_second(device)
    cache = cache or CountCache()
    counted_before = cache.counted
    known = known_accuracy()
    soundings = {
        backbone: cache.sounding(backbone) for backbone in progress(backbones, len(backbones), "counting backbones")
    }
    limits = {name: limit for name, limit in budget.limits.items() if name in _HELD_BY}
    dropped: Counter[Quantity] = Counter()
    cheapest: tuple[float, PlanRow] | None = None
    rows: list[PlanRow] = []
    considered = 0
    for candidate in _candidates(soundings, image, views, members, size, budget):
        row = _row(candidate, soundings[candidate.backbone], image, known, cache, precisions, peak)
        considered += len(precisions)
        kept, exceeded, ratio = _within(row, limits)
        dropped.update(exceeded)
        if cheapest is None or ratio < cheapest[0]:
            cheapest = ratio, row
        if kept:
            rows.append(msgspec.structs.replace(row, size_bytes=kept))
    front, others, rows = _counted(rows, soundings, limits, dropped, cache, progress, measure=measure)
    if not front:
        if size is not None and len(backbones) == 1 and tuple(views) == ("whole",):
            check_budget(VIEWS["whole"].system(backbones[0], *size), budget, image, members=min(members))
        raise _nothing(budget, cheapest, considered)
    front.sort(key=lambda row: (-row.share, -(row.top1 or 0.0), row.macs))
    able = [at for at, row in enumerate(front) if row.view == "whole" and row.members == 1 and row.top1 is not None]
    return Plan(
        image=image,
        budget=budget,
        considered=considered,
        dropped=dict(dropped),
        kept=sum(len(row.size_bytes) for row in rows),
        rows=tuple(front),
        recommended=able[compromise([front[at] for at in able])] if able else None,
        others=tuple(others),
        unplanned=tuple(name for name in budget.limits if name not in _HELD_BY),
        machine=this_machine() if peak is None or device is None else device.name,
        counted=cache.counted - counted_before,
        seconds=time.monotonic() - started,
    )


def _require_choice(image: tuple[int, int], choices: dict[str, Sequence[object]], members: Sequence[int]) -> None:
    empty = [name for name, choice in choices.items() if not choice]
    if empty or min(image) < 1 or min(members, default=1) < 1:
        raise UsageError(
            f"a plan for photographs of {image[0]}x{image[1]}, members {list(members)}, without {empty or 'nothing'}",
            expected="sides and members from 1, and at least one backbone, view, number of members and precision",
            mend="leave the options out: the defaults are all there are",
        )


def _require_budget(budget: Budget, device: Device | None, measure: bool) -> None:
    if budget.macs is not None and budget.convention != "strict":
        raise UsageError(
            f"a budget of {budget.macs} MACs in the convention {budget.convention}",
            expected="the convention strict, in which a plan counts",
            mend=f"state it in strict multiply-adds, such as --budget {budget.macs / 1e9:g}GMACs",
        )
    if measure and device is not None:
        raise UsageError(
            f"measuring for the device {device.name}",
            expected="either: what is measured is this machine",
            mend="leave out --device to measure here, or --measure to plan for the device",
        )


def _peak_gmacs_a_second(device: Device | None) -> float | None:
    """The most that a device computes in any precision; None where that is not documented.

    The peak of a slower precision bounds nothing: what runs in a faster one takes less.
    """
    if device is None:
        return None
    fastest = min((_BITS[precision] for precision in (*device.precisions, *device.peak_tmacs)), default=0)
    peaks = [peak for precision, peak in device.peak_tmacs.items() if _BITS[precision] == fastest]
    return 1000 * max(peaks) if peaks else None


def _candidates(
    soundings: dict[str, Sounding],
    image: tuple[int, int],
    views: Sequence[ViewName],
    members: Sequence[int],
    size: tuple[int, int] | None,
    budget: Budget,
) -> Iterator[Candidate]:
    for backbone, sounding in soundings.items():
        for view in views:
            kind = VIEWS[view]
            fixed = [size] if size else kind.sizes(image, sounding.stride, sounding.any_size)
            solvable = solvable_sizes(view, image, sounding.stride) if kind.solved and not size else []
            for count in members:
                solved = (
                    [] if budget.macs is None else _solved(solvable, sounding, budget.macs // (count * kind.images))
                )
                for width, height in dict.fromkeys([*fixed, *solved]):
                    yield Candidate(backbone=backbone, view=view, width=width, height=height, members=count)


def _solved(sizes: Sequence[tuple[int, int]], sounding: Sounding, macs_limit: int) -> list[tuple[int, int]]:
    """The largest sizes within a limit, and a little less where windows of attention may cost more than foretold."""
    foretold = [sounding.macs(math.prod(size)) for size in sizes]
    parts = _LIMITS_SOLVED_FOR[:1] if sounding.any_size else _LIMITS_SOLVED_FOR
    found = [next((at for at, macs in enumerate(foretold) if macs <= part * macs_limit), None) for part in parts]
    return [sizes[at] for at in found if at is not None]


def _row(
    candidate: Candidate,
    sounding: Sounding,
    image: tuple[int, int],
    known: KnownAccuracy,
    cache: CountCache,
    precisions: Sequence[Precision],
    peak: float | None,
) -> PlanRow:
    kind = VIEWS[candidate.view]
    macs = candidate.members * kind.images * sounding.macs(math.prod(candidate.size))
    parameters = candidate.members * sounding.parameters
    return PlanRow(
        **msgspec.structs.asdict(candidate),
        macs=macs,
        counted=False,
        parameters=parameters,
        size_bytes={precision: PRECISIONS[precision] * parameters for precision in precisions},
        share=kind.share(candidate.size, image),
        top1=known.top1(candidate.backbone),
        latency_ms=macs / 1e6 / (peak or cache.gmacs_a_second(candidate.backbone)),
        latency="estimated" if peak is None else "at least",
        licence=_licence(candidate.backbone),
        quality=known.of(candidate.backbone),
    )


def _licence(backbone: str) -> str | None:
    cfg = pretrained_cfg(backbone)
    return cfg.license if cfg.has_weights else None


def _within(row: PlanRow, limits: dict[Quantity, float]) -> tuple[dict[Precision, int], Counter[Quantity], float]:
    """Precisions that keep all limits, how many exceed each, and the least of the worst ratios to a limit."""
    kept: dict[Precision, int] = {}
    exceeded: Counter[Quantity] = Counter()
    least = math.inf
    for precision, size_bytes in row.size_bytes.items():
        values: dict[Quantity, float] = {
            "macs": row.macs,
            "parameters": row.parameters,
            "size_bytes": size_bytes,
            "latency_p95_ms": row.latency_ms,
        }
        over = [name for name, limit in limits.items() if values[name] > limit]
        exceeded.update(over)
        least = min(least, max((values[name] / limit for name, limit in limits.items()), default=0.0))
        if not over:
            kept[precision] = size_bytes
    return kept, exceeded, least


def _counted(
    rows: list[PlanRow],
    soundings: dict[str, Sounding],
    limits: dict[Quantity, float],
    dropped: Counter[Quantity],
    cache: CountCache,
    progress: Progress,
    *,
    measure: bool,
) -> tuple[list[PlanRow], list[PlanRow], list[PlanRow]]:
    """The front and the other ways with their rows counted at their sizes, and all rows that are then within limits."""
    settled: set[Candidate] = set()
    times_ms: dict[Candidate, float] = {}
    while True:
        front, others = _short_list(rows)
        new = [at for at in (*front, *others) if not rows[at].counted and rows[at].point not in settled]
        if not new:
            return [rows[at] for at in front], [rows[at] for at in others], rows
        broken: set[int] = set()
        for at in progress(new, len(new), "measuring the short list" if measure else "counting the short list"):
            row = rows[at]
            settled.add(row.point)
            if not _countable(row, soundings[row.backbone]):
                continue
            count = cache.count(VIEWS[row.view].system(row.backbone, *row.size))
            row = msgspec.structs.replace(
                row,
                macs=count.macs * row.members,
                counted=True,
                parameters=count.parameters * row.members,
                size_bytes={name: PRECISIONS[name] * count.parameters * row.members for name in row.size_bytes},
                latency_ms=row.latency_ms * count.macs * row.members / row.macs,
            )
            if measure:
                if row.alone not in times_ms:
                    times_ms[row.alone] = cache.measure_ms(VIEWS[row.view].system(row.backbone, *row.size))
                latency_ms = row.members * times_ms[row.alone]
                row = msgspec.structs.replace(row, latency_ms=latency_ms, latency="measured")
            kept, exceeded, _ = _within(row, limits)
            dropped.update(exceeded)
            rows[at] = msgspec.structs.replace(row, size_bytes=kept)
            if not kept:
                broken.add(at)
        rows = [row for at, row in enumerate(rows) if at not in broken]


def _short_list(rows: Sequence[PlanRow]) -> tuple[list[int], list[int]]:
    """Indices of the front of the fewest members, and of the compromise of each other view and number of members."""
    if not rows:
        return [], []
    fewest = min(row.members for row in rows)
    ways: dict[tuple[int, ViewName], list[int]] = {}
    for at, row in enumerate(rows):
        ways.setdefault((row.members, row.view), []).append(at)
    first = [at for at, row in enumerate(rows) if row.members == fewest]
    front = [first[at] for at in pareto_front([rows[at] for at in first])]
    others = []
    for (members, view), way in sorted(ways.items()):
        if (members, view) == (fewest, rows[front[0]].view) and all(rows[at].view == view for at in front):
            continue
        own = [way[at] for at in pareto_front([rows[at] for at in way])]
        others.append(own[compromise([rows[at] for at in own])])
    return front, others


def _countable(row: PlanRow, sounding: Sounding) -> bool:
    pixels = VIEWS[row.view].images * row.width * row.height
    return _HELD_OUTPUTS * sounding.output_bytes * pixels / sounding.points[-1][0] <= MOST_COUNTED_BYTES


def _nothing(budget: Budget, cheapest: tuple[float, PlanRow] | None, considered: int) -> BudgetError:
    limits = " and ".join(budget.describe_limits())
    if cheapest is None:
        return BudgetError(
            f"the budget {budget.name}, and no input that any of the backbones takes",
            expected="a photograph that is larger than a network's stride",
            mend="give a larger --image, or other backbones",
        )
    ratio, row = cheapest
    precision, size_bytes = min(row.size_bytes.items(), key=lambda item: item[1])
    amounts = Amount("macs", row.macs), Amount("parameters", row.parameters), Amount("bytes", size_bytes)
    macs, parameters, on_disk = (format_amount(amount) for amount in amounts)
    over = f"{ratio:.3g} times a limit" if ratio > 1 else "within by what was foretold, and over at its own size"
    return BudgetError(
        f"the budget {budget.name}, which none of {considered} candidates meets; the nearest is {row.backbone} "
        f"({row.view} {row.width}x{row.height}, members: {row.members}): {macs}, {parameters}, {on_disk} in "
        f"{precision}, {row.latency} {row.latency_ms:.3g} ms, {over}",
        expected=f"at most {limits}",
        mend="give a larger limit, or other backbones with --backbone",
    )
