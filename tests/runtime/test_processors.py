"""INT8 on processors whose sums of products saturate: computed exactly or refused, never wrong without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from edgeiqa.runtime.engines import cpu, ort
from edgeiqa.runtime.engines.cpu import CpuFlags, cpu_flags, lacks_vnni
from edgeiqa.runtime.engines.engine import open_engine
from edgeiqa.runtime.manifest import INT8_ON_ARM, INT8_ON_VNNI, INT8_ON_X86, Artefact

from .available import refused_or_require_mend
from .bundles import artefact, graph
from .test_engines import IMAGE, opened

OLD_X86 = CpuFlags(True, frozenset({"avx2", "avx512f"}))
OPTION = "session.x64quantprecision"


def int8(capability: str, *files: str) -> Artefact:
    record = artefact(files or ("tiny.onnx",), target="openvino" if len(files) > 1 else "onnx", precision="int8")
    return msgspec.structs.replace(record, capability=capability)


@pytest.mark.parametrize(
    ("text", "found", "lacks"),
    [
        ("processor : 0\nflags\t\t: fpu avx2\nflags\t\t: other\n", CpuFlags(True, frozenset({"fpu", "avx2"})), True),
        ("flags\t: avx2 avx_vnni\n", CpuFlags(True, frozenset({"avx2", "avx_vnni"})), False),
        ("flags\t: avx512_vnni\n", CpuFlags(True, frozenset({"avx512_vnni"})), False),
        ("Features\t: fp asimddp\n", CpuFlags(False, frozenset({"fp", "asimddp"})), False),
        ("cpu : POWER9\n", None, None),
        (None, None, None),
    ],
)
def test_what_the_system_tells(
    monkeypatch: pytest.MonkeyPatch, text: str | None, found: CpuFlags | None, lacks: bool | None
) -> None:
    def read(*_: object, **__: object) -> str:
        if text is None:
            raise FileNotFoundError
        return text

    monkeypatch.setattr(Path, "read_text", read)
    assert (cpu_flags(), lacks_vnni()) == (found, lacks)


def test_onnxruntime_is_asked_for_a_sum_that_saturates(monkeypatch: pytest.MonkeyPatch) -> None:
    if lacks_vnni() is False:
        assert not ort.sums_saturate()

    class Saturating:
        def __init__(self, *_: object, **__: object) -> None: ...

        def run(self, _: None, inputs: dict[str, Any]) -> list[Any]:
            assert (inputs["x"] == 255).all()
            # What onnxruntime gives on a Haswell: four pairs, each cut off at 32767.
            return [np.full((2, 1), 4 * 32767, dtype=np.int32)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Saturating)
    assert ort.sums_saturate.__wrapped__()


@pytest.mark.parametrize("saturate", [True, False])
def test_sessions_are_exact_where_sums_saturate(monkeypatch: pytest.MonkeyPatch, saturate: bool) -> None:
    monkeypatch.setattr(ort, "sums_saturate", lambda: saturate)
    options = ort.session_options(1)
    if saturate:
        assert options.get_session_config_entry(OPTION) == "1"
    else:
        with pytest.raises(RuntimeError, match=OPTION):
            options.get_session_config_entry(OPTION)


def test_a_float_graph_asks_nothing_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(ort, "sums_saturate", lambda: asked.append(True))
    ort.session_options(1, is_int8=False)
    assert asked == []


@pytest.mark.parametrize("capability", [INT8_ON_VNNI, INT8_ON_ARM, INT8_ON_X86])
def test_onnxruntime_refuses_no_int8_graph(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda: OLD_X86)
    assert opened("onnxruntime", record=int8(capability)) is not None


@pytest.mark.parametrize("capability", [INT8_ON_VNNI, INT8_ON_ARM, ""])
@pytest.mark.parametrize("files", [("tiny.onnx",), ("tiny.xml", "tiny.bin")])
def test_openvino_refuses_eight_bit_weights_where_its_sums_saturate(
    monkeypatch: pytest.MonkeyPatch, capability: str, files: tuple[str, ...]
) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda: OLD_X86)
    record = int8(capability, *files)

    def load() -> object:
        return open_engine("openvino", record, [graph(file) for file in files], inputs=IMAGE, threads=1)

    for got, mend in (("saturate", "--engine onnxruntime"), ("without VNNI", "7-bit weights")):
        refused_or_require_mend("openvino", load, got, mend)


@pytest.mark.parametrize(
    ("flags", "capability"),
    [
        (OLD_X86, INT8_ON_X86),
        (CpuFlags(True, frozenset({"avx_vnni"})), INT8_ON_VNNI),
        (CpuFlags(False, frozenset()), INT8_ON_VNNI),
        # Where the system does not tell, the golden answers do.
        (None, INT8_ON_VNNI),
    ],
)
def test_openvino_runs_what_does_not_saturate(
    monkeypatch: pytest.MonkeyPatch, flags: CpuFlags | None, capability: str
) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda: flags)
    opened("openvino", record=int8(capability))


def test_other_precisions_run_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "cpu_flags", lambda: OLD_X86)
    opened("openvino", record=artefact(["tiny.xml", "tiny.bin"], target="openvino"))
