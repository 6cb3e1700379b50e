"""Budgets: what a model may cost, and whether a measurement keeps to it."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ..runtime.errors import RecordError, UsageError
from .amounts import Amount, AmountKind, format_amount, parse_amount
from .cost import CONVENTIONS, Convention
from .measurement import Measurement

__all__ = [
    "MEASURED",
    "Budget",
    "Quantity",
    "Violation",
    "budget_names",
    "combine_budgets",
    "load_budget",
    "parse_budget",
    "read_budget",
]

Quantity = Literal["macs", "parameters", "size_bytes", "latency_p95_ms", "peak_rss_mib", "energy_mj"]
_QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)

MEASURED: tuple[Quantity, ...] = ("latency_p95_ms", "peak_rss_mib", "energy_mj")
"""What only a measurement on the device's engine tells; the others are counted."""


class Violation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A limit that was not kept, or of which nobody knows, since the quantity was not measured.

    Attributes:
        quantity: the limit's name in `Budget`.
        limit: in the quantity's unit.
        measured: likewise; None when it was not measured.
        ratio: measured / limit, more than 1; None when it was not measured.
        convention: that a limit of multiply-adds is in.
    """

    quantity: Quantity
    limit: float
    measured: float | None = None
    ratio: float | None = None
    convention: Convention = "strict"

    @property
    def kind(self) -> Literal["exceeded", "unmeasured"]:
        """``exceeded``: over the limit. ``unmeasured``: bounded, and not measured."""
        return "unmeasured" if self.measured is None else "exceeded"

    def describe(self) -> str:
        """A line for people, such as ``79.7 GMACs of 50 GMACs (1.594 x)``."""
        limit = _written(self.quantity, self.limit)
        quantity = f"{self.quantity} ({self.convention})" if self.convention != "strict" else self.quantity
        if self.measured is None or self.ratio is None:
            return f"{quantity} was not measured, and is bounded by {limit}"
        return f"{quantity}: {_written(self.quantity, self.measured)} of {limit} ({self.ratio:.4g} x)"


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of what scoring one photograph may cost. None bounds nothing; at least one is given.

    Attributes:
        name: of the budget.
        macs: multiply-adds over all views, crops and members.
        parameters: of all members.
        size_bytes: of the file that is shipped.
        latency_p95_ms: 95th percentile from a photograph's file to its score.
        peak_rss_mib: largest resident set of the process that scores.
        energy_mj: millijoules of scoring a photograph.
        convention: in which ``macs`` are counted; see `profiles.cost.CONVENTIONS`.
        source: where the limits come from.
        status: ``documented`` by the source, ``measured`` on a device, or ``stated`` by the user in the call.

    Raises:
        RecordError: no limit, or a limit that is not a finite number of more than 0.
    """

    name: str
    macs: int | None = None
    parameters: int | None = None
    size_bytes: int | None = None
    latency_p95_ms: float | None = None
    peak_rss_mib: float | None = None
    energy_mj: float | None = None
    convention: Convention = "strict"
    source: str
    status: Literal["documented", "measured", "stated"]

    def __post_init__(self) -> None:
        limits = self.limits
        wrong = {name: limit for name, limit in limits.items() if not (math.isfinite(limit) and limit > 0)}
        if wrong or not limits:
            raise RecordError(
                f"budget {self.name!r} with {wrong or 'no limits'}",
                expected=f"at least one limit of more than 0: {', '.join(_QUANTITIES)}",
                mend="correct the budget's limits",
            )

    @property
    def limits(self) -> dict[Quantity, float]:
        """The limits that are given, by quantity."""
        limits = {name: getattr(self, name) for name in _QUANTITIES}
        return {name: limit for name, limit in limits.items() if limit is not None}

    def describe_limits(self) -> tuple[str, ...]:
        """Each limit for people, such as ``macs 50 GMACs``."""
        return tuple(f"{name} {_written(name, limit)}" for name, limit in self.limits.items())

    def check(self, measurement: Measurement) -> tuple[Violation, ...]:
        """Hold a measurement against the limits; a value that equals its limit keeps it.

        Multiply-adds in another convention than the budget's are no measurement of what it bounds.

        Returns:
            What was exceeded, and what is bounded and was not measured; empty when all limits are known to be kept.
        """
        latency = measurement.file_to_score
        measured: dict[Quantity, float | None] = {
            "macs": measurement.macs if measurement.convention == self.convention else None,
            "parameters": measurement.parameters,
            "size_bytes": measurement.size_bytes,
            "latency_p95_ms": None if latency is None else latency.p95_ms,
            "peak_rss_mib": measurement.peak_rss_mib,
            "energy_mj": measurement.energy_mj,
        }
        return self._hold(measured)

    def exceeded_by(self, known: Mapping[Quantity, float]) -> tuple[Violation, ...]:
        """What is known to be over its limit, in the order of ``known``, while the rest is not known yet.

        Args:
            known: some quantities; multiply-adds in the budget's convention.
        """
        over = {violation.quantity: violation for violation in self._hold(known) if violation.kind == "exceeded"}
        return tuple(over[quantity] for quantity in known if quantity in over)

    def _hold(self, measured: Mapping[Quantity, float | None]) -> tuple[Violation, ...]:
        violations = []
        for quantity, limit in self.limits.items():
            value = measured.get(quantity)
            convention = self.convention if quantity == "macs" else "strict"
            if value is None:
                violations.append(Violation(quantity=quantity, limit=limit, convention=convention))
            elif value > limit:
                violations.append(
                    Violation(
                        quantity=quantity, limit=limit, measured=value, ratio=value / limit, convention=convention
                    )
                )
        return tuple(violations)


def budget_names() -> tuple[str, ...]:
    """Names of the budgets that come with the package."""
    files = resources.files(__package__).joinpath("data").iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_budget(name: str) -> Budget:
    """Load a budget that comes with the package.

    Raises:
        UsageError: there is none of that name; the message lists those there are.
    """
    names = budget_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        raise UsageError(
            f"no budget named {name!r}",
            expected=f"one of: {', '.join(names)}",
            mend=f"write {near[0]}" if near else "choose one of these, or give limits such as 50GMACs,4MB,30ms",
        )
    return _from_toml(resources.files(__package__).joinpath("data", f"{name}.toml").read_bytes(), f"budget {name!r}")


def read_budget(path: Path) -> Budget:
    """Read a budget from a TOML file with `Budget`'s fields.

    Raises:
        UsageError: the file cannot be read, or is not a budget.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", expected="a TOML file with a budget", mend="give the path of one"
        ) from error
    return _from_toml(data, str(path))


def parse_budget(text: str) -> Budget:
    """Read limits as people write them: amounts with commas between, such as ``50GMACs`` or ``50G,4MB,30ms``.

    A bare count is of multiply-adds; bytes are the file's, and with ``RAM`` after them the peak of memory; a time
    bounds the 95th percentile from file to score; an energy is of one photograph. Multiply-adds are *strict* unless a
    convention stands among the amounts (``4.2G,ptflops-pytorch``).

    Raises:
        UsageError: an amount does not parse, or bounds what another one bounds already.
    """
    limits: dict[str, float] = {}
    conventions: list[str] = []
    for part in text.split(","):
        if part.strip() in CONVENTIONS:
            conventions.append(part.strip())
            continue
        amount = parse_amount(part)
        quantity = _BOUNDS[amount.kind]
        if quantity in limits:
            raise UsageError(
                f"the budget {text!r}, which bounds {quantity} twice",
                expected="one limit for each quantity",
                mend="leave one of them out",
            )
        limits[quantity] = amount.value / 2**20 if quantity == "peak_rss_mib" else amount.value
    if len(conventions) > 1 or (conventions and "macs" not in limits):
        raise UsageError(
            f"the budget {text!r}, with {len(conventions)} conventions and the limits {', '.join(limits) or 'none'}",
            expected="at most one convention, of a limit of multiply-adds",
            mend="write one, such as 4.2GMACs,ptflops-pytorch",
        )
    stated = {"name": text.strip(), "source": "the call", "status": "stated", **limits}
    return msgspec.convert({**stated, "convention": conventions[0]} if conventions else stated, Budget)


def combine_budgets(budgets: Sequence[Budget]) -> Budget:
    """One budget that is kept when all of them are: of each quantity the tightest limit.

    Args:
        budgets: at least one.

    Raises:
        UsageError: they bound multiply-adds in different conventions, which do not compare.
    """
    if len(budgets) == 1:
        return budgets[0]
    conventions = {budget.convention for budget in budgets if budget.macs is not None}
    if len(conventions) > 1:
        raise UsageError(
            f"budgets in the conventions {' and '.join(sorted(conventions))}",
            expected="one convention: multiply-adds of two do not compare",
            mend="leave one of the budgets out",
        )
    limits: dict[str, float] = {}
    for budget in budgets:
        for quantity, limit in budget.limits.items():
            limits[quantity] = min(limit, limits.get(quantity, limit))
    statuses = {budget.status for budget in budgets}
    return msgspec.convert(
        {
            "name": " and ".join(budget.name for budget in budgets),
            "source": "; ".join(dict.fromkeys(budget.source for budget in budgets)),
            # What the user states counts as stated also beside documented limits.
            "status": "stated" if "stated" in statuses else "measured" if "measured" in statuses else "documented",
            "convention": conventions.pop() if conventions else "strict",
            **limits,
        },
        Budget,
    )


_BOUNDS: dict[AmountKind, Quantity] = {
    "count": "macs",
    "macs": "macs",
    "parameters": "parameters",
    "bytes": "size_bytes",
    "memory": "peak_rss_mib",
    "milliseconds": "latency_p95_ms",
    "millijoules": "energy_mj",
}
_KINDS: dict[Quantity, AmountKind] = {
    "macs": "macs",
    "parameters": "parameters",
    "size_bytes": "bytes",
    "latency_p95_ms": "milliseconds",
    "energy_mj": "millijoules",
}


def _written(quantity: Quantity, value: float) -> str:
    return format_amount(Amount(_KINDS[quantity], value)) if quantity in _KINDS else f"{value:.4g} MiB"


def _from_toml(data: bytes, where: str) -> Budget:
    try:
        return msgspec.convert(tomllib.loads(data.decode()), Budget)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{where}, which is not a budget: {error}",
            expected="TOML with name, source, status (documented, measured) and limits as plain numbers",
            mend="correct the file",
        ) from error
