"""Size on disk of the base install, and what takes it: a fresh environment with ``pip install .`` and nothing else.

python benchmarks/base_install.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def size_mib(path: Path) -> float:
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file() and not entry.is_symlink()) / 2**20


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
        python = environment / "bin" / "python"
        site = Path(
            subprocess.check_output(
                [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
            ).strip()
        )
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", str(CHECKOUT)]
        subprocess.run(install, check=True)
        print(f"base install: {size_mib(site):.1f} MiB in all")
        parts = sorted(((size_mib(entry), entry.name) for entry in site.iterdir() if entry.is_dir()), reverse=True)
        for size, name in parts[:8]:
            print(f"  {name:24s} {size:6.1f} MiB")
        check = (
            "import sys, edgeiqa, edgeiqa.tools.command; print(sorted({'torch', 'onnx', 'scipy'} & set(sys.modules)))"
        )
        print(
            "torch, onnx, scipy imported by edgeiqa:", subprocess.check_output([python, "-c", check], text=True).strip()
        )


if __name__ == "__main__":
    main()
