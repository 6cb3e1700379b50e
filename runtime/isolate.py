"""Reading photographs in processes of their own, which a photograph may crash or hang without harm to the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from .decode import PhotoSource
from .errors import EdgeIQAError, EngineError, PhotoError, UsageError
from .preprocess import Preprocess
from .reading import PhotoViews, read_views

__all__ = ["IsolatedReader", "require_limit"]

_START_S = 60.0
"""A new process imports numpy and Pillow; it has this long on a machine however busy."""


_MOST_S = 86_400.0


def require_limit(limit_s: float) -> None:
    """Refuse a time limit that is none.

    Raises:
        UsageError: it is not above 0 and at most a day.
    """
    if not 0 < limit_s <= _MOST_S:
        raise UsageError(
            f"a time limit of {limit_s:g} s",
            expected=f"more than 0, at most {_MOST_S:g}",
            mend="give seconds, such as 30",
        )


class IsolatedReader:
    """`read_views` in worker processes, one for each thread that calls it; a context manager.

    A worker that crashes or takes too long costs its photograph alone, and another one takes its place. Workers are
    started anew (spawned), not forked: a fork would inherit locks that the engine's threads hold. They begin the
    program's main module again, as `multiprocessing` does, so that a script needs its ``if __name__ == "__main__":``.
    """

    def __init__(self, preprocesses: Sequence[Preprocess], *, limit_s: float) -> None:
        """Nothing is started yet.

        Args:
            preprocesses: whose views are cut.
            limit_s: longest time that a photograph may take, in seconds.

        Raises:
            UsageError: as `require_limit`.
        """
        require_limit(limit_s)
        self._preprocesses = tuple(preprocesses)
        self._limit_s = limit_s
        self._mine = threading.local()
        self._all: set[_Worker] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> IsolatedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, source: PhotoSource) -> PhotoViews:
        """`read_views` of a photograph, in this thread's worker.

        Args:
            source: a path or the bytes of a file; pixels that are decoded already have nothing to be isolated from.

        Raises:
            PhotoError: it cannot be read, took too long, or crashed its worker.
            EngineError: no worker can be started.
        """
        if not isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
            return read_views(source, self._preprocesses)
        worker = getattr(self._mine, "worker", None)
        if worker is None:
            worker = self._mine.worker = self._start()
        sent = os.fspath(source) if isinstance(source, str | os.PathLike) else bytes(source)
        name = "bytes" if isinstance(sent, bytes) else sent
        try:
            worker.pipe.send(sent)
            if worker.pipe.poll(self._limit_s):
                answer = worker.pipe.recv()
                if isinstance(answer, EdgeIQAError):
                    raise answer
                assert isinstance(answer, PhotoViews)
                return answer
            how = f"took longer than {self._limit_s:g} s"
        # The pipe of a process that is gone.
        except (EOFError, OSError):
            worker.process.join(_START_S)
            how = f"ended the process that decoded it (exit {worker.process.exitcode})"
        self._mine.worker = None
        self._stop(worker)
        raise PhotoError(
            f"{name}, which {how}",
            expected="a photograph that decodes",
            mend="leave it out, or allow more time",
        )

    def close(self) -> None:
        """End all workers."""
        for worker in tuple(self._all):
            self._stop(worker)

    def _start(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(there, self._preprocesses), daemon=True)
        process.start()
        there.close()
        worker = _Worker(process, here)
        with self._lock:
            self._all.add(worker)
        try:
            if here.poll(_START_S) and here.recv() == "ready":
                return worker
        except (EOFError, OSError):
            pass
        self._stop(worker)
        raise EngineError(
            "a process for decoding that did not start",
            expected="one that starts",
            mend='guard the script\'s main part by if __name__ == "__main__":, or leave out --isolate',
        )

    def _stop(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()


class _Worker:
    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self.process = process
        self.pipe = pipe


def _work(pipe: Connection, preprocesses: Sequence[Preprocess]) -> None:
    """A worker's life: a photograph in, its views or its error out, until the pipe is closed."""
    _bound_memory()
    # As in the command: a worker's stderr is the program's.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    pipe.send("ready")
    # The parent has gone, or wants no more.
    with contextlib.suppress(EOFError, OSError, KeyboardInterrupt):
        while True:
            source = pipe.recv()
            answer: PhotoViews | EdgeIQAError
            try:
                answer = read_views(source, preprocesses)
            except EdgeIQAError as error:
                answer = error
            except MemoryError:
                name = "bytes" if isinstance(source, bytes) else source
                answer = PhotoError(
                    f"{name}, which takes more than {_LIMIT_BYTES >> 30} GiB",
                    expected="a photograph that decodes",
                    mend="leave it out",
                )
            pipe.send(answer)


_LIMIT_BYTES = 8 << 30
"""Of a worker's address space: the largest photographs take a third of it."""


def _bound_memory() -> None:
    """Where the system can (not on Windows); macOS takes the call and does nothing."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _LIMIT_BYTES if soft == resource.RLIM_INFINITY else min(soft, _LIMIT_BYTES)
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
