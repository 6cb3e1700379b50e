"""``edgeiqa profile --html``: the page, the plan as far as it is counted, and what is refused before it measures."""

from __future__ import annotations

import dataclasses
import functools
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.compress import plan as plan_module
from edgeiqa.compress.plan_counts import CountCache, UncountedError
from edgeiqa.profiles.full_profile import Profile
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.preprocess import Crop, Preprocess, Resize, View
from edgeiqa.runtime.scorer import ensemble_bundle
from edgeiqa.tools import profile_page, verb_profile
from edgeiqa.tools.profile_page import own_figures, share_of_pixels

from .command import Ran, edgeiqa, files_in, require_refusal, rewritten
from .made_profile import made_profile
from .report_page import read_page

BACKBONE = "mobilenetv3_small_050"
IMAGE = ("--image", "320x192")


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> list[Profile]:
    """What is measured is made up, and noted."""
    measured: list[Profile] = []

    def profile_bundle(bundle: Bundle, *_: object, **__: object) -> Profile:
        measured.append(made_profile(subject=bundle.manifest.name))
        return measured[-1]

    monkeypatch.setattr(verb_profile, "profile_bundle", profile_bundle)
    return measured


@pytest.fixture
def few_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that looks at one backbone."""
    monkeypatch.setattr(plan_module, "plan", functools.partial(plan_module.plan, backbones=(BACKBONE,)))


def profile(*arguments: object) -> Ran:
    return edgeiqa("profile", *arguments)


def test_the_page_of_a_profile_that_is_measured(small_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "profile.html"
    ran = profile(small_bundle, "--brief", "--runs", 2, "--warmup", 0, "--html", path, "--runs-folder", tmp_path)
    assert ran.code == 0, ran.err
    no_plan, last = ran.err.splitlines()
    assert last == str(path) and no_plan.startswith("No plan of what else would fit: no budget bounds multiply-adds")
    page = read_page(path.read_text(encoding="utf-8"))
    assert page.texts("h1") == ["Profile: small"] and no_plan in page.texts("p")
    assert "No layers: left out of a brief profile." in page.texts("p")
    assert files_in(tmp_path) == {"profile.html"}


def test_the_plan_comes_from_what_is_counted(
    small_bundle: Path, tmp_path: Path, measuring: list[Profile], few_backbones: None
) -> None:
    runs, path = tmp_path / "runs", tmp_path / "p.html"
    call = (small_bundle, "--budget", "40MMACs", *IMAGE, "--runs-folder", runs, "--html", path, "--json")
    ran = profile(*call)
    command = f"edgeiqa plan --budget 40MMACs --image 320x192 --runs {runs}"
    assert ran.code == 1 and command in ran.err and "over the budget 40MMACs" in ran.err
    before = read_page(path.read_text(encoding="utf-8"), sorts=True)
    assert any(text.endswith(command) and f"no count of {BACKBONE}" in text for text in before.texts("p"))
    assert any("edgeiqa plan" in text and "No backbones" in text for text in before.texts("p"))
    assert files_in(tmp_path) == {"p.html"}

    counted = edgeiqa(*command.split()[1:], "--backbone", BACKBONE)
    assert counted.code == 0, counted.err
    cache = (runs / "plan-cache.json").read_bytes()
    ran = profile(*call)
    assert ran.code == 1 and command not in ran.err and len(ran.lines) == 1
    page = read_page(path.read_text(encoding="utf-8"), sorts=True)
    (front,) = [svg["aria-label"] for svg in page.all("svg") if svg["aria-label"].startswith("% of pixels seen")]
    assert f"Chosen: {BACKBONE}" in front and "this bundle: small, 2.5 GMACs, 6.667 %" in front
    assert any(text.startswith(f"edgeiqa distill --student {BACKBONE}") for text in page.texts("p"))
    assert any(svg["aria-label"].startswith("ImageNet top-1, % against GMACs") for svg in page.all("svg"))
    # Nothing was counted on the way.
    assert (runs / "plan-cache.json").read_bytes() == cache


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("16MB", "no budget bounds multiply-adds"),
        ("50G,ptflops-pytorch", "in the convention ptflops-pytorch"),
        ("1kMACs", "edgeiqa plan --budget 1kMACs"),
    ],
)
def test_a_plan_that_cannot_be_is_said(
    small_bundle: Path, tmp_path: Path, measuring: list[Profile], budget: str, words: str
) -> None:
    path = tmp_path / "p.html"
    ran = profile(small_bundle, "--budget", budget, "--html", path, "--runs-folder", tmp_path, "--json")
    (said,) = [text for text in read_page(path.read_text(), sorts=True).texts("p") if text.startswith("No plan")]
    assert words in said and said in ran.err


def test_a_broken_cache_costs_no_measurement(small_bundle: Path, tmp_path: Path, measuring: list[Profile]) -> None:
    (tmp_path / "plan-cache.json").write_text("{")
    ran = profile(
        *(small_bundle, "--budget", "50G", "--html", tmp_path / "p.html", "--runs-folder", tmp_path, "--json"),
    )
    assert ran.code == 0 and "plan-cache.json, which is not a cache of counts" in ran.err and len(ran.lines) == 1


def test_without_torch_the_page_says_what_is_missing(
    small_bundle: Path, tmp_path: Path, measuring: list[Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    path = tmp_path / "p.html"
    ran = profile(small_bundle, "--budget", "50G", "--html", path, "--json")
    assert ran.code == 0, ran.err
    text = read_page(path.read_text(encoding="utf-8"), sorts=True).texts("p")
    assert any('timm is not installed. To have it: pip install "edgeiqa[compress]"' in each for each in text)
    assert any("No backbones against their cost: timm is not installed" in each for each in text)
    assert "timm is not installed" in ran.err


def test_a_page_needs_its_extra_before_anything_is_measured(
    small_bundle: Path, tmp_path: Path, measuring: list[Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ran = profile(small_bundle, "--html", tmp_path / "p.html")
    require_refusal(ran, "no matplotlib", 'pip install "edgeiqa[report]"')
    assert measuring == [] and files_in(tmp_path) == set()


def test_places_that_cannot_be_written_are_refused_before_anything_is_measured(
    small_bundle: Path, tmp_path: Path, measuring: list[Profile]
) -> None:
    (tmp_path / "file").write_text("as it was")
    bundle = rewritten(small_bundle, tmp_path / "b.eiqa")
    content = bundle.read_bytes()
    for path, words in (
        (tmp_path / "none" / "p.html", "a folder that is not there"),
        (tmp_path, "which is a folder"),
        (tmp_path / "file" / "p.html", "a folder that is not there"),
        (Path("/proc/p.html"), "/proc/p.html"),
        (bundle, "which is read"),
    ):
        require_refusal(profile(bundle, "--html", path), words)
    require_refusal(profile(bundle, bundle, "--compare", "--html", tmp_path / "p.html"), "--html with --compare")
    require_refusal(profile(bundle, "--html", tmp_path / "p.html", "--image", "wide"), "'wide'")
    assert measuring == [] and bundle.read_bytes() == content
    assert files_in(tmp_path) == {"file", "b.eiqa"} and (tmp_path / "file").read_text() == "as it was"


def test_an_older_page_is_replaced_whole(
    small_bundle: Path, tmp_path: Path, measuring: list[Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.html"
    path.write_text("older")

    def broken(*_: object, **__: object) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(profile_page, "_outlook", broken)
    ran = profile(small_bundle, "--html", path, "--json")
    assert ran.code == 2 and "No space left" in ran.err and path.read_text() == "older"


def test_the_default_ensemble_tells_how_its_members_agree_with_people() -> None:
    first, second = own_figures(ensemble_bundle())
    assert (first.member, first.photographs, second.member) == ("lite0", 112, "lite1")
    assert first.srcc == pytest.approx(0.805, abs=5e-4) and first.macs == 1_128_219_392
    assert first.data == "selection part of LIVE In the Wild Image Quality Challenge, split=train"


@pytest.mark.parametrize(
    "note",
    [
        "text",
        {},
        {"selection": 3},
        {"selection": {"n": "many", "srcc": 0.5}},
        {"selection": {"n": 2, "srcc": 0.5}},
        {"selection": {"n": 9, "srcc": 1.5}},
        {"selection": {"n": 9}},
    ],
)
def test_notes_that_say_nothing_of_it_are_passed_over(small_bundle: Path, tmp_path: Path, note: object) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["provenance"]["notes"] = {manifest["members"][0]["name"]: note}

    assert own_figures(Bundle.open(rewritten(small_bundle, tmp_path / "n.eiqa", change))) == []


def test_the_share_of_pixels_is_that_of_a_plan(small_bundle: Path) -> None:
    bundle = Bundle.open(small_bundle)
    assert share_of_pixels(bundle, (320, 192)) == pytest.approx(64 * 64 / (320 * 192))
    assert share_of_pixels(bundle, (32, 32)) == 1.0
    (member,) = bundle.manifest.members
    for operations in (
        (Resize(width=64, height=64, fit="cover"),),
        (Resize(width=96, height=96), Crop(width=64, height=64)),
    ):
        other = msgspec.structs.replace(
            member, preprocess=Preprocess(views=(View(name="image", operations=operations),))
        )
        changed = msgspec.structs.replace(bundle.manifest, members=(other,))
        assert share_of_pixels(dataclasses.replace(bundle, manifest=changed), (320, 192)) is None


def test_a_cache_that_only_knows_makes_nothing(tmp_path: Path) -> None:
    cache = CountCache(tmp_path / "c.json", only_known=True)
    for ask in (cache.sounding, cache.gmacs_a_second):
        with pytest.raises(UncountedError, match=f"no count of {BACKBONE}"):
            ask(BACKBONE)
    assert cache.known_sounding(BACKBONE) is None and files_in(tmp_path) == set()
