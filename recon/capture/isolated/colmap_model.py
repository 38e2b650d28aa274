"""Read or transform a COLMAP model.

Usage:
    colmap_model.py dump MODEL_FOLDER OUTPUT_FILE
    colmap_model.py transform MODEL_FOLDER OUTPUT_FOLDER SCALE X Y Z

`dump` writes cameras, posed images and points as JSON. `transform` writes the model with its points
moved to SCALE * point + (X, Y, Z).

This script runs in a separate process, because importing torch before pycolmap crashes
(colmap/colmap#3477), and imports nothing from recon.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pycolmap


def dump(model_folder: str, output_file: str) -> None:
    """Write a model as JSON."""
    model = pycolmap.Reconstruction(model_folder)
    cameras = {
        camera_id: {
            "model": camera.model.name,
            "width": camera.width,
            "height": camera.height,
            "params": list(map(float, camera.params)),
        }
        for camera_id, camera in model.cameras.items()
    }
    point_ids = sorted(model.points3D)
    rows = {point_id: row for row, point_id in enumerate(point_ids)}
    images = [
        {
            "name": image.name,
            "camera": image.camera_id,
            "cam_from_world": image.cam_from_world().matrix().tolist(),
            "point_rows": [rows[p.point3D_id] for p in image.points2D if p.has_point3D()],
        }
        for image in model.images.values()
        if image.has_pose
    ]
    points = [model.points3D[point_id].xyz.tolist() for point_id in point_ids]
    document = {"cameras": cameras, "images": images, "points": points}
    Path(output_file).write_text(json.dumps(document), encoding="utf-8")


def transform(model_folder: str, output_folder: str, *numbers: str) -> None:
    """Write a scaled and translated model."""
    scale, *translation = map(float, numbers)
    model = pycolmap.Reconstruction(model_folder)
    model.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(), np.array(translation)))
    model.write(output_folder)


COMMANDS: dict[str, Callable[..., None]] = {"dump": dump, "transform": transform}

if __name__ == "__main__":
    COMMANDS[sys.argv[1]](*sys.argv[2:])
