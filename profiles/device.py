"""Devices: what a machine that scores has, as documented or measured, and what it allows."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..runtime.errors import RecordError, UsageError
from ..runtime.manifest import Precision
from .budget import Budget, budget_names, load_budget

__all__ = ["Device", "DeviceTarget", "FactSource", "device_names", "load_device", "read_device"]

DeviceTarget = Literal["onnx", "openvino", "tensorrt"]

_FACTS = (
    "targets",
    "precisions",
    "compute_capability",
    "memory_mib",
    "bandwidth_gb_s",
    "peak_tmacs",
    "macs_per_cycle",
    "budget",
)


class FactSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a fact comes from.

    Attributes:
        source: an address or a name that finds it, and how the number follows from it where it does not stand there.
        status: ``documented`` there, or ``measured`` on such a device.
    """

    source: str
    status: Literal["documented", "measured"]


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device. A fact for which no source was found is None or empty, and not estimated.

    Attributes:
        name: lower-case, as ``--device`` takes it.
        description: which model of it, for people.
        targets: forms of graph that run there.
        precisions: that its hardware computes in; empty where none are documented.
        compute_capability: that TensorRT builds an engine for, ``8.9``.
        memory_mib: that a process can have at most, shared with the system.
        bandwidth_gb_s: of its memory, GB a second (10^9 bytes).
        peak_tmacs: by precision 10^12 multiply-adds a second, without sparsity.
        macs_per_cycle: by precision multiply-adds a cycle of one core.
        budget: what it allows; None where it states no limit.
        sources: by the name of each fact above that is given.

    Raises:
        RecordError: a number that is not more than 0, a fact without a source or a source without its fact.
    """

    name: str
    description: str
    targets: tuple[DeviceTarget, ...]
    precisions: tuple[Precision, ...] = ()
    compute_capability: str | None = None
    memory_mib: int | None = None
    bandwidth_gb_s: float | None = None
    peak_tmacs: dict[Precision, float] = {}
    macs_per_cycle: dict[Precision, int] = {}
    budget: Budget | None = None
    sources: dict[str, FactSource]

    def __post_init__(self) -> None:
        numbers = [self.memory_mib, self.bandwidth_gb_s, *self.peak_tmacs.values(), *self.macs_per_cycle.values()]
        wrong = [number for number in numbers if number is not None and not (math.isfinite(number) and number > 0)]
        capability = self.compute_capability
        if wrong or not self.targets or (capability is not None and not re.fullmatch(r"\d{1,2}\.\d", capability)):
            raise RecordError(
                f"device {self.name!r} with {wrong or 'targets or a compute capability that are none'}",
                expected="numbers of more than 0, at least one target, a capability such as 8.9",
                mend="correct the device's record",
            )
        given = {fact for fact in _FACTS if getattr(self, fact) not in (None, (), {})}
        if given != set(self.sources):
            raise RecordError(
                f"device {self.name!r} with the facts {sorted(given)} and sources of {sorted(self.sources)}",
                expected="a source for each fact, and none besides",
                mend="add the source, or leave the fact out",
            )

    def require_target(self, target: DeviceTarget) -> None:
        """Refuse a form of graph that does not run there.

        Raises:
            UsageError: it does not.
        """
        if target not in self.targets:
            raise UsageError(
                f"a graph for {target} on the device {self.name}",
                expected=f"one of its targets: {', '.join(self.targets)}",
                mend=f"--target {self.targets[0]}",
            )


def device_names() -> tuple[str, ...]:
    """Names of the devices that come with the package."""
    return tuple(sorted(file.name.removesuffix(".toml") for file in _folder().iterdir() if file.name.endswith(".toml")))


def load_device(name: str) -> Device:
    """Load a device that comes with the package.

    Raises:
        UsageError: there is none of that name; the message lists those there are.
    """
    names = device_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        mend = f"write {near[0]}" if near else "choose one of these, or give limits of your own: --budget 50GMACs,30ms"
        raise UsageError(
            f"no device named {name!r}",
            expected=f"one of: {', '.join(names)}",
            mend=f"--budget {name}, which is a budget" if name in budget_names() else mend,
        )
    return _from_toml(_folder().joinpath(f"{name}.toml").read_bytes(), f"device {name!r}")


def read_device(path: Path) -> Device:
    """Read a device from a TOML file with `Device`'s fields; ``budget`` may be the name of one.

    Raises:
        UsageError: the file cannot be read, or is not a device.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}", expected="a TOML file with a device", mend="give the path of one"
        ) from error
    return _from_toml(data, str(path))


def _folder() -> Any:
    return resources.files(__package__).joinpath("data", "devices")


def _from_toml(data: bytes, where: str) -> Device:
    try:
        fields = tomllib.loads(data.decode())
        if isinstance(fields.get("budget"), str):
            fields["budget"] = msgspec.to_builtins(load_budget(fields["budget"]))
        return msgspec.convert(fields, Device)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(
            f"{where}, which is not a device: {error}",
            expected="TOML with name, description, targets, facts and a [sources.FACT] for each of them",
            mend="correct the file",
        ) from error
