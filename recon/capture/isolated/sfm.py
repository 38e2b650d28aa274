"""Stand-alone script: structure from motion with COLMAP, one stage a call.

Usage: sfm.py features|match|map JOB.json

It runs in a process of its own because pycolmap beside torch corrupted the heap in trials; it
imports nothing of recon. The stages share the database that the job names.
"""

import json
import sys
from pathlib import Path
from typing import Any


def features(job: dict[str, Any]) -> None:
    """Cameras, images and SIFT features into the database."""
    import pycolmap

    for group in job["groups"]:
        options = pycolmap.ImageReaderOptions(camera_model=job["lens"])
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

    models: list[Any] = []
    total = sum(len(group["names"]) for group in job["groups"])
    for attempt in (_incremental, _patient, _global):
        # Global mapping needs three photos.
        if attempt is _global and total < 3:
            break
        folder = Path(job["database"]).parent / attempt.__name__
        folder.mkdir()
        pycolmap.set_random_seed(job["seed"])
        models += attempt(job, folder).values()
        if any(model.num_reg_images() == total for model in models):
            break
    best = max(models, key=lambda m: (m.num_reg_images(), m.num_points3D()), default=None)
    placed = 0
    if best is not None:
        placed = best.num_reg_images()
        _write_model(best, job["originals"], Path(job["model"]))
    Path(job["summary"]).write_text(json.dumps({"placed": placed}), encoding="utf-8")


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
    folder.mkdir()
    model.write(folder)


if __name__ == "__main__":
    STAGES = {"features": features, "match": match, "map": map_scene}
    STAGES[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
