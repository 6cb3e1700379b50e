"""Measurement: what was measured of a model on one machine, with all that is needed to read the figures."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Self

import msgspec

from ..runtime.errors import RecordError
from .cost import Convention
from .latency import Latency

__all__ = ["HostFacts", "Measurement", "host_facts"]


class HostFacts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The machine on which something was measured.

    Attributes:
        cpu: its processor's name, or the architecture where the system tells none.
        architecture: ``x86_64``, ``aarch64``, ...
        cores: logical cores that this process may use.
        os: name and release of the system.
        python: version.
    """

    cpu: str
    architecture: str
    cores: int
    os: str
    python: str


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Facts measured of a model; None is what was not measured.

    Attributes:
        subject: what was measured, for people.
        host: the machine.
        engine: ``onnxruntime``, ``openvino``, ``torch``, ...
        engine_version: of that engine.
        precision: that the engine was told: ``f32``, ``bf16``, ``fp16``, ``int8``.
        threads: that the engine was given.
        load_ms: from the file to a scorer that is ready.
        first_score_ms: the first photograph after loading, from file to score.
        graph: the engine alone, views in and raw score out, batch 1, all members one after another.
        file_to_score: a photograph's file in and its score out: decode, views, graph, score map.
        photo_width: of the photograph that ``first_score_ms`` and ``file_to_score`` are of, in pixels.
        photo_height: likewise.
        peak_rss_mib: largest resident set of a process that loaded the model and scored that photograph.
        energy_mj: of scoring that photograph, millijoules above what the machine draws when it waits.
        size_bytes: of the file that is shipped.
        macs: multiply-adds of one score, over all views, crops and members.
        parameters: of all members.
        convention: in which ``macs`` were counted.

    Raises:
        RecordError: a number that is negative or not finite, or threads or sides that are not at least 1.
    """

    subject: str
    host: HostFacts
    engine: str
    engine_version: str
    precision: str
    threads: int | None = None
    load_ms: float | None = None
    first_score_ms: float | None = None
    graph: Latency | None = None
    file_to_score: Latency | None = None
    photo_width: int | None = None
    photo_height: int | None = None
    peak_rss_mib: float | None = None
    energy_mj: float | None = None
    size_bytes: int | None = None
    macs: int | None = None
    parameters: int | None = None
    convention: Convention = "strict"

    def __post_init__(self) -> None:
        for least, names in (
            (0, ("load_ms", "first_score_ms", "peak_rss_mib", "energy_mj", "size_bytes", "macs", "parameters")),
            (1, ("threads", "photo_width", "photo_height")),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not (math.isfinite(value) and value >= least):
                    raise RecordError(
                        f"a measurement with {name} = {value}",
                        expected=f"a finite number from {least}, or none where it was not measured",
                        mend="measure again",
                    )

    def to_json(self) -> bytes:
        """The measurement as JSON, UTF-8."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            RecordError: it is not JSON, a field is missing, unknown or of another type, or out of its range.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordError(
                f"a measurement that does not read: {error}",
                expected="JSON with the fields of a measurement",
                mend="measure again, with this version",
            ) from error


def host_facts() -> HostFacts:
    """The facts of this machine and this Python."""
    architecture = platform.machine() or "unknown"
    return HostFacts(
        cpu=_cpu_name() or architecture,
        architecture=architecture,
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        os=f"{platform.system()} {platform.release()}".strip() or "unknown",
        python=platform.python_version(),
    )


def _cpu_name() -> str:
    if sys.platform == "linux":
        try:
            return _named_in_cpuinfo(Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"))
        except OSError:
            return ""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            return ""
        return done.stdout.strip()
    return platform.processor()


def _named_in_cpuinfo(text: str) -> str:
    """The processor's name in Linux's ``/proc/cpuinfo``; on Arm boards that of the board."""
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    return next((facts[key] for key in ("model name", "Model", "Hardware") if facts.get(key)), "")
