"""Teachers that are torch networks: checkpoints, a user's factory, networks of timm and of torchvision."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from ..profiles.cost import count_module
from ..runtime.errors import ModelError, UsageError
from ..runtime.preprocess import single_view
from .checkpoint import WEIGHTS_NAME, load_checkpoint
from .models.backbones import pretrained_cfg
from .models.network import output_names
from .models.records import Normalisation
from .models.weights import read_state
from .teacher_members import Features, TeacherMember, TorchTeacher, Views, member_key, range_map

__all__ = ["checkpoint_member", "choose_device", "timm_network", "torch_member", "torchvision_network"]

_GREY = 128


def choose_device(name: str) -> torch.device:
    """The device of that name; ``auto`` is the accelerator, or the CPU where there is none, ``gpu`` is ``cuda``.

    Raises:
        UsageError: it is not here.
    """
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if name == "auto":
        return here or torch.device("cpu")
    wanted = "cuda" if name == "gpu" else name
    if wanted.partition(":")[0] not in ("cpu", "" if here is None else here.type):
        raise UsageError(
            f"device {name!r}",
            expected=f"one that is here: auto, cpu{'' if here is None else f', {here.type}'}",
            mend="name one of these",
        )
    return torch.device(wanted)


def checkpoint_member(folder: Path, device: torch.device) -> TeacherMember:
    """The network of a checkpoint; its provenance says which fold it was not trained on, if it says so.

    Raises:
        ModelError: the folder is no checkpoint, or a broken one.
    """
    record, network = load_checkpoint(folder)
    network.to(device)
    system = record.system
    names = output_names(system)
    widths: list[int] = []
    trunks: Sequence[Any] = list(network.trunks)
    for branch, trunk in zip(system.branches, trunks, strict=True):
        widths += [len(branch.views) * int(width) for width in (trunk.width, *trunk.stage_widths)]
    heldout = record.provenance.get("heldout_fold")
    if heldout is not None and (not isinstance(heldout, int) or isinstance(heldout, bool) or heldout < 0):
        raise ModelError(
            f"{folder}, whose provenance has heldout_fold = {heldout!r}",
            expected="a fold's number",
            mend="train it again with edgeiqa teach",
        )
    shapes = system.preprocess.shapes

    def infer(views: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        answer: Mapping[str, Tensor] = network(*(views[name] for name in shapes))
        return answer

    def count() -> int:
        grey = tuple(torch.full((1, *shape), _GREY, dtype=torch.uint8, device=device) for shape in shapes.values())
        return count_module(network, grey, names=list(shapes)).macs

    with (folder / WEIGHTS_NAME).open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").digest()
    facts = (system.branches, system.fusion, system.head)
    return TeacherMember(
        name=record.name,
        key=member_key("checkpoint", system.preprocess, names, facts, weights),
        preprocess=system.preprocess,
        score_map=record.score_map,
        low=record.score_map.low,
        high=record.score_map.high,
        heldout_fold=heldout,
        feature_widths=dict(zip(names[1:], widths, strict=True)),
        forward=_batched(infer, device),
        count_macs=cache(count),
    )


def torch_member(teacher: TorchTeacher, name: str, device: torch.device) -> TeacherMember:
    """A user's network as a member.

    Raises:
        ModelError: its views are not one of one image, or it does not answer as `TorchTeacher` says.
    """
    shapes = teacher.preprocess.shapes
    low, high = teacher.raw_range
    if [len(shape) for shape in shapes.values()] != [3] or not low < high:
        raise ModelError(
            f"{name} with views {shapes} and a raw range of {low:g} to {high:g}",
            expected="one view of one image [H, W, 3], and a range whose low is below its high",
            mend="correct its Preprocess, or export it as a bundle",
        )
    ((view, shape),) = shapes.items()
    module = teacher.module.to(device).eval()
    mean = torch.tensor(teacher.normalisation.mean, device=device).view(3, 1, 1)
    std = torch.tensor(teacher.normalisation.std, device=device).view(3, 1, 1)

    def infer(views: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        pixels = (views[view].permute(0, 3, 1, 2).float() / 255 - mean) / std
        return _as_outputs(module(pixels.contiguous()), len(pixels), name)

    def count() -> int:
        return count_module(module, (torch.zeros(1, 3, *shape[:2], device=device),), names=[view]).macs

    forward = _batched(infer, device)
    # A module may raise anything on a size that it cannot take.
    try:
        _, features = forward({view: np.full((1, *shape), _GREY, dtype=np.uint8)})
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(
            f"{name} fails on an image of {shape[1]}x{shape[0]}: {error}",
            expected="a module that takes float [N, 3, H, W] of its Preprocess's size",
            mend="state the size it takes: ?size=WIDTHxHEIGHT after its name, or correct its Preprocess",
        ) from error
    outputs = ("score", *features)
    kinds = [(path, type(part).__qualname__) for path, part in module.named_modules()]
    return TeacherMember(
        name=name,
        key=member_key("module", teacher.preprocess, outputs, (teacher.normalisation, kinds), _digest(module)),
        preprocess=teacher.preprocess,
        score_map=range_map(low, high) if teacher.score_map is None else teacher.score_map,
        low=0.0 if teacher.score_map is None else teacher.score_map.low,
        high=100.0 if teacher.score_map is None else teacher.score_map.high,
        feature_widths={output: feature.shape[1] for output, feature in features.items()},
        forward=forward,
        count_macs=cache(count),
        raw_range=(low, high) if teacher.score_map is None else None,
    )


def timm_network(
    name: str,
    file: Path,
    *,
    size: tuple[int, int] | None = None,
    stages: tuple[int, ...] = (),
    raw_range: tuple[float, float] = (0.0, 1.0),
) -> TorchTeacher:
    """Timm's network of one output with the user's weights; features: ``features.last``, and the stages asked for.

    Args:
        name: timm's.
        file: its state_dict; every tensor must fit.
        size: width and height of its input; timm's own if None.
        stages: indices of the stages whose spatial averages are features too.
        raw_range: lowest and highest raw score.

    Raises:
        ModelError: timm has no such network, it cannot take that size or has no such stage, or the weights do not fit.
    """
    cfg = pretrained_cfg(name)
    width, height = size or (int(cfg.input_size[2]), int(cfg.input_size[1]))
    options: dict[str, Any] = {"img_size": (height, width)} if cfg.fixed_input_size else {}
    try:
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=1, **options)
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ModelError(
            f"{name} of timm refuses one output at {width}x{height}: {error}",
            expected=f"a size it can take; it was trained at {cfg.input_size[2]}x{cfg.input_size[1]}",
            mend="state another ?size=WIDTHxHEIGHT",
        ) from error
    _load_strictly(model, name, file)
    return TorchTeacher(
        module=_WithFeatures(model, stages),
        preprocess=single_view(width, height),
        normalisation=Normalisation(mean=tuple(cfg.mean), std=tuple(cfg.std)),
        raw_range=raw_range,
        name=name,
    )


def torchvision_network(
    name: str, file: Path, *, size: tuple[int, int] | None = None, raw_range: tuple[float, float] = (0.0, 1.0)
) -> TorchTeacher:
    """Torchvision's classification network of one output with the user's weights; it gives no features.

    Args and errors are those of `timm_network`; size and normalisation are those of torchvision's default weights.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise ModelError(
            f"a network named {name!r}, which torchvision {torchvision.__version__} does not have",
            expected="one of torchvision.models.list_models(module=torchvision.models)",
            mend="correct the name",
        )
    transform = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    side = int(transform.crop_size[0])
    try:
        model: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=1)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{name} of torchvision refuses one output: {error}",
            expected="a classification network",
            mend="write a factory for it: MODULE:FACTORY",
        ) from error
    _load_strictly(model, name, file)
    return TorchTeacher(
        module=model,
        preprocess=single_view(*(size or (side, side))),
        normalisation=Normalisation(mean=tuple(transform.mean), std=tuple(transform.std)),
        raw_range=raw_range,
        name=name,
    )


class _WithFeatures(nn.Module):
    """A timm network that also gives the vector before its classifier, and averages of stages."""

    def __init__(self, model: nn.Module, stages: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self._stages = stages

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        maps: list[Tensor] = []
        if self._stages:
            features, maps = model.forward_intermediates(pixels, indices=list(self._stages), output_fmt="NCHW")
        else:
            features = model.forward_features(pixels)
        outputs = {
            "score": model.forward_head(features),
            "features.last": model.forward_head(features, pre_logits=True),
        }
        return outputs | {
            f"features.{stage}": each.mean((2, 3)) for stage, each in zip(self._stages, maps, strict=True)
        }


def _load_strictly(model: nn.Module, name: str, file: Path) -> None:
    if not file.is_file():
        raise ModelError(f"{file}, which is not there", expected=f"the weights of {name}", mend="correct the path")
    try:
        model.load_state_dict(read_state(file), strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"{file} for {name} with one output: {' '.join(str(error).split())[:600]}",
            expected="a tensor for every weight of the network, of its shape, and no other",
            mend="save the state_dict() of that network with its one output",
        ) from error


def _as_outputs(answer: object, count: int, name: str) -> dict[str, Tensor]:
    """A module's answer as ``score`` ``[N]`` and features ``[N, C]``."""
    outputs: dict[str, Any] = dict(answer) if isinstance(answer, Mapping) else {"score": answer}
    score = outputs.pop("score", None)
    if isinstance(score, Tensor) and score.shape == (count, 1):
        score = score[:, 0]
    told = {
        key: tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        for key, value in {"score": score, **outputs}.items()
    }
    vectors = all(
        key.startswith("features.") and isinstance(value, Tensor) and value.ndim == 2 and len(value) == count
        for key, value in outputs.items()
    )
    if not isinstance(score, Tensor) or score.shape != (count,) or not vectors:
        raise ModelError(
            f"{name} answers {told} for {count} images",
            expected="scores [N] or [N, 1], or a dictionary of score and features.NAME [N, C]",
            mend="correct what its forward returns",
        )
    return {"score": score, **outputs}


def _batched(
    infer: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]], device: torch.device
) -> Callable[[Views], tuple[NDArray[np.float64], Features]]:
    """From arrays of n items to arrays: on a CPU one item at a time, so that no score depends on its neighbours."""

    def forward(views: Views) -> tuple[NDArray[np.float64], Features]:
        count = len(next(iter(views.values())))
        step = 1 if device.type == "cpu" else count
        parts: list[dict[str, NDArray[np.float32]]] = []
        with torch.inference_mode():
            for start in range(0, count, step):
                inputs = {
                    name: torch.tensor(pixels[start : start + step], device=device) for name, pixels in views.items()
                }
                outputs = infer(inputs)
                parts.append({name: output.float().cpu().numpy() for name, output in outputs.items()})
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return joined.pop("score").astype(np.float64), joined

    return forward


def _digest(module: nn.Module) -> bytes:
    """sha256 of all parameters and buffers, also those that a checkpoint leaves out."""
    digest = hashlib.sha256()
    for name, tensor in sorted((*module.named_parameters(), *module.named_buffers())):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()
