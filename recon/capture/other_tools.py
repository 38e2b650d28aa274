"""Cameras that other tools export: Metashape, RealityCapture, Polycam, Record3D and Bundler.

- Metashape's cameras.xml (manual, appendix D): camera-to-world, OpenCV axes; Brown's distortion
  with the tangential terms in the other order than OpenCV's. The frame is that of the chunk.
- RealityCapture's and RealityScan's "Internal/External camera parameters" (CSV): positions; the
  rotation Rz(-heading) Rx(pitch) Ry(roll) of camera-to-world with OpenGL axes, degrees; the focal
  length for a sensor 36 mm wide; the principal point from the middle, over the long side; Brown's
  distortion. Nerfstudio and Brush read it so.
- Polycam's keyframes/cameras/NAME.json: camera-to-world with OpenGL axes, intrinsics in pixels.
- Record3D's metadata: quaternions (xyzw) and positions of camera-to-world with OpenGL axes; one
  calibration matrix, column by column.
- Bundler's bundle.out with list.txt (manual, Snavely 2008): world-to-camera with OpenGL axes, focal
  length and two radial terms about the middle of the image.
"""

import contextlib
import csv
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float

from recon.capture.geometry import (
    Intrinsics,
    c2w_from_viewmat,
    canonical_distortion,
    checked_K,
    viewmat_from_c2w,
)
from recon.capture.images import list_images
from recon.capture.names import find_photos, name_below
from recon.capture.orientation import fits_oriented, size_for_center
from recon.capture.text import read_json, read_text, text_head
from recon.capture.types import Capture, Frame, FrameCamera
from recon.capture.valid_frames import valid_frames
from recon.errors import InputError, listed, warn
from recon.formats.y_up import OPENGL_FLIP
from render.quaternions import quats_to_rotmats

Reader = Callable[[], Capture]
# Names of photos, and functions that read their cameras.
Shots = Sequence[tuple[str, Callable[[], "_Shot"]]]
# Files that may hold cameras and are not read: other tables of RealityCapture, Metashape,
# VisualSFM, Pix4D, Meshroom, OpenMVG, OpenSfM, trained scenes, IDR and DTU, SDFStudio, NeRF++,
# Nerfies, TUM RGB-D, Open3D, Tanks and Temples, 3D Scanner App, Replica, ScanNet, MVSNet, Alembic,
# Pix4D's OPF, OpenMVS, Middlebury, OpenDroneMap and EuRoC.
NOT_READ = (
    "*.csv", "*.xmp", "*.rcproj", "*.psx", "*.xml", "*.nvm", "*.out", "*.p4d",
    "*_calibrated_*camera_parameters*.txt", "*.sfm", "sfm_data.json", "reconstruction.json",
    "cameras.json", "cameras.npz", "cameras_sphere.npz", "meta_data.json", "cam_dict_norm.json",
    "camera/*.json", "groundtruth.txt", "trajectory.log", "*_SfM.log", "frame_*.json", "traj*.txt",
    "pose/*.txt", "poses/*.txt", "cams/*_cam.txt", "*.abc", "*.opf", "*.opk", "*.mvs", "*_par.txt",
    "sfm_data.bin", "opensfm/reconstruction.json", "mav0/cam*/data.csv",
)  # fmt: skip
# Names of further files that may hold cameras, of one or of all photos.
NAMED_CAMERAS = re.compile(
    r"(?i)(?:.*[^a-z])?(?:poses?|cameras?|cams?|extrinsics?|intrinsics?|trajector(?:y|ies)|"
    r"odometry|calib(?:ration)?)(?:[^a-z].*)?\.(?:txt|json|npy|npz|ya?ml|log|fbx|dat)"
)
# Columns that RealityCapture's table of cameras has, by which it is known, and others that it may
# have.
TABLE_COLUMNS = ("name", "x", "y", "alt", "heading", "pitch", "roll")
LENS_COLUMNS = ("px", "py", "k1", "k2", "t1", "t2", "k3", "k4")
R3D_FOLDERS = ("rgb", "rgbd")
# Width of the sensor that focal lengths are given for (mm).
SENSOR_MM = 36.0
# Positions in degrees are this much closer together than their altitudes, which are in metres.
MIN_DEGREE_RATIO = 1000.0
READ = (
    "transforms.json, COLMAP, poses_bounds.npy, Metashape's cameras.xml, RealityCapture's "
    "Internal/External camera parameters (.csv), Polycam's keyframes, Record3D's metadata.json and "
    "bundle.out with list.txt"
)


@dataclass(frozen=True)
class _Shot:
    """Camera of a photo as a file gives it."""

    c2w: Float[np.ndarray, "4 4"]
    """OpenCV axes."""
    focal: tuple[float, float]
    center: tuple[float, float] | None = None
    """None is the middle of the photo."""
    size: tuple[int, int] | None = None
    """(width, height); None is that of the photo."""
    coefficients: tuple[float, ...] = ()
    """k1 k2 p1 p2 k3 of OpenCV's model."""
    is_relative: bool = False
    """Whether the focal length and the principal point, which then counts from the middle, are
    fractions of the long side of the photo."""


def find_other_cameras(folder: Path, photos: bool = True) -> list[tuple[str, Reader]]:
    """Return the files of other tools with cameras in a folder, with functions that read them.

    Args:
        folder: Folder that they are in.
        photos: Whether the photos must exist. Without them the file must give their sizes.
    """
    found: list[tuple[str, Reader]] = []
    for path in sorted(folder.glob("*.[xX][mM][lL]")):
        if "<document" in text_head(path):
            found.append((path.name, partial(read_metashape, path, photos=photos)))
    for path in sorted(folder.glob("*.[cC][sS][vV]")):
        if _table(text_head(path)):
            found.append((path.name, partial(read_reality_capture, path, photos=photos)))
    for name in ("keyframes/corrected_cameras", "keyframes/cameras", "cameras"):
        if any((folder / name).glob("*.json")):
            found.append((name, partial(read_polycam, folder, name, photos=photos)))
            break
    for name in ("metadata.json", "metadata"):
        if (folder / name).is_file():
            found.append((name, partial(read_record3d, folder / name, photos=photos)))
    if (folder / "bundle.out").is_file():
        found.append(("bundle.out", partial(read_bundle, folder / "bundle.out", photos=photos)))
    return found


def first_readable(folder: Path, kinds: Sequence[tuple[str, Reader]]) -> Capture | None:
    """Read the first of the cameras of other tools that has two photos or more.

    A warning names the files with cameras that are not read, and says why.
    """
    problems: dict[str, str] = {}
    capture = None
    for name, read in kinds:
        try:
            found = read()
        except InputError as error:
            problems[name] = str(error)
            continue
        if capture is None and len(found.frames) > 1:
            capture = found
            warn(f"{folder}: the cameras of {name} are used")
        else:
            problems[name] = (
                "other cameras are used" if capture else "only one of its cameras has a photo"
            )
    files = [path.relative_to(folder) for pattern in NOT_READ for path in folder.glob(pattern)]
    files += [
        path.relative_to(folder)
        for path in folder.iterdir()
        if NAMED_CAMERAS.fullmatch(path.name) and path.is_file()
    ]
    names = {f"{file.parent}/" if len(file.parts) > 1 else file.name for file in files}
    names = _families(names - {name for name, _ in kinds})
    problems |= dict.fromkeys(sorted(names), "")
    if problems:
        reasons = [f"{name} ({why})" if why else name for name, why in problems.items()]
        instead = "" if capture else "; the cameras are estimated from the photos"
        warn(
            f"{folder}: files that may hold cameras are not read: {listed(reasons)}; recon reads "
            f"{READ}, and most tools can export one of these{instead}"
        )
    return capture


def _families(names: set[str]) -> set[str]:
    """Return names with cameras, and one for all that differ in a number, of one photo each."""
    patterns = {name: re.sub(r"\d+", "*", name) for name in names}
    counts = Counter(patterns.values())
    return {pattern if counts[pattern] > 1 else name for name, pattern in patterns.items()}


def read_metashape(path: Path, photos: bool = True) -> Capture:
    """Read the aligned cameras of Metashape's cameras.xml; those of the largest component.

    Raises:
        InputError: It is not such a file, or has cameras of another kind than frame cameras.
    """
    try:
        root = ElementTree.fromstring(read_text(path).partition("?>")[2] or read_text(path))
    except ElementTree.ParseError as error:
        raise InputError(f"{path} is not valid XML: {error}; export it again") from error
    cameras = [camera for camera in root.iter("camera") if camera.find("transform") is not None]
    if not cameras:
        raise InputError(f"{path} has no aligned cameras")
    components = Counter(camera.get("component_id") for camera in cameras)
    largest = components.most_common(1)[0][0]
    rest = [str(c.get("label")) for c in cameras if c.get("component_id") != largest]
    if rest:
        warn(f"{path}: photos outside the largest component are left out: {listed(rest)}")
    sensors = {sensor.get("id"): sensor for sensor in root.iter("sensor")}
    shots = [
        (str(camera.get("label")), partial(_metashape_shot, path, camera, sensors))
        for camera in cameras
        if camera.get("component_id") == largest
    ]
    return _capture(path, shots, photos)


def _metashape_shot(
    path: Path, camera: ElementTree.Element, sensors: dict[str | None, ElementTree.Element]
) -> _Shot:
    where = f"{path}, camera {camera.get('label')}"
    sensor = sensors.get(camera.get("sensor_id"))
    # The one that the alignment adjusted may come after the initial one.
    found = [] if sensor is None else sensor.findall("calibration")
    found.sort(key=lambda item: item.get("class") != "adjusted")
    calibration = next(iter(found), None)
    if sensor is None or calibration is None or sensor.get("type", "frame") != "frame":
        raise InputError(f"{where} has no calibration of a frame camera")
    values = {item.tag: item.text for item in calibration}
    size_of = calibration.find("resolution")
    size_of = sensor.find("resolution") if size_of is None else size_of
    if size_of is None:
        raise InputError(f"{where} has no resolution")
    width, height = (round(_number(size_of.get(key), where)) for key in ("width", "height"))
    names = ("f", "cx", "cy", "k1", "k2", "k3", "p1", "p2", "b1", "k4", "p3", "p4", "b2")
    f, cx, cy, k1, k2, k3, p1, p2, b1, *others = (_number(values.get(n, 0), where) for n in names)
    unread = [name for name, value in zip(names[-len(others) :], others, strict=True) if value]
    if unread:
        raise InputError(
            f"{where} has {listed(unread)}, which recon does not read; export undistorted photos, "
            "or fit the camera without"
        )
    numbers = str(camera.findtext("transform")).split()
    c2w = _matrix([_number(number, where) for number in numbers], (4, 4), where)
    center = width / 2 + cx, height / 2 + cy
    return _Shot(c2w, (f + b1, f), center, (width, height), (k1, k2, p2, p1, k3))


def _table(text: str) -> list[dict[str, str]]:
    """Return the rows of RealityCapture's table of cameras; none if it is another table.

    A line with the number of cameras may come first.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    for start, line in enumerate(lines[:2]):
        columns = [name.strip(" #").lower() for name in re.split("[,;\t]", line)]
        if set(TABLE_COLUMNS) <= set(columns):
            separator = next(mark for mark in ",;\t" if mark in line)
            return list(csv.DictReader(lines[start + 1 :], columns, delimiter=separator))
    return []


def read_reality_capture(path: Path, photos: bool = True) -> Capture:
    """Read RealityCapture's or RealityScan's table of cameras.

    Raises:
        InputError: It has no focal lengths, or positions in degrees.
    """
    rows = _table(read_text(path))
    if rows and "f" not in rows[0]:
        raise InputError(
            f"{path} has no focal lengths; export 'Internal/External camera parameters'"
        )
    shots = [(row["name"], partial(_table_shot, path, row)) for row in rows]
    if _is_in_degrees(rows):
        raise InputError(
            f"{path}: positions are in degrees; choose a projected or local coordinate system for "
            "the export"
        )
    return _capture(path, shots, photos)


def _is_in_degrees(rows: Sequence[dict[str, str]]) -> bool:
    """Return whether positions look like longitude, latitude and altitude."""
    positions = []
    for row in rows:
        with contextlib.suppress(InputError):
            positions.append([_number(row[key], key) for key in ("x", "y", "alt")])
    if not positions:
        return False
    table = np.array(positions)
    spread, largest = np.ptp(table, axis=0), np.abs(table).max(0)
    fits = largest[0] <= 180 and largest[1] <= 90 and min(largest[:2]) > 1
    return bool(fits and spread[2] > MIN_DEGREE_RATIO * spread[:2].max() > 0)


def _table_shot(path: Path, row: dict[str, str]) -> _Shot:
    where = f"{path}, camera {row['name']}"
    values = {key: _number(row[key], where) for key in TABLE_COLUMNS[1:]}
    focal = _number(row["f"], where) / SENSOR_MM
    px, py, k1, k2, t1, t2, k3, k4 = (_number(row.get(k) or 0, where) for k in LENS_COLUMNS)
    if k4:
        raise InputError(
            f"{where} has k4, which recon does not read; export undistorted photos, or align with "
            "the lens model Brown3"
        )
    rotations = ((0, 0, -values["heading"]), (values["pitch"], 0, 0), (0, values["roll"], 0))
    about_z, about_x, about_y = (cv2.Rodrigues(np.radians(vector))[0] for vector in rotations)
    c2w = np.eye(4)
    c2w[:3, :3] = about_z @ about_x @ about_y
    c2w[:3, 3] = values["x"], values["y"], values["alt"]
    return _Shot(
        c2w * OPENGL_FLIP, (focal, focal), (px, py), None, (k1, k2, t1, t2, k3), is_relative=True
    )


def read_polycam(folder: Path, name: str, photos: bool = True) -> Capture:
    """Read Polycam's cameras, a JSON file each, and the photos of the same names.

    Raises:
        InputError: All files are invalid.
    """
    images = name.replace("cameras", "images")
    shots = [
        (f"{images}/{path.stem}", partial(_polycam_shot, path))
        for path in sorted((folder / name).glob("*.json"))
    ]
    return _capture(folder / name, shots, photos, folder)


def _polycam_shot(path: Path) -> _Shot:
    values = read_json(path, "Polycam's layout")
    keys = [f"t_{row}{column}" for row in range(3) for column in range(4)]
    rows = _matrix([_number(values.get(key), f"{path}: {key}") for key in keys], (3, 4), path)
    c2w = np.concatenate([rows, [[0, 0, 0, 1]]]) * OPENGL_FLIP
    fx, fy, cx, cy, width, height = (
        _number(values.get(key), f"{path}: {key}")
        for key in ("fx", "fy", "cx", "cy", "width", "height")
    )
    return _Shot(c2w, (fx, fy), (cx, cy), (round(width), round(height)))


def read_record3d(path: Path, photos: bool = True) -> Capture:
    """Read Record3D's metadata and the photos in `rgb` or `rgbd` that are numbered by its poses.

    Raises:
        InputError: It is not such a file.
    """
    values = read_json(path, "Record3D's layout")
    K = _matrix(values.get("K"), (3, 3), f"{path}: K").T
    poses = _matrix(values.get("poses"), (-1, 7), f"{path}: poses")
    size = round(_number(values.get("w"), path)), round(_number(values.get("h"), path))
    c2w = np.tile(np.eye(4), (len(poses), 1, 1))
    c2w[:, :3, :3] = quats_to_rotmats(torch.from_numpy(poses[:, [3, 0, 1, 2]])).numpy()
    # Zeros are no rotation, but would count as the identity.
    c2w[(poses[:, :4] == 0).all(1), :3, :3] = 0
    c2w[:, :3, 3] = poses[:, 4:]
    # An export has the first of these folders, the app's own .r3d, a zip archive, the second.
    folder = next((name for name in R3D_FOLDERS if (path.parent / name).is_dir()), R3D_FOLDERS[0])
    names = {image.stem: image.name for image in list_images(path.parent / folder)}
    if not photos:
        names = {str(i): f"{i}.jpg" for i in range(len(poses))} | names
    lenses = np.tile([K[0, 0], K[1, 1], K[0, 2], K[1, 2]], (len(poses), 1))
    if values.get("perFrameIntrinsicCoeffs"):
        where = f"{path}: perFrameIntrinsicCoeffs"
        lenses = _matrix(values["perFrameIntrinsicCoeffs"], lenses.shape, where)
    shots = [
        (
            f"{folder}/{names[str(i)]}",
            partial(_Shot, c2w[i] * OPENGL_FLIP, (fx, fy), (cx, cy), size),
        )
        for i, (fx, fy, cx, cy) in enumerate(lenses.tolist())
        if str(i) in names
    ]
    if len(shots) < len(poses):
        warn(f"{path} has {len(poses)} poses, and photos for {len(shots)} of them in {folder}/")
    return _capture(path, shots, photos)


# What follows the name of a photo in Bundler's list.txt, if its EXIF tells the focal length.
BUNDLER_FOCAL = re.compile(r"\s+0\s+[\d.]+$")


def read_bundle(path: Path, photos: bool = True) -> Capture:
    """Read the cameras of Bundler's bundle.out; list.txt beside it names the photos.

    Raises:
        InputError: One of the files is missing or invalid.
    """
    names_path = path.with_name("list.txt")
    if not names_path.is_file():
        raise InputError(f"{names_path}, which names its photos, is missing")
    photo_lines = [line.strip() for line in read_text(names_path).splitlines()]
    names = [BUNDLER_FOCAL.sub("", line) for line in photo_lines if line]
    lines = [line for line in read_text(path).splitlines() if not line.startswith("#")]
    numbers = " ".join(lines).split()
    count = round(_number(numbers[0] if numbers else None, path))
    if count != len(names):
        raise InputError(f"{path} has {count} cameras and {names_path} {len(names)} photos")
    shots = []
    table = _matrix(numbers[2 : 2 + 15 * count], (count, 15), path)
    for name, row in zip(names, table, strict=True):
        focal, k1, k2 = row[:3].tolist()
        # Cameras that were not registered have a focal length of 0.
        if focal != 0:
            viewmat = np.eye(4)
            viewmat[:3, :3], viewmat[:3, 3] = row[3:12].reshape(3, 3), row[12:]
            c2w = c2w_from_viewmat(torch.from_numpy(viewmat))
            coefficients = (k1, k2, 0.0, 0.0, 0.0)
            make = partial(_Shot, c2w * OPENGL_FLIP, (focal, focal), coefficients=coefficients)
            shots.append((name, make))
    return _capture(path, shots, photos)


def _capture(source: Path, shots: Shots, photos: bool, root: Path | None = None) -> Capture:
    """Make a capture of the cameras whose photos are there, or of all if photos do not count."""
    root = root or source.parent
    if not shots:
        raise InputError(f"{source} has no cameras")
    names = [name for name, _ in shots]
    paths: list[Path | None] = [root / name.replace("\\", "/") for name in names]
    with contextlib.nullcontext() if photos else contextlib.suppress(InputError):
        found = find_photos(root, names, str(source), (".", "images"))
        paths = [
            photo or (None if photos else path) for photo, path in zip(found, paths, strict=True)
        ]
    made = [
        (name, photo, partial(_frame, read, root, f"{source}, camera {name}"))
        for (name, read), photo in zip(shots, paths, strict=True)
    ]
    frames, lost = valid_frames(str(source), made, photos, num_needed=2 if photos else 1)
    return Capture(root, "exported", frames, left_out=lost)


def _frame(read: Callable[[], _Shot], root: Path, where: str, photo: Path) -> Frame:
    shot = read()
    if shot.size is None and not photo.is_file():
        raise InputError(
            f"{where}: the size of its photo is not in the file, and {photo} is not there; put the "
            "photos beside the file, or export cameras with sizes"
        )
    if shot.is_relative and shot.center is not None:
        size, oriented = size_for_center(photo, None)
        middle, side = np.array(size) / 2, max(size)
        fx, fy = (side * value for value in shot.focal)
        cx, cy = middle + side * np.array(shot.center)
        shot = replace(shot, focal=(fx, fy), center=(float(cx), float(cy)))
    elif shot.size is None:
        size, oriented = size_for_center(photo, shot.center)
    else:
        size, oriented = shot.size, fits_oriented(photo, shot.size)
    cx, cy = shot.center or (size[0] / 2, size[1] / 2)
    K = checked_K(Intrinsics(*shot.focal, cx, cy, *size), where)
    viewmat = viewmat_from_c2w(shot.c2w, f"{where}: camera matrix")
    distortion = canonical_distortion("opencv", shot.coefficients)
    camera = FrameCamera(viewmat, K, *size, *distortion)
    return Frame(name_below(photo, root), photo, camera, oriented=oriented)


def _matrix(values: Any, shape: tuple[int, ...], where: object) -> Float[np.ndarray, "_ _"]:
    try:
        return np.array(values, dtype=np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: expected a matrix of shape {shape}") from error


def _number(value: Any, where: object) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(f"{where}: expected a finite number, found {value!r}")
    return number
