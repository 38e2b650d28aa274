"""The PLY of 3D Gaussian Splatting (Kerbl et al. 2023, INRIA's reference code)."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recon.errors import InputError, warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.attribute_sizes import sum_by_attribute
from recon.formats.compressed_ply import is_compressed, open_compressed_ply
from recon.formats.ply_header import NUM_REST_BY_DEGREE, degree_of_rest, read_header, read_table
from recon.formats.source import BLOCK_SIZE, SceneSource, regroup
from render import Gaussians

_GROUPS = {
    "means": ("x", "y", "z"),
    "f_dc": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity": ("opacity",),
    "scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}


def write_ply(path: Path, source: SceneSource) -> None:
    """Write the layout of INRIA's code: binary little-endian float32, one element `vertex`."""
    rest = NUM_REST_BY_DEGREE[source.sh_degree]
    names = ["x", "y", "z", "nx", "ny", "nz", *_GROUPS["f_dc"]]
    names += [f"f_rest_{i}" for i in range(rest)]
    names += ["opacity", *_GROUPS["scales"], *_GROUPS["quats"]]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {source.count}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(header).encode("ascii"))
        for block in source.read():
            file.write(_rows(block).astype("<f4").tobytes())


def _rows(block: Gaussians) -> np.ndarray:
    means = block.means.double().numpy()
    f_dc, f_rest = encodings.encode_sh(block.sh.double().numpy())
    opacity = encodings.encode_opacities(block.opacities.double().numpy())
    scales = encodings.encode_scales(block.scales.double().numpy())
    quats = block.quats.double().numpy()
    normals = np.zeros_like(means)
    return np.concatenate([means, normals, f_dc, f_rest, opacity[:, None], scales, quats], 1)


def open_ply(path: Path) -> SceneSource:
    """Open a 3DGS PLY, plain or compressed, with any property order, number type and encoding.

    Rows with non-finite values are dropped, and counted in a warning.

    Raises:
        InputError: The file is damaged or has no Gaussians.
    """
    with path.open("rb") as file:
        header = read_header(path, file)
        if is_compressed(header):
            return open_compressed_ply(path, file, header)
        _check_properties(path, [name for name, _ in header.properties])
        table = read_table(path, file, header)
    rest = sum(name.startswith("f_rest_") for name in table.dtype.names or ())
    degree = degree_of_rest(path, rest)
    count = sum(int(_finite(_groups(rows, rest)).sum()) for rows in _chunks(table))
    if count < len(table):
        warn(f"{path}: dropped {len(table) - count} rows with non-finite values")
    return SceneSource(
        count, degree, lambda: regroup(_decoded(rows, rest) for rows in _chunks(table))
    )


def _chunks(table: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(table), BLOCK_SIZE):
        yield table[start : start + BLOCK_SIZE]


def _groups(rows: np.ndarray, rest: int) -> dict[str, np.ndarray]:
    columns = {group: _columns(rows, names) for group, names in _GROUPS.items()}
    columns["f_rest"] = _columns(rows, tuple(f"f_rest_{i}" for i in range(rest)))
    return columns


def _finite(columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.asarray(
        np.logical_and.reduce([np.isfinite(column).all(1) for column in columns.values()])
    )


def _decoded(rows: np.ndarray, rest: int) -> Gaussians:
    columns = _groups(rows, rest)
    finite = _finite(columns)
    good = {name: column[finite] for name, column in columns.items()}
    return Gaussians(
        means=torch.from_numpy(good["means"]),
        quats=torch.from_numpy(encodings.decode_quats(good["quats"])),
        scales=torch.from_numpy(encodings.decode_scales(good["scales"])),
        opacities=torch.from_numpy(encodings.decode_opacities(good["opacity"][:, 0])),
        sh=torch.from_numpy(encodings.decode_sh(good["f_dc"], good["f_rest"])),
    )


def _columns(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    out = np.zeros((len(table), len(names)), np.float32)
    for i, name in enumerate(names):
        out[:, i] = table[name]
    return out


def _check_properties(path: Path, names: list[str]) -> None:
    missing = [n for group in _GROUPS.values() for n in group if n not in names]
    if missing:
        raise InputError(
            f"{path} is a PLY without Gaussians: its vertices have no {', '.join(missing)}; "
            "expected the 3D Gaussian Splatting layout"
        )


def ply_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of a plain or compressed PLY."""
    with path.open("rb") as file:
        header = read_header(path, file)
    return sum_by_attribute(
        (
            (name if element.name != "chunk" else "bounds", element.count * np.dtype(kind).itemsize)
            for element in header.elements
            for name, kind in element.properties
        ),
        count,
    )
