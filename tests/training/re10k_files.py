"""Small files in RealEstate10K's formats, written from a capture with known cameras."""

import io
from pathlib import Path

import torch
from PIL import Image

from recon.capture import load_capture, load_views
from render import Cameras
from render.video import to_bytes


def frames_of(capture: Path, count: int, resolution: int) -> tuple[list[bytes], Cameras]:
    """JPEG bytes and undistorted cameras of the first photos."""
    views = load_views(load_capture(capture).frames[:count], resolution)
    files = []
    for image in views.images:
        buffer = io.BytesIO()
        Image.fromarray(to_bytes(image)).save(buffer, "JPEG", quality=95)
        files.append(buffer.getvalue())
    return files, views.cameras


def camera_rows(cameras: Cameras) -> torch.Tensor:
    """[n 18]: fx fy cx cy as fractions, 0 0, camera from world 3x4 row by row."""
    K, size = cameras.Ks, torch.tensor([cameras.width, cameras.height])
    focal = torch.stack([K[:, 0, 0], K[:, 1, 1]], -1) / size
    center = K[:, :2, 2] / size
    zeros = torch.zeros(len(K), 2)
    return torch.cat([focal, center, zeros, cameras.viewmats[:, :3].flatten(1)], -1).float()


def write_chunk(path: Path, scenes: dict[str, tuple[list[bytes], Cameras]]) -> None:
    """A .torch chunk as pixelSplat's converter writes it."""
    entries = []
    for key, (files, cameras) in scenes.items():
        images = [torch.tensor(list(data), dtype=torch.uint8) for data in files]
        stamps = torch.arange(len(files), dtype=torch.int64)
        rows = camera_rows(cameras)
        entries.append(
            {"key": key, "url": "", "timestamps": stamps, "cameras": rows, "images": images}
        )
    torch.save(entries, path)


def write_text(folder: Path, key: str, files: list[bytes], cameras: Cameras) -> None:
    """The original layout: KEY.txt and KEY/TIMESTAMP.jpg."""
    (folder / key).mkdir(parents=True)
    lines = ["https://example.org/clip"]
    for i, (data, row) in enumerate(zip(files, camera_rows(cameras), strict=True)):
        stamp = 33_000 * (i + 1)
        (folder / key / f"{stamp}.jpg").write_bytes(data)
        lines.append(" ".join([str(stamp), *(f"{value:.9f}" for value in row.tolist())]))
    (folder / f"{key}.txt").write_text("\n".join(lines) + "\n")
