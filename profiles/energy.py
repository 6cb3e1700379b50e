"""Energy of one photograph, where the processor counts it (RAPL)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from ..runtime.errors import UsageError

__all__ = ["Energy", "RaplCounter", "measure_energy"]

_POWERCAP = Path("/sys/class/powercap")
# Less above idle than this part of all that was used cannot be told from idling.
_LEAST_ABOVE = 0.01


class Energy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Energy of scoring one photograph, above what the processor's packages draw when this process waits.

    What is counted: the packages of all sockets (cores, caches, memory controller), whoever uses them; neither memory
    modules nor disk, screen and power supply. Another process that is busy is counted too, so read it beside `Noise`.

    Attributes:
        joules_per_photo: (joules while scoring - idle watts x seconds) / photographs.
        busy_watts: mean while scoring.
        idle_watts: mean while this process slept, just before.
        photos: scored.
        seconds: that it took.
        packages: names of the counters that were added up.
    """

    joules_per_photo: float
    busy_watts: float
    idle_watts: float
    photos: int
    seconds: float
    packages: tuple[str, ...]


class RaplCounter:
    """The energy counters of a machine's packages (``intel-rapl:0`` and so on; AMD's have the same names)."""

    def __init__(self, root: Path = _POWERCAP) -> None:
        """Find the counters.

        Args:
            root: where Linux lists them.

        Raises:
            UsageError: there are none, or they may not be read.
        """
        zones = sorted(root.glob("intel-rapl:*")) if root.is_dir() else []
        # intel-rapl:0:0 is a part of intel-rapl:0, and psys the whole board.
        packages = [zone for zone in zones if zone.name.count(":") == 1 and _text(zone / "name").startswith("package")]
        if not packages:
            raise UsageError(
                f"no RAPL counters of packages under {root}",
                expected="a processor and a kernel that count energy",
                mend="measure on such a machine; virtual machines rarely have them",
            )
        self._counters = [(zone / "energy_uj", _number(zone / "max_energy_range_uj")) for zone in packages]
        self.names = tuple(_text(zone / "name") for zone in packages)
        self.read()

    def read(self) -> list[int]:
        """Each counter, in microjoules.

        Raises:
            UsageError: one may not be read.
        """
        return [_number(file) for file, _ in self._counters]

    def joules(self, begin: list[int], end: list[int]) -> float:
        """What was used between two readings; a counter that went over its range once is followed."""
        used = 0
        for (_, span), first, last in zip(self._counters, begin, end, strict=True):
            used += last - first if last >= first else last - first + span
        return used / 1e6


def measure_energy(
    call: Callable[[], object],
    counter: RaplCounter,
    *,
    seconds: float = 2.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Energy:
    """Measure the energy of a call above idle.

    Args:
        call: scores one photograph.
        counter: of this machine.
        seconds: of idling, and at least of scoring.
        sleep: waits.
        clock: monotonic seconds.

    Raises:
        UsageError: a counter cannot be read, or scoring used no more than idling did.
    """
    call()
    start, begin = clock(), counter.read()
    sleep(seconds)
    idle_watts = counter.joules(begin, counter.read()) / (clock() - start)
    start, begin, photos = clock(), counter.read(), 0
    while photos == 0 or clock() - start < seconds:
        call()
        photos += 1
    took = clock() - start
    joules = counter.joules(begin, counter.read())
    above = joules - idle_watts * took
    if not above > _LEAST_ABOVE * joules:
        raise UsageError(
            f"{joules:.3g} J in {took:.3g} s of scoring, no more than idling at {idle_watts:.3g} W",
            expected="more while scoring than while idle",
            mend="measure on a quiet machine",
        )
    return Energy(
        joules_per_photo=above / photos,
        busy_watts=joules / took,
        idle_watts=idle_watts,
        photos=photos,
        seconds=took,
        packages=counter.names,
    )


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(file: Path) -> int:
    try:
        return int(file.read_text(encoding="ascii"))
    except PermissionError:
        raise UsageError(
            f"{file}, which may not be read", expected="RAPL counters that may be read", mend="run it as root"
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {error}", expected="a number of microjoules", mend="check the kernel") from None
