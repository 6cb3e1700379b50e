"""The teacher cache: every member's raw score and pooled features of every item, paid for once.

A folder of one index (SQLite) and append-only shards. Raw scores stand in the index in float64; the features of one
item stand in a shard as one row of float16, all features one after the other. A row is on the disk before the index
names it, so a process that is killed at any moment loses what it had not finished and leaves no torn row. Several
processes may fill one cache: each writes shards of its own.

What is found under a member's key was computed by just these weights with just this preprocessing; other weights have
another key, and find nothing.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError, UsageError
from .teacher_index import Index
from .teacher_shards import LARGEST_HALF, Shards, row_check

if TYPE_CHECKING:
    from .data.items import Item
    from .teacher_members import Features, TeacherMember

__all__ = ["ENTRY_BYTES", "CacheInfo", "CachedMember", "MemberRows", "TeacherCache"]

INDEX_NAME = "index.sqlite"
SHARDS_NAME = "shards"
ENTRY_BYTES = 512
"""About what one entry takes in the index."""

_KEYS_A_QUERY = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberRows:
    """What one member said of some items.

    Attributes:
        member: who said it.
        items: of what.
        keys: the items' keys.
        folds: the part of each item's photograph in the teacher's own training: a fold's number, ``selection`` or
            ``none``.
        raw: float64 ``[n]``.
        features: float32 ``[n, C]`` by name.
    """

    member: TeacherMember
    items: Sequence[Item]
    keys: Sequence[str]
    folds: Sequence[str]
    raw: NDArray[np.float64]
    features: Features


@dataclass(frozen=True, kw_only=True, slots=True)
class CachedMember:
    """What a cache holds of a member.

    Attributes:
        name: as it was when its first item was cached.
        key: what identifies it.
        features: length of each pooled feature vector, by name.
        items: how many it spoke of.
        photographs: how many different photographs those show.
        folds: number of items by the part of their photograph.
        size_bytes: of its shards.
        stale: a later member of the same name has other weights or preprocessing.
    """

    name: str
    key: str
    features: dict[str, int]
    items: int
    photographs: int
    folds: dict[str, int]
    size_bytes: int
    stale: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CacheInfo:
    """What a cache holds.

    Attributes:
        members: in the order in which they came.
        items: different ones, over all members.
        photographs: likewise.
        size_bytes: of the index and all shards.
    """

    members: tuple[CachedMember, ...]
    items: int
    photographs: int
    size_bytes: int


class TeacherCache:
    """A teacher cache in a folder.

    Attributes:
        folder: where it lies.
    """

    def __init__(self, folder: Path, *, create: bool = True) -> None:
        """Open a cache, or make an empty one in a new or empty folder.

        Args:
            folder: of the cache.
            create: whether one may be made.

        Raises:
            UsageError: the folder is no cache, or one of a newer format.
            DataError: it may not be written, or another process does not let go of it.
        """
        self.folder = folder
        here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        if INDEX_NAME not in here:
            # Another process may be making it at this moment: its journal comes and goes.
            strange = sorted(name for name in here if not name.startswith(INDEX_NAME))
            if strange or not create or (folder.exists() and not folder.is_dir()):
                raise UsageError(
                    f"{folder}, which {f'holds {strange[:5]}' if strange else 'is no folder of a teacher cache'}",
                    expected=f"a folder with {INDEX_NAME}" + (", or a new or empty folder" if create else ""),
                    mend="name another folder, or make one with edgeiqa cache fill",
                )
        folder.mkdir(parents=True, exist_ok=True)
        self._shards = Shards(folder / SHARDS_NAME)
        self._index = Index(folder / INDEX_NAME)

    def __enter__(self) -> TeacherCache:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the index and this process's shards."""
        self._shards.close()
        self._index.close()

    def missing(self, member: TeacherMember, items: Sequence[Item]) -> list[int]:
        """Places of the items of which the cache does not hold the member's answer."""
        there = self.present(member.key, [item.key for item in items])
        return [place for place, item in enumerate(items) if item.key not in there]

    def present(self, member_key: str, item_keys: Sequence[str]) -> set[str]:
        """Those of the items' keys of which the cache holds the member's answer."""
        found = self._select("item_key", member_key, item_keys)
        return {str(row[0]) for row in found}

    def folds(self, member_keys: Sequence[str], item_keys: Sequence[str]) -> dict[str, set[str]]:
        """What the column ``fold`` says of items, over all of the members: ``none`` left out, empty if nothing."""
        said: dict[str, set[str]] = {key: set() for key in item_keys}
        for member_key in member_keys:
            for key, fold in self._select("item_key, fold", member_key, item_keys):
                if fold != "none":
                    said[key].add(fold)
        return said

    def add(self, answers: Sequence[MemberRows]) -> None:
        """Keep what members said of items: all of it or, when this process is killed, nothing.

        What another process has added meanwhile stays.

        Raises:
            DataError: a score or feature is not finite or a feature is beyond float16; the disk is full.
            UsageError: the cache holds other features under the member's key.
        """
        placed = []
        for rows in answers:
            table = _as_halves(rows)
            checks = [
                row_check(key, float(raw), row.tobytes())
                for key, raw, row in zip(rows.keys, rows.raw, table, strict=True)
            ]
            try:
                placed.append((rows, checks, *self._shards.append(rows.member.key, table)))
            except OSError as error:
                raise DataError(
                    f"{self._shards.folder} cannot be written ({error})",
                    expected="a disk with room, and a folder that may be written",
                    mend="free space (edgeiqa cache info names stale members) and repeat the command; what was done "
                    "is kept",
                ) from error
        with self._index.transaction() as index:
            for rows, checks, shard, first in placed:
                self._register(index, rows.member)
                index.executemany(
                    "INSERT OR IGNORE INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (
                            rows.member.key,
                            key,
                            item.sha256,
                            fold,
                            msgspec.json.encode(item.crop).decode(),
                            msgspec.json.encode(item.distortion).decode(),
                            float(raw),
                            check,
                            shard,
                            first + place,
                        )
                        for place, (item, key, fold, raw, check) in enumerate(
                            zip(rows.items, rows.keys, rows.folds, rows.raw, checks, strict=True)
                        )
                    ],
                )

    def read(
        self, member_key: str, item_keys: Sequence[str], *, with_features: bool = True
    ) -> tuple[NDArray[np.float64], Features]:
        """What a member said of items.

        Args:
            member_key: its own.
            item_keys: in any order, repeated or not.
            with_features: whether features are wanted; without, the shards are not touched.

        Returns:
            Raw scores float64 ``[n]``, and features float32 ``[n, C]`` by name (of float16 precision).

        Raises:
            DataError: it is not in the cache, or a shard is cut off or damaged.
        """
        members = self._index.query("SELECT name, features, row_bytes FROM members WHERE key = ?", (member_key,))
        if not members:
            raise self._unknown(member_key)
        ((name, encoded, row_bytes),) = members
        widths: dict[str, int] = msgspec.json.decode(encoded)
        found = {
            key: (raw, check, shard, row)
            for key, raw, check, shard, row in self._select("item_key, raw, crc32, shard, row", member_key, item_keys)
        }
        missing = [key for key in item_keys if key not in found]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(item_keys)} items of which {name} has not spoken in {self.folder}",
                expected="all of them in the teacher cache",
                mend="fill it: edgeiqa cache fill",
            )
        raw = np.array([found[key][0] for key in item_keys], dtype=np.float64)
        if not with_features:
            return raw, {}
        rows = self._read_rows(name, row_bytes, found)
        halves = np.frombuffer(b"".join(rows[key] for key in item_keys), dtype="<f2")
        halves = halves.reshape(len(item_keys), row_bytes // 2)
        features: Features = {}
        start = 0
        for feature, width in widths.items():
            features[feature] = halves[:, start : start + width].astype(np.float32)
            start += width
        return raw, features

    def info(self) -> CacheInfo:
        """What the cache holds."""
        listed = self._index.query("SELECT key, name, features FROM members ORDER BY place")
        last = {name: key for key, name, _ in listed}
        members = []
        for key, name, features in listed:
            folds = dict(
                self._index.query(
                    "SELECT fold, COUNT(*) FROM entries WHERE member_key = ? GROUP BY fold ORDER BY fold", (key,)
                )
            )
            ((photographs,),) = self._index.query(
                "SELECT COUNT(DISTINCT image_sha256) FROM entries WHERE member_key = ?", (key,)
            )
            members.append(
                CachedMember(
                    name=name,
                    key=key,
                    features=msgspec.json.decode(features),
                    items=sum(folds.values()),
                    photographs=photographs,
                    folds=folds,
                    size_bytes=sum(self._shards.sizes(key).values()),
                    stale=last[name] != key,
                )
            )
        ((items, photographs),) = self._index.query(
            "SELECT COUNT(DISTINCT item_key), COUNT(DISTINCT image_sha256) FROM entries"
        )
        index_bytes = sum(path.stat().st_size for path in self.folder.glob(f"{INDEX_NAME}*"))
        return CacheInfo(
            members=tuple(members),
            items=items,
            photographs=photographs,
            size_bytes=index_bytes + sum(self._shards.sizes().values()),
        )

    def remove(self, member_key: str) -> int:
        """Remove a member and its shards; no process may be filling the cache with it.

        Returns:
            Bytes that its shards held.

        Raises:
            DataError: there is no such member.
        """
        with self._index.transaction() as index:
            if not index.execute("DELETE FROM members WHERE key = ?", (member_key,)).rowcount:
                raise self._unknown(member_key)
            index.execute("DELETE FROM entries WHERE member_key = ?", (member_key,))
        return self._shards.remove(member_key)

    def _unknown(self, member_key: str) -> DataError:
        known = [
            f"{name} ({key[:16]})" for key, name in self._index.query("SELECT key, name FROM members ORDER BY place")
        ]
        return DataError(
            f"no member {member_key[:16]} in the teacher cache {self.folder}",
            expected=f"one of its members: {', '.join(known) or 'it has none'}",
            mend="a cache answers for the weights it was filled with: fill it for this teacher (edgeiqa cache fill)",
        )

    def _select(self, columns: str, member_key: str, item_keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(item_keys), _KEYS_A_QUERY):
            keys = list(dict.fromkeys(item_keys[start : start + _KEYS_A_QUERY]))
            marks = ",".join("?" * len(keys))
            # The columns are this module's own words.
            query = f"SELECT {columns} FROM entries WHERE member_key = ? AND item_key IN ({marks})"  # noqa: S608
            yield from self._index.query(query, (member_key, *keys))

    def _register(self, index: sqlite3.Connection, member: TeacherMember) -> None:
        widths = dict(member.feature_widths)
        features = msgspec.json.encode(widths).decode()
        index.execute(
            "INSERT OR IGNORE INTO members (key, name, features, row_bytes) VALUES (?, ?, ?, ?)",
            (member.key, member.name, features, 2 * sum(widths.values())),
        )
        there = index.execute("SELECT features FROM members WHERE key = ?", (member.key,)).fetchone()[0]
        if there != features:
            raise UsageError(
                f"{self.folder}, which holds the features {there} of {member.name}",
                expected=f"{features}",
                mend="name another folder for the cache",
            )

    def _read_rows(
        self, member: str, row_bytes: int, found: dict[str, tuple[float, int, str, int]]
    ) -> dict[str, bytes]:
        """The row of each item, checked."""
        by_shard: dict[str, list[tuple[int, str]]] = defaultdict(list)
        for key, (_, _, shard, row) in found.items():
            by_shard[shard].append((row, key))
        rows: dict[str, bytes] = {}
        for shard, unsorted in by_shard.items():
            wanted = sorted(unsorted)
            data = self._shards.read(member, shard, [row for row, _ in wanted], row_bytes)
            for (row, key), content in zip(wanted, data, strict=True):
                raw, check, _, _ = found[key]
                if row_check(key, raw, content) != check:
                    raise self._shards.damaged(member, shard, f"whose row {row} is not what was written")
                rows[key] = content
        return rows


def _as_halves(rows: MemberRows) -> NDArray[np.float16]:
    """All features of each item as one row, little-endian float16 ``[n, sum of C]``."""
    member = rows.member

    def refuse(place: int, what: str, expected: str) -> DataError:
        item = rows.items[place]
        return DataError(
            f"{what} of {member.name} for {item.path} (item {rows.keys[place][:16]}, crop {item.crop}, "
            f"distortion {item.distortion})",
            expected=expected,
            mend="check the photograph and the member's weights; leave one of them out",
        )

    broken = np.flatnonzero(~np.isfinite(rows.raw))
    if broken.size:
        raise refuse(int(broken[0]), f"a raw score of {rows.raw[broken[0]]}", "a finite number")
    parts = [np.empty((len(rows.raw), 0), dtype="<f2")]
    for name in member.feature_widths:
        feature = rows.features[name]
        within = (np.abs(feature) <= LARGEST_HALF).all(axis=1)
        if not within.all():
            place = int(np.flatnonzero(~within)[0])
            largest = float(np.abs(feature[place]).max())
            raise refuse(place, f"{name} of up to {largest:.4g}", f"finite numbers of at most {LARGEST_HALF:g}")
        parts.append(feature.astype("<f2"))
    return np.ascontiguousarray(np.concatenate(parts, axis=1))
