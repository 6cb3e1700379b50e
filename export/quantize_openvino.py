"""INT8 for OpenVINO: quantizers set by nncf in OpenVINO's own form."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from ..runtime.errors import ExportError, MissingExtraError, UsageError
from .activation_ranges import Views
from .float_graph import load_graph, plain_float
from .nncf_settings import MOST_IMAGES, Batched, nncf_settings, quiet_nncf
from .quant_blocks import quantizable
from .quant_scope import float_nodes

if TYPE_CHECKING:
    from .quant_recipe import QuantRecipe

__all__ = ["quantize_openvino"]


def quantize_openvino(
    model: bytes, images: Collection[Views], recipe: QuantRecipe, *, threads: int
) -> tuple[bytes, bytes]:
    """Quantize a graph to INT8 in OpenVINO's form.

    The inputs stay uint8 views, the outputs keep their names and are FP32. Equal arguments give equal bytes.

    Args:
        model: an ONNX graph as `graph.to_onnx` makes it, its weights as FP32 or stored as FP16.
        images: calibration images; they are gone through several times, one in memory at a time. nncf takes at most
            `nncf_settings.MOST_IMAGES` of them, spread evenly.
        recipe: of the scheme openvino.
        threads: of the engine that runs the calibration images.

    Returns:
        The graph (xml) and its weights (bin), INT8 ones as bytes, all others as FP32.

    Raises:
        MissingExtraError: onnx, nncf or OpenVINO is not installed.
        UsageError: no images, a recipe of another scheme, or one that names what the graph does not have.
        ExportError: nncf or OpenVINO refuses the graph.
    """
    if recipe.scheme != "openvino":
        raise UsageError(
            f"recipe {recipe.name!r} of scheme {recipe.scheme} for OpenVINO",
            expected="scheme openvino",
            mend="name one",
        )
    if not len(images):
        raise UsageError("no calibration images", expected="some hundreds", mend="name a folder of photographs")
    plain = plain_float(model)
    onnx_graph = load_graph(plain)
    kept = float_nodes(onnx_graph, recipe)
    products = {node.name for node in onnx_graph.graph.node if quantizable(node)}
    try:
        import openvino
    except ModuleNotFoundError:
        raise MissingExtraError("no openvino", expected="openvino", mend='pip install "edgeiqa[export]"') from None
    with quiet_nncf() as nncf, _engine_threads(threads), tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(folder) / "graph.onnx"
            path.write_bytes(plain)
            # Not read_model: it leaves shapes of biases and depthwise weights to be computed, where nncf finds neither,
            # corrects no bias, and says nothing.
            graph = openvino.convert_model(path)
            taken = Batched(images, MOST_IMAGES)
            settings = nncf_settings(recipe, len(taken), _names_in(graph, kept, products))
            quantized = nncf.quantize(graph, nncf.Dataset(taken), **settings)
            _name_by_place(quantized, {name for node in onnx_graph.graph.node for name in (node.name, *node.output)})
            xml = Path(folder) / "graph.xml"
            openvino.save_model(quantized, xml, compress_to_fp16=False)
        except ExportError:
            raise
        # Both libraries have error types of their own for each of their passes.
        except Exception as error:
            raise ExportError(
                f"nncf could not quantize the graph: {type(error).__name__}: {error}",
                expected="a graph that it takes",
                mend="use another recipe, or keep the operators it names float",
            ) from error
        return xml.read_bytes(), xml.with_suffix(".bin").read_bytes()


def _names_in(graph: Any, kept: tuple[str, ...], products: set[str]) -> tuple[str, ...]:
    """Names in OpenVINO's graph of nodes of the ONNX graph; those that it has merged into others are left out.

    Raises:
        ExportError: a convolution or matrix product is not found: it would be quantized after all.
    """
    there = {operation.get_friendly_name() for operation in graph.get_ops()}
    found = {name: [same for same in (name, f"{name}/WithoutBiases") if same in there] for name in kept}
    lost = [name for name in kept if name in products and not found[name]]
    if lost:
        raise ExportError(
            f"nodes {', '.join(lost)}, which OpenVINO's graph does not name",
            expected="every node that stays float",
            mend="choose other float_blocks",
        )
    return tuple(same for name in kept for same in found[name])


def _name_by_place(graph: Any, known: set[str]) -> None:
    """Name by its place each operation that OpenVINO named by a count of all that this process has made."""
    for place, operation in enumerate(graph.get_ordered_ops()):
        name = operation.get_friendly_name()
        kind = operation.get_type_name()
        if kind == "Constant" or (name.partition("/")[0] not in known and name.rpartition("_")[2].isdigit()):
            operation.set_friendly_name(f"{kind}.{place}")


@contextlib.contextmanager
def _engine_threads(threads: int) -> Iterator[None]:
    """Limit the threads of what nncf compiles, which has no argument for it."""
    import openvino

    plain = openvino.Core

    class Limited(plain):  # type: ignore[misc, valid-type]
        def compile_model(self, model: Any, device_name: Any = None, config: Any = None, **more: Any) -> Any:
            settings = {**(config or {}), "INFERENCE_NUM_THREADS": threads}
            return super().compile_model(model, device_name, settings, **more)

    with mock.patch.object(openvino, "Core", Limited):
        yield
