"""A timm backbone as one branch of the grammar: from normalised pixels to a feature vector."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from timm.layers.format import Format
from timm.layers.std_conv import ScaledStdConv2d
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ...runtime.errors import ModelError
from .records import Branch, Normalisation

__all__ = [
    "Trunk",
    "backbone_normalisation",
    "create_backbone",
    "feature_stages",
    "fold_position_embedding",
    "fold_standardised",
    "has_fixed_size",
    "pretrained_cfg",
]


def _require_known(backbone: str) -> None:
    if timm.is_model(backbone.partition(".")[0]):
        return
    near = difflib.get_close_matches(backbone, timm.list_models(), n=5, cutoff=0.5)
    raise ModelError(
        f"a backbone named {backbone!r}, which timm {timm.__version__} does not have",
        expected=f"one of timm.list_models(); near names: {', '.join(near) or 'none'}",
        mend="correct the name, or install a newer timm",
    )


def pretrained_cfg(backbone: str) -> Any:
    """Timm's ``PretrainedCfg`` of a backbone.

    Raises:
        ModelError: timm has no such backbone or tag.
    """
    _require_known(backbone)
    try:
        return timm.get_pretrained_cfg(backbone)
    except RuntimeError as error:
        name = backbone.partition(".")[0]
        raise ModelError(
            f"a backbone named {backbone!r}: {error}",
            expected=f"{name!r} or one of {timm.list_pretrained(name)}",
            mend="correct the tag, or leave it out",
        ) from error


def backbone_normalisation(backbone: str) -> Normalisation:
    """The mean and standard deviation that timm states for a backbone's weights.

    Raises:
        ModelError: timm has no such backbone or tag.
    """
    cfg = pretrained_cfg(backbone)
    return Normalisation(mean=tuple(cfg.mean), std=tuple(cfg.std))


def has_fixed_size(backbone: str) -> bool:
    """Whether a backbone is built for one size of image (most transformers).

    Raises:
        ModelError: timm has no such backbone or tag.
    """
    return bool(pretrained_cfg(backbone).fixed_input_size)


def create_backbone(backbone: str, width: int, height: int, *, pretrained: bool) -> nn.Module:
    """A timm model without classifier, for images of ``width x height``.

    Args:
        backbone: timm's name.
        width: of its input, in pixels.
        height: likewise.
        pretrained: whether timm fetches weights; without them they are drawn from torch's global generator.

    Raises:
        ModelError: timm has no such backbone, or it cannot take that size.
    """
    cfg = pretrained_cfg(backbone)
    options: dict[str, Any] = {}
    if cfg.fixed_input_size:
        options["img_size"] = (height, width)
        # Training crops a little off its images: plain vision transformers then resample their position embedding.
        # At the stated size that leaves no trace in the graph, but timm passes it over for squares only.
        entry = timm.models.model_entrypoint(backbone.partition(".")[0])
        if width == height and entry.__module__.endswith(".vision_transformer"):
            options["dynamic_img_size"] = True
    try:
        model: nn.Module = timm.create_model(backbone, pretrained=pretrained, num_classes=0, **options)
    except (TypeError, AssertionError, ValueError) as error:
        raise ModelError(
            f"{backbone} refuses an input of {width}x{height}: {error}",
            expected=f"a size it can take; it was trained at {cfg.input_size[2]}x{cfg.input_size[1]}",
            mend="choose another size (a multiple of the patch) or another backbone",
        ) from error
    _make_plain(model)
    return model


@lru_cache(maxsize=64)
def feature_stages(backbone: str, most: int = 4) -> tuple[int, ...]:
    """Indices of at most ``most`` stages, evenly from the last backwards: what teachers and students hand on.

    Raises:
        ModelError: timm has no such backbone.
    """
    pretrained_cfg(backbone)
    with torch.device("meta"):
        model: Any = timm.create_model(backbone, pretrained=False, num_classes=0)
    count = len(model.feature_info)
    stride = max(1, count // most)
    return tuple(range(count - 1, -1, -stride)[:most][::-1])


class _Average(nn.Module):
    """Average over the positions of ``[N, C, H, W]``: ``[N, C, 1, 1]``."""

    def forward(self, features: Tensor) -> Tensor:
        return features.mean((2, 3), keepdim=True)


def _make_plain(model: nn.Module) -> None:
    """Swap operations that count or export badly for equal ones, in place and without touching a weight."""
    module: Any
    for module in list(model.modules()):
        # The fused kernel is opaque to fvcore, which then counts no attention.
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
        for name, child in module.named_children():
            # torch.export lowers it to strides, which ONNX can only say with Range and Gather.
            if isinstance(child, nn.AdaptiveAvgPool2d) and child.output_size in (1, (1, 1)):
                setattr(module, name, _Average())


def fold_standardised(model: nn.Module) -> None:
    """Replace convolutions that standardise their weights at every call by plain ones, in place.

    Only for a network that is trained: NF-Nets (A. Brock et al., "Characterizing signal propagation to close the
    performance gap in unnormalized ResNets", 2021) subtract mean and divide by deviation of each filter, which in
    a graph is arithmetic on constants that quantizers and some engines take for activations.
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, ScaledStdConv2d):
                setattr(module, name, _plain_convolution(child))


def fold_position_embedding(model: nn.Module, height: int, width: int) -> None:
    """Give a vision transformer the position embedding of its view's size, in place, instead of one resized each call.

    In a graph the resizing is an operator that some engines refuse, on constants. Other networks are left as they are.
    """
    for module in model.modules():
        if isinstance(module, VisionTransformer) and module.dynamic_img_size:
            with torch.no_grad():
                module.set_input_size(img_size=(height, width))
            # While it is exported, timm resizes even what has its size already.
            plain: Any = module
            plain.dynamic_img_size = False
            plain.patch_embed.flatten, plain.patch_embed.output_fmt = True, Format.NCHW


def _plain_convolution(standardised: ScaledStdConv2d) -> nn.Conv2d:
    out = standardised.out_channels
    with torch.no_grad():
        weight = nn.functional.batch_norm(
            standardised.weight.reshape(1, out, -1),
            None,
            None,
            weight=(standardised.gain * standardised.scale).view(-1),
            training=True,
            momentum=0.0,
            eps=standardised.eps,
        ).reshape_as(standardised.weight)
    plain = nn.Conv2d(
        standardised.in_channels,
        out,
        cast("tuple[int, int]", standardised.kernel_size),
        stride=cast("tuple[int, int]", standardised.stride),
        padding=cast("tuple[int, int]", standardised.padding),
        dilation=cast("tuple[int, int]", standardised.dilation),
        groups=standardised.groups,
        bias=standardised.bias is not None,
    )
    plain.weight = nn.Parameter(weight)
    if standardised.bias is not None:
        plain.bias = standardised.bias
    return plain.train(standardised.training)


class Trunk(nn.Module):
    """A backbone with the pooling and stages of its branch.

    ``forward(pixels)`` takes normalised pixels float ``[N, 3, H, W]`` and returns the feature vectors ``[N, C]`` and
    a list of the stages' features ``[N, C_s]``.

    Attributes:
        model: timm's model.
        width: C, the length of a feature vector.
        stage_widths: C_s of each stage of the branch.
    """

    def __init__(self, model: nn.Module, branch: Branch, width: int, height: int) -> None:
        super().__init__()
        if branch.stages and not hasattr(model, "forward_intermediates"):
            raise ModelError(
                f"stages {branch.stages} of {branch.backbone}, which timm {timm.__version__} cannot take out of it",
                expected="a backbone with forward_intermediates",
                mend="leave the stages out, or choose another backbone",
            )
        self.model = model
        self._pool = branch.pool
        self._stages = list(branch.stages)
        self._channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        self._prefix_tokens = int(getattr(model, "num_prefix_tokens", 0))
        pixels = torch.empty((1, 3, height, width), device="meta")
        try:
            if self._pool == "average":
                _remove_head(model, pixels)
            vectors, stages = _without_arithmetic(self, pixels)
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            raise ModelError(
                f"{branch.backbone} with stages {branch.stages} fails on an input of {width}x{height}: {error}",
                expected="a size and stages that the backbone has",
                mend="correct the branch's stages, the view's size, or the backbone",
            ) from error
        self.width = int(vectors.shape[1])
        self.stage_widths = tuple(int(stage.shape[1]) for stage in stages)

    def _average(self, features: Tensor) -> Tensor:
        if features.ndim == 3:
            return features[:, self._prefix_tokens :].mean(1)
        return features.mean((1, 2) if self._channels_last else (2, 3))

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """See the class."""
        model: Any = self.model
        stages: list[Tensor] = []
        if self._stages:
            features, maps = model.forward_intermediates(pixels, indices=self._stages, output_fmt="NCHW")
            stages = [stage.mean((2, 3)) for stage in maps]
        else:
            features = model.forward_features(pixels)
        pooled = self._average(features) if self._pool == "average" else model.forward_head(features, pre_logits=True)
        return pooled, stages


def _without_arithmetic(module: nn.Module, pixels: Tensor) -> Any:
    """The module's answer to a meta tensor: shapes without arithmetic, at no cost even for large inputs."""
    on_meta = {name: tensor.to("meta") for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return torch.func.functional_call(module, on_meta, (pixels,))
    finally:
        module.train(was_training)


def _remove_head(model: nn.Module, pixels: Tensor) -> None:
    """Take out the direct children that ``forward_head`` calls and ``forward_features`` does not."""
    probe = _HeadProbe(model)
    _without_arithmetic(probe, pixels)
    for name in sorted(probe.head - probe.body):
        setattr(model, name, nn.Identity())


class _HeadProbe(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.body: set[str] = set()
        self.head: set[str] = set()

    def forward(self, pixels: Tensor) -> None:
        model: Any = self.model
        with _calls(self.model, self.body):
            features = model.forward_features(pixels)
        with _calls(self.model, self.head):
            model.forward_head(features, pre_logits=True)


@contextmanager
def _calls(model: nn.Module, into: set[str]) -> Iterator[None]:
    """Note which direct children are called."""

    def note(name: str) -> Callable[..., None]:
        return lambda *_: into.add(name)

    handles = [child.register_forward_pre_hook(note(name)) for name, child in model.named_children()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
