"""The arrays of a ParticleField3DGaussianSplat of USD, and the Gaussians that they stand for."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.errors import InputError, warn
from recon.formats import encodings
from recon.formats.source import BLOCK_SIZE
from recon.formats.y_up import Flips, flip_axes, flip_quats, sh_from_linear, transformed
from recon.precision import Origin
from render import Gaussians

MAX_DEGREE = 4
LINEAR, DISPLAY = "lin_rec709", "srgb_rec709"


@dataclass(frozen=True)
class Splats:
    """The arrays of a prim of Gaussians, as stored."""

    means: np.ndarray
    """[n 3], local."""
    quats: np.ndarray | None
    """[n 4], xyzw; None stands for no rotation."""
    scales: np.ndarray | None
    """[n 3]; None stands for 1."""
    opacities: np.ndarray | None
    """[n]; None stands for 1."""
    sh: np.ndarray
    """[n k 3]."""
    matrix: np.ndarray
    """[4 4], world of the scene from local, columns, float64."""
    flips: Flips
    """Signs of the axes of the stage in those of the scene."""
    linear: bool
    """Whether colours are linear."""

    @property
    def is_moved_only(self) -> bool:
        """Whether the matrix has neither rotation nor scale beyond the change of axes."""
        return bool((self.matrix[:3, :3] == np.diag(flip_axes(self.flips))).all())

    def positions(self, rows: slice) -> np.ndarray:
        """Return positions in the world frame of the scene [n 3], float64."""
        means = self.means[rows].astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(means @ self.matrix[:3, :3].T + self.matrix[:3, 3])


def read_splats(path: Path, prim: Any, matrix: np.ndarray, flips: Flips) -> Splats:
    """Read the arrays of a prim by the rules of the schema: short ones do not count."""
    if not np.isfinite(matrix).all():
        raise InputError(f"{path}: the transform of {prim.GetPath()} is not finite")
    means = _array(path, prim, "positions", 3)
    if means is None:
        raise InputError(f"{path}: {prim.GetPath()} has no positions")
    count = len(means)
    degree = _get(prim, "radiance:sphericalHarmonicsDegree")
    if not isinstance(degree, int) or not 0 <= degree <= MAX_DEGREE:
        raise InputError(
            f"{path}: {prim.GetPath()} has SH of degree {degree}; expected 0 to {MAX_DEGREE}"
        )
    coefficients = (degree + 1) ** 2
    sh = _array(path, prim, "radiance:sphericalHarmonicsCoefficients", 3, count * coefficients)
    if sh is None:
        sh, coefficients = np.zeros((count, 3), np.float32), 1
    space = _color_space(prim)
    if space and not space.startswith((LINEAR, DISPLAY)):
        warn(f"{path}: its colours are in {space}; they are read as sRGB")
    if space.startswith(LINEAR):
        warn(f"{path}: its linear colours are converted to sRGB, higher SH to the first order")
    opacities = _array(path, prim, "opacities", 1, count)
    return Splats(
        means,
        _array(path, prim, "orientations", 4, count),
        _array(path, prim, "scales", 3, count),
        None if opacities is None else opacities[:, 0],
        sh.reshape(count, coefficients, 3),
        matrix,
        flips,
        space.startswith(LINEAR),
    )


def _array(
    path: Path, prim: Any, name: str, width: int, count: int | None = None
) -> np.ndarray | None:
    """Return an array in float32 or else in half precision [n width].

    Args:
        path: For the message.
        prim: That has the attribute.
        name: Of the attribute in float32; that in half precision ends with an h.
        width: Number of values of a row.
        count: Number of rows to return; if there are fewer, or none, the result is None.
    """
    for attribute in (name, f"{name}h"):
        value = _get(prim, attribute)
        if value is None or not hasattr(value, "__len__") or len(value) == 0:
            continue
        array = np.asarray(value)
        if array.dtype.kind != "f" or array.size != len(array) * width:
            raise InputError(f"{path}: {prim.GetPath()}.{attribute} is no array of numbers")
        if count is None or len(array) >= count:
            return array.reshape(-1, width)[:count]
        warn(
            f"{path}: {prim.GetPath()}.{attribute} is shorter than positions and does not count, "
            "as the schema has it"
        )
        return None
    return None


def _get(prim: Any, name: str) -> Any:
    """Return the value of an attribute: the first in time, which goes before the default one."""
    attribute = prim.GetAttribute(name)
    times = attribute.GetTimeSamples()
    return attribute.Get(times[0]) if times else attribute.Get()


def _color_space(prim: Any) -> str:
    """Return the name of the colour space of a prim, or of its nearest ancestor with one."""
    while prim and not prim.IsPseudoRoot():
        value = prim.GetAttribute("colorSpace:name").Get() if prim else None
        if isinstance(value, str) and value:
            return value
        prim = prim.GetParent()
    return ""


def slices(count: int) -> Iterator[slice]:
    """Return the rows of each block of an array."""
    return (slice(start, start + BLOCK_SIZE) for start in range(0, count, BLOCK_SIZE))


def _columns(part: Splats, rows: slice) -> dict[str, np.ndarray]:
    """Return the attributes of some rows as float32; missing ones are those of the schema."""
    means = part.means[rows]
    count = len(means)
    quats, scales, opacities = part.quats, part.scales, part.opacities
    columns = {
        "means": means,
        "quats": np.tile([0, 0, 0, 1], (count, 1)) if quats is None else quats[rows],
        "scales": np.ones((count, 3)) if scales is None else scales[rows],
        "opacities": np.ones(count) if opacities is None else opacities[rows],
        "sh": part.sh[rows],
    }
    with np.errstate(over="ignore"):
        return {name: np.asarray(column, np.float32) for name, column in columns.items()}


def _faults(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return which rows to drop for which fault; each row has one at most."""
    finite = np.logical_and.reduce(
        [np.isfinite(column).reshape(len(column), -1).all(1) for column in columns.values()]
    )
    scales, opacities = columns["scales"], columns["opacities"]
    zero = (columns["quats"] == 0).all(1) & (scales == 0).all(1)
    wrong = (scales < 0).any(1) | (scales > encodings.MAX_SCALE).any(1)
    wrong |= np.abs(opacities - 0.5) > 0.5 + encodings.OPACITY_ROUNDING
    return {
        "with non-finite values": ~finite,
        f"with opacities outside 0 to 1, or scales outside 0 to {encodings.MAX_SCALE:.2g} units": (
            finite & wrong
        ),
        "of zeros (rotation and scales); the file seems to be partly empty": finite & zero & ~wrong,
    }


def count_usable(path: Path, part: Splats) -> int:
    """Count the usable rows of a prim, and warn of the others."""
    dropped: Counter[str] = Counter()
    for rows in slices(len(part.means)):
        faults = _faults(_columns(part, rows))
        dropped.update({fault: int(bad.sum()) for fault, bad in faults.items()})
    for fault, number in dropped.items():
        if number:
            warn(f"{path}: dropped {number} of {len(part.means)} Gaussians {fault}")
    return len(part.means) - sum(dropped.values())


def decoded(path: Path, part: Splats, rows: slice, origin: Origin, coefficients: int) -> Gaussians:
    """Return the usable Gaussians of some rows in the world frame, relative to the origin."""
    columns = _columns(part, rows)
    good = ~np.logical_or.reduce(list(_faults(columns).values()))
    positions = (part.positions(rows) - origin)[good].astype(np.float32)
    means, quats, scales, opacities, sh = (column[good] for column in columns.values())
    sh = np.pad(sh, ((0, 0), (0, coefficients - sh.shape[1]), (0, 0)))
    block = Gaussians(
        means=torch.from_numpy(means * flip_axes(part.flips)),
        quats=torch.from_numpy(encodings.decode_quats(
            (quats * flip_quats(part.flips))[:, [3, 0, 1, 2]]
        )),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(np.clip(opacities, 0, 1)),
        sh=torch.from_numpy(
            sh_from_linear(sh) if part.linear else sh
        ) * torch.from_numpy(encodings.sh_signs(part.flips, coefficients)),
    )  # fmt: skip
    if not part.is_moved_only:
        flip = np.append(flip_axes(part.flips), 1).astype(np.float64)
        block = transformed(path, block, part.matrix * flip)
    return replace(block, means=torch.from_numpy(positions))
