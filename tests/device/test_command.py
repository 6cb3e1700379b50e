"""The command without torch, onnx and scipy: what works, what is not loaded, and what says which extra it needs."""

from __future__ import annotations

import json
from pathlib import Path

import edgeiqa
import pytest
from edgeiqa.tools.command import VERBS

from .installed import EXTRAS, Process, is_here, loaded_after, save_photo
from .installed import edgeiqa as call


def require_extra(ran: Process, extra: str) -> None:
    """Exit status 2, nothing on stdout, and the command that installs it."""
    assert (ran.returncode, ran.stdout) == (2, ""), ran
    got, expected, mend = ran.stderr.splitlines()[-3:]
    assert got.startswith("error: no ") and expected.startswith("  expected: ")
    assert mend == f'  to mend:  pip install "edgeiqa[{extra}]"'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fifteen photographs and a table of opinions that rise with the default bundle's scores."""
    scorer = edgeiqa.load()
    rows = []
    for seed in range(15):
        path = save_photo(tmp_path / "photos" / f"{seed:02}.png", seed)
        value = scorer.score(path).value
        assert value is not None
        rows.append(f"{path.name},{value / 2 + 20:.3f}")
    (tmp_path / "mos.csv").write_text("\n".join(["image,mos", *rows]))
    return tmp_path


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_works_and_loads_no_extra(tmp_path: Path, verb: str) -> None:
    ran = call(tmp_path, verb, "--help", without=EXTRAS)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"Usage: edgeiqa {verb} ")
    assert loaded_after(tmp_path, verb, "--help") == set()


def test_help_of_the_command_loads_no_verb(tmp_path: Path) -> None:
    assert loaded_after(tmp_path, "--help") == set()
    assert all(verb in call(tmp_path, "--help").stdout for verb in VERBS)


@pytest.mark.parametrize(
    "arguments",
    [("score", "photo.png", "--json"), ("score", "photo.png"), ("info",), ("verify",), ("profile", "--runs", "2")],
)
def test_scoring_loads_no_extra(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    save_photo(tmp_path / "photo.png")
    assert loaded_after(tmp_path, *arguments) == set()


def test_a_device_scores(folder: Path) -> None:
    ran = call(folder, "score", "photos", "--json", without=EXTRAS)
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["path"] for line in lines] == [str(Path("photos") / f"{seed:02}.png") for seed in range(15)]
    scorer = edgeiqa.load()
    for line in lines:
        assert line["score"] == scorer.score(folder / line["path"]).value
        assert 0 <= line["score"] <= 100
        assert (line["width"], line["height"], line["error"]) == (320, 240, None)


def test_a_device_is_profiled(tmp_path: Path) -> None:
    ran = call(tmp_path, "profile", "--brief", "--runs", "2", "--json", without=EXTRAS)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert (seen["subject"], seen["engine"]) == ("default", "onnxruntime")
    assert seen["file_to_score"]["runs"] == 2 and seen["peak_rss_mib"] > 20
    assert seen["unmeasured"]["layers"] == "left out of a brief profile"


def test_layers_and_roofline_need_no_library_of_an_extra(tmp_path: Path) -> None:
    ran = call(tmp_path, "profile", "--runs", "1", "--warmup", "0", "--streams", "1", "--json", without=EXTRAS)
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert [layers["macs"] > 10**9 for layers in seen["layers"]] == [True]
    assert [peak["precision"] for peak in seen["roofline"]["peaks"]] == ["fp32", "int8"]


def test_evaluate_needs_scipy(folder: Path) -> None:
    arguments = ("evaluate", "--data", "mos.csv", "--images", "photos", "--json")
    require_extra(call(folder, *arguments, without=EXTRAS), "evaluate")
    # Also where the table is not there: what is missing is said at once.
    require_extra(call(folder, "evaluate", "--data", "none", "--images", "none", without=("scipy",)), "evaluate")
    ran = call(folder, *arguments)
    if is_here("scipy"):
        result = json.loads(ran.stdout)
        assert (result["n"], result["failed"]) == (15, 0) and result["srcc"] == pytest.approx(1.0)
    else:
        require_extra(ran, "evaluate")


def test_calibrate_needs_scipy(folder: Path) -> None:
    arguments = ("calibrate", str(edgeiqa.load().bundle.path), "--data", "mos.csv", "--images", "photos")
    require_extra(call(folder, *arguments, "-o", "mine.eiqa", without=EXTRAS), "evaluate")
    assert not (folder / "mine.eiqa").exists()
    ran = call(folder, *arguments, "-o", "mine.eiqa")
    if is_here("scipy"):
        assert ran.returncode == 0, ran.stderr
        assert call(folder, "verify", "mine.eiqa").returncode == 0
    else:
        require_extra(ran, "evaluate")
        assert not (folder / "mine.eiqa").exists()


def test_export_needs_torch_and_onnx(tmp_path: Path) -> None:
    require_extra(call(tmp_path, "export", without=EXTRAS), "compress,export")
    ran = call(tmp_path, "export")
    if all(is_here(library) for library in ("torch", "timm", "safetensors", "onnx", "onnxscript")):
        assert ran.returncode == 2 and "error: runs, which holds no run" in ran.stderr
    else:
        require_extra(ran, "compress,export")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["torch", "timm", "safetensors", "onnx", "onnxscript", "openvino"])
def test_export_names_what_is_missing(tmp_path: Path, library: str) -> None:
    others = [name for name in ("torch", "timm", "safetensors", "onnx", "onnxscript") if not is_here(name)]
    ran = call(tmp_path, "export", "--target", "openvino", without=(library,))
    require_extra(ran, "compress,export")
    assert library in ran.stderr.splitlines()[-3]
    assert all(name in ran.stderr for name in others)


def test_the_openvino_engine_needs_openvino(tmp_path: Path) -> None:
    save_photo(tmp_path / "photo.png")
    arguments = ("score", "photo.png", "--engine", "openvino", "--json")
    require_extra(call(tmp_path, *arguments, without=("openvino",)), "openvino")
    ran = call(tmp_path, *arguments)
    if is_here("openvino"):
        expected = edgeiqa.load().score(tmp_path / "photo.png").value
        # Engines round INT8's sums each in its own way; this is the tolerance of golden answers in INT8.
        assert json.loads(ran.stdout)["score"] == pytest.approx(expected, abs=1.0)
    else:
        require_extra(ran, "openvino")


def test_doctor_says_what_is_here_and_what_is_not(tmp_path: Path) -> None:
    ran = call(tmp_path, "doctor", "--json")
    assert ran.returncode == 0, ran.stderr
    seen = json.loads(ran.stdout)
    assert seen["engines"]["onnxruntime"]["default_bundle"] == "verified"
    assert (seen["engines"]["openvino"]["version"] is not None) == is_here("openvino")
    for extra, library in (("evaluate", "scipy"), ("compress", "torch"), ("export", "onnx"), ("openvino", "openvino")):
        assert (seen["extras"][extra][library] is not None) == is_here(library)
    table = call(tmp_path, "doctor").stdout
    if not is_here("scipy"):
        assert 'missing scipy: pip install "edgeiqa[evaluate]"' in table
    if not is_here("openvino"):
        assert 'not installed: pip install "edgeiqa[openvino]"' in table


def test_a_missing_path_on_a_device(tmp_path: Path) -> None:
    ran = call(tmp_path, "score", "missing.jpg", "--json", without=EXTRAS)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith("error: missing.jpg, which is not there\n")
