"""The .splat of antimatter15's viewer: 32 bytes per Gaussian, no header, no view dependence."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from recon.errors import InputError, warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.source import BLOCK_SIZE, SceneSource, regroup
from recon.precision import WORLD, Origin, float32_error, origin_of_rows
from render import Gaussians
from render.sh import C0

_RECORD = np.dtype(
    [("means", "<f4", 3), ("scales", "<f4", 3), ("color", "u1", 4), ("quats", "u1", 4)]
)


def write_splat(path: Path, source: SceneSource) -> None:
    """Write a .splat in the order of the scene, without SH above degree 0."""
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        for block in source.read():
            rows = np.zeros(len(block), _RECORD)
            rows["means"] = block.means.double().numpy() + source.origin
            rows["scales"] = block.scales.numpy()
            rgb = 0.5 + C0 * block.sh[:, 0].numpy()
            color = np.concatenate([rgb, block.opacities.numpy()[:, None]], 1)
            rows["color"] = encodings.encode_steps(color, 8)
            rows["quats"] = np.clip(np.round(block.quats.numpy() * 128 + 128), 0, 255)
            file.write(rows.tobytes())


def open_splat(path: Path) -> SceneSource:
    """Open a .splat; raise InputError unless its size is a multiple of the record size.

    Rows with non-finite values, with scales above MAX_SCALE and of zeros are dropped, and counted
    in a warning.
    """
    size = path.stat().st_size
    if size == 0 or size % _RECORD.itemsize:
        raise InputError(
            f"{path} is not a .splat file: expected records of {_RECORD.itemsize} "
            f"bytes, found {size} bytes"
        )
    table = np.memmap(path, dtype=_RECORD, mode="r")
    origin = origin_of_rows(table["means"], lambda means: means.astype(np.float64))
    if origin != WORLD:
        warn(
            f"{path}: its positions are rounded by up to {float32_error(origin):.3g} units, since "
            ".splat stores coordinates far from zero as float32"
        )

    def blocks() -> Iterator[Gaussians]:
        for start in range(0, len(table), BLOCK_SIZE):
            yield _decoded(table[start : start + BLOCK_SIZE], origin)

    count = sum(
        int(_is_usable(table[at : at + BLOCK_SIZE]).sum())
        for at in range(0, len(table), BLOCK_SIZE)
    )
    if count == 0:
        raise InputError(f"{path} has no Gaussian with finite values; it is not a .splat file")
    if count < len(table):
        warn(
            f"{path}: dropped {len(table) - count} of {len(table)} rows with non-finite values, "
            f"scales above {encodings.MAX_SCALE:.2g} units or nothing but zeros"
        )
    return SceneSource(count, 0, lambda: regroup(blocks()), origin)


def _is_usable(rows: np.ndarray) -> np.ndarray:
    """Return which rows have a meaning; those of partly empty files are nothing but zeros."""
    good = np.isfinite(rows["means"]).all(1)
    good &= (np.abs(rows["scales"]) <= encodings.MAX_SCALE).all(1)
    return np.asarray(good & ((rows["quats"] != 0).any(1) | (rows["scales"] != 0).any(1)))


def _decoded(rows: np.ndarray, origin: Origin) -> Gaussians:
    rows = rows[_is_usable(rows)]
    color = encodings.decode_steps(rows["color"], 8).astype(np.float32)
    quats = (rows["quats"].astype(np.float32) - 128) / 128
    return Gaussians(
        means=torch.from_numpy((rows["means"].astype(np.float64) - origin).astype(np.float32)),
        quats=torch.from_numpy(encodings.decode_quats(quats)),
        scales=torch.from_numpy(np.abs(rows["scales"])),
        opacities=torch.from_numpy(color[:, 3].copy()),
        sh=torch.from_numpy((color[:, None, :3] - 0.5) / np.float32(C0)),
    )


def splat_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of a .splat, which are always the same."""
    return {"positions": 12.0, "scales": 12.0, "colours and opacities": 4.0, "rotations": 4.0}
