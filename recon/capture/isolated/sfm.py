"""Stand-alone script: features and matches with COLMAP, one stage a call.

Usage: sfm.py features|match|import JOB.json

It runs in a process of its own because pycolmap beside torch corrupted the heap in trials; it
imports nothing of recon. The stages share the database that the job names.
"""

import json
import sys
from pathlib import Path
from typing import Any

# Learned matches between photos of different things agree by chance more often than SIFT's do.
MIN_LEARNED = 40


def features(job: dict[str, Any]) -> None:
    """Cameras, images and SIFT features into the database."""
    import pycolmap

    _register(job)
    extraction = pycolmap.FeatureExtractionOptions(max_image_size=job["max_size"])
    extraction.sift.max_num_features = job["max_features"]
    for group in job["groups"]:
        pycolmap.extract_features(
            job["database"], job["images"], group["names"], pycolmap.CameraMode.SINGLE,
            _reader(job, group), extraction, pycolmap.Device.cpu,
        )  # fmt: skip


def _register(job: dict[str, Any]) -> None:
    """Cameras and images, in order: left to the extraction's threads, they would have other
    numbers every time, and cameras would come out slightly otherwise."""
    import pycolmap

    pycolmap.Database.open(job["database"]).close()
    for group in job["groups"]:
        pycolmap.import_images(
            job["database"], job["images"], pycolmap.CameraMode.SINGLE, group["names"],
            _reader(job, group),
        )  # fmt: skip


def _reader(job: dict[str, Any], group: dict[str, Any]) -> Any:
    import pycolmap

    options = pycolmap.ImageReaderOptions(camera_model=job["lens"])
    if group["focal_px"] is not None:
        middle = [0.5 * group["width"], 0.5 * group["height"]]
        values = [group["focal_px"], *middle, 0.0]
        options.camera_params = ",".join(map(str, values))
    return options


def match(job: dict[str, Any]) -> None:
    """Matches between all pairs, and what geometry says of them."""
    import pycolmap

    pycolmap.match_exhaustive(
        job["database"], verification_options=_verification(job), device=pycolmap.Device.cpu
    )


def _verification(job: dict[str, Any]) -> Any:
    import pycolmap

    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = job["seed"]
    return options


def import_matches(job: dict[str, Any]) -> None:
    """Cameras, images, and the keypoints and matches of the .npz that the job names, into the
    database; and what geometry says of them."""
    import numpy as np
    import pycolmap

    _register(job)
    found, pairs = np.load(job["keypoints"], allow_pickle=False), []
    with pycolmap.Database.open(job["database"]) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for key in found.files:
            kind, *names = key.split("|")
            if kind == "keypoints":
                database.write_keypoints(ids[names[0]], found[key])
            else:
                database.write_matches(ids[names[0]], ids[names[1]], found[key])
                pairs.append(" ".join(names) + "\n")
    listed = Path(job["database"]).with_suffix(".pairs")
    listed.write_text("".join(pairs), encoding="utf-8")
    verification = _verification(job)
    verification.min_num_inliers = MIN_LEARNED
    pycolmap.verify_matches(job["database"], listed, verification)


if __name__ == "__main__":
    STAGES = {
        "features": features,
        "match": match,
        "import": import_matches,
    }
    STAGES[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
