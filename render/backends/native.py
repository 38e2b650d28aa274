"""The compiled CPU library: finds it, and checks that it fits this source.

One build for each instruction set, since a library must not mix them: the baseline
one runs everywhere and says whether the faster one would run here.
"""

import ctypes
import functools
import importlib.metadata
import os
import sys
from pathlib import Path

from render.backends import abi
from render.types import BackendUnavailable

REINSTALL = "reinstall recon with `pip install .` and a C++ compiler"
# Instruction set -> suffix of the file's name, best first.
INSTRUCTION_SETS = {"x86-64-v3": "_v3", "baseline": ""}
_PREFIX, _SUFFIX = {"win32": ("", ".dll"), "darwin": ("lib", ".dylib")}.get(
    sys.platform, ("lib", ".so")
)


def library_path(instruction_set: str = "baseline") -> Path | None:
    """Find a built library; None if recon was installed without one.

    RECON_CPU_DIR in the environment names a folder with another build (`make sanitize`).
    """
    file = f"{_PREFIX}recon_cpu{INSTRUCTION_SETS[instruction_set]}{_SUFFIX}"
    elsewhere = os.environ.get("RECON_CPU_DIR")
    if elsewhere is not None:
        path = Path(elsewhere) / file
        return path if path.is_file() else None
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
    """Load the best library for this processor.

    RECON_CPU=baseline in the environment asks for the slower one, for comparison.

    Raises:
        BackendUnavailable: there is none, or none that fits this source.
    """
    return _load(instruction_set())


@functools.cache
def instruction_set() -> str:
    """Return the name of the instruction set of the library in use.

    Raises:
        BackendUnavailable: RECON_CPU does not name one, or the baseline library does not fit.
    """
    asked = os.environ.get("RECON_CPU")
    if asked is not None:
        if asked not in INSTRUCTION_SETS:
            known = " or ".join(INSTRUCTION_SETS)
            raise BackendUnavailable(
                f"RECON_CPU={asked} in the environment: expected {known}; change or unset it"
            )
        if asked == "x86-64-v3" and not _load("baseline").recon_cpu_supports_v3():
            raise BackendUnavailable(
                f"RECON_CPU={asked} in the environment: this processor lacks it; unset RECON_CPU"
            )
        return asked
    has_v3 = library_path("x86-64-v3") is not None
    return "x86-64-v3" if has_v3 and _load("baseline").recon_cpu_supports_v3() else "baseline"


@functools.cache
def _load(name: str) -> ctypes.CDLL:
    path = library_path(name)
    if path is None:
        folder = os.environ.get("RECON_CPU_DIR")
        where = "was not built" if folder is None else f"is not in RECON_CPU_DIR={folder}"
        remedy = REINSTALL if folder is None else "build it there, or unset RECON_CPU_DIR"
        raise BackendUnavailable(f"recon's CPU library ({name}) {where}; {remedy}")
    try:
        library = ctypes.CDLL(str(path))
        version = int(library.recon_cpu_abi_version())
    except (OSError, AttributeError) as error:
        text = str(error).removeprefix(f"{path}: ")
        first = next(iter(text.splitlines()), type(error).__name__)
        raise BackendUnavailable(f"{path} cannot be loaded ({first}); {REINSTALL}") from None
    if version != abi.VERSION:
        raise BackendUnavailable(
            f"{path} has ABI version {version}, this source needs {abi.VERSION}; {REINSTALL}"
        )
    difference = abi.layout_difference(library)
    if difference is not None:
        raise BackendUnavailable(f"{path} has other structs ({difference}); {REINSTALL}")
    _declare(library)
    return library


def _declare(library: ctypes.CDLL) -> None:
    """Declare the argument types of cpu/abi.cpp: pointers must not be passed as C ints."""
    pointer, integer = ctypes.c_void_p, ctypes.c_int32
    library.recon_cpu_forward.argtypes = [pointer] * 4
    library.recon_cpu_backward.argtypes = [*[pointer] * 5, integer]
    library.recon_cpu_adam_step.argtypes = [pointer] * 2
    library.recon_cpu_photo_loss.argtypes = [pointer]
    library.recon_cpu_contributions.argtypes = [pointer] * 2
    library.recon_cpu_free.argtypes = [pointer]
    library.recon_cpu_free.restype = None
    library.recon_cpu_last_error.restype = ctypes.c_char_p
    library.recon_cpu_fma_peak.argtypes = [integer]
    library.recon_cpu_fma_peak.restype = ctypes.c_double


def abi_version() -> int:
    """Read the ABI version of the built library; raise BackendUnavailable if there is none."""
    return int(load_library().recon_cpu_abi_version())
