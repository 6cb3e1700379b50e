"""``edgeiqa doctor``: what is here, what is missing and how it is had, and whether the engines verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.engines import cpu
from edgeiqa.runtime.engines.cpu import CpuFlags
from edgeiqa.runtime.scorer import Scorer
from edgeiqa.runtime.version import __version__
from edgeiqa.tools import verb_doctor

from ..runtime.available import why_unable
from .command import edgeiqa, rewritten


def use(monkeypatch: pytest.MonkeyPatch, bundle: Path) -> None:
    monkeypatch.setattr(verb_doctor, "default_bundle", lambda: Bundle.open(bundle))


def test_the_default_bundle_verifies_on_every_engine() -> None:
    ran = edgeiqa("doctor", "--json")
    assert (ran.code, ran.err) == (0, "")
    seen = ran.object
    assert seen["edgeiqa"] == __version__
    told = {name: engine["default_bundle"] for name, engine in seen["engines"].items()}
    assert told == {"onnxruntime": "verified", "openvino": "verified", "tensorrt": why_unable("tensorrt") or "verified"}
    assert seen["threads"] >= 1 and seen["host"]["python"].startswith("3.")
    assert set(seen["extras"]) == {"openvino", "evaluate", "report", "compress", "export", "lite", "tensorrt"}
    assert all(version for libraries in seen["extras"].values() for version in libraries.values())
    assert seen["cpu_flags"] is None or isinstance(seen["cpu_flags"], list)


def test_a_table_for_people(monkeypatch: pytest.MonkeyPatch, small_bundle: Path) -> None:
    use(monkeypatch, small_bundle)
    ran = edgeiqa("doctor")
    assert ran.code == 0
    for words in (f"edgeiqa {__version__} on Python 3.", "onnxruntime", "verified", "--weights lite", "CPU features"):
        assert words in ran.out


def test_what_is_missing_is_said_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch, small_bundle: Path) -> None:
    use(monkeypatch, small_bundle)
    monkeypatch.setattr(verb_doctor, "installed_engines", lambda: {"onnxruntime": "1.2.3", "openvino": None})
    known = verb_doctor._version
    monkeypatch.setattr(verb_doctor, "_version", lambda name: None if name == "scipy" else known(name))
    ran = edgeiqa("doctor")
    # An engine that is not there is no failure.
    assert ran.code == 0
    assert 'pip install "edgeiqa[openvino]"' in ran.out
    assert 'missing scipy: pip install "edgeiqa[evaluate]"' in ran.out
    seen = edgeiqa("doctor", "--json").object
    assert seen["engines"]["openvino"]["version"] is None
    assert seen["extras"]["evaluate"] == {"scipy": None}


def test_an_engine_that_gives_other_answers(
    monkeypatch: pytest.MonkeyPatch, small_bundle: Path, tmp_path: Path
) -> None:
    def another_answer(manifest: dict[str, Any]) -> None:
        manifest["members"][0]["artefacts"][1]["golden_raw"][0] += 0.5

    use(monkeypatch, rewritten(small_bundle, tmp_path / "other.eiqa", another_answer))
    ran = edgeiqa("doctor", "--json")
    assert ran.code == 1
    told = {name: engine["default_bundle"] for name, engine in ran.object["engines"].items()}
    assert (told["onnxruntime"], told["openvino"]) == ("verified", "GIVES OTHER ANSWERS")


def test_an_engine_that_does_not_load(monkeypatch: pytest.MonkeyPatch, small_bundle: Path) -> None:
    use(monkeypatch, small_bundle)

    def scorer(bundle: Bundle, engine: str) -> Scorer:
        if engine == "openvino":
            raise ImportError("libtbb.so.12: cannot open shared object file")
        return Scorer(bundle, engine=engine)

    monkeypatch.setattr(verb_doctor, "Scorer", scorer)
    ran = edgeiqa("doctor", "--json")
    assert ran.code == 1
    assert "libtbb" in ran.object["engines"]["openvino"]["default_bundle"]


def test_an_installation_without_the_default_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    use(monkeypatch, tmp_path / "default.eiqa")
    ran = edgeiqa("doctor", "--json")
    assert ran.code == 1
    assert "BundleFormatError" in ran.object["engines"]["onnxruntime"]["default_bundle"]


def test_int8_on_a_processor_whose_sums_saturate(
    monkeypatch: pytest.MonkeyPatch, small_bundle: Path, tmp_path: Path
) -> None:
    def int8(manifest: dict[str, Any]) -> None:
        manifest["precision"] = "int8"
        for artefact in manifest["members"][0]["artefacts"]:
            artefact |= {"precision": "int8", "stored_as": "int8", "capability": "x86-64 with VNNI"}

    use(monkeypatch, rewritten(small_bundle, tmp_path / "int8.eiqa", int8))
    monkeypatch.setattr(cpu, "cpu_flags", lambda: CpuFlags(True, frozenset({"avx2"})))
    ran = edgeiqa("doctor", "--json")
    told = {name: engine["default_bundle"] for name, engine in ran.object["engines"].items()}
    # It is the processor that cannot, as with a GPU that is not there.
    assert ran.code == 0
    assert told["onnxruntime"] == "verified"
    assert "without VNNI" in told["openvino"]
    assert "no VNNI: INT8 graphs with 8-bit weights take longer on onnxruntime" in edgeiqa("doctor").out
    monkeypatch.setattr(cpu, "cpu_flags", lambda: CpuFlags(True, frozenset({"avx2", "avx_vnni"})))
    ran = edgeiqa("doctor", "--json")
    assert ran.object["engines"]["openvino"]["default_bundle"] == "verified"
    assert "no VNNI" not in edgeiqa("doctor").out


def test_flags_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "processor : 0\nflags\t\t: fpu avx2 amx_bf16\n")
    assert verb_doctor._cpu_flags() == ["avx2", "amx_bf16"]
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "Features\t: fp asimddp i8mm\n")
    assert verb_doctor._cpu_flags() == ["asimddp", "i8mm"]

    def none(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", none)
    assert verb_doctor._cpu_flags() is None
