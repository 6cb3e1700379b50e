from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edgeiqa.compress.data.dataset import Dataset, LabelledPhoto, read_csv, select
from edgeiqa.runtime.errors import DataError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg", "deep/c.jpg"):
        (folder / name).write_bytes(name.encode())
    return folder


def table(images: Path, text: str, encoding: str = "utf-8") -> Path:
    path = images.parent / "mos.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_reads_all_columns_and_passes_over_others(images: Path) -> None:
    path = table(
        images,
        "width,image,mos,mos_std,split,scene\n500,a.jpg,10,1.5,train,x\n\n400,deep/c.jpg, 90.5 ,,test,\n",
    )
    dataset = read_csv(path, images, citation="A. Author")
    assert dataset.photos == (
        LabelledPhoto(path=images / "a.jpg", image="a.jpg", mos=10.0, mos_std=1.5, split="train", scene="x"),
        LabelledPhoto(path=images / "deep" / "c.jpg", image="deep/c.jpg", mos=90.5, split="test"),
    )
    assert (dataset.root, dataset.score_range, dataset.comparable) == (images, (0.0, 100.0), "global")
    assert dataset.citation == "A. Author"


def test_reads_a_table_with_byte_order_mark_quotes_and_crlf(images: Path) -> None:
    path = table(images, '"image","mos"\r\n"a.jpg","1"\r\n', "utf-8-sig")
    assert [photo.mos for photo in read_csv(path, images).photos] == [1.0]


def test_unit_mos_maps_the_stated_range(images: Path) -> None:
    path = table(images, "image,mos\na.jpg,1\nb.jpg,2\ndeep/c.jpg,5\n")
    dataset = read_csv(path, images, score_range=(1, 5))
    assert dataset.mos.tolist() == [1, 2, 5]
    assert dataset.unit_mos.dtype == np.float64
    assert dataset.unit_mos.tolist() == [0, 0.25, 1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("image,score\na.jpg,1\n", ["without the column mos", "image, score", "header"]),
        ("file,score\na.jpg,1\n", ["image and mos", "file, score"]),
        ("", ["image and mos", "columns: none"]),
        ("image,mos,mos\na.jpg,1,2\n", ["mos twice"]),
        ("image,mos\n", ["without a row"]),
        ("image,mos\na.jpg,1\nb.jpg,good\n", ["line 3", "mos 'good'", "finite number"]),
        ("image,mos\na.jpg,nan\n", ["line 2", "mos 'nan'"]),
        ("image,mos\na.jpg,\n", ["line 2", "mos ''"]),
        ("image,mos\na.jpg,100.5\n", ["line 2", "100.5", "0 to 100", "state the range"]),
        ("image,mos,mos_std\na.jpg,1,-2\n", ["line 2", "mos_std -2", "at least 0"]),
        ("image,mos\na.jpg,1,2\n", ["line 2", "3 cells", "2, as in the header"]),
        ("image,mos\na.jpg,1\nb.jpg,1\n./a.jpg,2\n", ["line 4", "as on line 2"]),
        ("image,mos\n../mos.csv,1\n", ["line 2", "'../mos.csv'", "inside the folder"]),
        ("image,mos\ndeep/../../mos.csv,1\n", ["line 2", "inside the folder"]),
        ("image,mos\n/etc/passwd,1\n", ["line 2", "inside the folder"]),
        ("image,mos\nC:\\a.jpg,1\n", ["line 2", "inside the folder"]),
        ("image,mos\n..\\a.jpg,1\n", ["line 2", "inside the folder"]),
        ("image,mos\n,1\n", ["line 2", "image ''"]),
        ('image,mos\n"a.jpg,1\n', ["not a CSV"]),
    ],
)
def test_a_table_that_is_not_as_stated_is_told(images: Path, text: str, told: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        read_csv(table(images, text), images)
    assert all(part in str(caught.value) for part in told), str(caught.value)
    assert "expected" in str(caught.value)
    assert "to mend" in str(caught.value)


def test_missing_photographs_are_counted_and_the_first_few_named(images: Path) -> None:
    rows = "".join(f"no{index}.jpg,1\n" for index in range(9))
    with pytest.raises(DataError, match=r"9 of 10 photographs .*no0\.jpg, .*no4\.jpg and 4 more"):
        read_csv(table(images, f"image,mos\na.jpg,1\n{rows}"), images)


def test_a_table_or_folder_that_is_not_there(images: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv cannot be read \(No such file"):
        read_csv(images / "none.csv", images)
    with pytest.raises(DataError, match="no folder"):
        read_csv(table(images, "image,mos\na.jpg,1\n"), images / "none")


def test_a_table_in_another_encoding(images: Path) -> None:
    with pytest.raises(DataError, match="UTF-8"):
        read_csv(table(images, "image,mos,note\na.jpg,1,\xe9\n", "latin-1"), images)


def test_select_takes_one_part_and_names_those_there_are(images: Path) -> None:
    dataset = read_csv(table(images, "image,mos,split\na.jpg,1,train\nb.jpg,2,test\n"), images)
    assert [photo.image for photo in select(dataset, split="test").photos] == ["b.jpg"]
    with pytest.raises(DataError, match=r"'val'; expected one of the splits it has: test, train"):
        select(dataset, split="val")
    plain = replace(dataset, photos=tuple(replace(photo, split=None) for photo in dataset.photos))
    with pytest.raises(DataError, match="a table with a column 'split'"):
        select(plain, split="val")


def test_scores_that_compare_inside_scenes_need_scenes(images: Path) -> None:
    path = table(images, "image,mos,scene\na.jpg,1,x\nb.jpg,2,\n")
    with pytest.raises(DataError, match=r"b\.jpg without a scene"):
        read_csv(path, images, comparable="scene")


def test_a_data_set_checks_itself(tmp_path: Path) -> None:
    photo = LabelledPhoto(path=tmp_path / "a", image="a", mos=50.0)
    with pytest.raises(DataError, match="without photographs"):
        Dataset(root=tmp_path, photos=())
    with pytest.raises(DataError, match="score range of 100 to 0"):
        Dataset(root=tmp_path, photos=(photo,), score_range=(100.0, 0.0))
    with pytest.raises(DataError, match="MOS of 50"):
        Dataset(root=tmp_path, photos=(photo,), score_range=(0.0, 1.0))
    with pytest.raises(DataError, match="twice"):
        Dataset(root=tmp_path, photos=(photo, photo))


def test_reads_live_in_the_wild(data_root: Path) -> None:
    dataset = read_csv(data_root / "clive" / "mos.csv", data_root / "clive" / "images")
    assert len(dataset.photos) == 930
    assert len(select(dataset, split="train").photos) == 744
    assert len(select(dataset, split="test").photos) == 186
    assert 0 < dataset.unit_mos.min() < dataset.unit_mos.max() < 1
