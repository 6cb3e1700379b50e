"""Transfer sets: which items a number of crops and distortions means."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.compress.data.items import read_photographs
from edgeiqa.compress.data.transfer import transfer_items
from edgeiqa.runtime.errors import UsageError

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
