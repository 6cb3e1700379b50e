from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from edgeiqa.compress.data.dataset import Dataset, LabelledPhoto, read_csv, select
from edgeiqa.compress.data.splits import Split, select_apart, split_folds
from edgeiqa.runtime.errors import DataError, UsageError
from scipy.stats import ks_2samp


def make(folder: Path, count: int, scene_of: dict[int, str] | None = None, same_bytes: int = 0) -> Dataset:
    """``count`` photographs of their own bytes, but the last ``same_bytes`` repeat the first ones' files."""
    photos = []
    for index in range(count):
        path = folder / f"{index}.jpg"
        source = index - (count - same_bytes)
        path.write_bytes(str(source if source >= 0 else index).encode())
        mos = (index * 37 % count) * 100 / count
        photos.append(LabelledPhoto(path=path, image=path.name, mos=mos, scene=(scene_of or {}).get(index)))
    return Dataset(root=folder, photos=tuple(photos))


def parts(split: Split) -> list[tuple[int, ...]]:
    return [split.selection, *split.folds]


def names(dataset: Dataset, split: Split) -> list[set[str]]:
    return [{dataset.photos[index].image for index in part} for part in parts(split)]


@pytest.mark.parametrize(("count", "folds", "fraction"), [(200, 5, 0.15), (61, 4, 0.2), (40, 1, 0.5), (33, 3, 0.0)])
def test_parts_are_disjoint_complete_and_of_their_sizes(
    tmp_path: Path, count: int, folds: int, fraction: float
) -> None:
    split = split_folds(make(tmp_path, count), folds, fraction)
    assert sorted(index for part in parts(split) for index in part) == list(range(count))
    assert abs(len(split.selection) - fraction * count) <= 0.5
    sizes = [len(fold) for fold in split.folds]
    assert len(sizes) == folds
    assert max(sizes) - min(sizes) <= 1
    assert all(list(part) == sorted(part) for part in parts(split))


def test_a_part_without_what_another_part_holds_too(tmp_path: Path) -> None:
    # The last two files repeat the first two; one pair lies in one part, the other in two.
    whole = make(tmp_path, 12, same_bytes=2)
    split_of = ["test", *["train"] * 9, "train", "train"]
    photos = tuple(replace(photo, split=part) for photo, part in zip(whole.photos, split_of, strict=True))
    dataset = replace(whole, photos=photos)
    assert [photo.image for photo in select_apart(dataset, "train").photos] == [
        f"{index}.jpg" for index in (*range(1, 10), 11)
    ]
    # The part that is judged gives way too: nobody says which of the two is the copy.
    with pytest.raises(DataError, match="without photographs"):
        select_apart(dataset, "test")
    with pytest.raises(DataError, match="one of the splits it has: test, train"):
        select_apart(dataset, "validation")


def test_each_part_has_the_mos_of_the_whole(tmp_path: Path) -> None:
    dataset = make(tmp_path, 400)
    split = split_folds(dataset, 5)
    for part in parts(split):
        assert abs(dataset.mos[list(part)].mean() - dataset.mos.mean()) < 1.0
        assert abs(dataset.mos[list(part)].std() - dataset.mos.std()) < 1.0


def test_the_order_of_rows_does_not_matter(tmp_path: Path) -> None:
    scenes = {index: f"s{index // 3}" for index in range(30)}
    dataset = make(tmp_path, 120, scenes, same_bytes=10)
    shuffled = replace(dataset, photos=tuple(random.Random(3).sample(dataset.photos, 120)))
    assert names(dataset, split_folds(dataset, 4)) == names(shuffled, split_folds(shuffled, 4))


def test_the_seed_decides_and_the_split_is_the_same_everywhere(tmp_path: Path) -> None:
    dataset = make(tmp_path, 24)
    assert split_folds(dataset, 3, 0.25, seed=1) != split_folds(dataset, 3, 0.25, seed=2)
    # A golden value: SplitMix64's draws, that a change of numpy or of the machine cannot move.
    assert split_folds(dataset, 3, 0.25, seed=1) == Split(
        selection=(2, 3, 4, 10, 11, 18),
        folds=((7, 14, 15, 17, 22, 23), (1, 5, 6, 9, 13, 21), (0, 8, 12, 16, 19, 20)),
    )


def test_groups_never_straddle_and_sizes_stay_within_the_largest(tmp_path: Path) -> None:
    draw = random.Random(5)
    scenes = {index: f"s{draw.randrange(40)}" for index in range(150)}
    dataset = make(tmp_path, 200, scenes, same_bytes=20)
    split = split_folds(dataset, 4)
    part_of = {index: number for number, part in enumerate(parts(split)) for index in part}
    for mark in (lambda i: dataset.photos[i].path.read_bytes(), lambda i: scenes.get(i, str(i))):
        by_mark: dict[object, set[int]] = {}
        for index in range(200):
            by_mark.setdefault(mark(index), set()).add(part_of[index])
        assert all(len(numbers) == 1 for numbers in by_mark.values())
    # 20 copies of scene members tie at most a few scenes together; nothing here reaches 20 photographs.
    sizes = [len(fold) for fold in split.folds]
    assert max(sizes) - min(sizes) <= 20
    assert abs(len(split.selection) - 0.15 * 200) <= 10


def test_scenes_of_one_size_divide_evenly(tmp_path: Path) -> None:
    dataset = make(tmp_path, 120, {index: f"s{index // 4}" for index in range(120)})
    split = split_folds(dataset, 3, 0.2)
    assert [len(part) for part in parts(split)] == [24, 32, 32, 32]


def test_too_few_photographs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 photographs of 4 different contents; expected enough for 5 folds"):
        split_folds(make(tmp_path, 4), 5)
    one_scene = make(tmp_path, 50, dict.fromkeys(range(50), "s"))
    with pytest.raises(DataError, match="50 photographs of 1 different contents"):
        split_folds(one_scene, 2)


def test_a_file_that_went_missing(tmp_path: Path) -> None:
    dataset = make(tmp_path, 20)
    dataset.photos[7].path.unlink()
    with pytest.raises(DataError, match=r"7\.jpg cannot be read"):
        split_folds(dataset, 2)


@pytest.mark.parametrize(("folds", "fraction", "seed"), [(0, 0.1, 0), (2, 0.6, 0), (2, -0.1, 0), (2, 0.1, -1)])
def test_arguments_out_of_range(tmp_path: Path, folds: int, fraction: float, seed: int) -> None:
    with pytest.raises(UsageError, match="expected"):
        split_folds(make(tmp_path, 20), folds, fraction, seed)


def test_a_split_survives_json(tmp_path: Path) -> None:
    split = split_folds(make(tmp_path, 20), 2)
    assert msgspec.json.decode(msgspec.json.encode(split), type=Split) == split


def test_on_live_in_the_wild_the_selection_part_is_like_the_rest(data_root: Path) -> None:
    clive = data_root / "clive"
    dataset = select(read_csv(clive / "mos.csv", clive / "images"), split="train")
    split = split_folds(dataset, 4)
    assert len(split.selection) == 112
    assert [len(fold) for fold in split.folds] == [158, 158, 158, 158]
    rest = [index for fold in split.folds for index in fold]
    assert ks_2samp(dataset.mos[list(split.selection)], dataset.mos[rest]).statistic < 0.03
    for fold in split.folds:
        assert abs(dataset.mos[list(fold)].mean() - dataset.mos.mean()) < 1.0
