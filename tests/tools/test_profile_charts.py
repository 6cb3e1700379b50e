"""The charts of a profile: bars that begin where the one before ended, and layers where their numbers put them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from edgeiqa.profiles.roofline import Roofline, RooflinePoint
from edgeiqa.runtime.errors import RecordError
from edgeiqa.tools.report.profile_charts import Step, kinds_of_layers, latency_breakdown, roofline_plot
from msgspec.structs import replace
from numpy.typing import NDArray

from .made_profile import BANDWIDTH, PEAKS, made_profile
from .report_page import HOSTILE, Drawing, is_affine, series

NAN = float("nan")
STEPS = [Step("decode", 4.0, 5.0), Step("graph", 20.0, 26.0), Step("score map", 0.5, 0.5)]


def bars(drawing: Drawing, colour: str) -> NDArray[np.float64]:
    """Left and right end of each bar, ``[n, 2]``, in drawing units."""
    found = []
    for path in drawing.root.iter("{http://www.w3.org/2000/svg}path"):
        if f"fill: {colour}" in path.get("style", "") and path.get("clip-path"):
            xs = [float(x) for x in re.findall(r"[ML] (\S+) \S+", path.get("d", ""))]
            found.append((min(xs), max(xs)))
    return np.array(found).reshape(-1, 2)


def roofline() -> Roofline:
    found = made_profile().roofline
    assert found is not None
    return found


def test_each_step_begins_where_the_one_before_ended() -> None:
    drawing = Drawing(latency_breakdown(STEPS, Step("file to score", 25.0, 28.0)))
    steps, whole = bars(drawing, series(1)), bars(drawing, "currentColor")
    assert is_affine(np.concatenate([*steps, *whole]), [0, 4, 4, 24, 24, 24.5, 0, 25])
    tails = [line for line in drawing.lines(series(1)) if len(line) == 2 and not np.ptp(line[:, 1])]
    both = np.concatenate([steps[0], *[line[:, 0] for line in tails]])
    assert is_affine(both, [0, 4, 4, 5, 24, 30])
    assert {"decode", "4.0 (p95 5.0)", "0.500 (p95 0.500)", "milliseconds"} <= set(drawing.text)
    assert drawing.alt.endswith("file to score: median 25.0 ms, p95 28.0 ms.")


def test_a_breakdown_of_what_there_is() -> None:
    assert " ".join(Drawing(latency_breakdown([])).text) == "No latency was measured."
    assert len(bars(Drawing(latency_breakdown([], Step("file to score", 3.0, 4.0))), "currentColor")) == 1
    assert len(bars(Drawing(latency_breakdown(STEPS)), series(1))) == 3
    # Nothing takes any time.
    Drawing(latency_breakdown([Step("a", 0.0, 0.0)]))


@pytest.mark.parametrize(("p50", "p95"), [(NAN, 1.0), (1.0, NAN), (2.0, 1.0), (-1.0, 1.0), (1.0, float("inf"))])
def test_a_step_has_finite_times_in_order(p50: float, p95: float) -> None:
    with pytest.raises(RecordError, match="0 <= p50 <= p95"):
        Step("a", p50, p95)


def test_layers_stand_at_the_logarithms_of_their_intensity_and_speed() -> None:
    found = roofline()
    drawing = Drawing(roofline_plot(found))
    drawn = [drawing.marks(series(1)), drawing.marks(series(2))]
    expected = [[point for point in found.layers if point.member == member] for member in ("first", "second")]
    assert [len(marks) for marks in drawn] == [len(points) for points in expected] == [2, 2]
    places, points = np.concatenate(drawn), [point for own in expected for point in own]
    assert is_affine(places[:, 0], np.log([point.intensity for point in points]))
    assert is_affine(places[:, 1], np.log([point.macs_per_second for point in points]))
    # Slope and level of each precision meet where peak and bandwidth do.
    roofs = [line for line in drawing.lines("currentColor") if len(line) == 3]
    corners = np.array([line[1] for line in roofs])
    ridges = [peak.macs_per_second / BANDWIDTH for peak in PEAKS]
    assert is_affine(np.concatenate([places[:, 0], corners[:, 0]]), np.log([p.intensity for p in points] + ridges))
    heights = [point.macs_per_second for point in points] + [peak.macs_per_second for peak in PEAKS]
    assert is_affine(np.concatenate([places[:, 1], corners[:, 1]]), np.log(heights))
    assert all(line[1, 1] == pytest.approx(line[2, 1]) for line in roofs)
    assert {"fp32 100 GMACs/s", "int8 400 GMACs/s", "layers of first", "all of second"} <= set(drawing.text)
    assert drawing.alt.startswith("Roofline of 4 layers: peak fp32 100 GMACs/s") and "memory 20 GB/s" in drawing.alt


def test_a_layer_of_more_time_has_a_larger_mark() -> None:
    plain = Drawing(roofline_plot(roofline()))
    weighed = Drawing(roofline_plot(roofline(), shares={0: 0.9, 1: NAN, 2: 7.0, 3: -1.0}))
    assert (plain.marks(series(1)) == weighed.marks(series(1))).all()

    def widths(drawing: Drawing) -> list[float]:
        paths = {element.get("id"): element.get("d", "") for element in drawing.root.iter() if element.get("id")}
        uses = [use for use in drawing.root.iter() if use.tag.endswith("use") and series(1) in use.get("style", "")]
        outlines = [paths[use.get("href", "")[1:]] for use in uses]
        return [max(map(abs, map(float, re.findall(r"-?\d+\.?\d*", outline)))) for outline in outlines]

    assert widths(weighed)[0] > 2 * widths(plain)[0] and widths(weighed)[1] == widths(plain)[1]


def test_numbers_stand_beside_their_layers_and_apart() -> None:
    drawing = Drawing(roofline_plot(roofline(), numbers={0: 7, 2: 11}))
    assert {"7", "11"} <= set(drawing.text) and "7" not in Drawing(roofline_plot(roofline())).text
    same = replace(roofline(), layers=(roofline().layers[0],) * 4)
    numbered = Drawing(roofline_plot(same, numbers={at: 101 + at for at in range(4)}))
    places = [
        element.get("transform") or (element.get("x"), element.get("y"))
        for element in numbered.root.iter("{http://www.w3.org/2000/svg}text")
        if (element.text or "") in ("101", "102", "103", "104")
    ]
    assert len(set(places)) == 4


def placeless(point: RooflinePoint, **changes: Any) -> RooflinePoint:
    return replace(point, **changes)


def test_what_has_no_place_is_counted_and_not_drawn() -> None:
    found = roofline()
    first, second, *others = found.layers
    broken = (placeless(first, intensity=NAN), placeless(second, macs_per_second=0.0), *others)
    drawing = Drawing(roofline_plot(replace(found, layers=broken), numbers={0: 77}))
    assert len(drawing.marks(series(1))) == 0 and len(drawing.marks(series(2))) == 2 and "77" not in drawing.text
    assert "2 of 4 layers have no finite place." in drawing.text


@pytest.mark.parametrize("changes", [{"peaks": ()}, {"bytes_per_second": 0.0}, {"layers": (), "whole": ()}])
def test_a_roofline_that_cannot_be_drawn(changes: dict[str, Any]) -> None:
    said = Drawing(roofline_plot(replace(roofline(), **changes))).alt
    assert said == "No values of multiply-adds a second against multiply-adds a byte."


def test_the_time_of_each_kind() -> None:
    drawing = Drawing(kinds_of_layers({"Conv": {"a": 6.0, "b": 2.0}, "Add": {"b": 2.0}}))
    # The second member is hatched.
    first, second = bars(drawing, series(1)), bars(drawing, "url(")
    both = np.concatenate([first[0], second[0], second[-1]])
    assert is_affine(both, [0, 6, 6, 8, 0, 2])
    assert {"Conv", "8.0 ms, 80.0%", "Add", "2.0 ms, 20.0%", "a", "b"} <= set(drawing.text)
    for nothing in ({}, {"Conv": {"a": 0.0}}, {"Conv": {"a": NAN}}):
        assert Drawing(kinds_of_layers(nothing)).alt == "No times of layers."


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_and_nothing_else(name: str) -> None:
    profile = made_profile(name)
    assert profile.roofline is not None
    drawn = (
        latency_breakdown([Step(name, 1.0, 2.0)]),
        kinds_of_layers({name: {name: 1.0}}),
        roofline_plot(profile.roofline, numbers={0: 1}),
    )
    for svg in drawn:
        assert not [element for element in Drawing(svg).root.iter() if element.tag.endswith("script")]


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert roofline_plot(roofline(), numbers={0: 1}) == roofline_plot(roofline(), numbers={0: 1})
    assert latency_breakdown(STEPS) == latency_breakdown(list(STEPS))
