from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.profiles.budget import load_budget
from edgeiqa.profiles.device import Device, FactSource, device_names, load_device, read_device
from edgeiqa.runtime.errors import RecordError, UsageError

DOCUMENTED = FactSource(source="its data sheet", status="documented")


def device(sources: tuple[str, ...] = ("targets",), **facts: Any) -> Device:
    fields = {"name": "camera", "description": "a camera", "targets": ("onnx",), **facts}
    return Device(**fields, sources=dict.fromkeys(sources, DOCUMENTED))


def test_the_devices_of_the_package() -> None:
    expected = {"mobile", "raspberry-pi-5", "jetson-orin-nano", "rtx-4060", "xeon-amx", "browser", "iphone"}
    assert set(device_names()) == expected


@pytest.mark.parametrize("name", device_names())
def test_every_device_reads_and_says_where_its_facts_come_from(name: str) -> None:
    read = load_device(name)
    assert read.name == name
    assert all(len(fact.source) > 20 for fact in read.sources.values())
    assert "onnx" in read.targets
    if read.budget is not None:
        assert read.budget.status in ("documented", "measured")
    assert msgspec.json.decode(msgspec.json.encode(read), type=Device) == read


@pytest.mark.parametrize(("name", "capability"), [("jetson-orin-nano", "8.7"), ("rtx-4060", "8.9")])
def test_what_tensorrt_builds_for(name: str, capability: str) -> None:
    read = load_device(name)
    assert (read.targets[0], read.compute_capability) == ("tensorrt", capability)


def test_a_budget_by_name_is_that_budget() -> None:
    assert load_device("mobile").budget == load_budget("mobile")


def test_a_device_without_limits_has_no_budget() -> None:
    assert load_device("xeon-amx").budget is None


def test_peaks_are_multiply_adds_and_not_operations() -> None:
    # 2,048 operations of 8 bits a cycle, and 15.11 TFLOPS.
    assert load_device("xeon-amx").macs_per_cycle == {"int8": 1024, "bf16": 512}
    assert load_device("rtx-4060").peak_tmacs == {"fp32": 15.11 / 2}


@pytest.mark.parametrize("name", ["raspberry-pi", "", "../mobile", "pixel"])
def test_an_unknown_device_lists_those_there_are(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_device(name)
    assert caught.value.expected == f"one of: {', '.join(device_names())}"


def test_a_near_name_is_offered_and_a_budget_is_told_from_a_device() -> None:
    with pytest.raises(UsageError, match="write raspberry-pi-5"):
        load_device("raspberrypi5")
    with pytest.raises(UsageError, match="--budget uhd-50g, which is a budget"):
        load_device("uhd-50g")


def test_a_graph_that_does_not_run_there_is_refused() -> None:
    load_device("raspberry-pi-5").require_target("openvino")
    with pytest.raises(UsageError, match=r"openvino on the device rtx-4060.*tensorrt, onnx"):
        load_device("rtx-4060").require_target("openvino")


@pytest.mark.parametrize(
    ("facts", "sources"),
    [
        ({"memory_mib": 0}, ("targets", "memory_mib")),
        ({"bandwidth_gb_s": float("nan")}, ("targets", "bandwidth_gb_s")),
        ({"peak_tmacs": {"int8": -1.0}}, ("targets", "peak_tmacs")),
        ({"compute_capability": "sm_87"}, ("targets", "compute_capability")),
        ({"targets": ()}, ()),
    ],
)
def test_facts_out_of_range_are_refused(facts: dict[str, Any], sources: tuple[str, ...]) -> None:
    with pytest.raises(RecordError, match="numbers of more than 0"):
        device(sources, **facts)


@pytest.mark.parametrize(
    ("facts", "sources"),
    [({"memory_mib": 512}, ("targets",)), ({}, ("targets", "memory_mib")), ({}, ())],
)
def test_a_fact_without_a_source_is_refused(facts: dict[str, Any], sources: tuple[str, ...]) -> None:
    with pytest.raises(RecordError, match="a source for each fact"):
        device(sources, **facts)


def test_a_device_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "camera.toml"
    source = '\nsource = "its data sheet"\nstatus = "documented"\n'
    head = 'name = "camera"\ndescription = "a camera"\ntargets = ["onnx"]\nbudget = "uhd-50g"\n'
    file.write_text(f"{head}[sources.targets]{source}[sources.budget]{source}")
    assert read_device(file).budget == load_budget("uhd-50g")
    for text, said in (
        (head, "sources"),
        (head.replace("uhd-50g", "uhd-60g"), "no budget named 'uhd-60g'"),
        ("name = ", "not a device"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_device(file)
    with pytest.raises(UsageError, match="No such file"):
        read_device(tmp_path / "none.toml")
