"""Scene files, read and written by extension; `recon.formats.registry` lists the formats."""

from pathlib import Path

from recon.errors import InputError
from recon.formats.registry import FORMATS as FORMATS
from recon.formats.registry import SceneFormat as SceneFormat
from recon.formats.registry import format_of as format_of
from recon.formats.source import SceneSource as SceneSource
from render import Gaussians


def is_scene(path: Path) -> bool:
    """Return whether a path has the extension of a scene file and is not a folder."""
    return path.name.lower().endswith(tuple(FORMATS)) and not path.is_dir()


def save_gaussians(path: Path, gaussians: Gaussians) -> None:
    """Write a scene in the format of the extension, completely or not at all."""
    write_scene(path, SceneSource.of(gaussians))


def write_scene(path: Path, source: SceneSource) -> None:
    """Write a scene chunk by chunk, in the format of the extension."""
    format_of(path).write(path, source)


def load_gaussians(path: Path) -> Gaussians:
    """Read a scene file; raise InputError if it is missing, damaged or of an unknown format."""
    return open_scene(path).load()


def open_scene(path: Path) -> SceneSource:
    """Open a scene file to read it chunk by chunk.

    Plain and compressed PLY and .splat stay on disk until they are read; the other formats are
    decompressed into memory.

    Raises:
        InputError: The file is missing, damaged or of an unknown format.
    """
    scene_format = format_of(path, "read")
    if not path.is_file():
        raise InputError(f"scene not found: {path}; check the path")
    return scene_format.open(path)


def attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian that each attribute takes in a file that was read before.

    For SPZ, whose attributes share one compressed stream, each attribute is compressed alone.
    The result is empty for an empty scene and for formats of unknown sizes.
    """
    sizes = format_of(path, "read").bytes_by_attribute
    return sizes(path, count, sh_degree) if sizes and count else {}
