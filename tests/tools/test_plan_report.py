"""The Pareto plot and the page of a plan: what is drawn are the numbers, and it stands alone."""

from __future__ import annotations

import numpy as np
import pytest
from edgeiqa.compress.known_accuracy import QualityFigure
from edgeiqa.compress.plan import Plan
from edgeiqa.compress.plan_front import PlanRow
from edgeiqa.profiles.budget import parse_budget
from edgeiqa.runtime.errors import RecordError, UsageError
from edgeiqa.tools.report.plan_charts import Choice, pareto
from edgeiqa.tools.report.plan_report import family, plan_page

from .report_page import HOSTILE, Drawing, is_affine, read_page, series

NAN = float("nan")
POINTS = [
    Choice("a 64x64", "first", 1.0, 10.0),
    Choice("b 64x64", "second", 10.0, 30.0),
    Choice("c 64x64", "first", 100.0, 20.0),
]


def test_points_stand_at_their_logarithms() -> None:
    drawing = Drawing(pareto(POINTS, 1, limit=50.0))
    first, second = drawing.marks(series(1)), drawing.marks(series(2))
    assert (len(first), len(second)) == (2, 1)
    places = np.concatenate([first, second])
    assert is_affine(places[:, 0], np.log([1.0, 100.0, 10.0])) and is_affine(places[:, 1], [10.0, 20.0, 30.0])
    assert {"first", "second", "b 64x64", "GMACs"} <= set(drawing.text)
    assert drawing.alt.startswith("% of pixels seen against GMACs, 3 points in 2 groups: first, second.")
    assert "Chosen: b 64x64, 10 GMACs, 30 %" in drawing.alt and drawing.alt.endswith("The limit is 50 GMACs.")


def test_the_chosen_point_is_ringed_and_the_limit_drawn() -> None:
    plain, ringed = Drawing(pareto(POINTS)), Drawing(pareto(POINTS, 0))
    assert "Chosen" not in plain.alt and "a 64x64" not in plain.text and "a 64x64" in ringed.text
    upright = [line for line in Drawing(pareto(POINTS, limit=50.0)).lines("currentColor") if not np.ptp(line[:, 0])]
    assert len(upright) == 1 + len([line for line in plain.lines("currentColor") if not np.ptp(line[:, 0])])


def test_marked_points_are_stars_in_ink() -> None:
    drawing = Drawing(pareto(POINTS, marked=[Choice("mine", "this bundle", 1000.0, 40.0)]))
    (star,) = drawing.marks("currentColor")
    everything = np.concatenate([drawing.marks(series(1)), drawing.marks(series(2)), star[None]])
    assert is_affine(everything[:, 0], np.log([1.0, 100.0, 10.0, 1000.0]))
    assert is_affine(everything[:, 1], [10.0, 20.0, 30.0, 40.0])
    assert "this bundle" in drawing.text and "this bundle: mine, 1000 GMACs, 40 % of pixels seen." in drawing.alt
    assert Drawing(pareto([], marked=[Choice("mine", "this bundle", 1.0, 2.0)])).marks("currentColor").shape == (1, 2)


def test_a_long_name_of_the_chosen_one_leaves_the_legend_its_two_columns() -> None:
    drawing = Drawing(pareto([Choice("x" * 60, "g", 1.0, 2.0)], 0))
    assert f"{'x' * 11}…{'x' * 10}" in drawing.text and "x" * 60 in drawing.alt


def test_gains_of_several_decades_are_drawn_by_their_logarithm() -> None:
    gains = [1.0, 10.0, 100.0]
    (places,) = [Drawing(pareto([Choice(str(y), "g", y, y) for y in gains])).marks(series(1))]
    assert is_affine(places[:, 1], np.log(gains))


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert pareto(POINTS, 2) == pareto(list(POINTS), 2)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_and_nothing_else(name: str) -> None:
    drawing = Drawing(pareto([Choice(name, name, 1.0, 2.0)], 0, x_label=name, y_label=name))
    assert not [element for element in drawing.root.iter() if element.tag.endswith("script")]


def test_what_cannot_be_drawn() -> None:
    nothing = Drawing(pareto([]))
    assert " ".join(nothing.text) == nothing.alt == "No values of % of pixels seen against GMACs."
    for x, y in ((0.0, 1.0), (1.0, NAN), (-1.0, 1.0), (float("inf"), 1.0)):
        with pytest.raises(RecordError, match="finite numbers above 0"):
            Choice("a", "b", x, y)
    for chosen, limit in ((3, None), (-1, None), (0, 0.0)):
        with pytest.raises(UsageError, match="the choice"):
            pareto(POINTS, chosen, limit=limit)


def row(backbone: str, members: int = 1, top1: float | None = 70.0, counted: bool = True) -> PlanRow:
    quality = QualityFigure(
        backbone=backbone, dataset="D", photographs=9, srcc=0.8, conditions="c", origin="own", source="<a command>"
    )
    return PlanRow(
        backbone=backbone,
        view="whole",
        width=640,
        height=352,
        members=members,
        macs=2_000_000_000,
        counted=counted,
        parameters=3_000_000,
        size_bytes={"fp32": 12_000_000, "int8": 3_000_000},
        share=0.25,
        top1=top1,
        latency_ms=12.3,
        licence="cc-by-nc-4.0",
        quality=(quality,),
    )


def found(*rows: PlanRow, recommended: int | None = 0, others: tuple[PlanRow, ...] = ()) -> Plan:
    return Plan(
        image=(1280, 704),
        budget=parse_budget("50GMACs"),
        considered=100,
        dropped={"macs": 60},
        kept=40,
        rows=rows,
        recommended=recommended,
        others=others,
        unplanned=("peak_rss_mib",),
        machine="a machine",
        counted=3,
        seconds=2.0,
    )


def test_the_page_of_a_plan() -> None:
    rows = row("convnext_tiny"), row("nf_regnet_b0", top1=None, counted=False)
    html = plan_page(found(*rows, others=(row("swin_t", members=8),)), go_on="edgeiqa distill --student convnext_tiny")
    page = read_page(html)
    text = " ".join(page.texts("p"))
    for words in ("100 candidates", "1280x704", "60 dropped (60 by macs)", "edgeiqa distill --student", "peak_rss_mib"):
        assert words in text, words
    cells = page.texts("td")
    for words in ("~2.00", "2.00", "fp32 12.0\nint8 3.0", "25.0 %", "cc-by-nc-4.0", "not known", "8", "12"):
        assert words in cells, words
    assert "convnext_tiny (chosen)" in page.texts("th") and "nf_regnet_b0" in page.texts("th")
    assert len(page.all("svg")) == 2
    assert any("<a command>" in cell and "SRCC 0.800" in cell for cell in cells)


def test_a_page_without_a_choice() -> None:
    page = read_page(plan_page(found(row("b", top1=None), recommended=None), go_on=""))
    assert "To go on" not in " ".join(page.texts("p"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_page_of_any_name(name: str) -> None:
    read_page(plan_page(found(row(name)), go_on=name))


def test_families() -> None:
    assert [family(name) for name in ("convnextv2_atto", "convnext_atto", "tf_efficientnet_lite0", "resnet18")] == [
        *("ConvNeXt V2", "ConvNeXt", "EfficientNet-Lite", "resnet18"),
    ]
