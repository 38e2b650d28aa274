"""LLFF's `poses_bounds.npy` (Mildenhall et al. 2019, "Local Light Field Fusion").

Each row: a 3x5 matrix (camera-to-world with axes down, right, back; then height,
width, focal) and the nearest and farthest depth.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from recon.capture.geometry import Intrinsics, checked_K, viewmat_from_c2w
from recon.capture.images import image_size, list_images
from recon.capture.types import Capture, Frame, FrameCamera
from recon.errors import InputError

IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8")


def read_llff(path: Path) -> Capture:
    """Read a poses_bounds.npy and its images, one per row in natural order.

    The images are in the folder `images` beside it, or else in one of LLFF's smaller copies.

    Raises:
        InputError: The array or a row of it is invalid, or there are more or fewer images than
            rows.
    """
    table = _read_table(path)
    folder, images = path.parent / IMAGE_FOLDERS[0], []
    for name in IMAGE_FOLDERS:
        images = list_images(path.parent / name)
        if images:
            folder = path.parent / name
            break
    if len(images) != len(table):
        raise InputError(
            f"{path} has {len(table)} cameras but {folder} holds {len(images)} images; "
            "expected one image per camera, in the order of their names"
        )
    frames = tuple(
        _frame(row, image, f"{path}, row {i}")
        for i, (row, image) in enumerate(zip(table, images, strict=True))
    )
    return Capture(path.parent, "llff", frames)


def _read_table(path: Path) -> Float[np.ndarray, "n 17"]:
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path} is not a NumPy array file; expected LLFF's n x 17 array of numbers"
        ) from error
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu":
        raise InputError(f"{path} does not hold numbers; expected LLFF's n x 17 array of numbers")
    if table.ndim != 2 or table.shape[1] != 17 or len(table) == 0:
        raise InputError(f"{path} has shape {table.shape}; expected LLFF's (photos, 17)")
    return table.astype(np.float64)


def _frame(row: Float[np.ndarray, "17"], image: Path, where: str) -> Frame:
    matrix = row[:15].reshape(3, 5)
    c2w = np.eye(4)
    # The columns are down, right, back, position; recon's are right, down, forward, position.
    c2w[:3] = np.stack([matrix[:, 1], matrix[:, 0], -matrix[:, 2], matrix[:, 3]], 1)
    height, width, focal = matrix[:, 4]
    near, far = float(row[15]), float(row[16])
    if not (np.isfinite(row[[4, 9]]).all() and height > 0 and width > 0):
        raise InputError(f"{where}: height and width must be above 0, found {height:g}, {width:g}")
    if not 0 < near < far < np.inf:
        raise InputError(f"{where}: expected 0 < near < far, found near {near:g}, far {far:g}")
    stored_width, stored_height = image_size(image)
    fx, fy = focal * stored_width / width, focal * stored_height / height
    center = stored_width / 2, stored_height / 2
    camera = FrameCamera(
        viewmat_from_c2w(c2w, f"{where}: camera matrix"),
        checked_K(Intrinsics(fx, fy, *center, stored_width, stored_height), where),
        stored_width,
        stored_height,
    )
    name = image.relative_to(image.parent.parent).as_posix()
    return Frame(name, image, camera, depth_bounds=(near, far))
