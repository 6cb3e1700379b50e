from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

# Each library that only making and measuring models needs, and the engine that a device need not have.
NEVER = {
    *("torch", "torchvision", "timm", "lightning", "onnx", "onnxscript", "nncf"),
    *("scipy", "fvcore", "sklearn", "skimage", "matplotlib", "jinja2"),
}

IMPORT_ALL = """
import importlib, json, pkgutil, sys
import edgeiqa, edgeiqa.runtime
edgeiqa.load, edgeiqa.Scorer, edgeiqa.Bundle
names = [module.name for module in pkgutil.walk_packages(edgeiqa.runtime.__path__, "edgeiqa.runtime.")]
for name in names:
    if name not in sys.argv[1:]:
        importlib.import_module(name)
print(json.dumps([names, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def imported(*but: str) -> tuple[list[str], set[str]]:
    """The runtime's modules, and what is loaded after all of them but some were imported in a fresh process."""
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *but], capture_output=True, text=True, check=True)
    names, loaded = json.loads(done.stdout)
    return names, set(loaded)


def test_the_runtime_loads_no_library_of_training_or_conversion() -> None:
    names, loaded = imported("edgeiqa.runtime.engines.ov")
    assert {"edgeiqa.runtime.scorer", "edgeiqa.runtime.verify", "edgeiqa.runtime.engines.ort"} <= set(names)
    assert not loaded & NEVER
    assert "openvino" not in loaded
    if find_spec("openvino") is not None:
        assert not imported()[1] & NEVER


def test_the_package_loads_nothing_before_it_is_asked() -> None:
    code = "import sys, edgeiqa, edgeiqa.runtime; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "PIL", "onnxruntime", "openvino", "msgspec"} & set(done.stdout.split())


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    import edgeiqa

    assert edgeiqa.__version__ == version("edgeiqa")
