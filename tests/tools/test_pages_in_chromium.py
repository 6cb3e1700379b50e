"""The pages in a real browser: nothing to complain of, tables that sort, on a phone, in the dark and on paper."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from edgeiqa.profiles.budget import parse_budget
from edgeiqa.runtime.errors import EdgeIQAError, UsageError
from edgeiqa.tools.report.chromium import VARIABLE, Chromium, Tab, find_chromium, open_chromium
from edgeiqa.tools.report.colours import DARK_GROUND, LIGHT_GROUND
from edgeiqa.tools.report.page import Figure, Section, Table, render_page, write_page
from edgeiqa.tools.report.plan_charts import Choice, pareto
from edgeiqa.tools.report.profile_outlook import Outlook
from edgeiqa.tools.report.profile_report import profile_page
from PIL import Image

from .made_profile import made_profile
from .report_page import HOSTILE
from .test_plan_report import found, row

PHONE = (390, 844)
DESKTOP = (1280, 900)
PAPER = (718, 1000)  # A4 less Chromium's margins, in CSS pixels


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with open_chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile with all its parts, and names as long and as hostile as they come."""
    budget = parse_budget("50GMACs,10MB,30ms")
    measured = made_profile("first", "x" * 60, subject=HOSTILE[0])
    measured = made_profile("first", "x" * 60, subject=HOSTILE[0], violations=budget.check(measured))
    outlook = Outlook(
        plan=found(row("convnext_tiny"), row("nf_regnet_b0", top1=None), others=(row("swin_t", members=8),)),
        go_on="edgeiqa distill --student " + "y" * 90,
        here=Choice("made", "this bundle", 2.5, 1.8),
    )
    path = tmp_path_factory.mktemp("page") / "profile.html"
    write_page(path, profile_page(measured, budget=budget, ways_out=("a smaller input: half",), outlook=outlook))
    return path


@pytest.fixture
def tab(browser: Chromium, page: Path) -> Iterator[Tab]:
    """The page, of which the browser must not complain, and which must ask for nothing, whatever is done to it."""
    opened = browser.open(page)
    yield opened
    opened.close()
    assert opened.complaints == [] and opened.requests == []


def column(tab: Tab, at: int, table: int = 0) -> list[str]:
    """Cells of a column of a table that sorts, from the top."""
    cells: list[str] = tab.evaluate(
        f"[...document.querySelectorAll('table[data-sortable]')[{table}].tBodies[0].rows]"
        f".map(row => row.cells[{at}].textContent)"
    )
    return cells


def heading(at: int) -> str:
    return f"table[data-sortable] thead th:nth-child({at + 1}) button"


def sorted_by(tab: Tab) -> list[list[str]]:
    """Text and direction of the headings by which a table is sorted."""
    found: list[list[str]] = tab.evaluate(
        "[...document.querySelectorAll('th[aria-sort]')].map(th => [th.textContent, th.ariaSort])"
    )
    return found


def pixels(png: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB"))


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[at : at + 2], 16) for at in (1, 3, 5))


def test_a_heading_sorts_its_column(tab: Tab) -> None:
    tab.show(*DESKTOP)
    milliseconds = ["4.000", "2.000", "0.750", "0.500", "0.001"]
    assert column(tab, 6) == milliseconds and sorted_by(tab) == []
    tab.click(heading(6))
    assert column(tab, 6) == milliseconds and sorted_by(tab) == [["ms", "descending"]]
    tab.click(heading(6))
    assert column(tab, 6) == milliseconds[::-1] and sorted_by(tab) == [["ms", "ascending"]]
    # Numbers as numbers, the greatest first; empty cells below, in both directions.
    tab.click(heading(8))
    assert column(tab, 8) == ["50.00", "40.00", "10.00", "0.00", ""]
    assert sorted_by(tab) == [["MMACs", "descending"]]
    tab.click(heading(8))
    assert column(tab, 8) == ["0.00", "10.00", "40.00", "50.00", ""]
    # Text as text; rows stay whole.
    tab.click(heading(0))
    assert column(tab, 0) == ["conv_1", "conv_1", "conv_2", "fc", "relu"]
    assert dict(zip(column(tab, 0), column(tab, 3), strict=True))["relu"] == "Relu"


def test_each_table_sorts_by_itself(tab: Tab) -> None:
    tab.show(*DESKTOP)
    before = column(tab, 0)
    tab.click("section:has(.figures):not(:has(.beside)) " + heading(0))
    assert column(tab, 0, 1) == ["convnext_tiny (chosen)", "nf_regnet_b0"] and column(tab, 0) == before
    tab.click("section:has(.figures):not(:has(.beside)) " + heading(0))
    assert column(tab, 0, 1) == ["nf_regnet_b0", "convnext_tiny (chosen)"]


def test_the_keyboard_sorts_too(tab: Tab) -> None:
    tab.show(*DESKTOP)
    tab.evaluate(f"document.querySelector('{heading(5)}').focus()")
    tab.press("Tab", 9)
    assert tab.evaluate("document.activeElement.textContent") == "ms"
    tab.press("Enter", 13, "\r")
    tab.press("Enter", 13, "\r")
    assert column(tab, 6)[0] == "0.001" and sorted_by(tab) == [["ms", "ascending"]]


def test_without_scripts_the_table_is_whole_and_in_its_order(tab: Tab) -> None:
    tab.show(*DESKTOP, scripts=False)
    tab.load()
    assert tab.evaluate("document.querySelectorAll('table button').length") == 0
    assert column(tab, 6) == ["4.000", "2.000", "0.750", "0.500", "0.001"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_it_fits_the_screen_in_the_colours_of_the_reader(
    tab: Tab, size: tuple[int, int], scheme: Literal["light", "dark"]
) -> None:
    tab.show(*size, scheme=scheme)
    wide = tab.evaluate("[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
    assert max(wide) <= size[0]
    # Nothing but the inside of what scrolls by itself stands over the edge.
    over = tab.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => !e.closest('.table') && !e.closest('svg') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert over == []
    seen = pixels(tab.screenshot(whole=True))
    assert seen.shape[1] == size[0] and seen.shape[0] > 2 * size[1]
    ground = rgb(DARK_GROUND if scheme == "dark" else LIGHT_GROUND)
    share = float((np.abs(seen.astype(int) - ground).max(axis=2) <= 2).mean())
    assert share > 0.75
    assert (seen.mean() < 60) == (scheme == "dark") and (seen.mean() > 200) == (scheme == "light")


def test_charts_are_drawn_in_colours_that_stand_out_from_the_ground(tab: Tab) -> None:
    """The lightness of text and of each series is far from the ground's, in the light and in the dark."""
    for scheme in ("light", "dark"):
        tab.show(*DESKTOP, scheme=scheme)
        contrasts = tab.evaluate(
            "(() => { const l = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)"
            ".map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);"
            " return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };"
            " const ground = l(getComputedStyle(document.body).backgroundColor);"
            " const of = e => { const s = getComputedStyle(e);"
            " return /fill: (?!none)/.test(e.getAttribute('style')) ? s.fill : s.stroke; };"
            " return [...document.querySelectorAll('svg text, svg use')].map(e => of(e)).filter(c => /^rgb\\(/.test(c))"
            ".map(c => l(c)).map(x => (Math.max(x, ground) + .05) / (Math.min(x, ground) + .05)); })()"
        )
        assert len(contrasts) > 100 and min(contrasts) > 3


def test_labels_of_charts_stay_inside_and_apart(tab: Tab) -> None:
    tab.show(*PHONE)
    overlapping = tab.evaluate(
        "[...document.querySelectorAll('svg')].flatMap(svg => { const box = svg.getBoundingClientRect();"
        " const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim())"
        ".map(t => [t.textContent, t.getBoundingClientRect()]);"
        " const out = texts.filter(([, r]) => r.left < box.left - 2 || r.right > box.right + 2).map(([t]) => t);"
        " const near = texts.flatMap(([a, r], i) => texts.slice(i + 1).filter(([, s]) => r.left < s.right - 2 &&"
        " s.left < r.right - 2 && r.top < s.bottom - 3 && s.top < r.bottom - 3).map(([b]) => a + ' / ' + b));"
        " return [...out, ...near]; })"
    )
    assert overlapping == []


def test_on_paper_everything_is_there(tab: Tab) -> None:
    tab.show(*PAPER, scheme="dark", media="print")
    cut = tab.evaluate(
        "[...document.querySelectorAll('.table')].filter(e => e.scrollHeight > e.clientHeight + 1 ||"
        " e.getBoundingClientRect().right > innerWidth + 1).map(e => e.textContent.slice(0, 60))"
    )
    assert cut == []
    broken = tab.evaluate(
        "[...document.querySelector('table[data-sortable]').querySelectorAll('td')].filter(td => {"
        " const r = document.createRange(); r.selectNodeContents(td); return r.getClientRects().length > 1; })"
        ".map(td => td.textContent)"
    )
    assert broken == []
    wide = "Math.max(...[...document.querySelectorAll('table')].map(e => e.getBoundingClientRect().right))"
    assert tab.evaluate(wide) <= PAPER[0]
    # White, though the reader prefers the dark.
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.pdf().startswith(b"%PDF")


def test_a_browser_that_complains_is_heard(browser: Chromium, tmp_path: Path) -> None:
    """What the other tests rely on: a script that the policy forbids, and an address that is asked for."""
    page = tmp_path / "bad.html"
    policy = '<meta http-equiv="Content-Security-Policy" content="script-src \'sha256-AAAA\'">'
    page.write_text(f"<!doctype html><head>{policy}</head><img src='none.png'><script>1</script>")
    tab = browser.open(page)
    with pytest.raises(EdgeIQAError, match="ReferenceError"):
        tab.evaluate("nothing.here")
    tab.close()
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)
    assert [request.rsplit("/", 1)[1] for request in tab.requests] == ["none.png"]


def test_pages_without_a_table_that_sorts_have_no_script(browser: Chromium, tmp_path: Path) -> None:
    chart = Figure(pareto([Choice("a", "b", 1.0, 2.0)]), "A chart.")
    table = Table("A table.", ("of", "n"), [("x" * 300, "1")])
    write_page(tmp_path / "page.html", render_page("Plain", [Section("s", "t", [chart], [table])], summary="Plain."))
    tab = browser.open(tmp_path / "page.html")
    tab.show(*PHONE)
    assert tab.evaluate("[document.scripts.length, document.documentElement.scrollWidth]") == [0, PHONE[0]]
    tab.close()
    assert tab.complaints == [] and tab.requests == []


def test_no_chromium(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert os.access(find_chromium(), os.X_OK)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    with pytest.raises(UsageError, match="apt-get install chromium"):
        find_chromium()
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="no program chromium or chromium-browser"):
        find_chromium()


def test_a_browser_that_does_not_start_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho no sandbox here >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv(VARIABLE, str(broken))
    with pytest.raises(EdgeIQAError, match="no sandbox here"), open_chromium() as started:
        started.call("Browser.getVersion")
