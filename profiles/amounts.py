"""Amounts as people write them: ``50 GMACs``, ``5.4M parameters``, ``4MB``, ``500 MiB RAM``, ``30ms``, ``30mJ``.

Prefixes of counts and of bytes are decimal (k, M, G, T); ``Ki``, ``Mi``, ``Gi``, ``Ti`` are powers of 1024 and only
for bytes. Bytes are those of a file; those of memory are written with ``RAM`` after them. Energies are written with
their prefix as it is (``mJ`` is a millijoule, ``MJ`` is refused). A bare number with a prefix is a count of something
that the caller knows.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

import msgspec

from ..runtime.errors import UsageError

__all__ = ["Amount", "AmountKind", "format_amount", "parse_amount"]

AmountKind = Literal["count", "macs", "parameters", "bytes", "memory", "milliseconds", "millijoules"]

_EXAMPLES = "an amount such as 50G, 50 GMACs, 5.4M parameters, 4MB, 4 MiB or 30ms, 500 MiB RAM, 30mJ"
_NUMBER = re.compile(r"\s*(\d{1,18}(?:\.\d{0,18})?|\.\d{1,18})(e[+-]?\d{1,2})?\s*(.*?)\s*", re.IGNORECASE | re.ASCII)

_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "g": 10**9, "T": 10**12, "t": 10**12}
_NOUNS: dict[str, AmountKind] = {
    "": "count",
    "mac": "macs",
    "macs": "macs",
    "param": "parameters",
    "params": "parameters",
    "parameter": "parameters",
    "parameters": "parameters",
}
# Mb is a megabit: only one that is lower throughout ("4mb") is taken for bytes, as people type it.
_BYTES = {"B": 1, "byte": 1, "bytes": 1} | {
    spelling: base**power
    for power, prefix in enumerate("kMGT", start=1)
    for base, infix in ((1000, ""), (1024, "i"))
    for spelling in (f"{prefix}{infix}B", f"{prefix.upper()}{infix}B", f"{prefix}{infix}b".lower())
}
_MEMORY = re.compile(r"(.*\S)\s+(?:ram|memory)", re.IGNORECASE)
_MILLIJOULES = {"uJ": Decimal("0.001"), "mJ": Decimal(1), "J": Decimal(1000), "kJ": Decimal(1_000_000)}
_MILLISECONDS = {"us": Decimal("0.001"), "ms": Decimal(1), "s": Decimal(1000), "min": Decimal(60_000)}


class Amount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number with its kind.

    Attributes:
        kind: ``count`` of something the text does not name, ``macs``, ``parameters``, ``bytes`` of a file, bytes of
            ``memory``, ``milliseconds`` or ``millijoules``.
        value: in that unit; more than 0; whole except for milliseconds and millijoules.
    """

    kind: AmountKind
    value: int | float


def parse_amount(text: str) -> Amount:
    """Read an amount.

    Args:
        text: a number, then a prefix and a unit, with or without spaces. ``us`` may be written with a micro sign.

    Raises:
        UsageError: it does not parse, is not more than 0, or is in FLOPs, of which nobody knows whether a
            multiply-add is one or two.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise _unparsable(text)
    number, exponent, unit = match.groups()
    value = Decimal(number + (exponent or ""))
    unit = unit.replace("µ", "u").replace("μ", "u")
    if re.fullmatch(r"[kmgt]?\s*(flops?|ops)(/s)?", unit, re.IGNORECASE):
        raise UsageError(
            f"the amount {text!r}",
            expected="multiply-adds (MACs): a FLOP is sometimes a multiply-add and sometimes half of one",
            mend="write 50GMACs",
        )
    memory = _MEMORY.fullmatch(unit)
    if memory is not None and memory[1] in _BYTES:
        return _whole(text, "memory", value * _BYTES[memory[1]])
    if unit in _MILLIJOULES:
        return _positive(text, "millijoules", value * _MILLIJOULES[unit])
    if unit in _BYTES:
        return _whole(text, "bytes", value * _BYTES[unit])
    if unit in _MILLISECONDS:
        return _positive(text, "milliseconds", value * _MILLISECONDS[unit])
    for length in (1, 0):
        prefix, noun = unit[:length], unit[length:].strip().lower()
        # A lower m is milli, which no count has: "5m" might be meant as minutes.
        if prefix in _DECIMAL and noun in _NOUNS:
            return _whole(text, _NOUNS[noun], value * _DECIMAL[prefix])
    raise _unparsable(text)


def format_amount(amount: Amount, digits: int = 4) -> str:
    """Write an amount as `parse_amount` reads it.

    Args:
        amount: to be written; a file's bytes in decimal units, memory in powers of 1024.
        digits: significant digits at most, from 3; trailing zeros are left out.
    """
    if amount.kind == "milliseconds":
        steps = [(Decimal("0.001"), "us"), (Decimal(1), "ms"), (Decimal(1000), "s")]
    elif amount.kind == "millijoules":
        steps = [(step, unit) for unit, step in _MILLIJOULES.items()]
    elif amount.kind == "bytes":
        steps = [(Decimal(1), "B"), *((Decimal(_DECIMAL[p]), f"{p}B") for p in "kMGT")]
    elif amount.kind == "memory":
        steps = [(Decimal(1), "B RAM"), *((Decimal(_BYTES[f"{p}iB"]), f"{p}iB RAM") for p in "KMGT")]
    else:
        noun = {"count": "", "macs": "MACs", "parameters": " parameters"}[amount.kind]
        steps = [(Decimal(1), noun.strip()), *((Decimal(_DECIMAL[p]), f"{p}{noun}") for p in "kMGT")]
    exact = Decimal(repr(amount.value))
    written = [(Decimal(f"{exact / step:.{digits}g}"), unit) for step, unit in steps]
    # The smallest step at which what is printed stays under 1000: 999.96 k is written 1 M.
    base = 1024 if amount.kind == "memory" else 1000
    scaled, unit = next((pair for pair in written if pair[0] < base), written[-1])
    number = f"{scaled:f}"
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {unit}".strip()


def _positive(text: str, kind: AmountKind, value: Decimal) -> Amount:
    return Amount(kind, float(_within(text, value)))


def _whole(text: str, kind: AmountKind, value: Decimal) -> Amount:
    whole = _within(text, value).quantize(Decimal(1), rounding=ROUND_HALF_UP)
    return Amount(kind, int(_within(text, whole)))


def _within(text: str, value: Decimal) -> Decimal:
    """The value, which JSON readers take as a 64-bit integer."""
    if not 0 < value < 2**63:
        raise UsageError(
            f"the amount {text!r}", expected=f"more than 0 and less than {2**63:.2g}", mend=f"write {_EXAMPLES}"
        )
    return value


def _unparsable(text: str) -> UsageError:
    return UsageError(f"the amount {text!r}", expected=_EXAMPLES, mend="write a number and its unit (M for millions)")
