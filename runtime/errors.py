"""The error tree of edgeiqa.

Every error says what was got, what was expected, and the command or change that mends it::

    EdgeIQAError                the call cannot run                              exit 2
    ├── RecordError             a record's field is out of its range (a ValueError)
    ├── UsageError              options that do not go together, an output that exists
    ├── MissingExtraError       a library that an extra of the package installs
    ├── PhotoError              a photograph that cannot be read                 (score: exit 1)
    ├── BundleError             a bundle that must not be used
    │   ├── BundleFormatError       not a bundle, or a rule of the format broken
    │   ├── BundleVersionError      a newer major format
    │   ├── BundleRequiresError     needs a capability this version does not have
    │   └── BundleHashError         a part that is not what the manifest says
    ├── EngineError             an engine that is absent or refuses a graph
    ├── DataError               a data set that is not as stated
    ├── ModelError              a model that cannot be built or loaded
    ├── ExportError             a graph that cannot be made
    └── HonestNoError           the work ran and the answer is no                exit 1
        ├── GateError               a gate failed
        └── BudgetError             a budget is broken
"""

from __future__ import annotations

__all__ = [
    "BudgetError",
    "BundleError",
    "BundleFormatError",
    "BundleHashError",
    "BundleRequiresError",
    "BundleVersionError",
    "DataError",
    "EdgeIQAError",
    "EngineError",
    "ExportError",
    "GateError",
    "HonestNoError",
    "MissingExtraError",
    "ModelError",
    "PhotoError",
    "RecordError",
    "UsageError",
]


class EdgeIQAError(Exception):
    """Base of all errors of this package.

    Attributes:
        got: what was found.
        expected: what would have been right.
        mend: the command or change that mends it.
        exit_code: what the command line returns for it.
    """

    exit_code = 2

    def __init__(self, got: str, *, expected: str, mend: str) -> None:
        super().__init__(got, expected, mend)
        self.got = got
        self.expected = expected
        self.mend = mend

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by their positional arguments, and these are not all positional.
        return _unpickled, (type(self), self.got, self.expected, self.mend)

    def __str__(self) -> str:
        return f"{self.got}; expected {self.expected}; to mend: {self.mend}"


def _unpickled(kind: type[EdgeIQAError], got: str, expected: str, mend: str) -> EdgeIQAError:
    return kind(got, expected=expected, mend=mend)


class RecordError(EdgeIQAError, ValueError):
    """A record's field is out of its range."""


def require_field(holds: bool, got: str, expected: str, mend: str = "correct the record's field") -> None:
    """Raise `RecordError` unless a record's field is as it should be."""
    if not holds:
        raise RecordError(got, expected=expected, mend=mend)


class UsageError(EdgeIQAError):
    """The call's options do not go together, or its output is in the way."""


class MissingExtraError(EdgeIQAError):
    """A library that an extra of the package installs is not here."""


class PhotoError(EdgeIQAError):
    """A photograph cannot be read."""


class BundleError(EdgeIQAError):
    """A bundle must not be used."""


class BundleFormatError(BundleError):
    """Not a bundle, or a rule of the format is broken."""


class BundleVersionError(BundleError):
    """The bundle is of a newer major format."""


class BundleRequiresError(BundleError):
    """The bundle needs a capability that this version does not have."""


class BundleHashError(BundleError):
    """A part of the bundle is not what the manifest says."""


class EngineError(EdgeIQAError):
    """An engine is absent, refuses a graph, or gives what it should not."""


class DataError(EdgeIQAError):
    """A data set is not as stated."""


class ModelError(EdgeIQAError):
    """A model cannot be built or its weights cannot be loaded."""


class ExportError(EdgeIQAError):
    """A graph cannot be made."""


class HonestNoError(EdgeIQAError):
    """The work ran and its answer is no."""

    exit_code = 1


class GateError(HonestNoError):
    """A gate failed."""


class BudgetError(HonestNoError):
    """A budget is broken."""
