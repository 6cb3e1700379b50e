from __future__ import annotations

import threading

import pytest
from edgeiqa.profiles.throughput import measure_throughput, stream_counts
from edgeiqa.runtime.errors import UsageError


@pytest.mark.parametrize(
    ("most", "counts"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 4)), (6, (1, 2, 4, 6)), (9, (1, 2, 4, 8, 9))],
)
def test_stream_counts(most: int, counts: tuple[int, ...]) -> None:
    assert stream_counts(most) == counts


def test_no_streams_are_refused() -> None:
    with pytest.raises(UsageError, match="0 streams"):
        stream_counts(0)
    with pytest.raises(UsageError, match="0 photographs"):
        measure_throughput(lambda _: lambda: None, most=1, threads=1, photos=0)


def test_each_stream_has_a_scorer_of_its_own_and_its_part_of_the_threads() -> None:
    made: list[int] = []
    scored: dict[int, set[int]] = {}

    def make(threads: int):  # type: ignore[no-untyped-def]
        number = len(made)
        made.append(threads)
        return lambda: scored.setdefault(number, set()).add(threading.get_ident())

    one, two, four = measure_throughput(make, most=4, threads=4, photos=5, rounds=2)
    assert made == [4, 2, 2, 1, 1, 1, 1]
    assert [rate.threads_each for rate in (one, two, four)] == [4, 2, 1]
    assert [rate.photos for rate in (one, two, four)] == [5, 10, 20]
    assert threading.get_ident() not in set.union(*scored.values())
    for rate in (one, two, four):
        assert rate.rounds == 2 and 0 < rate.slowest <= rate.photos_per_second <= rate.fastest


def test_more_streams_than_threads_have_a_thread_each() -> None:
    rates = measure_throughput(lambda _: lambda: None, most=3, threads=2, photos=1, rounds=1)
    assert [rate.threads_each for rate in rates] == [2, 1, 1]


def test_streams_run_at_once() -> None:
    """Each photograph waits for one of the other stream: one after another they would never end."""
    meeting = threading.Barrier(2, timeout=20)
    made: list[int] = []

    def make(_: int):  # type: ignore[no-untyped-def]
        made.append(1)
        # The first scorer is that of one stream alone.
        return (lambda: None) if len(made) == 1 else meeting.wait

    _, two = measure_throughput(make, most=2, threads=2, photos=3, rounds=2, round_s=60)
    assert two.photos == 6


def test_a_round_that_takes_too_long_ends_after_the_photograph() -> None:
    (rate,) = measure_throughput(lambda _: lambda: None, most=1, threads=1, photos=10**9, rounds=1, round_s=0.05)
    assert 1 <= rate.photos < 10**9
    (rate,) = measure_throughput(lambda _: lambda: None, most=1, threads=1, photos=10, rounds=1, round_s=0.0)
    assert rate.photos == 1


@pytest.mark.parametrize("good", [0, 2])
def test_an_error_of_a_stream_goes_through(good: int) -> None:
    calls: list[int] = []

    def score() -> None:
        calls.append(1)
        if len(calls) > good:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure_throughput(lambda _: score, most=1, threads=1, photos=5)
