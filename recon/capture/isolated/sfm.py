"""Stand-alone script: structure from motion with COLMAP, one stage a call.

Usage: sfm.py features|match|map JOB.json

It runs in a process of its own because pycolmap beside torch corrupted the heap in trials; it
imports nothing of recon. The stages share the database that the job names.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any


def features(job: dict[str, Any]) -> None:
    """Cameras, images and SIFT features into the database."""
    import pycolmap

    for group in job["groups"]:
        options = pycolmap.ImageReaderOptions(camera_model=group["model"])
        if group["focal_px"] is not None:
            middle = [0.5 * group["width"], 0.5 * group["height"]]
            values = [group["focal_px"], *middle, 0.0]
            options.camera_params = ",".join(map(str, values))
        extraction = pycolmap.FeatureExtractionOptions(max_image_size=job["max_size"])
        pycolmap.extract_features(
            job["database"], job["images"], group["names"], pycolmap.CameraMode.SINGLE, options,
            extraction, pycolmap.Device.cpu,
        )  # fmt: skip


def match(job: dict[str, Any]) -> None:
    """Matches between all pairs, and what geometry says of them."""
    import pycolmap

    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job["seed"]
    pycolmap.match_exhaustive(
        job["database"], verification_options=verification, device=pycolmap.Device.cpu
    )


def map_scene(job: dict[str, Any]) -> None:
    """The attempt that places the most images, as a COLMAP model of the original pictures."""
    import pycolmap

    best, total = None, sum(len(group["names"]) for group in job["groups"])
    for name, attempt in (("default", _strict), ("patient", _patient), ("global", _global)):
        folder = Path(job["database"]).parent / name
        folder.mkdir(exist_ok=True)
        pycolmap.set_random_seed(job["seed"])
        models = attempt(job, folder) if name != "global" or total > 2 else {}
        for model in models.values():
            rank = (model.num_reg_images(), model.num_points3D())
            if best is None or rank > best[0]:
                best = (rank, name, model)
        if best is not None and best[0][0] == total:
            break
    summary: dict[str, Any] = {"placed": 0}
    if best is not None:
        _, name, model = best
        summary = {
            "placed": model.num_reg_images(),
            "points": model.num_points3D(),
            "error_px": model.compute_mean_reprojection_error(),
            "attempt": name,
        }
        _write_model(model, job["originals"], Path(job["model"]))
    Path(job["summary"]).write_text(json.dumps(summary), encoding="utf-8")


def _strict(job: dict[str, Any], folder: Path) -> dict:
    return _incremental(job, folder)


def _patient(job: dict[str, Any], folder: Path) -> dict:
    """Few photos, far apart or close together."""
    return _incremental(
        job, folder, init_min_tri_angle=3.0, init_min_num_inliers=30, abs_pose_min_num_inliers=15,
        abs_pose_min_inlier_ratio=0.1, init_max_reg_trials=5, filter_min_tri_angle=0.5,
    )  # fmt: skip


def _incremental(job: dict[str, Any], folder: Path, **mapper: float) -> dict:
    import pycolmap

    # One thread: sums in another order would place cameras differently every time.
    options = pycolmap.IncrementalPipelineOptions(
        min_model_size=2, max_num_models=5, random_seed=job["seed"], num_threads=1,
        max_runtime_seconds=job["map_seconds"], extract_colors=False,
    )  # fmt: skip
    for name, value in mapper.items():
        setattr(options.mapper, name, value)
    return pycolmap.incremental_mapping(job["database"], job["images"], folder, options)


def _global(job: dict[str, Any], folder: Path) -> dict:
    import pycolmap

    options = pycolmap.GlobalPipelineOptions(
        min_model_size=2, random_seed=job["seed"], num_threads=1
    )
    return pycolmap.global_mapping(job["database"], job["images"], folder, options)


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
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.write(folder)


if __name__ == "__main__":
    STAGES = {"features": features, "match": match, "map": map_scene}
    STAGES[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
