"""Graphs on TensorRT itself (10.3 and later, 11), as on a Jetson."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError
from .cuda import Cuda
from .engine import GraphInput
from .trt import TensorRtGraph
from .trt_build import BatchProfile, build_engine

__all__ = ["NativeGraph"]


class NativeGraph(TensorRtGraph):
    """An engine with its buffers on the GPU, for a batch of one.

    The engine beside the graph is loaded where it was built for this GPU and this TensorRT; any other is passed over,
    and one is built of the graph, which may take minutes. An engine is code for the GPU: load those of people you
    trust.
    """

    def __init__(self, files: Sequence[bytes], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Load or build.

        Args:
            files: the ONNX graph, then an engine where there is one.
            shapes: of each input, without the batch.

        Raises:
            EngineError: TensorRT refuses the graph, or the GPU fails.
        """
        self._trt: Any = importlib.import_module("tensorrt")
        trt = self._trt
        self.version = str(trt.__version__)
        self._cuda = Cuda()
        runtime = trt.Runtime(trt.Logger(trt.Logger.INTERNAL_ERROR))
        engine = runtime.deserialize_cuda_engine(files[1]) if len(files) > 1 else None
        if engine is None:
            built = build_engine(trt, files[0], batch=BatchProfile(1, 1, 1), title=f"TensorRT {self.version}")
            engine = runtime.deserialize_cuda_engine(built.data)
        context = None if engine is None else engine.create_execution_context()
        if engine is None or context is None:
            raise EngineError(
                f"TensorRT {self.version} does not load the engine it built",
                expected="an engine that runs",
                mend="free the GPU's memory, or run on the CPU with --engine onnxruntime",
            )
        self._runtime, self._engine, self._context = runtime, engine, context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        is_input = {name: engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.inputs: Mapping[str, GraphInput] = {
            name: GraphInput(
                engine.get_tensor_dtype(name) == trt.uint8,
                tuple(None if side < 0 else int(side) for side in engine.get_tensor_shape(name)),
            )
            for name in names
            if is_input[name]
        }
        self.outputs: Sequence[str] = [name for name in names if not is_input[name]]
        self._addresses: dict[str, int] = {}
        # Inputs that are not as they should be are left for the caller to refuse.
        if set(shapes) == set(self.inputs) and all(self.inputs[name].takes((1, *shapes[name])) for name in shapes):
            for name, shape in shapes.items():
                context.set_input_shape(name, (1, *shape))
            for name in names:
                size = int(np.prod(context.get_tensor_shape(name))) * self._dtype(name).itemsize
                self._addresses[name] = self._cuda.allocate(max(size, 1))
                context.set_tensor_address(name, self._addresses[name])

    def infer(self, batch: Mapping[str, NDArray[np.uint8]], outputs: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Run a batch of one."""
        self._cuda.use()
        for name, pixels in batch.items():
            self._cuda.write(self._addresses[name], pixels)
        if not self._context.execute_async_v3(0):
            raise EngineError(
                f"TensorRT {self.version} failed to run the engine",
                expected="a result",
                mend="free the GPU's memory, or run on the CPU with --engine onnxruntime",
            )
        return {
            name: self._cuda.read(
                self._addresses[name], tuple(self._context.get_tensor_shape(name)), self._dtype(name)
            ).astype(np.float32)
            for name in outputs
        }

    def __del__(self) -> None:
        for address in getattr(self, "_addresses", {}).values():
            self._cuda.free(address)

    def _dtype(self, name: str) -> np.dtype[Any]:
        dtype: np.dtype[Any] = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return dtype
