"""The teacher cache: what is kept is what was said, through kills, several processes, full disks and damage."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.compress import teacher_fill
from edgeiqa.compress.data.items import Item, cut_item, cut_items
from edgeiqa.compress.teacher_cache import MemberRows, TeacherCache
from edgeiqa.compress.teacher_fill import estimate, fill
from edgeiqa.compress.teacher_members import Teacher
from edgeiqa.runtime.errors import DataError, PhotoError, UsageError
from numpy.typing import NDArray

from .quick_teachers import LARGE, SMALL, all_items, items_of, means, member, save_photographs, teacher

Contents = dict[tuple[str, str], tuple[float, bytes]]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    save_photographs(folder, 6)
    return folder


@pytest.fixture(scope="module")
def items(photographs: Path) -> list[Item]:
    return all_items(photographs)


def contents(folder: Path, who: Teacher, items: list[Item]) -> Contents:
    """Everything that a cache says of items, to the bit."""
    found: Contents = {}
    keys = [item.key for item in items]
    with TeacherCache(folder, create=False) as cache:
        for one in who.members:
            raw, features = cache.read(one.key, keys)
            for row, key in enumerate(keys):
                row_bytes = b"".join(values[row].tobytes() for values in features.values())
                found[one.name, key] = (float(raw[row]), row_bytes)
    return found


def filled(folder: Path, who: Teacher, items: list[Item], **options: Any) -> Path:
    with TeacherCache(folder) as cache:
        fill(cache, who, items, **options)
    return folder


def shards(folder: Path) -> list[Path]:
    return sorted((folder / "shards").iterdir())


def test_what_is_read_is_what_the_member_said_of_the_views_that_the_runtime_cuts(
    items: list[Item], tmp_path: Path
) -> None:
    who = teacher(member("one", 1), member("large", 2, preprocess=LARGE))
    steps: list[tuple[int, int]] = []
    with TeacherCache(tmp_path / "cache") as cache:
        assert cache.missing(who.members[0], items) == list(range(18))
        assert fill(cache, who, items, batch=4, on_step=lambda *done: steps.append(done)) == 18
        assert cache.missing(who.members[0], items) == []
        assert fill(cache, who, items) == 0
        backwards = items[::-1]
        for one in who.members:
            raw, features = cache.read(one.key, [item.key for item in backwards] + [items[0].key])
            assert raw.dtype == np.float64 and list(features) == ["features.last", "features.0"]
            for row, item in enumerate([*backwards, items[0]]):
                views = {name: view[None] for name, view in cut_item(item, one.preprocess).items()}
                said, told = one.run(views)
                assert raw[row] == said[0]
                for name, values in features.items():
                    assert values.dtype == np.float32
                    assert np.array_equal(values[row], told[name][0].astype(np.float16).astype(np.float32))
    assert [done for done, _ in steps] == [*sorted({done for done, _ in steps})] and steps[-1] == (18, 18)
    assert len(steps) == 5


def test_contents_do_not_depend_on_chunks_and_threads(items: list[Item], tmp_path: Path) -> None:
    first = contents(filled(tmp_path / "a", teacher(), items, batch=1, threads=1), teacher(), items)
    assert first == contents(filled(tmp_path / "b", teacher(), items, batch=7, threads=3), teacher(), items)
    assert len({raw for raw, _ in first.values()}) > 18


def test_members_of_one_preprocess_share_views_and_a_photograph_is_cut_in_one_go(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[list[Item]] = []

    def watched(some: Iterable[Item], preprocess: Any) -> Any:
        cut.append(list(some))
        return cut_items(cut[-1], preprocess)

    monkeypatch.setattr(teacher_fill, "cut_items", watched)
    who = teacher(member("one", 1), member("two", 2), member("three", 3))
    filled(tmp_path, who, items, batch=18)
    assert sorted(group[0].path for group in cut) == sorted({item.path for item in items})
    assert all(len(group) == 3 for group in cut)


def start(cache: Path, photographs: Path, pause: float) -> subprocess.Popen[str]:
    script = Path(__file__).parent / "quick_teachers.py"
    return subprocess.Popen(
        [sys.executable, str(script), str(cache), str(photographs), str(pause)], stdout=subprocess.PIPE, text=True
    )


def test_a_fill_that_is_killed_at_any_moment_goes_on_to_the_same_contents(
    photographs: Path, items: list[Item], tmp_path: Path
) -> None:
    reference = contents(filled(tmp_path / "whole", teacher(), items), teacher(), items)
    stream = np.random.default_rng(5)
    killed = 0
    for _ in range(6):
        process = start(tmp_path / "cut", photographs, 0.02)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(float(stream.uniform(0, 0.05)))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
        with TeacherCache(tmp_path / "cut") as cache:
            # What the index names is whole.
            for one in teacher().members:
                there = cache.present(one.key, [item.key for item in items])
                if there:
                    raw, _ = cache.read(one.key, sorted(there))
                    assert [reference[one.name, key][0] for key in sorted(there)] == raw.tolist()
    assert killed >= 2
    assert contents(filled(tmp_path / "cut", teacher(), items), teacher(), items) == reference


def test_two_processes_fill_one_cache(photographs: Path, items: list[Item], tmp_path: Path) -> None:
    both = [start(tmp_path / "shared", photographs, 0.01) for _ in range(2)]
    for process in both:
        process.communicate(timeout=60)
        assert process.returncode == 0
    reference = contents(filled(tmp_path / "alone", teacher(), items), teacher(), items)
    assert contents(tmp_path / "shared", teacher(), items) == reference
    with TeacherCache(tmp_path / "shared") as cache:
        assert [one.items for one in cache.info().members] == [18, 18]


def test_answers_of_two_processes_at_once_are_kept_once(items: list[Item], tmp_path: Path) -> None:
    one = member("one", 1)
    raw, features = one.run({"image": np.stack([cut_item(item, SMALL)["image"] for item in items[:2]])})
    rows = MemberRows(
        member=one,
        items=items[:2],
        keys=[item.key for item in items[:2]],
        folds=["none"] * 2,
        raw=raw,
        features=features,
    )
    with TeacherCache(tmp_path) as first, TeacherCache(tmp_path) as second:
        first.add([rows])
        second.add([rows])
        assert len(shards(tmp_path)) == 2
        assert second.read(one.key, rows.keys)[0].tolist() == raw.tolist()
        assert second.info().items == 2


def test_a_cache_is_read_after_a_fork(items: list[Item], tmp_path: Path) -> None:
    filled(tmp_path, teacher(), items)
    code = (
        "import os, sys; from pathlib import Path; from edgeiqa.compress.teacher_cache import TeacherCache\n"
        "cache = TeacherCache(Path(sys.argv[1])); before = cache.read(sys.argv[2], sys.argv[3:])[0].tolist()\n"
        "child = os.fork()\n"
        "same = cache.read(sys.argv[2], sys.argv[3:])[0].tolist() == before\n"
        "if child == 0: os._exit(0 if same else 1)\n"
        "assert same and os.waitpid(child, 0)[1] == 0; cache.close(); print(len(before))\n"
    )
    keys = [item.key for item in items]
    arguments = [sys.executable, "-c", code, str(tmp_path), teacher().members[0].key, *keys]
    ran = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "18\n"), ran.stderr


def test_a_shard_that_was_cut_off_or_changed_or_lost_is_found(items: list[Item], tmp_path: Path) -> None:
    who = teacher(member("one", 1))
    filled(tmp_path, who, items)
    (shard,) = shards(tmp_path)
    whole = shard.read_bytes()
    assert len(whole) == 18 * 16

    def read() -> NDArray[np.float64]:
        with TeacherCache(tmp_path) as cache:
            return cache.read(who.members[0].key, [item.key for item in items])[0]

    shard.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="ends before row 17"):
        read()
    changed = bytearray(whole)
    changed[100] ^= 1
    shard.write_bytes(changed)
    with pytest.raises(DataError, match="row 6 is not what was written"):
        read()
    shard.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        read()
    # Another length of tail, as a kill leaves it, is no damage.
    shard.write_bytes(whole + b"\0" * 7)
    said = read()
    with sqlite3.connect(tmp_path / "index.sqlite") as index:
        index.execute("UPDATE entries SET raw = raw + 1 WHERE item_key = ?", (items[4].key,))
    index.close()
    with pytest.raises(DataError, match="is not what was written"):
        read()
    assert len(said) == 18


def test_a_broken_index_is_refused(items: list[Item], tmp_path: Path) -> None:
    filled(tmp_path, teacher(), items)
    path = tmp_path / "index.sqlite"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + b"\xff" * 6000 + whole[11000:])
    with pytest.raises((DataError, UsageError)), TeacherCache(tmp_path) as cache:
        cache.read(teacher().members[0].key, [item.key for item in items])
    path.write_bytes(b"no database at all, " * 100)
    with pytest.raises(UsageError, match="not a database"):
        TeacherCache(tmp_path)


def test_folders_that_are_no_cache_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    for name in ("mine", "file"):
        with pytest.raises(UsageError, match=name):
            TeacherCache(tmp_path / name)
    with pytest.raises(UsageError, match="absent"):
        TeacherCache(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    for name, statement in (("newer", "PRAGMA user_version = 2"), ("other", "PRAGMA application_id = 7")):
        TeacherCache(tmp_path / name).close()
        index = sqlite3.connect(tmp_path / name / "index.sqlite")
        index.execute(statement)
        index.close()
    with pytest.raises(UsageError, match=r"of format 2.*upgrade"):
        TeacherCache(tmp_path / "newer")
    with pytest.raises(UsageError, match="something else"):
        TeacherCache(tmp_path / "other")


@pytest.mark.parametrize(("worst", "told"), [(7e4, "up to 7e"), (np.nan, "up to nan"), (-np.inf, "up to inf")])
def test_a_feature_beyond_half_precision_names_member_and_item(
    items: list[Item], tmp_path: Path, worst: float, told: str
) -> None:
    def features_of(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if name == "features.0" and len(values) == 1:
            values = np.where(values == values.max(), np.float32(worst), values)
        return values

    who = teacher(member("one", 1), member("wild", 2, features_of=features_of))
    with TeacherCache(tmp_path) as cache:
        with pytest.raises(DataError) as caught:
            fill(cache, who, items[:1], batch=1)
        assert told in str(caught.value)
        for word in ("features.0", "wild", str(items[0].path), items[0].key[:16], "65504"):
            assert word in str(caught.value), word
        # Nothing of a chunk is kept where a part of it cannot be.
        assert cache.missing(who.members[0], items[:1]) == [0]


def test_a_raw_score_that_is_not_finite_is_refused(items: list[Item], tmp_path: Path) -> None:
    def forward(views: Any) -> Any:
        return np.full(len(views["image"]), np.nan), {}

    broken = member("broken", feature_widths={}, forward=forward)
    with TeacherCache(tmp_path) as cache, pytest.raises(DataError, match="raw score of nan of broken"):
        fill(cache, teacher(broken), items[:1])


def test_members_without_features_need_no_shard(items: list[Item], tmp_path: Path) -> None:
    bare = member("bare", 3, feature_widths={}, forward=lambda views: (means(views), {}))
    filled(tmp_path, teacher(bare), items)
    assert not (tmp_path / "shards").exists()
    with TeacherCache(tmp_path) as cache:
        raw, features = cache.read(bare.key, [item.key for item in items])
    assert features == {} and len(set(raw)) > 10


def test_other_weights_find_nothing(items: list[Item], tmp_path: Path) -> None:
    old, new = member("one", 1), member("one", 2)
    filled(tmp_path, teacher(old), items)
    with TeacherCache(tmp_path) as cache:
        with pytest.raises(DataError, match=f"one of its members: one \\({old.key[:16]}\\)"):
            cache.read(new.key, [items[0].key])
        assert len(cache.missing(new, items)) == 18
        fill(cache, teacher(new), items[:3])
        found = cache.info()
        assert [(one.key, one.stale, one.items) for one in found.members] == [(old.key, True, 18), (new.key, False, 3)]
        assert (found.items, found.photographs) == (18, 6)
        assert found.members[0].size_bytes == 18 * 16
        with pytest.raises(DataError, match="15 of 18 items"):
            cache.read(new.key, [item.key for item in items])
        assert cache.remove(old.key) == 18 * 16
        assert [one.key for one in cache.info().members] == [new.key]
        assert len(shards(tmp_path)) == 1
        with pytest.raises(DataError, match="no member"):
            cache.remove(old.key)


def test_what_the_cache_knows_of_folds(items: list[Item], tmp_path: Path) -> None:
    folds: Any = {items[0].sha256: 2, items[3].sha256: "selection"}
    filled(tmp_path, teacher(folds=folds), items[:9])
    with TeacherCache(tmp_path) as cache:
        assert cache.info().members[0].folds == {"2": 3, "none": 3, "selection": 3}
        keys = [one.key for one in teacher().members]
        said = cache.folds(keys, [items[1].key, items[4].key, items[7].key])
    assert list(said.values()) == [{"2"}, {"selection"}, set()]


def test_the_estimate_says_what_is_to_do(items: list[Item], tmp_path: Path) -> None:
    who = teacher(member("one", 1, pause=0.02), member("two", 2))
    with TeacherCache(tmp_path) as cache:
        fill(cache, teacher(who.members[0]), items[:5])
        told = estimate(cache, who, [*items, *items])
        assert (told.items, told.items_to_do, told.runs) == (18, 18, 13 + 18)
        assert told.macs == 31 * 1000 and told.seconds is None and told.free_bytes > 0
        before = cache.info()
        measured = estimate(cache, who, items[5:], measure=1).seconds
        assert cache.info() == before
        # The member waits 20 ms for an item.
        assert measured is not None and measured > 13 * 0.02
        fill(cache, who, items)
        assert estimate(cache, who, items, measure=2).seconds is None
        entries = told.bytes
        held = cache.info().size_bytes
        # SQLite takes whole pages, of which a small index has some that are hardly used.
        assert 0.3 * entries < held < 3 * entries + 100_000
        uncounted = teacher(member("one", 1), member("odd", 4, count_macs=lambda: None))
        assert estimate(cache, uncounted, items).macs is None


def test_a_disk_without_room_is_said_before_anything_is_done(
    items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with TeacherCache(tmp_path) as cache:
        with pytest.raises(DataError, match=r"0\.00 GB free"):
            fill(cache, teacher(), items)
        assert cache.info().members == ()


def test_a_disk_that_fills_up_loses_nothing(items: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = os.fsync

    def fsync(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    who = teacher(member("one", 1))
    with TeacherCache(tmp_path) as cache:
        fill(cache, who, items[:1])
        monkeypatch.setattr("edgeiqa.compress.teacher_shards.os.fsync", fsync)
        with pytest.raises(DataError, match=r"No space left.*free space.*what was done is kept"):
            # Chunks come in a random order, and the last may be shorter.
            fill(cache, who, items, batch=1)
        (shard,) = shards(tmp_path)
        kept = 18 - len(cache.missing(who.members[0], items))
        assert kept == 4 and shard.stat().st_size == kept * 16
        monkeypatch.undo()
        fill(cache, who, items)
    reference = contents(filled(tmp_path / "whole", who, items), who, items)
    assert contents(tmp_path, who, items) == reference


def test_a_photograph_that_cannot_be_read_stops_and_keeps_what_was_done(items: list[Item], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(items[0].path.read_bytes()[:200])
    with TeacherCache(tmp_path / "cache") as cache:
        fill(cache, teacher(), items)
        with pytest.raises(PhotoError, match=r"broken\.png"):
            fill(cache, teacher(), [*items, *items_of(broken)], batch=1)
        assert cache.missing(teacher().members[0], items) == []


def test_members_that_may_not_speak_can_be_left_out(items: list[Item], tmp_path: Path) -> None:
    folds: Any = {items[0].sha256: 0, items[3].sha256: 1, items[6].sha256: "selection"}
    who = teacher(member("zero", 1, heldout_fold=0), member("one", 2, heldout_fold=1), folds=folds)
    with TeacherCache(tmp_path) as cache:
        assert estimate(cache, who, items[:9], only_speakers=True).runs == 18 - 4
        fill(cache, who, items[:9], only_speakers=True)
        # Each lacks the other's whole photograph and crop; of the distorted one all speak.
        assert cache.missing(who.members[0], items[:9]) == [3, 4]
        assert cache.missing(who.members[1], items[:9]) == [0, 1]
        with pytest.raises(DataError, match="fold 7, which no member"):
            fill(cache, teacher(*who.members, folds={items[0].sha256: 7}), items[:1], only_speakers=True)


def test_a_batch_below_one(items: list[Item], tmp_path: Path) -> None:
    with TeacherCache(tmp_path) as cache, pytest.raises(UsageError, match="batch of 0"):
        fill(cache, teacher(), items, batch=0)
