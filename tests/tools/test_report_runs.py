"""The pages of teach, distill and quickstart: they show what was recorded, and say what was not."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.profiles.member_choice import MemberChoice, choose_members
from edgeiqa.profiles.metrics import Interval
from edgeiqa.runtime.errors import DataError
from edgeiqa.runtime.score_map import ScoreMap, Sigmoid
from edgeiqa.tools.report.charts import Bar
from edgeiqa.tools.report.distill_report import TeacherStudent, distill_page
from edgeiqa.tools.report.quickstart_report import ScoredPicture, quickstart_page
from edgeiqa.tools.report.teach_report import AccuracyRow, MemberCurve, OutOfFold, curves_by_term, teach_page
from edgeiqa.tools.report.text import readable
from edgeiqa.tools.selection_table import read_selection
from edgeiqa.tools.thumbnails import thumbnail
from PIL import Image

from .report_page import HOSTILE, Drawing, Page, is_affine, read_page, series

MEMBERS = ("first", "second")
MAP = ScoreMap(steps=(Sigmoid(slope=4.0, centre=0.5, low=0.0, high=100.0),), fitted_on="20 photographs")


def accuracy(of: str, value: float, width: float | None = 0.02) -> AccuracyRow:
    srcc = value if width is None else Interval(value=value, low=value - width, high=value + width)
    return AccuracyRow(of=of, n=40, srcc=srcc, plcc=value, rmse=None)


def teach(names: tuple[str, ...] = MEMBERS, image: str = "a.jpg", choices: tuple[MemberChoice, ...] = ()) -> str:
    rng = np.random.default_rng(0)
    raws = rng.uniform(0, 1, 40)
    return teach_page(
        "Teach",
        summary="Two members.",
        curves=[
            MemberCurve(name, fold, [{"epoch": 1, "loss": 0.5, "heldout_srcc": 0.4, "seconds": 3.0}])
            for fold, name in enumerate(names)
        ],
        out_of_fold=[
            OutOfFold(image, float(100 * raw), row % 2, names[row % 2], float(raw), float(MAP.apply(raw)))
            for row, raw in enumerate(raws)
        ],
        maps=dict.fromkeys(names, MAP),
        fold_figures=[accuracy("fold 0", 0.81, None), accuracy("average", 0.8, None), accuracy("pooled", 0.79)],
        selection_figures=[*(accuracy(name, 0.8) for name in names), accuracy("ensemble", 0.85)],
        facts={"photographs of": image},
        choices=choices,
    )


def drawings(html: str) -> list[Drawing]:
    return [Drawing(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def cells(page: Page) -> list[str]:
    return page.texts("td")


def test_the_page_of_teach() -> None:
    html = teach()
    page = read_page(html)
    assert page.texts("h2") == ["Learning", "Out of fold", "Selection part", "Score maps", "The run"]
    captions = page.texts("figcaption")
    assert captions[:3] == [
        "Loss by epoch.",
        "Held-out SRCC by epoch.",
        "MOS against the out-of-fold score of 40 photographs. On the dashed line both agree.",
    ]
    assert captions[4:] == ["first: fitted on 20 photographs.", "second: fitted on 20 photographs."]
    assert "first leaves out fold 0; second leaves out fold 1." in " ".join(page.texts("p"))
    heads = page.texts("th")
    assert heads[5:8] == ["fold 0", "average", "pooled"] and heads[13:16] == ["first", "second", "ensemble"]
    assert cells(page)[:4] == ["40", "0.810", "0.810", "not known"]
    assert "0.850\n0.830 to 0.870" in cells(page)
    # Forty photographs out of fold, twenty of each member.
    assert [len(drawings(html)[2].marks(series(fold))) for fold in (1, 2)] == [20, 20]
    assert "seconds" not in html


def both_ways(names: tuple[str, ...]) -> tuple[MemberChoice, ...]:
    """Of a good member, then two poor ones whose errors cancel, so that the ways differ; others are noise."""
    rng = np.random.default_rng(5)
    mos = rng.uniform(0, 100, 60)
    error = 80 * rng.normal(size=60)
    rows = [mos + 15 * rng.normal(size=60), mos - error, mos + error, *rng.uniform(0, 100, (len(names) - 3, 60))]
    macs = [10**9 * (row + 1) for row in range(len(names))]
    scores = np.stack(rows)
    greedy = choose_members(names, scores, mos, macs=macs, how="greedy", resamples=100)
    return greedy, choose_members(names, scores, mos, macs=macs, how="exhaustive", resamples=100)


def test_the_page_of_teach_shows_what_fewer_members_reach() -> None:
    choices = both_ways(("good", "minus", "plus"))
    html = teach(choices=choices)
    page = read_page(html)
    assert page.texts("h2") == ["Learning", "Out of fold", "Selection part", "Fewer members", "Score maps", "The run"]
    drawing = next(one for one in drawings(html) if one.alt.startswith("SRCC on the selection part over members"))
    assert {"greedy", "exhaustive", "members", "SRCC on the selection part"} <= set(drawing.text)
    # From one to three members: the same but for two, of which only all subsets find the pair.
    for index, choice in enumerate(choices, 1):
        marks = drawing.marks(series(index))
        marks = marks[np.argsort(marks[:, 0])]
        assert is_affine(marks[:, 0], [1, 2, 3])
        assert is_affine(marks[:, 1], [kept.accuracy.srcc.value for kept in choice.curve])
    text = cells(page)
    assert "minus, plus" in text and "5.000" in text and text.count("good, minus, plus") == 2
    assert "2 (best)" in page.texts("th")
    assert "which flatters these figures" in " ".join(page.texts("p"))


def test_fewer_members_of_any_name() -> None:
    page = read_page(teach(HOSTILE, choices=both_ways(HOSTILE)))
    assert any(readable(HOSTILE[0]) in cell for cell in cells(page))


def test_scores_of_the_selection_part_are_read_by_the_header(tmp_path: Path) -> None:
    table = tmp_path / "selection.csv"
    table.write_text("image,sha256,mos,b,ensemble,ensemble\nx.jpg,00,50,1,2,1.5\ny.jpg,01,60,3,4,3.5\n")
    known = read_selection(tmp_path)
    assert known.names == ("b", "ensemble")
    assert known.scores.tolist() == [[1, 3], [2, 4]] and known.mos.tolist() == [50, 60]
    for broken in ("", "image,sha256,mos,ensemble\n", "image,sha256,mos,b,ensemble\n", "a,b,c,d,ensemble\nx,0,1,2,3\n"):
        table.write_text(broken)
        with pytest.raises(DataError, match=r"selection\.csv.*edgeiqa teach --resume"):
            read_selection(tmp_path)
    for row in ("x.jpg,00,50,1", "x.jpg,00,50,good,1", "x.jpg,00,50,1,1\ny.jpg,01"):
        table.write_text(f"image,sha256,mos,b,ensemble\n{row}\n")
        with pytest.raises(DataError, match="selection"):
            read_selection(tmp_path)
    table.unlink()
    with pytest.raises(DataError, match="No such file"):
        read_selection(tmp_path)


def test_the_page_of_teach_takes_any_name() -> None:
    page = read_page(teach(HOSTILE, image=HOSTILE[0]))
    assert {readable(name) for name in HOSTILE} <= set(page.texts("th"))
    assert cells(page)[-1] == HOSTILE[0]


def test_the_page_of_a_teach_run_that_recorded_nothing() -> None:
    html = teach_page(
        "Teach",
        summary="",
        curves=[],
        out_of_fold=[],
        maps={},
        fold_figures=[],
        selection_figures=[accuracy("member", 0.8, None)],
        facts={},
    )
    page = read_page(html)
    text = " ".join(page.texts("p"))
    assert "No member has logged anything." in text and "The members have no score maps." in text
    assert [svg["aria-label"] for svg in page.all("svg")] == ["No values of MOS against predicted score."]


def test_a_member_without_a_log_is_named() -> None:
    points, counted = curves_by_term(
        [
            MemberCurve("a", 0, [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 0.5, "rank": 2.0}]),
            MemberCurve("b", 1, []),
        ]
    )
    assert counted == "step"
    assert points == {"loss": {"a": [(10, 1.0), (20, 0.5)], "b": []}, "rank": {"a": [(20, 2.0)], "b": []}}
    html = teach_page(
        "t",
        summary="",
        curves=[MemberCurve("a", 0, [{"loss": 1.0}, {"loss": 0.5}]), MemberCurve("b", 1, [])],
        out_of_fold=[],
        maps={"a": MAP},
        fold_figures=[],
        selection_figures=[],
        facts={},
    )
    assert "Nothing is logged of b." in " ".join(read_page(html).texts("p"))
    assert "Without values, not drawn: b." in html


def distill(pairs: list[TeacherStudent]) -> str:
    return distill_page(
        "Distil",
        summary="A student.",
        training=[{"step": step, "score": 0.1 / (step + 1), "rank": 0.3} for step in range(5)],
        pairs=pairs,
        figures=[accuracy("student", 0.8)],
        agreement=[accuracy("student", 0.9)],
        budget=[Bar("compute", 38.0, 50.0, "GMACs")],
        facts={"teacher": "default"},
    )


def test_the_page_of_distill_shows_ranks() -> None:
    pairs = [TeacherStudent(f"{i}.jpg", 10.0 * i, float(i**3), "blur" if i % 2 else "photograph") for i in range(1, 9)]
    html = distill([*pairs, TeacherStudent("odd.jpg", float("nan"), 1.0)])
    page = read_page(html)
    assert page.texts("h2") == ["Learning", "Student beside teacher", "Accuracy", "Budget", "The run"]
    assert "1 of 9 have no finite score and are left out." in " ".join(page.texts("p"))
    # The student orders as the teacher does: every image lies where both ranks agree.
    drawing = drawings(html)[2]
    marks = np.concatenate([drawing.marks(series(1)), drawing.marks(series(2))])
    assert len(marks) == 8 and {"blur", "photograph", "student's rank", "teacher's rank"} <= set(drawing.text)
    assert is_affine(marks[:, 0], [1, 3, 5, 7, 2, 4, 6, 8]) and is_affine(marks[:, 1], marks[:, 0])


def test_the_page_of_a_distillation_without_images() -> None:
    page = read_page(
        distill_page("d", summary="", training=[], pairs=[], figures=[], agreement=[], budget=[], facts={})
    )
    assert page.texts("h2") == ["Learning", "Student beside teacher"]
    assert "Nothing is logged of the training." in page.texts("p")
    assert [svg["aria-label"] for svg in page.all("svg")] == ["No values of teacher's rank against student's rank."]


def quickstart(names: tuple[str, ...] = ("china.jpg", "b.png")) -> str:
    picture = thumbnail(Image.new("RGB", (64, 48), (200, 30, 30)))
    return quickstart_page(
        "Quickstart",
        summary="Done in 96 seconds.",
        pictures=[ScoredPicture(name, picture, 71.25, 68.0, "somebody, CC BY 2.0") for name in names],
        distorted=[ScoredPicture("blur", picture, 20.0, 25.0, note="severity 1")],
        training=[{"epoch": 1, "score": 0.2}, {"epoch": 2, "score": 0.1}],
        severities={"blur": [(0, 70, 66), (1, 20, 25)], "jpeg": []},
        budget=[Bar("compute", 0.3, 0.5, "GMACs")],
        facts={"parity": "at most 0.01 score points"},
        limits="It shows that the steps work.\n\nIt does not show accuracy.",
    )


def test_the_page_of_quickstart() -> None:
    page = read_page(quickstart())
    captions = page.texts("figcaption")
    assert captions[0] == "china.jpg\nteacher 71.2\nstudent 68.0\nsomebody, CC BY 2.0"
    assert [image["alt"] for image in page.all("img")] == [
        f"Photograph {name}" for name in ("china.jpg", "b.png", "blur")
    ]
    assert "blur\nseverity 1\nteacher 20.0\nstudent 25.0" in captions
    assert page.texts("p")[1:3] == ["It shows that the steps work.", "It does not show accuracy."]
    alts = [svg["aria-label"] for svg in page.all("svg")]
    assert alts[0].endswith("teacher: 70 to 20; student: 66 to 25.")
    assert alts[1] == "No values of scores under jpeg: teacher, student."
    assert cells(page) == ["at most 0.01 score points"]


def test_the_page_of_quickstart_takes_any_name() -> None:
    page = read_page(quickstart(HOSTILE))
    assert [image["alt"] for image in page.all("img")] == [
        f"Photograph {readable(name)}" for name in (*HOSTILE, "blur")
    ]


def test_pages_are_the_same_for_the_same_records() -> None:
    assert teach() == teach() and quickstart() == quickstart()
