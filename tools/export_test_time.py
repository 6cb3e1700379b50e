"""``export --test-time``: the networks of a call on several images of their view."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..compress.models.network import build
from ..compress.models.test_time import with_test_time
from ..compress.models.weights import NoWeights
from .packing import Trained
from .show import say

__all__ = ["at_test_time"]


def at_test_time(members: Sequence[Trained], name: str) -> list[Trained]:
    """The same weights and score maps on the images that a name of `TEST_TIME` cuts; their provenance says it.

    Raises:
        ModelError: as `with_test_time`.
    """
    several = [_several(member, name) for member in members]
    say(
        f"test-time augmentation, {name}: {_images(several[0])} images instead of {_images(members[0])}. The score "
        "maps were fitted without it; edgeiqa calibrate BUNDLE --data mos.csv fits them again"
    )
    return several


def _several(member: Trained, name: str) -> Trained:
    network = build(with_test_time(member.network.system, name), weights=NoWeights())
    network.load_state_dict(member.network.state_dict(), strict=True)
    return dataclasses.replace(member, network=network.eval(), provenance={**member.provenance, "test_time": name})


def _images(member: Trained) -> int:
    (shape,) = member.network.system.preprocess.shapes.values()
    return shape[0] if len(shape) == 4 else 1
