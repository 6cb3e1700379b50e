"""The TensorRT engine: what it says where it cannot run, and that it runs where it can (on a stand-in for a GPU)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from edgeiqa.runtime.engines.cuda import Cuda, Gpu, find_gpu
from edgeiqa.runtime.engines.engine import GraphEngine, open_engine
from edgeiqa.runtime.engines.trt import why_no_tensorrt
from edgeiqa.runtime.engines.trt_build import BatchProfile
from edgeiqa.runtime.errors import EngineError, MissingExtraError, RecordError

from .bundles import artefact, graph, pixels
from .fake_tensorrt import ENGINE, OTHER_ENGINE, Driver, module, plug_in
from .messages import require_message

PICTURE = pixels(8, 8)
IMAGE = {"image": (8, 8, 3)}
OUTPUTS = ("score", "features.last")
PROVIDER = "onnxruntime_ep_nv_tensorrt_rtx"


def opened(*files: bytes, inputs: Mapping[str, tuple[int, ...]] = IMAGE) -> GraphEngine:
    parts = files or (graph("tiny.onnx"),)
    record = artefact(["one.onnx", "one.engine"][: len(parts)], target="tensorrt", outputs=OUTPUTS)
    return open_engine("tensorrt", record, parts, inputs=inputs, threads=1)


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`tensorrt` with a GPU."""
    made = module()
    monkeypatch.setitem(sys.modules, "tensorrt", made)
    plug_in(monkeypatch, Driver())
    return made


def provider(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """onnxruntime's provider wheel, whose provider has that name."""
    made: Any = ModuleType(PROVIDER)
    made.__spec__ = SimpleNamespace(name=PROVIDER, origin=__file__)
    made.__version__ = "0.5.0"
    made.get_ep_name = lambda: name
    made.get_library_path = lambda: "/nowhere/libprovider.so"
    monkeypatch.setitem(sys.modules, PROVIDER, made)
    monkeypatch.setitem(sys.modules, "tensorrt", None)


# --- where it cannot run ----------------------------------------------------------------------------------------------


def test_without_a_library_it_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, PROVIDER, None)
    with pytest.raises(MissingExtraError) as caught:
        opened()
    require_message(caught, "no tensorrt", "TensorRT-RTX's provider", 'pip install "edgeiqa[tensorrt]"')


@pytest.mark.parametrize("driver", [None, Driver(devices=0)], ids=["no driver", "no GPU"])
def test_without_a_gpu_it_says_what_to_run_instead(monkeypatch: pytest.MonkeyPatch, driver: Driver | None) -> None:
    provider(monkeypatch, "any")
    plug_in(monkeypatch, driver)
    assert find_gpu() is None
    with pytest.raises(EngineError) as caught:
        opened()
    require_message(caught, "no NVIDIA GPU with a working driver", "8.6, 8.9 or 12.0", "--engine onnxruntime")
    # And what it says to run, runs.
    record = artefact(["one.onnx"], target="tensorrt", outputs=OUTPUTS)
    made = open_engine("onnxruntime", record, [graph("tiny.onnx")], inputs=IMAGE, threads=1)
    assert float(made.run({"image": PICTURE})["score"]) == pytest.approx(PICTURE.mean() / 255, abs=1e-6)


def test_a_gpu_that_tensorrt_rtx_does_not_run_on_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    provider(monkeypatch, "any")
    plug_in(monkeypatch, Driver("NVIDIA H200", 90))
    assert find_gpu() == Gpu("NVIDIA H200", 90)
    with pytest.raises(EngineError) as caught:
        opened()
    require_message(caught, "NVIDIA H200 (compute capability 9.0)", "8.6, 8.9 or 12.0", "--engine onnxruntime")


@pytest.mark.parametrize(
    ("capability", "provided"),
    [
        (75, False),
        (80, False),
        (86, True),
        (87, False),
        (89, True),
        (90, False),
        (100, False),
        (120, True),
        (121, True),
    ],
)
def test_which_gpus_run_what(capability: int, provided: bool) -> None:
    gpu = Gpu("a GPU", capability)
    assert (why_no_tensorrt(gpu, native=False) == "") == provided
    assert why_no_tensorrt(gpu, native=True) == ""


@pytest.mark.parametrize(
    "files", [(b"",), (b"not a graph",), (graph("external.onnx"),), (graph("tiny.xml"), b"engine")]
)
def test_the_first_file_must_be_a_whole_onnx_graph(native: Any, files: tuple[bytes, ...]) -> None:
    with pytest.raises(EngineError) as caught:
        opened(*files)
    assert native.Builder.builds == 0 or "refused the graph" in caught.value.got


# --- tensorrt ---------------------------------------------------------------------------------------------------------


def test_tensorrt_gives_what_onnxruntime_gives(native: Any) -> None:
    made = opened()
    assert (made.name, made.version, native.Builder.builds) == ("tensorrt", "10.3.0", 1)
    record = artefact(["tiny.onnx"], outputs=OUTPUTS)
    reference = open_engine("onnxruntime", record, [graph("tiny.onnx")], inputs=IMAGE, threads=1)
    for picture in (PICTURE, 255 - PICTURE, PICTURE[:, ::-1]):
        got, expected = made.run({"image": picture}, OUTPUTS), reference.run({"image": picture}, OUTPUTS)
        assert all(np.array_equal(got[name], expected[name]) for name in OUTPUTS)


def test_an_engine_that_fits_the_gpu_is_loaded_and_another_is_built_again(native: Any) -> None:
    data = graph("tiny.onnx")
    made = opened(data, ENGINE + data)
    assert native.Builder.builds == 0
    score = made.run({"image": PICTURE})["score"]
    assert opened(data, OTHER_ENGINE + data).run({"image": PICTURE})["score"] == score
    assert native.Builder.builds == 1


def test_a_graph_that_tensorrt_refuses(native: Any) -> None:
    with pytest.raises(EngineError) as caught:
        opened(graph("tiny.onnx").replace(b"ReduceMean", b"RunCommand"))
    require_message(caught, "TensorRT 10.3.0 refused the graph", "it has", "edgeiqa lint")


def test_a_graph_of_another_input_is_refused_before_it_runs(native: Any) -> None:
    with pytest.raises(EngineError) as caught:
        opened(inputs={"image": (9, 9, 3)})
    require_message(caught, "", "", "export the bundle again")


def test_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver()
    monkeypatch.setitem(sys.modules, "tensorrt", module())
    plug_in(monkeypatch, driver)
    made = opened()
    assert len(driver.memory) == 3
    del made
    assert not driver.memory


@pytest.mark.parametrize("function", ["cuMemAlloc_v2", "cuMemcpyHtoD_v2", "cuCtxSynchronize", "cuMemcpyDtoH_v2"])
def test_a_driver_that_fails_is_an_engine_error(monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    driver = Driver()
    plug_in(monkeypatch, driver)
    driver.fails.add(function)
    with pytest.raises(EngineError) as caught:
        cuda = Cuda()
        address = cuda.allocate(4)
        cuda.write(address, np.arange(4, dtype=np.uint8))
        cuda.read(address, (4,), np.uint8)
    require_message(caught, f"error 999 of NVIDIA's driver in {function}", "success", "--engine")


def test_a_batch_profile_that_falls_is_refused() -> None:
    assert str(BatchProfile()) == "1-4-8"
    for sides in ((0, 1, 2), (2, 1, 4), (1, 8, 4)):
        with pytest.raises(RecordError):
            BatchProfile(*sides)


# --- onnxruntime's provider -------------------------------------------------------------------------------------------


def test_the_provider_runs_the_graph_for_one_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the path of the plug-in, with the one device that is here: the CPU's own provider."""
    asked: list[dict[str, str]] = []

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]
        def add_provider_for_devices(self, devices: Any, options: dict[str, str]) -> None:
            asked.append(options)
            super().add_provider_for_devices(devices, {})

        def add_session_config_entry(self, key: str, value: str) -> None:
            # The CPU may not be forbidden where it is the device.
            if key != "session.disable_cpu_ep_fallback":
                super().add_session_config_entry(key, value)

    provider(monkeypatch, "CPUExecutionProvider")
    plug_in(monkeypatch, Driver(capability=89))
    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    made = opened()
    assert made.version == "0.5.0"
    assert float(made.run({"image": PICTURE})["score"]) == pytest.approx(PICTURE.mean() / 255, abs=1e-6)
    assert asked == [dict.fromkeys([f"nv_profile_{bound}_shapes" for bound in ("min", "opt", "max")], "image:1x8x8x3")]


def test_a_provider_that_finds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[tuple[str, str]] = []
    provider(monkeypatch, "NvTensorRTRTXExecutionProvider")
    plug_in(monkeypatch, Driver(capability=89))
    monkeypatch.setattr(onnxruntime, "register_execution_provider_library", lambda *names: registered.append(names))
    with pytest.raises(EngineError) as caught:
        opened()
    require_message(caught, "no GPU that NvTensorRTRTXExecutionProvider runs on", "CUDA 13", "--engine onnxruntime")
    assert registered == [("NvTensorRTRTXExecutionProvider", "/nowhere/libprovider.so")]


def test_a_provider_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    provider(monkeypatch, "NvTensorRTRTXExecutionProvider")
    plug_in(monkeypatch, Driver(capability=89))
    with pytest.raises(EngineError) as caught:
        opened()
    require_message(caught, "refused the graph", "", "another --engine")
    assert find_spec(PROVIDER) is not None
