from __future__ import annotations

import json
from typing import Any

import pytest
from edgeiqa.profiles import measurement
from edgeiqa.profiles.latency import measure_latency
from edgeiqa.profiles.measurement import HostFacts, Measurement, host_facts
from edgeiqa.runtime.errors import RecordError


def measured(**facts: Any) -> Measurement:
    return Measurement(
        subject="model.eiqa", host=host_facts(), engine="openvino", engine_version="2026.4", precision="f32", **facts
    )


def test_the_host_is_this_machine() -> None:
    facts = host_facts()
    assert facts.cores >= 1
    assert facts.python.startswith("3.")
    assert facts.cpu
    assert facts.architecture
    assert facts.os


_XEON = "processor\t: {}\nmodel name\t: Some CPU @ 2.00GHz\n\n"
_ARM = "processor\t: 0\nCPU part\t: 0xd0b\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (_XEON.format(0) + _XEON.format(1), "Some CPU @ 2.00GHz"),
        (_ARM + "\nModel\t\t: Some Board Rev 1.0\n", "Some Board Rev 1.0"),
        (_ARM, ""),
        ("", ""),
    ],
)
def test_the_processors_name_of_linux(text: str, name: str) -> None:
    assert measurement._named_in_cpuinfo(text) == name


def test_a_measurement_goes_through_json() -> None:
    full = measured(
        threads=2,
        load_ms=12.5,
        first_score_ms=80.0,
        graph=measure_latency(lambda: None, warmup=0, runs=3),
        file_to_score=measure_latency(lambda: None, warmup=0, runs=3),
        photo_width=3840,
        photo_height=2160,
        peak_rss_mib=200.5,
        energy_mj=1250.0,
        size_bytes=16_000_000,
        macs=50_000_000_000,
        parameters=5_000_000,
    )
    assert Measurement.from_json(full.to_json()) == full
    assert Measurement.from_json(full.to_json().decode()) == full


def test_what_was_not_measured_is_null_and_not_zero() -> None:
    written = json.loads(measured().to_json())
    assert {written[name] for name in ("load_ms", "graph", "file_to_score", "peak_rss_mib", "macs")} == {None}
    assert written["convention"] == "strict"


@pytest.mark.parametrize(
    "wrong",
    [
        {"load_ms": -1.0},
        {"load_ms": float("nan")},
        {"peak_rss_mib": float("inf")},
        {"energy_mj": -1.0},
        {"macs": -1},
        {"threads": 0},
    ],
)
def test_a_number_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecordError, match=next(iter(wrong))):
        measured(**wrong)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"load_ms": "fast"}, "load_ms"),
        ({"load_ms": -1.0}, "load_ms"),
        ({"loadms": 3.0}, "loadms"),
        ({"convention": "loose"}, "loose"),
    ],
)
def test_json_that_is_no_measurement_says_why(change: dict[str, Any], said: str) -> None:
    written = json.loads(measured().to_json()) | change
    with pytest.raises(RecordError, match=said):
        Measurement.from_json(json.dumps(written))


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe"])
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(RecordError, match="does not read"):
        Measurement.from_json(data)


def test_host_facts_are_plain_data() -> None:
    facts = HostFacts(cpu="a", architecture="b", cores=1, os="c", python="d")
    with pytest.raises(AttributeError):
        facts.cores = 2  # type: ignore[misc]
