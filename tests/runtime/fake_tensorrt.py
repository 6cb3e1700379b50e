"""Stands in for a GPU: `tensorrt` and NVIDIA's driver, with memory of this process and onnxruntime for the kernels.

An engine is its ONNX graph behind a word that says which GPU it is for.
"""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest

ENGINE = b"engine for this GPU:"
OTHER_ENGINE = b"engine for another GPU:"
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}


class Driver:
    """The functions of NVIDIA's driver that are called, for one GPU."""

    def __init__(self, name: str = "a GPU of this test", capability: int = 89, *, devices: int = 1) -> None:
        self.name, self.capability, self.devices = name, capability, devices
        self.memory: dict[int, Any] = {}
        self.fails: set[str] = set()

    def __getattr__(self, function: str) -> Callable[..., int]:
        work = getattr(type(self), f"do_{function}", None)
        if work is None:
            raise AttributeError(function)
        return lambda *arguments: 999 if function in self.fails else int(work(self, *arguments) or 0)

    def do_cuInit(self, _: int) -> None: ...
    def do_cuDeviceGet(self, device: Any, _: int) -> None: ...
    def do_cuDevicePrimaryCtxRetain(self, context: Any, _: Any) -> None: ...
    def do_cuCtxSetCurrent(self, _: Any) -> None: ...
    def do_cuCtxSynchronize(self) -> None: ...

    def do_cuDeviceGetCount(self, count: Any) -> None:
        count._obj.value = self.devices

    def do_cuDeviceGetName(self, name: Any, _: int, __: Any) -> None:
        name.value = self.name.encode()

    def do_cuDeviceGetAttribute(self, value: Any, attribute: int, _: Any) -> None:
        value._obj.value = self.capability // 10 if attribute == 75 else self.capability % 10

    def do_cuMemAlloc_v2(self, address: Any, size: Any) -> None:
        buffer = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(buffer)
        self.memory[address._obj.value] = buffer

    def do_cuMemFree_v2(self, address: Any) -> None:
        del self.memory[address.value]

    def do_cuMemcpyHtoD_v2(self, address: Any, source: Any, size: Any) -> None:
        assert size.value == len(self.memory[address.value])
        ctypes.memmove(address.value, source.value, size.value)

    def do_cuMemcpyDtoH_v2(self, target: Any, address: Any, size: Any) -> None:
        assert size.value == len(self.memory[address.value])
        ctypes.memmove(target.value, address.value, size.value)


class Context:
    """Runs a graph on the addresses it was given."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self.session = session
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shapes[name] = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        sides = {node.name: node.shape for node in (*self.session.get_inputs(), *self.session.get_outputs())}[name]
        return self.shapes.get(name) or tuple(side if isinstance(side, int) else 1 for side in sides)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 0
        feeds = {}
        for name, shape in self.shapes.items():
            size = int(np.prod(shape))
            feeds[name] = np.frombuffer(ctypes.string_at(self.addresses[name], size), np.uint8).reshape(shape)
        outputs = [node.name for node in self.session.get_outputs()]
        for name, value in zip(outputs, self.session.run(outputs, feeds), strict=True):
            ctypes.memmove(self.addresses[name], np.ascontiguousarray(value).ctypes.data, value.nbytes)
        return True


class Engine:
    """A graph, as an engine tells of it."""

    def __init__(self, graph: bytes) -> None:
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self.nodes = [*self.session.get_inputs(), *self.session.get_outputs()]
        self.num_io_tensors = len(self.nodes)
        self.by_name = {node.name: node for node in self.nodes}
        self.inputs = {node.name for node in self.session.get_inputs()}

    def get_tensor_name(self, index: int) -> str:
        return str(self.nodes[index].name)

    def get_tensor_mode(self, name: str) -> str:
        return "input" if name in self.inputs else "output"

    def get_tensor_dtype(self, name: str) -> str:
        return _TYPES[self.by_name[name].type]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(side if isinstance(side, int) else -1 for side in self.by_name[name].shape)

    def create_execution_context(self) -> Context:
        return Context(self.session)


class Runtime:
    """Loads engines of this GPU."""

    def __init__(self, log: object) -> None: ...

    def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
        return Engine(data.removeprefix(ENGINE)) if data.startswith(ENGINE) else None


class Parser:
    """Takes what onnxruntime takes."""

    def __init__(self, network: Any, log: Any) -> None:
        self.network = network
        self.error = ""
        self.num_errors = 0

    def parse(self, graph: bytes) -> bool:
        try:
            engine = Engine(graph)
        except Exception as error:
            self.error, self.num_errors = str(error), 1
            return False
        self.network.graph = graph
        self.network.tensors = [
            SimpleNamespace(name=name, shape=engine.get_tensor_shape(name)) for name in engine.inputs
        ]
        self.network.num_inputs = len(self.network.tensors)
        self.network.get_input = self.network.tensors.__getitem__
        return True

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: self.error, node_name=lambda: "", node_operator=lambda: "")


class Builder:
    """Builds by leaving the graph as it is; ``builds`` counts them."""

    builds = 0

    def __init__(self, log: object) -> None: ...

    def create_network(self, flags: int) -> Any:
        assert flags == 1
        return SimpleNamespace()

    def create_builder_config(self) -> Any:
        return SimpleNamespace(clear_flag=lambda _: None, add_optimization_profile=lambda _: 0)

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda *_: None)

    def build_serialized_network(self, network: Any, config: Any) -> bytes:
        type(self).builds += 1
        return ENGINE + bytes(network.graph)


class Severity(enum.IntEnum):
    """Of a message."""

    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


def module(version: str = "10.3.0") -> Any:
    """The module `tensorrt`, as far as it is called."""
    made: Any = ModuleType("tensorrt")
    made.__spec__ = SimpleNamespace(name="tensorrt", origin="")
    made.__version__ = version
    made.Builder = type("Builder", (Builder,), {"builds": 0})
    made.OnnxParser, made.Runtime = Parser, Runtime
    made.ILogger = type("ILogger", (), {"Severity": Severity})
    made.Logger = type("Logger", (), {**Severity.__members__, "__init__": lambda *_: None})
    made.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=0)
    made.BuilderFlag = SimpleNamespace(TF32="tf32")
    made.ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    made.TensorIOMode = SimpleNamespace(INPUT="input", OUTPUT="output")
    made.uint8, made.nptype = "uint8", np.dtype
    return made


def plug_in(monkeypatch: pytest.MonkeyPatch, driver: Driver | None) -> None:
    """Let the driver be this one, or let there be none."""

    def load(name: str, *arguments: Any, **options: Any) -> Any:
        if name in ("libcuda.so.1", "nvcuda.dll"):
            if driver is None:
                raise OSError("no such library")
            return driver
        return known(name, *arguments, **options)

    known: Any = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", load)
