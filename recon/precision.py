"""Local origins: float32 cannot hold positions far from zero, such as UTM coordinates."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

# World coordinates of a point that positions are relative to.
Origin = tuple[float, float, float]
WORLD: Origin = (0.0, 0.0, 0.0)
# Largest rounding error of a position in float32, relative to the extent of the scene.
MAX_ROUNDING = 2e-5
# Smallest extent of a scene, relative to the distance from zero.
MIN_EXTENT = 1e-9
# Number of rows of a file that its origin is chosen by.
MAX_SAMPLE = 100_000
# Relative rounding error of float32.
EPSILON = 2.0**-24


def local_origin(points: Float[np.ndarray, "n 3"]) -> Origin:
    """Choose an origin for positions: zero, unless float32 is too coarse for them there.

    Another origin is the median of the points, rounded so that it is short in decimals and that
    sums with it are exact in float64.

    Args:
        points: Positions, float64.
    """
    if len(points) == 0:
        return WORLD
    center = np.median(points, 0)
    extent = typical_distance(points, center)
    far = float(np.abs(center).max())
    # Points closer together than MIN_EXTENT are the same one: their differences are rounding.
    if extent <= MIN_EXTENT * far or EPSILON * far <= MAX_ROUNDING * extent:
        return WORLD
    grid = 2.0 ** np.ceil(np.log2(extent))
    x, y, z = (float(value) for value in np.round(center / grid) * grid)
    return x, y, z


def origin_of_rows(
    rows: np.ndarray, positions: Callable[[np.ndarray], Float[np.ndarray, "n 3"]]
) -> Origin:
    """Choose the origin for a table of a file by some of its rows, of which the finite ones count.

    Args:
        rows: The rows of the file.
        positions: Returns the positions in some of them, float64.
    """
    points = positions(rows[:: 1 + len(rows) // MAX_SAMPLE])
    return local_origin(points[np.isfinite(points).all(1)])


def typical_distance(points: Float[np.ndarray, "n 3"], center: Float[np.ndarray, "3"]) -> float:
    """Return the median distance from a centre, which a few points far away do not change."""
    return float(np.median(np.linalg.norm(points - center, axis=1)))


def float32_error(origin: Origin) -> float:
    """Return by how much float32 rounds positions around a point at most (world units)."""
    return float(np.spacing(np.float32(np.abs(origin).max()))) / 2
