"""The package as it is built and described: what the wheel holds, what the README and docs name, what is not there."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import edgeiqa
import pytest
from edgeiqa.tools.command import VERBS

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
LIBRARY = ("compress", "export", "profiles", "runtime", "tools")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FACE = ROOT / "tools" / "face"


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=900, check=False
    )


def package_folders() -> dict[str, Path]:
    """Every folder of the library that holds an ``__init__.py``, by the name it is imported by."""
    found = {"edgeiqa": FACE}
    for top in LIBRARY:
        for init in sorted((ROOT / top).rglob("__init__.py")):
            if init.parent != FACE:
                found[".".join(["edgeiqa", *init.parent.relative_to(ROOT).parts])] = init.parent
    return found


def tracked() -> list[Path]:
    listed = run("git", "ls-files", "-z")
    assert listed.returncode == 0, f"this needs git and a checkout: {listed.stderr}"
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_list_of_packages_is_the_folders() -> None:
    assert SETUPTOOLS["packages"] == sorted(package_folders())


def test_every_top_folder_is_mapped() -> None:
    expected = {"edgeiqa": "tools/face"} | {f"edgeiqa.{top}": top for top in LIBRARY}
    assert SETUPTOOLS["package-dir"] == expected
    for top in LIBRARY:
        assert (ROOT / ".typing" / "edgeiqa" / top).resolve() == ROOT / top


@pytest.mark.parametrize("package", sorted(package_folders()))
def test_every_package_is_typed(package: str) -> None:
    assert (package_folders()[package] / "py.typed").is_file()


def module_names() -> list[str]:
    """Every module of the library but ``__main__``, which runs the command."""
    names = []
    for package, folder in package_folders().items():
        stems = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__main__")
        names += [package if stem == "__init__" else f"{package}.{stem}" for stem in stems]
    return names


@pytest.mark.parametrize("name", module_names())
def test_every_module_imports(name: str) -> None:
    assert importlib.import_module(name).__doc__, f"{name} does not say what it is"


def test_the_version_is_one() -> None:
    assert edgeiqa.__version__ == version("edgeiqa")
    assert f"## {edgeiqa.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def expected_in_wheel() -> set[str]:
    names = set()
    for package, folder in package_folders().items():
        inside = package.replace(".", "/")
        names |= {f"{inside}/{path.name}" for path in folder.iterdir() if path.suffix == ".py"} | {f"{inside}/py.typed"}
    names |= {f"edgeiqa/export/golden/{path.name}" for path in (ROOT / "export" / "golden").iterdir()}
    names |= {f"edgeiqa/profiles/data/{path.name}" for path in (ROOT / "profiles" / "data").glob("*.toml")}
    names |= {f"edgeiqa/profiles/data/devices/{path.name}" for path in (ROOT / "profiles/data/devices").glob("*.toml")}
    names |= {"edgeiqa/compress/known_accuracy.toml", "edgeiqa/tools/report/page.html.j2"}
    names |= {"edgeiqa/tools/report/sort_tables.js"}
    return names | {"edgeiqa/runtime/data/default.eiqa", "edgeiqa/runtime/data/ensemble.eiqa"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves its own folders beside the sources."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source)
    for top in LIBRARY:
        shutil.copytree(ROOT / top, source / top, ignore=shutil.ignore_patterns("__pycache__"))
    built = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder)),
        *(["--no-build-isolation"] if setuptools_is_new_enough() else []),
        str(source),
        cwd=folder,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


def setuptools_is_new_enough() -> bool:
    """Whether the build can do without fetching setuptools."""
    (needed,) = PROJECT["build-system"]["requires"]
    try:
        return int(version("setuptools").split(".")[0]) >= int(needed.removeprefix("setuptools>="))
    except PackageNotFoundError:
        return False


def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = {name.rsplit("/", 1)[1] for name in archive.namelist() if ".dist-info/licenses/" in name}
    assert names == expected_in_wheel()
    assert licences == {"LICENSE", "NOTICE"}


def test_the_wheel_installs_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (points,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert archive.read(points).decode().split("\n")[:2] == [
            "[console_scripts]",
            "edgeiqa = edgeiqa.tools.command:main",
        ]


def test_the_wheel_works_without_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Unpacked somewhere else, before the installed package on the path: it verifies its own default bundle."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import edgeiqa, sys; print(edgeiqa.__file__); from edgeiqa.tools.command import main; main(sys.argv[1:])"
    ran = run(sys.executable, "-c", code, "verify", "--json", cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert ran.returncode == 0, ran.stderr
    where, verified = ran.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path / "site")
    assert json.loads(verified)["passed"] is True


def test_dependencies_have_lower_bounds_and_no_upper_ones() -> None:
    extras: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
    for text in [*PROJECT["project"]["dependencies"], *(text for texts in extras.values() for text in texts)]:
        if not text.startswith("edgeiqa["):
            assert re.fullmatch(r"[a-z0-9-]+>=[0-9][0-9a-z.]*(; platform_.*)?", text), text


def test_extras_that_are_named_exist() -> None:
    extras = set(PROJECT["project"]["optional-dependencies"])
    named = set()
    for path in [*PAGES, ROOT / "pyproject.toml", *(path for top in LIBRARY for path in (ROOT / top).rglob("*.py"))]:
        for listed in re.findall(r"edgeiqa\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            named |= set(listed.split(","))
    assert named <= extras
    table = set(re.findall(r"^\| `\[([a-z]+)\]` \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert table == extras


def code_of(page: Path) -> list[str]:
    """Lines of a page's code blocks and its inline code."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))
    return [line for block in blocks for line in block.splitlines()] + inline


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_verbs_that_are_named_exist(page: Path) -> None:
    named = {verb for line in code_of(page) for verb in re.findall(r"(?:^|[\s/])edgeiqa ([a-z][a-z-]*)", line)}
    assert named <= set(VERBS)


def test_the_readme_names_every_verb() -> None:
    text = "\n".join(line for page in PAGES for line in code_of(page))
    assert all(re.search(rf"\bedgeiqa {verb}\b", text) for verb in VERBS)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_point_to_files(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert linked.is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(linked), f"{page.name} links to {target}"


def anchors(page: Path) -> set[str]:
    """Headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_the_commands_of_the_readme_that_compress(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"<!-- export -->\n```\n(.*?)```\n<!-- end -->", text, re.DOTALL)
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    ran = run("bash", "-euo", "pipefail", "-c", block, cwd=tmp_path, PATH=path)
    assert ran.returncode == 0, ran.stderr
    made = {name for line in block.splitlines() for name in re.findall(r" -o (\S+)", line)}
    assert made and {entry.name for entry in tmp_path.iterdir()} == made


def test_the_layers_hold(tmp_path: Path) -> None:
    command = str(Path(sysconfig.get_path("scripts")) / "lint-imports")
    ran = run(command, "--config", str(ROOT / "pyproject.toml"), "--no-cache", PYTHONPATH=str(ROOT / ".typing"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 broken" in ran.stdout


def test_no_file_names_a_path_of_a_machine() -> None:
    # Written apart, or this file would be found.
    needles = [f"/{folder}/".encode() for folder in ("work", "root")]
    files = tracked()
    assert ROOT / "pyproject.toml" in files
    for path in files:
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        assert not [needle for needle in needles if needle in content], path
