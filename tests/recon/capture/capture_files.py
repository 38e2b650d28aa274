"""Writes one small synthetic capture in every layout that recon reads.

The formulas here are written from the formats' own descriptions, not from recon's code.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# Three points, one in each colour channel of the images.
POINTS = np.array([[0.1, -0.2, 4.0], [-0.6, 0.3, 5.0], [0.7, 0.4, 4.5]])
BLOB_SIGMA_PX = 2.0


def rotmat_from_wxyz(quat: np.ndarray) -> np.ndarray:
    """Return the rotation matrix of a unit quaternion (Hamilton)."""
    w, x, y, z = quat
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@dataclass(frozen=True)
class Shot:
    """Camera of the synthetic capture: OpenCV axes, camera from world."""

    quat: np.ndarray
    translation: np.ndarray
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    coefficients: tuple[float, ...] = ()
    """k1 k2 p1 p2 of OpenCV's model."""

    @property
    def viewmat(self) -> np.ndarray:
        viewmat = np.eye(4)
        viewmat[:3, :3] = rotmat_from_wxyz(self.quat)
        viewmat[:3, 3] = self.translation
        return viewmat

    @property
    def c2w(self) -> np.ndarray:
        return np.linalg.inv(self.viewmat)

    @property
    def K(self) -> np.ndarray:
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def pixels(self, fisheye: bool = False) -> np.ndarray:
        """Project the points; pixel centres at +0.5."""
        local = POINTS @ self.viewmat[:3, :3].T + self.viewmat[:3, 3]
        if not self.coefficients:
            image = local @ self.K.T
            return image[:, :2] / image[:, 2:]
        coefficients, zero = np.array(self.coefficients), np.zeros(3)
        if fisheye:
            pixels, _ = cv2.fisheye.projectPoints(local[:, None], zero, zero, self.K, coefficients)
        else:
            pixels, _ = cv2.projectPoints(local, zero, zero, self.K, coefficients)
        return pixels[:, 0] if not fisheye else pixels.reshape(-1, 2)


def shots(centered: bool, coefficients: tuple[float, ...] = (), count: int = 3) -> list[Shot]:
    """Return cameras in front of the points, rotated about all axes; LLFF needs centred ones."""
    made = []
    for i in range(count):
        quat = np.array([1.0, 0.03 * i - 0.02, 0.05 * i - 0.04, 0.1 - 0.06 * i])
        translation = np.array([0.3 * i - 0.2, 0.1 - 0.1 * i, 0.2 * i])
        fx, fy, cx, cy = (150.0, 150.0, 80.0, 60.0) if centered else (150.0, 154.0, 87.0, 55.0)
        quat = quat / np.linalg.norm(quat)
        made.append(Shot(quat, translation, fx, fy, cx, cy, 160, 120, coefficients))
    return made


def write_images(folder: Path, cameras: list[Shot], fisheye: bool = False) -> None:
    """Write images/0.png and so on, with each point as a soft spot in its own channel."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for i, shot in enumerate(cameras):
        y, x = np.mgrid[: shot.height, : shot.width] + 0.5
        spots = [
            np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * BLOB_SIGMA_PX**2))
            for u, v in shot.pixels(fisheye)
        ]
        image = (np.stack(spots, -1) * 255).round().astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{i}.png")


def spot_pixels(image: np.ndarray) -> np.ndarray:
    """Return the centroids [3 2] of the spots in an image [3 h w]; pixel centres at +0.5."""
    y, x = np.mgrid[: image.shape[1], : image.shape[2]] + 0.5
    weight = np.where(image > 0.02, image, 0)
    total = weight.sum((1, 2))
    return np.stack([(weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total], -1)


def transforms_document(cameras: list[Shot], model: str | None = None) -> dict:
    """Return the content of a transforms.json for the cameras."""
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = []
    for i, shot in enumerate(cameras):
        entry = {
            "file_path": f"images/{i}.png",
            "w": shot.width,
            "h": shot.height,
            "fl_x": shot.fx,
            "fl_y": shot.fy,
            "cx": shot.cx,
            "cy": shot.cy,
            "transform_matrix": (shot.c2w @ flip).tolist(),
        }
        keys = ("k1", "k2", "k3", "k4") if model == "OPENCV_FISHEYE" else ("k1", "k2", "p1", "p2")
        entry.update(zip(keys, shot.coefficients, strict=False))
        frames.append(entry)
    return {"frames": frames} if model is None else {"camera_model": model, "frames": frames}


def write_transforms_capture(folder: Path, cameras: list[Shot], model: str | None = None) -> Path:
    """Write a nerfstudio folder, and return its transforms.json."""
    write_images(folder, cameras, fisheye=model == "OPENCV_FISHEYE")
    path = folder / "transforms.json"
    path.write_text(json.dumps(transforms_document(cameras, model)))
    return path


def write_colmap_capture(
    folder: Path, cameras: list[Shot], model: str, params: list[float], subfolder: str = "sparse/0"
) -> Path:
    """Write a COLMAP project with a text model and one camera, and return the model folder."""
    write_images(folder, cameras, fisheye=model.endswith("FISHEYE"))
    sparse = folder / subfolder
    sparse.mkdir(parents=True, exist_ok=True)
    shot = cameras[0]
    numbers = " ".join(map(repr, params))
    (sparse / "cameras.txt").write_text(f"1 {model} {shot.width} {shot.height} {numbers}\n")
    lines = []
    for i, camera in enumerate(cameras):
        pose = " ".join(map(repr, [*camera.quat.tolist(), *camera.translation.tolist()]))
        lines.append(f"{i + 1} {pose} 1 {i}.png")
        pixels = camera.pixels(fisheye=model.endswith("FISHEYE"))
        lines.append(" ".join(f"{u} {v} {p + 1}" for p, (u, v) in enumerate(pixels)))
    (sparse / "images.txt").write_text("\n".join(lines) + "\n")
    points = []
    for p, point in enumerate(POINTS):
        track = " ".join(f"{i + 1} {p}" for i in range(len(cameras)))
        points.append(f"{p + 1} {' '.join(map(repr, point.tolist()))} 255 255 255 0.1 {track}")
    (sparse / "points3D.txt").write_text("\n".join(points) + "\n")
    return sparse


def llff_table(cameras: list[Shot]) -> np.ndarray:
    """Return the content of a poses_bounds.npy for the cameras."""
    rows = []
    for shot in cameras:
        c2w = shot.c2w
        down, right, back = c2w[:3, 1], c2w[:3, 0], -c2w[:3, 2]
        size = np.array([shot.height, shot.width, shot.fx])
        matrix = np.stack([down, right, back, c2w[:3, 3], size], 1)
        rows.append(np.concatenate([matrix.ravel(), [1.0, 9.0]]))
    return np.stack(rows)


def write_llff_capture(folder: Path, cameras: list[Shot]) -> Path:
    """Write an LLFF folder, and return its poses_bounds.npy."""
    write_images(folder, cameras)
    path = folder / "poses_bounds.npy"
    np.save(path, llff_table(cameras))
    return path
