"""The shards of a teacher cache: files of float16 rows that only grow, one a member and process."""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..runtime.errors import DataError

__all__ = ["LARGEST_HALF", "Shards", "row_check"]

LARGEST_HALF = float(np.finfo(np.float16).max)
_SUFFIX = ".f16"
_KEY_LETTERS = 16


class Shards:
    """The folder of shards.

    Attributes:
        folder: where they lie; made with the first of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mine: dict[str, tuple[str, FileIO]] = {}
        self._pid = os.getpid()

    def append(self, member_key: str, table: NDArray[np.float16]) -> tuple[str, int]:
        """Write rows to this process's shard of a member; they are on the disk when this returns.

        Args:
            member_key: whose.
            table: float16 ``[n, C]``; C of 0 writes nothing.

        Returns:
            The shard's name and the number of the first row in it.

        Raises:
            OSError: the disk is full, or the folder may not be written; the shard is as it was.
        """
        row_bytes = table.shape[1] * table.itemsize
        if row_bytes == 0:
            return "", 0
        name, file = self._shard(member_key)
        start = file.seek(0, os.SEEK_END)
        left = memoryview(table.astype("<f2").tobytes())
        try:
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except OSError:
            # Rows stand at multiples of their length.
            file.truncate(start)
            raise
        return name, start // row_bytes

    def read(self, member: str, name: str, rows: Sequence[int], row_bytes: int) -> list[bytes]:
        """Read rows of a shard.

        Args:
            member: its name, for a person.
            name: of the shard.
            rows: their numbers; best ascending.
            row_bytes: length of each.

        Raises:
            DataError: the shard is not there, or ends before a row does.
        """
        if row_bytes == 0:
            return [b""] * len(rows)
        found = []
        try:
            with (self.folder / name).open("rb") as file:
                for row in rows:
                    file.seek(row * row_bytes)
                    found.append(file.read(row_bytes))
        except OSError as error:
            raise self.damaged(member, name, f"which cannot be read ({error.strerror or error})") from error
        for row, data in zip(rows, found, strict=True):
            if len(data) != row_bytes:
                raise self.damaged(member, name, f"which ends before row {row} does")
        return found

    def damaged(self, member: str, name: str, how: str) -> DataError:
        """The error for a shard that is not as it was written."""
        return DataError(
            f"{self.folder / name}, a shard of {member}, {how}",
            expected="shards as they were written",
            mend="remove the member (edgeiqa cache remove) and fill the cache again",
        )

    def sizes(self, member_key: str = "") -> dict[Path, int]:
        """Size in bytes of each shard, of one member or of all."""
        return {
            path: path.stat().st_size
            for path in sorted(self.folder.glob(f"*{_SUFFIX}"))
            if path.name.startswith(member_key[:_KEY_LETTERS])
        }

    def remove(self, member_key: str) -> int:
        """Remove a member's shards; returns how many bytes they held."""
        opened = self._mine.pop(member_key, None)
        if opened is not None:
            opened[1].close()
        mine = self.sizes(member_key)
        for path in mine:
            path.unlink()
        return sum(mine.values())

    def close(self) -> None:
        """Close what this process has open."""
        for _, file in self._mine.values():
            file.close()
        self._mine.clear()

    def _shard(self, member_key: str) -> tuple[str, FileIO]:
        if self._pid != os.getpid():
            # After a fork the end of a shard is the first process's.
            self._mine, self._pid = {}, os.getpid()
        if member_key not in self._mine:
            self.folder.mkdir(exist_ok=True)
            name = f"{member_key[:_KEY_LETTERS]}-{secrets.token_hex(6)}{_SUFFIX}"
            self._mine[member_key] = name, FileIO(self.folder / name, "xb")
            _sync_folder(self.folder)
        return self._mine[member_key]


def row_check(item_key: str, raw: float, row: bytes) -> int:
    """CRC-32 over an item's key, its raw score as a little-endian double, and its row."""
    return zlib.crc32(row, zlib.crc32(struct.pack("<d", raw), zlib.crc32(item_key.encode())))


def _sync_folder(folder: Path) -> None:
    """Make a new file's name last; where folders cannot be synced (Windows) the system sees to it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
