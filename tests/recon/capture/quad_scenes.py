"""Photos of textured rectangles, with known cameras, for structure from motion."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

SIZE = 320, 240
FOCAL_PX = 300.0


@dataclass(frozen=True)
class Quad:
    """A textured rectangle: corner, two edges, colours [h w 3]."""

    corner: np.ndarray
    u: np.ndarray
    v: np.ndarray
    texture: np.ndarray

    def moved(self, rotation: np.ndarray) -> "Quad":
        """Rotate about the origin."""
        return Quad(rotation @ self.corner, rotation @ self.u, rotation @ self.v, self.texture)


def texture(rng: np.random.Generator, size: tuple[int, int] = (120, 120)) -> np.ndarray:
    """Return smooth blobs of several sizes [h w 3], which have many corners."""
    total = np.zeros((*size, 3), np.float32)
    for step in (6, 12, 30):
        small = rng.normal(size=(size[0] // step, size[1] // step, 3)).astype(np.float32)
        total += cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 45 * total, 0, 255)


def box(rng: np.random.Generator, center: np.ndarray, half: np.ndarray) -> list[Quad]:
    """Return the six faces of a box."""
    faces = []
    for axis in range(3):
        a, b = np.eye(3)[(axis + 1) % 3] * half, np.eye(3)[(axis + 2) % 3] * half
        for sign in (-1, 1):
            middle = center + sign * half[axis] * np.eye(3)[axis]
            faces.append(Quad(middle - a - b, 2 * a, 2 * b, texture(rng)))
    return faces


def boxes(seed: int) -> list[Quad]:
    """Return an object of two boxes about the origin, 2 units wide, y down."""
    rng = np.random.default_rng(seed)
    parts = [((0, 0, 0), (0.9, 0.5, 0.7)), ((0.2, -0.9, 0.1), (0.5, 0.4, 0.4))]
    return [face for c, h in parts for face in box(rng, np.array(c, float), np.array(h, float))]


def room(seed: int) -> list[Quad]:
    """Return a floor and four walls, 6 units from the origin."""
    rng = np.random.default_rng(seed)
    corner, x, y, z = np.array([-6, -4, 6.0]), *np.diag([12.0, 4.5, 12.0])
    quads = [Quad(np.array([-6, 0.5, -6.0]), x, z, texture(rng, (360, 360)))]
    for side in range(4):
        wall = Quad(corner, x, y, texture(rng, (180, 360)))
        quads.append(wall.moved(rotation_y(90.0 * side)))
    return quads


def rotation_y(degrees: float) -> np.ndarray:
    """Return the rotation about the y axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def looking_at(center: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the world-to-camera matrix [4 4] of a camera that is held level."""
    z = (target - center) / np.linalg.norm(target - center)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    viewmat = np.eye(4)
    viewmat[:3, :3] = np.stack([x, np.cross(z, x), z])
    viewmat[:3, 3] = -viewmat[:3, :3] @ center
    return viewmat


def orbit(degrees: np.ndarray, radius: float = 4.0, height: float = 1.2) -> list[np.ndarray]:
    """Return cameras on a circle that look at the origin."""
    centers = [rotation_y(a) @ np.array([0, -height, -radius]) for a in degrees]
    return [looking_at(center, np.array([0, -0.2, 0])) for center in centers]


def photo(
    quads: list[Quad],
    viewmat: np.ndarray,
    focal_px: float = FOCAL_PX,
    size: tuple[int, int] = SIZE,
) -> np.ndarray:
    """Return the pixels [h w 3] of a camera, four rays each."""
    width, height = 2 * size[0], 2 * size[1]
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    rays = np.stack([x - width / 2, y - height / 2, np.full_like(x, 2 * focal_px)], -1)
    rays = (rays / (2 * focal_px)) @ viewmat[:3, :3]
    center = -viewmat[:3, :3].T @ viewmat[:3, 3]
    nearest = np.full((height, width), np.inf)
    colors = np.full((height, width, 3), 128, np.float32)
    for quad in quads:
        # Solve corner + a u + b v = center + t ray.
        inverse = np.linalg.inv(np.stack([quad.u, quad.v, np.cross(quad.u, quad.v)], 1))
        along, start = rays @ inverse.T, inverse @ (center - quad.corner)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = -start[2] / along[..., 2]
            a, b = (start[i] + t * along[..., i] for i in (0, 1))
            hit = (t > 1e-6) & (t < nearest) & (a >= 0) & (a <= 1) & (b >= 0) & (b <= 1)
        rows, columns = quad.texture.shape[:2]
        at = [np.where(hit, c * n, 0).astype(np.float32) for c, n in ((a, columns), (b, rows))]
        seen = cv2.remap(quad.texture.astype(np.float32), at[0], at[1], cv2.INTER_LINEAR)
        colors = np.where(hit[..., None], seen, colors)
        nearest = np.where(hit, t, nearest)
    return cv2.resize(colors, size, interpolation=cv2.INTER_AREA).round().astype(np.uint8)


def save(folder: Path, photos: list[np.ndarray], first: int = 0) -> None:
    """Write photos as 000.png and so on."""
    folder.mkdir(exist_ok=True)
    for index, pixels in enumerate(photos, first):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
