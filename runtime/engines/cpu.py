"""What this machine's processor can do, as far as the system tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["CpuFlags", "cpu_flags", "lacks_vnni"]

_VNNI = frozenset({"avx512_vnni", "avx_vnni"})


@dataclass(frozen=True, slots=True)
class CpuFlags:
    """The features of a processor by the names of ``/proc/cpuinfo``, and whether it is an x86 one."""

    is_x86: bool
    names: frozenset[str]


def cpu_flags() -> CpuFlags | None:
    """The first processor's features; None where the system does not tell (macOS, Windows)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, flags = line.partition(":")
        # x86 has flags, Arm has Features.
        if name.strip() in ("flags", "Features"):
            return CpuFlags(name.strip() == "flags", frozenset(flags.split()))
    return None


def lacks_vnni() -> bool | None:
    """Whether this is an x86 processor without VNNI; None where the system does not tell, False on Arm.

    Such a processor multiplies uint8 by int8 with an instruction that adds pairs of products in 16 bits: of weights
    beyond 64 the sums saturate, and scores are wrong without a word.
    """
    flags = cpu_flags()
    return None if flags is None else flags.is_x86 and not flags.names & _VNNI
