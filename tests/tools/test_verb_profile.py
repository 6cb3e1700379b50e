"""``edgeiqa profile``: what is measured, what is printed, comparisons, and budgets."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from edgeiqa.profiles import full_profile, roofline
from edgeiqa.profiles.comparison import Comparison
from edgeiqa.profiles.cost import Cost
from edgeiqa.profiles.full_profile import Profile
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.tools.profile_show import show_profile

from .command import Ran, edgeiqa, require_refusal
from .made_profile import layer, layer_profile, made_profile, made_roofline

DOCS = Path(__file__).resolve().parents[2] / "docs" / "profile.md"


def profile(*arguments: object) -> Ran:
    """What budgets bound, and the stages."""
    return edgeiqa("profile", *arguments, "--runs", 3, "--warmup", 1, "--brief")


def whole_profile(*arguments: object) -> Ran:
    return edgeiqa("profile", *arguments, "--runs", 3, "--warmup", 1, "--threads", 1, "--streams", 2)


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A roofline of small arrays; no process for the peak memory, which has tests of its own."""
    monkeypatch.setattr(roofline, "_MOST_BYTES", 1 << 20)
    monkeypatch.setattr(roofline, "_SESSIONS", 1)
    monkeypatch.setattr(full_profile, "measure_peak_memory", lambda *_, **__: 123.0)


def test_the_figures(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--threads", 1, "--json")
    assert (ran.code, ran.err) == (0, "")
    seen = ran.object
    assert (seen["subject"], seen["engine"], seen["precision"], seen["threads"]) == ("small", "onnxruntime", "fp32", 1)
    # mobilenetv3_small_050 without its classifier and with a linear head, at 64x64.
    assert seen["macs"] == pytest.approx(2.0e6, rel=0.5)
    assert seen["parameters"] == pytest.approx(0.57e6, rel=0.05)
    assert seen["size_bytes"] == small_bundle.stat().st_size
    assert seen["convention"] == "strict"
    for latency in (seen["graph"], seen["file_to_score"]):
        assert (latency["runs"], latency["warmup"]) == (3, 1)
        assert 0 < latency["min_ms"] <= latency["p50_ms"] <= latency["p95_ms"] <= latency["max_ms"]
    assert seen["load_ms"] > 0 and seen["first_score_ms"] > 0 and seen["peak_rss_mib"] == 123
    assert {"cpu", "architecture", "cores", "os", "python"} <= set(seen["host"])
    assert seen["violations"] == []


def test_a_photograph_of_ones_own(small_bundle: Path, photos: Path) -> None:
    seen = profile(small_bundle, "--photo", photos / "05.jpg", "--json").object
    assert (seen["photo_width"], seen["photo_height"]) == (140, 90)


def test_a_table_for_people(pair_bundle: Path) -> None:
    ran = profile(pair_bundle, "--budget", "50GMACs,16MB")
    assert (ran.code, ran.err) == (0, "")
    for words in ("GMACs", "parameters", "file to score", "3 runs", "peak memory of a process", "onnxruntime", "p99"):
        assert words in ran.out
    # Each member's graph, what was left out, and whether the machine was quiet.
    for words in ("first", "second", "not measured: layers: left out of a brief profile", "the machine was "):
        assert words in ran.out


def test_the_json_is_the_record_that_is_documented(small_bundle: Path) -> None:
    ran = whole_profile(small_bundle, "--json")
    assert (ran.code, ran.err) == (0, "")
    seen = msgspec.json.decode(ran.out, type=Profile)
    assert json.loads(ran.out) == json.loads(seen.to_json())
    assert seen.layers[0].layers and seen.roofline is not None and len(seen.throughput) == 2
    sections = re.split(r"^### ", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    documented = {
        section.split("\n", 1)[0]: re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) for section in sections
    }
    assert documented == {kind.__name__: [field.name for field in msgspec.structs.fields(kind)] for kind in records()}


def records() -> list[type[msgspec.Struct]]:
    """The records that a profile is made of."""
    found: list[type[msgspec.Struct]] = []
    todo: list[object] = [Profile]
    while todo:
        kind = todo.pop()
        todo += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in found:
            found.append(kind)
            todo += [field.type for field in msgspec.structs.fields(kind)]
    assert Comparison in found
    return found


def test_the_slowest_layers_and_the_roofline(small_bundle: Path) -> None:
    ran = whole_profile(small_bundle, "--layers", 3)
    assert (ran.code, ran.err) == (0, "")
    for words in ("slowest 3 of", "of roofline", "peak fp32", "peak int8", "GB/s", "MACs a byte", "photographs/s"):
        assert words in ran.out
    assert "products of these layers" in ran.out and "one precision for this engine" in ran.out
    none = whole_profile(small_bundle, "--layers", 0)
    assert none.code == 0 and "slowest 3 of" not in none.out and "products of these layers" not in none.out


def test_layers_of_one_name_have_each_their_own_place(capsys: pytest.CaptureFixture[str]) -> None:
    twins = (layer("", 4.0, 400_000_000), layer("relu", 1.0, None), layer("", 2.0, 20_000_000))
    layers = (layer_profile("first", list(twins)),)
    show_profile(made_profile(layers=layers, roofline=made_roofline(layers)), layers=3)
    shares = [line for line in capsys.readouterr().out.splitlines() if "(compute)" in line]
    # 400 million at 100 GMACs/s take 4 ms, and 20 million .2 of 2.
    assert ["100%" in shares[0], "10%" in shares[1], len(shares)] == [True, True, 2]


def test_openvino_tells_its_kernels_and_every_product(small_bundle: Path) -> None:
    seen = msgspec.json.decode(whole_profile(small_bundle, "--engine", "openvino", "--json").out, type=Profile)
    (member,) = seen.layers
    assert all(layer.kernel for layer in member.layers)
    # All but the pools of squeeze-and-excitation, which strict may count and which are no products.
    assert member.graph_macs is not None and 0.95 < member.macs / member.graph_macs <= 1.0
    assert seen.precisions is not None and seen.precisions.contenders[0].name == "openvino fp32"
    for contender in seen.precisions.contenders[1:]:
        assert not contender.in_bundle and contender.precision in ("bf16", "fp16")


def test_bundles_side_by_side(small_bundle: Path, pair_bundle: Path, tmp_path: Path) -> None:
    ran = profile("--compare", small_bundle, pair_bundle, "--threads", 1)
    assert (ran.code, ran.err) == (0, "")
    for words in ("small.eiqa", "pair.eiqa", "x first", "here", "the machine was "):
        assert words in ran.out
    seen = msgspec.json.decode(profile("--compare", small_bundle, pair_bundle, "--json").out, type=Comparison)
    assert [contender.name for contender in seen.contenders] == ["small.eiqa", "pair.eiqa"]
    # Two files of one name are told apart by their folders.
    twin = Path(shutil.copy(small_bundle, tmp_path / "small.eiqa"))
    seen = msgspec.json.decode(profile("--compare", small_bundle, twin, "--json").out, type=Comparison)
    assert [contender.name for contender in seen.contenders] == [str(small_bundle), str(twin)]


def test_comparisons_that_make_no_sense(small_bundle: Path, pair_bundle: Path) -> None:
    require_refusal(profile("--compare"), "--compare of 0 bundles", "edgeiqa profile --compare A.eiqa B.eiqa")
    require_refusal(profile("--compare", small_bundle), "--compare of 1 bundles")
    require_refusal(profile("--compare", small_bundle, small_bundle), "two or more different ones")
    require_refusal(profile("--compare", small_bundle, pair_bundle, "--budget", "1GMACs"), "--budget")
    require_refusal(profile(small_bundle, pair_bundle), "2 bundles", "--compare")


def test_a_baseline(small_bundle: Path, tmp_path: Path) -> None:
    old = profile(small_bundle, "--threads", 1, "--json").object
    path = tmp_path / "old.json"
    path.write_text(json.dumps(old | {"macs": old["macs"] * 2, "host": old["host"] | {"cpu": "an abacus"}}))
    ran = profile(small_bundle, "--threads", 1, "--baseline", path)
    assert (ran.code, ran.err) == (0, "")
    assert "not the same as in old.json: cpu: an abacus before" in ran.out
    (line,) = [line for line in ran.out.splitlines() if line.split()[:1] == ["macs"]]
    assert "0.500" in line
    as_json = profile(small_bundle, "--threads", 1, "--baseline", path, "--json")
    assert msgspec.json.decode(as_json.out, type=Profile) and "changed since old.json" in as_json.err


def test_a_baseline_that_is_none_is_refused_before_anything_is_measured(small_bundle: Path, tmp_path: Path) -> None:
    require_refusal(profile(small_bundle, "--baseline", tmp_path / "none.json"), "none.json", "--json >")
    (tmp_path / "other.json").write_text("{}")
    require_refusal(profile(small_bundle, "--baseline", tmp_path / "other.json"), "other.json")


def test_an_engine_that_is_not_installed(small_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "edgeiqa.runtime.engines.ov", raising=False)
    require_refusal(profile(small_bundle, "--engine", "openvino"), "no openvino", "pip install")


def test_the_cost_of_members_is_added_up(small_bundle: Path, pair_bundle: Path) -> None:
    pair, small = (profile(bundle, "--json").object for bundle in (pair_bundle, small_bundle))
    assert pair["parameters"] > small["parameters"] and pair["macs"] > small["macs"]


def test_the_cost_by_operator_and_what_is_not_counted(pair_bundle: Path) -> None:
    ran = edgeiqa("profile", pair_bundle, "--cost", "--json")
    cost = msgspec.json.decode(ran.out, type=Cost)
    members = Bundle.open(pair_bundle).manifest.members
    assert cost.macs == sum(member.artefacts[0].macs or 0 for member in members)
    table = edgeiqa("profile", pair_bundle, "--cost", "--layers", 2)
    assert (table.code, table.err) == (0, "")
    (conv,) = [line.split() for line in table.out.splitlines() if line.split()[:1] == ["Conv"]]
    macs = sum(layer.macs for layer in cost.by_layer if layer.operator == "Conv")
    assert conv[1:3] == [f"{macs / 1e6:.2f}", f"{macs / cost.macs:.1%}"]
    assert cost.uncounted and all(f"{name} ({times} x)" in table.out for name, times in cost.uncounted.items())
    assert f"the dearest 2 of {len(cost.by_layer)} layers" in table.out and "leaves out activations" in table.out
    for other in (("--budget", "1GMACs"), ("--device", "mobile"), ("--compare",), ("--html", "p.html")):
        require_refusal(edgeiqa("profile", pair_bundle, "--cost", *other), "--cost alone")


def test_a_budget_that_is_broken(small_bundle: Path) -> None:
    ran = profile(small_bundle, "--budget", "1kMACs,16MB", "--json")
    assert ran.code == 1
    (violation,) = ran.object["violations"]
    assert (violation["quantity"], violation["limit"]) == ("macs", 1000)
    assert violation["ratio"] == pytest.approx(ran.object["macs"] / 1000)
    assert "over the budget 1kMACs,16MB" in ran.err and "macs" in ran.err
    table = profile(small_bundle, "--budget", "1B")
    assert table.code == 1 and "size_bytes" in table.err and "parameters" in table.out


def test_a_budget_by_name(small_bundle: Path) -> None:
    assert profile(small_bundle, "--budget", "uhd-50g", "--json").code == 0


@pytest.mark.parametrize("budget", ["fast", "5 parsecs", "1GMACs,2GMACs", "", "-3ms", "uhd-50"])
def test_a_budget_that_cannot_be_read(small_bundle: Path, budget: str) -> None:
    ran = profile(small_bundle, "--budget", budget, "--json")
    require_refusal(ran, f"--budget {budget}", "mobile, raspberry-pi-5", "uhd-50g")


def test_what_cannot_be_measured(small_bundle: Path, tmp_path: Path) -> None:
    require_refusal(profile(tmp_path / "missing.eiqa"), "not there")
    require_refusal(profile(small_bundle, "--photo", tmp_path / "missing.jpg"), "missing.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    require_refusal(profile(small_bundle, "--photo", tmp_path / "broken.jpg"), "broken.jpg")
    require_refusal(profile(small_bundle, "--precision", "int8"), "int8", "export that one")
