"""Charts: what is drawn are the numbers, in the colours of the page, the same bytes each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.profiles.metrics import Interval
from edgeiqa.runtime.errors import DataError, RecordError, UsageError
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.tools.report import colours
from edgeiqa.tools.report.charts import (
    MOST_LINE_POINTS,
    MOST_SCATTER_POINTS,
    Bar,
    Severities,
    bars_with_limits,
    intervals,
    loss_curves,
    loss_panels,
    scatter,
    score_maps,
    severity_curves,
)

from .report_page import HOSTILE, Drawing, is_affine, series

NAN = float("nan")
MAP = ScoreMap(steps=(Sigmoid(slope=4.0, centre=0.5, low=0.0, high=100.0),))


def each_chart(name: str) -> list[str]:
    """Every kind of chart, with ``name`` wherever a name goes."""
    return [
        loss_curves({name: [(1, 0.5), (2, 0.25)], "other": [(1, 0.4)]}, x_label=name, y_label=name),
        loss_curves({name: []}),
        *loss_panels({name: {name: [(1, 1.0)]}}).values(),
        scatter([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [name, "b", name], x_label=name, y_label=name),
        *score_maps({name: ([0.1, 0.9], [20.0, 70.0], MAP)}).values(),
        *severity_curves({name: [(0, 70, 60), (1, 20, 30)]}, y_label=name).values(),
        bars_with_limits([Bar(name, 3.0, 2.0, name)]),
        intervals({name: Interval(value=0.5, low=0.4, high=0.6)}, x_label=name),
    ]


def test_a_line_goes_through_its_points() -> None:
    points = {"first": [(0.0, 0.0), (1.0, 1.0), (2.0, 4.0)], "second": [(0.0, 3.0), (2.0, 2.0)]}
    drawing = Drawing(loss_curves(points, x_label="epoch", y_label="Huber loss"))
    (first,), (second,) = drawing.lines(series(1)), drawing.lines(series(2))
    both = np.concatenate([first, second])
    assert is_affine(both[:, 0], [0, 1, 2, 0, 2]) and is_affine(both[:, 1], [0, 1, 4, 3, 2])
    assert {"first", "second", "epoch", "Huber loss"} <= set(drawing.text)
    assert drawing.alt == "Huber loss over epoch. first: 4 at the end; second: 2 at the end."


def test_a_loss_of_several_decades_is_drawn_by_its_logarithm() -> None:
    values = [1.0, 0.1, 0.02, 0.001]
    points = {"a": list(enumerate(values))}
    (by_itself,) = Drawing(loss_curves(points)).lines(series(1))
    (linear,) = Drawing(loss_curves(points, log=False)).lines(series(1))
    assert is_affine(by_itself[:, 1], np.log(values)) and not is_affine(linear[:, 1], np.log(values))
    assert is_affine(linear[:, 1], values)
    assert {"1", "0.1", "0.01", "0.001"} <= set(Drawing(loss_curves(points)).text)
    (narrow,) = Drawing(loss_curves({"a": [(0, 1.0), (1, 0.5), (2, 0.2)]})).lines(series(1))
    assert is_affine(narrow[:, 1], [1.0, 0.5, 0.2])


def test_there_is_no_logarithm_of_a_negative_loss() -> None:
    with pytest.raises(UsageError, match=r"a logarithmic axis for a loss of -1;.* log=False"):
        loss_curves({"a": [(0, 1.0), (1, -1.0)]}, log=True)


@pytest.mark.parametrize("empty", [[], [(1, NAN), (2, float("inf"))]])
def test_a_series_without_values_is_named_and_not_drawn(empty: list[tuple[float, float]]) -> None:
    drawing = Drawing(loss_curves({"gone": empty, "there": [(1, 2.0), (2, 1.0)]}))
    assert not drawing.lines(series(1)) and len(drawing.lines(series(2))) == 1
    assert "Without values, not drawn: gone." in drawing.text and drawing.alt.endswith("not drawn: gone.")
    nothing = Drawing(loss_curves({"gone": empty}))
    assert nothing.text == ["No values of loss: gone."] == [nothing.alt]


@pytest.mark.parametrize(
    ("svg", "said"),
    [
        (loss_curves({}), "No values of loss."),
        (scatter([], [], []), "No values of MOS against predicted score."),
        (scatter([NAN], [1.0], ["fold 0"]), "No values of MOS against predicted score: fold 0."),
        (score_maps({"m": ([], [], MAP)})["m"], "No values of raw outputs and MOS: m."),
        (severity_curves({"blur": []})["blur"], "No values of scores under blur: teacher, student."),
        (bars_with_limits([]), "No values of a quantity and its limit."),
        (intervals({}, x_label="SRCC"), "No values of SRCC."),
    ],
)
def test_a_chart_of_nothing_says_so(svg: str, said: str) -> None:
    assert " ".join(Drawing(svg).text) == said == Drawing(svg).alt


def test_a_gap_is_left_where_a_value_is_not_finite() -> None:
    drawing = Drawing(loss_curves({"a": [(0, 3.0), (1, NAN), (2, 1.0), (3, 2.0)]}))
    assert len(drawing.marks(series(1))) == 3
    assert "a: 1 of 4 values are not finite." in drawing.text


def test_a_long_line_is_drawn_as_means() -> None:
    steps = 10 * MOST_LINE_POINTS
    rising = [(float(step), float(step)) for step in range(steps)]
    drawing = Drawing(loss_curves({"a": rising}, x_label="step", log=False))
    (line,) = drawing.lines(series(1))
    assert len(line) <= MOST_LINE_POINTS and is_affine(line[:, 0], line[:, 1])
    assert "Each point is the mean of up to 10 values." in drawing.text
    assert "a: 3994 at the end" in drawing.alt  # The mean of 3990 to 3999 is 3994.5, to four digits.


def test_panels_are_drawn_term_by_term() -> None:
    panels = loss_panels({"heldout_srcc": {"a": [(1, 0.5)]}, "loss": {"a": [(1, 0.1)]}})
    assert list(panels) == ["heldout_srcc", "loss"]
    assert "held-out SRCC" in Drawing(panels["heldout_srcc"]).text
    assert panels["loss"] == loss_curves({"a": [(1, 0.1)]})


def test_a_scatter_shows_each_photograph_in_the_colour_of_its_fold() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(10, 90, 60), rng.uniform(20, 80, 60)
    labels = [f"fold {index % 3}" for index in range(60)]
    drawing = Drawing(scatter(x, y, labels))
    marks = [drawing.marks(series(fold + 1)) for fold in range(3)]
    assert [len(mark) for mark in marks] == [20, 20, 20]
    order = np.concatenate([np.arange(fold, 60, 3) for fold in range(3)])
    places = np.concatenate(marks)
    assert is_affine(places[:, 0], x[order]) and is_affine(places[:, 1], y[order])
    # One scale on both axes, and the dashed line is where they agree.
    scales = [np.polyfit(v[order], places[:, axis], 1) for axis, v in ((0, x), (1, y))]
    assert scales[0][0] == pytest.approx(scales[1][0], rel=1e-4)
    diagonals = [line for line in drawing.lines("currentColor") if np.ptp(line[:, 0]) and np.ptp(line[:, 1])]
    (ends,) = [
        np.column_stack([(line[:, axis] - scales[axis][1]) / scales[axis][0] for axis in (0, 1)]) for line in diagonals
    ]
    assert np.abs(ends[:, 0] - ends[:, 1]).max() < 0.01
    assert {"fold 0", "fold 1", "fold 2", "predicted score", "MOS"} <= set(drawing.text)


def test_a_scatter_of_very_many_photographs_is_thinned_and_says_so() -> None:
    count = 3 * MOST_SCATTER_POINTS
    values = np.linspace(0, 100, count)
    drawing = Drawing(scatter(values, np.where(np.arange(count) == 7, np.nan, values), ["all"] * count))
    assert len(drawing.marks(series(1))) == MOST_SCATTER_POINTS
    assert {f"1 of {count} points are not finite.", f"{MOST_SCATTER_POINTS} of {count - 1} points are drawn."} <= set(
        drawing.text
    )


def test_numbers_that_are_not_paired_are_refused() -> None:
    with pytest.raises(DataError, match=r"shape \[2\] and \[3\]"):
        scatter([1, 2], [1, 2, 3], ["a", "b"])
    with pytest.raises(DataError, match="1 labels"):
        scatter([1, 2], [1, 2], ["a"])
    with pytest.raises(DataError, match=r"shape \[1\] and \[0\]"):
        score_maps({"m": ([1.0], [], MAP)})


def test_a_score_map_is_drawn_over_the_raw_outputs() -> None:
    raw, mos = np.array([0.0, 0.4, 1.0]), np.array([10.0, 45.0, 80.0])
    drawing = Drawing(score_maps({"m": (raw, mos, MAP)})["m"])
    marks = drawing.marks(series(1))
    (curve,) = [line for line in drawing.lines("currentColor") if len(line) > 20]
    scales = [np.polyfit(values, marks[:, axis], 1) for axis, values in ((0, raw), (1, mos))]
    xs, ys = ((curve[:, axis] - scales[axis][1]) / scales[axis][0] for axis in (0, 1))
    assert xs[0] == pytest.approx(-0.1, abs=1e-3) and xs[-1] == pytest.approx(1.1, abs=1e-3)
    assert np.abs(ys - MAP.apply(xs)).max() < 0.02
    assert f"{MAP.apply(1.1):.4g} at 1.1" in drawing.alt


def test_score_maps_share_the_axis_of_the_opinions() -> None:
    drawn = score_maps({"a": ([0, 1], [1, 2], MAP), "b": ([0, 1], [40, 99], MAP)})
    heights = [dict(tick_heights(svg)) for svg in drawn.values()]
    assert heights[0] == heights[1] and len(heights[0]) > 2


def tick_heights(svg: str) -> list[tuple[str, float]]:
    """Labels of the upward axis, which end at its ticks."""
    found = re.findall(r'<text style="[^"]*text-anchor: end[^"]*" x="[^"]*" y="([^"]*)"[^>]*>([^<]*)<', svg)
    return [(label, float(height)) for height, label in found]


def test_teacher_and_student_are_drawn_against_severity_on_shared_axes() -> None:
    curves: dict[str, Severities] = {
        "blur": [(0, 70, 60), (0.5, 40, 45), (1, 10, 20)],
        "jpeg": [(0, 70, 60), (1, 65, NAN)],
    }
    drawn = severity_curves(curves)
    blur, jpeg = Drawing(drawn["blur"]), Drawing(drawn["jpeg"])
    (teacher,), (student,) = blur.lines(series(1)), blur.lines(series(2))
    both = np.concatenate([teacher, student])
    assert is_affine(both[:, 0], [0, 0.5, 1, 0, 0.5, 1]) and is_affine(both[:, 1], [70, 40, 10, 60, 45, 20])
    assert tick_heights(drawn["blur"]) == tick_heights(drawn["jpeg"])
    assert jpeg.lines(series(1))[0][0, 1] == teacher[0, 1]
    assert {"teacher", "student", "severity of blur"} <= set(blur.text)


def test_bars_are_shares_of_their_limits() -> None:
    svg = bars_with_limits([Bar("compute", 38.0, 50.0, "GMACs"), Bar("size", 60.0, 40.0, "MB")])
    drawing = Drawing(svg)
    ticks = {text: x for x, text in re.findall(r'text-anchor: middle[^"]*" x="([^"]*)"[^>]*>([0-9]+)<', svg)}
    unit = (float(ticks["100"]) - float(ticks["0"])) / 100
    within, over = (
        [
            np.ptp([float(x) for x in re.findall(r"[ML] (\S+) ", d)]) / unit
            for d in re.findall(rf'd="([^"]*)"[^>]*{fill}', svg)
        ]
        for fill in (r"fill: var\(--series-1", r"fill: url\(#h")
    )
    assert within == [pytest.approx(76.0, abs=0.01)] and over == [pytest.approx(150.0, abs=0.01)]
    assert {"compute", "38 of 50 GMACs", "60 of 40 MB"} <= set(drawing.text)
    assert drawing.alt.endswith("size: 60 of 40 MB, over the limit.")


@pytest.mark.parametrize(("value", "limit"), [(-1.0, 1.0), (1.0, 0.0), (NAN, 1.0), (1.0, float("inf"))])
def test_a_bar_has_a_value_and_a_limit(value: float, limit: float) -> None:
    with pytest.raises(RecordError, match="a limit above 0"):
        Bar("compute", value, limit, "GMACs")


def test_intervals_are_drawn_to_their_ends() -> None:
    rows = {"m": Interval(value=0.8, low=0.7, high=0.85), "n": Interval(value=0.6, low=0.5, high=0.75)}
    drawing = Drawing(intervals(rows | {"odd": Interval(value=NAN, low=NAN, high=NAN)}, x_label="SRCC"))
    lines = np.concatenate([line for line in drawing.lines(series(1)) if len(line) == 2])
    places = np.concatenate([lines[:, 0], drawing.marks(series(1))[:, 0]])
    assert is_affine(places, [0.7, 0.85, 0.5, 0.75, 0.8, 0.6])
    assert {"m", "0.800 (0.700 to 0.850)", "Without values, not drawn: odd."} <= set(drawing.text)


def test_names_are_text_whatever_they_hold() -> None:
    points = [(1.0, 0.5), (2.0, 0.25)]
    legends = [
        loss_curves(dict.fromkeys(HOSTILE, points)),
        scatter(np.arange(len(HOSTILE)), np.arange(len(HOSTILE)), HOSTILE),
        bars_with_limits([Bar(name, 3.0, 2.0, name) for name in HOSTILE]),
        intervals({name: Interval(value=0.5, low=0.4, high=0.6) for name in HOSTILE}, x_label=HOSTILE[0]),
    ]
    others = [
        loss_curves(dict.fromkeys(HOSTILE, ()), y_label=HOSTILE[0]),
        *loss_panels({name: {"a": points} for name in HOSTILE}, x_label=HOSTILE[-1]).values(),
        *severity_curves({name: [(0, 70, 60), (1, 20, NAN)] for name in HOSTILE}).values(),
        *score_maps({name: ([0.1, 0.9], [20.0, 70.0], MAP) for name in HOSTILE[::3]}).values(),
    ]
    for svg in legends + others:
        svg.encode()
        drawing = Drawing(svg)
        tags = {element.tag.rsplit("}", 1)[1] for element in drawing.root.iter()}
        assert tags <= {"svg", "g", "defs", "path", "use", "text", "tspan", "clipPath", "rect", "pattern"}
        assert all(len(text) < 70 for text in drawing.text)
    for svg in legends:
        shown = [text.lstrip("\u2060") for text in Drawing(svg).text]
        for name in HOSTILE:
            begin = re.split(r"[\n\udcff]", name)[0][:12]
            assert any(text.startswith(begin) for text in shown), name


def test_drawings_take_their_colours_from_the_page() -> None:
    for svg in each_chart("name"):
        assert "currentColor" in svg
        assert not re.findall(r"#[0-9a-f]{6}", re.sub(r"var\(--series-\d, #[0-9a-f]{6}\)", "", svg))
        assert "<style" not in svg and "metadata" not in svg
        assert set(re.findall(r"https?://[^\"' ]+", svg)) == {"http://www.w3.org/2000/svg"}


def contrast(a: str, b: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of the relative luminances."""

    def luminance(colour: str) -> float:
        parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_colours_stand_out_from_either_ground() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    for ground, ink, palette in (
        (colours.LIGHT_GROUND, colours.LIGHT_INK, colours.LIGHT_SERIES),
        (colours.DARK_GROUND, colours.DARK_INK, colours.DARK_SERIES),
    ):
        # Text at level AAA, graphical objects at level AA.
        assert contrast(ink, ground) >= 7.0
        assert min(contrast(colour, ground) for colour in palette) >= 3.0
        assert len(set(palette)) == 8


def test_more_series_than_colours_differ_in_dash_and_marker() -> None:
    names = [f"m{index}" for index in range(20)]
    svg = loss_curves({name: [(0, 1.0), (1, float(index))] for index, name in enumerate(names)})
    styles = {
        re.sub(r"stroke-dashoffset[^;]*", "", style)
        for style in re.findall(r'd="[^"]*" clip-path="[^"]*" style="(fill: none;[^"]*var\(--series[^"]*)"', svg)
    }
    assert len(styles) == 20
    assert set(names) <= set(Drawing(svg).text)


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    """In another process too, with another seed of hashes and a user's own style of matplotlib."""
    (tmp_path / "matplotlibrc").write_text(
        "font.size: 30\naxes.facecolor: red\nsvg.fonttype: path\ntext.usetex: True\n"
    )
    here = each_chart("name")
    assert here == each_chart("name")
    code = (
        "import sys; from edgeiqa.tools.report.charts import loss_curves, bars_with_limits, Bar;"
        "sys.stdout.write(loss_curves({'name': [(1, 0.5), (2, 0.25)], 'other': [(1, 0.4)]}, "
        "x_label='name', y_label='name'));"
        "sys.stdout.write(bars_with_limits([Bar('name', 3.0, 2.0, 'name')]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout == here[0] + here[6]
