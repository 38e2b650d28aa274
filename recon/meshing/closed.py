"""Closed meshes: what is solid, without pores and crumbs, in few triangles (manifold3d)."""

from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import avg_pool3d, max_pool3d, pad

from recon.errors import InputError
from recon.meshing.triangles import (
    MIN_WEIGHT,
    TriangleMesh,
    decimated,
    library,
    marching_cubes,
    no_surface,
)
from recon.meshing.volume import Volume

# Pores up to twice this radius are filled (voxels).
CLOSING_VOXELS = 2
# Components of solid voxels with less than this fraction of the voxels of the largest are removed.
MIN_COMPONENT = 0.01
# Smallest distance of a voxel from the surface (truncations), so that no two vertices coincide.
MIN_DISTANCE = 0.02
# Distance by which vertices of the same position are moved apart (fraction of the diagonal).
SEPARATION = 1e-5


def closed_mesh(volume: Volume, count: int | None) -> TriangleMesh:
    """Return the surface of what is solid: measured, or hidden closely behind what is measured.

    Args:
        volume: Fused depth maps.
        count: Largest number of triangles; None keeps all.

    Raises:
        InputError: Nothing is solid.
    """
    known = volume.weight > MIN_WEIGHT
    solid = volume.hidden & ~known
    # Positive inside, with layers of free space around, so that the surface is closed.
    inside = -volume.distance.masked_fill(~known, 1.0).masked_fill(solid, -1.0)
    mesh = _surface(inside, volume)
    return as_closed(mesh if count is None else decimated(mesh, count))


def _surface(inside: Float[Tensor, "x y z"], volume: Volume) -> TriangleMesh:
    """Return the closed surface of a grid of values that are positive inside."""
    layers = CLOSING_VOXELS + 1
    padded = pad(inside, 6 * [layers], value=-1.0)
    # Closing: a maximum filter, then a minimum filter. The mean then removes steps between voxels.
    closing = -_maximum(-_maximum(padded[None]))
    value = avg_pool3d(closing, 3, 1, 1, count_include_pad=False)[0].numpy()
    mask = without_contacts(_without_small_components(value > 0), value)
    value = np.where(mask, np.maximum(value, MIN_DISTANCE), np.minimum(value, -MIN_DISTANCE))
    moved = replace(volume, low=volume.low - layers * volume.voxel)
    return marching_cubes(moved, -value, None)


def _maximum(value: Float[Tensor, "1 x y z"]) -> Float[Tensor, "1 x y z"]:
    """Return the largest value in a cube around each voxel, axis by axis."""
    size = 2 * CLOSING_VOXELS + 1
    for shape in ((size, 1, 1), (1, size, 1), (1, 1, size)):
        value = max_pool3d(value, shape, 1, tuple(side // 2 for side in shape))
    return value


def _without_small_components(mask: Bool[np.ndarray, "x y z"]) -> Bool[np.ndarray, "x y z"]:
    """Remove small components of solid voxels, and fill cavities."""
    label = library("scipy.ndimage").label
    labels, count = label(mask)
    if count == 0:
        raise no_surface()
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    kept = (sizes >= MIN_COMPONENT * sizes.max())[labels] & mask
    outside, _ = label(~kept)
    return np.asarray(outside != outside[0, 0, 0])


def without_contacts(
    mask: Bool[np.ndarray, "x y z"], value: Float[np.ndarray, "x y z"]
) -> Bool[np.ndarray, "x y z"]:
    """Fill voxels until no two solid ones touch in an edge only.

    There the surface would meet itself in an edge that four triangles have (Latecki 1997,
    well-composed 3D images).

    Args:
        mask: Solid voxels, none in the outermost layer.
        value: Of the two voxels that can be filled, the one of the larger value is.
    """
    mask = mask.copy()
    found = True
    while found:
        found = False
        for axes in ((0, 1), (0, 2), (1, 2)):
            parts = [_shifted(axes, first, second) for first in (0, 1) for second in (0, 1)]
            a, b, c, d = (mask[part] for part in parts)
            for one, other, free in (((a, d), (b, c), parts[1:3]), ((b, c), (a, d), parts[::3])):
                contact = one[0] & one[1] & ~other[0] & ~other[1]
                if contact.any():
                    found = True
                    first = value[free[0]] >= value[free[1]]
                    mask[free[0]] |= contact & first
                    mask[free[1]] |= contact & ~first
    return mask


def _shifted(axes: tuple[int, int], first: int, second: int) -> tuple[slice, ...]:
    """Return slices that leave out the last or the first layer along two axes."""
    slices = 3 * [slice(None)]
    for axis, offset in zip(axes, (first, second), strict=True):
        slices[axis] = slice(1, None) if offset else slice(None, -1)
    return tuple(slices)


def as_closed(mesh: TriangleMesh) -> TriangleMesh:
    """Return a closed mesh, each edge of which two triangles share, also if positions are compared.

    Where a mesh with fewer triangles meets itself in an edge, manifold3d gives each side vertices
    of its own; these are moved inwards a little.
    """
    middle = mesh.vertices.mean(0)
    found = as_manifold(mesh.vertices - middle, mesh.faces).to_mesh()
    vertices = np.asarray(found.vert_properties)[:, :3]
    closed = TriangleMesh(vertices.astype(np.float64), np.asarray(found.tri_verts, np.int64))
    length = SEPARATION * float(np.linalg.norm(np.ptp(vertices, axis=0)))
    cells = np.rint(vertices / (0.1 * length))
    same = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(same, kind="stable")
    # Of vertices in one position each is moved by another distance, the first one not at all.
    rank = np.zeros(len(vertices))
    rank[order] = np.arange(len(vertices)) - np.searchsorted(same[order], same[order])
    positions = closed.vertices - length * rank[:, None] * closed.normals()
    return replace(mesh, vertices=positions + middle, faces=closed.faces)


def as_manifold(vertices: np.ndarray, faces: np.ndarray) -> Any:
    """Return a solid of manifold3d; InputError if the triangles do not close it."""
    manifold3d = library("manifold3d")
    triangles = manifold3d.Mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    solid = manifold3d.Manifold(triangles)
    if solid.status() != manifold3d.Error.NoError or solid.is_empty():
        text = f"the surface cannot be closed: {solid.status()}; leave out watertight=True"
        raise InputError(text, "watertight")
    return solid
