"""Counts that `plan` needs, kept in a file: what was counted once is not counted again with the same versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import msgspec
import torch

from ..profiles.cost import count_module
from ..profiles.latency import measure_latency
from ..profiles.measurement import host_facts
from ..runtime.errors import UsageError
from ..runtime.version import __version__
from .input_size import count_system, network_stride
from .models.backbones import has_fixed_size
from .models.network import QualityNet, build
from .models.records import System
from .models.systems import one_backbone
from .models.weights import NoWeights

__all__ = ["Count", "CountCache", "Sounding", "UncountedError", "anchors", "cost_law", "sound", "this_machine"]


class Count(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A strict count.

    Attributes:
        macs: multiply-adds of one member.
        parameters: of one member.
    """

    macs: int
    parameters: int


class Sounding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backbone with a linear head at two or three small sizes.

    Attributes:
        stride: what sides should be multiples of, in pixels.
        any_size: whether one network takes inputs of every size.
        parameters: of the network at the last of them; position embeddings grow with the input.
        points: pixels of the input and strict multiply-adds, in order.
        output_bytes: largest output of a layer at the last of them, FP32.
    """

    stride: int
    any_size: bool
    parameters: int
    points: tuple[tuple[int, int], ...]
    output_bytes: int

    def macs(self, pixels: int) -> int:
        """Multiply-adds of one input of that many pixels, foretold by `cost_law`."""
        return cost_law(self.points)(pixels)


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    versions: dict[str, str]
    soundings: dict[str, Sounding] = {}
    counts: dict[str, Count] = {}
    times_ms: dict[str, float] = {}


class UncountedError(UsageError):
    """A cache that makes no counts was asked for one that it does not hold."""


def _versions() -> dict[str, str]:
    return {"edgeiqa": __version__, **{name: version(name) for name in ("timm", "torch", "fvcore")}}


def this_machine() -> str:
    """What times are of: processor and number of torch's threads."""
    return f"{host_facts().cpu}, {torch.get_num_threads()} threads"


class CountCache:
    """Soundings, counts and times by name and size, in a JSON file that is written whenever one is added.

    A file of other versions of edgeiqa, timm, torch or fvcore is begun anew. Times belong to a machine and a number of
    threads.

    Attributes:
        counted: how many counts were made, and not found, since it was opened.
    """

    def __init__(self, path: Path | None = None, *, only_known: bool = False) -> None:
        """Open it.

        Args:
            path: of the file; None keeps everything in memory.
            only_known: make no count and take no time; what is asked for and is not in the file is an `UncountedError`.

        Raises:
            UsageError: the file is not such a cache.
        """
        self._path = path
        self._only_known = only_known
        self._file = _File(versions=_versions())
        self.counted = 0
        if path is not None and path.exists():
            try:
                found = msgspec.json.decode(path.read_bytes(), type=_File)
            except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise UsageError(
                    f"{path}, which is not a cache of counts: {error}",
                    expected="what edgeiqa plan wrote",
                    mend=f"rm {path}: all is counted again",
                ) from error
            if found.versions == self._file.versions:
                self._file = found
        self._machine = this_machine()

    def sounding(self, backbone: str) -> Sounding:
        """A backbone's sounding, with the time of its last point beside it; made when it is not known.

        Raises:
            ModelError: timm has no such backbone, or it does not run.
        """
        if backbone not in self._file.soundings:
            self._require_making(f"count of {backbone}")
            self._file.soundings[backbone], time_ms = sound(backbone)
            self._file.times_ms[self._time_key(backbone)] = time_ms
            self.counted += len(self._file.soundings[backbone].points)
            self._save()
        return self._file.soundings[backbone]

    def known_sounding(self, backbone: str) -> Sounding | None:
        """A backbone's sounding; None where it is not in the file."""
        return self._file.soundings.get(backbone)

    def gmacs_a_second(self, backbone: str) -> float:
        """Speed of this machine at the last point of a backbone's sounding: torch, FP32, batch 1.

        Raises:
            ModelError: timm has no such backbone, or it does not run.
        """
        key, sounding = self._time_key(backbone), self.sounding(backbone)
        if key not in self._file.times_ms:
            self._require_making(f"time of {key}")
            width, height = anchors(backbone)[-1]
            self._file.times_ms[key] = _time(_network(one_backbone(backbone, width, height)))
            self._save()
        return sounding.points[-1][1] / 1e6 / max(1e-6, self._file.times_ms[key])

    def count(self, system: System) -> Count:
        """The strict count of a system at its own size.

        Raises:
            ModelError: the network cannot be built at this size, or does not run.
        """
        if system.name not in self._file.counts:
            self._require_making(f"count of {system.name}")
            cost = count_system(system)
            self._file.counts[system.name] = Count(macs=cost.macs, parameters=cost.parameters)
            self.counted += 1
            self._save()
        return self._file.counts[system.name]

    def measure_ms(self, system: System) -> float:
        """Median time of a forward of one photograph's views, measured now: torch, FP32, batch 1, random weights.

        Raises:
            ModelError: the network cannot be built at this size.
        """
        self._require_making(f"new time of {system.name}")
        time_ms = self._file.times_ms[self._time_key(system.name)] = _time(_network(system))
        self._save()
        return time_ms

    def _require_making(self, what: str) -> None:
        if self._only_known:
            raise UncountedError(
                f"no {what} in {self._path}",
                expected="what edgeiqa plan counts, with these versions of edgeiqa, timm, torch and fvcore",
                mend="edgeiqa plan, with the same budget",
            )

    def _time_key(self, name: str) -> str:
        return f"{name} on {self._machine}"

    def _save(self) -> None:
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f"{self._path.name}.partial")
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(self._file), indent=1))
        partial.replace(self._path)


def anchors(backbone: str) -> tuple[tuple[int, int], ...]:
    """Sizes, width and height in pixels, at which a backbone is sounded.

    Two for a convolutional network, whose cost is linear in the pixels but for what is done once; three for one that
    attends, which windows of 7 positions divide.

    Raises:
        ModelError: timm has no such backbone, or does not say its stride.
    """
    stride = network_stride(backbone)
    if has_fixed_size(backbone):
        side = 224 if 224 % stride == 0 else 7 * stride
        return (side, side), (2 * side, side), (2 * side, 2 * side)
    return (4 * stride, 4 * stride), (8 * stride, 8 * stride)


def sound(backbone: str) -> tuple[Sounding, float]:
    """Count a backbone with a linear head at its `anchors`, and measure its time at the last one.

    Returns:
        The sounding, and the median time of a forward there in milliseconds: torch, FP32, batch 1.

    Raises:
        ModelError: timm has no such backbone, or it does not run.
    """
    any_size = not has_fixed_size(backbone)
    points = []
    network: QualityNet | None = None
    for width, height in anchors(backbone):
        system = one_backbone(backbone, width, height)
        if network is None or not any_size:
            network = _network(system)
        cost = count_module(network, (torch.zeros((1, height, width, 3), dtype=torch.uint8),), names=("image",))
        points.append((width * height, cost.macs))
    assert network is not None
    view = torch.zeros((1, height, width, 3), dtype=torch.uint8)
    sounding = Sounding(
        stride=network_stride(backbone),
        any_size=any_size,
        parameters=cost.parameters,
        points=tuple(points),
        output_bytes=_largest_output_bytes(network, view),
    )
    return sounding, _time(network, (view,))


def _network(system: System) -> QualityNet:
    return build(system, weights=NoWeights())


def _time(network: QualityNet, views: tuple[torch.Tensor, ...] | None = None) -> float:
    shapes = network.system.preprocess.shapes
    inputs = views or tuple(torch.zeros((1, *shape), dtype=torch.uint8) for shape in shapes.values())
    with torch.inference_mode():
        return measure_latency(lambda: network(*inputs), warmup=1, runs=3).p50_ms


def _largest_output_bytes(network: QualityNet, view: torch.Tensor) -> int:
    largest = 0

    def note(_module: object, _inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.element_size() * output.numel())

    handles = [module.register_forward_hook(note) for module in network.modules() if not list(module.children())]
    try:
        with torch.inference_mode():
            network(view)
    finally:
        for handle in handles:
            handle.remove()
    return largest


def cost_law(points: Sequence[tuple[int, int]]) -> Callable[[int], int]:
    """Multiply-adds as a polynomial of the pixels, through counted points ``(pixels, multiply-adds)``.

    Through two points a line, which is a convolutional network's cost where its stride divides the sides; through three
    a parabola, which is that of attention over all positions.
    """

    def law(pixels: int) -> int:
        total = Fraction(0)
        for at, (x, macs) in enumerate(points):
            term = Fraction(macs)
            for other, (x1, _) in enumerate(points):
                if other != at:
                    term *= Fraction(pixels - x1, x - x1)
            total += term
        return max(0, round(total))

    return law
