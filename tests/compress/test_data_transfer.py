"""Transfer sets: which items a number of crops and distortions means."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.compress.data.distortions import KINDS
from edgeiqa.compress.data.items import read_photographs
from edgeiqa.compress.data.transfer import transfer_items
from edgeiqa.compress.distill_records import Transfer
from edgeiqa.runtime.errors import RecordError, UsageError

from .quick_teachers import save_photographs


def test_the_items_of_photographs(tmp_path: Path) -> None:
    photographs, _ = read_photographs(save_photographs(tmp_path, 3))
    items = transfer_items(photographs, crops=3, distortions=4, seed=7)
    assert [item.path for item in items] == [photo.path for photo in photographs for _ in range(7)]
    mine = items[:7]
    assert [item.distortion is None for item in mine] == [True] * 3 + [False] * 4
    assert mine[0].crop is None and None not in (mine[1].crop, mine[2].crop)
    assert [item.crop for item in mine[3:]] == [mine[0].crop, mine[1].crop, mine[2].crop, mine[0].crop]
    assert len({item.key for item in items}) == 21
    longer = transfer_items(photographs, crops=3, distortions=5, seed=7)
    assert {item.key for item in items} < {item.key for item in longer}
    assert [item.key for item in transfer_items(photographs)] == [item.key for item in items[::7]]
    for crops, distortions in ((0, 1), (1, -1)):
        with pytest.raises(UsageError, match="at least 1 and 0"):
            transfer_items(photographs, crops=crops, distortions=distortions)


def test_a_ladder_is_every_kind_at_each_severity_of_every_crop(tmp_path: Path) -> None:
    photographs, _ = read_photographs(save_photographs(tmp_path, 2))
    items = transfer_items(photographs, crops=2, distortions=1, ladder=(0.3, 1.0), seed=7)
    assert len(items) == 2 * (3 + 2 * 12) == len({item.key for item in items})
    plain = transfer_items(photographs, crops=2, distortions=1, seed=7)
    assert [items[place] for place in (0, 1, 2, 27, 28, 29)] == plain
    seeds = set()
    for start, crop in ((3, plain[0].crop), (15, plain[1].crop), (30, plain[3].crop), (42, plain[4].crop)):
        climbed = [item.distortion for item in items[start : start + 12] if item.distortion is not None]
        assert [item.crop for item in items[start : start + 12]] == [crop] * 12
        wanted = [(kind, severity) for kind in KINDS for severity in (0.3, 1.0)]
        assert [(distortion.kind, distortion.severity) for distortion in climbed] == wanted
        (seed,) = {distortion.seed for distortion in climbed}
        seeds.add(seed)
    # Each crop has noise of its own.
    assert len(seeds) == 4
    other = transfer_items(photographs, crops=2, ladder=(0.3,), seed=8)
    assert not {item.key for item in other if item.distortion} & {item.key for item in items if item.distortion}


def test_a_ladder_out_of_range(tmp_path: Path) -> None:
    photographs, _ = read_photographs(save_photographs(tmp_path, 1))
    for severities in ((0.0,), (1.1,), (0.5, float("nan"))):
        with pytest.raises(RecordError):
            transfer_items(photographs, ladder=severities)
        with pytest.raises(RecordError, match="a ladder of"):
            Transfer(ladder=severities)
    with pytest.raises(RecordError, match="different severities"):
        Transfer(ladder=(0.5, 0.5))
