"""What a network learns to keep in INT8: its own answers in FP32, as targets, and the losses to them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .distill_records import DistillLosses
from .distillation import DistillObjective, TransferExamples, TransferSet
from .models.network import QualityNet
from .quant_aware_records import QuantAwareLosses
from .stages import Stage

__all__ = ["OwnAnswers", "QuantAwareObjective", "feature_variances", "weights_digest"]

_OWN = "own."
_LEAST_VARIANCE = 1e-12


def weights_digest(network: nn.Module) -> str:
    """Hex sha256 of a network's state."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def feature_variances(
    network: QualityNet, views: Sequence[NDArray[np.uint8]], rows: NDArray[np.int64], *, batch: int = 16
) -> dict[str, float]:
    """Variance of each of a network's feature outputs over photographs, summed over its channels.

    Args:
        network: in eval mode.
        views: uint8 ``[N, ...]`` each.
        rows: which of the N, int64 ``[n]``.
        batch: photographs at once.
    """
    found: dict[str, list[Tensor]] = {}
    for start in range(0, len(rows), batch):
        for name, output in _asked(network, [view[rows[start : start + batch]] for view in views]).items():
            found.setdefault(name, []).append(output)
    return {
        name: max(_LEAST_VARIANCE, float(torch.cat(parts).double().var(0, correction=0).sum()))
        for name, parts in found.items()
        if name != "score"
    }


def _asked(network: QualityNet, views: Sequence[NDArray[np.uint8]]) -> dict[str, Tensor]:
    device = next(network.parameters()).device
    with torch.no_grad():
        outputs = network(*[torch.from_numpy(np.array(view)).to(device) for view in views])
    return {name: output.cpu() for name, output in outputs.items()}


class OwnAnswers:
    """A transfer set as `examples.Examples` whose teacher is the float network that the training starts from.

    Targets of a batch of n, beside those of `TransferExamples`: ``teacher`` ``[n]``, its raw score; ``spread`` ``[n]``,
    zeros; ``own.features...`` ``[n, C]``, its features. It is asked at every step, of the very views that the network
    in training sees.

    Args:
        views: uint8 ``[N, ...]`` each, those of the transfer set first.
        transfer: items and opinions.
        network: the float one, in eval mode.
        seed: of which item of a photograph is drawn.
    """

    def __init__(
        self, views: Sequence[NDArray[np.uint8]], transfer: TransferSet, network: QualityNet, *, seed: int
    ) -> None:
        self._examples = TransferExamples(views, transfer, seed=seed, features=False)
        self._network = network
        self._fingerprint = f"{self._examples.fingerprint} {weights_digest(network)}"

    @property
    def count(self) -> int:
        """Of groups of items."""
        return self._examples.count

    @property
    def fingerprint(self) -> str:
        """Of items, opinions and the network."""
        return self._fingerprint

    def name(self, row: int) -> str:
        """See `examples.Examples`."""
        return self._examples.name(row)

    def draw(
        self, rows: NDArray[np.int64], epoch: int, whole: bool
    ) -> tuple[Sequence[NDArray[np.uint8]], dict[str, NDArray[np.float32]]]:
        """See `examples.Examples`."""
        views, targets = self._examples.draw(rows, epoch, whole)
        answers = {name: output.numpy() for name, output in _asked(self._network, views).items()}
        targets["teacher"] = answers.pop("score")
        targets["spread"] = np.zeros_like(targets["teacher"])
        return views, targets | {_OWN + name: answer for name, answer in answers.items()}


class QuantAwareObjective:
    """The losses of a quantization-aware training, to the targets of `OwnAnswers`.

    Args:
        losses: weights of the terms.
        variances: see `feature_variances`.
    """

    def __init__(self, losses: QuantAwareLosses, variances: Mapping[str, float]) -> None:
        self._feature = losses.feature
        self._variances = variances
        scores = DistillLosses(score=losses.score, mos=losses.mos, rank=losses.rank, feature=0.0, disagreement=None)
        self._scores = DistillObjective(scores, {}, TransferSet(items=(), mos=np.empty(0), said=None))

    def __call__(
        self, outputs: dict[str, Tensor], targets: dict[str, Tensor], stage: Stage, seed: int
    ) -> dict[str, Tensor]:
        """See `examples.Objective`.

        ``feature`` is the mean over the outputs of the squared error's share of the variance, 1 for their means.
        """
        terms: dict[str, Tensor] = self._scores(outputs, targets, stage, seed)
        if self._feature:
            errors = [
                (outputs[name].float() - targets[_OWN + name]).square().sum(1).mean() / variance
                for name, variance in self._variances.items()
            ]
            terms["feature"] = self._feature * torch.stack(errors).mean()
        return terms
