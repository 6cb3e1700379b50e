"""NVIDIA's driver, as far as an engine needs it: which GPU is here, and memory on it.

Source: the CUDA driver API; the functions are called by the names under which the driver exports them.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import EngineError

__all__ = ["Cuda", "Gpu", "find_gpu", "open_driver"]

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
_NAME_BYTES = 256


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its name and its compute capability, ``89`` for 8.9."""

    name: str
    capability: int

    @property
    def dotted(self) -> str:
        """The capability as people write it: ``8.9``."""
        return f"{self.capability // 10}.{self.capability % 10}"

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.dotted})"


def open_driver() -> Any | None:
    """NVIDIA's driver, initialised; None where there is none, or none that works."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value < 1:
        return None
    return driver


def find_gpu() -> Gpu | None:
    """The first NVIDIA GPU; None where there is none, or no driver that works."""
    driver = open_driver()
    if driver is None:
        return None
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    failed = (
        driver.cuDeviceGet(ctypes.byref(device), 0)
        or driver.cuDeviceGetName(name, _NAME_BYTES, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, device)
        or driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, device)
    )
    return None if failed else Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)


class Cuda:
    """Memory on the first GPU, in its primary context: the one that CUDA's own runtime uses."""

    def __init__(self) -> None:
        """Open the driver.

        Raises:
            EngineError: there is no GPU, or the driver refuses.
        """
        driver = open_driver()
        if driver is None:
            raise EngineError("no NVIDIA GPU", expected="one, with its driver", mend="name another --engine")
        self._driver = driver
        self._context = ctypes.c_void_p()
        device = ctypes.c_int()
        self._require("cuDeviceGet", ctypes.byref(device), 0)
        self._require("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self.use()

    def use(self) -> None:
        """Make the context the calling thread's."""
        self._require("cuCtxSetCurrent", self._context)

    def allocate(self, size_bytes: int) -> int:
        """An address of as many bytes on the GPU; they are freed with the process's context."""
        address = ctypes.c_uint64()
        self._require("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_bytes))
        return address.value

    def write(self, address: int, values: NDArray[Any]) -> None:
        """Copy a contiguous array to the GPU."""
        self._require("cuMemcpyHtoD_v2", ctypes.c_uint64(address), ctypes.c_void_p(values.ctypes.data), _size(values))

    def read(self, address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Copy an array from the GPU, after all that was asked of it is done."""
        values = np.empty(shape, dtype=dtype)
        self._require("cuCtxSynchronize")
        self._require("cuMemcpyDtoH_v2", ctypes.c_void_p(values.ctypes.data), ctypes.c_uint64(address), _size(values))
        return values

    def free(self, address: int) -> None:
        """Give memory back."""
        self._require("cuMemFree_v2", ctypes.c_uint64(address))

    def _require(self, function: str, *arguments: Any) -> None:
        code = getattr(self._driver, function)(*arguments)
        if code != 0:
            raise EngineError(
                f"error {code} of NVIDIA's driver in {function}",
                expected="0, success",
                mend="free the GPU's memory, check its driver with nvidia-smi, or name another --engine",
            )


def _size(values: NDArray[Any]) -> ctypes.c_size_t:
    return ctypes.c_size_t(values.nbytes)
