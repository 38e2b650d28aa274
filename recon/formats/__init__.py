"""Scene files, read and written by extension."""

from collections.abc import Callable
from pathlib import Path

from recon.errors import InputError
from recon.formats.compressed_ply import write_compressed_ply
from recon.formats.glb import open_glb, write_glb
from recon.formats.ply import open_ply, write_ply
from recon.formats.sog import open_sog, write_sog
from recon.formats.source import SceneSource as SceneSource
from recon.formats.splat import open_splat, write_splat
from recon.formats.spz import open_spz, write_spz
from render import Gaussians

WRITERS: dict[str, Callable[[Path, SceneSource], None]] = {
    ".ply": write_ply,
    ".compressed.ply": write_compressed_ply,
    ".splat": write_splat,
    ".spz": write_spz,
    ".sog": write_sog,
    ".glb": write_glb,
}
# The others keep spherical harmonics up to degree 4.
MAX_SH_DEGREE = {".splat": 0, ".sog": 3}
READERS: dict[str, Callable[[Path], SceneSource]] = {
    ".ply": open_ply,
    ".splat": open_splat,
    ".spz": open_spz,
    ".sog": open_sog,
    ".glb": open_glb,
}


def format_of(path: Path) -> str:
    """The extension that a scene is written by; ReconError when recon writes no such format."""
    return _extension(path, list(WRITERS), "write")


def is_scene(path: Path) -> bool:
    """Whether the extension is that of a scene which recon reads."""
    return path.suffix.lower() in READERS and not path.is_dir()


def save_gaussians(path: Path, gaussians: Gaussians) -> None:
    """Write a scene in the format of its extension, whole or not at all."""
    write_scene(path, SceneSource.of(gaussians))


def write_scene(path: Path, source: SceneSource) -> None:
    """The same for a scene in parts."""
    WRITERS[format_of(path)](path, source)


def load_gaussians(path: Path) -> Gaussians:
    """Read a scene file; ReconError when it is missing, unknown or damaged."""
    return open_scene(path).load()


def open_scene(path: Path) -> SceneSource:
    """The same in parts; plain and compressed PLY and .splat stay on disk until they are read."""
    reader = READERS[_extension(path, list(READERS), "read")]
    if not path.is_file():
        raise InputError(f"scene not found: {path}; check the path")
    return reader(path)


def _extension(path: Path, known: list[str], verb: str) -> str:
    name = path.name.lower()
    for extension in sorted(known, key=len, reverse=True):
        if name.endswith(extension):
            return extension
    raise InputError(
        f"cannot {verb} {path}: unknown scene format {path.suffix or '(no extension)'}; "
        f"recon can {verb} {', '.join(known)}"
    )
