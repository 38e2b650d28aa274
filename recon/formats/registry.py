"""Every scene format that recon reads and writes: one record each.

To add a format:

1. Write `recon/formats/NAME.py` with a function that opens a file as a `SceneSource` and one that
   writes a `SceneSource` to a path. Convert values with `recon.formats.encodings`, write through
   `recon.files.atomic_output`, and raise InputError for every damaged file.
2. Add a `SceneFormat` record to FORMATS below, and its extension to `recon/scene_extensions.py`.
3. Add its rounding to `tests/recon/formats/format_helpers.py`: round trips, fuzzing and the
   comparisons with other readers then cover it.
4. Add a row to the table in `docs/formats.md`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recon.errors import InputError
from recon.formats.compressed_ply import write_compressed_ply
from recon.formats.glb import glb_attribute_bytes, open_glb, write_glb
from recon.formats.ply import open_ply, ply_attribute_bytes, write_ply
from recon.formats.sog import float32_log_error, open_sog, sog_attribute_bytes, write_sog
from recon.formats.source import SceneSource
from recon.formats.splat import open_splat, splat_attribute_bytes, write_splat
from recon.formats.spz import (
    POSITION_MAX,
    SpzConfig,
    open_spz,
    spz_attribute_bytes,
    spz_error,
    write_spz,
)
from recon.formats.usd import open_usd, usd_attribute_bytes
from recon.formats.usd_write import MAX_SH_DEGREE, write_usd
from recon.precision import Origin, float32_error
from recon.scene_extensions import is_point_cloud


@dataclass(frozen=True)
class SceneFormat:
    """Readers, writers and properties of a scene format."""

    extension: str
    """Lower-case end of the file name, with the leading dot; the longest match wins."""
    description: str
    """Who defined the format, and how it stores a scene."""
    open: Callable[[Path], SceneSource]
    """Reads a file; raises InputError if the file is damaged."""
    write: Callable[[Path, SceneSource], None]
    """Writes a file completely or not at all."""
    other_extensions: tuple[str, ...] = ()
    """Extensions that are read as well, where the content tells the format."""
    bytes_by_attribute: Callable[[Path, int, int], dict[str, float]] | None = None
    """Bytes per Gaussian and attribute of a valid file with a number of Gaussians and an SH degree;
    None if unknown."""
    max_sh_degree: int = 4
    """Highest degree of spherical harmonics that the format stores; writing drops the rest."""
    keeps_order: bool = True
    """Whether Gaussians are read back in the order in which they were written."""
    keeps_origin: bool = False
    """Whether positions far from zero are kept, such as UTM coordinates."""
    keeps_antialiased: bool = False
    """Whether the file can say that the scene is for rendering with the filter of Mip-Splatting."""
    keeps_cameras: bool = False
    """Whether the file can hold the cameras of the photos."""
    error_at: Callable[[Origin], float] = float32_error
    """Rounding of positions around a point (world units), for formats that do not keep origins."""
    viewer_error_at: Callable[[Origin], float] | None = None
    """Rounding of positions around a point (world units) by viewers that decode in float32, for
    formats that recon itself decodes in float64."""
    max_position: float = math.inf
    """Largest coordinate that can be written (world units)."""
    write_quantised: Callable[[Path, SceneSource, int], None] | None = None
    """Writes with the lowest bits of positions dropped (the last argument is how many), for formats
    whose files shrink when values repeat; None for formats with a fixed size per Gaussian."""


def _write_quantised_spz(path: Path, source: SceneSource, dropped_bits: int) -> None:
    write_spz(path, source, SpzConfig(dropped_bits=dropped_bits))


def _usd_format(extension: str, kind: str) -> SceneFormat:
    return SceneFormat(
        extension,
        f"{kind}, with ParticleField3DGaussianSplat (OpenUSD 26.3), float32",
        open=open_usd,
        write=write_usd,
        other_extensions=(".usd",),
        bytes_by_attribute=usd_attribute_bytes,
        max_sh_degree=MAX_SH_DEGREE,
        keeps_origin=True,
        keeps_antialiased=True,
        keeps_cameras=True,
    )


FORMATS: dict[str, SceneFormat] = {
    scene_format.extension: scene_format
    for scene_format in (
        SceneFormat(
            ".ply",
            "3D Gaussian Splatting PLY (Kerbl et al. 2023), float32",
            open=open_ply,
            write=write_ply,
            bytes_by_attribute=ply_attribute_bytes,
            keeps_origin=True,
            keeps_antialiased=True,
        ),
        SceneFormat(
            ".compressed.ply",
            "PlayCanvas compressed PLY, chunks of 256 Gaussians with bounds",
            open=open_ply,
            write=write_compressed_ply,
            bytes_by_attribute=ply_attribute_bytes,
            keeps_order=False,
            keeps_antialiased=True,
        ),
        SceneFormat(
            ".splat",
            "antimatter15 splat, 32 bytes per Gaussian without SH",
            open=open_splat,
            write=write_splat,
            bytes_by_attribute=splat_attribute_bytes,
            max_sh_degree=0,
        ),
        SceneFormat(
            ".spz",
            "Niantic SPZ, fixed-point streams in gzip",
            open=open_spz,
            write=write_spz,
            bytes_by_attribute=spz_attribute_bytes,
            keeps_order=False,
            keeps_antialiased=True,
            error_at=spz_error,
            max_position=float(POSITION_MAX),
            write_quantised=_write_quantised_spz,
        ),
        SceneFormat(
            ".sog",
            "PlayCanvas SOG version 2, lossless WebP images in a zip",
            open=open_sog,
            write=write_sog,
            bytes_by_attribute=sog_attribute_bytes,
            max_sh_degree=3,
            keeps_order=False,
            keeps_origin=True,
            viewer_error_at=float32_log_error,
            keeps_antialiased=True,
            write_quantised=write_sog,
        ),
        SceneFormat(
            ".glb",
            "glTF binary with KHR_gaussian_splatting, float32",
            open=open_glb,
            write=write_glb,
            other_extensions=(".gltf",),
            bytes_by_attribute=glb_attribute_bytes,
            keeps_origin=True,
        ),
        _usd_format(".usdc", "USD, binary"),
        _usd_format(".usda", "USD, text"),
        _usd_format(".usdz", "USD, package of a binary layer"),
    )
}


def format_of(path: Path, verb: str = "write") -> SceneFormat:
    """Return the format of a path's extension.

    Args:
        path: Name of a file, which need not exist.
        verb: What is to be done with the file, for the error message.

    Raises:
        InputError: No format has this extension.
    """
    name = path.name.lower()
    if verb == "write" and is_point_cloud(name):
        raise InputError(
            f"cannot write {path} here: it is a point cloud; write a scene, such as .ply, and then "
            f"recon convert SCENE -o {path.name}"
        )
    for extension in sorted(FORMATS, key=len, reverse=True):
        if name.endswith(extension):
            return FORMATS[extension]
    for scene_format in FORMATS.values() if verb == "read" else ():
        if name.endswith(scene_format.other_extensions):
            return scene_format
    how = "; export the scene as .ply, or convert it with its own tools" if verb == "read" else ""
    raise InputError(
        f"cannot {verb} {path}: unknown scene format {path.suffix or '(no extension)'}; "
        f"recon can {verb} {', '.join(FORMATS)}{how}"
    )
