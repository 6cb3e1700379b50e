"""What is tested here is the package as it is installed; and what importing it brings along."""

from __future__ import annotations

import json
import sysconfig
from importlib.metadata import Distribution
from pathlib import Path

import edgeiqa
import edgeiqa.runtime.scorer
import pytest
from edgeiqa.runtime.errors import EdgeIQAError

from .installed import EXTRAS, is_here, python

CHECKOUT = Path(__file__).resolve().parents[2]
SITE = Path(sysconfig.get_path("purelib"))
PACKAGES = ("edgeiqa", "edgeiqa.compress", "edgeiqa.export", "edgeiqa.profiles", "edgeiqa.runtime", "edgeiqa.tools")


def installed() -> Distribution:
    """What pip installed: a build may have left metadata in the checkout too, which is on the path of ``python -m``."""
    (found,) = Distribution.discover(name="edgeiqa", path=[str(SITE)])
    return found


def is_editable() -> bool:
    origin = installed().read_text("direct_url.json")
    return bool(origin and json.loads(origin).get("dir_info", {}).get("editable"))


def test_the_package_is_the_installed_one() -> None:
    """From a wheel it lies in site-packages, whole; an editable installation is the checkout."""
    here = Path(edgeiqa.__file__).resolve()
    if is_editable():
        assert here == CHECKOUT / "tools" / "face" / "__init__.py"
    else:
        assert here == SITE.resolve() / "edgeiqa" / "__init__.py"
        for package in PACKAGES:
            folder = here.parent.joinpath(*package.split(".")[1:])
            assert (folder / "__init__.py").is_file() and (folder / "py.typed").is_file()


def test_it_is_the_same_from_another_folder(tmp_path: Path) -> None:
    ran = python("import edgeiqa, edgeiqa.runtime; print(edgeiqa.__file__); print(edgeiqa.runtime.__file__)", tmp_path)
    assert ran.stdout.splitlines() == [edgeiqa.__file__, edgeiqa.runtime.__file__]


def test_the_base_installation_asks_for_no_training_library() -> None:
    base = [text for text in installed().requires or () if "extra ==" not in text]
    names = {text.split(">")[0].strip().lower() for text in base}
    assert names == {"click", "msgspec", "numpy", "onnxruntime", "pillow", "rich"}


def test_importing_edgeiqa_imports_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys; before = set(sys.modules); import edgeiqa\n"
        "print(sorted(name for name in set(sys.modules) - before if 'edgeiqa' in name and 'editable' not in name))\n"
        "print(any(name in sys.modules for name in ('numpy', 'PIL', 'onnxruntime', 'msgspec', 'rich', 'click')))"
    )
    ran = python(code, tmp_path)
    assert ran.stdout.splitlines() == ["['edgeiqa', 'edgeiqa.runtime', 'edgeiqa.runtime.version']", "False"]


def test_the_public_face() -> None:
    assert dir(edgeiqa) == ["Bundle", "EdgeIQAError", "Score", "Scorer", "__version__", "load"]
    assert edgeiqa.EdgeIQAError is EdgeIQAError
    assert edgeiqa.load is edgeiqa.runtime.scorer.load
    for name in dir(edgeiqa):
        assert getattr(edgeiqa, name) is not None
    with pytest.raises(AttributeError, match="'edgeiqa' has no attribute 'lod'"):
        edgeiqa.lod  # noqa: B018


# Each module of these packages, but those that are of an extra by their nature.
WALK = """
import importlib, json, pkgutil, sys
OF_AN_EXTRA = ("runtime.engines.ov", "tools.default_bundle", "tools.report", "tools.run_pages", "tools.quickstart_page")
for package in ("runtime", "profiles", "tools", "export"):
    parent = importlib.import_module(f"edgeiqa.{package}")
    for module in pkgutil.walk_packages(parent.__path__, parent.__name__ + "."):
        name = module.name.removeprefix("edgeiqa.")
        if name != "tools.__main__" and not name.startswith(OF_AN_EXTRA):
            importlib.import_module(module.name)
names = [name for name in sys.modules if name.startswith("edgeiqa.")]
print(json.dumps([len(names), sorted(set(sys.argv[1:]) & set(sys.modules))]))
"""


def test_every_module_of_a_device_imports_without_an_extra(tmp_path: Path) -> None:
    ran = python(WALK, tmp_path, *EXTRAS)
    assert ran.returncode == 0, ran.stderr
    count, loaded = json.loads(ran.stdout)
    assert count > 40
    assert loaded == []


def test_every_module_of_a_device_imports_where_the_extras_cannot(tmp_path: Path) -> None:
    hide = f"import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))"
    ran = python(hide + WALK, tmp_path)
    assert ran.returncode == 0, ran.stderr


def test_the_module_of_openvino_needs_openvino(tmp_path: Path) -> None:
    ran = python("import edgeiqa.runtime.engines.ov as ov; print(ov.OpenVinoEngine.name)", tmp_path)
    if is_here("openvino"):
        assert ran.stdout == "openvino\n"
    else:
        assert ran.returncode == 1 and "No module named 'openvino'" in ran.stderr
