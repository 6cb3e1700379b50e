"""Filling a teacher cache: what it will take, said first, and then the work, a chunk at a time."""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError, UsageError
from ..runtime.preprocess import Preprocess
from .data.items import Item, cut_items
from .teacher_cache import ENTRY_BYTES, MemberRows, TeacherCache
from .teacher_members import Features, Teacher, TeacherMember

__all__ = ["Estimate", "estimate", "fill"]

_AHEAD = 2
"""Chunks whose views are cut while the members look at another; bounds what is held in memory."""

Arrays = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """What filling a cache takes.

    Attributes:
        items: asked for, different ones.
        items_to_do: of which a member has not spoken.
        runs: of members on items that are to do.
        bytes: on the disk.
        free_bytes: on the cache's disk.
        macs: strict multiply-adds of all runs; None where a member's cannot be counted here.
        seconds: by the first items to do, measured; None where nothing was measured.
    """

    items: int
    items_to_do: int
    runs: int
    bytes: int
    free_bytes: int
    macs: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class _Task:
    """One item, and which members are to speak of it (by their place in the teacher)."""

    item: Item
    key: str
    members: tuple[int, ...]


def estimate(
    cache: TeacherCache,
    teacher: Teacher,
    items: Sequence[Item],
    *,
    only_speakers: bool = False,
    measure: int = 0,
    threads: int | None = None,
) -> Estimate:
    """What `fill` will take.

    Args:
        cache: to be filled.
        teacher: with which.
        items: of which it shall speak.
        only_speakers: as in `fill`.
        measure: number of the first items to do that are cut and looked at, once to warm up and once to take the time;
            nothing of it is kept. 0 measures nothing.
        threads: as in `fill`.

    Raises:
        DataError, PhotoError: as `fill`.
    """
    tasks = _tasks(cache, teacher, items, only_speakers)
    runs = np.zeros(len(teacher.members), dtype=np.int64)
    for task in tasks:
        runs[list(task.members)] += 1
    counts = [member.count_macs() if run else 0 for member, run in zip(teacher.members, runs, strict=True)]
    macs = [None if count is None else count * int(run) for count, run in zip(counts, runs, strict=True)]
    known = [count for count in macs if count is not None]
    return Estimate(
        items=len({item.key for item in items}),
        items_to_do=len(tasks),
        runs=int(runs.sum()),
        bytes=sum(_entry_bytes(member) * int(run) for member, run in zip(teacher.members, runs, strict=True)),
        free_bytes=shutil.disk_usage(cache.folder).free,
        macs=sum(known) if len(known) == len(macs) else None,
        seconds=_measured(teacher, tasks, measure, threads) if measure and tasks else None,
    )


def fill(
    cache: TeacherCache,
    teacher: Teacher,
    items: Sequence[Item],
    *,
    only_speakers: bool = False,
    on_step: Callable[[int, int], None] | None = None,
    batch: int = 16,
    threads: int | None = None,
) -> int:
    """Let a teacher speak of items, and keep what its members say.

    Members that share a `Preprocess` share the views. The work is done and kept in chunks of ``batch`` items, in a
    random order, so that several processes that fill one cache seldom do the same. On a CPU what is kept depends
    neither on the order nor on the chunks.

    Args:
        cache: to be filled; what it holds is not computed again.
        teacher: whose members are run.
        items: of which they shall speak; a photograph whose items follow each other is decoded once a chunk.
        only_speakers: leave out the members that may not speak of an item (`Teacher.speakers`), whose answers no
            target uses.
        on_step: called with how many items are done, and of how many.
        batch: items a chunk; on an accelerator also those a network looks at together.
        threads: that cut views; one a processor unless said.

    Returns:
        How many items were to do.

    Raises:
        DataError: too little room on the disk; a score or feature that cannot be kept; with ``only_speakers``, an item
            on which no member may speak.
        PhotoError: a photograph cannot be read. All chunks before it are kept.
        UsageError: a batch below 1.
    """
    if batch < 1:
        raise UsageError(f"a batch of {batch} items", expected="at least 1", mend="give a larger one")
    tasks = _tasks(cache, teacher, items, only_speakers)
    _require_room(cache.folder, teacher, tasks)
    chunks = [tasks[start : start + batch] for start in range(0, len(tasks), batch)]
    # The order is no part of any result; it only has to differ between processes.
    order = np.random.default_rng().permutation(len(chunks)).tolist()
    done = 0
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for chunk, views in _cut_ahead(cache, teacher, [chunks[place] for place in order], pool):
            left = _still_to_do(cache, teacher, chunk)
            cache.add([rows for rows in _answers(teacher, left, views) if len(rows.keys)])
            done += len(chunk)
            if on_step is not None:
                on_step(done, len(tasks))
    return len(tasks)


def _tasks(cache: TeacherCache, teacher: Teacher, items: Sequence[Item], only_speakers: bool) -> list[_Task]:
    """What is to do, in the order of the items, each once."""
    unique = {item.key: item for item in items}
    there = [cache.present(member.key, list(unique)) for member in teacher.members]
    tasks = []
    for key, item in unique.items():
        allowed = (
            teacher.speakers(teacher.folds.get(item.sha256), distorted=item.distortion is not None)
            if only_speakers
            else (True,) * len(there)
        )
        members = tuple(
            place for place, (has, may) in enumerate(zip(there, allowed, strict=True)) if may and key not in has
        )
        if members:
            tasks.append(_Task(item, key, members))
    return tasks


def _still_to_do(cache: TeacherCache, teacher: Teacher, chunk: Sequence[_Task]) -> list[_Task]:
    """A chunk without what another process has done meanwhile."""
    keys = [task.key for task in chunk]
    there = [cache.present(member.key, keys) for member in teacher.members]
    return [
        _Task(task.item, task.key, tuple(place for place in task.members if task.key not in there[place]))
        for task in chunk
    ]


def _cut_ahead(
    cache: TeacherCache, teacher: Teacher, chunks: Sequence[Sequence[_Task]], pool: ThreadPoolExecutor
) -> Iterator[tuple[Sequence[_Task], dict[Preprocess, dict[str, Arrays]]]]:
    """Each chunk with its views by item key, cut by the pool while the chunks before it are looked at."""
    queue: deque[tuple[Sequence[_Task], list[tuple[Preprocess, list[str], Future[list[Arrays]]]]]] = deque()
    waiting = iter(chunks)
    try:
        while True:
            while len(queue) <= _AHEAD and (chunk := next(waiting, None)) is not None:
                queue.append((chunk, _cutting(teacher, _still_to_do(cache, teacher, chunk), pool)))
            if not queue:
                return
            chunk, cuts = queue.popleft()
            views: dict[Preprocess, dict[str, Arrays]] = {}
            for preprocess, keys, future in cuts:
                views.setdefault(preprocess, {}).update(zip(keys, future.result(), strict=True))
            yield chunk, views
    finally:
        for _, cuts in queue:
            for _, _, future in cuts:
                future.cancel()


def _cutting(
    teacher: Teacher, tasks: Sequence[_Task], pool: ThreadPoolExecutor
) -> list[tuple[Preprocess, list[str], Future[list[Arrays]]]]:
    """Start cutting: the items of one photograph, for one `Preprocess`, are cut together."""
    cuts = []
    for preprocess in dict.fromkeys(member.preprocess for member in teacher.members):
        wanted = [
            task for task in tasks if any(teacher.members[place].preprocess == preprocess for place in task.members)
        ]
        for _, same in groupby(wanted, key=lambda task: task.item.path):
            group = list(same)
            future = pool.submit(_cut, [task.item for task in group], preprocess)
            cuts.append((preprocess, [task.key for task in group], future))
    return cuts


def _cut(items: Sequence[Item], preprocess: Preprocess) -> list[Arrays]:
    return list(cut_items(items, preprocess))


def _answers(
    teacher: Teacher, tasks: Sequence[_Task], views: dict[Preprocess, dict[str, Arrays]]
) -> Iterator[MemberRows]:
    for place, member in enumerate(teacher.members):
        mine = [task for task in tasks if place in task.members]
        if not mine:
            continue
        cut = [views[member.preprocess][task.key] for task in mine]
        raw, features = _run(member, cut)
        yield MemberRows(
            member=member,
            items=[task.item for task in mine],
            keys=[task.key for task in mine],
            folds=[str(teacher.folds.get(task.item.sha256, "none")) for task in mine],
            raw=raw,
            features=features,
        )


def _run(member: TeacherMember, cut: Sequence[Arrays]) -> tuple[NDArray[np.float64], Features]:
    return member.run({name: np.stack([arrays[name] for arrays in cut]) for name in member.preprocess.shapes})


def _entry_bytes(member: TeacherMember) -> int:
    return ENTRY_BYTES + 2 * sum(member.feature_widths.values())


def _require_room(folder: Path, teacher: Teacher, tasks: Sequence[_Task]) -> None:
    needed = sum(_entry_bytes(teacher.members[place]) for task in tasks for place in task.members)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{free / 1e9:.2f} GB free at {folder}",
            expected=f"{needed / 1e9:.2f} GB for {len(tasks)} items and {len(teacher.members)} members",
            mend="free space (edgeiqa cache info names stale members), ask for fewer crops or photographs, or name a "
            "folder on another disk",
        )


def _measured(teacher: Teacher, tasks: Sequence[_Task], measure: int, threads: int | None) -> float:
    """Seconds for all tasks, by the first of them, taken the second time they are done."""
    sample = tasks[:measure]
    seconds = 0.0
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for _ in range(2):
            start = time.perf_counter()
            views: dict[Preprocess, dict[str, Arrays]] = {}
            for preprocess, keys, future in _cutting(teacher, sample, pool):
                views.setdefault(preprocess, {}).update(zip(keys, future.result(), strict=True))
            for _ in _answers(teacher, sample, views):
                pass
            seconds = time.perf_counter() - start
    # Members may be missing of some items and not of others.
    runs = sum(len(task.members) for task in tasks)
    return seconds * runs / sum(len(task.members) for task in sample)
