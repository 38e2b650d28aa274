"""Triangulate features of images whose cameras are known.

Usage: sfm_triangulate.py IMAGE_FOLDER CAMERAS_FILE POINTS_FILE

The cameras are a JSON object: for the name of each image "intrinsics" (fx, fy, cx, cy in pixels)
and "viewmat" (4x4, world to camera, OpenCV axes). The points are written as an .npz file with
arrays "xyz" [m 3], in the world frame, and "rgb" [m 3], 0 to 255.

This script runs in a separate process, because importing torch before pycolmap crashes
(colmap/colmap#3477), and imports nothing from recon.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pycolmap


def triangulate(images: Path, cameras: Path, points: Path) -> None:
    """Match all pairs of images, and write the points that their matches triangulate to."""
    known = json.loads(cameras.read_text(encoding="utf-8"))
    with TemporaryDirectory() as name:
        database, model = Path(name) / "database.db", Path(name) / "model"
        model.mkdir()
        options = pycolmap.ImageReaderOptions()
        options.camera_model = "PINHOLE"
        each = pycolmap.CameraMode.PER_IMAGE
        pycolmap.extract_features(database, images, sorted(known), each, options)
        pycolmap.match_exhaustive(database)
        posed = _posed(database, known)
        found = pycolmap.triangulate_points(posed, database, images, model).points3D.values()
    xyz = np.array([point.xyz for point in found], np.float64).reshape(-1, 3)
    rgb = np.array([point.color for point in found], np.uint8).reshape(-1, 3)
    np.savez(points, xyz=xyz, rgb=rgb)


def _posed(database: Path, known: dict[str, dict[str, list[float]]]) -> pycolmap.Reconstruction:
    """Return a model of the images of a database with known cameras and without points."""
    posed = pycolmap.Reconstruction()
    with pycolmap.Database.open(database) as opened:
        cameras = {camera.camera_id: camera for camera in opened.read_all_cameras()}
        images = opened.read_all_images()
    for image in images:
        camera, viewmat = cameras[image.camera_id], np.array(known[image.name]["viewmat"])
        camera.params = known[image.name]["intrinsics"]
        posed.add_camera_with_trivial_rig(camera)
        rotation = pycolmap.Rotation3d(viewmat[:3, :3])
        posed.add_image_with_trivial_frame(image, pycolmap.Rigid3d(rotation, viewmat[:3, 3]))
    return posed


if __name__ == "__main__":
    triangulate(*map(Path, sys.argv[1:]))
