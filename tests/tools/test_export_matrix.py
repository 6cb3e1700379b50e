"""The matrix of an export: a row for each target and precision, every cell a figure or why there is none."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.export.kinds import Kind
from edgeiqa.profiles.comparison import compare_calls
from edgeiqa.profiles.parity import ParityReport, check_parity
from edgeiqa.profiles.rank import RankReport, check_rank
from edgeiqa.profiles.signal_to_noise import SignalToNoise, measure_signal_to_noise
from edgeiqa.runtime.engines.cuda import Gpu
from edgeiqa.runtime.manifest import Precision
from edgeiqa.tools import export_matrix
from edgeiqa.tools.export_artefacts import ArtefactReport
from edgeiqa.tools.export_matrix import MatrixRow, matrix_of
from edgeiqa.tools.export_show import tell_export
from edgeiqa.tools.export_speed import Speed
from edgeiqa.tools.export_steps import Exported

SHA = "0" * 64
SCORES = np.linspace(10, 90, 40)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_matrix, "find_gpu", lambda: None)


def ranked(noise: float = 0.1, *, mos: bool = True, **limits: Any) -> RankReport:
    got = SCORES + noise * np.random.default_rng(0).normal(size=40)
    return check_rank(
        SCORES,
        got,
        [f"{place}.jpg" for place in range(40)],
        mos=SCORES if mos else None,
        engine="onnxruntime",
        precision="int8",
        images_sha256=SHA,
        **limits,
    )


def heard(*decibels: float, output: str = "features.last") -> tuple[SignalToNoise, ...]:
    """Of a member each."""
    reference = {f"m{place}.{output}": np.ones(4) for place in range(len(decibels))}
    got = {name: 1 + 10 ** (-db / 20) * np.ones(4) for name, db in zip(reference, decibels, strict=True)}
    return measure_signal_to_noise([reference], [got])


def artefact(kind: str, rank: RankReport | None = None, **fields: Any) -> ArtefactReport:
    rank = rank or ranked()
    given: dict[str, Any] = {
        "signal_to_noise": heard(30.0),
        "size_bytes": 1_000_000,
        "reason": "; ".join(rank.failures),
    } | fields
    return ArtefactReport(kind=kind, rank=rank, failed=not rank.passed, **given)


def parity(engine: str, by: float = 1e-4) -> tuple[ParityReport, ...]:
    def report(unit: Any) -> ParityReport:
        return check_parity(
            [50.0], [50.0 + by], ["a"], 0.05, engine=engine, precision="fp32", images_sha256=SHA, unit=unit
        )

    return report("score points"), report("raw")


def speed(engine: str = "openvino", **medians: float) -> Speed:
    """Of precisions, in ms; the same in each round but for a hundredth."""
    rounds = np.linspace(0.995, 1.005, 30)
    target = "onnx" if engine == "onnxruntime" else engine
    return Speed(
        latencies_ms={f"{target} {name}": median for name, median in medians.items()},
        verdicts=compare_calls({f"{engine} {name}": rounds * median for name, median in medians.items()}),
    )


def one_row(*artefacts: ArtefactReport, of: Speed | None = None) -> MatrixRow:
    target, precision = artefacts[0].kind.split()
    kinds = tuple(Kind(*report.kind.split()) for report in artefacts)  # type: ignore[arg-type]
    rows = matrix_of(Exported(kinds=kinds, artefacts=artefacts, speed=of or Speed()))
    return next(row for row in rows if (row.target, row.precision) == (target, precision))


def test_a_row_for_every_target_and_precision() -> None:
    precisions: tuple[Precision, ...] = ("fp16", "int8", "fp32")
    exported = Exported(
        kinds=(*(Kind("onnx", precision) for precision in precisions), Kind("openvino", "fp32")),
        parity=parity("onnxruntime") + parity("openvino"),
        artefacts=(artefact("onnx fp16"), artefact("onnx int8")),
        plain_bytes={"onnx fp32": 4_000_000, "openvino fp32": 5_000_000},
        speed=speed("onnxruntime", fp32=3.0, fp16=9.0, int8=1.5),
    )
    rows = matrix_of(exported, lacking=("onnx", "openvino", "tensorrt"))
    named = [str(row.kind) for row in rows]
    assert named == ["onnx fp32", "onnx bf16", "onnx fp16", "onnx int8", "openvino fp32", "tensorrt bf16"]
    fp32, bf16, fp16, int8, openvino, _ = rows
    assert (fp32.size_bytes, fp32.latency_ms, fp32.lacks["srcc"]) == (4_000_000, 3.0, "reference")
    assert fp32.verdict == "passed; 0.0001 points from the network on 1 photograph; int8 is 2.00x as fast here"
    assert bf16.status == "not made" and bf16.verdict.startswith("not made: onnxruntime's CPU provider")
    assert fp16.verdict == "passed; int8 is 6.00x as fast here"
    assert int8.verdict == "passed" and int8.latency_ms == 1.5 and int8.srcc is not None and int8.srcc > 0.99
    assert int8.srcc_drop is not None and int8.features_db == pytest.approx(30, abs=0.01)
    assert openvino.lacks["srcc"] == "by parity" and "not timed: not compared" in openvino.verdict
    # Nothing is empty without a word.
    figures = ("size_bytes", "latency_ms", "srcc", "srcc_drop", "swapped_share", "largest_change", "features_db")
    for row in rows:
        assert {name for name in figures if getattr(row, name) is None} == set(row.lacks) - {"p99_change"}
    assert len(matrix_of(exported)) == 4


def test_bf16_is_faster_than_int8_and_says_so_only_if_it_may_be_taken() -> None:
    both = speed(bf16=2.0, int8=3.0)
    int8, bf16 = artefact("openvino int8"), artefact("openvino bf16")
    assert one_row(int8, bf16, of=both).verdict == "passed; bf16 is 1.50x as fast here"
    # What the engine offers from the FP32 graph counts, what failed its gate does not.
    assert one_row(int8, of=both).verdict == "passed; bf16 is 1.50x as fast here"
    assert one_row(int8, artefact("openvino bf16", ranked(50.0)), of=both).verdict == "passed"
    assert one_row(int8, bf16, of=speed(bf16=2.0, int8=2.01)).verdict == "passed"
    assert "as fast" not in one_row(artefact("openvino int8", ranked(50.0)), bf16, of=both).verdict


def test_what_failed_and_what_was_not_made() -> None:
    failed = one_row(artefact("onnx int8", ranked(50.0)))
    assert failed.status == "failed" and failed.verdict.startswith("FAILED: SRCC to the reference")
    assert failed.size_bytes == 1_000_000 and failed.srcc is not None
    wrong = ArtefactReport(kind="onnx int8", failed=True, reason="scores that are not finite", mend="other")
    assert one_row(wrong).verdict == "FAILED: scores that are not finite"
    refused = ArtefactReport(kind="tensorrt int8", reason="a node it lacks", mend="another opset")
    row = one_row(refused)
    assert (row.status, row.verdict) == ("not made", "not made: a node it lacks (to mend: another opset)")
    assert set(row.lacks.values()) == {"not made"}
    rows = matrix_of(Exported(kinds=(Kind("onnx", "fp32"), Kind("onnx", "int8")), artefacts=(wrong,)))
    assert [row.status for row in rows] == ["not judged", "failed"]


def test_fp32_that_is_far_from_the_network() -> None:
    exported = Exported(
        kinds=(Kind("openvino", "fp32"),),
        parity=parity("openvino", 0.1),
        refused={"openvino fp32": "openvino fp32: score points 0.1 away from the network on a"},
        plain_bytes={"openvino fp32": 1},
    )
    (row,) = matrix_of(exported)
    assert (row.status, row.verdict.partition(";")[0]) == (
        "failed",
        "FAILED: score points 0.1 away from the network on a",
    )


def test_engines_and_speed_of_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    built = one_row(artefact("tensorrt int8"))
    assert (built.lacks["latency_ms"], built.verdict) == ("no GPU here", "passed")
    lacks = "tensorrt is not installed"
    assert one_row(artefact("tensorrt int8", engine_lacks=lacks)).verdict == f"passed; engine not built: {lacks}"
    monkeypatch.setattr(export_matrix, "find_gpu", lambda: Gpu("H200", 90))
    row = one_row(artefact("tensorrt int8"))
    assert row.lacks["latency_ms"] == "not timed" and "edgeiqa profile --engine tensorrt" in row.verdict


def test_what_an_engine_could_not_run_here() -> None:
    row = one_row(artefact("openvino fp16"), of=Speed(left_out={"openvino fp16": "no FP16 on this processor"}))
    assert row.lacks["latency_ms"] == "not timed" and row.verdict.endswith("not timed: no FP16 on this processor")


def test_figures_that_are_not_there() -> None:
    assert one_row(artefact("onnx int8", ranked(mos=False))).lacks["srcc_drop"] == "no opinions"
    assert (
        one_row(artefact("onnx int8", signal_to_noise=heard(30.0, output="score"))).lacks["features_db"]
        == "no features"
    )
    assert one_row(artefact("onnx int8", signal_to_noise=heard(np.inf))).lacks["features_db"] == "the same"
    assert one_row(artefact("onnx int8", signal_to_noise=heard(30.0, 12.0))).features_db == pytest.approx(12, abs=0.01)


def test_the_table_and_the_json_have_the_same_rows(capsys: pytest.CaptureFixture[str]) -> None:
    exported = Exported(
        kinds=(Kind("onnx", "fp32"), Kind("onnx", "int8"), Kind("openvino", "int8")),
        parity=parity("onnxruntime"),
        artefacts=(
            artefact("onnx int8", signal_to_noise=heard(12.0)),
            ArtefactReport(kind="openvino int8", reason="no openvino [2026]", mend="install it"),
        ),
        plain_bytes={"onnx fp32": 4_000_000},
        speed=speed("onnxruntime", fp32=30.0, int8=1.5),
    )
    tell_export(exported, Path("a.eiqa"), as_json=False, started=time.perf_counter(), lacking=("onnx",))
    shown = capsys.readouterr()
    lines = [line.strip() for line in shown.out.splitlines()]
    assert "verdict" in lines[2] and "times as fast" in shown.err
    by_kind = {" ".join(line.split()[:2]): line for line in lines}
    assert by_kind["onnx fp32"].split()[2:4] == ["4.00", "30"] and "reference" in by_kind["onnx fp32"]
    assert "12.0, not reached" in by_kind["onnx int8"] and by_kind["onnx int8"].endswith("passed")
    assert by_kind["openvino int8"].endswith("not made: no openvino [2026] (to mend: install it)")
    tell_export(exported, Path("a.eiqa"), as_json=True, started=time.perf_counter(), lacking=("onnx",))
    told = json.loads(capsys.readouterr().out)
    assert [f"{row['target']} {row['precision']}" for row in told["matrix"]] == list(by_kind)[-len(told["matrix"]) :]
    assert [row["verdict"] for row in told["matrix"]] == [by_kind[name].split("  ")[-1].strip() for name in by_kind][
        -4:
    ]
    assert told["latencies_ms"] == {"onnx fp32": 30.0, "onnx int8": 1.5}
    assert told["matrix"][2]["features_db"] == pytest.approx(12, abs=0.01)
