from __future__ import annotations

from pathlib import Path

import pytest
from edgeiqa.profiles.energy import RaplCounter, measure_energy
from edgeiqa.runtime.errors import UsageError

SPAN = 100_000_000


class Machine:
    """A clock and two packages whose counters run with it: 5 W idle each, and what scoring draws."""

    def __init__(self, root: Path, *, watts: float = 30.0, starts: tuple[int, int] = (1_000, 2_000)) -> None:
        self.root, self.watts, self.now = root, watts, 0.0
        self.counters = list(starts)
        for index, name in enumerate(("package-0", "package-1")):
            self.zone(f"intel-rapl:{index}", name)
        # Parts of a package, and the board: not to be added.
        self.zone("intel-rapl:0:0", "core")
        self.zone("intel-rapl:9", "psys")
        self.write()

    def zone(self, folder: str, name: str) -> None:
        (self.root / folder).mkdir(parents=True)
        (self.root / folder / "name").write_text(f"{name}\n")
        (self.root / folder / "max_energy_range_uj").write_text(f"{SPAN}\n")
        (self.root / folder / "energy_uj").write_text("123\n")

    def write(self) -> None:
        for index, counter in enumerate(self.counters):
            (self.root / f"intel-rapl:{index}" / "energy_uj").write_text(f"{counter % SPAN}\n")

    def wait(self, seconds: float, watts_each: float = 5.0) -> None:
        self.now += seconds
        self.counters = [counter + round(watts_each * seconds * 1e6) for counter in self.counters]
        self.write()

    def score(self) -> None:
        self.wait(0.25, self.watts / 2)


@pytest.mark.parametrize("starts", [(1_000, 2_000), (SPAN - 1, SPAN - 5_000_000)])
def test_joules_above_idle_also_where_a_counter_starts_again(tmp_path: Path, starts: tuple[int, int]) -> None:
    machine = Machine(tmp_path, starts=starts)
    counter = RaplCounter(tmp_path)
    seen = measure_energy(machine.score, counter, seconds=0.5, sleep=machine.wait, clock=lambda: machine.now)
    assert (seen.idle_watts, seen.busy_watts) == pytest.approx((10, 30))
    # 20 W above idle, for a quarter of a second.
    assert seen.joules_per_photo == pytest.approx(5.0)
    assert (seen.photos, seen.seconds, seen.packages) == (2, 0.5, ("package-0", "package-1"))


def test_no_more_than_idle_is_no_energy_and_not_zero(tmp_path: Path) -> None:
    machine = Machine(tmp_path, watts=10.0)
    with pytest.raises(UsageError, match="no more than idling at 10 W"):
        measure_energy(machine.score, RaplCounter(tmp_path), sleep=machine.wait, clock=lambda: machine.now)


def test_a_machine_without_counters(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no RAPL counters"):
        RaplCounter(tmp_path / "powercap")
    Machine(tmp_path / "part")
    for index in range(2):
        (tmp_path / "part" / f"intel-rapl:{index}" / "name").write_text("dram")
    with pytest.raises(UsageError, match="no RAPL counters"):
        RaplCounter(tmp_path / "part")


def test_counters_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(tmp_path)
    read = Path.read_text

    def refuse(path: Path, *arguments: str, **options: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(UsageError, match=r"may not be read.*run it as root"):
        RaplCounter(tmp_path)


@pytest.mark.parametrize("text", ["", "many"])
def test_counters_that_are_no_numbers(tmp_path: Path, text: str) -> None:
    Machine(tmp_path)
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text(text)
    with pytest.raises(UsageError, match="a number of microjoules"):
        RaplCounter(tmp_path)
