"""The compiled CPU library: where it lies and whether it fits this source."""

import ctypes
import functools
import importlib.metadata
import sys
from pathlib import Path

ABI_VERSION = 1
_NAMES = {"win32": "recon_cpu.dll", "darwin": "librecon_cpu.dylib"}


def library_path() -> Path | None:
    """The built library, or None when recon was not installed with its C++ part."""
    name = f"render/backends/{_NAMES.get(sys.platform, 'librecon_cpu.so')}"
    # Not beside this file: an editable install leaves the sources where they are and
    # puts build products into site-packages.
    try:
        path = Path(str(importlib.metadata.distribution("reconsplat").locate_file(name)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


@functools.cache
def load_library() -> ctypes.CDLL:
    """The library; RuntimeError with the remedy when it is missing or stale."""
    path = library_path()
    if path is None:
        raise RuntimeError("recon's CPU library was not built; run `pip install .` with a compiler")
    library = ctypes.CDLL(str(path))
    library.recon_cpu_abi_version.restype = ctypes.c_int32
    found = library.recon_cpu_abi_version()
    if found != ABI_VERSION:
        raise RuntimeError(
            f"{path} has ABI version {found}, this source needs {ABI_VERSION}; reinstall recon"
        )
    return library


def abi_version() -> int:
    """ABI version of the built library; RuntimeError when there is none."""
    return int(load_library().recon_cpu_abi_version())
