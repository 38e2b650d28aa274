"""Reconstruct cameras from the matches in a COLMAP database.

Usage: sfm_mapping.py JOB.json

This script runs in a separate process, because importing torch before pycolmap crashes
(colmap/colmap#3477), and imports nothing from recon.
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

# The folder of a script is the first one on its path.
from sfm_checks import (
    Pair,
    certain_photos,
    drop_bad_photos,
    drop_static_matches,
    facts_of,
    has_plausible_focals,
    has_static_background,
    only_rotated,
    verified_pairs,
)

Job = dict[str, Any]
Models = dict[int, Any]

# Up to this many images, two-view tracks are kept and radial distortion is fixed at 0, because a
# few images cannot tell it from the focal length while they are registered. A final bundle
# adjustment refines it if there are at least 3 images and MIN_DISTORTION_POINTS points.
FEW_IMAGES, MIN_DISTORTION_POINTS = 4, 500
# Further attempts, which take as long as the first, are made if more than one in this many images
# of the group is unregistered.
IMAGES_PER_UNREGISTERED = 20
# They are also made if a smaller fraction of the verified matches agrees with the cameras: with a
# wrong focal length rotations drift, and a loop does not close. Right cameras reach 0.998.
MIN_AGREEMENT = 0.97
# Models with fewer points are dropped: global mapping registers images by their relative rotations
# alone, without a point that confirms their positions.
MIN_MODEL_POINTS = 16
# Focal length over the long side of the image for other attempts without EXIF: between that of
# phones (0.75) and of a 35 mm lens (0.97). COLMAP itself starts from 1.2.
WIDE_FOCAL_RATIO = 0.85
# Weight of the image's own down direction against the rule that photos are held level, for photos
# that look up or down.
DOWN_WEIGHT = 0.05
# Thresholds of COLMAP's incremental mapper, relaxed for photos that overlap little.
RELAXED_MAPPER_OPTIONS = {
    "init_min_tri_angle": 3.0,
    "init_min_num_inliers": 30,
    "abs_pose_min_num_inliers": 15,
    "abs_pose_min_inlier_ratio": 0.1,
    "init_max_reg_trials": 5,
    "filter_min_tri_angle": 0.5,
}


def map_scene(job: Job) -> None:
    """Map the largest group of images that are connected by matches.

    Attempts are made until nearly all images of the group are registered with certainty. The best
    model so far is written after each, so that it is kept if a later attempt takes too long.
    """
    summary: dict[str, Any] = {"static_background": _keep_moving_matches(job)}
    job["names"], summary["num_matched_pairs"] = _largest_group(job)
    total, best = len(job["names"]), None
    apart = [o["name"] for name, o in job["originals"].items() if name not in job["names"]]
    summary |= {"num_registered": 0, "num_points": 0, "unconnected": apart}
    with pycolmap.Database.open(job["database"]) as database:
        pairs = verified_pairs(database)
        ids = {image.image_id: image.camera_id for image in database.read_all_images()}
        cameras = {i: database.read_camera(camera_id) for i, camera_id in ids.items()}
    summary["only_rotated"] = only_rotated(pairs, cameras)
    if summary["only_rotated"]:
        _write_summary(job, summary)
        return
    remaining = list(FEW_IMAGES_ATTEMPTS if total <= FEW_IMAGES else ATTEMPTS)
    while remaining:
        models: list[Any] = []
        for attempt in remaining.pop(0):
            # Global mapping needs three images.
            if attempt is not _global or total > 2:
                folder = Path(job["database"]).parent / attempt.__name__
                folder.mkdir()
                pycolmap.set_random_seed(job["seed"])
                models += [
                    m for m in attempt(job, folder).values() if _is_believed(m, pairs, cameras)
                ]
        best = max(
            [*models, *([best] if best else [])], key=lambda m: _quality(m, pairs), default=None
        )
        _write_outcome(job, best, summary, pairs)
        # Models that have nearly all images between them are several scenes.
        registered = {m.images[i].name for m in models for i in m.reg_image_ids()}
        if len(registered) >= total - total // IMAGES_PER_UNREGISTERED:
            if summary["agreement"] >= MIN_AGREEMENT:
                break
            # The focal length is wrong rather than the thresholds too strict.
            remaining.sort(key=lambda attempts: _global not in attempts)


def _keep_moving_matches(job: Job) -> bool:
    """Drop the matches of a static background behind an object on a turntable, if there is one."""
    with pycolmap.Database.open(job["database"]) as database:
        is_static: bool = has_static_background(database)
    if is_static:
        drop_static_matches(job)
    return is_static


def _is_believed(model: Any, pairs: list[Pair], priors: dict[int, Any]) -> bool:
    """Drop the photos of a model that are not believed, and return whether there is a rest."""
    drop_bad_photos(model, pairs)
    return bool(
        model.num_reg_images() > 1
        and model.num_points3D() >= MIN_MODEL_POINTS
        and has_plausible_focals(model, priors)
    )


def _quality(model: Any, pairs: list[Pair]) -> tuple[int, int, int]:
    return len(certain_photos(model, pairs)), model.num_reg_images(), model.num_points3D()


def _write_outcome(job: Job, best: Any, summary: dict[str, Any], pairs: list[Pair]) -> None:
    """Write the best model so far, and a summary."""
    if best is not None:
        model = pycolmap.Reconstruction(best)
        enough_points = model.num_points3D() >= MIN_DISTORTION_POINTS
        if 2 < model.num_reg_images() <= FEW_IMAGES and enough_points:
            options = pycolmap.BundleAdjustmentOptions()
            options.ceres.solver_options.num_threads = 1
            pycolmap.bundle_adjustment(model, options)
        summary["num_registered"] = model.num_reg_images()
        summary["num_points"] = model.num_points3D()
        summary |= facts_of(model, pairs, job["originals"])
        shutil.rmtree(job["model"], ignore_errors=True)
        _write_model(model, job["originals"], Path(job["model"]))
    _write_summary(job, summary)


def _write_summary(job: Job, summary: dict[str, Any]) -> None:
    Path(job["summary"]).write_text(json.dumps(summary), encoding="utf-8")


def _largest_group(job: Job) -> tuple[list[str], int]:
    """Return the names of the largest connected group of images, and the number of matched pairs.

    Images are connected by verified matches.
    """
    with pycolmap.Database.open(job["database"]) as database:
        pair_ids, geometries = database.read_two_view_geometries()
        names = {image.image_id: image.name for image in database.read_all_images()}
    matched = [i for i, g in zip(pair_ids, geometries, strict=True) if len(g.inlier_matches) > 0]
    group_of = {image_id: {image_id} for image_id in names}
    for a, b in map(pycolmap.pair_id_to_image_pair, matched):
        if group_of[a] is not group_of[b]:
            small, large = sorted((group_of[a], group_of[b]), key=len)
            large |= small
            group_of.update(dict.fromkeys(small, large))
    largest = max(group_of.values(), key=lambda group: (len(group), -min(group)))
    return sorted(names[image_id] for image_id in largest), len(matched)


def _incremental(job: Job, folder: Path) -> Models:
    options = _incremental_options(job)
    return pycolmap.incremental_mapping(job["database"], job["images"], folder, options)


def _relaxed(job: Job, folder: Path) -> Models:
    """Map with relaxed thresholds, keeping points that only two images see."""
    options = _incremental_options(job)
    options.triangulation.ignore_two_view_tracks = False
    for name, value in RELAXED_MAPPER_OPTIONS.items():
        setattr(options.mapper, name, value)
    if len(job["names"]) <= FEW_IMAGES:
        options.ba_refine_extra_params = False
        options.mapper.abs_pose_refine_extra_params = False
    return pycolmap.incremental_mapping(job["database"], job["images"], folder, options)


def _relaxed_wide(job: Job, folder: Path) -> Models:
    """Map with relaxed thresholds and a shorter initial focal length where it is unknown."""
    return _relaxed(job, folder) if _start_wide(job) else {}


def _start_wide(job: Job) -> bool:
    """Shorten the initial focal lengths that are unknown, and return whether there are any."""
    unknown = False
    with pycolmap.Database.open(job["database"]) as database:
        for camera in database.read_all_cameras():
            if not camera.has_prior_focal_length:
                unknown = True
                camera.params[0] = WIDE_FOCAL_RATIO * max(camera.width, camera.height)
                database.update_camera(camera)
    return unknown


def _incremental_options(job: Job) -> Any:
    # One thread: sums in another order would give slightly different cameras in every run.
    return pycolmap.IncrementalPipelineOptions(
        min_model_size=2,
        max_num_models=5,
        random_seed=job["seed"],
        num_threads=1,
        image_names=job["names"],
        max_runtime_seconds=job["map_seconds"],
        extract_colors=False,
    )


def _global(job: Job, folder: Path) -> Models:
    """Map all images at once, with initial focal lengths that are those of most cameras."""
    _start_wide(job)
    options = pycolmap.GlobalPipelineOptions(
        min_model_size=2, random_seed=job["seed"], num_threads=1, image_names=job["names"]
    )
    return pycolmap.global_mapping(job["database"], job["images"], folder, options)


# The attempts of one group are compared; the next group runs only if too many are unregistered.
ATTEMPTS: tuple[tuple[Callable[[Job, Path], Models], ...], ...]
ATTEMPTS = ((_incremental,), (_relaxed,), (_global,))
FEW_IMAGES_ATTEMPTS = ((_relaxed, _relaxed_wide), (_global,))


def _write_model(model: Any, originals: dict[str, Any], folder: Path) -> None:
    """Write a model with the names and sizes of the original photos, and +y down."""
    factors = {}
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
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
    _align_down(model, {o["name"]: o["down"] for o in originals.values()})
    model.update_point_3d_errors()
    folder.mkdir()
    model.write(folder)


def _align_down(model: Any, downs: dict[str, Any]) -> None:
    """Rotate the world so that +y is down.

    Photos are held level more often than they look straight ahead. So down is the direction
    orthogonal to the horizontal axes of all images, as far as these axes differ, and otherwise the
    mean down direction of the images (least squares with weight DOWN_WEIGHT).
    """
    outer, mean = np.zeros((3, 3)), np.zeros(3)
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        x, y = downs[image.name]
        world_from_cam = image.cam_from_world().rotation.matrix().T
        horizontal = world_from_cam @ [y, -x, 0]
        outer += np.outer(horizontal, horizontal) / model.num_reg_images()
        mean += world_from_cam @ [x, y, 0] / model.num_reg_images()
    down = np.linalg.solve(outer + DOWN_WEIGHT * np.eye(3), mean)
    down = down / max(float(np.linalg.norm(down)), 1e-12)
    ahead = np.array([0.0, 0.0, 1.0]) - down[2] * down
    if np.linalg.norm(ahead) < 0.1:
        ahead = np.array([1.0, 0.0, 0.0]) - down[0] * down
    ahead /= np.linalg.norm(ahead)
    rotation = pycolmap.Rotation3d(np.stack([np.cross(down, ahead), down, ahead]))
    model.transform(pycolmap.Sim3d(1.0, rotation, np.zeros(3)))


if __name__ == "__main__":
    map_scene(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
