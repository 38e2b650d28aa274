"""LLFF's `poses_bounds.npy` (Mildenhall et al. 2019, "Local Light Field Fusion").

Each row: a 3x5 matrix (camera-to-world with axes down, right, back; then height,
width, focal) and the nearest and farthest depth.
"""

from pathlib import Path

import numpy as np

from recon.capture.geometry import intrinsics, viewmat_from_c2w
from recon.capture.images import image_size, is_image
from recon.capture.listing import natural_key
from recon.capture.types import Capture, Frame, FrameCamera
from recon.errors import ReconError


def read_llff(path: Path) -> Capture:
    """The capture of a poses_bounds.npy and the folder `images` beside it."""
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ReconError(f"{path} is not a NumPy array file; expected LLFF's n x 17 array") from error
    if table.ndim != 2 or table.shape[1] != 17:
        raise ReconError(f"{path} has shape {table.shape}; expected (photos, 17)")
    folder = path.parent / "images"
    images = sorted(filter(is_image, folder.glob("*")), key=natural_key)
    if len(images) != len(table):
        raise ReconError(
            f"{path} has {len(table)} cameras but {folder} holds {len(images)} images; "
            "expected one image a camera, in the order of their names"
        )
    frames = tuple(
        _frame(row, image, f"{path}, row {i}")
        for i, (row, image) in enumerate(zip(table.astype(np.float64), images, strict=True))
    )
    return Capture(path.parent, "llff", frames)


def _frame(row: np.ndarray, image: Path, where: str) -> Frame:
    matrix = row[:15].reshape(3, 5)
    c2w = np.eye(4)
    # Columns are down, right, back, place: ours are right, down, forward, place.
    c2w[:3] = np.stack([matrix[:, 1], matrix[:, 0], -matrix[:, 2], matrix[:, 3]], 1)
    height, width, focal = matrix[:, 4]
    if not (np.isfinite(row).all() and focal > 0 and height > 0 and width > 0):
        raise ReconError(f"{where}: height, width and focal must be above 0 and all values finite")
    stored_width, stored_height = image_size(image)
    fx, fy = focal * stored_width / width, focal * stored_height / height
    camera = FrameCamera(
        viewmat_from_c2w(c2w, f"{where}: camera matrix"),
        intrinsics(fx, fy, stored_width / 2, stored_height / 2),
        stored_width,
        stored_height,
    )
    near, far = float(row[15]), float(row[16])
    if not 0 < near < far:
        raise ReconError(f"{where}: expected 0 < near < far, found near {near:g}, far {far:g}")
    return Frame(f"images/{image.name}", image, camera, depth_bounds=(near, far))
