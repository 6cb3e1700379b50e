"""From networks in torch to gated bundles: what `export` and the default bundle's maker share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..export.convert import FloatMember
from ..export.fuse import fold_batch_norms, round_to_fp16
from ..export.gate import Reference
from ..export.graph import graph_bytes, store_as_fp16, to_onnx
from ..export.openvino_graph import to_openvino
from ..export.pack import Graph, PackedMember, Photograph
from ..profiles.onnx_cost import count_graph
from ..runtime.errors import ModelError, PhotoError, UsageError
from ..runtime.manifest import StoredAs, Target, is_plain_name
from ..runtime.score_map import ScoreMap, Sigmoid
from .runs import RUN_NAME, read_run

if TYPE_CHECKING:
    import torch

    from ..compress.models.network import QualityNet

__all__ = [
    "Trained",
    "export_member",
    "find_checkpoints",
    "float_model",
    "library_versions",
    "load_trained",
    "plain_map",
    "read_photographs",
    "torch_reference",
]


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with what a bundle needs to know of it."""

    name: str
    network: QualityNet
    score_map: ScoreMap
    provenance: dict[str, Any]


def plain_map() -> ScoreMap:
    """A sigmoid of slope 1 to 0 to 100, fitted on nothing: for networks that were not trained.

    A clip to the scale would give one score to most raw outputs of a random network, and hide what parity looks for.
    """
    return ScoreMap(steps=(Sigmoid(slope=1.0, centre=0.0, low=0.0, high=100.0),), low=0.0, high=100.0)


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run: the folder itself, the folders in it, or those in its ``members``, by name.

    Raises:
        ModelError: there is none.
        UsageError: the run is not finished: some of its members may be missing.
    """
    from ..compress.checkpoint import RECORD_NAME

    if (folder / RUN_NAME).is_file() and (run := read_run(folder)).finished is None:
        raise UsageError(
            f"{folder}, a run that is not finished",
            expected="a finished run, or a checkpoint's folder",
            mend=f"let it finish: edgeiqa {run.kind} --resume {folder}",
        )
    if (folder / RECORD_NAME).is_file():
        return [folder]
    found = sorted(path.parent for pattern in ("*", "members/*") for path in folder.glob(f"{pattern}/{RECORD_NAME}"))
    if not found:
        raise ModelError(
            f"{folder}, which holds no checkpoint",
            expected=f"a folder with {RECORD_NAME}, or a run of such folders",
            mend="name the folder that a training wrote",
        )
    return found


def load_trained(folders: Sequence[Path]) -> list[Trained]:
    """Load checkpoints, each a member.

    Raises:
        ModelError: a folder is no checkpoint, or two have the same name.
    """
    from ..compress.checkpoint import RECORD_NAME, load_checkpoint

    trained = []
    for folder in folders:
        record, network = load_checkpoint(folder)
        trained.append(Trained(record.name, network, record.score_map, record.provenance))
    names = [member.name for member in trained]
    if odd := [name for name in names if not is_plain_name(name)]:
        # Found here, and not when the bundle is written: an export may take minutes.
        raise ModelError(
            f"a checkpoint named {odd[0]!r}",
            expected="a name of letters, digits, . _ - for a member of a bundle",
            mend=f"change its name in {RECORD_NAME}",
        )
    if len(set(names)) < len(names):
        raise ModelError(f"members named {names}", expected="a name of its own for each", mend="name each run once")
    return trained


def export_member(member: Trained, targets: Sequence[Target], store: StoredAs) -> PackedMember:
    """Export one network to each target in FP32, its weights stored as said, with its cost counted on the graph.

    Raises:
        ExportError, MissingExtraError: as `to_onnx` and `to_openvino`.
    """
    from ..compress.models.network import for_export, output_names

    system = member.network.system
    outputs = output_names(system)
    network: torch.nn.Module = for_export(member.network)
    if store == "fp16":
        # Folded first: rounding a weight and then scaling it would store other values than were judged.
        network = round_to_fp16(fold_batch_norms(network, system.preprocess.shapes))
    model = to_onnx(network, system.preprocess.shapes, outputs)
    cost = count_graph(model)
    graphs = []
    for target in targets:
        files: tuple[bytes, ...]
        if target == "onnx":
            files = (graph_bytes(store_as_fp16(model) if store == "fp16" else model),)
        else:
            files = to_openvino(graph_bytes(model), store_fp16=store == "fp16")
        graphs.append(Graph(target, "fp32", store, files, outputs, macs=cost.macs, parameters=cost.parameters))
    return PackedMember(member.name, system.preprocess, member.score_map, tuple(graphs))


def float_model(member: Trained) -> FloatMember:
    """A network as an ONNX graph in FP32, with its cost, for other precisions to be made from.

    Raises:
        ExportError, MissingExtraError: as `to_onnx`.
    """
    from ..compress.models.network import for_export, output_names

    system = member.network.system
    outputs = output_names(system)
    model = to_onnx(for_export(member.network), system.preprocess.shapes, outputs)
    cost = count_graph(model)
    return FloatMember(
        name=member.name,
        preprocess=system.preprocess,
        score_map=member.score_map,
        model=graph_bytes(model),
        outputs=outputs,
        macs=cost.macs,
        parameters=cost.parameters,
    )


def torch_reference(members: Sequence[Trained]) -> Reference:
    """The networks in torch, FP32, on the CPU, as the parity gate asks them."""
    import numpy as np
    import torch
    from numpy.typing import NDArray

    networks = {member.name: member.network for member in members}

    def reference(name: str, views: Mapping[str, NDArray[np.uint8]]) -> float:
        network = networks[name]
        inputs = [torch.from_numpy(views[view.name].copy())[None] for view in network.system.preprocess.views]
        with torch.inference_mode():
            return float(network(*inputs)["score"][0])

    return reference


def read_photographs(paths: Sequence[Path]) -> list[Photograph]:
    """Photographs by file name; they are read whole.

    Raises:
        PhotoError: one cannot be read.
    """
    photographs = []
    for path in paths:
        try:
            photographs.append(Photograph(path.name, path.read_bytes()))
        except OSError as error:
            raise PhotoError(
                f"{path} ({error.strerror or error})", expected="a photograph", mend="correct the path"
            ) from error
    return photographs


def library_versions() -> dict[str, str]:
    """Versions of the libraries that shape a graph."""
    return {name: version(name) for name in ("edgeiqa", "torch", "timm", "onnx", "onnxscript", "onnxruntime", "pillow")}
