"""Photographs a second from file to score: the ways a toolbox, plain onnxruntime, plain OpenVINO and edgeiqa do it.

python benchmarks/file_to_score.py CHECKPOINT BUNDLE PHOTOS [--rounds 5] [--repeat 1] [--only NAME ...]

BUNDLE was made of CHECKPOINT by `edgeiqa export`: the same weights. Every way runs in a process of its own that stays
alive; a round of each follows a round of the others, so that what disturbs the machine disturbs all. Figures are the
medians of the rounds. A plain way scores one photograph after another, with all processors in its engine.

The floor: processors / (CPU seconds of decode and views + CPU seconds of the graph), on one thread, in a round of its
own beside the others. No pipeline of the same decoder and the same graph can score more photographs a second.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from edgeiqa.profiles.latency import peak_rss_mib
from edgeiqa.runtime.bundle import Bundle
from edgeiqa.runtime.engines.engine import available_threads
from edgeiqa.runtime.reading import read_views
from edgeiqa.runtime.scorer import Scorer, busy_streams
from edgeiqa.tools.options import find_photographs

Scores = dict[Path, float]


@dataclass(frozen=True)
class Round:
    """What a way did in a round: each photograph's seconds where they come one after another, and the scores."""

    wall_s: float
    cpu_s: float
    latencies_s: list[float]
    scores: Scores


@dataclass(frozen=True)
class Way:
    name: str
    kind: str
    engine: str = ""
    precision: str = ""


def ways_of(bundle: Bundle) -> list[Way]:
    (member,) = bundle.manifest.members
    here = {(artefact.target, artefact.precision) for artefact in member.artefacts}
    ways = [Way("torch eager, as toolboxes do", "torch")]
    if ("onnx", "fp32") in here:
        ways.append(Way("onnxruntime fp32, plainly", "plain", "onnxruntime", "fp32"))
    if ("openvino", "fp32") in here:
        ways.append(Way("OpenVINO fp32, plainly", "plain", "openvino", "fp32"))
    for engine, target in (("onnxruntime", "onnx"), ("openvino", "openvino")):
        for precision in ("fp32", "bf16", "int8"):
            if (target, precision) in here:
                ways.append(Way(f"edgeiqa, {engine} {precision}", "ours", engine, precision))
                ways.append(Way(f"floor, {engine} {precision}", "floor", engine, precision))
    return ways


def timed(score_one: Callable[[Path], float], photos: list[Path]) -> Round:
    latencies, scores = [], {}
    started, cpu = time.perf_counter(), time.process_time()
    for photo in photos:
        began = time.perf_counter()
        scores[photo] = score_one(photo)
        latencies.append(time.perf_counter() - began)
    return Round(time.perf_counter() - started, time.process_time() - cpu, latencies, scores)


def torch_way(checkpoint: Path, bundle: Bundle) -> Callable[[list[Path]], Round]:
    """The whole photograph as a float tensor, an antialiased resize of it, and the network in eager mode."""
    import torch
    from edgeiqa.compress.checkpoint import load_checkpoint
    from PIL import Image
    from torch.nn import functional

    torch.set_num_threads(available_threads())
    record, network = load_checkpoint(checkpoint)
    network.eval()
    ((_, (height, width, _)),) = record.system.preprocess.shapes.items()
    (member,) = bundle.manifest.members

    @torch.inference_mode()
    def score(photo: Path) -> float:
        pixels = torch.from_numpy(np.array(Image.open(photo).convert("RGB")))
        whole = pixels.permute(2, 0, 1)[None].float() / 255
        small = functional.interpolate(whole, (height, width), mode="bicubic", antialias=True, align_corners=False)
        # The network casts its pixels to float32 first, which these are already.
        seen = (small.clamp(0, 1) * 255).permute(0, 2, 3, 1)
        raw = network(seen)["score"]
        return float(member.artefacts[0].score_map.apply(float(raw)))

    return lambda photos: timed(score, photos)


def plain_way(bundle: Bundle, engine: str, precision: str) -> Callable[[list[Path]], Round]:
    """Pillow's full decode and resize, and the engine with its own settings; OpenVINO by itself would take bf16."""
    from PIL import Image

    (member,) = bundle.manifest.members
    target = "openvino" if engine == "openvino" else "onnx"
    artefact = next(a for a in member.artefacts if (a.target, a.precision) == (target, precision))
    ((name, (height, width, _)),) = member.preprocess.shapes.items()
    files = [bundle.read(part) for part in artefact.files]
    run: Callable[[np.ndarray], float]
    if engine == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(files[0], providers=["CPUExecutionProvider"])
        run = lambda view: float(session.run(["score"], {name: view})[0][0])  # noqa: E731
    else:
        import openvino

        core = openvino.Core()
        graph = core.read_model(files[0], openvino.Tensor(np.frombuffer(files[1], dtype=np.uint8)))
        graph.reshape({name: [1, height, width, 3]})
        compiled = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        run = lambda view: float(compiled({name: view})["score"][0])  # noqa: E731

    def score(photo: Path) -> float:
        small = Image.open(photo).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
        return float(artefact.score_map.apply(run(np.asarray(small)[None])))

    return lambda photos: timed(score, photos)


def our_way(bundle: Bundle, engine: str, precision: str) -> Callable[[list[Path]], Round]:
    """`Scorer.score_many`; a photograph's own time is that of `Scorer.score` on the same streams, in the same round."""
    scorer = Scorer(bundle, engine=engine, precision=precision, streams=busy_streams())

    def one(photo: Path) -> float:
        value = scorer.score(photo).value
        assert value is not None
        return value

    def score(photos: list[Path]) -> Round:
        started, cpu = time.perf_counter(), time.process_time()
        values = [result.value for result in scorer.score_many(photos)]
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
        scores = {photo: value for photo, value in zip(photos, values, strict=True) if value is not None}
        alone = timed(one, photos[:20])
        assert all(scores[photo] == value for photo, value in alone.scores.items()), "a score depends on its neighbours"
        return Round(wall_s, cpu_s, alone.latencies_s, scores)

    return score


def floor_way(bundle: Bundle, engine: str, precision: str) -> Callable[[list[Path]], Round]:
    """One thread's CPU seconds of reading, and of the graph; the wall is what all processors would need at best."""
    scorer = Scorer(bundle, engine=engine, precision=precision, threads=1)
    (member,) = bundle.manifest.members

    def score(photos: list[Path]) -> Round:
        reading = graph = 0.0
        scores = {}
        for photo in photos:
            began = time.process_time()
            views = read_views(photo, scorer.preprocesses).views[member.preprocess]
            read = time.process_time()
            raw = scorer.run_views(member.name, views)
            reading, graph = reading + read - began, graph + time.process_time() - read
            scores[photo] = scorer.combine({member.name: raw})[0]
        cpu_s = reading + graph
        return Round(cpu_s / available_threads(), cpu_s, [reading / len(photos), graph / len(photos)], scores)

    return score


def work(pipe: Connection, way: Way, checkpoint: Path, path: Path) -> None:
    bundle = Bundle.open(path)
    makers: dict[str, Callable[[], Callable[[list[Path]], Round]]] = {
        "torch": lambda: torch_way(checkpoint, bundle),
        "plain": lambda: plain_way(bundle, way.engine, way.precision),
        "ours": lambda: our_way(bundle, way.engine, way.precision),
        "floor": lambda: floor_way(bundle, way.engine, way.precision),
    }
    run = makers[way.kind]()
    pipe.send(None)
    while (photos := pipe.recv()) is not None:
        done = run(photos)
        pipe.send((done, peak_rss_mib()))


def rounds_of(ways: list[Way], options: argparse.Namespace, photos: list[Path]) -> Iterator[tuple[Way, Round, float]]:
    context = multiprocessing.get_context("spawn")
    running = []
    for way in ways:
        here, there = context.Pipe()
        process = context.Process(target=work, args=(there, way, options.checkpoint, options.bundle), daemon=True)
        process.start()
        # So that a way that fails ends the benchmark.
        there.close()
        here.recv()
        here.send(photos[: min(4, len(photos))])
        here.recv()
        running.append((way, here, process))
    for _ in range(options.rounds):
        for way, pipe, _process in running:
            pipe.send(photos)
            done, peak = pipe.recv()
            yield way, done, peak
    for _, pipe, process in running:
        pipe.send(None)
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repeat", type=int, default=1, help="Each photograph so often in a round.")
    parser.add_argument("--only", nargs="*", help="Names of ways that hold one of these.")
    options = parser.parse_args()
    photos = find_photographs(tuple(options.photos))
    ways = ways_of(Bundle.open(options.bundle))
    if options.only:
        ways = [way for way in ways if any(part in way.name for part in options.only)]
    found: dict[Way, list[tuple[Round, float]]] = {way: [] for way in ways}
    for way, done, peak in rounds_of(ways, options, photos * options.repeat):
        found[way].append((done, peak))
    count = len(photos) * options.repeat
    rates = {way: count / float(np.median([done.wall_s for done, _ in rounds])) for way, rounds in found.items()}
    plain = {way.name.split()[0]: rate for way, rate in rates.items() if way.kind in ("torch", "plain")}
    print(f"{len(photos)} photographs, {options.rounds} rounds of {count}, {available_threads()} processors")
    print("way | images/s | p50 ms | p95 ms | CPU ms | peak MiB | x torch | x onnxruntime | x OpenVINO | of the floor")
    for way, rounds in found.items():
        latencies = np.array([s for done, _ in rounds for s in done.latencies_s]) * 1e3
        cpu_ms = 1e3 * float(np.median([done.cpu_s for done, _ in rounds])) / count
        ratios = [
            f"{rates[way] / plain[name]:.2f}" if name in plain else "" for name in ("torch", "onnxruntime", "OpenVINO")
        ]
        floors = [rates[other] for other in ways if other.name == f"floor, {way.engine} {way.precision}"]
        share = f"{rates[way] / floors[0]:.3f}" if floors and way.kind == "ours" else ""
        if way.kind == "floor":
            reading, graph = np.median([done.latencies_s for done, _ in rounds], axis=0) * 1e3
            print(
                f"{way.name} | {rates[way]:.1f} | decode and views {reading:.1f}, graph {graph:.1f} ms | | {cpu_ms:.1f}"
            )
            continue
        p50, p95 = np.percentile(latencies, [50, 95])
        peak = max(peak for _, peak in rounds)
        print(
            f"{way.name} | {rates[way]:.1f} | {p50:.1f} | {p95:.1f} | {cpu_ms:.1f} | {peak:.0f} | "
            f"{' | '.join(ratios)} | {share}"
        )
    first = found[ways[0]][0][0].scores
    for way, rounds in found.items():
        moved = max(abs(rounds[0][0].scores[photo] - value) for photo, value in first.items())
        print(f"{way.name}: scores within {moved:.2f} points of {ways[0].name}'s")


if __name__ == "__main__":
    main()
