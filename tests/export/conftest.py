"""Each small network is exported once for all tests."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest

from .networks import Exported, export, small


@pytest.fixture(scope="session")
def exported() -> Callable[[str], Exported]:
    """From a name of `networks.SYSTEMS` to the network and its graph."""
    return functools.cache(lambda name: export(small(name)))
