"""Screenshots of a page, light and dark, as docs/profile.md shows them.

python benchmarks/screenshots.py PAGE.html -o docs/ [--name profile] [--width 1180] [--height 2300] [--colours 256]

Needs Chromium (Debian: apt-get install chromium fonts-dejavu-core; or EDGEIQA_CHROMIUM). The top of the page is taken,
and written with few colours, so that a picture stays under 150 kB.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Literal

from edgeiqa.tools.report.chromium import open_chromium
from PIL import Image

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(), help="Folder.")
    parser.add_argument("--name", help="Of the files; the page's if not given.")
    parser.add_argument("--width", type=int, default=1180, help="CSS pixels; under 500 as a phone's.")
    parser.add_argument("--height", type=int, default=2300, help="CSS pixels from the top; 0 for the whole page.")
    parser.add_argument("--colours", type=int, default=256)
    options = parser.parse_args()
    with open_chromium() as browser:
        tab = browser.open(options.page)
        for scheme in SCHEMES:
            tab.show(options.width, 900, scheme=scheme)
            png = tab.screenshot(whole=options.height == 0, height=options.height or None)
            with Image.open(io.BytesIO(png)) as image:
                few = image.convert("RGB").quantize(options.colours, dither=Image.Dither.NONE)
            path = options.output / f"{options.name or options.page.stem}-{scheme}.png"
            few.save(path, optimize=True)
            print(f"{path}: {few.width}x{few.height}, {path.stat().st_size / 1000:.0f} kB")
        for complaint in tab.complaints:
            print(f"the browser complains: {complaint}")


if __name__ == "__main__":
    main()
