"""Point clouds: the positions and the mean colours of Gaussians, in the axes of the scene.

They keep no sizes, rotations and opacities and no dependence on the direction, so that Gaussians
that are hardly visible are left out.
"""

import datetime
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from recon.errors import InputError, MissingDependency
from recon.files import atomic_output
from recon.formats.source import SceneSource
from recon.precision import WORLD
from recon.scene_extensions import POINT_CLOUD_EXTENSIONS
from render import Gaussians
from render.sh import C0

# Day of writing in LAS: the real one would make equal scenes differ.
DATE = datetime.date(2000, 1, 1)
# Opacity from which a Gaussian becomes a point.
MIN_OPACITY = 0.1
PLY_POSITIONS = {False: ("float", "<f4"), True: ("double", "<f8")}

Block = tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, "n 3"]]


@dataclass(frozen=True)
class PointCloud:
    """The points of a scene, which can be iterated several times."""

    source: SceneSource
    min_opacity: float
    """Gaussians below are left out."""
    count: int
    """Number of points."""
    low: Float[np.ndarray, "3"]
    """Smallest coordinates (world units), float64."""
    high: Float[np.ndarray, "3"]
    """Largest coordinates."""

    @staticmethod
    def of(path: Path, source: SceneSource, min_opacity: float = MIN_OPACITY) -> "PointCloud":
        """Count the points of a scene and measure their bounds.

        Args:
            path: File to write, for the message.
            source: The scene.
            min_opacity: Gaussians below are left out, in [0, 1].

        Raises:
            InputError: No Gaussian is as opaque.
        """
        count, low, high = 0, np.full(3, np.inf), np.full(3, -np.inf)
        for block in source.read(0, 2):
            positions, _ = _points(block, source, min_opacity)
            count += len(positions)
            low = np.minimum(low, positions.min(0, initial=np.inf))
            high = np.maximum(high, positions.max(0, initial=-np.inf))
        if count == 0:
            raise InputError(
                f"cannot write {path}: none of {source.count:,} Gaussians has an opacity of "
                f"{min_opacity:g} or more; pass a smaller min_opacity",
                "min_opacity",
            )
        return PointCloud(source, min_opacity, count, low, high)

    @property
    def step(self) -> float:
        """Power of ten to round coordinates to: 24 bits of the extent, as float32 has."""
        extent = float((self.high - self.low).max())
        return 10.0 ** math.floor(math.log10(max(extent, 1e-9) * 2.0**-24))

    def blocks(self) -> Iterator[Block]:
        """Iterate over positions in the world frame (float64) and colours in [0, 1]."""
        for block in self.source.read(1, 2):
            yield _points(block, self.source, self.min_opacity)


def _points(block: Gaussians, source: SceneSource, min_opacity: float) -> Block:
    chosen = block[block.opacities >= min_opacity]
    positions = chosen.means.double().numpy() + source.origin
    colors = 0.5 + C0 * chosen.sh[:, 0].numpy()
    return np.asarray(positions), np.asarray(np.clip(colors, 0, 1))


def _to_integers(colors: Float[np.ndarray, "n 3"], kind: type[np.unsignedinteger]) -> np.ndarray:
    return np.asarray(np.rint(colors * np.iinfo(kind).max), kind)


def _write_xyz(path: Path, cloud: PointCloud) -> None:
    """Write lines of text: x y z in world units, red green blue from 0 to 255."""
    decimals = max(0, round(-math.log10(cloud.step)))
    line = " ".join([f"%.{decimals}f"] * 3 + ["%d"] * 3)
    with path.open("w", encoding="ascii") as file:
        for positions, colors in cloud.blocks():
            # Adding zero takes the sign off zeros.
            rounded = np.round(positions, decimals) + 0.0
            rows = np.concatenate([rounded, _to_integers(colors, np.uint8)], 1)
            np.savetxt(file, rows, line)


def _write_ply(path: Path, cloud: PointCloud) -> None:
    """Write a binary PLY of vertices with 8-bit colours, in float64 far from the origin."""
    name, kind = PLY_POSITIONS[cloud.source.origin != WORLD]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {cloud.count}"]
    header += [f"property {name} {axis}" for axis in "xyz"]
    header += [f"property uchar {color}" for color in ("red", "green", "blue")]
    layout = np.dtype([("positions", kind, 3), ("colors", "u1", 3)])
    with path.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        for positions, colors in cloud.blocks():
            rows = np.zeros(len(positions), layout)
            rows["positions"], rows["colors"] = positions, _to_integers(colors, np.uint8)
            file.write(rows.tobytes())


def _write_las(path: Path, cloud: PointCloud) -> None:
    """Write LAS 1.2 with point format 2: integers with a scale and an offset, 16-bit colours."""
    laspy = _load_laspy(path)
    header = laspy.LasHeader(version="1.2", point_format=2)
    header.scales = np.full(3, cloud.step)
    header.offsets = np.floor(cloud.low / (1000 * cloud.step)) * 1000 * cloud.step
    header.generating_software = "recon"
    header.creation_date = DATE
    with laspy.open(path, mode="w", header=header) as writer:
        for positions, colors in cloud.blocks():
            points = laspy.ScaleAwarePointRecord.zeros(len(positions), header=header)
            points.x, points.y, points.z = positions.T
            points.red, points.green, points.blue = _to_integers(colors, np.uint16).T
            writer.write_points(points)


def _load_laspy(path: Path) -> Any:
    try:
        import laspy

        if path.suffix.lower() == ".laz":
            import lazrs  # noqa: F401
    except ImportError:
        raise MissingDependency(
            f"{path} needs laspy and lazrs: pip install 'reconsplat[las]'"
        ) from None
    return laspy


# Extension -> writer to a temporary path with it.
WRITERS: dict[str, Callable[[Path, PointCloud], None]] = dict(
    zip(POINT_CLOUD_EXTENSIONS, (_write_ply, _write_xyz, _write_las, _write_las), strict=True)
)


def write_point_cloud(path: Path, cloud: PointCloud) -> None:
    """Write points in the format of the extension, completely or not at all.

    Raises:
        InputError: The file cannot be written.
        MissingDependency: LAS and LAZ need laspy.
    """
    name = path.name.lower()
    extension = max((e for e in WRITERS if name.endswith(e)), key=len)
    with atomic_output(path) as temporary:
        # Libraries look at the extension, in lower case.
        written = temporary.with_name(f"points{extension}")
        WRITERS[extension](written, cloud)
        written.replace(temporary)
