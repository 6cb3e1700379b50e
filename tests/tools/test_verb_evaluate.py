"""``edgeiqa evaluate``: the figures of accuracy, several bundles side by side, and tables that are not as stated."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from .command import edgeiqa, require_refusal, write_table

FIGURES = ("srcc", "plcc", "krcc", "mae", "rmse")


def scores(bundle: Path, photos: Path) -> dict[str, float]:
    lines = edgeiqa("score", photos, "--bundle", bundle, "--json").lines
    return {Path(line["path"]).name: line["score"] for line in lines}


@pytest.fixture(scope="module")
def mos(small_bundle: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Opinions on 1 to 5 that follow the bundle's ranking, but for some; half of them are ``split=test``."""
    found = scores(small_bundle, photos)
    ranks = stats.rankdata(list(found.values()))
    noise = np.random.default_rng(0).normal(0, 2, len(ranks))
    opinions = 1 + 4 * stats.rankdata(ranks + noise) / (len(ranks) + 1)
    rows = [
        (name, round(float(opinion), 4), "test" if index % 2 else "train", f"scene{index % 4}")
        for index, (name, opinion) in enumerate(zip(found, opinions, strict=True))
    ]
    return write_table(tmp_path_factory.mktemp("mos") / "mos.csv", rows, "image,mos,split,scene")


def read(mos: Path) -> dict[str, float]:
    with mos.open() as file:
        return {row["image"]: float(row["mos"]) for row in csv.DictReader(file)}


def evaluate(mos: Path, photos: Path, *more: object) -> Any:
    return edgeiqa("evaluate", "--data", mos, "--images", photos, "--score-range", 1, 5, *more)


def test_the_figures_are_those_of_the_scores(small_bundle: Path, photos: Path, mos: Path) -> None:
    ran = evaluate(mos, photos, small_bundle, "--json")
    assert (ran.code, ran.err) == (0, "")
    result = ran.object
    found = scores(small_bundle, photos)
    predicted = np.array(list(found.values()))
    # On the bundle's scale, 0 to 100.
    opinions = 25 * (np.array([read(mos)[name] for name in found]) - 1)
    assert (result["bundle"], result["path"]) == ("small", str(small_bundle))
    assert (result["engine"], result["precision"], result["n"], result["failed"]) == ("onnxruntime", "fp32", 20, 0)
    expected = {
        "srcc": stats.spearmanr(predicted, opinions).statistic,
        "plcc": stats.pearsonr(predicted, opinions).statistic,
        "krcc": stats.kendalltau(predicted, opinions).statistic,
        "mae": np.abs(predicted - opinions).mean(),
        "rmse": np.sqrt(np.square(predicted - opinions).mean()),
    }
    assert expected["srcc"] > 0.8
    for name in FIGURES:
        assert result[name] == pytest.approx(float(expected[name]))
        low, high = result["intervals"][name]
        assert low < result[name] < high
    assert result["srcc_minus_first"] is None


def test_a_split_alone(small_bundle: Path, photos: Path, mos: Path) -> None:
    assert evaluate(mos, photos, small_bundle, "--split", "test", "--json").object["n"] == 10


def test_bundles_side_by_side(small_bundle: Path, pair_bundle: Path, photos: Path, mos: Path) -> None:
    ran = evaluate(mos, photos, small_bundle, pair_bundle, small_bundle, "--resamples", 200, "--json")
    first, second, again = ran.lines
    assert [line["bundle"] for line in ran.lines] == ["small", "pair", "small"]
    difference = second["srcc_minus_first"]
    assert difference["value"] == pytest.approx(second["srcc"] - first["srcc"])
    assert difference["low"] <= difference["value"] <= difference["high"]
    assert again["srcc_minus_first"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    # The bootstrap is seeded.
    assert {name: first[name] for name in (*FIGURES, "intervals")} == {
        name: again[name] for name in (*FIGURES, "intervals")
    }


def test_a_table_for_people(small_bundle: Path, pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    odd = tmp_path / "[" / "red] mos.csv"
    odd.parent.mkdir()
    shutil.copy(mos, odd)
    ran = evaluate(odd, photos, small_bundle, pair_bundle)
    result = evaluate(mos, photos, small_bundle, "--json").object
    assert ran.code == 0
    assert f"20 photographs of {odd}" in ran.out
    assert f"{result['srcc']:.3f} [{result['intervals']['srcc'][0]:.3f}, " in ran.out
    assert ran.out.count("SRCC - first") == 1 and "pair" in ran.out


def test_scenes(small_bundle: Path, photos: Path, mos: Path) -> None:
    result = evaluate(mos, photos, small_bundle, "--comparable", "scene", "--json").object
    assert result["n"] == 20
    assert result["mae"] is None and result["rmse"] is None and result["intervals"]["mae"] is None
    assert all(isinstance(result[name], float) for name in ("srcc", "plcc", "krcc"))


def test_photographs_that_cannot_be_read(small_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos, folder)
    (folder / "04.jpg").write_bytes((photos / "04.jpg").read_bytes()[:400])
    ran = evaluate(mos, folder, small_bundle, "--json")
    assert ran.code == 1
    assert (ran.object["n"], ran.object["failed"]) == (19, 1)
    assert "04.jpg" in ran.err and "1 of 20 photographs could not be read" in ran.err
    for name in read(mos):
        (folder / name).write_bytes(b"")
    require_refusal(evaluate(mos, folder, small_bundle, "--json"), "20 photographs, none readable")


Change = Callable[[list[str]], list[str]]
TABLES: dict[str, tuple[Change, tuple[str, ...]]] = {
    "no mos": (lambda rows: ["image,score", *rows[1:3]], ("without the column mos", "image, score", "header line")),
    "no image": (lambda rows: ["file,mos", *rows[1:3]], ("without the column image",)),
    "nothing": (lambda rows: [""], ("without the column",)),
    "no rows": (lambda rows: rows[:1], ("without a row",)),
    "above the range": (lambda rows: ["image,mos", "00.jpg,5.1"], ("line 2", "5.1", "1 to 5")),
    "below the range": (lambda rows: ["image,mos", "00.jpg,0.9"], ("line 2", "0.9", "1 to 5")),
    "no number": (lambda rows: ["image,mos", "00.jpg,good"], ("line 2", "'good'", "finite")),
    "nan": (lambda rows: ["image,mos", "00.jpg,nan"], ("line 2", "'nan'", "finite")),
    "twice": (lambda rows: ["image,mos", "00.jpg,2", "00.jpg,3"], ("line 3", "again")),
    "outside": (lambda rows: ["image,mos", "../00.jpg,2"], ("line 2", "inside the folder")),
    "missing photograph": (lambda rows: ["image,mos", "00.jpg,2", "none.jpg,3"], ("1 of 2", "none.jpg")),
    "too few": (lambda rows: ["image,mos", "00.jpg,2", "01.jpg,3"], ("at least 3",)),
    "one opinion": (lambda rows: ["image,mos", *(f"{i:02}.jpg,2" for i in range(5))], ("the same opinion",)),
}


@pytest.mark.parametrize("reason", list(TABLES))
def test_tables_that_are_not_as_stated(
    small_bundle: Path, photos: Path, mos: Path, tmp_path: Path, reason: str
) -> None:
    change, words = TABLES[reason]
    table = tmp_path / "mos.csv"
    table.write_text("\n".join(change(mos.read_text().splitlines())))
    require_refusal(evaluate(table, photos, small_bundle, "--json"), *words)


def test_what_is_not_there(small_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    require_refusal(evaluate(missing, photos, small_bundle, "--json"), str(missing), "cannot be read")
    require_refusal(evaluate(mos, missing, small_bundle, "--json"), f"no folder {missing}")
    require_refusal(evaluate(mos, photos, small_bundle, missing, "--json"), str(missing), "not there")
    require_refusal(evaluate(mos, photos, small_bundle, "--split", "tset", "--json"), "'tset'", "test, train")
    for low, high in ((5, 1), (1, 1), (1, "inf"), ("nan", 5)):
        options = ("--data", mos, "--images", photos, "--score-range", low, high)
        require_refusal(edgeiqa("evaluate", small_bundle, *options), f"--score-range {low} {high}", "lower one first")


def test_scenes_that_are_not_there(small_bundle: Path, photos: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path / "mos.csv", [("00.jpg", 1), ("01.jpg", 2)])
    require_refusal(evaluate(table, photos, small_bundle, "--comparable", "scene"), "without a scene", "column 'scene'")
