"""The engine cache between processes: files of one key written at once, and writes that fail."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.export.engine_cache import EngineCache, EngineRecord
from edgeiqa.export.tensorrt_inspect import EngineLayers

KEY = ("TensorRT-RTX 1.7.1", (86, 89), "", "1-4-8")


def record(data: bytes) -> EngineRecord:
    import hashlib

    library, capabilities, device, batch = KEY
    return EngineRecord(
        graph_sha256=hashlib.sha256(b"graph").hexdigest(),
        library=library,
        capabilities=capabilities,
        device=device,
        batch=batch,
        engine_sha256=hashlib.sha256(data).hexdigest(),
        build_s=1.0,
        layers=EngineLayers(source="none", reason="a test"),
    )


def test_another_process_that_writes_the_same_engine_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = EngineCache(tmp_path)
    plain = Path.replace
    between = [b"theirs", b"theirs"]

    def interrupted(self: Path, target: Path) -> Path:
        # The other one writes its engine after ours is written and before it has its name.
        if between:
            cache.keep(b"graph", between.pop(), record(b"theirs"))
        return plain(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    cache.keep(b"graph", b"ours", record(b"ours"))
    found = cache.find(b"graph", *KEY)
    assert found is not None and found[0] == b"ours"
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".engine", ".json"]


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, __: Path) -> Path:
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        EngineCache(tmp_path).keep(b"graph", b"ours", record(b"ours"))
    assert not list(tmp_path.iterdir())
