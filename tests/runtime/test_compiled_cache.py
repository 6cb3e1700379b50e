"""Prepared graphs on the disk: the same scores, found again, and never believed when they are broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from edgeiqa.runtime.engines.compiled import CompiledCache
from edgeiqa.runtime.scorer import Scorer, default_bundle, load

from .available import ENGINE_NAMES, load_or_require_mend
from .bundles import Recipe, build, pixels


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.compiled"))


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_a_second_start_gives_the_same_scores_to_the_bit(engine: str, tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe())
    cache = tmp_path / "folder" / "cache"

    def start() -> Scorer:
        return Scorer(bundle, engine=engine, threads=1, cache=cache)

    first = load_or_require_mend(engine, start)
    if first is None:
        assert not cache.exists()
        return
    kept = {path: path.read_bytes() for path in entries(cache)}
    assert len(kept) == 1
    plain = Scorer(bundle, engine=engine, threads=1)
    second = start()
    assert {path: path.read_bytes() for path in entries(cache)} == kept
    for seed in range(5):
        assert plain.score(pixels(90, 60, seed=seed)) == first.score(pixels(90, 60, seed=seed))
        assert plain.score(pixels(90, 60, seed=seed)) == second.score(pixels(90, 60, seed=seed))


def test_the_default_bundle_scores_alike_from_its_cache(tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (500, 400, 3), dtype=np.uint8)
    expected = load(threads=1).score(photo)
    assert load(threads=1, cache=tmp_path).score(photo) == expected
    assert load(threads=1, cache=tmp_path).score(photo) == expected


@pytest.mark.parametrize("engine", ENGINE_NAMES)
@pytest.mark.parametrize("damage", ["flipped", "cut off", "empty", "another's"])
def test_an_entry_that_is_broken_is_made_again(engine: str, damage: str, tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe())
    cache = tmp_path / "cache"
    if load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine, cache=cache)) is None:
        return
    expected = Scorer(bundle, engine=engine).score(pixels())
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    broken = {
        "flipped": whole[:100] + bytes([whole[100] ^ 1]) + whole[101:],
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "another's": bytes(32) + b"no graph",
    }
    entry.write_bytes(broken[damage])
    assert Scorer(bundle, engine=engine, cache=cache).score(pixels()) == expected
    assert CompiledCache(cache).read(entry.name) is not None


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_an_entry_that_the_engine_does_not_take_again_is_no_hindrance(engine: str, tmp_path: Path) -> None:
    bundle, cache = build(tmp_path / "a.eiqa", Recipe()), tmp_path / "cache"
    if load_or_require_mend(engine, lambda: Scorer(bundle, engine=engine, cache=cache)) is None:
        return
    (entry,) = entries(cache)
    # Whole by its hash, and nothing that an engine reads.
    CompiledCache(cache).write(entry.name, b"another version's graph")
    assert Scorer(bundle, engine=engine, cache=cache).score(pixels()) == Scorer(bundle, engine=engine).score(pixels())


def test_no_folder_for_what_is_passing_costs_the_preparation_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    assert Scorer(bundle, cache=tmp_path / "cache").score(pixels()) == Scorer(bundle).score(pixels())


def test_the_default_engine_prepares_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    real = onnxruntime.InferenceSession

    def counted(*arguments: Any, **named: Any) -> Any:
        asked.append(arguments)
        return real(*arguments, **named)

    monkeypatch.setattr(onnxruntime, "InferenceSession", counted)
    bundle = default_bundle()
    Scorer(bundle, cache=tmp_path)
    first = len(asked)
    Scorer(bundle, cache=tmp_path)
    assert len(asked) == first + 1


def test_another_graph_version_setting_or_processor_is_another_entry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = CompiledCache(tmp_path)
    keys = {
        cache.key("onnxruntime", "1", "optimised", [b"graph"]),
        cache.key("openvino", "1", "optimised", [b"graph"]),
        cache.key("onnxruntime", "2", "optimised", [b"graph"]),
        cache.key("onnxruntime", "1", {"streams": 2}, [b"graph"]),
        cache.key("onnxruntime", "1", "optimised", [b"graph", b""]),
        cache.key("onnxruntime", "1", "optimised", [b"gra", b"ph"]),
    }
    monkeypatch.setattr("edgeiqa.runtime.engines.compiled.cpu_flags", lambda: None)
    keys.add(cache.key("onnxruntime", "1", "optimised", [b"graph"]))
    assert len(keys) == 7


def test_a_folder_that_cannot_be_written_costs_the_preparation_alone(tmp_path: Path) -> None:
    bundle = build(tmp_path / "a.eiqa", Recipe())
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert Scorer(bundle, cache=blocked).score(pixels()) == Scorer(bundle).score(pixels())
    assert blocked.read_text() == "no folder"
