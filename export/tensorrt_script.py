"""How a device builds its engine from the ONNX graph: a script for TensorRT's Python API, and the ``trtexec`` line."""

from __future__ import annotations

from collections.abc import Mapping

from ..runtime.engines.trt_build import BatchProfile

__all__ = ["build_script", "trtexec_line"]

_SCRIPT = '''\
"""Build a TensorRT engine for this machine's GPU: python build_engine.py GRAPH.onnx OUT.engine

Needs tensorrt 10.3 or later. The graph is strongly typed: its types are the engine's precision.
"""

import sys
from pathlib import Path

import tensorrt as trt

SHAPES = {shapes!r}
BATCHES = {batches!r}

graph, out = Path(sys.argv[1]), Path(sys.argv[2])
log = trt.Logger(trt.Logger.WARNING)
builder = trt.Builder(log)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
parser = trt.OnnxParser(network, log)
if not parser.parse(graph.read_bytes()):
    sys.exit("\\n".join(parser.get_error(index).desc() for index in range(parser.num_errors)))
config = builder.create_builder_config()
config.clear_flag(trt.BuilderFlag.TF32)
config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
profile = builder.create_optimization_profile()
for name, shape in SHAPES.items():
    profile.set_shape(name, *[(batch, *shape) for batch in BATCHES])
config.add_optimization_profile(profile)
engine = builder.build_serialized_network(network, config)
if engine is None:
    sys.exit("no engine was built; TensorRT says why above")
partial = out.with_name(out.name + ".partial")
partial.write_bytes(memoryview(engine))
partial.replace(out)
print(f"{{out}}: {{out.stat().st_size}} bytes, TensorRT {{trt.__version__}}")
'''


def build_script(shapes: Mapping[str, tuple[int, ...]], batch: BatchProfile) -> str:
    """A script that builds the engine; it needs `tensorrt` and nothing of this package.

    Args:
        shapes: of each input, without the batch.
        batch: that the engine takes.
    """
    return _SCRIPT.format(shapes=dict(shapes), batches=(batch.smallest, batch.typical, batch.largest))


def trtexec_line(
    shapes: Mapping[str, tuple[int, ...]],
    batch: BatchProfile,
    *,
    graph: str = "graph.onnx",
    engine: str = "graph.engine",
) -> str:
    """The same as one command of TensorRT's own tool."""

    def bound(count: int) -> str:
        return ",".join(f"{name}:{'x'.join(map(str, (count, *shape)))}" for name, shape in shapes.items())

    return (
        f"trtexec --onnx={graph} --saveEngine={engine} --stronglyTyped --noTF32 --minShapes={bound(batch.smallest)} "
        f"--optShapes={bound(batch.typical)} --maxShapes={bound(batch.largest)} --profilingVerbosity=detailed"
    )
