"""Calling the package that is installed, in processes of their own and outside the checkout."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
from PIL import Image

EXTRAS = (
    *("torch", "torchvision", "timm", "lightning", "fvcore", "safetensors", "onnx", "onnxscript", "nncf", "scipy"),
    *("sklearn", "skimage", "matplotlib", "jinja2", "openvino", "tensorrt", "pandas"),
)
"""Libraries of extras, and others that come with them: a device has none."""

Process = subprocess.CompletedProcess[str]


def is_here(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def python(code: str, cwd: Path, *arguments: str) -> Process:
    """Run code in a new interpreter whose working folder is ``cwd``, which is no checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def edgeiqa(cwd: Path, *arguments: str, without: tuple[str, ...] = ()) -> Process:
    """Run ``edgeiqa ARGUMENTS`` as if the libraries ``without`` were not installed."""
    hide = f"import sys; sys.modules.update(dict.fromkeys({without!r}))"
    return python(f"{hide}\nfrom edgeiqa.tools.command import main\nmain(sys.argv[1:])", cwd, *arguments)


def loaded_after(cwd: Path, *arguments: str) -> set[str]:
    """Libraries of `EXTRAS` that are loaded after ``edgeiqa ARGUMENTS``, which must succeed."""
    code = (
        "import json, sys\n"
        "from edgeiqa.tools.command import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        f"print('\\n' + json.dumps(sorted(set({EXTRAS!r}) & set(sys.modules))))\n"
    )
    ran = python(code, cwd, *arguments)
    assert ran.returncode == 0, ran.stderr
    return set(json.loads(ran.stdout.splitlines()[-1]))


def scripts_first() -> dict[str, str]:
    """The environment, with the folder of the installed ``edgeiqa`` command first on the path."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}


def save_photo(path: Path, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    x, y = np.meshgrid(np.linspace(0, 9, 320), np.linspace(0, 6, 240))
    waves = np.stack([np.sin(x * (1 + seed)), np.cos(y), np.sin(x + y)], axis=2)
    pixels = 128 + 80 * waves + generator.normal(0, 10, waves.shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
    return path
