"""The network of a system: uint8 views in, raw score and pooled features out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...runtime.errors import ModelError
from .backbones import Trunk, fold_position_embedding, fold_standardised, has_fixed_size
from .fusion import build_fusion, images_averaged
from .heads import build_head
from .records import Branch, Normalisation, System
from .weights import NoWeights, Weights, load_backbone

__all__ = ["QualityNet", "build", "for_export", "output_names"]


def output_names(system: System) -> tuple[str, ...]:
    """Names of a network's outputs, in their order.

    ``score``, then for each branch its feature vectors and its stages: ``features.last``, ``features.0``, ... with
    one branch, ``features.<branch>.last``, ``features.<branch>.0``, ... with several.
    """
    names = ["score"]
    for branch in system.branches:
        prefix = "features." if len(system.branches) == 1 else f"features.{branch.name}."
        names += [prefix + "last", *(f"{prefix}{stage}" for stage in branch.stages)]
    return tuple(names)


class _Normalise(nn.Module):
    """Pixel values float NHWC ``[M, H, W, 3]``, 0 to 255, to normalised ``[M, 3, H, W]``.

    Scale, mean and std are one multiplication and one addition.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        mean = torch.tensor(normalisation.mean, dtype=torch.float64)
        std = torch.tensor(normalisation.std, dtype=torch.float64)
        # The record says them; a checkpoint must not.
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return (pixels * self.scale + self.shift).permute(0, 3, 1, 2)


class QualityNet(nn.Module):
    """The network of a `System`.

    ``forward(*views)`` takes a tensor for each view, in the order of ``system.preprocess.views``: uint8
    ``[N, H, W, 3]``, or ``[N, T, H, W, 3]`` for a view of T > 1 images, values 0 to 255, RGB. It returns a dictionary
    in the order of `output_names`: ``score`` float32 ``[N]``, raw (a score map turns it into quality); ``features...
    last`` float32 ``[N, C]``, the branch's vector that fusion takes (the mean over a view's T images; a branch of
    several views gives theirs side by side); ``features...<stage>`` float32 ``[N, C_s]``, the spatial average of a
    stage, likewise.

    The T images of a view are folded into the batch; all fusions but attention see the mean of their vectors.

    Attributes:
        system: its record.
        trunks: a `Trunk` for each branch, in the order of the record.
        fusion: joins the vectors.
        head: gives the score.
    """

    def __init__(self, system: System, trunks: Sequence[Trunk]) -> None:
        super().__init__()
        self.system = system
        self.trunks = nn.ModuleList(trunks)
        self.normalise = nn.ModuleList(_Normalise(branch.normalisation) for branch in system.branches)
        widths = [trunk.width for branch, trunk in zip(system.branches, trunks, strict=True) for _ in branch.views]
        self.fusion = build_fusion(system.fusion, widths)
        self.head = build_head(system.head, self.fusion.width)

    def forward(self, *views: Tensor) -> dict[str, Tensor]:
        """See the class."""
        # The cast comes first: TensorRT takes uint8 nowhere else.
        floats = [view.float() for view in views]
        by_name = dict(zip((view.name for view in self.system.preprocess.views), floats, strict=True))
        vectors: list[Tensor] = []
        features: list[Tensor] = []
        for branch, normalise, trunk in zip(self.system.branches, self.normalise, self.trunks, strict=True):
            seen = [_see(normalise, trunk, by_name[name]) for name in branch.views]
            vectors += [view[0] for view in seen]
            # Each of seen is the vectors and then the stages of one view.
            features += [
                _side_by_side([images_averaged(images) for images in same]) for same in zip(*seen, strict=True)
            ]
        score = self.head(self.fusion(vectors))
        outputs = [output.float() for output in (score, *features)]
        return dict(zip(output_names(self.system), outputs, strict=True))

    def set_output_bias(self, value: float) -> None:
        """Make every photograph's score ``value``: weights of the last layer zero, its bias ``value``.

        For the start of a training: with ``value`` the mean of the training scores, the first steps go into ranking.
        """
        with torch.no_grad():
            self.head.output.weight.zero_()
            self.head.output.bias.fill_(value)


def randomise_head(net: QualityNet, *, seed: int) -> None:
    """Give the score's last layer random weights: for looking at a network that has no trained head.

    Args:
        net: changed in place.
        seed: torch's global generator is left alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net.head.output.reset_parameters()


def for_export(net: QualityNet) -> QualityNet:
    """A copy of a trained network for conversion: the same scores from a plainer graph.

    Standardised weights and position embeddings are folded (see `backbones`); it is in evaluation mode.
    """
    plain = copy.deepcopy(net).eval()
    shapes = net.system.preprocess.shapes
    for branch, trunk in zip(net.system.branches, plain.trunks, strict=True):
        fold_standardised(trunk)
        sizes = {shapes[view][-3:-1] for view in branch.views}
        if len(sizes) == 1:
            fold_position_embedding(trunk, *sizes.pop())
    return plain


def _see(normalise: nn.Module, trunk: nn.Module, view: Tensor) -> list[Tensor]:
    """The vectors and the stages of a view: each ``[N, C]``, or ``[N, T, C]`` for a view of several images."""
    several = view.ndim == 5
    vectors, stages = trunk(normalise(view.flatten(0, 1) if several else view))
    return [feature.unflatten(0, (-1, view.shape[1])) if several else feature for feature in (vectors, *stages)]


def _side_by_side(vectors: list[Tensor]) -> Tensor:
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, 1)


def _view_size(system: System, branch: Branch) -> tuple[int, int]:
    """Width and height of a branch's input: of its first view, and of all where the backbone takes one size."""
    sizes = {name: system.preprocess.shapes[name][-3:-1] for name in branch.views}
    if len(set(sizes.values())) > 1 and has_fixed_size(branch.backbone):
        raise ModelError(
            f"views of several sizes (height, width) for {branch.backbone}, whose size is fixed: {sizes}",
            expected="views of one size",
            mend="give each view a branch of its own, or change the views",
        )
    height, width = sizes[branch.views[0]]
    return width, height


def build(system: System, *, weights: Weights, seed: int = 0) -> QualityNet:
    """Build the network of a system.

    Args:
        system: its record.
        weights: of the backbones, stated by the caller: nothing is random silently. `NoWeights` makes all layers
            random, the score's too, so that it depends on the photograph; with all others the head's last layer
            starts at zero.
        seed: of the layers that the weights do not bring (fusion and head). torch's global generator is left alone.

    Returns:
        The network, in evaluation mode, float32, on the CPU.

    Raises:
        ModelError: an unknown backbone, a size that it cannot take, widths that do not fit the fusion, weights that
            cannot be had or do not fit.
    """
    trunks: list[Trunk] = []
    for index, branch in enumerate(system.branches):
        width, height = _view_size(system, branch)
        # Branches of one backbone must differ, or a graph that mixes them up would still give the right score.
        source = NoWeights(seed=(weights.seed + index) % 2**32) if isinstance(weights, NoWeights) else weights
        model = load_backbone(branch, width, height, source)
        trunks.append(Trunk(model, branch, width, height))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = QualityNet(system, trunks)
    if not isinstance(weights, NoWeights):
        net.set_output_bias(0.0)
    return net.eval()
