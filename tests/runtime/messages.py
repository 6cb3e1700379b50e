"""What every error of the package must say."""

from __future__ import annotations

import pytest
from edgeiqa.runtime.errors import EdgeIQAError


def require_message(caught: pytest.ExceptionInfo[EdgeIQAError], got: str, expected: str = "", mend: str = "") -> None:
    """The message names what was got, what was expected and what mends it, each with these words."""
    error = caught.value
    for part, words in ((error.got, got), (error.expected, expected), (error.mend, mend)):
        assert part.strip(), f"an empty part in {error}"
        assert words in part, f"{words!r} is not in {part!r}"
    assert str(error) == f"{error.got}; expected {error.expected}; to mend: {error.mend}"
