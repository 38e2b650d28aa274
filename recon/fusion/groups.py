"""Groups of views that are matched together."""

from dataclasses import dataclass

import torch

from recon.model.mvs.source_views import nearest_views
from render import Cameras


@dataclass(frozen=True)
class Group:
    """Views that are matched with each other."""

    views: tuple[int, ...]
    """Indices of the views; those to predict come first."""
    num_predicted: int
    """Number of views to predict; the others are in a group before, and help to match."""


def group_views(cameras: Cameras, size: int) -> list[Group]:
    """Divide views into groups of `size` neighbours, each of which overlaps.

    Every view is predicted in exactly one group. The last groups are filled up with views of other
    groups. Each group starts at the view that is nearest to the groups before it, so that none is
    left between them.
    """
    count = len(cameras)
    if count <= size:
        return [Group(tuple(range(count)), count)]
    nearest = nearest_views(cameras, count - 1)
    distance = torch.cdist(cameras.centers, cameras.centers)
    left, groups, first = set(range(count)), [], 0
    while left:
        new = [first, *(v for v in nearest[first] if v in left)][:size]
        left -= set(new)
        others = [v for v in nearest[first] if v not in new][: size - len(new)]
        groups.append(Group((*new, *others), len(new)))
        if left:
            rest = sorted(left)
            done = [v for v in range(count) if v not in left]
            first = rest[int(distance[rest][:, done].amin(1).argmin())]
    return groups
