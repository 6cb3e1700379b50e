"""Graphs as engines have prepared them, on the disk, so that the next start need not prepare them again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .cpu import cpu_flags

__all__ = ["CompiledCache"]

_DIGEST_BYTES = 32


class CompiledCache:
    """A folder of prepared graphs.

    An entry is found by the graph's bytes, the engine, its version and settings, and the processor; so it never needs
    to be cleared for its content's sake, only for its room. It is used only if it is whole: it begins with the SHA-256
    of the rest. What guards it against others is the folder: who may write there may change scores. A folder that may
    not be written, or a disk that is full, costs the preparation and nothing else.

    Attributes:
        folder: made when it is first written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def key(self, engine: str, version: str, settings: object, files: Sequence[bytes]) -> str:
        """The name of an entry.

        Args:
            engine: by its name.
            version: of its library.
            settings: with which the graph is prepared, as their ``repr`` tells them.
            files: the artefact's parts.
        """
        flags = cpu_flags()
        processor = (platform.machine(), sorted(flags.names) if flags else platform.processor())
        digest = hashlib.sha256(repr((engine, version, settings, processor)).encode())
        for file in files:
            digest.update(hashlib.sha256(file).digest())
        return f"{engine}-{digest.hexdigest()}.compiled"

    def read(self, key: str) -> bytes | None:
        """An entry, or None where there is none that is whole."""
        try:
            data = (self.folder / key).read_bytes()
        except OSError:
            return None
        content = data[_DIGEST_BYTES:]
        return content if hashlib.sha256(content).digest() == data[:_DIGEST_BYTES] else None

    def write(self, key: str, content: bytes) -> None:
        """Keep an entry, whole or not at all."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, partial = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".partial")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(content).digest())
                    file.write(content)
                # mkstemp's is for its owner alone; the folder says who may read what is in it.
                Path(partial).chmod(0o644)
                Path(partial).replace(self.folder / key)
            finally:
                Path(partial).unlink(missing_ok=True)
