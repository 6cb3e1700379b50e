"""Work done by several threads, in the order of what it is done to."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

__all__ = ["in_order"]

_WAKE_S = 0.5
"""An interrupt that comes just before a thread begins to wait is seen when it next wakes."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def in_order(answer: Callable[[Item], Answer], items: Iterable[Item], *, workers: int, ahead: int) -> Iterator[Answer]:
    """``map(answer, items)`` by several threads.

    An answer is given as soon as it and those before it are there, even while the next item is waited for. When the
    iterator is closed, what is being worked on is finished, and what waits is let go.

    Args:
        answer: called by several threads at once; what it raises is raised in its item's place and ends the rest.
        items: iterated in a thread of its own; what that raises is raised behind the answers to what came before.
        workers: threads.
        ahead: items that are taken before the first answer is taken, and always at most so many more than answers.
    """
    queue: SimpleQueue[Future[Answer] | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(ahead)
    closed = threading.Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="edgeiqa")

    def feed() -> None:
        end: BaseException | None = None
        try:
            for item in items:
                room.acquire()
                if closed.is_set():
                    return
                queue.put(pool.submit(answer, item))
        # Also the pool's own refusal, when the iterator was closed meanwhile and nobody looks any more.
        except BaseException as error:
            end = error
        queue.put(end)

    # A source that never gives again must not keep the program from ending.
    feeder = threading.Thread(target=feed, name="edgeiqa-items", daemon=True)
    feeder.start()
    try:
        while True:
            try:
                next_ = queue.get(timeout=_WAKE_S)
            except Empty:
                continue
            if next_ is None:
                return
            if isinstance(next_, BaseException):
                raise next_
            yield next_.result()
            room.release()
    finally:
        closed.set()
        room.release()
        pool.shutdown(cancel_futures=True)
        feeder.join(0.2)
