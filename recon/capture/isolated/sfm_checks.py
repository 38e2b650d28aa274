"""Checks of photos before they are mapped, and of solved cameras, on a COLMAP database.

Photos are checked by matches: a camera that only rotated shifts them like a rotation, and a static
background behind an object on a turntable leaves them where they are. Solved cameras are checked by
their points, by their positions, and by the verified matches that did not become points.

Used by scripts that run in a separate process, and imports nothing from recon. pycolmap is imported
where it is needed, so that the rest can be tested beside torch.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

# Photos with fewer points are dropped: their pose is that of chance matches.
MIN_PHOTO_POINTS = 12
# A photo is dropped if it stands this many times farther from the median camera than three quarters
# of the cameras and of their depths.
MAX_DISTANCE_RATIO = 30.0
# Photos are dropped if fewer of their verified matches with other solved photos agree with the
# solved cameras, and these matches count if there are at least MIN_CHECKED_MATCHES.
MIN_AGREEMENT, MIN_CHECKED_MATCHES = 0.4, 30
# Largest distance of a match from its epipolar line (px), as in the verification.
MAX_EPIPOLAR_PX = 4.0
# Focal lengths over the long side of the photo that are believed without EXIF (fields of view of
# 127 to 8 degrees), and the largest factor between that of EXIF and the solved one.
MIN_FOCAL_RATIO, MAX_FOCAL_RATIO, MAX_EXIF_FACTOR = 0.25, 7.0, 1.6
# Photos are named as uncertain below this agreement with those that are not: the right cameras of a
# round tower agree to 0.99 with each other, and wrong ones to 0.44 to 0.76 with what is left.
CERTAIN_AGREEMENT = 0.8
# Number of points that the parallax is measured at.
MAX_MEASURED_POINTS = 2000
# A camera only rotated if a rotation brings this fraction of matches within MAX_ROTATION_ERROR of
# the long side, for one of these focal lengths over the long side and radial distortions.
ROTATION_FRACTION, MAX_ROTATION_ERROR = 0.92, 1.5e-3
ROTATION_FOCALS, ROTATION_DISTORTIONS = np.geomspace(0.5, 2.5, 21), (0.0, -0.08, 0.08, -0.2)
MAX_ROTATION_PAIRS, MAX_ROTATION_MATCHES = 24, 150
# Matches that move less stay where they are (px), and those between the other limits are neither.
STATIC_PX, NEITHER_PX = 1.5, (3.0, 6.0)
# A pair has a static background if at least MIN_STATIC matches stay, this fraction of all, and this
# many times as many as are neither. The capture has one if half of its pairs have.
MIN_STATIC, STATIC_FRACTION, STATIC_CONTRAST = 15, 0.1, 3.0


# Ids of two images, and the numbers of their verified matches and of those that agree with cameras.
Agreement = tuple[tuple[int, int], int, int]


@dataclass(frozen=True)
class Pair:
    """Matches of two images, in pixels [m 2]."""

    ids: tuple[int, int]
    first: Float[np.ndarray, "m 2"]
    second: Float[np.ndarray, "m 2"]


def verified_pairs(database: Any) -> list[Pair]:
    """Return the verified matches of all pairs that have any."""
    pair_ids, geometries = database.read_two_view_geometries()
    found = ((i, geometry.inlier_matches) for i, geometry in zip(pair_ids, geometries, strict=True))
    return _pairs(database, found)


def _pairs(database: Any, matches: Any) -> list[Pair]:
    import pycolmap

    keypoints: dict[int, np.ndarray] = {}
    pairs = []
    for pair_id, rows in matches:
        if len(rows) == 0:
            continue
        a, b = pycolmap.pair_id_to_image_pair(pair_id)
        ids = int(a), int(b)
        for image_id in ids:
            if image_id not in keypoints:
                keypoints[image_id] = np.asarray(database.read_keypoints(image_id))[:, :2]
        first, second = (keypoints[i][rows[:, k]].astype(float) for k, i in enumerate(ids))
        pairs.append(Pair(ids, first, second))
    return pairs


def has_static_background(database: Any) -> bool:
    """Return whether matches do not move in half of the pairs, while others do in some of them."""
    pairs = _pairs(database, zip(*database.read_all_matches(), strict=True))
    num_static = num_mixed = 0
    for pair in pairs:
        moved = np.linalg.norm(pair.first - pair.second, axis=1)
        stay = int((moved < STATIC_PX).sum())
        neither = int(((moved >= NEITHER_PX[0]) & (moved < NEITHER_PX[1])).sum())
        away = int((moved >= NEITHER_PX[1]).sum())
        many = max(MIN_STATIC, STATIC_FRACTION * len(moved), STATIC_CONTRAST * neither)
        num_static += stay >= many
        num_mixed += stay >= many and away >= MIN_STATIC
    num_images = len({image_id for pair in pairs for image_id in pair.ids})
    return num_mixed > 0 and 2 * num_static >= len(pairs) and 2 * num_mixed >= num_images


def drop_static_matches(job: dict[str, Any]) -> None:
    """Verify all matches again, without those that do not move."""
    import pycolmap

    with pycolmap.Database.open(job["database"]) as database:
        names = {image.image_id: image.name for image in database.read_all_images()}
        pair_ids, _ = database.read_all_matches()
        database.clear_two_view_geometries()
    ids = map(pycolmap.pair_id_to_image_pair, pair_ids)
    lines = [f"{names[a]} {names[b]}\n" for a, b in ids]
    file = Path(job["database"]).with_suffix(".moving")
    file.write_text("".join(lines), encoding="utf-8")
    options = pycolmap.TwoViewGeometryOptions(filter_stationary_matches=True)
    options.ransac.random_seed = job["seed"]
    pycolmap.verify_matches(job["database"], file, options)


def only_rotated(pairs: list[Pair], cameras: dict[int, Any]) -> bool:
    """Return whether rotations of the camera explain the matches of all pairs.

    Args:
        pairs: Verified matches.
        cameras: Camera of each image, by its id.
    """
    chosen = pairs[:: -(-len(pairs) // MAX_ROTATION_PAIRS) or 1]
    if not chosen:
        return False
    best = 0.0
    for focal in ROTATION_FOCALS:
        for distortion in ROTATION_DISTORTIONS:
            fractions = [_rotation_fraction(p, cameras, focal, distortion) for p in chosen]
            best = max(best, float(np.mean(fractions)))
    return best >= ROTATION_FRACTION


def _rotation_fraction(
    pair: Pair, cameras: dict[int, Any], focal: float, distortion: float
) -> float:
    """Return the fraction of matches that the best rotation brings together."""
    step = -(-len(pair.first) // MAX_ROTATION_MATCHES)
    rays = []
    for image_id, pixels in zip(pair.ids, (pair.first, pair.second), strict=True):
        camera = cameras[image_id]
        long_side = max(camera.width, camera.height)
        if camera.has_prior_focal_length:
            focal = camera.params[0] / long_side
        plane = (pixels[::step] - [camera.width / 2, camera.height / 2]) / (focal * long_side)
        plane = plane * (1 - distortion * (plane**2).sum(1, keepdims=True))
        ray = np.concatenate([plane, np.ones((len(plane), 1))], 1)
        rays.append(ray / np.linalg.norm(ray, axis=1, keepdims=True))
    kept = np.ones(len(rays[0]), bool)
    error = np.zeros(len(kept))
    # Once with all matches, and twice without those that fit worst.
    for _ in range(3):
        u, _, vt = np.linalg.svd(rays[1][kept].T @ rays[0][kept])
        rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
        error = np.linalg.norm(rays[0] @ rotation.T - rays[1], axis=1) * focal
        kept = error <= np.median(error) * 2 + 1e-12
    return float((error <= MAX_ROTATION_ERROR).mean())


def drop_bad_photos(model: Any, pairs: list[Pair]) -> dict[str, str]:
    """Remove the photos of a model whose cameras are not believed.

    Returns:
        The names of these images, and why they are not believed.
    """
    dropped: dict[str, str] = {}
    while True:
        found = _bad_photos(model, pairs)
        for image_id, reason in found.items():
            image = model.images[image_id]
            dropped[image.name] = reason
            model.deregister_frame(image.frame_id)
        if not found or model.num_reg_images() < 2:
            return dropped


def _bad_photos(model: Any, pairs: list[Pair]) -> dict[int, str]:
    """Return the images of the worst kind that there is."""
    images = {i: model.images[i] for i in sorted(model.reg_image_ids())}
    points = {i: image.num_points3D for i, image in images.items()}
    few = {i: f"{n} points" for i, n in points.items() if n < MIN_PHOTO_POINTS}
    if few:
        return few
    centers = np.array([image.projection_center() for image in images.values()])
    from_median = np.linalg.norm(centers - np.median(centers, axis=0), axis=1)
    limit = MAX_DISTANCE_RATIO * max(
        float(np.quantile(from_median, 0.75)), np.median([_depth(model, i) for i in images])
    )
    far = {i: "far away" for i, d in zip(images, from_median, strict=True) if d > limit}
    if far:
        return far
    worst = min(photo_agreement(model, pairs).items(), key=lambda item: item[1], default=None)
    if worst is not None and worst[1] < MIN_AGREEMENT:
        return {worst[0]: f"{100 * worst[1]:.0f} % of its matches agree"}
    return {}


def has_plausible_focals(model: Any, priors: dict[int, Any]) -> bool:
    """Return whether the focal lengths of solved cameras can be true.

    Args:
        model: Solved cameras.
        priors: For each image the camera as it was before, with a focal length by EXIF, if any.
    """
    for image_id in model.reg_image_ids():
        camera, prior = model.cameras[model.images[image_id].camera_id], priors[image_id]
        ratio = camera.mean_focal_length() / max(camera.width, camera.height)
        if not MIN_FOCAL_RATIO <= ratio <= MAX_FOCAL_RATIO:
            return False
        if prior.has_prior_focal_length:
            factor = camera.mean_focal_length() / prior.mean_focal_length()
            if not 1 / MAX_EXIF_FACTOR <= factor <= MAX_EXIF_FACTOR:
                return False
    return True


def certain_photos(model: Any, pairs: list[Pair]) -> set[str]:
    """Return the names of the solved images that enough of their matches agree with."""
    uncertain = _uncertain(_agreements(model, pairs))
    return {model.images[i].name for i in set(model.reg_image_ids()) - set(uncertain)}


def _uncertain(agreements: list[Agreement]) -> list[int]:
    """Return the images that too few of their matches agree with, in order.

    The worst is left out until all others agree, since a wrong camera contradicts right ones, too.
    If no two are left, all are returned.
    """
    uncertain: set[int] = set()
    while True:
        rest = [found for found in agreements if uncertain.isdisjoint(found[0])]
        by_photo = _by_photo(rest)
        worst = min(by_photo, key=lambda image_id: by_photo[image_id], default=None)
        if worst is None:
            return sorted({i for ids, _, _ in agreements for i in ids} if uncertain else ())
        if by_photo[worst] >= CERTAIN_AGREEMENT:
            return sorted(uncertain)
        uncertain.add(worst)


def facts_of(model: Any, pairs: list[Pair], originals: dict[str, Any]) -> dict[str, Any]:
    """Return what the user should know of solved cameras.

    Args:
        model: Solved cameras.
        pairs: Verified matches.
        originals: What is known of the photo of each image, by the name of the image.
    """
    registered = sorted(model.reg_image_ids())
    agreements = _agreements(model, pairs)
    agreement = _by_photo(agreements)
    uncertain = [model.images[i].name for i in _uncertain(agreements)]
    return {
        "uncertain": [originals[name]["name"] for name in uncertain],
        "agreement": float(np.mean(list(agreement.values()) or [1.0])),
        "parallax_deg": _parallax_deg(model),
        "points_per_photo": float(np.median([model.images[i].num_points3D for i in registered])),
    }


def _parallax_deg(model: Any) -> float:
    """Return the median over points of the largest angle between two rays to a point (degrees)."""
    centers = {i: model.images[i].projection_center() for i in model.reg_image_ids()}
    ids = sorted(model.point3D_ids())
    angles = []
    for point_id in ids[:: -(-len(ids) // MAX_MEASURED_POINTS) or 1]:
        point = model.points3D[point_id]
        rays = np.array([centers[e.image_id] - point.xyz for e in point.track.elements])
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
        angles.append(np.degrees(np.arccos(np.clip(rays @ rays.T, -1, 1).min())))
    return float(np.median(angles)) if angles else 0.0


def _depth(model: Any, image_id: int) -> float:
    """Return the median distance of the points that an image sees."""
    image = model.images[image_id]
    ids = [point.point3D_id for point in image.points2D if point.has_point3D()]
    positions = np.array([model.points3D[i].xyz for i in ids])
    return float(np.median(np.linalg.norm(positions - image.projection_center(), axis=1)))


def photo_agreement(model: Any, pairs: list[Pair]) -> dict[int, float]:
    """Return for each image the fraction of verified matches that agree with the solved cameras."""
    return _by_photo(_agreements(model, pairs))


def _agreements(model: Any, pairs: list[Pair]) -> list[Agreement]:
    """Return the number of agreeing matches of each pair of solved images."""
    registered = set(model.reg_image_ids())
    return [
        (pair.ids, len(pair.first), int((epipolar_error(model, pair) <= MAX_EPIPOLAR_PX).sum()))
        for pair in pairs
        if registered.issuperset(pair.ids)
    ]


def _by_photo(agreements: list[Agreement]) -> dict[int, float]:
    """Return the fraction of agreeing matches of each image that has enough of them."""
    total: Counter[int] = Counter()
    agreeing: Counter[int] = Counter()
    for ids, count, good in agreements:
        for image_id in ids:
            total[image_id] += count
            agreeing[image_id] += good
    return {i: agreeing[i] / n for i, n in total.items() if n >= MIN_CHECKED_MATCHES}


def epipolar_error(model: Any, pair: Pair) -> Float[np.ndarray, " m"]:
    """Return the Sampson error of each match (px)."""
    images = [model.images[i] for i in pair.ids]
    cameras = [model.cameras[image.camera_id] for image in images]
    relative = images[1].cam_from_world() * images[0].cam_from_world().inverse()
    x, y, z = relative.translation / max(float(np.linalg.norm(relative.translation)), 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    essential = cross @ relative.rotation.matrix()
    rays = []
    for camera, pixels in zip(cameras, (pair.first, pair.second), strict=True):
        plane = np.asarray(camera.cam_from_img(pixels))
        rays.append(np.concatenate([plane, np.ones((len(plane), 1))], 1))
    lines = rays[0] @ essential.T, rays[1] @ essential
    slopes = sum((line[:, :2] ** 2).sum(1) for line in lines)
    error = np.abs((lines[0] * rays[1]).sum(1)) / np.sqrt(np.maximum(slopes, 1e-24))
    focal = 0.5 * sum(camera.mean_focal_length() for camera in cameras)
    return np.asarray(np.nan_to_num(error * focal, nan=np.inf))
