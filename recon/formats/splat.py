"""The .splat of antimatter15's viewer: 32 bytes a Gaussian, no header, no view dependence."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recon.errors import InputError
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.source import ROWS, SceneSource, regrouped
from render import Gaussians
from render.sh import C0

_RECORD = np.dtype(
    [("means", "<f4", 3), ("scales", "<f4", 3), ("color", "u1", 4), ("quats", "u1", 4)]
)


def write_splat(path: Path, source: SceneSource) -> None:
    """In the scene's order; higher SH are left out."""
    if source.count == 0:
        raise InputError(f"cannot write {path}: a .splat needs at least one Gaussian")
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        for part in source.read():
            rows = np.zeros(len(part), _RECORD)
            rows["means"], rows["scales"] = part.means.numpy(), part.scales.numpy()
            shown = 0.5 + C0 * part.sh[:, 0].numpy()
            color = np.concatenate([shown, part.opacities.numpy()[:, None]], 1)
            rows["color"] = encodings.encode_steps(color, 8)
            rows["quats"] = np.clip(np.round(part.quats.numpy() * 128 + 128), 0, 255)
            file.write(rows.tobytes())


def open_splat(path: Path) -> SceneSource:
    """The Gaussians of a file; InputError when its size is not that of whole records."""
    size = path.stat().st_size
    if size == 0 or size % _RECORD.itemsize:
        raise InputError(
            f"{path} is no .splat: expected records of {_RECORD.itemsize} bytes, found {size} bytes"
        )
    table = np.memmap(path, dtype=_RECORD, mode="r")

    def parts() -> Iterator[Gaussians]:
        for start in range(0, len(table), ROWS):
            yield _decoded(table[start : start + ROWS])

    count = sum(int(_good(table[at : at + ROWS]).sum()) for at in range(0, len(table), ROWS))
    if count == 0:
        raise InputError(f"{path} holds no Gaussian with finite numbers; it is no .splat")
    return SceneSource(count, 0, lambda: regrouped(parts()))


def _good(rows: np.ndarray) -> np.ndarray:
    return np.isfinite(rows["means"]).all(1) & np.isfinite(rows["scales"]).all(1)


def _decoded(rows: np.ndarray) -> Gaussians:
    rows = rows[_good(rows)]
    color = encodings.decode_steps(rows["color"], 8).astype(np.float32)
    quats = (rows["quats"].astype(np.float32) - 128) / 128
    return Gaussians(
        means=torch.from_numpy(rows["means"].copy()),
        quats=torch.from_numpy(encodings.decode_quats(quats)),
        scales=torch.from_numpy(np.abs(rows["scales"])),
        opacities=torch.from_numpy(color[:, 3].copy()),
        sh=torch.from_numpy((color[:, None, :3] - 0.5) / np.float32(C0)),
    )


def splat_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of a .splat, which are always the same."""
    return {"positions": 12.0, "scales": 12.0, "colours and opacities": 4.0, "rotations": 4.0}
