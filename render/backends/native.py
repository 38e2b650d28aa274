"""The compiled CPU library: where it lies and whether it fits this source.

One build for each instruction set, since a library must not mix them: the baseline
one runs everywhere and says whether the faster one would run here.
"""

import ctypes
import functools
import importlib.metadata
import os
import sys
from pathlib import Path

ABI_VERSION = 2
# Name in the file -> its suffix, best first.
INSTRUCTION_SETS = {"x86-64-v3": "_v3", "baseline": ""}
_PREFIX, _SUFFIX = {"win32": ("", ".dll"), "darwin": ("lib", ".dylib")}.get(
    sys.platform, ("lib", ".so")
)


def library_path(instruction_set: str = "baseline") -> Path | None:
    """A built library, or None when recon was not installed with it.

    RECON_CPU_DIR in the environment names a folder with another build (`make sanitize`).
    """
    file = f"{_PREFIX}recon_cpu{INSTRUCTION_SETS[instruction_set]}{_SUFFIX}"
    elsewhere = os.environ.get("RECON_CPU_DIR")
    if elsewhere is not None:
        return Path(elsewhere) / file
    # Not beside this file: an editable install leaves the sources where they are and
    # puts build products into site-packages.
    try:
        found = importlib.metadata.distribution("reconsplat").locate_file(f"render/backends/{file}")
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(found))
    return path if path.is_file() else None


@functools.cache
def load_library() -> ctypes.CDLL:
    """The best library for this processor; RuntimeError with the remedy when there is none.

    RECON_CPU=baseline in the environment asks for the slower one, for comparison.
    """
    return _load(instruction_set())


@functools.cache
def instruction_set() -> str:
    """Instruction set of the library in use."""
    asked = os.environ.get("RECON_CPU")
    if asked is not None:
        if asked not in INSTRUCTION_SETS:
            raise RuntimeError(f"RECON_CPU={asked}: expected {' or '.join(INSTRUCTION_SETS)}")
        return asked
    has_v3 = library_path("x86-64-v3") is not None
    return "x86-64-v3" if has_v3 and _load("baseline").recon_cpu_supports_v3() else "baseline"


@functools.cache
def _load(name: str) -> ctypes.CDLL:
    path = library_path(name)
    if path is None:
        raise RuntimeError(
            f"recon's CPU library ({name}) was not built; run `pip install .` with a C++ compiler"
        )
    library = ctypes.CDLL(str(path))
    library.recon_cpu_abi_version.restype = ctypes.c_int32
    found = library.recon_cpu_abi_version()
    if found != ABI_VERSION:
        raise RuntimeError(
            f"{path} has ABI version {found}, this source needs {ABI_VERSION}; reinstall recon"
        )
    _declare(library)
    return library


def _declare(library: ctypes.CDLL) -> None:
    """Argument types of cpu/abi.cpp: pointers must not travel as C ints."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    library.recon_cpu_forward.argtypes = [pointer] * 4
    library.recon_cpu_backward.argtypes = [pointer] * 5
    library.recon_cpu_contributions.argtypes = [pointer] * 2
    library.recon_cpu_free.argtypes = [pointer]
    library.recon_cpu_free.restype = None
    library.recon_cpu_fma_peak.argtypes = [integer]
    library.recon_cpu_fma_peak.restype = ctypes.c_double


def abi_version() -> int:
    """ABI version of the built library; RuntimeError when there is none."""
    return int(load_library().recon_cpu_abi_version())
