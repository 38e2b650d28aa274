"""Stand-alone script: a COLMAP model as JSON on standard output.

It runs in a process of its own because pycolmap beside torch corrupted the heap in
trials; it imports nothing of recon.
"""

import json
import sys


def main() -> None:
    """Usage: colmap_dump.py MODEL_FOLDER"""
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
    images = []
    for image in model.images.values():
        if not image.has_pose:
            continue
        seen = [p.point3D_id for p in image.points2D if p.has_point3D()]
        images.append(
            {
                "name": image.name,
                "camera": image.camera_id,
                "cam_from_world": image.cam_from_world().matrix().tolist(),
                "points": [model.points3D[i].xyz.tolist() for i in seen],
            }
        )
    json.dump({"cameras": cameras, "images": images}, sys.stdout)


if __name__ == "__main__":
    main()
