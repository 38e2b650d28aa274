"""Gaussians far away from the rest, which would take the precision of all others.

Formats with fixed steps choose them for the whole range of positions: one Gaussian at 5e8 units
leaves steps of whole units to a scene of ten.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from recon.errors import warn
from recon.formats.source import SceneSource
from render import Gaussians

# Largest fraction of the Gaussians that are moved; more are a part of the scene, such as its sky.
MAX_FRACTION = 0.01
# Distance from the centre within which no Gaussian is moved, in extents of the scene.
MAX_REACH = 20.0
# Quantiles: of the sizes, for small Gaussians; of the distances, for the extent of the scene.
SIZE_QUANTILE, EXTENT_QUANTILE = 0.1, 0.98


@dataclass(frozen=True)
class Survey:
    """Where the Gaussians of a scene are, and how large."""

    center: Float[np.ndarray, "3"]
    """Median position in the first block, relative to the origin."""
    distances: Float[np.ndarray, " n"]
    """Distance of each Gaussian from it, in increasing order."""
    size: float
    """Middle scale of small Gaussians."""

    @staticmethod
    def of(source: SceneSource) -> "Survey":
        """Measure all Gaussians of a scene with at least one."""
        center: np.ndarray | None = None
        distances, sizes = [], []
        for block in source.blocks():
            means = block.means.double().numpy()
            if center is None:
                center = np.median(means, 0)
            distances.append(np.linalg.norm(means - center, axis=1).astype(np.float32))
            middle = block.scales.median(1).values
            sizes.append(float(middle.quantile(SIZE_QUANTILE)))
        assert center is not None
        return Survey(center, np.sort(np.concatenate(distances)), min(sizes))

    @property
    def extent(self) -> float:
        """Distance from the centre within which nearly all Gaussians are."""
        return float(self.distances[int(EXTENT_QUANTILE * (len(self.distances) - 1))])


def pull_in(
    path: Path, source: SceneSource, survey: Survey, reach: float = 0.0
) -> tuple[SceneSource, float]:
    """Move a few Gaussians that are too far away along their rays from the centre, and say so.

    They get smaller in proportion, so that they look the same from near the centre. If they are
    many, they stay.

    Args:
        path: File that is written, for the warning.
        source: Scene to write.
        survey: Survey of the scene.
        reach: Largest distance from the centre that does not cost the others any precision; at
            least MAX_REACH extents of the scene.

    Returns:
        The scene to write, and the largest distance from the centre in it.
    """
    reach = max(reach, MAX_REACH * survey.extent)
    farthest = float(survey.distances[-1])
    count = len(survey.distances) - int(np.searchsorted(survey.distances, reach, "right"))
    if count == 0 or count > max(MAX_FRACTION * source.count, 1) or count == source.count:
        return source, farthest
    warn(
        f"{path}: moved {count} of {source.count} Gaussians, up to {farthest:.3g} units "
        f"away, to {reach:.3g} units in the same direction: at their distance the format would "
        "round the positions of all others"
    )
    center = torch.from_numpy(survey.center)

    def change(block: Gaussians) -> Gaussians:
        offset = block.means.double() - center
        ratio = (reach / offset.norm(dim=1, keepdim=True).clamp_min(1e-300)).clamp_max(1)
        return replace(
            block,
            means=torch.where(ratio < 1, center + ratio * offset, block.means).float(),
            scales=(ratio * block.scales).float(),
        )

    return source.mapped(change), reach
