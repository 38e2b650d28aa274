"""Project rays with a camera of COLMAP, whatever its model is.

Usage:
    colmap_lens.py JOB.json OUTPUT.npz

The job has `model`, `width`, `height`, `parameters`, `size` (width, height) of the photo, `step`
and `faces`, rotations of camera from face. Without faces, OUTPUT gets the pinhole camera of
COLMAP's own undistortion; with faces, one with a right angle of view for each. `K` [3 3] and `size`
[2] (width, height) are for all, `pixels` [f r c 2] are where the rays through every `step`-th pixel
of a face meet the photo (pixel centres at +0.5), NaN where they do not.

This script runs in a separate process, because importing torch before pycolmap crashes
(colmap/colmap#3477), and imports nothing from recon.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pycolmap


def main(job_file: str, output_file: str) -> None:
    """Write the pinhole camera and the pixels."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    camera = pycolmap.Camera(
        model=job["model"], width=job["width"], height=job["height"], params=job["parameters"]
    )
    if not camera.verify_params():
        raise SystemExit(f"expected other parameters than {job['parameters']}")
    camera.rescale(*job["size"])
    if faces := job["faces"]:
        side = max(round(camera.width / 4), 1)
        K, size = np.diag([side / 2, side / 2, 1.0]), (side, side)
        K[:2, 2] = side / 2
    else:
        straight = pycolmap.undistort_camera(pycolmap.UndistortCameraOptions(), camera)
        K, size = straight.calibration_matrix(), (straight.width, straight.height)
        faces = [np.eye(3).tolist()]
    pixels = [projected(camera, K, size, np.array(face), job["step"]) for face in faces]
    np.savez(output_file, K=K, size=np.array(size), pixels=np.stack(pixels))


def projected(
    camera: pycolmap.Camera, K: np.ndarray, size: tuple[int, int], face: np.ndarray, step: int
) -> np.ndarray:
    """Return where the rays of a face meet the image [r c 2]."""
    x, y = (0.5 + np.arange(0, side + step, step) for side in size)
    grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), -1).reshape(-1, 3)
    rays = grid @ np.linalg.inv(K).T @ face.T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    pixels = np.array(camera.img_from_cam(rays), dtype=np.float64)
    return pixels.reshape(len(y), len(x), 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
