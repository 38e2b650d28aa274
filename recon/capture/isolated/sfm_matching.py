"""Write features and verified matches into a COLMAP database.

Usage: sfm_matching.py features|match|import JOB.json

`features` extracts SIFT features, `match` matches a list of pairs by them, and `import` reads
keypoints and matches of another matcher instead. The steps share the database that the job names.

This script runs in a separate process, because importing torch before pycolmap crashes
(colmap/colmap#3477), and imports nothing from recon.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

# Learned matches between unrelated photos agree on an epipolar geometry by chance more often than
# SIFT matches do: three images of noise got up to 29 inliers.
MIN_LEARNED_INLIERS = 40


def extract_features(job: dict[str, Any]) -> None:
    """Write cameras, images and SIFT features into the database."""
    _register(job)
    extraction = pycolmap.FeatureExtractionOptions(max_image_size=job["max_size"])
    extraction.sift.max_num_features = job["max_features"]
    for group in job["groups"]:
        options = _reader_options(job, group)
        if job["masks"]:
            options.mask_path = job["masks"]
        pycolmap.extract_features(
            job["database"],
            job["images"],
            group["names"],
            pycolmap.CameraMode.SINGLE,
            options,
            extraction,
            pycolmap.Device.cpu,
        )


def _register(job: dict[str, Any]) -> None:
    """Write cameras and images into the database, in order.

    The threads of the feature extraction would number them differently in every run, and the
    solved cameras would differ slightly.
    """
    pycolmap.Database.open(job["database"]).close()
    for group in job["groups"]:
        pycolmap.import_images(
            job["database"],
            job["images"],
            pycolmap.CameraMode.SINGLE,
            group["names"],
            _reader_options(job, group),
        )


def _reader_options(job: dict[str, Any], group: dict[str, Any]) -> Any:
    options = pycolmap.ImageReaderOptions(camera_model=job["camera_model"])
    if group["focal_px"] is not None:
        center = [0.5 * group["width"], 0.5 * group["height"]]
        params = [group["focal_px"], *center, 0.0]
        options.camera_params = ",".join(map(str, params))
    return options


def match(job: dict[str, Any]) -> None:
    """Match the pairs of images in the list, and verify the matches geometrically.

    By one thread each: the OpenBLAS of pycolmap is built without locks, and gives two threads the
    same memory now and then (4 to 15 of 100,000 small products are wrong then). So the search
    indices, and with them a few matches, would differ from run to run.
    """
    pycolmap.match_image_pairs(
        job["database"],
        matching_options=pycolmap.FeatureMatchingOptions(num_threads=1),
        pairing_options=pycolmap.ImportedPairingOptions(match_list_path=job["pairs"]),
        verification_options=_verification_options(job),
        device=pycolmap.Device.cpu,
    )


def _verification_options(job: dict[str, Any]) -> Any:
    options = pycolmap.TwoViewGeometryOptions()
    options.ransac.random_seed = job["seed"]
    return options


def import_matches(job: dict[str, Any]) -> None:
    """Import the keypoints and matches of an .npz file, and verify the matches geometrically."""
    _register(job)
    arrays, pairs = np.load(job["keypoints"], allow_pickle=False), []
    with pycolmap.Database.open(job["database"]) as database:
        ids = {image.name: image.image_id for image in database.read_all_images()}
        for key in arrays.files:
            kind, *names = key.split("|")
            if kind == "keypoints":
                database.write_keypoints(ids[names[0]], arrays[key])
            else:
                database.write_matches(ids[names[0]], ids[names[1]], arrays[key])
                pairs.append(" ".join(names) + "\n")
    pairs_file = Path(job["database"]).with_suffix(".pairs")
    pairs_file.write_text("".join(pairs), encoding="utf-8")
    verification = _verification_options(job)
    verification.min_num_inliers = MIN_LEARNED_INLIERS
    pycolmap.verify_matches(job["database"], pairs_file, verification)


STEPS = {"features": extract_features, "match": match, "import": import_matches}

if __name__ == "__main__":
    STEPS[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")))
