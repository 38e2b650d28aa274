"""The PLY of 3D Gaussian Splatting (Kerbl et al. 2023, INRIA's reference code)."""

import logging
from pathlib import Path

import numpy as np
import torch

from recon.errors import ReconError
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.ply_header import read_header, read_table
from render import Gaussians
from render.sh import degree_of

log = logging.getLogger(__name__)
ROWS_AT_ONCE = 1 << 18
_GROUPS = {
    "means": ("x", "y", "z"),
    "f_dc": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity": ("opacity",),
    "scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Binary little-endian, float32, one element `vertex`; the layout every viewer reads."""
    rest = 3 * (gaussians.sh.shape[1] - 1)
    names = ["x", "y", "z", "nx", "ny", "nz", *_GROUPS["f_dc"]]
    names += [f"f_rest_{i}" for i in range(rest)]
    names += ["opacity", *_GROUPS["scales"], *_GROUPS["quats"]]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(gaussians)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    scene = gaussians.detach().to("cpu")
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(header).encode("ascii"))
        for start in range(0, len(scene), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            file.write(_rows(scene, part).astype("<f4").tobytes())


def _rows(scene: Gaussians, part: slice) -> np.ndarray:
    means = scene.means[part].double().numpy()
    f_dc, f_rest = encodings.encode_sh(scene.sh[part].double().numpy())
    opacity = encodings.encode_opacities(scene.opacities[part].double().numpy())
    scales = encodings.encode_scales(scene.scales[part].double().numpy())
    quats = scene.quats[part].double().numpy()
    normals = np.zeros_like(means)
    return np.concatenate([means, normals, f_dc, f_rest, opacity[:, None], scales, quats], 1)


def read_ply(path: Path) -> Gaussians:
    """Gaussians of a 3DGS PLY: any property order and number type, ascii or binary.

    Rows with non-finite values are left out and counted in a warning. ReconError when
    the file is damaged or holds something else.
    """
    with path.open("rb") as file:
        header = read_header(path, file)
        _check_properties(path, [name for name, _ in header.properties], header.elements)
        table = read_table(path, file, header)
    columns = {group: _columns(table, names) for group, names in _GROUPS.items()}
    count = sum(name.startswith("f_rest_") for name in table.dtype.names or ())
    try:
        degree_of(1 + count // 3)
    except ValueError as error:
        raise ReconError(
            f"{path} has {count} f_rest properties; expected 0, 9, 24, 45 or 72"
        ) from error
    columns["f_rest"] = _columns(table, tuple(f"f_rest_{i}" for i in range(count)))
    finite = np.logical_and.reduce([np.isfinite(c).all(1) for c in columns.values()])
    if not finite.all():
        log.warning("%s: left out %d rows with non-finite values", path, int((~finite).sum()))
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


def _check_properties(path: Path, names: list[str], elements: tuple[str, ...]) -> None:
    if "packed_position" in names or "chunk" in elements:
        raise ReconError(
            f"{path} is a compressed.ply, which recon does not read yet; convert it to a plain "
            "PLY first, for example with splat-transform"
        )
    missing = [n for group in _GROUPS.values() for n in group if n not in names]
    if missing:
        raise ReconError(
            f"{path} is a PLY without Gaussians: its vertices lack {', '.join(missing)}; "
            "expected the 3D Gaussian Splatting layout"
        )
