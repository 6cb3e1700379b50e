"""``edgeiqa calibrate``: a bundle on the user's own scale, with its ranking as it was."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.score_map import Isotonic
from scipy import stats

from .command import edgeiqa, files_in, require_refusal, rewritten, write_table


def scored(bundle: Path, photos: Path) -> list[Any]:
    return edgeiqa("score", photos, "--bundle", bundle, "--json").lines


@pytest.fixture(scope="module")
def mos(pair_bundle: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Opinions on 1 to 5 that rise gradually with both members' scores, with noise."""
    members = np.array([line["members"] for line in scored(pair_bundle, photos)])
    noise = np.random.default_rng(1).normal(0, 0.15, len(members))
    opinions = np.clip(3 + 0.03 * (members.mean(axis=1) - 50) + noise, 1, 5)
    rows = [(f"{index:02}.jpg", round(float(opinion), 4)) for index, opinion in enumerate(opinions)]
    assert all(stats.pearsonr(column, opinions).statistic > 0.3 for column in members.T)
    return write_table(tmp_path_factory.mktemp("mos") / "mos.csv", rows)


def calibrate(bundle: Path, mos: Path, photos: Path, *more: object) -> Any:
    return edgeiqa("calibrate", bundle, "--data", mos, "--images", photos, "--score-range", 1, 5, *more)


@pytest.mark.parametrize("curve", ["sigmoid", "logistic"])
def test_the_scale_is_the_users_and_the_ranking_stays(
    pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path, curve: str
) -> None:
    out = tmp_path / "mine.eiqa"
    ran = calibrate(pair_bundle, mos, photos, "--map", curve, "-o", out, "--json")
    assert (ran.code, ran.err) == (0, "")
    result = ran.object
    assert (result["bundle"], result["size_bytes"]) == (str(out), out.stat().st_size)
    for figures in (result["before"], result["after_cross_fitted"]):
        assert list(figures) == ["srcc", "plcc", "mae", "rmse"]
        assert all(isinstance(value, float) for value in figures.values())
    assert result["after_cross_fitted"]["rmse"] < result["before"]["rmse"]
    before, after = scored(pair_bundle, photos), scored(out, photos)
    for old, new in zip(before, after, strict=True):
        assert 1 <= new["score"] <= 5 and all(1 <= score <= 5 for score in new["members"])
        assert old["score"] > 5 or old["score"] < 1 or old["score"] != new["score"]
    for member in range(2):
        ranks = [stats.rankdata([line["members"][member] for line in lines]) for lines in (before, after)]
        np.testing.assert_array_equal(ranks[0], ranks[1])
    manifest = Bundle.open(out).manifest
    assert (manifest.scale.low, manifest.scale.high) == (1, 5)
    assert [m.artefacts[0].score_map.fitted_on for m in manifest.members] == ["20 photographs of mos.csv"] * 2
    assert edgeiqa("verify", out).code == 0
    assert files_in(tmp_path) == {"mine.eiqa"}


def test_an_isotonic_map_inverts_no_ranking_and_says_what_its_readers_need(
    pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path
) -> None:
    out, back = tmp_path / "mine.eiqa", tmp_path / "back.eiqa"
    assert calibrate(pair_bundle, mos, photos, "--map", "isotonic", "-o", out).code == 0
    manifest = Bundle.open(out).manifest
    assert manifest.requires == ("isotonic",)
    steps = [type(step) for member in manifest.members for step in member.artefacts[0].score_map.steps]
    assert steps == [Isotonic, Isotonic]
    before, after = scored(pair_bundle, photos), scored(out, photos)
    for member in range(2):
        old, new = (np.array([line["members"][member] for line in lines]) for lines in (before, after))
        assert (np.diff(new[np.argsort(old)]) >= 0).all()
        assert 1 <= new.min() < new.max() <= 5
    assert edgeiqa("verify", out).code == 0
    shown = edgeiqa("info", out)
    assert shown.code == 0 and "score map: Isotonic raw=(" in shown.out
    # With the step the requirement goes too.
    assert calibrate(out, mos, photos, "-o", back).code == 0
    assert Bundle.open(back).manifest.requires == ()


def test_minmax_spreads_each_members_scores_over_the_scale(
    pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.eiqa"
    assert calibrate(pair_bundle, mos, photos, "--map", "minmax", "-o", out).code == 0
    members = np.array([line["members"] for line in scored(out, photos)])
    assert (members.min(axis=0), members.max(axis=0)) == (pytest.approx([1, 1]), pytest.approx([5, 5]))
    old = np.array([line["members"] for line in scored(pair_bundle, photos)])
    np.testing.assert_array_equal(stats.rankdata(members, axis=0), stats.rankdata(old, axis=0))
    assert edgeiqa("verify", out).code == 0


def test_before_is_what_the_bundle_gives(pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    result = calibrate(pair_bundle, mos, photos, "-o", tmp_path / "mine.eiqa", "--json").object
    with mos.open() as file:
        opinions = np.array([float(row["mos"]) for row in csv.DictReader(file)])
    # Carried to the new scale by its ends.
    scores = 1 + np.array([line["score"] for line in scored(pair_bundle, photos)]) * 4 / 100
    assert result["before"]["rmse"] == pytest.approx(np.sqrt(np.square(scores - opinions).mean()))
    assert result["before"]["srcc"] == pytest.approx(stats.spearmanr(scores, opinions).statistic)


def test_every_graph_gets_maps(small_bundle: Path, pair_bundle: Path, photos: Path, tmp_path: Path) -> None:
    """Both of the bundle's targets, each on its own raw scores; a single network's ranking does not change at all."""
    lines = scored(small_bundle, photos)
    opinions = 20 + 60 * stats.rankdata([line["score"] for line in lines]) / len(lines)
    rows = [(Path(line["path"]).name, round(float(mos), 3)) for line, mos in zip(lines, opinions, strict=True)]
    table = write_table(tmp_path / "mos.csv", rows)
    out = tmp_path / "mine.eiqa"
    ran = edgeiqa("calibrate", small_bundle, "--data", table, "--images", photos, "-o", out)
    assert ran.code == 0, ran.err
    assert "before" in ran.out and "after, cross-fitted" in ran.out and "RMSE" in ran.out
    assert ran.out.splitlines()[-1] == str(out)
    for engine in ("onnxruntime", "openvino"):
        assert edgeiqa("verify", out, "--engine", engine).code == 0
    new = [line["score"] for line in scored(out, photos)]
    np.testing.assert_array_equal(stats.rankdata(new), stats.rankdata([line["score"] for line in lines]))
    errors = [np.abs(np.array(scores) - opinions).mean() for scores in ([line["score"] for line in lines], new)]
    assert errors[1] < 0.5 * errors[0]


def test_a_split_alone(pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    header, *rows = mos.read_text().splitlines()
    table = tmp_path / "mos.csv"
    lines = [f"{row},{'test' if index < 3 else 'train'}" for index, row in enumerate(rows)]
    table.write_text("\n".join([f"{header},split", *lines]))
    out = tmp_path / "mine.eiqa"
    assert calibrate(pair_bundle, table, photos, "--split", "train", "-o", out).code == 0
    fitted = Bundle.open(out).manifest.members[0].artefacts[0].score_map.fitted_on
    assert fitted == "17 photographs of mos.csv, split train"


def test_an_output_that_exists(pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.eiqa"
    out.write_bytes(b"before")
    require_refusal(calibrate(pair_bundle, mos, photos, "-o", out), "mine.eiqa, which exists", "--overwrite")
    assert out.read_bytes() == b"before"
    assert calibrate(pair_bundle, mos, photos, "-o", out, "--overwrite").code == 0
    assert Bundle.open(out).manifest.scale.high == 5
    assert files_in(tmp_path) == {"mine.eiqa"}


def test_what_cannot_be_calibrated(pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.eiqa"
    header, *rows = mos.read_text().splitlines()
    table = tmp_path / "table.csv"

    def refused(lines: list[str], *words: str) -> None:
        table.write_text("\n".join([header, *lines]))
        require_refusal(calibrate(pair_bundle, table, photos, "-o", out, "--json"), *words)

    refused(rows[:14], "14 photographs", "at least 15", "give more photographs")
    refused([f"{row.split(',')[0]},3" for row in rows], "3")
    refused(["00.jpg,9"], "line 2", "1 to 5")
    refused([], "without a row")
    opposite = [f"{row.split(',')[0]},{6 - float(row.split(',')[1])}" for row in rows]
    refused(opposite, "rise")
    require_refusal(calibrate(tmp_path / "none.eiqa", mos, photos, "-o", out), "none.eiqa", "not there")
    require_refusal(calibrate(pair_bundle, mos, photos, "--split", "test", "-o", out), "'test'")
    scenes = rewritten(pair_bundle, tmp_path / "scenes.eiqa", lambda m: m["scale"].update(comparable="scene"))
    require_refusal(calibrate(scenes, mos, photos, "-o", out), "inside a scene")
    assert files_in(tmp_path) == {"table.csv", "scenes.eiqa"}


def test_a_photograph_that_cannot_be_read(pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "07.jpg").write_bytes(b"")
    ran = calibrate(pair_bundle, mos, tmp_path / "photos", "-o", tmp_path / "mine.eiqa")
    require_refusal(ran, "07.jpg, 0 bytes")
    assert not list(tmp_path.glob("*.eiqa"))


def test_gates_in_points_of_the_old_scale_are_not_carried_over(
    pair_bundle: Path, photos: Path, mos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine.eiqa"
    assert calibrate(pair_bundle, mos, photos, "-o", out).code == 0
    units = [
        {gate.report["unit"] for member in Bundle.open(path).manifest.members for gate in member.artefacts[0].gates}
        for path in (pair_bundle, out)
    ]
    assert units == [{"score points", "raw"}, {"raw"}]
