"""Opinions in a distillation: they are of photographs as people saw them, not of distorted versions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edgeiqa.compress import distill as module
from edgeiqa.compress.data.transfer import transfer_items
from edgeiqa.compress.distill_records import Transfer

from .quick_students import planes, recipe, run, save_planes


class _Seen(Exception):
    pass


@pytest.mark.parametrize("ladder", [(), (0.5,)])
def test_distorted_versions_have_no_opinion(
    ladder: Sequence[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photographs = planes(save_planes(tmp_path / "images", 12), heldout=2, labelled=range(10))
    transfer = Transfer(crops=2, distortions=1, ladder=tuple(ladder))
    seen: list[Any] = []

    def look(*given: Any, **_: Any) -> None:
        seen.append(given[3])
        raise _Seen

    monkeypatch.setattr(module, "fit", look)
    what = recipe(losses={"score": 0.0, "mos": 1.0, "feature": 0.0}, transfer=transfer)
    with pytest.raises(_Seen):
        run(what, photographs, None, tmp_path / "run", tmp_path / "cache")
    (examples,) = seen
    _, targets = examples.draw(np.arange(examples.count), 0, True)
    items = transfer_items(photographs.training, crops=2, distortions=1, ladder=ladder)
    # An epoch shows one crop of a photograph, then all its distorted versions.
    shown = [item for item in items if item.distortion is not None or item.crop is None]
    known = [photographs.mos.get(item.sha256, np.nan) if item.distortion is None else np.nan for item in shown]
    np.testing.assert_array_equal(targets["mos"], np.array(known, dtype=np.float32))
    assert np.isfinite(targets["mos"]).sum() == 8
