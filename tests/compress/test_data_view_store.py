from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.compress.data.crops import draw_crops
from edgeiqa.compress.data.distortions import Distortion
from edgeiqa.compress.data.items import Item, cut_item, read_photographs
from edgeiqa.compress.data.view_store import open_views, remove_views, store_bytes
from edgeiqa.runtime.decode import open_photo
from edgeiqa.runtime.errors import DataError, PhotoError, UsageError
from edgeiqa.runtime.preprocess import Crop, Preprocess, Resize, View

PREPROCESS = Preprocess(
    views=(
        View(name="whole", operations=(Resize(width=24, height=16),)),
        View(name="corners", operations=(Crop(width=12, height=10, at="five"),)),
    )
)
CHUNK = 4

# Cuts a store, says each row that it has done, and waits at one of them for its end.
CUT = """
import sys, time
from pathlib import Path
folder, tests, root, last = sys.argv[1:]
sys.path.insert(0, tests)
from test_data_view_store import CHUNK, PREPROCESS, open_views, some_items

def tell(done, _):
    print(done, flush=True)
    if done == int(last):
        time.sleep(600)

open_views(Path(folder), some_items(Path(root)), PREPROCESS, threads=2, chunk=CHUNK, on_item=tell)
"""


def some_items(root: Path) -> list[Item]:
    """Crops, then distortions, of a few photographs; 6 x 5 + 20 items."""
    photographs, _ = read_photographs(sorted((root / "clive" / "images").glob("*.jpg"))[:6])
    items = [
        Item(path=photo.path, sha256=photo.sha256, crop=crop)
        for photo in photographs
        for crop in draw_crops(photo.width, photo.height, 5, seed=0, key=photo.sha256)
    ]
    one = photographs[0]
    return items + [
        Item(path=one.path, sha256=one.sha256, distortion=Distortion(kind="noise", severity=0.5, seed=seed))
        for seed in range(20)
    ]


@pytest.fixture(scope="module")
def items(data_root: Path) -> list[Item]:
    return some_items(data_root)


@pytest.fixture(scope="module")
def expected(items: list[Item]) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], ...]:
    cuts = [cut_item(item, PREPROCESS) for item in items]
    return tuple(np.stack([cut[view.name] for cut in cuts]) for view in PREPROCESS.views)


class _Killed(Exception):
    pass


def _kill_at(row: int) -> Any:
    def kill(done: int, _: int) -> None:
        if done == row:
            raise _Killed

    return kill


def _equal(views: tuple[Any, ...], others: tuple[Any, ...]) -> bool:
    return len(views) == len(others) and all(np.array_equal(*pair) for pair in zip(views, others, strict=True))


def _refuse(*_: object) -> None:
    raise AssertionError("nothing should be cut")


def test_a_store_holds_the_views_of_the_items(items: list[Item], expected: tuple[Any, ...], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    views = open_views(tmp_path, items, PREPROCESS, on_item=lambda *at: seen.append(at), threads=3, chunk=7)
    assert [view.shape for view in views] == [(50, 16, 24, 3), (50, 5, 10, 12, 3)]
    assert all(isinstance(view, np.memmap) and view.dtype == np.uint8 for view in views)
    assert not any(view.flags.writeable for view in views)
    assert _equal(views, expected)
    assert seen == [(done, 50) for done in range(1, 51)]
    (store,) = tmp_path.iterdir()
    assert sum(path.stat().st_size for path in store.glob("*.npy")) == store_bytes(50, PREPROCESS)
    assert not list(store.glob("*.partial"))


def test_a_complete_store_is_opened_as_it_is(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_views(tmp_path, items[:5], PREPROCESS)
    # Nothing is decoded, and neither room nor leave to write is asked for.
    monkeypatch.setattr("edgeiqa.compress.data.view_store.cut_items", _refuse)
    monkeypatch.setattr("shutil.disk_usage", _refuse)
    monkeypatch.setattr("edgeiqa.compress.data.view_store.FileLock", _refuse)
    assert _equal(open_views(tmp_path, items[:5], PREPROCESS, on_item=_refuse), first)


def test_other_items_and_other_views_have_other_stores(items: list[Item], tmp_path: Path) -> None:
    narrow = Preprocess(views=PREPROCESS.views[:1])
    open_views(tmp_path, items[:5], PREPROCESS)
    for wanted, preprocess in ((items[:4], PREPROCESS), (items[4::-1], PREPROCESS), (items[:5], narrow)):
        views = open_views(tmp_path, wanted, preprocess)
        for row, item in enumerate(wanted):
            cut = cut_item(item, preprocess)
            assert all(np.array_equal(view[row], cut[name]) for name, view in zip(cut, views, strict=True))
    assert len(list(tmp_path.iterdir())) == 4


def test_a_store_of_other_items_is_not_taken(items: list[Item], tmp_path: Path) -> None:
    open_views(tmp_path / "one", items[:5], PREPROCESS)
    open_views(tmp_path / "other", items[5:10], PREPROCESS)
    (one,), (other,) = ((tmp_path / name).iterdir() for name in ("one", "other"))
    shutil.rmtree(one)
    shutil.copytree(other, one)
    with pytest.raises(DataError, match=rf"a store of other items; .* rm -r {one}"):
        open_views(tmp_path / "one", items[:5], PREPROCESS)


def test_a_killed_process_goes_on_where_it_was(
    items: list[Item], expected: tuple[Any, ...], tmp_path: Path, data_root: Path
) -> None:
    firsts = []
    for last in ("3", "18", "41"):
        command = [sys.executable, "-c", CUT, str(tmp_path), str(Path(__file__).parent), str(data_root), last]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            done = [int(line) for line in iter(process.stdout.readline, f"{last}\n")]
            process.kill()
            firsts.append(done[0])
        (store,) = tmp_path.iterdir()
        assert not list(store.glob("*.npy"))
    # Less than a chunk was cut again each time.
    assert firsts == [1, 1, 17]
    seen: list[int] = []
    views = open_views(tmp_path, items, PREPROCESS, chunk=CHUNK, on_item=lambda done, _: seen.append(done))
    assert _equal(views, expected)
    assert seen == list(range(41, 51))
    uninterrupted = tmp_path / "uninterrupted"
    open_views(uninterrupted, items, PREPROCESS)
    (whole,) = uninterrupted.iterdir()
    for name in ("whole.npy", "corners.npy"):
        assert (store / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize("row", [1, 4, 10, 20])
def test_what_was_written_after_the_last_progress_is_cut_again(
    items: list[Item], expected: tuple[Any, ...], tmp_path: Path, row: int
) -> None:
    with pytest.raises(_Killed):
        open_views(tmp_path, items[:20], PREPROCESS, on_item=_kill_at(row), chunk=CHUNK)
    (store,) = tmp_path.iterdir()
    # A torn row, and a torn record of progress, as a kill between two writes leaves them.
    if row < 20:
        for partial in store.glob("*.npy.partial"):
            with partial.open("ab") as file:
                file.write(b"\xff" * 100)
    (store / "progress.json.partial").write_bytes(b'{"dig')
    seen: list[int] = []
    views = open_views(tmp_path, items[:20], PREPROCESS, on_item=lambda done, _: seen.append(done), chunk=CHUNK)
    assert seen == list(range(row // CHUNK * CHUNK + 1, 21))
    assert _equal(views, tuple(view[:20] for view in expected))


def test_a_kill_between_the_two_names_is_mended(items: list[Item], expected: tuple[Any, ...], tmp_path: Path) -> None:
    open_views(tmp_path, items[:5], PREPROCESS)
    (store,) = tmp_path.iterdir()
    (store / "corners.npy").rename(store / "corners.npy.partial")
    views = open_views(tmp_path, items[:5], PREPROCESS, on_item=_refuse)
    assert _equal(views, tuple(view[:5] for view in expected))


def test_a_store_that_was_removed_in_part_is_cut_again(
    items: list[Item], expected: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_views(tmp_path / "views", items, PREPROCESS, chunk=CHUNK)

    def removed_in_part(folder: Path, **_: object) -> None:
        next(folder.glob("*/whole.npy")).unlink()

    monkeypatch.setattr(shutil, "rmtree", removed_in_part)
    remove_views(tmp_path / "views")
    monkeypatch.undo()
    assert _equal(open_views(tmp_path / "views", items, PREPROCESS, chunk=CHUNK), expected)
    remove_views(tmp_path / "views")
    assert not (tmp_path / "views").exists()
    remove_views(tmp_path / "views")


def test_damage_is_told_with_the_mend(items: list[Item], tmp_path: Path) -> None:
    open_views(tmp_path, items[:5], PREPROCESS)
    (store,) = tmp_path.iterdir()
    mend = f"rm -r {store}"

    def require_told(got: str) -> None:
        with pytest.raises(DataError, match=got) as caught:
            open_views(tmp_path, items[:5], PREPROCESS)
        assert caught.value.mend == mend

    data = (store / "whole.npy").read_bytes()
    (store / "whole.npy").write_bytes(data[:-1])
    require_told(r"whole\.npy, which cannot be read")
    (store / "whole.npy").write_bytes(data[:50])
    require_told(r"whole\.npy, which cannot be read")
    np.save(store / "whole.npy", np.zeros((5, 16, 24, 4), dtype=np.uint8))
    require_told(r"whole\.npy of uint8 \(5, 16, 24, 4\)")
    np.save(store / "whole.npy", np.array([{"an": "object"}]), allow_pickle=True)
    require_told(r"whole\.npy")
    (store / "whole.npy").unlink()
    require_told(r"whole\.npy\.partial, which is not there or too short")
    (store / "progress.json").write_text("{}")
    require_told("no record of progress")
    progress = {"digest": "0" * 64, "rows": 5, "finished": 5}
    (store / "progress.json").write_text(json.dumps(progress))
    require_told("a store of other items")
    shutil.rmtree(store)
    open_views(tmp_path, items[:5], PREPROCESS)


def test_a_short_disk_is_told_before_anything_is_written(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    need = store_bytes(20, PREPROCESS)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 0, need - 1))
    folder = tmp_path / "new" / "stores"
    with pytest.raises(DataError, match=r"0\.000 GB free .* for the views of 20 items; to mend: free so much"):
        open_views(folder, items[:20], PREPROCESS)
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 0, need))
    with pytest.raises(_Killed):
        open_views(folder, items[:20], PREPROCESS, on_item=_kill_at(9), chunk=CHUNK)
    # Eight rows are finished; only the others need room.
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10**12, 0, need - 8 * (16 * 24 * 3 + 5 * 10 * 12 * 3)))
    open_views(folder, items[:20], PREPROCESS)


def test_a_disk_that_fills_up_is_told_and_nothing_finished_is_lost(
    items: list[Item], expected: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = 0
    fsync = os.fsync

    def full_at_last(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 5:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", full_at_last)
    with pytest.raises(DataError, match=r"No space left on device.* the rows that are finished are kept"):
        open_views(tmp_path, items[:20], PREPROCESS, chunk=CHUNK)
    monkeypatch.setattr("os.fsync", fsync)
    seen: list[int] = []
    views = open_views(tmp_path, items[:20], PREPROCESS, on_item=lambda done, _: seen.append(done))
    assert seen[0] == CHUNK + 1
    assert _equal(views, tuple(view[:20] for view in expected))


def test_a_folder_that_cannot_be_written(items: list[Item], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        open_views(tmp_path / "file", items[:2], PREPROCESS)


def test_an_error_keeps_what_was_finished(items: list[Item], expected: tuple[Any, ...], tmp_path: Path) -> None:
    copy = tmp_path / "copy.jpg"
    shutil.copy(items[0].path, copy)
    wanted = [*items[:10], Item(path=copy, sha256=items[0].sha256)]
    copy.write_bytes(b"broken")
    with pytest.raises(PhotoError, match=r"copy\.jpg"):
        open_views(tmp_path / "views", wanted, PREPROCESS, chunk=CHUNK)
    shutil.copy(items[0].path, copy)
    seen: list[int] = []
    views = open_views(tmp_path / "views", wanted, PREPROCESS, on_item=lambda done, _: seen.append(done))
    assert seen == [9, 10, 11]
    assert _equal(tuple(view[:10] for view in views), tuple(view[:10] for view in expected))
    # Keyed by what is seen, not by where it lies.
    assert all(np.array_equal(view[10], view[0]) for view in views)


def test_two_at_once_give_one_store(items: list[Item], expected: tuple[Any, ...], tmp_path: Path) -> None:
    seen: list[int] = []

    def cut() -> tuple[Any, ...]:
        return open_views(tmp_path, items, PREPROCESS, on_item=lambda done, _: seen.append(done), threads=1)

    with ThreadPoolExecutor(3) as pool:
        for views in [future.result() for future in [pool.submit(cut) for _ in range(3)]]:
            assert _equal(views, expected)
    assert seen == list(range(1, 51))


def test_a_photograph_is_decoded_once_for_its_items_in_a_row(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []

    def counted(path: Path, preprocess: Preprocess) -> Any:
        opened.append(path)
        return open_photo(path, preprocess)

    monkeypatch.setattr("edgeiqa.compress.data.items.open_photo", counted)
    open_views(tmp_path, items, PREPROCESS)
    # Six photographs of five crops each; a row of twenty is shared out as 16 and 4.
    assert len(opened) == 8


def test_the_size_is_that_of_the_arrays() -> None:
    assert store_bytes(1000, PREPROCESS) == 2 * 128 + 1000 * (16 * 24 * 3 + 5 * 10 * 12 * 3)


def test_arguments_out_of_range(items: list[Item], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no items"):
        open_views(tmp_path, [], PREPROCESS)
    for wrong in ({"threads": 0}, {"chunk": 0}):
        with pytest.raises(UsageError):
            open_views(tmp_path, items[:1], PREPROCESS, **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
