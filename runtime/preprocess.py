"""Preprocess: the record of all that happens to a photograph's pixels before a graph sees them.

A `Preprocess` holds the policies of decoding and a number of named views; a view is a chain of operations. The
records here are data (JSON round trip by msgspec) with their static shapes; `decode` reads photographs and `views`
carries the operations out. Sizes are ``width``, ``height`` in pixels.
"""

from __future__ import annotations

import math
import re
from typing import Literal

import msgspec

from .errors import RecordError, require_field

__all__ = [
    "Crop",
    "DctDecode",
    "Flip",
    "Fragments",
    "FullDecode",
    "Operation",
    "Patches",
    "Preprocess",
    "Resize",
    "Scale",
    "View",
    "single_view",
]

MAX_VIEW_SIDE = 8192
MAX_VIEW_PIXELS = 64_000_000
"""Of all images of a view together, after each of its operations."""
MAX_OPERATIONS = 16
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


def _require_size(width: int, height: int) -> None:
    sides = 1 <= width <= MAX_VIEW_SIDE and 1 <= height <= MAX_VIEW_SIDE
    require_field(sides, f"a size of {width}x{height}", f"sides from 1 to {MAX_VIEW_SIDE} pixels")


def _require_seed(seed: int) -> None:
    require_field(0 <= seed < 2**63, f"a seed of {seed}", "a seed in [0, 2**63)")


class FullDecode(msgspec.Struct, frozen=True, tag="full", forbid_unknown_fields=True):
    """Decode all pixels."""


FULL_DECODE = FullDecode()


class DctDecode(msgspec.Struct, frozen=True, tag="dct", forbid_unknown_fields=True):
    """Decode a JPEG at its smallest DCT scale (1/8, 1/4, 1/2, 1) that is still ``margin`` times the largest view.

    Other formats are decoded in full. It is several times cheaper on large photographs and moves scores a little,
    so it belongs to the model.
    """

    margin: float = 1.0

    def __post_init__(self) -> None:
        require_field(1.0 <= self.margin <= 16.0, f"a DCT margin of {self.margin}", "a margin in [1, 16]")


class Resize(msgspec.Struct, frozen=True, tag="resize", kw_only=True, forbid_unknown_fields=True):
    """Resize to ``width x height``.

    Attributes:
        width: in pixels.
        height: in pixels.
        fit: ``stretch`` ignores the aspect; ``cover`` keeps it and cuts what stands over, evenly on both sides;
            ``letterbox`` keeps it and fills the rest with ``fill``.
        orient: ``swap`` turns a photograph whose longer side is not the view's longer side by a quarter, counter-
            clockwise, before it is resized, so that the tensor keeps its shape; ``keep`` does not. Squares never turn.
        interpolation: Pillow's filter of that name.
        antialias: widen the filter's support by the reduction, as Pillow's resize does. Without it, points are
            sampled by Pillow's affine transform (``nearest``, ``bilinear``, ``bicubic`` with a = -1).
        fill: grey level of the letterbox, 0 to 255.
    """

    width: int
    height: int
    fit: Literal["stretch", "cover", "letterbox"] = "stretch"
    orient: Literal["keep", "swap"] = "keep"
    interpolation: Interpolation = "bicubic"
    antialias: bool = True
    fill: int = 128

    def __post_init__(self) -> None:
        _require_size(self.width, self.height)
        require_field(0 <= self.fill <= 255, f"a fill of {self.fill}", "a grey level in [0, 255]")
        if not self.antialias:
            plain = ("nearest", "bilinear", "bicubic")
            require_field(self.interpolation in plain, f"{self.interpolation} without antialias", f"one of {plain}")


class Crop(msgspec.Struct, frozen=True, tag="crop", kw_only=True, forbid_unknown_fields=True):
    """Cut rectangles of ``width x height`` at their native scale.

    Attributes:
        width: in pixels.
        height: in pixels.
        at: ``centre`` one; ``five`` corners (top left, top right, bottom left, bottom right) and centre; ``ten`` the
            five and then their mirror images; ``grid`` ``rows x columns`` spread evenly from edge to edge, row by
            row; ``seeded`` ``count`` at offsets of SplitMix64 of (seed, index, 0).
        rows: of the grid.
        columns: of the grid.
        count: of seeded crops.
        seed: of seeded crops.
        small: what to do with a photograph smaller than the crop: ``enlarge`` it (bicubic, aspect kept) until it
            covers the crop, ``pad`` it with black around its centre, or ``refuse`` it.
    """

    width: int
    height: int
    at: Literal["centre", "five", "ten", "grid", "seeded"] = "centre"
    rows: int = 1
    columns: int = 1
    count: int = 1
    seed: int = 0
    small: Literal["enlarge", "pad", "refuse"] = "enlarge"

    def __post_init__(self) -> None:
        _require_size(self.width, self.height)
        _require_seed(self.seed)
        require_field(
            1 <= self.rows <= 64 and 1 <= self.columns <= 64,
            f"a grid of {self.rows}x{self.columns}",
            "1 to 64",
        )
        require_field(1 <= self.count <= 256, f"{self.count} seeded crops", "1 to 256")

    @property
    def crops(self) -> int:
        """How many rectangles it cuts from one image."""
        return {
            "centre": 1,
            "five": 5,
            "ten": 10,
            "grid": self.rows * self.columns,
            "seeded": self.count,
        }[self.at]


class Fragments(msgspec.Struct, frozen=True, tag="fragments", kw_only=True, forbid_unknown_fields=True):
    """Splice one native-scale patch from each cell of a grid into an image of ``columns*patch x rows*patch``.

    Grid mini-patch sampling of H. Wu et al., "FAST-VQA", ECCV 2022, section 3.1, with offsets from SplitMix64 of
    (seed, row, column). A photograph whose cells are smaller than a patch is enlarged (bicubic) until they are not.
    """

    rows: int
    columns: int
    patch: int
    seed: int = 0

    def __post_init__(self) -> None:
        require_field(
            1 <= self.rows <= 64 and 1 <= self.columns <= 64,
            f"a grid of {self.rows}x{self.columns}",
            "1 to 64",
        )
        require_field(self.patch >= 1, f"a patch of {self.patch}", "at least 1 pixel")
        _require_size(self.columns * self.patch, self.rows * self.patch)
        _require_seed(self.seed)


class Scale(msgspec.Struct, frozen=True, tag="scale", kw_only=True, forbid_unknown_fields=True):
    """Resize by ``1 / denominator``, each side rounded half up and at least 1 pixel (bicubic with antialias)."""

    denominator: int

    def __post_init__(self) -> None:
        require_field(1 <= self.denominator <= 64, f"a scale of 1/{self.denominator}", "1/1 to 1/64")


class Patches(msgspec.Struct, frozen=True, tag="patches", kw_only=True, forbid_unknown_fields=True):
    """Cut an image of known size into ``rows x columns`` equal patches, row by row, or shuffled by ``shuffle_seed``."""

    rows: int
    columns: int
    shuffle_seed: int | None = None

    def __post_init__(self) -> None:
        require_field(
            1 <= self.rows <= 64 and 1 <= self.columns <= 64,
            f"a grid of {self.rows}x{self.columns}",
            "1 to 64",
        )
        if self.shuffle_seed is not None:
            _require_seed(self.shuffle_seed)


class Flip(msgspec.Struct, frozen=True, tag="flip", kw_only=True, forbid_unknown_fields=True):
    """The image, and then its mirror image, left to right: of T images 2 T, each before its own mirror image.

    The image's size must be known, so that images in memory are bounded. A bundle with it names ``flip`` in
    ``requires``.
    """


Operation = Resize | Crop | Fragments | Scale | Patches | Flip


class View(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named chain of operations that turns a photograph into ``T`` images of one size."""

    name: str
    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        named = re.fullmatch(r"[a-z][a-z0-9_]{0,31}", self.name) is not None
        require_field(named, f"a view named {self.name!r}", "a lower-case identifier of at most 32 characters")
        steps = len(self.operations)
        require_field(
            1 <= steps <= MAX_OPERATIONS, f"view {self.name!r} of {steps} operations", f"1 to {MAX_OPERATIONS}"
        )
        self._static_shape()

    def _static_shape(self) -> tuple[int, int, int]:
        count, size = 1, None
        for operation in self.operations:
            match operation:
                case Resize():
                    size = (operation.height, operation.width)
                case Crop():
                    count, size = count * operation.crops, (operation.height, operation.width)
                case Fragments():
                    size = (operation.rows * operation.patch, operation.columns * operation.patch)
                case Scale(denominator=d):
                    size = size and (
                        max(1, (2 * size[0] + d) // (2 * d)),
                        max(1, (2 * size[1] + d) // (2 * d)),
                    )
                case Patches(rows=rows, columns=columns):
                    if size is None or size[0] % rows or size[1] % columns:
                        raise RecordError(
                            f"{rows}x{columns} patches of {'an unknown size' if size is None else size}",
                            expected="an image whose size is known and divides evenly",
                            mend="put a resize or crop before the patches",
                        )
                    count, size = count * rows * columns, (size[0] // rows, size[1] // columns)
                case Flip():
                    if size is None:
                        raise RecordError(
                            "a flip of an unknown size",
                            expected="an image whose size is known",
                            mend="put a resize or crop before the flip",
                        )
                    count *= 2
            pixels = count * size[0] * size[1] if size is not None else 0
            require_field(
                pixels <= MAX_VIEW_PIXELS, f"view {self.name!r} of {pixels} pixels", f"at most {MAX_VIEW_PIXELS}"
            )
        if size is None:
            raise RecordError(
                f"view {self.name!r} ends with a size that depends on the photograph",
                expected="a resize, crop or fragments in its chain",
                mend="add the operation that fixes the size",
            )
        return count, *size

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its uint8 tensor: ``(H, W, 3)``, or ``(T, H, W, 3)`` when T is more than 1."""
        count, height, width = self._static_shape()
        return (height, width, 3) if count == 1 else (count, height, width, 3)

    @property
    def needs_native_pixels(self) -> bool:
        """Whether it looks at pixels at their native scale, so that only a full decode will do."""
        return not isinstance(self.operations[0], Resize)


class Preprocess(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that happens to a photograph's pixels before a graph sees them.

    Attributes:
        views: named chains of operations; each is an input of the graph.
        decode: `FullDecode` or `DctDecode`; views that need native pixels allow only the first.
        exif: ``apply`` the EXIF orientation, or ``ignore`` it.
        colour: ``srgb`` converts an embedded ICC profile (Display P3, Adobe RGB, ...) to sRGB, relative colorimetric;
            a profile that cannot be read is passed over. ``raw`` takes the numbers as they are.
        alpha: what a transparent photograph is laid on: ``white``, ``black``; or ``drop`` the alpha.
    """

    views: tuple[View, ...]
    decode: FullDecode | DctDecode = FULL_DECODE
    exif: Literal["apply", "ignore"] = "apply"
    colour: Literal["srgb", "raw"] = "srgb"
    alpha: Literal["white", "black", "drop"] = "white"

    def __post_init__(self) -> None:
        names = [view.name for view in self.views]
        require_field(1 <= len(names) <= 16, f"{len(names)} views", "1 to 16")
        require_field(len(set(names)) == len(names), f"views named {names}", "a name of its own for each")
        native = [view.name for view in self.views if view.needs_native_pixels]
        if native and isinstance(self.decode, DctDecode):
            raise RecordError(
                f"a DCT-scaled decode with views of native pixels ({', '.join(native)})",
                expected="a full decode",
                mend="set decode to full",
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each view's tensor by name."""
        return {view.name: view.shape for view in self.views}

    def wanted_scale(self, width: int, height: int) -> float:
        """The smallest factor in (0, 1] by which a photograph may be reduced before its views are cut.

        Args:
            width: of the photograph as a person sees it, in pixels.
            height: likewise.
        """
        if isinstance(self.decode, FullDecode):
            return 1.0
        return min(
            1.0,
            self.decode.margin * max(_view_scale(view.operations[0], width, height) for view in self.views),
        )


def turns(resize: Resize, width: int, height: int) -> bool:
    """Whether ``orient=swap`` turns a photograph of that size by a quarter."""
    return resize.orient == "swap" and (width - height) * (resize.width - resize.height) < 0


def _view_scale(first: Operation, width: int, height: int) -> float:
    if not isinstance(first, Resize):
        return math.inf
    if turns(first, width, height):
        width, height = height, width
    across, down = first.width / width, first.height / height
    return min(across, down) if first.fit == "letterbox" else max(across, down)


def single_view(
    width: int,
    height: int,
    *,
    decode: FullDecode | DctDecode = FULL_DECODE,
    fit: Literal["stretch", "cover", "letterbox"] = "stretch",
) -> Preprocess:
    """The commonest `Preprocess`: the whole photograph resized (bicubic, antialias) to one view named ``image``."""
    return Preprocess(
        views=(View(name="image", operations=(Resize(width=width, height=height, fit=fit),)),), decode=decode
    )
