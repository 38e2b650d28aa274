"""Ray casting of triangles with Embree, lit by a directional light and the sky."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor
from trimesh import triangles
from trimesh.ray.ray_pyembree import RayMeshIntersector

from recon.memory import check_addresses
from render import Cameras
from training.data.meshes.soup import Soup

GAMMA = 2.2
SUPERSAMPLING = 2
AMBIENT, STRENGTH = 0.45, 0.75
# trimesh has no annotations for it.
points_to_barycentric: Callable[[np.ndarray, np.ndarray], np.ndarray] = (
    triangles.points_to_barycentric
)


@dataclass(frozen=True)
class MeshImage:
    """One rendered view."""

    rgba: Float[Tensor, "4 h w"]
    """Colours premultiplied by alpha, display sRGB."""
    depth: Float[Tensor, "h w"]
    """z of the first surface at the pixel centre; infinite where there is none."""


class MeshRenderer:
    """A mesh with its ray-casting tree; MemoryError if a limit leaves Embree too little.

    Without a light, colours are those of the surfaces.
    """

    def __init__(self, soup: Soup, toward_light: Float[Tensor, "3"] | None) -> None:
        self.soup = soup
        self.toward_light = None if toward_light is None else toward_light.numpy()
        check_addresses("Embree")
        mesh = trimesh.Trimesh(soup.vertices, soup.faces, process=False)
        self.tree = RayMeshIntersector(mesh)

    def render(self, camera: Cameras) -> MeshImage:
        """Render one camera, antialiased by supersampling."""
        s = SUPERSAMPLING
        fine = camera.resized(camera.width * s, camera.height * s)
        colors, _ = self._cast(fine)
        rgba = colors.T.reshape(1, 4, fine.height, fine.width)
        rgba = torch.nn.functional.avg_pool2d(rgba, s)[0]
        _, depth = self._cast(camera, depth_only=True)
        return MeshImage(rgba, depth.reshape(camera.height, camera.width))

    def _cast(
        self, camera: Cameras, depth_only: bool = False
    ) -> tuple[Float[Tensor, "r 4"], Float[Tensor, " r"]]:
        origins, dirs = (t.reshape(-1, 3).double().numpy() for t in camera.rays())
        points, ray, face = self.tree.intersects_location(origins, dirs, multiple_hits=False)
        colors, depth = torch.zeros(len(dirs), 4), torch.full((len(dirs),), torch.inf)
        if not len(ray):
            return colors, depth
        axis = camera.viewmats[2].double().numpy()
        depth[torch.from_numpy(ray)] = torch.from_numpy(points @ axis[:3] + axis[3]).float()
        if not depth_only:
            shaded = self._shade(points, face, dirs[ray])
            rgba = np.concatenate([shaded, np.ones((len(ray), 1))], 1)
            colors[torch.from_numpy(ray)] = torch.from_numpy(rgba).float()
        return colors, depth

    def _shade(self, points: np.ndarray, face: np.ndarray, dirs: np.ndarray) -> np.ndarray:
        """Shade with Lambert on both sides of every triangle, and sky light from above."""
        soup = self.soup
        corners = soup.faces[face]
        weights = points_to_barycentric(soup.vertices[corners], points)[..., None]
        normals = (soup.normals[corners] * weights).sum(1)
        normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        normals *= -np.sign((normals * dirs).sum(1, keepdims=True) + 1e-12)
        albedo = (soup.tints[corners] * weights).sum(1) * self._texture(corners, weights, face)
        if self.toward_light is None:
            return np.asarray(np.clip(albedo, 0, 1))
        light = STRENGTH * np.maximum(normals @ self.toward_light, 0)
        light += AMBIENT * (0.75 + 0.25 * normals[:, 2])
        linear = np.clip(albedo, 0, 1) ** GAMMA * light[:, None]
        return np.asarray(np.clip(linear, 0, 1) ** (1 / GAMMA))

    def _texture(self, corners: np.ndarray, weights: np.ndarray, face: np.ndarray) -> np.ndarray:
        """Sample the nearest texture pixels; textures repeat."""
        uv = (self.soup.uv[corners] * weights).sum(1) % 1.0
        colors = np.ones((len(face), 3))
        owner = self.soup.material[face]
        for index in np.unique(owner):
            texture, mine = self.soup.textures[index], owner == index
            height, width = texture.shape[:2]
            x = np.minimum((uv[mine, 0] * width).astype(int), width - 1)
            y = np.minimum(((1 - uv[mine, 1]) * height).astype(int), height - 1)
            colors[mine] = texture[y, x]
        return colors
