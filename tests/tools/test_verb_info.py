"""``edgeiqa info`` and ``edgeiqa unpack``: a bundle opened for people and for other languages."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from edgeiqa.runtime.bundle import Bundle, write_bundle
from edgeiqa.runtime.manifest import Manifest
from PIL import Image

from .command import edgeiqa, files_in, require_refusal, rewritten


def test_what_a_person_sees(pair_bundle: Path) -> None:
    ran = edgeiqa("info", pair_bundle)
    assert (ran.code, ran.err) == (0, "")
    for words in (
        f"pair  format 1.0  {pair_bundle.stat().st_size / 1e6:.2f} MB  {pair_bundle}",
        "scores 0 to 100, higher is better, comparable anywhere",
        "2 members, combined by WeightedMean (",
        "first: full decode; EXIF apply; colour srgb; alpha white; image = resize 64x64 fit=stretch",
        "score features.last features.1",
        "parity (score points) passed, parity (raw) passed",
        "onnx fp32 score map: Sigmoid slope=",
        "golden photographs: ",
        "with edgeiqa ",
    ):
        assert words in ran.out, words


def test_what_an_int8_graph_is_made_for(small_bundle: Path, tmp_path: Path) -> None:
    def int8(manifest: dict[str, Any]) -> None:
        manifest["members"][0]["artefacts"][0] |= {
            **{"precision": "int8", "stored_as": "int8"},
            "capability": "x86-64 with VNNI",
        }
        manifest["precision"] = "int8"

    ran = edgeiqa("info", rewritten(small_bundle, tmp_path / "int8.eiqa", int8))
    assert ran.code == 0, ran.err
    assert "onnx int8 x86-64 with VNNI" in ran.out
    (row,) = [line for line in ran.out.splitlines() if "onnx int8 x86-64" in line]
    assert "  int8  " in row


def test_json_is_the_manifest(pair_bundle: Path) -> None:
    ran = edgeiqa("info", pair_bundle, "--json")
    assert ran.code == 0
    assert msgspec.json.decode(ran.out, type=Manifest) == Bundle.open(pair_bundle).manifest


def test_a_model_card(small_bundle: Path, tmp_path: Path) -> None:
    require_refusal(edgeiqa("info", small_bundle, "--card"), "no model card", "--card")
    bundle = Bundle.open(small_bundle)
    parts = {name: bundle.read(name) for name in bundle.manifest.parts} | {"card.md": "# Mine, größer\n".encode()}
    carded = write_bundle(tmp_path / "carded.eiqa", bundle.manifest, parts)
    assert edgeiqa("info", carded.path, "--card").out == "# Mine, größer\n\n"


def test_nothing_of_this_machine_is_in_a_bundle(small_bundle: Path, pair_bundle: Path, run_folder: Path) -> None:
    for path in (small_bundle, pair_bundle):
        data = path.read_bytes()
        for folder in (run_folder.parent, Path.cwd(), Path(np.__file__).parents[1]):
            assert str(folder).encode() not in data


@pytest.mark.parametrize("verb", [("info",), ("unpack", "-o", "out")])
def test_a_bundle_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]) -> None:
    monkeypatch.chdir(tmp_path)
    require_refusal(edgeiqa(*verb, "missing.eiqa"), "missing.eiqa", "not there")
    assert files_in(tmp_path) == set()


def test_unpack_gives_every_part_and_the_manifest(small_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "unpacked"
    ran = edgeiqa("unpack", small_bundle, "-o", out)
    assert (ran.code, ran.err) == (0, "")
    bundle = Bundle.open(small_bundle)
    written = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert written == {*bundle.manifest.parts, "manifest.json"}
    assert {Path(line) for line in ran.out.splitlines()} == {out / name for name in written}
    for name, part in bundle.manifest.parts.items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == part.sha256
    assert msgspec.json.decode((out / "manifest.json").read_bytes(), type=Manifest) == bundle.manifest
    assert files_in(tmp_path / "new") == {"unpacked", *(f"unpacked/{name}" for name in files_in(out))}


def test_what_is_unpacked_is_all_that_a_port_needs(small_bundle: Path, tmp_path: Path) -> None:
    """Without this package: the graph, the golden view, and the score map's formula."""
    assert edgeiqa("unpack", small_bundle, "-o", tmp_path).code == 0
    manifest = msgspec.json.decode((tmp_path / "manifest.json").read_bytes())
    member, golden = manifest["members"][0], manifest["golden"][0]
    artefact = member["artefacts"][0]
    view = np.asarray(Image.open(tmp_path / golden["views"][member["name"]]["image"]))
    session = onnxruntime.InferenceSession(tmp_path / artefact["files"][0], providers=["CPUExecutionProvider"])
    (raw,) = session.run(["score"], {"image": view[None]})
    assert raw[0] == pytest.approx(artefact["golden_raw"][0], abs=1e-5)
    (sigmoid,) = artefact["score_map"]["steps"]
    quality = 100 / (1 + np.exp(-sigmoid["slope"] * (raw[0] - sigmoid["centre"])))
    assert quality == pytest.approx(golden["score"], abs=1e-3)


def test_unpack_refuses_a_folder_that_holds_something(small_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("a file")
    before = files_in(tmp_path)
    for name in ("mine", "file"):
        require_refusal(edgeiqa("unpack", small_bundle, "-o", tmp_path / name), name, "new or empty", "-o")
    require_refusal(edgeiqa("unpack", small_bundle, "-o", tmp_path / "file" / "below"), "check the path")
    assert files_in(tmp_path) == before
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_unpack_of_a_bundle_with_a_wrong_hash_writes_nothing(small_bundle: Path, tmp_path: Path) -> None:
    name = "golden/rocket.jpg"
    size = Bundle.open(small_bundle).manifest.parts[name].size_bytes
    broken = rewritten(small_bundle, tmp_path / "broken.eiqa", parts={name: bytes(size)})
    require_refusal(edgeiqa("unpack", broken, "-o", tmp_path / "out"), name, "sha256")
    assert files_in(tmp_path) == {"broken.eiqa"}
