"""Engines that were built before, by what they were built of."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

import msgspec

from .tensorrt_inspect import EngineLayers

__all__ = ["EngineCache", "EngineRecord"]


class EngineRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engine is, beside its bytes.

    Attributes:
        graph_sha256: of the ONNX graph it was built from.
        library: name and version of what built it.
        capabilities: compute capabilities it is for, such as 86.
        device: name of the GPU, where it is for that one alone.
        batch: smallest, typical and largest batch, such as ``1-4-8``.
        engine_sha256: of the engine.
        build_s: seconds that building took.
        layers: precisions of its layers.
    """

    graph_sha256: str
    library: str
    capabilities: tuple[int, ...]
    device: str
    batch: str
    engine_sha256: str
    build_s: float
    layers: EngineLayers


class EngineCache:
    """A folder of engines; processes may fill it at once: each file is written whole under its key, then renamed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(
        self, graph: bytes, library: str, capabilities: tuple[int, ...], device: str, batch: str
    ) -> tuple[bytes, EngineRecord] | None:
        """The engine of that graph, library, capabilities and batch; None where there is none that is whole."""
        stem = self._stem(graph, library, capabilities, device, batch)
        try:
            record = msgspec.json.decode(stem.with_suffix(".json").read_bytes(), type=EngineRecord)
            data = stem.with_suffix(".engine").read_bytes()
        except (FileNotFoundError, msgspec.MsgspecError):
            return None
        return (data, record) if hashlib.sha256(data).hexdigest() == record.engine_sha256 else None

    def keep(self, graph: bytes, data: bytes, record: EngineRecord) -> None:
        """Write an engine, then its record, so that a record's engine is always there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = self._stem(graph, record.library, record.capabilities, record.device, record.batch)
        _write(stem.with_suffix(".engine"), data)
        _write(stem.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(record), indent=2))

    def _stem(self, graph: bytes, library: str, capabilities: tuple[int, ...], device: str, batch: str) -> Path:
        digest = hashlib.sha256(graph).hexdigest()[:24]
        words = [digest, library, "-".join(map(str, capabilities)), device, batch]
        # Versions have dots, which would be taken for a suffix.
        return self.folder / "_".join(re.sub(r"[^A-Za-z0-9-]+", "-", word) for word in words if word)


def _write(path: Path, data: bytes) -> None:
    # A name of its own: another process may be writing the same engine.
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-", suffix=".partial")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    finally:
        Path(partial).unlink(missing_ok=True)
