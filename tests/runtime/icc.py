"""Matrix/TRC ICC profiles, written byte by byte, and the closed form of their conversion to sRGB."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Columns are the primaries' XYZ, adapted to D50: of sRGB (IEC 61966-2-1), of Display P3 and of Adobe RGB (1998).
SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
DISPLAY_P3 = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
ADOBE_GAMMA = 563 / 256


def srgb_to_linear(values: ArrayLike) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: ArrayLike) -> NDArray[np.float64]:
    x = np.clip(np.asarray(values, dtype=np.float64), 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def in_srgb(linear: ArrayLike, primaries: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear colours ``[..., 3]`` of a space -> sRGB levels, 0 to 255; what is out of gamut is clipped."""
    xyz = np.asarray(linear) @ primaries.T
    return 255 * linear_to_srgb(xyz @ np.linalg.inv(SRGB).T)


def matrix_profile(description: str, primaries: NDArray[np.float64], curve: bytes) -> bytes:
    """An ICC profile of version 2.1, of a display, with three primaries and one curve."""
    name = description.encode() + b"\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(4 + 4 + 2 + 1 + 67),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": _xyz(0.9642, 1.0, 0.8249),
        b"rXYZ": _xyz(*primaries[:, 0]),
        b"gXYZ": _xyz(*primaries[:, 1]),
        b"bXYZ": _xyz(*primaries[:, 2]),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for tag, content in tags.items():
        table += tag + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s6H4s4sIIIQI3I",
        start + len(body),
        b"none",
        0x02100000,
        b"mntr",
        b"RGB ",
        b"XYZ ",
        *(2000, 1, 1, 0, 0, 0),
        b"acsp",
        b"none",
        0,
        0,
        0,
        0,
        0,
        *(round(value * 65536) for value in (0.9642, 1.0, 0.8249)),
    )
    return header.ljust(128, b"\0") + table + body


def gamma_curve(gamma: float) -> bytes:
    """A power, in 1/256ths."""
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def srgb_curve() -> bytes:
    """The curve of sRGB, sampled."""
    levels = np.round(65535 * srgb_to_linear(np.linspace(0, 1, 1024))).astype(">u2")
    return b"curv\0\0\0\0" + struct.pack(">I", len(levels)) + levels.tobytes()


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))
