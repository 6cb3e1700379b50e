"""The page of a profile: its figures, its verdict, what is missing, and that it stands alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from edgeiqa.compress.known_accuracy import QualityFigure, known_accuracy
from edgeiqa.profiles.budget import Budget, parse_budget
from edgeiqa.profiles.full_profile import Profile
from edgeiqa.profiles.noise import Noise
from edgeiqa.tools.report.plan_charts import Choice
from edgeiqa.tools.report.profile_outlook import Outlook, OwnFigure
from edgeiqa.tools.report.profile_report import profile_page
from msgspec.structs import replace

from .made_profile import latency, layer_profile, made_profile
from .report_page import HOSTILE, Page, read_page
from .test_plan_report import found, row

NAN = float("nan")
OWN = OwnFigure(member="first", data="photographs of mine", photographs=99, srcc=0.81, macs=1_250_000_000)
FIGURE = QualityFigure(
    backbone="resnet18",
    dataset="D",
    photographs=50,
    srcc=0.7,
    macs=1_000_000_000,
    conditions="c",
    origin="own",
    source="s",
)


def held(measured: Profile, budget: Budget) -> Profile:
    return replace(measured, violations=budget.check(measured))


def page_of(measured: Profile, **options: Any) -> Page:
    return read_page(profile_page(measured, **options), sorts=bool(measured.layers) or bool(options.get("outlook")))


def rows_of(html: str, caption: str) -> list[list[str]]:
    """The cells of the rows of the table whose caption begins so."""
    tables = re.findall(r"<table.*?</table>", html, re.DOTALL)
    (table,) = [each for each in tables if re.search(rf"<caption[^>]*><span>{re.escape(caption)}", each)]
    body = table.split("<tbody>")[1]
    rows = re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", each, re.DOTALL) for each in rows]


def test_the_parts_of_a_page() -> None:
    budget = parse_budget("50GMACs,16MB,30ms")
    measured = held(made_profile(), budget)
    page = page_of(measured, budget=budget, ways_out=("a smaller input: half of it",))
    assert page.texts("h2") == [
        *("Budget", "Where the time goes", "Roofline", "Layers", "Precisions", "What else would fit"),
        *("Accuracy against cost", "What was not measured", "Circumstances"),
    ]
    text = " ".join(page.texts("p"))
    assert "a photograph of 640x480 pixels: onnxruntime 1.0, fp32, 2 threads, An Abacus." in text
    assert "30.0 ms (median of 20 runs; p95 33.0 ms)" in text and "The machine was noisy" not in text
    assert "NOT within the budget 50GMACs,16MB,30ms: latency_p95_ms: 33 ms of 30 ms (1.1 x)." in text
    assert len(page.all("svg")) == 5
    assert {"half of it", "An Abacus (wood), 2 cores", "no counters of <energy>", "55.50"} <= set(page.texts("td"))


def test_the_budget_beside_what_was_measured() -> None:
    budget = parse_budget("50GMACs,10MB,1J")
    html = profile_page(held(made_profile(), budget), budget=budget)
    rows = {row[0]: row[1:] for row in rows_of(html, "Multiply-adds are counted as strict.")}
    assert rows["compute"] == ["2.5 GMACs", "50 GMACs", "5 %", "kept"]
    assert rows["file"] == ["15 MB", "10 MB", "150 %", "OVER"]
    assert rows["energy of a photograph"] == ["not measured", "1000 mJ", "", "not measured"]
    assert rows["peak memory"] == ["200 MiB", "", "", ""]
    (bars,) = [svg for svg in read_page(html, sorts=True).all("svg") if svg["aria-label"].startswith("Shares")]
    assert "compute: 2.5 of 50 GMACs; file: 15 of 10 MB, over the limit" in bars["aria-label"]
    assert "energy" not in bars["aria-label"] and "Bounded, and not measured: energy of a photograph" in html


def test_multiply_adds_in_another_convention_are_not_what_the_budget_bounds() -> None:
    budget = parse_budget("50G,ptflops-pytorch")
    html = profile_page(held(made_profile(), budget), budget=budget)
    rows = {row[0]: row[1:] for row in rows_of(html, "Multiply-adds are counted as ptflops-pytorch.")}
    assert rows["compute"] == ["not measured", "50 GMACs", "", "not measured"]


def test_without_a_budget() -> None:
    measured = made_profile()
    page = page_of(measured)
    assert page.texts("h2")[0] == "Cost" and "No budget was named" in " ".join(page.texts("p"))
    assert {"2.5 GMACs", "7 M", "15 MB", "33 ms", "200 MiB", "not measured"} <= set(page.texts("td"))
    text = " ".join(page.texts("p"))
    assert "ithin the budget" not in text


def test_every_layer_is_in_the_table_the_slowest_first() -> None:
    measured = made_profile()
    html = profile_page(measured)
    rows = rows_of(html, "All 5 layers, the slowest first")
    assert [(row[0], row[1], row[2], row[6]) for row in rows] == [
        ("conv_1", "1", "second", "4.000"),
        ("conv_1", "2", "first", "2.000"),
        ("relu", "3", "first", "0.750"),
        ("conv_2", "4", "first", "0.500"),
        ("fc", "5", "second", "0.001"),
    ]
    # 50 M multiply-adds in 2 ms are 25 GMACs/s, a quarter of the peak; 1 MB would take less.
    assert rows[1][3:6] == ["Conv", "fp32", "1x8x4x4"]
    assert rows[1][7:] == [f"{100 * 2 / 7.251:.2f}", "50.00", "1.00", "25.0", "25", "compute"]
    assert rows[2][8:] == ["", "1.00", "", "", ""]
    # 30 MB at 20 GB/s take 1.5 of its 4 ms.
    assert rows[0][11:] == ["38", "memory"]
    assert "1 conv_1 of second; 2 conv_1 of first; 4 conv_2 of first; 5 fc of second." in html
    assert "second: not told by the engine are products inside Attention (25.0% of the time)." in html
    assert "first: products of 0.090 GMACs, 112.5% of the graph&#39;s strict 0.080 (the engine pads channels)." in html


def test_one_member_needs_no_column_of_members() -> None:
    html = profile_page(made_profile("alone"))
    assert '<th scope="col">member</th><th scope="col">kind' not in html
    assert rows_of(html, "All 3 layers")[0][:3] == ["conv_1", "1", "Conv"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"layers": (), "roofline": None, "unmeasured": {"layers": "no counters here"}},
            "No layers: no counters here.",
        ),
        ({"layers": (), "roofline": None, "unmeasured": {}}, "No layers: the profile holds none."),
        ({"roofline": None, "unmeasured": {"roofline": "no peak"}}, "No roofline: no peak."),
        ({"noise": Noise(noisy=True, reasons=("a <b>",), seconds=1.0, calibration=latency(1.0))}, "noisy: a <b>."),
        ({"precisions": None, "throughput": (), "noise": None, "energy": None}, "Measured with"),
        ({"stages": None, "load_ms": None}, "Measured with"),
        ({"stages": None, "graph": None, "file_to_score": None, "first_score_ms": None}, "Measured with"),
    ],
)
def test_what_was_not_measured_is_said(changes: dict[str, Any], words: str) -> None:
    measured = made_profile(**changes)
    assert words in " ".join(page_of(measured).texts("p"))


def test_layers_without_numbers() -> None:
    """A layer without a name's worth of time, twice the same name, and points that are not finite."""
    layers = (
        layer_profile("m", []),
        layer_profile("n", [replace(made_profile().layers[0].layers[0], time_ms=0.0)] * 2),
    )
    measured = made_profile(layers=layers)
    assert measured.roofline is not None
    broken = tuple(replace(point, share=NAN, intensity=NAN) for point in measured.roofline.layers)
    page_of(replace(measured, roofline=replace(measured.roofline, layers=broken)))


def test_the_plan_of_the_budget_with_the_bundle_in_it() -> None:
    plan = found(row("convnext_tiny"), row("nf_regnet_b0", top1=None), others=(row("swin_t", members=8),))
    outlook = Outlook(
        plan=plan,
        go_on="edgeiqa distill --student convnext_tiny",
        here=Choice("made", "this bundle", 2.5, 1.8),
        top1=[Choice("resnet18 224x224", "resnet18", 1.8, 70.0)],
        known=[FIGURE],
        own=[OWN],
    )
    html = profile_page(made_profile(), outlook=outlook)
    page = read_page(html, sorts=True)
    labels = [svg["aria-label"] for svg in page.all("svg")]
    (front,) = [label for label in labels if label.startswith("% of pixels seen")]
    assert "Chosen: convnext_tiny 640x352" in front and "this bundle: made, 2.5 GMACs, 1.8 %" in front
    text = " ".join(page.texts("p"))
    assert "edgeiqa distill --student convnext_tiny" in text and "100 candidates" in text
    assert {"What else would fit: the Pareto front", "Other ways to look"} <= set(page.texts("h2"))
    assert len(re.findall("data-sortable", html)) - html.count("table[data-sortable]") == 3
    (accuracy,) = [label for label in labels if label.startswith("SRCC")]
    assert "members of this bundle: first, 1.25 GMACs, 0.81 SRCC" in accuracy and "D, 50 photographs" in accuracy
    assert any(label.startswith("ImageNet top-1, % against GMACs, 1 points") for label in labels)
    assert rows_of(html, "What the bundle&#39;s manifest tells") == [["first", "0.810", "99", "1.250"]]


def test_without_a_plan_and_without_figures() -> None:
    outlook = Outlook(no_plan="No plan: <why>. To have it: edgeiqa plan", no_top1="No backbones.")
    text = " ".join(page_of(made_profile(), outlook=outlook).texts("p"))
    for words in ("No plan: <why>. To have it: edgeiqa plan", "No backbones.", "no figures of accuracy"):
        assert words in text


def test_figures_without_a_cost_are_in_the_table_and_not_drawn() -> None:
    costless = replace(FIGURE, macs=None, backbone="costless")
    inverse = replace(FIGURE, srcc=-0.2, backbone="inverse")
    outlook = Outlook(known=[costless, inverse], own=[replace_own(macs=None), replace_own(srcc=-0.5)])
    html = profile_page(made_profile(), outlook=outlook)
    labels = [svg["aria-label"] for svg in read_page(html, sorts=True).all("svg")]
    assert "No values of SRCC with people against GMACs." in labels
    assert "2 of 2 figures are in the table alone" in html and "costless" in html and "SRCC -0.200" in html
    assert rows_of(html, "What the bundle&#39;s manifest tells")[0][-1] == "not known"


def replace_own(**changes: Any) -> OwnFigure:
    facts: dict[str, Any] = {"member": "m", "data": "d", "photographs": 3, "srcc": 0.5, "macs": 1}
    return OwnFigure(**(facts | changes))


def test_figures_that_come_with_the_package_are_drawn_where_their_cost_is_known() -> None:
    html = profile_page(made_profile(), outlook=Outlook(known=known_accuracy().quality))
    (label,) = [svg["aria-label"] for svg in read_page(html, sorts=True).all("svg") if "SRCC" in svg["aria-label"]]
    drawn = [figure for figure in known_accuracy().quality if figure.macs is not None]
    assert drawn and f"{len(drawn)} points" in label


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_of_any_name(name: str) -> None:
    measured = made_profile(name, "other", subject=name, unmeasured={name: name}, engine=name)
    layers = tuple(
        replace(each, layers=tuple(replace(own, name=name, engine_type=name) for own in each.layers))
        for each in measured.layers
    )
    own = OwnFigure(member=name, data=name, photographs=9, srcc=0.5, macs=10**9)
    outlook = Outlook(no_plan=name, no_top1=name, own=[own], known=[replace(FIGURE, dataset=name, source=name)])
    budget = parse_budget("1GMACs")
    measured = held(replace(measured, layers=layers), budget)
    read_page(profile_page(measured, budget=budget, ways_out=(name,), outlook=outlook), sorts=True)


def test_the_same_profile_gives_the_same_bytes() -> None:
    assert profile_page(made_profile()) == profile_page(made_profile())
