"""Real TensorRT-RTX engines, built without a GPU; the cache; and what is handed out where nothing can be built."""

from __future__ import annotations

import hashlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import onnx
import pytest
from edgeiqa.export import tensorrt_library, to_tensorrt
from edgeiqa.export.float_graph import load_graph
from edgeiqa.export.graph import graph_bytes
from edgeiqa.export.tensorrt_library import NoTensorRt, TensorRtLibrary, find_library, parse_capabilities
from edgeiqa.export.tensorrt_script import trtexec_line
from edgeiqa.export.to_tensorrt import TensorRtResult
from edgeiqa.runtime.engines.cuda import Gpu
from edgeiqa.runtime.engines.trt_build import BatchProfile
from edgeiqa.runtime.engines.trt_rtx_files import rtx_folder
from edgeiqa.runtime.errors import ExportError, UsageError

from ..runtime.messages import require_message
from .networks import Exported
from .tensorrt_graphs import SIDE, Kind, tiny

BOTH = (86, 89)
build = to_tensorrt.to_tensorrt

pytestmark = pytest.mark.usefixtures("no_gpu")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr(tensorrt_library, "find_gpu", lambda: None)


@pytest.fixture
def rtx() -> Any:
    """TensorRT-RTX's module, loaded."""
    found = find_library(BOTH)
    assert isinstance(found, TensorRtLibrary)
    return found.module


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    for name in modules:
        monkeypatch.setitem(sys.modules, name, None)


# --- ahead of time ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "precisions"), [("fp32", {"fp32": 3}), ("fp16", {"fp16": 3}), ("int8", {"int8": 3})])
def test_an_engine_for_two_capabilities_is_built_without_a_gpu(kind: Kind, precisions: dict[str, int]) -> None:
    graph = tiny(kind)
    made = build(graph, capabilities=BOTH)
    assert made.case == "tensorrt-rtx"
    assert made.engine is not None and len(made.engine) > 100_000
    assert made.files == (graph, made.engine)
    assert made.capability == f"TensorRT-RTX {made.library.split()[1]}, compute capability 8.6, 8.9"
    assert (made.capabilities, str(made.batch), made.cached, made.reason) == (BOTH, "1-4-8", False, "")
    assert made.build_s is not None and 0 < made.build_s < 60
    layers = made.layers
    assert layers is not None
    assert layers.counts == precisions
    assert layers.quantized == ((3, 3) if kind == "int8" else (0, 0))
    assert (layers.source, layers.missing) == ("builder", ())
    assert "needs a GPU" in layers.reason and layers.reason in layers.summary()


def test_accepted_is_not_int8() -> None:
    """Quantizers on the weights alone: TensorRT-RTX builds it, and multiplies no INT8 by INT8."""
    layers = build(tiny("int8 weights"), capabilities=BOTH).layers
    assert layers is not None
    assert len(layers.products) == 3
    assert all(product.precision in ("fp32", "int8 weights") for product in layers.products)
    assert layers.counts["fp32"] == 2
    assert not layers.lacks_int8 and "1 in int8 weights" in layers.summary()


@pytest.mark.parametrize("capability", tensorrt_library.RTX_CAPABILITIES)
def test_every_capability_that_is_offered_is_built_for(capability: int) -> None:
    made = build(tiny("fp16"), capabilities=(capability,))
    assert made.capabilities == (capability,)
    assert made.engine is not None


def test_what_a_capability_lacks_is_told() -> None:
    """TensorRT-RTX has no FP32 matrix products for Turing."""
    with pytest.raises(ExportError) as caught:
        build(tiny("fp32"), capabilities=(75, 86))
    require_message(caught, "Cannot compile operation 'head' for Turing (SM75)", "", "other compute capabilities")


def test_a_real_student_becomes_an_engine(exported: Callable[[str], Exported]) -> None:
    made = build(exported("mobilenet").data, capabilities=BOTH, batch=BatchProfile(1, 1, 2))
    assert made.engine is not None and made.layers is not None
    assert set(made.layers.counts) == {"fp32"}
    products = [node for node in exported("mobilenet").model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert len(made.layers.products) + len(made.layers.missing) == len(products)
    assert not made.layers.missing


def test_nothing_is_written_into_the_wheel() -> None:
    folder = rtx_folder()
    assert folder is not None
    build(tiny(), capabilities=BOTH)
    assert not [path for path in folder.iterdir() if path.is_symlink()]


def test_a_graph_that_tensorrt_refuses_is_told_node_by_node() -> None:
    with pytest.raises(ExportError) as caught:
        build(tiny("uint8 transpose"), capabilities=BOTH)
    require_message(caught, "Transpose turn", "operators and types it has", "edgeiqa lint GRAPH.onnx --target tensorrt")
    assert "UInt8" in caught.value.got and "cudaError" not in caught.value.got and "\n" not in caught.value.got


def test_an_operator_that_tensorrt_lacks() -> None:
    model = load_graph(tiny())
    for node in model.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Det"
    with pytest.raises(ExportError) as caught:
        build(graph_bytes(model), capabilities=BOTH)
    require_message(caught, "Det first.relu", "", "edgeiqa lint")


def test_a_side_that_is_not_fixed_is_refused() -> None:
    model = load_graph(tiny())
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "H"
    with pytest.raises(ExportError) as caught:
        build(graph_bytes(model), capabilities=BOTH)
    require_message(caught, "['N', 'H', 32, 3]", "all but the batch", "fixed size")


@pytest.mark.parametrize("data", [b"", b"not a graph", tiny()[:100]])
def test_what_is_no_graph(data: bytes) -> None:
    with pytest.raises(ExportError):
        build(data, capabilities=BOTH)


# --- capabilities -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [("86", (86,)), ("89,86", BOTH), (" 8.6, sm89 ,86", BOTH), ("SM120,12.1", (120, 121))],
)
def test_capabilities_are_read(text: str, expected: tuple[int, ...]) -> None:
    assert parse_capabilities(text) == expected


@pytest.mark.parametrize("text", ["", "86,", "ada", "8..6", "-86", "4.9", "8600", "²¹²"])
def test_what_is_no_capability_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_capabilities(text)
    require_message(caught, "compute capability", "86,89", "nvidia-smi")


def test_a_capability_that_tensorrt_rtx_does_not_build_for() -> None:
    with pytest.raises(UsageError) as caught:
        build(tiny(), capabilities=(86, 87, 90))
    require_message(caught, "compute capability 87, 90", "75, 80, 86, 89, 120, 121", "from the ONNX graph")


def test_without_a_named_capability_all_that_the_provider_runs_on() -> None:
    assert build(tiny()).capabilities == (86, 89, 120, 121)


# --- the cache --------------------------------------------------------------------------------------------------------


def test_an_engine_is_built_once(tmp_path: Path) -> None:
    folder = tmp_path / "engines"
    first = build(tiny(), capabilities=BOTH, cache=folder)
    again = build(tiny(), capabilities=BOTH, cache=folder)
    assert (first.cached, again.cached) == (False, True)
    assert (again.engine, again.layers, again.build_s) == (first.engine, first.layers, first.build_s)
    assert "found in the cache" in str(again)
    assert sorted(path.suffix for path in folder.iterdir()) == [".engine", ".json"]


def test_what_differs_is_built_anew(tmp_path: Path) -> None:
    build(tiny(), capabilities=BOTH, cache=tmp_path)
    for other in (
        build(tiny("fp16"), capabilities=BOTH, cache=tmp_path),
        build(tiny(), capabilities=(89,), cache=tmp_path),
        build(tiny(), capabilities=BOTH, batch=BatchProfile(1, 1, 1), cache=tmp_path),
    ):
        assert not other.cached
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.parametrize("harm", ["engine changed", "engine cut off", "engine gone", "record gone", "record broken"])
def test_a_cached_engine_that_is_not_whole_is_built_anew(harm: str, tmp_path: Path) -> None:
    made = build(tiny(), capabilities=BOTH, cache=tmp_path)
    what, how = harm.split(" ", 1)
    path = next(tmp_path.glob(f"*.{'engine' if what == 'engine' else 'json'}"))
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"changed": data[:-1] + b"\0", "cut off": data[: len(data) // 2], "broken": b"{"}[how])
    again = build(tiny(), capabilities=BOTH, cache=tmp_path)
    assert again.engine is not None and made.engine is not None
    assert not again.cached
    assert build(tiny(), capabilities=BOTH, cache=tmp_path).cached


# --- where nothing can be built ---------------------------------------------------------------------------------------


def test_without_a_library_the_graph_comes_with_the_means_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "tensorrt", "tensorrt_rtx_bindings", "onnxruntime_ep_nv_tensorrt_rtx")
    graph = tiny("int8")
    made = build(graph, capabilities=(87,))
    assert (made.case, made.engine, made.files, made.capability) == ("not built", None, (graph,), "")
    assert (made.layers, made.build_s, made.library) == (None, None, "")
    for words in ("tensorrt is not installed", "TensorRT-RTX is not installed", 'pip install "edgeiqa[tensorrt]"'):
        assert words in made.reason
    assert str(made).startswith("not built: ")
    assert f"--minShapes=image:1x{SIDE}x{SIDE}x3 --optShapes=image:4x{SIDE}x{SIDE}x3" in made.trtexec
    assert "--stronglyTyped" in made.trtexec and "--int8" not in made.trtexec


def test_bindings_without_their_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnxruntime_ep_nv_tensorrt_rtx")
    found = find_library()
    assert isinstance(found, NoTensorRt)
    assert "TensorRT-RTX is not installed" in found.reason


def test_libraries_that_do_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError("libstdc++.so.6: version GLIBCXX_3.4.99 not found")

    monkeypatch.setattr(tensorrt_library, "load_rtx_libraries", fail)
    made = build(tiny())
    assert made.case == "not built"
    assert "GLIBCXX_3.4.99" in made.reason


def test_the_line_for_several_views() -> None:
    line = trtexec_line({"near": (9, 32, 32, 3), "far": (64, 48, 3)}, BatchProfile(1, 2, 4), graph="a.onnx")
    assert "--onnx=a.onnx " in line
    assert "--minShapes=near:1x9x32x32x3,far:1x64x48x3 " in line
    assert "--maxShapes=near:4x9x32x32x3,far:4x64x48x3 " in line


# --- tensorrt itself --------------------------------------------------------------------------------------------------


def stand_in(rtx: Any, version: str = "10.3.0") -> ModuleType:
    """`tensorrt` with TensorRT-RTX's builder, which builds without a GPU, and an engine that tells of one layer."""
    told = (
        '{"Layers": [{"Name": "first + first.relu", "LayerType": "CaskConvolution", "Inputs": [{"Name": "x", '
        '"Dimensions": [4, 3, 32, 32], "Format/Datatype": "Channel major INT8 format where channel % 4 == 0"}], '
        '"Outputs": [{"Name": "y", "Dimensions": [4, 16, 16, 16], "Format/Datatype": "Channel major INT8 format"}], '
        '"Weights": {"Type": "Int8", "Count": 432}, "Metadata": "[ONNX Layer: first]\\u001e[ONNX Layer: first.relu]"}]}'
    )
    inspector = SimpleNamespace(get_engine_information=lambda _: told)
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    made: Any = ModuleType("tensorrt")
    vars(made).update({name: value for name, value in vars(rtx).items() if not name.startswith("__")})
    made.__spec__ = SimpleNamespace(name="tensorrt")
    made.__version__ = version
    made.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine)
    return made  # type: ignore[no-any-return]


@pytest.fixture
def orin(monkeypatch: pytest.MonkeyPatch, rtx: Any, no_gpu: None) -> None:
    """`tensorrt` and a GPU that TensorRT-RTX does not know."""
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(rtx))
    monkeypatch.setattr(tensorrt_library, "find_gpu", lambda: Gpu("Orin", 87))


@pytest.mark.usefixtures("orin")
@pytest.mark.parametrize("capabilities", [(), (87,)])
def test_tensorrt_builds_for_its_own_gpu(capabilities: tuple[int, ...], tmp_path: Path) -> None:
    made: TensorRtResult = build(tiny("int8"), capabilities=capabilities, cache=tmp_path)
    assert (made.case, made.library, made.capabilities) == ("tensorrt", "TensorRT 10.3.0", (87,))
    assert made.capability == "TensorRT 10.3.0, compute capability 8.7 (Orin)"
    assert made.engine is not None
    # And the inspector is asked, since a GPU is here.
    layers = made.layers
    assert layers is not None
    assert (layers.source, layers.reason, layers.counts) == ("engine inspector", "", {"int8": 1})
    assert set(layers.missing) == {"second", "head"}
    assert build(tiny("int8"), cache=tmp_path).cached


@pytest.mark.usefixtures("orin")
def test_other_capabilities_are_for_tensorrt_rtx() -> None:
    assert build(tiny(), capabilities=BOTH).case == "tensorrt-rtx"


@pytest.mark.usefixtures("orin")
def test_other_capabilities_without_tensorrt_rtx(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "onnxruntime_ep_nv_tensorrt_rtx")
    made = build(tiny(), capabilities=BOTH)
    assert made.case == "not built"
    assert "builds for the Orin (compute capability 8.7) of this machine alone" in made.reason


@pytest.mark.parametrize(
    ("version", "gpu", "reason"),
    [("10.2.0", Gpu("a GPU", 89), "older than 10.3"), ("8.6.1", None, "older"), ("11.0.0", None, "there is no GPU")],
)
def test_a_tensorrt_that_cannot_build_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, rtx: Any, version: str, gpu: Gpu | None, reason: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(rtx, version))
    monkeypatch.setattr(tensorrt_library, "find_gpu", lambda: gpu)
    assert isinstance(find_library(), TensorRtLibrary)
    hide(monkeypatch, "onnxruntime_ep_nv_tensorrt_rtx")
    found = find_library()
    assert isinstance(found, NoTensorRt)
    assert reason in found.reason


def test_the_script_builds_an_engine(
    rtx: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph = tiny("fp16")
    (tmp_path / "graph.onnx").write_bytes(graph)
    (tmp_path / "build_engine.py").write_text(build(graph, capabilities=(86,)).script, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in(rtx))
    out = tmp_path / "graph.engine"
    monkeypatch.setattr(sys, "argv", ["build_engine.py", str(tmp_path / "graph.onnx"), str(out)])
    runpy.run_path(str(tmp_path / "build_engine.py"))
    assert out.stat().st_size > 100_000
    assert not (tmp_path / "graph.engine.partial").exists()
    assert f"{out.stat().st_size} bytes, TensorRT 10.3.0" in capsys.readouterr().out
    # And it refuses what TensorRT refuses, leaving nothing.
    (tmp_path / "graph.onnx").write_bytes(tiny("uint8 transpose"))
    out.unlink()
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(tmp_path / "build_engine.py"))
    assert "UInt8" in str(stopped.value)
    assert not out.exists()


def test_the_graph_is_the_one_that_was_given() -> None:
    graph = tiny()
    made = build(graph, capabilities=BOTH)
    assert hashlib.sha256(made.onnx).digest() == hashlib.sha256(graph).digest()
    onnx.checker.check_model(onnx.load_from_string(made.onnx))
