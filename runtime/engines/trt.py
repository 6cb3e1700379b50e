"""TensorRT on an NVIDIA GPU: by `tensorrt` where that is installed, else by onnxruntime's TensorRT-RTX provider."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError, MissingExtraError
from ..manifest import Precision
from .cuda import Gpu, find_gpu
from .engine import ENGINES, GraphEngine, GraphInput
from .trt_rtx_files import PROVIDER_MODULE

__all__ = ["TensorRtEngine", "TensorRtGraph", "why_no_tensorrt"]


class TensorRtGraph(ABC):
    """A graph that a TensorRT library holds on the GPU.

    Attributes:
        inputs: as the graph declares them.
        outputs: names it gives.
        version: of the library.
    """

    inputs: Mapping[str, GraphInput]
    outputs: Sequence[str]
    version: str

    @abstractmethod
    def infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of one."""


class TensorRtEngine(GraphEngine):
    """Strongly typed ONNX graphs, compiled for the GPU when they are loaded; the types are the graph's.

    An engine that lies beside the graph is taken by `tensorrt` where it fits the GPU; onnxruntime's provider compiles
    the graph itself, which takes it seconds.
    """

    name = "tensorrt"
    version = "of no library"

    def _load(
        self,
        files: Sequence[bytes],
        precision: Precision,  # noqa: ARG002 - typed in the graph
        threads: int,
    ) -> tuple[Mapping[str, GraphInput], Sequence[str]]:
        native = find_spec("tensorrt") is not None
        if not native and find_spec(PROVIDER_MODULE) is None:
            _, _, _, install, _ = ENGINES["tensorrt"]
            raise MissingExtraError("no tensorrt", expected="tensorrt, or TensorRT-RTX's provider", mend=install)
        gpu = find_gpu()
        reason = why_no_tensorrt(gpu, native=native)
        if reason:
            raise EngineError(
                reason,
                expected="a GPU that TensorRT supports"
                if native
                else "a GPU of compute capability 8.6, 8.9 or 12.0 and above, for TensorRT-RTX",
                mend="run the ONNX graph on the CPU with --engine onnxruntime, or score on a machine with such a GPU",
            )
        # An engine has one context; streams overlap in what goes on beside the GPU.
        self._one_at_a_time = Lock()
        self._graph: TensorRtGraph
        if native:
            from .trt_native import NativeGraph

            self._graph = NativeGraph(files, self.inputs)
        else:
            from .trt_rtx import ProviderGraph

            self._graph = ProviderGraph(files[0], self.inputs, threads)
        self.version = self._graph.version
        return self._graph.inputs, self._graph.outputs

    def _infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        with self._one_at_a_time:
            return self._graph.infer(batch, outputs)


def why_no_tensorrt(gpu: Gpu | None, *, native: bool) -> str:
    """Why no graph runs on that GPU; empty where one does.

    Args:
        gpu: of this machine.
        native: whether `tensorrt` itself would run it, which takes more GPUs than TensorRT-RTX.
    """
    if gpu is None:
        return "no NVIDIA GPU with a working driver on this machine"
    # What the provider's own header lists (``tensorrt_rtx_provider_options.h``).
    if not native and gpu.capability not in (86, 89) and gpu.capability < 120:
        return f"a {gpu}, which TensorRT-RTX does not run on"
    return ""
