"""Records of whole systems: one backbone, and the published ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ...runtime.errors import MissingExtraError
from ...runtime.preprocess import (
    Crop,
    DctDecode,
    Fragments,
    FullDecode,
    Preprocess,
    Resize,
    Scale,
    View,
    single_view,
)
from .records import Branch, Concat, Gated, Head, Linear, Mlp, System

__all__ = ["SYSTEMS", "challenge_baseline", "one_backbone", "three_scale", "three_view"]


def one_backbone(
    backbone: str,
    width: int,
    height: int,
    *,
    head: Head | None = None,
    pool: Literal["head", "average"] = "head",
    stages: tuple[int, ...] = (),
    decode: FullDecode | DctDecode | None = None,
) -> System:
    """The whole photograph resized to one size, one backbone, and a head.

    Args:
        backbone: timm's name; its normalisation is what timm states for it.
        width: of the view, in pixels.
        height: likewise.
        head: linear if not given.
        pool: of the last feature map; see `Branch`.
        stages: whose pooled features are outputs too.
        decode: full if not given.

    Raises:
        MissingExtraError: timm is not installed.
        ModelError: timm has no such backbone.
        RecordError: a size out of range.
    """
    # Here and not above: the published systems' records are there without torch.
    try:
        from .backbones import backbone_normalisation
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"one_backbone needs {error.name}, which is not installed",
            expected="the extra compress",
            mend='pip install "edgeiqa[compress]"',
        ) from error

    branch = Branch(
        name="image",
        backbone=backbone,
        views=("image",),
        pool=pool,
        stages=stages,
        normalisation=backbone_normalisation(backbone),
    )
    return System(
        name=f"{backbone}-{width}x{height}",
        preprocess=single_view(width, height, decode=decode or FullDecode()),
        branches=(branch,),
        head=head or Linear(),
    )


def three_view() -> System:
    """The winner of the AIM 2024 UHD-IQA challenge: three looks at a photograph, a Swin-T each.

    The whole photograph at 480x480 (aesthetics), 15x15 fragments of 32 pixels (technical distortions) and the
    central 480x480 at native scale (salient content); three vectors of 768 side by side; MLP 2304 -> 128 -> 1.
    The entry ran torchvision's Swin-T. Timm's has the same layers and counts, but where the window of 7 does not
    divide a feature map it rolls before it pads, so that the same weights score a little differently here.

    W. Sun et al., "Assessing UHD image quality from aesthetics, distortions, and saliency", 2024 (arXiv 2409.00749).
    """
    views = (
        View(name="resized", operations=(Resize(width=480, height=480),)),
        View(name="fragments", operations=(Fragments(rows=15, columns=15, patch=32),)),
        View(name="centre", operations=(Crop(width=480, height=480),)),
    )
    return System(
        name="three-view",
        preprocess=Preprocess(views=views),
        branches=tuple(
            Branch(name=view.name, backbone="swin_tiny_patch4_window7_224", views=(view.name,)) for view in views
        ),
        fusion=Concat(),
        head=Mlp(hidden=128, activation="relu"),
    )


def three_scale() -> System:
    """NF-RegNet-B1 on the central 720x720 of a photograph at 1:1, 1:2 and 1:3, and a gated fusion.

    After the NF-RegNets entry of the AIM 2024 UHD-IQA challenge (arXiv 2409.16271), whose stated cost is three runs of
    the backbone. One set of weights sees all three scales: the cost is the same with three, and the gate tells
    scales apart by their features. The entry's fusion block is not published in detail; ours is `Gated`.
    """
    views = tuple(
        View(name=f"scale{k}", operations=(Scale(denominator=k), Crop(width=720, height=720))) for k in (1, 2, 3)
    )
    return System(
        name="three-scale",
        preprocess=Preprocess(views=views),
        branches=(Branch(name="scales", backbone="nf_regnet_b1", views=tuple(view.name for view in views)),),
        fusion=Gated(),
        head=Linear(),
    )


def challenge_baseline() -> System:
    """The baseline of the AIM 2024 UHD-IQA challenge: centre crop, resize, MobileNetV3-Large, MLP 960 -> 256 -> 1.

    M. Conde et al., "AIM 2024 challenge on UHD blind photo quality assessment", 2024 (arXiv 2409.16271).
    """
    cut = (Crop(width=1920, height=960), Resize(width=1280, height=720))
    return System(
        name="challenge-baseline",
        preprocess=Preprocess(views=(View(name="image", operations=cut),)),
        branches=(Branch(name="image", backbone="mobilenetv3_large_100", views=("image",), pool="average"),),
        head=Mlp(hidden=256, activation="hardswish"),
    )


SYSTEMS: dict[str, Callable[[], System]] = {
    "three-view": three_view,
    "three-scale": three_scale,
    "challenge-baseline": challenge_baseline,
}
"""The published systems by name."""
