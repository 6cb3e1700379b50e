"""``--budget`` and ``--device`` in profile, export and distill: what they bound together, and the ways out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from edgeiqa.profiles.bundle_cost import count_bundle
from edgeiqa.profiles.device import device_names
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.errors import ModelError, UsageError
from edgeiqa.tools.options import budget_of, with_device

from .command import edgeiqa, files_in, require_refusal

SMALL = ("--backbone", "mobilenetv3_small_050", "--size", "64x64", "--weights", "none")


def profile(*arguments: object) -> Any:
    return edgeiqa("profile", *arguments, "--brief", "--runs", 2, "--warmup", 0)


def test_amounts_names_and_devices_stand_side_by_side() -> None:
    budget = budget_of("40G, 4MB ,uhd-50g,raspberry-pi-5")
    assert budget.limits == {"macs": 40_000_000_000, "size_bytes": 4_000_000, "peak_rss_mib": 4096.0}
    assert budget_of("mobile").limits == {"macs": 600_000_000}
    assert budget_of("4.2G,ptflops-pytorch").convention == "ptflops-pytorch"


def test_a_device_adds_its_limits(capsys: pytest.CaptureFixture[str]) -> None:
    assert with_device(None, None) is None
    assert with_device("50G", None) == "50G"
    assert with_device("50G", "browser") == "50G,browser"
    assert with_device(None, "browser") == "browser"
    assert capsys.readouterr().err == ""
    assert with_device("50G", "xeon-amx") == "50G"
    assert "xeon-amx states no limit" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["xeon-amx", "50G,uhd-50g,ptflops-aten", "50G,pixel", "4.2G,ptflops-aten,mobile"])
def test_what_does_not_go_together(text: str) -> None:
    with pytest.raises(UsageError):
        budget_of(text)


@pytest.mark.parametrize("verb", [("profile",), ("export", *SMALL), ("distill", "--student", "mobilenetv3_small_050")])
def test_an_unknown_device_lists_those_there_are(verb: tuple[str, ...], tmp_path: Path) -> None:
    ran = edgeiqa(*verb, "--device", "pixel", *([] if verb[0] == "profile" else ["--runs", tmp_path]))
    require_refusal(ran, "no device named 'pixel'", ", ".join(device_names()))


def test_profile_holds_the_devices_limits_beside_the_budgets(small_bundle: Path) -> None:
    kept = profile(small_bundle, "--device", "raspberry-pi-5", "--budget", "1GMACs", "--json")
    assert (kept.code, kept.object["violations"]) == (0, [])
    over = profile(small_bundle, "--device", "mobile", "--budget", "1kMACs,1MB", "--json")
    assert over.code == 1
    assert {violation["quantity"]: violation["limit"] for violation in over.object["violations"]} == {
        "macs": 1000,
        "size_bytes": 1_000_000,
    }


def test_profile_says_the_ways_out(small_bundle: Path, pair_bundle: Path) -> None:
    macs = {path: profile(path, "--json").object["macs"] for path in (small_bundle, pair_bundle)}
    ran = profile(small_bundle, "--budget", macs[small_bundle] // 4)
    assert ran.code == 1
    # A quarter of the pixels, less what the division leaves.
    assert "a smaller input: about 31x31 in place of 64x64" in ran.err or "about 32x32 in place" in ran.err
    assert "a smaller student" in ran.err and "edgeiqa plan --budget" in ran.err
    assert "fewer members do not help: there is one" in ran.err
    ran = profile(pair_bundle, "--budget", macs[pair_bundle] - 1)
    assert "fewer members: the cheapest 1 of 2" in ran.err
    ran = profile(pair_bundle, "--budget", "1kB")
    assert "a smaller input does not help: weights are as many at every size" in ran.err


def test_a_smaller_input_helps_with_memory_and_not_with_weights(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--budget", "1 MiB RAM")
    assert ran.code == 1 and "a smaller input: takes less memory" in ran.err
    ran = profile(small_bundle, "--budget", "1us,1kB")
    assert "a smaller input does not help: weights are as many at every size" in ran.err
    # Of several the worst: in a thousandth of the time, and half the multiply-adds.
    macs = profile(small_bundle, "--json").object["macs"]
    ran = profile(small_bundle, "--budget", f"{macs // 2},1us")
    assert "a smaller input does not help: " in ran.err and " of the pixels of 64x64 would be left" in ran.err


def test_profile_says_what_is_over_before_it_measures(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--budget", "1kMACs,1k parameters,1MB,1us", "--json")
    first, second, third, *rest = ran.err.splitlines()
    for line, quantity in zip((first, second, third), ("parameters", "size_bytes", "macs"), strict=True):
        assert " before anything is measured: " in line and f"{quantity}: " in line
    assert ran.code == 1 and "before anything" not in "".join(rest)
    assert "before anything" not in profile(small_bundle, "--budget", "1GMACs,1us").err


def test_profile_says_that_what_it_measures_is_of_this_machine(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--device", "raspberry-pi-5", "--budget", "1GMACs")
    assert ran.code == 0 and "peak_rss_mib: of this machine (" in ran.err and "and not of raspberry-pi-5" in ran.err
    assert profile(small_bundle, "--device", "mobile").err == ""


def test_what_was_not_measured_has_no_way_out(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--budget", "1GMACs,ptflops-aten")
    assert ran.code == 1 and "not known to keep the budget 1GMACs" in ran.err and "over the budget" not in ran.err
    assert "macs (ptflops-aten) was not measured" in ran.err and "a smaller input" not in ran.err


def test_export_is_held_before_the_export(tmp_path: Path) -> None:
    bundle = tmp_path / "small.eiqa"
    ran = edgeiqa("export", *SMALL, "--budget", "1MMACs", "-o", bundle)
    require_refusal(ran, "mobilenetv3_small_050", "of 1 MMACs", "a smaller input", "a smaller student", code=1)
    assert "fewer members do not help" in ran.err and "exporting" not in ran.err
    assert files_in(tmp_path) == set()


def test_export_is_held_to_a_published_convention(tmp_path: Path) -> None:
    ran = edgeiqa("export", *SMALL, "--budget", "1MMACs,ptflops-aten", "-o", tmp_path / "small.eiqa")
    require_refusal(ran, "macs (ptflops-aten)", code=1)
    assert files_in(tmp_path) == set()


def test_export_is_held_by_its_bytes_before_anything_is_written(tmp_path: Path) -> None:
    ran = edgeiqa("export", *SMALL, "--budget", "1GMACs,1MB", "-o", tmp_path / "small.eiqa")
    require_refusal(
        ran, "size_bytes", "of 1 MB", "--store fp16 (about 1.", "a smaller student", "fewer members", code=1
    )
    assert "a smaller input does not help: " in ran.err
    assert files_in(tmp_path) == set()


def test_export_within_a_budget_says_every_convention(tmp_path: Path) -> None:
    bundle = tmp_path / "small.eiqa"
    ran = edgeiqa("export", *SMALL, "--budget", "1GMACs,5MB,30ms", "--device", "raspberry-pi-5", "-o", bundle)
    assert ran.code == 0, ran.err
    assert "not held here: latency_p95_ms, peak_rss_mib; edgeiqa profile BUNDLE --budget " in ran.err
    assert "GMACs strict" in ran.err and "GMACs ptflops-pytorch" in ran.err and "GMACs ptflops-aten" in ran.err
    cost = count_bundle(Bundle.open(bundle))
    (member,) = Bundle.open(bundle).manifest.members
    assert cost.macs == member.artefacts[0].macs
    assert cost.parameters == member.artefacts[0].parameters
    assert cost.by_layer[0].name.startswith(f"{member.name}/")


def test_export_refuses_a_form_that_the_device_does_not_take(tmp_path: Path) -> None:
    ran = edgeiqa("export", *SMALL, "--target", "openvino", "--device", "browser", "-o", tmp_path / "small.eiqa")
    require_refusal(ran, "openvino on the device browser", "onnx")
    assert files_in(tmp_path) == set()


def test_the_cost_of_a_bundle_covers_its_members(pair_bundle: Path) -> None:
    bundle = Bundle.open(pair_bundle)
    cost = count_bundle(bundle)
    members = bundle.manifest.members
    assert cost.macs == sum(member.artefacts[0].macs or 0 for member in members)
    assert cost.parameters == sum(member.artefacts[0].parameters or 0 for member in members)
    assert {layer.name.partition("/")[0] for layer in cost.by_layer} == {member.name for member in members}
    # Weights are stored as FP16.
    assert cost.weight_bytes == pytest.approx(2 * cost.parameters, rel=0.02)


def test_a_bundle_of_openvino_graphs_alone_is_not_counted(tmp_path: Path) -> None:
    bundle = tmp_path / "small.eiqa"
    assert edgeiqa("export", *SMALL, "--target", "openvino", "-o", bundle).code == 0
    with pytest.raises(ModelError, match="no ONNX graph"):
        count_bundle(Bundle.open(bundle))


def test_distill_is_held_before_the_training(tmp_path: Path) -> None:
    ran = edgeiqa(
        *("distill", "--student", "mobilenetv3_small_050", "--size", "64x64", "--weights", "none", "--teacher", "none"),
        *("--budget", "1MMACs", "--device", "mobile", "--runs", tmp_path / "runs", "--cache", tmp_path / "cache"),
    )
    require_refusal(ran, "1MMACs and mobile", "of 1 MMACs", "a smaller input", code=1)
    assert files_in(tmp_path) == set()
