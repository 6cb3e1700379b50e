"""Views of many items, cut once and kept in files: one ``VIEW.npy`` of uint8 a view, read through a memory map.

A store is a folder named by what is in it. Rows are appended in the order of the items; every ``chunk`` rows the files
are flushed and then the number of finished rows is written, so that a run that is killed goes on from there.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from ...runtime.errors import DataError, UsageError
from ...runtime.preprocess import Preprocess, View
from .items import Item, cut_items

__all__ = ["open_views", "remove_views", "store_bytes"]

Views = np.memmap[Any, np.dtype[np.uint8]]

_FORMAT = 1
_PROGRESS = "progress.json"
_LOCK = "lock"
_RUN = 16
"""Items of one photograph that a thread cuts from one decode of it; a longer row of them is shared out."""


class _Progress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a store is.

    Attributes:
        digest: of its items and Preprocess.
        rows: of it when it is complete.
        finished: rows that are flushed to its files.
    """

    digest: str
    rows: int
    finished: int


def store_bytes(count: int, preprocess: Preprocess) -> int:
    """Size in bytes of the arrays of a store of ``count`` items."""
    return sum(len(_header(count, view)) + count * math.prod(view.shape) for view in preprocess.views)


def open_views(
    folder: Path,
    items: Sequence[Item],
    preprocess: Preprocess,
    *,
    on_item: Callable[[int, int], None] | None = None,
    threads: int | None = None,
    chunk: int = 64,
) -> tuple[Views, ...]:
    """The views of items, cut now where they have not been before.

    A second process that asks for the same store waits until the first is done.

    Args:
        folder: that holds stores; each has a folder of its own in it.
        items: at least one. Those of one photograph are cheapest in a row: it is decoded once for up to 16 of them.
        preprocess: whose views are cut.
        on_item: called in order with how many items are done, and of how many, for those cut now.
        threads: that cut at once; one a processor unless said.
        chunk: rows after which the progress is written.

    Returns:
        A read-only uint8 memory map ``[n, (T,) H, W, 3]`` a view, in the order of ``preprocess.views`` and of
        ``items``.

    Raises:
        DataError: no items, a crop outside its photograph, too little room on the disk, or a store that is not what
            its name says.
        PhotoError: a photograph cannot be read; what was finished before it is kept.
        UsageError: ``threads`` or ``chunk`` is less than 1.
    """
    if not items:
        raise DataError("no items", expected="at least one", mend="give photographs")
    if (threads is not None and threads < 1) or chunk < 1:
        raise UsageError(f"{threads} threads, chunks of {chunk}", expected="at least 1", mend="correct the argument")
    digest = _digest(items, preprocess)
    store = folder / digest[:32]
    progress = _read_progress(store, digest, len(items))
    if not _is_whole(store, progress, preprocess):
        _require_room(store, progress, preprocess)
        with _disk_as_data_error(store):
            store.mkdir(parents=True, exist_ok=True)
            # The lock goes with the process that holds it, even when that is killed.
            lock = FileLock(store / _LOCK)
            lock.acquire()
        try:
            progress = _read_progress(store, digest, len(items))
            if not _is_whole(store, progress, preprocess):
                _fill(store, progress, items, preprocess, on_item, threads or os.cpu_count() or 1, chunk)
        finally:
            lock.release()
    return tuple(_opened(store, view, len(items)) for view in preprocess.views)


def remove_views(folder: Path) -> None:
    """Remove a folder of stores, if it is there; one that is removed in part, by a process that is killed, begins anew.

    What cannot be removed stays.
    """
    with contextlib.suppress(OSError):
        # First what says that the rest is there.
        for path in folder.glob(f"*/{_PROGRESS}"):
            path.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _digest(items: Sequence[Item], preprocess: Preprocess) -> str:
    digest = hashlib.sha256(f"edgeiqa views {_FORMAT}\n".encode())
    digest.update(msgspec.json.encode(preprocess, order="deterministic"))
    for item in items:
        digest.update(b"\n" + item.key.encode())
    return digest.hexdigest()


def _read_progress(store: Path, digest: str, rows: int) -> _Progress:
    path = store / _PROGRESS
    if not path.exists():
        return _Progress(digest=digest, rows=rows, finished=0)
    try:
        progress = msgspec.json.decode(path.read_bytes(), type=_Progress)
    except (OSError, msgspec.MsgspecError) as error:
        raise _foreign(store, f"{path}, which is no record of progress ({error})") from None
    if (progress.digest, progress.rows) != (digest, rows) or not 0 <= progress.finished <= rows:
        raise _foreign(store, f"{store}, a store of other items")
    return progress


def _foreign(store: Path, got: str) -> DataError:
    return DataError(got, expected="the store of these items, as it was written", mend=f"rm -r {store}")


def _is_whole(store: Path, progress: _Progress, preprocess: Preprocess) -> bool:
    named = all((store / f"{view.name}.npy").is_file() for view in preprocess.views)
    return named and progress.finished == progress.rows


def _require_room(store: Path, progress: _Progress, preprocess: Preprocess) -> None:
    row_bytes = sum(math.prod(view.shape) for view in preprocess.views)
    needed = store_bytes(progress.rows, preprocess) - progress.finished * row_bytes
    free = shutil.disk_usage(next(path for path in (store, *store.absolute().parents) if path.is_dir())).free
    if free < needed:
        raise DataError(
            f"{free / 1e9:.3f} GB free for {store}",
            expected=f"{needed / 1e9:.3f} GB for the views of {progress.rows - progress.finished} items",
            mend="free so much, name a folder on another disk, or take fewer items or crops",
        )


def _fill(
    store: Path,
    progress: _Progress,
    items: Sequence[Item],
    preprocess: Preprocess,
    on_item: Callable[[int, int], None] | None,
    threads: int,
    chunk: int,
) -> None:
    """Append the rows that are missing, and give the files their names."""
    # Where all rows are finished, some files may have their names already.
    views = [
        view
        for view in preprocess.views
        if progress.finished < progress.rows or not (store / f"{view.name}.npy").is_file()
    ]
    with contextlib.ExitStack() as stack:
        with _disk_as_data_error(store):
            files = [stack.enter_context(_continued(store, view, progress)) for view in views]
        finished = progress.finished
        for cuts in _cut_in_order(items[finished:], preprocess, threads):
            finished += 1
            with _disk_as_data_error(store):
                for view, file in zip(views, files, strict=True):
                    file.write(np.ascontiguousarray(cuts[view.name]).data)
                if finished % chunk == 0 or finished == progress.rows:
                    for file in files:
                        _to_disk(file)
                    _write_progress(store, msgspec.structs.replace(progress, finished=finished))
            if on_item is not None:
                on_item(finished, progress.rows)
    with _disk_as_data_error(store):
        for view in views:
            _partial(store, view).replace(store / f"{view.name}.npy")


def _to_disk(file: io.BufferedRandom | io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


def _partial(store: Path, view: View) -> Path:
    return store / f"{view.name}.npy.partial"


def _header(rows: int, view: View) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (rows, *view.shape)})
    return header.getvalue()


def _continued(store: Path, view: View, progress: _Progress) -> io.BufferedRandom:
    """A view's file, cut off after the rows that are finished."""
    header = _header(progress.rows, view)
    path = _partial(store, view)
    if not progress.finished:
        file = path.open("w+b")
        file.write(header)
        return file
    size_bytes = len(header) + progress.finished * math.prod(view.shape)
    if not path.is_file() or path.stat().st_size < size_bytes:
        raise _foreign(store, f"{path}, which is not there or too short")
    file = path.open("r+b")
    file.truncate(size_bytes)
    file.seek(size_bytes)
    return file


def _write_progress(store: Path, progress: _Progress) -> None:
    path = store / _PROGRESS
    partial = path.with_name(f"{_PROGRESS}.partial")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(progress))
        _to_disk(file)
    partial.replace(path)


def _cut_in_order(
    items: Sequence[Item], preprocess: Preprocess, threads: int
) -> Iterator[dict[str, NDArray[np.uint8]]]:
    """The views of each item, in order; no more runs are cut ahead than keep the threads busy."""

    def cut(run: Sequence[Item]) -> list[dict[str, NDArray[np.uint8]]]:
        return list(cut_items(run, preprocess))

    ahead: deque[Future[list[dict[str, NDArray[np.uint8]]]]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for run in _runs(items):
            ahead.append(pool.submit(cut, run))
            if len(ahead) > threads:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _runs(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Neighbours that lie in one file, at most `_RUN` at a time."""
    start = 0
    for end in range(1, len(items) + 1):
        if end == len(items) or items[end].path != items[start].path or end - start == _RUN:
            yield items[start:end]
            start = end


@contextlib.contextmanager
def _disk_as_data_error(store: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{store} cannot be written ({error.strerror or error})",
            expected="a folder that may be written, with room for the views",
            mend="free room or name another folder; the rows that are finished are kept",
        ) from error


def _opened(store: Path, view: View, rows: int) -> Views:
    path = store / f"{view.name}.npy"
    try:
        views: Views = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise _foreign(store, f"{path}, which cannot be read ({error})") from error
    if views.dtype != np.uint8 or views.shape != (rows, *view.shape):
        raise _foreign(store, f"{path} of {views.dtype} {views.shape}")
    return views
