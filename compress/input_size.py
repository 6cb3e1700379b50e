"""The input size that a budget of multiply-adds allows.

Costs are strict counts (`profiles.cost`) of networks with random weights: no weight is fetched for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version

import torch

from ..profiles.amounts import Amount, format_amount
from ..profiles.cost import Convention, Cost, count_module
from ..profiles.ptflops_cost import count_in
from ..runtime.errors import BudgetError, ModelError, UsageError
from ..runtime.preprocess import MAX_VIEW_PIXELS, MAX_VIEW_SIDE
from .models.backbones import create_backbone, has_fixed_size, pretrained_cfg
from .models.network import QualityNet, build
from .models.records import System
from .models.systems import one_backbone
from .models.weights import NoWeights

__all__ = ["BuildSystem", "InputSize", "candidate_sizes", "count_system", "network_stride", "solve_input_size"]

BuildSystem = Callable[[int, int], System]
"""From a width and a height in pixels to a system."""

_FIRST_PIXELS = 128 * 128
_PATIENCE = 3


@dataclass(frozen=True, slots=True)
class InputSize:
    """A size of the network's input and what the network costs there.

    Attributes:
        width: in pixels.
        height: likewise.
        macs: multiply-adds of one photograph, strict.
        parameters: of the network.
    """

    width: int
    height: int
    macs: int
    parameters: int


@lru_cache(maxsize=64)
def network_stride(backbone: str) -> int:
    """How many pixels of the input one position of a backbone's coarsest features covers: 32 for most, 14 for a ViT/14.

    Raises:
        ModelError: timm has no such backbone, or does not say its strides.
    """
    cfg = pretrained_cfg(backbone)
    # Without memory for its weights, nor random numbers.
    with torch.device("meta"):
        model = create_backbone(backbone, cfg.input_size[2], cfg.input_size[1], pretrained=False)
    stages = getattr(model, "feature_info", None)
    if not stages:
        raise ModelError(
            f"{backbone}, of which timm {version('timm')} does not say the strides",
            expected="a backbone with feature_info",
            mend="state the stride or the input size, or choose another backbone",
        )
    return max(int(stage["reduction"]) for stage in stages)


def count_system(system: System, convention: Convention = "strict") -> Cost:
    """Cost of a system, all its views and their test-time crops, from a network with random weights.

    Args:
        system: one member; `profiles.cost.total_cost` adds several up.
        convention: of the count; strict ones tell operators and layers.

    Raises:
        ModelError: the network cannot be built at its sizes, or does not run.
        MissingExtraError: ptflops is not installed and counts.
    """
    network = build(system, weights=NoWeights())
    return count_in(convention, network, _views(system), names=tuple(system.preprocess.shapes))


def _views(system: System) -> tuple[torch.Tensor, ...]:
    return tuple(torch.zeros((1, *shape), dtype=torch.uint8) for shape in system.preprocess.shapes.values())


class _Counter:
    """Counts of one recipe's systems at several sizes; a network that takes any size is built once."""

    def __init__(self, build_system: BuildSystem) -> None:
        self._build_system = build_system
        self._network: QualityNet | None = None

    def count(self, width: int, height: int) -> Cost:
        system = self._build_system(width, height)
        network = self._network
        if network is None or _without_sizes(network.system) != _without_sizes(system):
            network = build(system, weights=NoWeights())
        if not any(has_fixed_size(branch.backbone) for branch in system.branches):
            self._network = network
        return count_module(network, _views(system), names=tuple(system.preprocess.shapes))


def _without_sizes(system: System) -> tuple[object, ...]:
    views = tuple((name, shape[:-3]) for name, shape in system.preprocess.shapes.items())
    return views, system.branches, system.fusion, system.head


def solve_input_size(
    build_system: BuildSystem | str,
    *,
    macs_limit: int,
    image: tuple[int, int] = (3840, 2160),
    aspect_tolerance: float = 0.05,
    stride: int | None = None,
    largest: tuple[int, int] | None = None,
) -> InputSize:
    """The largest input whose multiply-adds keep to a limit.

    Its sides are multiples of the network's stride and at most the image's, its aspect is within ``aspect_tolerance``
    of the image's; of these it has the most pixels (and of equal ones the nearest aspect). A small size is counted
    first, and scaled by pixels to say where to look; the result is counted itself, and so is the next larger size,
    which exceeds the limit. Where the cost does not rise in proportion to the pixels (attention), a few more of the
    larger sizes are counted; one further off that windows of attention happen to fit better may be missed. Sizes that
    a network refuses are passed over.

    Args:
        build_system: from a width and a height to the system; or a backbone's name, for `one_backbone`.
        macs_limit: multiply-adds of one photograph.
        image: width and height of the photographs.
        aspect_tolerance: relative, in [0, 1).
        stride: what the sides are multiples of; by default the common multiple of the backbones' strides.
        largest: width and height that the input must not exceed either.

    Raises:
        UsageError: numbers out of range, or no size of that aspect within the image.
        BudgetError: the smallest size costs more.
        ModelError: the backbone is unknown, or takes none of the sizes.
    """
    if isinstance(build_system, str):
        backbone = build_system
        recipe: BuildSystem = lambda width, height: one_backbone(backbone, width, height)  # noqa: E731
    else:
        recipe = build_system
    if stride is None:
        stride = math.lcm(*(network_stride(branch.backbone) for branch in recipe(224, 224).branches))
    sizes = candidate_sizes(image, aspect_tolerance, stride, largest)
    if macs_limit < 1:
        raise UsageError(f"a limit of {macs_limit} MACs", expected="at least 1", mend="give a limit such as 50GMACs")
    solved = _Search(recipe, sizes, macs_limit).run()
    if solved.macs > macs_limit:
        macs, limit = (format_amount(Amount("macs", value)) for value in (solved.macs, macs_limit))
        raise BudgetError(
            f"{macs} at {solved.width}x{solved.height}, the smallest input of "
            f"{recipe(solved.width, solved.height).branches[0].backbone} for photographs of {image[0]}x{image[1]}",
            expected=f"at most {limit}",
            mend="choose a smaller backbone, or give a larger limit",
        )
    return solved


def candidate_sizes(
    image: tuple[int, int], aspect_tolerance: float, stride: int, largest: tuple[int, int] | None
) -> list[tuple[int, int]]:
    """Sizes ``(width, height)`` in multiples of a stride, within a tolerance of the image's aspect.

    From the most pixels to the fewest, of equal ones the nearest aspect first.

    Raises:
        UsageError: numbers out of range, or no such size.
    """
    across, down = image
    bounds = [min(limits) for limits in zip(image, largest or image, (MAX_VIEW_SIDE,) * 2, strict=True)]
    if min(across, down, stride, *bounds) < 1 or not 0 <= aspect_tolerance < 1:
        raise UsageError(
            f"an image of {across}x{down}, a largest input of {largest}, a stride of {stride} and an aspect tolerance "
            f"of {aspect_tolerance}",
            expected="sides and a stride of at least 1 pixel, and a tolerance in [0, 1)",
            mend="correct the numbers",
        )

    def departure(size: tuple[int, int]) -> float:
        return abs(size[0] * down / (size[1] * across) - 1)

    sizes = [
        (width, height)
        for width in range(stride, bounds[0] + 1, stride)
        for height in range(stride, bounds[1] + 1, stride)
        if width * height <= MAX_VIEW_PIXELS and departure((width, height)) <= aspect_tolerance
    ]
    if not sizes:
        raise UsageError(
            f"no input in multiples of {stride} pixels within {bounds[0]}x{bounds[1]} and "
            f"{100 * aspect_tolerance:g} % of the aspect of {across}x{down}",
            expected="at least one",
            mend="state the input size, or give a larger image or aspect tolerance",
        )
    return sorted(sizes, key=lambda size: (-size[0] * size[1], departure(size), size))


class _Search:
    """The search for the first of ``sizes``, sorted from the most pixels to the fewest, that keeps to a limit."""

    def __init__(self, recipe: BuildSystem, sizes: list[tuple[int, int]], macs_limit: int) -> None:
        self._counter = _Counter(recipe)
        self._sizes = sizes
        self._limit = macs_limit
        self._costs: dict[tuple[int, int], Cost] = {}
        self._refusal: ModelError | None = None

    def run(self) -> InputSize:
        """The size; where all that the network takes exceed the limit, the smallest of them.

        Raises:
            ModelError: the network takes none of the sizes.
        """
        # Indices of the smallest size known to exceed the limit and of the largest known to keep to it.
        exceeds, fits = -1, len(self._sizes)
        # The first is cheap, and large enough for any network.
        at = max((at for at, size in enumerate(self._sizes) if math.prod(size) >= _FIRST_PIXELS), default=0)
        counts = 0
        while fits - exceeds > 1:
            cost = self._count(self._sizes[at])
            counts += 1
            if cost is None:
                del self._sizes[at]
                fits -= 1
            elif cost.macs <= self._limit:
                fits = at
            else:
                exceeds = at
            at = self._guess(exceeds, fits, halve=counts % 3 == 0)
        if not self._sizes:
            assert self._refusal is not None
            raise self._refusal
        if 0 < fits < len(self._sizes) and not self._proportional():
            fits = self._larger(fits)
        width, height = size = self._sizes[min(fits, len(self._sizes) - 1)]
        cost = self._costs[size]
        return InputSize(width=width, height=height, macs=cost.macs, parameters=cost.parameters)

    def _count(self, size: tuple[int, int]) -> Cost | None:
        if size not in self._costs:
            try:
                self._costs[size] = self._counter.count(*size)
            except ModelError as error:
                self._refusal = error
                return None
        return self._costs[size]

    def _guess(self, exceeds: int, fits: int, *, halve: bool) -> int:
        """Where to count next, between the two."""
        known = [self._sizes[at] for at in (exceeds, fits) if 0 <= at < len(self._sizes)]
        if not known or (halve and len(known) == 2):
            return (exceeds + fits) // 2
        # Straight lines in logarithms: through one size that of a cost proportional to the pixels.
        points = [(math.log(math.prod(size)), math.log(max(1, self._costs[size].macs))) for size in known]
        (x, y), (x1, y1) = points[0], points[-1]
        slope = (x1 - x) / (y1 - y) if y1 != y else 1.0
        pixels = math.exp(x + slope * (math.log(self._limit) - y)) * (1 + 1e-9)
        at = next((at for at, size in enumerate(self._sizes) if math.prod(size) <= pixels), len(self._sizes))
        return min(max(at, exceeds + 1), fits - 1)

    def _proportional(self) -> bool:
        """Whether all counts lie on one straight line over the pixels."""
        points = sorted((math.prod(size), cost.macs) for size, cost in self._costs.items())
        (x, y), (x1, y1) = points[0], points[-1]
        line = [y + (y1 - y) * (pixels - x) / max(1, x1 - x) for pixels, _ in points]
        return len(points) > 2 and all(
            math.isclose(foretold, macs, rel_tol=5e-3) for foretold, (_, macs) in zip(line, points, strict=True)
        )

    def _larger(self, fits: int) -> int:
        """Look on among the larger sizes, until some in a row exceed the limit or are refused."""
        misses = 0
        for at in range(fits - 1, -1, -1):
            cost = self._count(self._sizes[at])
            fits, misses = (at, 0) if cost is not None and cost.macs <= self._limit else (fits, misses + 1)
            if misses == _PATIENCE:
                break
        return fits
