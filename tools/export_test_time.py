"""``export --test-time``: the networks of a call on several images of their view."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..compress.models.test_time import TEST_TIME, USUAL_COUNT, with_test_time
from ..runtime.errors import UsageError
from .show import say

if TYPE_CHECKING:
    from .packing import Trained

__all__ = ["ViewImages", "at_test_time", "parse_test_time", "several_images"]

_SEEDED = "seeded"


@dataclass(frozen=True, slots=True)
class ViewImages:
    """What is cut of each view.

    Attributes:
        name: of `TEST_TIME`.
        count: of ``seeded`` crops.
    """

    name: str
    count: int = USUAL_COUNT

    def __str__(self) -> str:
        return f"{_SEEDED}:{self.count}" if self.name == _SEEDED else self.name


def parse_test_time(text: str) -> ViewImages:
    """A name of `TEST_TIME`; behind ``seeded`` there may be how many crops, ``seeded:N``.

    Raises:
        UsageError: it is none of these.
    """
    seeded = re.fullmatch(rf"{_SEEDED}:(\d{{1,4}})", text, re.ASCII)
    if seeded is not None:
        return ViewImages(_SEEDED, int(seeded[1]))
    if text not in TEST_TIME:
        raise UsageError(
            f"--test-time {text}",
            expected=f"one of {', '.join(TEST_TIME)}, or {_SEEDED}:N for N crops",
            mend=f"write one of these, such as flip or {_SEEDED}:4",
        )
    return ViewImages(text)


def at_test_time(members: Sequence[Trained], images: ViewImages) -> list[Trained]:
    """As `several_images`, and it is said.

    Raises:
        ModelError, RecordError: as `with_test_time`.
    """
    several = several_images(members, images)
    say(
        f"test-time augmentation, {images}: {_images(several[0])} images instead of {_images(members[0])}. The score "
        "maps were fitted without it; edgeiqa calibrate BUNDLE --data mos.csv fits them again"
    )
    return several


def several_images(members: Sequence[Trained], images: ViewImages) -> list[Trained]:
    """The same weights and score maps on the images that are cut; their provenance says it.

    Raises:
        ModelError, RecordError: as `with_test_time`.
    """
    return [_several(member, images) for member in members]


def _several(member: Trained, images: ViewImages) -> Trained:
    from ..compress.models.network import build
    from ..compress.models.weights import NoWeights

    system = with_test_time(member.network.system, images.name, count=images.count)
    network = build(system, weights=NoWeights())
    network.load_state_dict(member.network.state_dict(), strict=True)
    provenance = {**member.provenance, "test_time": str(images)}
    return dataclasses.replace(member, network=network.eval(), provenance=provenance)


def _images(member: Trained) -> int:
    (shape,) = member.network.system.preprocess.shapes.values()
    return shape[0] if len(shape) == 4 else 1
