"""How many bytes of a scene file each attribute takes."""

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from recon.formats.ply_header import read_header
from recon.formats.sog_archive import Archive
from recon.formats.spz_container import read_spz

# Beginnings of names, of properties, files and streams alike; the first that fits counts.
_ATTRIBUTES = {
    "packed_position": "positions", "packed_rotation": "rotations", "packed_scale": "scales",
    "packed_color": "colours and opacities", "f_dc": "colours", "f_rest": "SH", "shN": "SH",
    "sh0": "colours and opacities", "scale": "scales", "rot": "rotations", "quat": "rotations",
    "opacity": "opacities", "alpha": "opacities", "color": "colours", "mean": "positions",
    "pos": "positions", "sh": "SH", "x": "positions", "y": "positions", "z": "positions",
}  # fmt: skip
_SPLAT = {"positions": 12.0, "scales": 12.0, "colours and opacities": 4.0, "rotations": 4.0}


def attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Bytes a Gaussian by attribute, of a file that was read without complaint. Of SPZ, whose
    attributes share one stream, they are those of each packed alone."""
    if count == 0:
        return {}
    return _READERS[path.suffix.lower()](path, count, sh_degree)


def _attribute(name: str) -> str:
    fits = (kind for start, kind in _ATTRIBUTES.items() if name.lower().startswith(start.lower()))
    return next(fits, "other")


def _summed(sizes: list[tuple[str, float]], count: int) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, size in sizes:
        kind = _attribute(name)
        found[kind] = found.get(kind, 0.0) + size / count
    return found


def _ply(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    with path.open("rb") as file:
        header = read_header(path, file)
    sizes = [
        (name if element.name != "chunk" else "bounds", element.count * np.dtype(kind).itemsize)
        for element in header.elements
        for name, kind in element.properties
    ]
    return _summed([(name, float(size)) for name, size in sizes], count)


def _sog(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    with Archive(path) as archive:
        sizes = [(info.filename, float(info.compress_size)) for info in archive.zip.infolist()]
    return _summed([(name.replace("meta", "other"), size) for name, size in sizes], count)


def _spz(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    _, streams = read_spz(path)
    packed = {name: zlib.compress(s.tobytes()) for name, s in streams.items() if s.size}
    return _summed([(name, float(len(data))) for name, data in packed.items()], count)


def _splat(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    return _SPLAT


def _glb(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    floats = {"positions": 3, "rotations": 4, "scales": 3, "opacities": 1}
    # f_dc, and COLOR_0 for viewers that know no splats.
    floats["colours"] = 4
    floats["SH"] = 3 * ((sh_degree + 1) ** 2 - 1)
    return {name: 4.0 * number for name, number in floats.items() if number}


_READERS: dict[str, Callable[[Path, int, int], dict[str, float]]] = {
    ".ply": _ply, ".sog": _sog, ".spz": _spz, ".splat": _splat, ".glb": _glb,
}  # fmt: skip
