"""Stand-alone script: cameras from the matches in a COLMAP database.

Usage: sfm_map.py JOB.json

It runs in a process of its own because pycolmap beside torch corrupted the heap in trials; it
imports nothing of recon.
"""

import json
import sys
from pathlib import Path
from typing import Any

# Of so few photos lone pairs of views must be enough, and lenses are taken to be straight, unless
# three of them have so many points that they show, in the end, how bent they are.
FEW, LENS_POINTS = 4, 500
# Cameras that so few points hold in place are not: global mapping places photos by turns alone.
MIN_POINTS = 16
# A focal length between those of phones and of 35 mm film, in long sides; COLMAP starts from 1.2.
SHORT_FOCAL = 0.85
# How much photos that look up or down count against those that are held at a slant.
TILT = 0.05
# Less of a mapper's caution.
PATIENCE = {
    "init_min_tri_angle": 3.0,
    "init_min_num_inliers": 30,
    "abs_pose_min_num_inliers": 15,
    "abs_pose_min_inlier_ratio": 0.1,
    "init_max_reg_trials": 5,
    "filter_min_tri_angle": 0.5,
}


def map_scene(job: dict[str, Any]) -> None:
    """The attempt that places the most images, as a COLMAP model of the original pictures."""
    import pycolmap

    total = sum(len(group["names"]) for group in job["groups"])
    models: list[Any] = []
    for number, rung in enumerate(FEW_LADDER if total <= FEW else LADDER):
        enough = any(model.num_reg_images() == total for model in models)
        for attempt in () if enough else rung:
            # Global mapping needs three photos.
            if attempt is not _global or total > 2:
                folder = Path(job["database"]).parent / f"{number}{attempt.__name__}"
                folder.mkdir()
                pycolmap.set_random_seed(job["seed"])
                found = attempt(job, folder).values()
                models += [model for model in found if model.num_points3D() >= MIN_POINTS]
    best = max(models, key=lambda m: (m.num_reg_images(), m.num_points3D()), default=None)
    with pycolmap.Database.open(job["database"]) as database:
        _, motions = database.read_two_view_geometries()
    matched = sum(len(motion.inlier_matches) > 0 for motion in motions)
    summary = {"placed": 0, "points": 0, "matched_pairs": matched}
    if best is not None:
        if 2 < best.num_reg_images() <= FEW and best.num_points3D() >= LENS_POINTS:
            pycolmap.bundle_adjustment(best, pycolmap.BundleAdjustmentOptions())
        summary |= {"placed": best.num_reg_images(), "points": best.num_points3D()}
        _write_model(best, job["originals"], Path(job["model"]))
    Path(job["summary"]).write_text(json.dumps(summary), encoding="utf-8")


def _incremental(job: dict[str, Any], folder: Path) -> dict:
    import pycolmap

    options = _pipeline(job)
    return pycolmap.incremental_mapping(job["database"], job["images"], folder, options)


def _patient(job: dict[str, Any], folder: Path) -> dict:
    """Photos far apart or close together; points that two of them see count, too."""
    import pycolmap

    options = _pipeline(job)
    options.triangulation.ignore_two_view_tracks = False
    for name, value in PATIENCE.items():
        setattr(options.mapper, name, value)
    if sum(len(group["names"]) for group in job["groups"]) <= FEW:
        # So few photos cannot tell distortion from focal length while they are placed.
        options.ba_refine_extra_params = False
        options.mapper.abs_pose_refine_extra_params = False
    return pycolmap.incremental_mapping(job["database"], job["images"], folder, options)


def _patient_wide(job: dict[str, Any], folder: Path) -> dict:
    """The same from a shorter focal length, for photos that do not tell theirs; it is refined,
    but not far from where it starts."""
    import pycolmap

    unknown = False
    with pycolmap.Database.open(job["database"]) as database:
        for camera in database.read_all_cameras():
            if not camera.has_prior_focal_length:
                unknown = True
                camera.params[0] = SHORT_FOCAL * max(camera.width, camera.height)
                database.update_camera(camera)
    return _patient(job, folder) if unknown else {}


def _pipeline(job: dict[str, Any]) -> Any:
    import pycolmap

    # One thread: sums in another order would place cameras differently every time.
    return pycolmap.IncrementalPipelineOptions(
        min_model_size=2, max_num_models=5, random_seed=job["seed"], num_threads=1,
        max_runtime_seconds=job["map_seconds"], extract_colors=False,
    )  # fmt: skip


def _global(job: dict[str, Any], folder: Path) -> dict:
    import pycolmap

    options = pycolmap.GlobalPipelineOptions(
        min_model_size=2, random_seed=job["seed"], num_threads=1
    )
    return pycolmap.global_mapping(job["database"], job["images"], folder, options)


def _stand_upright(model: Any, downs: dict[str, Any]) -> None:
    """Turn the world so that +y is down.

    Photos are held level more often than they look straight ahead: down is where the photos'
    horizontal axes have no part, as far as they differ in direction, else down in the photos.
    """
    import numpy as np
    import pycolmap

    levels, mean = np.zeros((3, 3)), np.zeros(3)
    for image in model.images.values():
        x, y = downs[image.name]
        world_from_cam = image.cam_from_world().rotation.matrix().T
        level = world_from_cam @ [y, -x, 0]
        levels += np.outer(level, level) / len(model.images)
        mean += world_from_cam @ [x, y, 0] / len(model.images)
    down = np.linalg.solve(levels + TILT * np.eye(3), mean)
    down = down / max(float(np.linalg.norm(down)), 1e-12)
    ahead = np.array([0.0, 0.0, 1.0]) - down[2] * down
    if np.linalg.norm(ahead) < 0.1:
        ahead = np.array([1.0, 0.0, 0.0]) - down[0] * down
    ahead /= np.linalg.norm(ahead)
    turn = pycolmap.Rotation3d(np.stack([np.cross(down, ahead), down, ahead]))
    model.transform(pycolmap.Sim3d(1.0, turn, np.zeros(3)))


def _write_model(model: Any, originals: dict[str, Any], folder: Path) -> None:
    """With the names and sizes that the photos had before they were made smaller for solving."""
    factors = {}
    for image in model.images.values():
        original = originals[image.name]
        camera = model.cameras[image.camera_id]
        if image.camera_id not in factors:
            factors[image.camera_id] = (
                original["width"] / camera.width,
                original["height"] / camera.height,
            )
            camera.rescale(original["width"], original["height"])
        x, y = factors[image.camera_id]
        for point in image.points2D:
            point.xy = [point.xy[0] * x, point.xy[1] * y]
        image.name = original["name"]
    _stand_upright(model, {o["name"]: o["down"] for o in originals.values()})
    model.update_point_3d_errors()
    folder.mkdir()
    model.write(folder)


# Attempts, in order: those of one rung are compared, the next is for what is not all placed yet.
LADDER = ((_incremental,), (_patient,), (_global,))
FEW_LADDER = ((_patient, _patient_wide), (_global,))

if __name__ == "__main__":
    map_scene(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
