"""Time and peak memory of each step from a large network to a score.

python benchmarks/export_large.py PHOTO [--backbone convnext_large --size 910x512] [--precisions]

With ``--precisions`` its graph is converted, on 16 distorted versions of the photograph, instead of packed and scored.
Random weights. Peak memory is the process's resident set, whose high-water mark Linux resets before each step.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeiqa.compress.data.items import cut_item, read_photographs
from edgeiqa.compress.data.transfer import transfer_items
from edgeiqa.compress.models.network import build, output_names
from edgeiqa.compress.models.systems import one_backbone
from edgeiqa.compress.models.weights import NoWeights
from edgeiqa.export.calibration import CalibrationImages
from edgeiqa.export.convert import ConversionOptions, FloatMember, convert
from edgeiqa.export.gate import PARITY_TOLERANCE, write_gated
from edgeiqa.export.graph import graph_bytes, to_onnx
from edgeiqa.export.kinds import Kind
from edgeiqa.export.pack import Graph, PackedMember, golden_photographs, pack
from edgeiqa.profiles.latency import peak_rss_mib
from edgeiqa.profiles.onnx_cost import count_graph
from edgeiqa.runtime.engines.engine import available_threads
from edgeiqa.runtime.manifest import Mean, Precision, Provenance, ScoreScale, Target
from edgeiqa.runtime.preprocess import Preprocess
from edgeiqa.runtime.scorer import load
from edgeiqa.tools.options import parse_size
from edgeiqa.tools.packing import Trained, plain_map, torch_reference


@contextmanager
def step(what: str) -> Iterator[None]:
    Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    yield
    print(f"{what:52s} {time.perf_counter() - started:7.1f} s   peak {peak_rss_mib():7.0f} MiB", flush=True)


def convert_all(content: bytes, outputs: tuple[str, ...], preprocess: Preprocess, photo: Path) -> None:
    """Each conversion in turn; what it gives is let go before the next."""
    (photographs, _) = read_photographs([photo])
    items = transfer_items(photographs, distortions=15, seed=0)
    images = CalibrationImages(items, lambda item: cut_item(item, preprocess))
    member = FloatMember(
        name="large", preprocess=preprocess, score_map=plain_map(), model=content, outputs=outputs, macs=None
    )
    options = ConversionOptions(capabilities=(86, 89), threads=available_threads())
    kinds: tuple[tuple[Target, Precision], ...] = (
        ("onnx", "fp16"),
        ("onnx", "int8"),
        ("openvino", "int8"),
        ("tensorrt", "fp16"),
    )
    for target, precision in kinds:
        kind = Kind(target, precision)
        with step(f"{kind}, {len(items)} calibration images"):
            files = convert(member, kind, images, options).graph.files
        print(f"{kind}: {', '.join(f'{len(file) / 2**20:.1f} MiB' for file in files)}", flush=True)
        del files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--backbone", default="convnext_large")
    parser.add_argument("--size", default="910x512")
    parser.add_argument("--precisions", action="store_true")
    options = parser.parse_args()
    width, height = parse_size(options.size)
    system = one_backbone(options.backbone, width, height)
    with step("build the network, random weights"):
        member = Trained(system.name, build(system, weights=NoWeights(seed=0)), plain_map(), {})
    with step("torch to ONNX"):
        model = to_onnx(member.network, system.preprocess.shapes, output_names(system))
    with step("count the graph"):
        cost = count_graph(model)
    with step("serialise"):
        content = graph_bytes(model)
        del model
    outputs = output_names(system)
    if options.precisions:
        del member
        convert_all(content, outputs, system.preprocess, options.photo)
        return
    graph = Graph("onnx", "fp32", "fp32", (content,), outputs, macs=cost.macs, parameters=cost.parameters)
    with step("pack: two golden photographs by onnxruntime"):
        packing = pack(
            "large",
            [PackedMember(member.name, system.preprocess, member.score_map, (graph,))],
            combine=Mean(),
            scale=ScoreScale(),
            golden=golden_photographs(),
            provenance=Provenance(created="-", versions={}),
        )
    del graph, content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.eiqa"
        with step("parity gate against torch, and write"):
            _, reports = write_gated(
                path, packing, torch_reference([member]), golden_photographs(), tolerance=PARITY_TOLERANCE["fp32"]
            )
        del packing, member
        with step("load the bundle (in the exporting process)"):
            scorer = load(path)
        with step(f"score {options.photo.name}"):
            score = scorer.score(options.photo)
        size = path.stat().st_size
    print(
        f"{score.width}x{score.height}: {score.value:.3f}; {cost.macs / 1e9:.2f} GMACs, {cost.parameters / 1e6:.4f} M"
    )
    print(f"bundle {size / 2**20:.1f} MiB; parity {', '.join(f'{r.max_abs_difference:.1e} {r.unit}' for r in reports)}")


if __name__ == "__main__":
    main()
