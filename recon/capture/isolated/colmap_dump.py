"""Stand-alone script: a COLMAP model as JSON in a file.

It runs in a process of its own because pycolmap beside torch corrupted the heap in
trials; it imports nothing of recon. Its folder holds no module that could shadow one
of the standard library.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    """Usage: colmap_dump.py MODEL_FOLDER OUTPUT"""
    import pycolmap

    model = pycolmap.Reconstruction(sys.argv[1])
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
    Path(sys.argv[2]).write_text(json.dumps(document), encoding="utf-8")


if __name__ == "__main__":
    main()
