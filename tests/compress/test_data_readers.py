from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from edgeiqa.compress.data.dataset import Dataset, LabelledPhoto, read_csv, write_csv
from edgeiqa.compress.data.readers import READERS, Reader, main
from edgeiqa.runtime.errors import DataError

from .releases import write_images, write_text


def kadid(root: Path) -> Path:
    write_text(root / "dmos.csv", "dist_img,ref_img,dmos,var", "I01_01_01.png,I01.png,4.57,0.1")
    write_images(root / "images", ["I01_01_01.png"])
    return root


def piq(root: Path) -> Path:
    write_text(root / "Scores_Details.csv", "IMAGE PATH,IMAGE,SCENE,JOD", "Details\\1_S_0.jpg,1_S_0.jpg,S_0,-0.5")
    write_text(root / "Scene Split.csv", "SCENE,SPLIT,NB IMAGES", "S_0,Test,1")
    write_images(root / "Details", ["1_S_0.jpg"])
    return root


@pytest.mark.parametrize("name", list(READERS))
def test_every_reader_loads_and_takes_the_options_that_are_listed(name: str, tmp_path: Path) -> None:
    read = READERS[name].load()
    module = sys.modules[read.__module__]
    assert read.__name__ == f"read_{name}"
    assert module.__dict__["CITATION"] and module.__dict__["SCORE_RANGE"][0] < module.__dict__["SCORE_RANGE"][1]
    hints, parameters = get_type_hints(read), inspect.signature(read).parameters
    for option, choices in READERS[name].options.items():
        assert choices == get_args(hints[option])
        assert parameters[option].default == choices[0]
    with pytest.raises(DataError):
        read(tmp_path)


def test_the_table_loads_no_reader_before_it_is_called() -> None:
    code = "import sys, edgeiqa.compress.data.readers; print(*(m for m in sys.modules if m.startswith('edgeiqa.c')))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"clive", "koniq10k", "piq23"} & {name.rpartition(".")[2] for name in ran.stdout.split()}
    assert "edgeiqa.compress.data.dataset" in ran.stdout.split()


def test_a_csv_holds_what_a_data_set_does(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", ["a.png", "b/c d.png", "é,.png"])
    photos = (
        LabelledPhoto(path=root / "a.png", image="a.png", mos=1 / 3, mos_std=0.1, split="train", scene="x"),
        LabelledPhoto(path=root / "b/c d.png", image="b/c d.png", mos=5e-324, split="test"),
        LabelledPhoto(path=root / "é,.png", image="é,.png", mos=1.0, mos_std=0.0),
    )
    dataset = Dataset(root=root, photos=photos, score_range=(0.0, 1.0), citation="A. Author")
    write_csv(dataset, tmp_path / "mos.csv")
    assert read_csv(tmp_path / "mos.csv", root, score_range=(0.0, 1.0), citation="A. Author") == dataset
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mos.csv"]


def test_a_csv_has_no_column_that_is_empty_throughout(tmp_path: Path) -> None:
    root = write_images(tmp_path / "images", ["a.png"])
    dataset = Dataset(root=root, photos=(LabelledPhoto(path=root / "a.png", image="a.png", mos=2.5),))
    write_csv(dataset, tmp_path / "mos.csv")
    assert (tmp_path / "mos.csv").read_text() == "image,mos\na.png,2.5\n"


def test_the_command_writes_a_csv_and_says_how_it_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mos.csv"
    assert main(["kadid10k", str(kadid(tmp_path / "kadid10k")), "-o", str(output)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    counted, options, cite = said.out.splitlines()
    assert counted == "1 photographs (1 in no split)"
    assert options == f"--data {output} --images {tmp_path / 'kadid10k' / 'images'} --score-range 1 5"
    assert cite.startswith("cite: H. Lin")
    read = READERS["kadid10k"].load()(tmp_path)
    assert read_csv(output, read.root, score_range=(1, 5), citation=read.citation) == read


def test_the_command_hands_a_readers_options_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, root = tmp_path / "mos.csv", piq(tmp_path / "a b")
    assert main(["piq23", str(root), "-o", str(output), "--attribute", "Details", "--split", "scene"]) == 0
    counted, options, _ = capsys.readouterr().out.splitlines()
    assert counted == "1 photographs (1 test)"
    assert options == f"--data {output} --images '{root}' --score-range -10 10 --comparable scene"
    assert output.read_text() == "image,mos,split,scene\nDetails/1_S_0.jpg,-0.5,test,S_0\n"


def require_refusal(arguments: list[str], capsys: pytest.CaptureFixture[str], *words: str) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    got, expected, mend = said.err.splitlines()
    assert (said.out, got[:7], expected[:12], mend[:12]) == ("", "error: ", "  expected: ", "  to mend:  ")
    missing = [word for word in words if word not in said.err]
    assert not missing, (missing, said.err)


def test_refusals_are_three_lines_and_write_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mos.csv"
    require_refusal(["kadid10k", str(tmp_path), "-o", str(output)], capsys, "dmos.csv", "unpack kadid10k.zip")
    require_refusal(["kadid10k", str(tmp_path)], capsys, "-o/--output", "readers kadid10k --help")
    require_refusal(["imagenet", str(tmp_path), "-o", str(output)], capsys, "imagenet", "koniq10k")
    require_refusal(["koniq10k", "x", "-o", "y", "--scale", "stars"], capsys, "stars", "zscore")
    require_refusal([], capsys, "DATASET")
    root = kadid(tmp_path / "kadid10k")
    require_refusal(["kadid10k", str(root), "-o", str(tmp_path / "none" / "mos.csv")], capsys, "none", "permissions")
    assert not output.exists()


def test_a_table_is_replaced_only_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, root = write_text(tmp_path / "mos.csv", "mine"), kadid(tmp_path / "kadid10k")
    require_refusal(["kadid10k", str(root), "-o", str(output)], capsys, "mos.csv, which is there", "--overwrite")
    assert output.read_text() == "mine\n"
    assert main(["kadid10k", str(root), "-o", str(output), "--overwrite"]) == 0
    assert output.read_text().startswith("image,mos,mos_std,scene\n")


def test_the_command_runs_as_it_is_documented(tmp_path: Path) -> None:
    root = kadid(tmp_path)
    command = [sys.executable, "-W", "error", "-m", "edgeiqa.compress.data.readers", "kadid10k", str(root)]
    ran = subprocess.run([*command, "-o", str(tmp_path / "mos.csv")], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    again = subprocess.run([*command, "-o", str(tmp_path / "mos.csv")], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.startswith("error: ")


def test_a_reader_is_a_frozen_record() -> None:
    with pytest.raises(AttributeError):
        Reader(module="a", function="b", about="c").module = "d"  # type: ignore[misc]
