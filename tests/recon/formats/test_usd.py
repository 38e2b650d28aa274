"""USD, against usd-core: its values, its validators, and stages that other programs write."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from format_helpers import EXACT, assert_close, scene_of

from recon import MissingDependency, ReconError, ReconWarning, Scene, load
from recon.capture import load_capture
from recon.cli import main as cli
from recon.formats import NamedCamera, SceneSource, load_gaussians, open_scene, write_scene
from render import Cameras, Gaussians, Sim3
from render.quaternions import quats_to_rotmats

pxr = pytest.importorskip("pxr")
from pxr import Gf, Sdf, Usd, UsdGeom, UsdUtils, UsdValidation, UsdVol, Vt  # noqa: E402

EXTENSIONS = (".usda", ".usdc", ".usdz")
UTM = (500_000.0, 5_000_000.0, 120.0)
SH = "radiance:sphericalHarmonicsCoefficients"


def camera_looking(down: tuple[float, float, float], *center: float) -> Cameras:
    """Return a camera whose y axis points down, somewhat off its axis, with unequal focals."""
    y = torch.nn.functional.normalize(torch.tensor(down).double() + 0.1, dim=0)
    z = torch.nn.functional.normalize(
        torch.linalg.cross(y, torch.ones(3).double() * y.roll(1)), dim=0
    )
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3] = torch.stack([torch.linalg.cross(y, z), y, z], 1)
    c2w[:3, 3] = torch.tensor(center)
    K = torch.tensor([[90.0, 0, 61], [0, 92, 37], [0, 0, 1]]).double()
    return Cameras.from_c2w(c2w[None], K[None], 120, 80)


DOWN = {"Y": (0, 1, 0), "Z": (0, 0, -1), "Y kept": (0, -1, 0)}


@pytest.mark.parametrize("up", DOWN)
@pytest.mark.parametrize("extension", EXTENSIONS)
def test_usd_core_reads_equal_values_and_finds_no_fault(
    extension: str, up: str, tmp_path: Path
) -> None:
    scene, path = scene_of(2, 300), tmp_path / f"a b[1]{extension}"
    start = camera_looking(DOWN[up], UTM[0] + 1, UTM[1] + 2, UTM[2] + 3)
    named = (NamedCamera("IMG 1.JPG", start), NamedCamera("IMG_1.JPG", start))
    source = SceneSource.of(scene, UTM, antialiased=True, start=start)
    write_scene(path, replace(source, cameras=named))
    stage = Usd.Stage.Open(str(path))
    faults = UsdValidation.ValidationContext(
        UsdValidation.ValidationRegistry().GetOrLoadAllValidators()
    ).Validate(stage)
    assert [fault.GetMessage() for fault in faults] == []
    assert UsdGeom.GetStageUpAxis(stage) == up[0]
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1
    prim = stage.GetPrimAtPath("/World/gaussians")
    assert prim.IsA(UsdVol.ParticleField3DGaussianSplat)
    flip = torch.tensor([-1.0, -1, 1] if up == "Y" else [1.0, 1, 1])
    assert np.array_equal(prim.GetAttribute("positions").Get(), scene.means * flip)
    assert np.array_equal(prim.GetAttribute("scales").Get(), scene.scales)
    assert np.array_equal(prim.GetAttribute("opacities").Get(), scene.opacities)
    assert prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get() == 2
    sh = np.asarray(prim.GetAttribute(SH).Get()).reshape(scene.sh.shape)
    rotation = Sim3(torch.tensor(1.0), torch.diag(flip), torch.zeros(3))
    assert np.allclose(sh, scene.transformed(rotation).sh, atol=1e-6)
    rotmats = [np.array(Gf.Matrix3f(q)).T for q in prim.GetAttribute("orientations").Get()]
    expected = torch.diag(flip) @ quats_to_rotmats(scene.quats)
    # The rotation of the axes of an ellipsoid themselves changes signs.
    assert np.allclose(np.abs(rotmats), expected.abs(), atol=1e-5)
    world = UsdGeom.XformCache().GetLocalToWorldTransform(prim)
    origin = np.array(world.Transform(Gf.Vec3d(0)))
    assert np.array_equal(origin * flip.numpy(), UTM)

    found = open_scene(path)
    assert found.origin == UTM and found.antialiased
    assert_close(scene, found.load(), EXACT)
    assert [camera.name for camera in found.cameras] == ["IMG 1.JPG", "IMG_1.JPG"]
    for camera in (found.start, found.cameras[1].camera):
        assert camera is not None and (camera.width, camera.height) == (120, 80)
        assert torch.allclose(camera.Ks, start.Ks, rtol=0, atol=1e-4)
        assert torch.allclose(camera.c2w, start.c2w, rtol=0, atol=1e-8)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_usd_cameras_project_as_ours(extension: str, tmp_path: Path) -> None:
    """The frustum of Gf.Camera shows a point where the camera of the scene does."""
    start, path = camera_looking((0, 1, 0), 0.5, -0.2, -3), tmp_path / f"a{extension}"
    write_scene(path, SceneSource.of(scene_of(0, 10), start=start))
    stage = Usd.Stage.Open(str(path))
    prim = stage.GetPrimAtPath("/World/start")
    frustum = UsdGeom.Camera(prim).GetCamera(Usd.TimeCode.Default()).frustum
    ahead = start.c2w[0, :3, 3] + 2 * start.c2w[0, :3, 2] + 0.3 * start.c2w[0, :3, 0]
    pixels, _ = start.project(ahead[None])
    x, y, z = ahead.tolist()
    matrix = frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
    ndc = matrix.Transform(Gf.Vec3d(-x, -y, z))
    expected = [(1 + ndc[0]) / 2 * 120, (1 - ndc[1]) / 2 * 80]
    assert pixels.reshape(-1, 2)[0].tolist() == pytest.approx(expected, abs=1e-4)


def test_equal_scenes_give_equal_files(tmp_path: Path) -> None:
    for extension in EXTENSIONS:
        written = []
        for name in "ab":
            path = tmp_path / f"{name}{extension}"
            write_scene(path, SceneSource.of(scene_of(1, 50)))
            written.append(path.read_bytes())
        assert written[0] == written[1]


def define(stage: Usd.Stage, scene: Gaussians, path: str = "/a", half: str = "") -> Usd.Prim:
    """Write Gaussians as another program does, in the axes of the stage."""
    prim = UsdVol.ParticleField3DGaussianSplat.Define(stage, path).GetPrim()
    kind = np.float16 if half else np.float32
    vectors = Vt.Vec3hArray if half else Vt.Vec3fArray
    values = {
        "positions": vectors.FromNumpy(scene.means.numpy().astype(kind)),
        "scales": vectors.FromNumpy(scene.scales.numpy().astype(kind)),
        SH: vectors.FromNumpy(scene.sh.reshape(-1, 3).numpy().astype(kind)),
        "orientations": (Vt.QuathArray if half else Vt.QuatfArray).FromNumpy(
            scene.quats[:, [1, 2, 3, 0]].numpy().astype(kind)
        ),
        "opacities": (Vt.HalfArray if half else Vt.FloatArray).FromNumpy(
            scene.opacities.numpy().astype(kind)
        ),
    }
    for name, value in values.items():
        prim.GetAttribute(name + half).Set(value)
    prim.GetAttribute("radiance:sphericalHarmonicsDegree").Set(scene.sh_degree)
    return prim


def test_transforms_units_and_several_prims(tmp_path: Path) -> None:
    """Centimetres, +z up, a rotated parent, two prims of other degrees and precision."""
    one, two, path = scene_of(2, 60), scene_of(0, 40), tmp_path / "a.usda"
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, "Z")
    UsdGeom.SetStageMetersPerUnit(stage, 0.01)
    parent = UsdGeom.Xform.Define(stage, "/p")
    parent.AddTranslateOp().Set(Gf.Vec3d(100, 0, -50))
    parent.AddRotateZOp().Set(90)
    define(stage, one, "/p/one")
    define(stage, two, "/p/two", "h")
    stage.Save()
    with pytest.warns(ReconWarning, match=r"its unit is 0\.01 m; .* metres"):
        found = load_gaussians(path)
    rotmat = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    placed = Sim3(torch.tensor(0.01), rotmat, torch.tensor([1.0, 0, -0.5]))
    assert found.sh_degree == 2
    assert_close(one.transformed(placed), found[:60], EXACT)
    rough = replace(EXACT, means=2e-5, scales=1e-3, opacities=1e-3, colors=1e-3, rotations=2e-3)
    assert_close(two.transformed(placed), found[60:].cut_sh(0), rough)
    assert not found.sh[60:, 1:].any()


def test_a_moving_parent_counts_as_at_the_first_time(tmp_path: Path) -> None:
    one, path = scene_of(0, 20), tmp_path / "a.usda"
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, "Y")
    UsdGeom.SetStageMetersPerUnit(stage, 1)
    move = UsdGeom.Xform.Define(stage, "/p").AddTranslateOp()
    move.Set(Gf.Vec3d(7, 0, 0), 1)
    move.Set(Gf.Vec3d(9, 0, 0), 2)
    define(stage, one, "/p/one")
    stage.Save()
    still = tmp_path / "b.usda"
    still.write_text(path.read_text().replace("1: (7, 0, 0)", "1: (0, 0, 0)"))
    with pytest.warns(ReconWarning, match=r"is animated \(/p/one\); it is read at its first time"):
        moved = (load_gaussians(path).means - load_gaussians(still).means).abs()
    torch.testing.assert_close(moved.amax(0).sort().values, torch.tensor([0.0, 0.0, 7.0]))


def test_values_that_change_are_those_of_the_first_time(tmp_path: Path, recwarn) -> None:
    """They go before the default value, as in every program that shows a time."""
    scenes = [scene_of(0, 20), scene_of(0, 20)]
    scenes[1] = replace(scenes[1], means=scenes[1].means + 5)
    path = tmp_path / "a.usda"
    stage = Usd.Stage.CreateNew(str(path))
    UsdGeom.SetStageUpAxis(stage, "Z")
    positions = define(stage, scenes[1], "/p").GetAttribute("positions")
    stage.Save()
    assert torch.equal(load_gaussians(path).means, scenes[1].means) and not recwarn.list
    for time, scene in zip((3.0, 7.0), scenes, strict=True):
        positions.Set(Vt.Vec3fArray.FromNumpy(scene.means.numpy()), time)
    stage.Save()
    with pytest.warns(ReconWarning, match=r"is animated \(/p\); it is read at its first time"):
        assert torch.equal(load_gaussians(path).means, scenes[0].means)


@pytest.mark.parametrize("extension", EXTENSIONS)
def test_a_failure_of_the_library_is_one_line(
    extension: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("No space left on device")

    monkeypatch.setattr("recon.formats.usd_write._write_layer", fail)
    path = tmp_path / f"a{extension}"
    with pytest.raises(ReconError, match=r"cannot write .*: No space left on device"):
        write_scene(path, SceneSource.of(scene_of(0, 5)))
    assert not list(tmp_path.iterdir())


def test_rules_of_the_schema_for_arrays(tmp_path: Path) -> None:
    """Long arrays are cut, short ones do not count, and infinite values are dropped."""
    scene, path = scene_of(1, 30), tmp_path / "a.usdc"
    stage = Usd.Stage.CreateNew(str(path))
    prim = define(stage, scene)
    means = scene.means.clone()
    means[4] = torch.inf
    prim.GetAttribute("positions").Set(Vt.Vec3fArray.FromNumpy(means[:20].numpy()))
    prim.GetAttribute("opacities").Set(Vt.FloatArray(7))
    other = UsdVol.ParticleField.Define(stage, "/surflets").GetPrim()
    other.ApplyAPI("ParticleFieldKernelGaussianSurfletAPI")
    stage.Save()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load_gaussians(path)
    told = " ".join(str(warning.message) for warning in caught)
    assert "opacities is shorter than positions" in told and "1 of 20 Gaussians" in told
    assert "other kernels (/surflets)" in told
    assert len(found) == 19 and (found.opacities == 1).all()
    kept = torch.arange(20) != 4
    flip = torch.tensor([-1.0, -1, 1])
    assert torch.equal(found.means, scene.means[:20][kept] * flip)


@pytest.mark.parametrize("extension", [".usda", ".usdc"])
def test_no_other_file_is_followed(extension: str, tmp_path: Path) -> None:
    write_scene(tmp_path / "secret.usdc", SceneSource.of(scene_of(0, 20)))
    secret = str(tmp_path / "secret.usdc")
    changes = (
        lambda stage: stage.GetRootLayer().subLayerPaths.append("secret.usdc"),
        lambda stage: stage.DefinePrim("/r").GetReferences().AddReference("./secret.usdc"),
        lambda stage: stage.DefinePrim("/p").GetPayloads().AddPayload(secret),
        lambda stage: Usd.ClipsAPI(stage.DefinePrim("/c")).SetClipAssetPaths(["secret.usdc"]),
    )
    for index, change in enumerate(changes):
        path = tmp_path / f"{index}{extension}"
        stage = Usd.Stage.CreateNew(str(path))
        change(stage)
        stage.Save()
        with pytest.raises(ReconError, match="refers to other files .*usdcat --flatten"):
            load_gaussians(path)


def test_a_package_of_several_layers_is_read(tmp_path: Path) -> None:
    scene = scene_of(1, 30)
    write_scene(tmp_path / "gaussians.usdc", SceneSource.of(scene))
    stage = Usd.Stage.CreateNew(str(tmp_path / "root.usda"))
    UsdGeom.SetStageUpAxis(stage, "Y")
    stage.DefinePrim("/scene").GetReferences().AddReference("./gaussians.usdc")
    stage.Save()
    package = Sdf.AssetPath(str(tmp_path / "root.usda"))
    assert UsdUtils.CreateNewUsdzPackage(package, str(tmp_path / "a.usdz"))
    assert_close(scene, load_gaussians(tmp_path / "a.usdz"), EXACT)


def test_the_extension_usd_stands_for_text_and_binary(tmp_path: Path, recwarn) -> None:
    for extension in (".usda", ".usdc"):
        write_scene(tmp_path / f"a{extension}", SceneSource.of(scene_of(0, 20)))
        path = (tmp_path / f"a{extension}").rename(tmp_path / "a.usd")
        assert len(load_gaussians(path)) == 20
    assert not recwarn.list


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    for extension in EXTENSIONS:
        path = tmp_path / f"a{extension}"
        write_scene(path, SceneSource.of(scene_of(0, 20)))
        old = open_scene(path)
        write_scene(path, SceneSource.of(scene_of(0, 30)))
        assert open_scene(path).count == 30 and old.count == 20


def test_cameras_and_prims_that_are_not_read_are_named(tmp_path: Path, recwarn) -> None:
    path = tmp_path / "a.usda"
    start = camera_looking((0, 1, 0), 0, 0, -3)
    named = NamedCamera("a.jpg", start), NamedCamera("b.jpg", start), NamedCamera("c.jpg", start)
    write_scene(path, replace(SceneSource.of(scene_of(0, 20)), cameras=named))
    stage = Usd.Stage.Open(str(path))
    cameras = [UsdGeom.Camera(stage.GetPrimAtPath(f"/World/cameras/{x}_jpg")) for x in "abc"]
    cameras[0].GetProjectionAttr().Set("orthographic")
    cameras[1].GetFocalLengthAttr().Set(0)
    hidden = UsdGeom.Xform.Define(stage, "/World/hidden")
    define(stage, scene_of(0, 5), "/World/hidden/part")
    hidden.MakeInvisible()
    stage.Save()
    found = open_scene(path)
    assert [camera.name for camera in found.cameras] == ["c.jpg"] and found.count == 20
    (told,) = (str(warning.message) for warning in recwarn.list)
    for words in (
        "orthographic cameras (/World/cameras/a_jpg)",
        "invalid cameras (/World/cameras/b_jpg)",
        "Gaussians that are set invisible (/World/hidden/part)",
    ):
        assert words in told
    UsdGeom.Imageable(stage.GetPrimAtPath("/World/gaussians")).MakeInvisible()
    stage.Save()
    with pytest.raises(
        ReconError, match="USD, without Gaussians: .* set invisible .*/World/gaussians"
    ):
        open_scene(path)


def test_cameras_of_a_file_are_kept(tmp_path: Path, recwarn) -> None:
    """By loading and saving, and by `recon compress`; formats that cannot hold them are told."""
    start, path = camera_looking((0, 1, 0), 0, 0, -3), tmp_path / "a.usdc"
    names = ["IMG 1.JPG", "IMG_1.JPG"]
    source = SceneSource.of(scene_of(0, 40), start=start)
    write_scene(path, replace(source, cameras=tuple(NamedCamera(n, start) for n in names)))
    load(path).save(tmp_path / "b.usda")
    load(path).compress(tmp_path / "c.usdz", keep_fraction=0.5)
    cli.main(["compress", str(path), "-o", str(tmp_path / "d.usdc"), "--keep", "0.5", "--quiet"])
    for name in ("b.usda", "c.usdz", "d.usdc"):
        found = open_scene(tmp_path / name).cameras
        assert [camera.name for camera in found] == names
        assert torch.allclose(found[1].camera.c2w, start.c2w, atol=1e-8)
    assert not recwarn.list
    with pytest.warns(ReconWarning, match=r"\.ply cannot hold the 2 cameras of the scene"):
        load(path).save(tmp_path / "e.ply")
    with pytest.warns(ReconWarning, match=r"\.sog cannot hold the 2 cameras of the scene"):
        load(path).compress(tmp_path / "e.sog", keep_fraction=0.5)


@pytest.mark.parametrize("content", [b"", b"PXR-", b"no USD"])
def test_a_damaged_file_of_the_extension_usd_is_called_damaged(
    content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "scene.usd"
    path.write_bytes(content)
    with pytest.raises(ReconError, match=r"scene\.usd is damaged: it is no layer of USD"):
        load(path)
    with pytest.raises(
        ReconError, match=r"scene\.usd is damaged.*; to reconstruct, pass the folder"
    ):
        load_capture(path)


def test_without_gaussians_or_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Usd.Stage.CreateNew(str(tmp_path / "a.usda"))
    stage.DefinePrim("/a", "Xform")
    stage.Save()
    with pytest.raises(
        ReconError, match="USD, without Gaussians: expected a ParticleField3DGaussianSplat"
    ):
        load(tmp_path / "a.usda")
    UsdGeom.Points.Define(stage, "/points")
    stage.Save()
    with pytest.raises(ReconError, match="is a point cloud in USD, without Gaussians"):
        load_capture(tmp_path / "a.usda")
    UsdGeom.Mesh.Define(stage, "/mesh")
    stage.Save()
    with pytest.raises(ReconError, match="is a mesh in USD, .*; to reconstruct, pass the folder"):
        load_capture(tmp_path / "a.usda")
    monkeypatch.setitem(__import__("sys").modules, "pxr.UsdVol", None)
    with pytest.raises(MissingDependency, match=r"pip install 'reconsplat\[usd\]'"):
        load(tmp_path / "a.usda")


def test_a_scene_writes_the_cameras_of_its_views(tmp_path: Path) -> None:
    views = camera_looking((0, 1, 0), 0, 0, -3)
    views = Cameras.cat([views, camera_looking((0, 1, 0), 1, 0, -3)]).to(torch.float32)
    Scene(scene_of(0, 20), views, ordered=True).save(tmp_path / "a.usdc")
    found = open_scene(tmp_path / "a.usdc").cameras
    assert [camera.name for camera in found] == ["view_0", "view_1"]
    assert torch.allclose(found[1].camera.c2w.float(), views[[1]].c2w, atol=1e-6)
