"""Writer of USD: a ParticleField3DGaussianSplat of OpenUSD (UsdVol), and cameras."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.source import SceneSource
from recon.formats.usd_cameras import AXES, AXES_KEPT, START, write_camera
from recon.formats.usd_library import load_usd, writing
from recon.formats.y_up import FLIPS, KEPT, Flips, flip_axes, flip_quats
from recon.precision import WORLD
from render import Gaussians

# What the reference renderer of OpenUSD and the validators of others take.
MAX_SH_DEGREE = 3
# Paths in the stage.
WORLD_PATH, SPLATS, CAMERAS = "/World", "gaussians", "cameras"
# Radius of the ellipsoids that the extent covers (standard deviations).
EXTENT_SIGMAS = 3.0
# Modification time of the layer in a .usdz, so that equal scenes give equal files.
DATE = (2000, 1, 1, 0, 0, 0, 0, 1, -1)


@dataclass(frozen=True)
class Section:
    """An array attribute of the prim of the Gaussians."""

    name: str
    array: str
    """Class of `pxr.Vt` that holds it."""
    width: int
    """Number of float32 values of a row."""
    rows: int
    """Number of rows of a Gaussian."""
    values: Callable[[Gaussians], np.ndarray]


def write_usd(path: Path, source: SceneSource) -> None:
    """Write a layer (.usda as text, .usdc binary), or a package (.usdz) of a binary one.

    The attributes are written one after the other, so that a binary layer takes as much memory as
    the largest of them.
    """
    pxr = load_usd(path)
    source = source.cut_to(MAX_SH_DEGREE)
    with atomic_output(path) as temporary:
        suffix = path.suffix.lower()
        # Not under the name of the user, which may have characters with a meaning in USD.
        layer = temporary.with_name("scene.usda" if suffix == ".usda" else "scene.usdc")
        with writing(pxr):
            _write_layer(pxr, layer, source)
            if suffix == ".usdz":
                layer = _packed(pxr, layer)
        layer.replace(temporary)


def _packed(pxr: Any, layer: Path) -> Path:
    """Write a package of a layer beside it."""
    os.utime(layer, (time.mktime(DATE),) * 2)
    package = layer.with_name("package.usdz")
    if not pxr.UsdUtils.CreateNewUsdzPackage(pxr.Sdf.AssetPath(str(layer)), str(package)):
        raise RuntimeError("the package could not be written")
    return package


def _sections(degree: int, flips: Flips) -> list[Section]:
    """Return the array attributes of Gaussians with spherical harmonics of a degree."""
    count = (degree + 1) ** 2
    signs = encodings.sh_signs(flips, count)
    return [
        Section("positions", "Vec3fArray", 3, 1, lambda b: b.means.numpy() * flip_axes(flips)),
        Section(
            "orientations", "QuatfArray", 4, 1,
            lambda b: b.quats.numpy()[:, [1, 2, 3, 0]] * flip_quats(flips),
        ),
        Section("scales", "Vec3fArray", 3, 1, lambda b: b.scales.numpy()),
        Section("opacities", "FloatArray", 1, 1, lambda b: b.opacities.numpy()[:, None]),
        Section(
            "radiance:sphericalHarmonicsCoefficients", "Vec3fArray", 3, count,
            lambda b: b.sh.numpy() * signs,
        ),
    ]  # fmt: skip


def _write_layer(pxr: Any, path: Path, source: SceneSource) -> None:
    stage = pxr.Usd.Stage.CreateNew(str(path))
    root = pxr.UsdGeom.Xform.Define(stage, WORLD_PATH)
    stage.SetDefaultPrim(root.GetPrim())
    up = source.up_axis()
    # USD can have +z up as well, so that axes are only changed where +y is down.
    flips = FLIPS if up == "-y" else KEPT
    pxr.UsdGeom.SetStageUpAxis(stage, "Z" if up == "+z" else "Y")
    if up == "+y":
        stage.SetMetadataByDictKey("customLayerData", AXES, AXES_KEPT)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    prim = _define_splats(pxr, stage, source, flips)
    _write_cameras(pxr, stage, source, flips)
    parts = _sections(source.sh_degree, flips)
    for index, section in enumerate(parts):
        rows = np.empty((source.count, section.rows, section.width), np.float32)
        start = 0
        for block in source.read(index, len(parts)):
            values = section.values(block).reshape(len(block), section.rows, section.width)
            rows[start : start + len(block)] = values
            start += len(block)
        array = getattr(pxr.Vt, section.array)
        flat = rows.reshape(-1, section.width) if section.width > 1 else rows.reshape(-1)
        prim.GetAttribute(section.name).Set(array.FromNumpy(flat))
        del rows, flat
        if path.suffix == ".usdc":
            # Values that are saved leave the memory.
            stage.Save()
    stage.Save()


def _define_splats(pxr: Any, stage: Any, source: SceneSource, flips: Flips) -> Any:
    """Return the prim of the Gaussians, with everything but their arrays."""
    splats = pxr.UsdVol.ParticleField3DGaussianSplat.Define(stage, f"{WORLD_PATH}/{SPLATS}")
    prim = splats.GetPrim()
    if source.origin != WORLD:
        origin = np.array(source.origin) * flip_axes(flips)
        splats.AddTranslateOp(pxr.UsdGeom.XformOp.PrecisionDouble).Set(
            pxr.Gf.Vec3d(*origin.tolist())
        )
    splats.CreateExtentAttr(pxr.Vt.Vec3fArray.FromNumpy(_extent(source, flips)))
    splats.CreateRadianceSphericalHarmonicsDegreeAttr(source.sh_degree)
    color_space = pxr.Usd.ColorSpaceAPI.Apply(prim)
    color_space.CreateColorSpaceNameAttr(pxr.Gf.ColorSpaceNames.SRGBRec709)
    primvar = pxr.UsdGeom.Primvar(splats.CreateRadianceSphericalHarmonicsCoefficientsAttr())
    primvar.SetElementSize((source.sh_degree + 1) ** 2)
    primvar.SetInterpolation(pxr.UsdGeom.Tokens.vertex)
    if source.antialiased:
        prim.SetCustomDataByKey("recon:antialiased", True)
    return prim


def _extent(source: SceneSource, flips: Flips) -> np.ndarray:
    """Return the corners of a box around all ellipsoids."""
    low, high = np.full(3, np.inf, np.float32), np.full(3, -np.inf, np.float32)
    for block in source.blocks():
        means = block.means.numpy() * flip_axes(flips)
        radii = EXTENT_SIGMAS * block.scales.numpy().max(1, keepdims=True)
        low = np.minimum(low, (means - radii).min(0, initial=np.inf))
        high = np.maximum(high, (means + radii).max(0, initial=-np.inf))
    return np.stack([low, high]).astype(np.float32)


def _write_cameras(pxr: Any, stage: Any, source: SceneSource, flips: Flips) -> None:
    """Write the first camera, and those of the photos below a scope."""
    if source.start is not None:
        write_camera(pxr, stage, f"{WORLD_PATH}/{START}", source.start, flips)
    if not source.cameras:
        return
    pxr.UsdGeom.Scope.Define(stage, f"{WORLD_PATH}/{CAMERAS}")
    taken: set[str] = set()
    for named in source.cameras:
        base = name = pxr.Tf.MakeValidIdentifier(named.name)
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        prim = write_camera(pxr, stage, f"{WORLD_PATH}/{CAMERAS}/{name}", named.camera, flips)
        prim.SetDisplayName(named.name)
