"""Throughput: photographs a second when several are scored at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec
import numpy as np

from ..runtime.errors import UsageError

__all__ = ["StreamRate", "measure_throughput", "stream_counts"]


class StreamRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Photographs a second at a number of streams, from file to score.

    A stream is a thread with a scorer of its own that scores one photograph after another.

    Attributes:
        streams: at once.
        threads_each: engine threads of each.
        photos: scored in each round, by all streams together.
        rounds: measured.
        photos_per_second: the rounds' median.
        slowest: round.
        fastest: round.
    """

    streams: int
    threads_each: int
    photos: int
    rounds: int
    photos_per_second: float
    slowest: float
    fastest: float


def stream_counts(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... and ``most`` itself.

    Raises:
        UsageError: ``most`` is not positive.
    """
    if most < 1:
        raise UsageError(f"{most} streams", expected="at least one", mend="give --streams 1 or more")
    counts = [1]
    while counts[-1] * 2 < most:
        counts.append(counts[-1] * 2)
    return tuple(dict.fromkeys((*counts, most)))


def measure_throughput(
    make: Callable[[int], Callable[[], object]],
    *,
    most: int,
    threads: int,
    photos: int,
    rounds: int = 3,
    round_s: float = 2.0,
) -> tuple[StreamRate, ...]:
    """Measure photographs a second at 1, 2, 4, ... ``most`` streams.

    Args:
        make: given a number of engine threads, loads a scorer and returns a call that scores one photograph.
        most: streams.
        threads: of all streams together; each gets its part, at least one.
        photos: that each stream scores in a round, from 1; fewer where a round would take longer than ``round_s``.
        rounds: measured at each number of streams, from 1, after one photograph of warm-up in each stream.
        round_s: longest round in seconds, but for the photograph that is being scored then.

    Raises:
        UsageError: a number that is not positive. What ``make`` and its calls raise goes through.
    """
    if min(threads, photos, rounds) < 1:
        raise UsageError(
            f"{threads} threads, {photos} photographs, {rounds} rounds", expected="at least one", mend="give more"
        )
    rates = []
    for streams in stream_counts(most):
        threads_each = max(1, threads // streams)
        calls = [make(threads_each) for _ in range(streams)]
        measured = [_round(calls, photos, round_s) for _ in range(rounds)]
        speeds = [done / seconds for done, seconds in measured]
        rates.append(
            StreamRate(
                streams=streams,
                threads_each=threads_each,
                photos=int(np.median([done for done, _ in measured])),
                rounds=rounds,
                photos_per_second=float(np.median(speeds)),
                slowest=min(speeds),
                fastest=max(speeds),
            )
        )
    return tuple(rates)


def _round(calls: list[Callable[[], object]], photos: int, round_s: float) -> tuple[int, float]:
    """Photographs that all streams scored, and the seconds from their common start to the last one's end."""
    done = [0] * len(calls)
    failed: list[BaseException] = []
    ready = threading.Barrier(len(calls) + 1)

    def stream(index: int) -> None:
        try:
            calls[index]()
        except BaseException as error:
            failed.append(error)
        ready.wait()
        deadline = time.monotonic() + round_s
        try:
            while not failed and done[index] < photos and (done[index] == 0 or time.monotonic() < deadline):
                calls[index]()
                done[index] += 1
        except BaseException as error:
            failed.append(error)

    workers = [threading.Thread(target=stream, args=(index,), daemon=True) for index in range(len(calls))]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - start
    if failed:
        raise failed[0]
    return sum(done), max(seconds, 1e-9)
