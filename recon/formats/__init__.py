"""Scene files, read and written by extension."""

from collections.abc import Callable
from pathlib import Path

from recon.errors import ReconError
from recon.formats.ply import read_ply, write_ply
from render import Gaussians

WRITERS: dict[str, Callable[[Path, Gaussians], None]] = {".ply": write_ply}
READERS: dict[str, Callable[[Path], Gaussians]] = {".ply": read_ply}


def check_format(path: Path) -> None:
    """ReconError unless recon can write a scene with this extension."""
    _extension(path, list(WRITERS), "write")


def save_gaussians(path: Path, gaussians: Gaussians) -> None:
    """Write a scene in the format of its extension, whole or not at all."""
    WRITERS[_extension(path, list(WRITERS), "write")](path, gaussians)


def load_gaussians(path: Path) -> Gaussians:
    """Read a scene file; ReconError when it is missing, unknown or damaged."""
    reader = READERS[_extension(path, list(READERS), "read")]
    if not path.is_file():
        raise ReconError(f"scene not found: {path}; check the path")
    return reader(path)


def _extension(path: Path, known: list[str], verb: str) -> str:
    name = path.name.lower()
    # compressed.ply is another format than .ply.
    if name.endswith(".compressed.ply") and ".compressed.ply" not in known and verb == "write":
        name = ".compressed.ply"
    for extension in sorted(known, key=len, reverse=True):
        if name.endswith(extension) and name != ".compressed.ply":
            return extension
    raise ReconError(
        f"cannot {verb} {path}: unknown scene format {path.suffix or '(no extension)'}; "
        f"recon can {verb} {', '.join(known)}"
    )
