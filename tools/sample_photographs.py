"""Natural colour photographs that scikit-learn and scikit-image ship inside their wheels.

They are read where those packages are installed; nothing is fetched and none is packed with this library.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..runtime.errors import DataError, MissingExtraError

__all__ = ["CREDITS", "sample_photographs"]

# By package and folder. Not taken: the right motorcycle, which shows the left one again, and pictures that are no
# photographs of ordinary scenes (Hubble's deep field, the retina, stained tissue, textures, the colour wheel).
_PHOTOGRAPHS = {
    "sklearn": ("datasets/images", ("china.jpg", "flower.jpg")),
    "skimage": ("data", ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")),
}

CREDITS = {
    "china.jpg": "danielbuechele, CC BY 2.0",
    "flower.jpg": "vultilion, CC BY 2.0",
    "astronaut.png": "NASA, public domain",
    "chelsea.png": "Stefan van der Walt, CC0",
    "coffee.png": "Rachel Michetti, CC0",
    "motorcycle_left.png": "Middlebury 2014 stereo data (Scharstein et al., GCPR 2014), no licence stated",
    "rocket.jpg": "SpaceX, public domain",
}
"""Who took each photograph and under what licence, by file name, as the packages that ship them say."""


def sample_photographs() -> list[Path]:
    """The photographs of the packages that are installed: scikit-learn's two, then scikit-image's five.

    The packages are found, not imported. The order is always the same.

    Returns:
        Files, RGB in 8 bits: 427 to 741 pixels wide.

    Raises:
        MissingExtraError: neither package is installed.
        DataError: a package is installed without its photographs.
    """
    found: list[Path] = []
    for package, (folder, names) in _PHOTOGRAPHS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        root = Path(spec.submodule_search_locations[0])
        paths = [root.joinpath(folder, name) for name in names]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise DataError(
                f"{package} in {root} without {', '.join(missing)}",
                expected="the photographs that its wheel holds",
                mend='pip install --force-reinstall "edgeiqa[samples]"',
            )
        found += paths
    if not found:
        raise MissingExtraError(
            "neither scikit-learn nor scikit-image, whose photographs these are",
            expected="the extra samples",
            mend='pip install "edgeiqa[samples]"',
        )
    return found
