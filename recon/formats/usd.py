"""Reader of USD: every ParticleField3DGaussianSplat of a stage, and its cameras.

The arrays of binary layers stay on disk until their blocks are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from recon.errors import InputError, listed, warn
from recon.formats.contents import extension_by_content
from recon.formats.source import NamedCamera, SceneSource, regroup
from recon.formats.usd_cameras import AXES, AXES_KEPT, START, read_camera
from recon.formats.usd_library import load_usd, open_stage, reading
from recon.formats.usd_splats import Splats, count_usable, decoded, read_splats, slices
from recon.formats.y_up import FLIPS, KEPT, Flips, flip_axes
from recon.precision import MAX_SAMPLE, WORLD, Origin, float32_error, local_origin
from render import Cameras, Gaussians

MAX_PRIMS = 1_000_000


@dataclass
class Found:
    """What a stage has."""

    parts: list[Splats] = field(default_factory=list)
    cameras: list[NamedCamera] = field(default_factory=list)
    antialiased: bool = False
    kind: str = "USD"
    """What it is if there are no Gaussians."""
    not_read: dict[str, list[str]] = field(default_factory=dict)
    """Paths of prims that are not read, by the reason."""
    animated: list[str] = field(default_factory=list)
    """Paths of prims whose values or transforms change with time."""

    def leave_out(self, prim: Any, reason: str) -> None:
        """Note a prim that is not read."""
        self.not_read.setdefault(reason, []).append(str(prim.GetPath()))


def open_usd(path: Path) -> SceneSource:
    """Open the Gaussians and the cameras of a .usda, .usdc or .usdz.

    Coordinates are in metres if the stage says how long its unit is. Those with +z up are kept; of
    those with +y up, x and y are negated.

    Raises:
        InputError: There are no Gaussians, or the file is damaged or refers to other files.
        MissingDependency: OpenUSD is not installed.
    """
    pxr = load_usd(path)
    with reading(pxr, path):
        stage = open_stage(pxr, path, extension_by_content(path) or path.suffix.lower())
        flips = _flips(pxr, stage)
        scene = _scene_from_stage(pxr, path, stage, flips)
        found = _read_prims(pxr, path, stage, scene, flips)
    left_out = "; ".join(f"{reason} ({listed(names)})" for reason, names in found.not_read.items())
    parts, cameras = found.parts, found.cameras
    if not parts:
        raise InputError(
            f"{path} is {found.kind}, without Gaussians: expected a ParticleField3DGaussianSplat, "
            "as of OpenUSD 26.3" + (f"; not read: {left_out}" if left_out else "")
        )
    if left_out:
        warn(f"{path}: not read: {left_out}")
    if found.animated:
        warn(f"{path}: is animated ({listed(found.animated)}); it is read at its first time")
    origin = local_origin(_sample(parts))
    _tell_rounding(path, parts, origin)
    count = sum(count_usable(path, part) for part in parts)
    coefficients = max(part.sh.shape[1] for part in parts)

    def blocks() -> Iterator[Gaussians]:
        # The stage owns the arrays.
        _ = stage
        return regroup(
            decoded(path, part, rows, origin, coefficients)
            for part in parts
            for rows in slices(len(part.means))
        )

    degree = round(coefficients**0.5) - 1
    named = [camera for camera in cameras if camera.name == START] or cameras
    start = named[0].camera if named else None
    others = tuple(camera for camera in cameras if camera.name != START)
    return SceneSource(count, degree, blocks, origin, found.antialiased, start, others)


def _flips(pxr: Any, stage: Any) -> Flips:
    """Return the signs of the axes of a stage in those of the scene."""
    told = stage.GetMetadataByDictKey("customLayerData", AXES)
    kept = told == AXES_KEPT or str(pxr.UsdGeom.GetStageUpAxis(stage)) == "Z"
    return KEPT if kept else FLIPS


def _scene_from_stage(pxr: Any, path: Path, stage: Any, flips: Flips) -> np.ndarray:
    """Return the matrix that leads from a stage to a scene, in metres."""
    matrix = np.diag([*flip_axes(flips).astype(np.float64), 1.0])
    meters = float(pxr.UsdGeom.GetStageMetersPerUnit(stage))
    if pxr.UsdGeom.StageHasAuthoredMetersPerUnit(stage) and meters != 1:
        if not (np.isfinite(meters) and meters > 0):
            raise InputError(f"{path}: metersPerUnit is {meters:g}; expected a length above 0")
        warn(f"{path}: its unit is {meters:g} m; the scene is converted to metres")
        matrix[:3] *= meters
    return np.asarray(matrix)


def _read_prims(pxr: Any, path: Path, stage: Any, scene: np.ndarray, flips: Flips) -> Found:
    """Return the Gaussians and cameras of a stage, at its first time."""
    time, found = pxr.Usd.TimeCode.EarliestTime(), Found()
    transforms = pxr.UsdGeom.XformCache(time)
    traversed = stage.Traverse(pxr.Usd.TraverseInstanceProxies())
    for index, prim in enumerate(traversed):
        if index == MAX_PRIMS:
            raise InputError(f"{path} has over {MAX_PRIMS:,} prims, which recon does not read")
        if prim.IsA(pxr.UsdVol.ParticleField3DGaussianSplat):
            visible = pxr.UsdGeom.Imageable(prim).ComputeVisibility(time)
            if visible == pxr.UsdGeom.Tokens.invisible:
                found.leave_out(prim, "Gaussians that are set invisible")
                continue
            local = np.array(transforms.GetLocalToWorldTransform(prim)).T
            found.parts.append(read_splats(path, prim, scene @ local, flips))
            if _is_animated(pxr, prim):
                found.animated.append(str(prim.GetPath()))
            found.antialiased |= prim.GetCustomDataByKey("recon:antialiased") is True
        elif prim.IsA(pxr.UsdVol.ParticleField):
            found.leave_out(prim, "particle fields of other kernels")
        elif prim.IsA(pxr.UsdGeom.Mesh):
            found.kind = "a mesh in USD"
        elif prim.IsA(pxr.UsdGeom.Points) and found.kind == "USD":
            found.kind = "a point cloud in USD"
        elif prim.IsA(pxr.UsdGeom.Camera):
            lens = pxr.UsdGeom.Camera(prim).GetCamera(time)
            camera = _camera(prim, lens, scene)
            if camera is None:
                flat = lens.projection != lens.Perspective
                found.leave_out(prim, "orthographic cameras" if flat else "invalid cameras")
            else:
                name = prim.GetDisplayName() or prim.GetName()
                found.cameras.append(NamedCamera(name, camera))
                if _is_animated(pxr, prim):
                    found.animated.append(str(prim.GetPath()))
    return found


def _is_animated(pxr: Any, prim: Any) -> bool:
    """Return whether an attribute of a prim, or a transform above it, changes with time."""
    if any(attribute.ValueMightBeTimeVarying() for attribute in prim.GetAttributes()):
        return True
    while prim and not prim.IsPseudoRoot():
        if (
            pxr.UsdGeom.Xformable(prim)
            and pxr.UsdGeom.Xformable(prim).TransformMightBeTimeVarying()
        ):
            return True
        prim = prim.GetParent()
    return False


def _camera(prim: Any, lens: Any, scene: np.ndarray) -> Cameras | None:
    matrix = scene @ np.array(lens.transform).T
    lengths = np.linalg.norm(matrix[:3, :3], axis=0)
    if not (lengths > 0).all():
        return None
    matrix[:3, :3] /= lengths
    return read_camera(prim, matrix, lens)


def _sample(parts: list[Splats]) -> np.ndarray:
    """Return some positions in the world frame, which choose the origin."""
    step = 1 + sum(len(part.means) for part in parts) // MAX_SAMPLE
    points = np.concatenate([part.positions(slice(None, None, step)) for part in parts])
    return np.asarray(points[np.isfinite(points).all(1)])


def _tell_rounding(path: Path, parts: list[Splats], origin: Origin) -> None:
    far = max(map(abs, origin)) / 2
    if origin != WORLD and any(
        len(p.means) and np.nanmedian(np.abs(p.means).max(1)) > far for p in parts
    ):
        warn(
            f"{path}: its positions are rounded by up to {float32_error(origin):.3g} units, since "
            "it stores coordinates far from zero as float32, without a transform that moves them"
        )


def usd_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute, in proportion to its number of values."""
    numbers = {"positions": 3, "rotations": 4, "scales": 3, "opacities": 1, "colours": 3}
    numbers["SH"] = 3 * ((sh_degree + 1) ** 2 - 1)
    size = path.stat().st_size / count / sum(numbers.values())
    return {name: size * number for name, number in numbers.items() if number}
