"""``edgeiqa quantize --sensitivity`` and ``--auto-mixed``: the ranking, the recipe, what is refused before any work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgeiqa.compress.data.items import Item
from edgeiqa.export.auto_mixed import MixedSearch
from edgeiqa.export.quant_recipe import RECIPES, QuantRecipe
from edgeiqa.export.sensitivity import SensitivityReport
from edgeiqa.profiles.rank import check_rank
from edgeiqa.runtime.errors import GateError, UsageError
from edgeiqa.tools import quantize_sensitivity
from edgeiqa.tools.export_artefacts import ArtefactReport
from edgeiqa.tools.export_options import parse_recipe
from edgeiqa.tools.quantize_sensitivity import choose_views, mixed_recipe

from .command import Ran, edgeiqa, files_in, require_refusal, save_photo
from .report_page import read_page

QUICK = ("--calibration-count", "16", "--count", "6", "--threads", "1")
Judge = Callable[[Callable[[QuantRecipe], bool]], list[QuantRecipe]]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Sixteen photographs to calibrate on, thirty to judge by."""
    root = tmp_path_factory.mktemp("sensitivity")
    for place in range(46):
        part = "calibration" if 2 <= place < 18 else "judged"
        save_photo(root / part / f"{place:02}.jpg", 100 + place, blur=place % 3, size=(96, 80))
    quick = root / "quick.json"
    quick.write_bytes(
        msgspec.json.encode(QuantRecipe(name="quick", scheme="u8s8", quantizer="onnxruntime", bias_correction="none"))
    )
    return ("--calibration", f"{root}/calibration", "--images", f"{root}/judged", "--recipe", f"{quick}", *QUICK)


@pytest.fixture(scope="module")
def measured(
    folders: tuple[str, ...], small_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Ran]:
    out = tmp_path_factory.mktemp("out")
    files = ("--plot", out / "bars.png", "--html", out / "page.html")
    ran = edgeiqa("quantize", small_bundle, "--sensitivity", *folders, *files, "--json")
    assert ran.code == 0, ran.err
    return out, ran


def test_the_ranking_as_json_a_plot_and_a_page(measured: tuple[Path, Ran]) -> None:
    out, ran = measured
    answer = ran.object
    report = msgspec.convert(answer["report"], SensitivityReport)
    assert (answer["search"], answer["recipe"], answer["output"]) == (None, None, None)
    assert (report.recipe.name, report.views, answer["calibration"]["count"]) == ("quick", 6, 16)
    assert report.distortions["none"] == 1 and sum(report.distortions.values()) == 6
    assert report.blocks and report.whole_rmse > 0
    assert files_in(out) == {"bars.png", "page.html"}
    assert (out / "bars.png").read_bytes().startswith(PNG)
    page = read_page((out / "page.html").read_text(encoding="utf-8"), sorts=True)
    assert page.texts("h1") == [f"Sensitivity to INT8: {answer['member']}"]
    cells = page.texts("td") + page.texts("th")
    assert all(block.block in "\n".join(cells) for block in report.blocks)


def test_the_ranking_for_people(ranked: SensitivityReport, folders: tuple[str, ...], small_bundle: Path) -> None:
    report = ranked
    ran = edgeiqa("quantize", small_bundle, "--sensitivity", *folders)
    assert ran.code == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert f"all quantized {report.whole_rmse:.2f}" in ran.out
    order = [line[0] for line in lines if line and line[0] in report.ranking]
    assert tuple(order) == report.ranking
    first = report.blocks[0]
    row = next(line for line in lines if line and line[0] == first.block)
    assert row[2] == f"{first.alone_rmse:.2f}" and f"{first.gain:+.2f}" in row


@pytest.fixture
def ranked(monkeypatch: pytest.MonkeyPatch, measured: tuple[Path, Ran]) -> SensitivityReport:
    """The ranking is known already."""
    report = msgspec.convert(measured[1].object["report"], SensitivityReport)
    monkeypatch.setattr(quantize_sensitivity, "measure_sensitivity", lambda *_, **__: report)
    return report


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, ranked: SensitivityReport) -> Judge:
    """Set what passes the gate; gives the list of recipes that were tried, filled as they are."""

    def set_gate(passes: Callable[[QuantRecipe], bool]) -> list[QuantRecipe]:
        tried: list[QuantRecipe] = []

        def made(*_: Any, options: Any, **__: Any) -> list[tuple[dict[str, Any], ArtefactReport]]:
            tried.append(options.recipe)
            good = passes(options.recipe)
            got = [1.0, 2.0, 3.0] if good else [3.0, 2.0, 1.0]
            rank = check_rank(
                [1.0, 2.0, 3.0], got, list("abc"), engine="onnxruntime", precision="int8", images_sha256="0" * 64
            )
            return [({}, ArtefactReport(kind="onnx int8", rank=rank, reason="; ".join(rank.failures)))]

        monkeypatch.setattr(quantize_sensitivity, "make_artefacts", made)
        return tried

    return set_gate


def test_the_recipe_with_the_fewest_float_blocks(
    judge: Judge, ranked: SensitivityReport, folders: tuple[str, ...], small_bundle: Path, tmp_path: Path
) -> None:
    ranking = ranked.ranking
    needed = {ranking[0], ranking[3]}
    tried = judge(lambda recipe: needed <= set(recipe.float_blocks))
    path = tmp_path / "mixed.json"
    ran = edgeiqa("quantize", small_bundle, "--auto-mixed", *folders, "-o", path)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[-1] == str(path) and f"--recipe {path}" in ran.err
    recipe = msgspec.json.decode(path.read_bytes(), type=QuantRecipe)
    assert (recipe.name, recipe.float_blocks) == ("quick-mixed", (ranking[0], ranking[3]))
    assert tried[0].float_blocks == () and recipe in tried
    assert files_in(tmp_path) == {"mixed.json"}
    # It is not replaced unasked.
    require_refusal(edgeiqa("quantize", small_bundle, "--auto-mixed", *folders, "-o", path), "which exists")


def test_a_gate_that_nothing_passes_is_an_honest_no(
    judge: Judge, folders: tuple[str, ...], small_bundle: Path, tmp_path: Path
) -> None:
    judge(lambda _: False)
    call = ("quantize", small_bundle, "--auto-mixed", *folders, "-o", tmp_path / "mixed.json", "--json")
    ran = edgeiqa(*call)
    assert ran.code == 1 and "--aware" in ran.err and "failed: SRCC" in ran.err
    assert ran.object["recipe"] is None and ran.object["search"]["float_blocks"] is None
    assert files_in(tmp_path) == set()


def test_a_graph_that_fails_to_run_is_a_try_that_failed(
    judge: Judge, folders: tuple[str, ...], small_bundle: Path, tmp_path: Path
) -> None:
    def fails_whole(recipe: QuantRecipe) -> bool:
        if not recipe.float_blocks:
            raise GateError("a score that is not finite", expected="numbers", mend="another recipe")
        return True

    judge(fails_whole)
    ran = edgeiqa("quantize", small_bundle, "--auto-mixed", *folders, "-o", tmp_path / "mixed.json")
    assert ran.code == 0 and "failed: a score that is not finite" in ran.err
    assert len(parse_recipe(str(tmp_path / "mixed.json")).float_blocks) == 1


def test_a_search_that_really_quantizes(
    folders: tuple[str, ...],
    small_bundle: Path,
    tmp_path: Path,
    ranked: SensitivityReport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gate allows no change to speak of: everything quantized fails, with every block float nothing changes."""
    passed: list[bool] = []

    def first_and_last(ranking: tuple[str, ...], passes: Callable[[tuple[str, ...]], bool]) -> MixedSearch:
        passed.extend([passes(()), passes(ranking)])
        return MixedSearch(float_blocks=ranking, tries=())

    monkeypatch.setattr(quantize_sensitivity, "fewest_float_blocks", first_and_last)
    path = tmp_path / "mixed.json"
    ran = edgeiqa("quantize", small_bundle, "--auto-mixed", *folders, "--max-change", "0.0001", "-o", path)
    assert ran.code == 0, ran.err
    assert passed == [False, True] and "expected at most 0.0001" in ran.err
    assert parse_recipe(str(path)).float_blocks == ranked.ranking


@pytest.mark.usefixtures("ranked")
def test_few_photographs_will_do_to_measure_and_not_to_search(
    folders: tuple[str, ...], small_bundle: Path, tmp_path: Path
) -> None:
    for place in range(2):
        save_photo(tmp_path / "two" / f"{place}.jpg", 90 + place, size=(96, 80))
    before = files_in(tmp_path)
    named = tuple(f"{tmp_path}/two" if word.endswith("/judged") else word for word in folders)
    ran = edgeiqa("quantize", small_bundle, "--sensitivity", *named)
    assert ran.code == 0, ran.err
    search = ("quantize", small_bundle, "--auto-mixed", "-o", tmp_path / "mixed.json")
    require_refusal(edgeiqa(*search, *named), "2 photographs for the gate to judge: two", "--images FOLDER")
    # A limit that is asked for is held, or refused.
    require_refusal(edgeiqa(*search, *folders, "--max-srcc-drop", "0.1"), "--max-srcc-drop, and 0 of 30")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sensitivity", "--epochs", "3"), ("--epochs", "--aware")),
        (("--aware", "--count", "3"), ("--aware with --count",)),
        (("--aware", "--sensitivity"), ("--aware with --sensitivity",)),
        (("--auto-mixed",), ("--auto-mixed without -o",)),
        (("--sensitivity", "-o", "x.json"), ("-o without --auto-mixed",)),
        (("--auto-mixed", "-o", "recipe.txt"), ("recipe.txt", "ends in .json")),
        (("--sensitivity", "--plot", "bars.svg"), ("bars.svg", "ends in .png")),
        (("--sensitivity", "--html", "nowhere/page.html"), ("folder that is not there",)),
        (("--sensitivity", "--recipe", "none-such"), ("--recipe none-such",)),
        (("--sensitivity", "--data", "mos.csv"), ("--data without --images",)),
        (("--sensitivity", "--member", "third"), ("first, second", "--member third")),
        (("--sensitivity",), ("2 networks", "--member first")),
    ],
)
def test_what_does_not_go_together_is_refused(
    arguments: tuple[str, ...],
    words: tuple[str, ...],
    run_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    extra = ("--member", "first") if "--data" in arguments else ()
    require_refusal(edgeiqa("quantize", run_folder, *arguments, *extra), *words)
    assert files_in(tmp_path) == set()


def test_a_member_of_a_run_and_the_recipe_of_its_family(
    run_folder: Path, folders: tuple[str, ...], measured: tuple[Path, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    report = msgspec.convert(measured[1].object["report"], SensitivityReport)

    def note(member: Any, images: Any, recipe: QuantRecipe, **named: Any) -> SensitivityReport:
        seen.append((member.name, len(images), recipe.name, len(named["views"]), len(named["distortions"])))
        return report

    monkeypatch.setattr(quantize_sensitivity, "measure_sensitivity", note)
    own = tuple(word for word in folders if word != "--recipe" and not word.endswith(".json"))
    ran = edgeiqa("quantize", run_folder, "--sensitivity", "--member", "first", "--target", "openvino", *own)
    assert ran.code == 0, ran.err
    assert seen == [("first", 16, "mobilenetv3-openvino", 6, 6)]


def test_views_are_photographs_as_they_are_and_distortions_of_them() -> None:
    hashes = [hashlib.sha256(bytes([place])).hexdigest() for place in range(40)]
    judged = [Item(path=Path(f"{sha256}.jpg"), sha256=sha256) for sha256 in hashes]
    views = choose_views(judged, count=64, seed=0)
    assert len(set(views)) == len(views) == 64
    plain = [view for view in views if view.distortion is None]
    assert len(plain) == 16 == len({view.sha256 for view in views})
    kinds = {view.distortion.kind for view in views if view.distortion is not None}
    assert kinds == {"blur", "noise", "jpeg", "resampling", "exposure", "contrast"}
    assert choose_views(judged, count=64, seed=0) == views != choose_views(judged, count=64, seed=1)
    # A photograph's views follow each other, so that it is decoded once.
    order = [view.sha256 for view in views]
    assert order == [sha for sha in dict.fromkeys(order) for _ in range(4)]
    # Of few photographs more versions of each, and what is distorted already counts as its photograph.
    distorted = [replace(item, distortion=views[1].distortion) for item in judged[:3]]
    few = choose_views([*judged[:3], *distorted], count=64, seed=0)
    assert len(set(few)) == 64 and len({view.sha256 for view in few}) == 3
    assert sum(view.distortion is None for view in few) == 3
    assert len(choose_views(judged, count=1, seed=0)) == 1
    for nothing in ([], judged[:1]):
        with pytest.raises(UsageError, match="views of"):
            choose_views(nothing, count=len(nothing) - 1, seed=0)


def test_a_mixed_recipe_adds_to_the_blocks_that_are_float_already() -> None:
    recipe = msgspec.structs.replace(RECIPES["vit-openvino"], float_blocks=("head", "stem"))
    assert mixed_recipe(recipe, ()) is recipe
    mixed = mixed_recipe(recipe, ("blocks.1", "head"))
    assert (mixed.float_blocks, mixed.name) == (("head", "stem", "blocks.1"), "vit-openvino-mixed")
    assert msgspec.structs.replace(mixed, float_blocks=recipe.float_blocks, name=recipe.name) == recipe
