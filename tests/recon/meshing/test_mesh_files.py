"""Mesh files, read by trimesh, and the command `recon mesh`."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mesh_scenes import CENTER, RADIUS, around, sphere

from recon.capture import Frame, FrameCamera, write_transforms
from recon.cli.main import main
from recon.errors import InputError
from recon.formats import save_gaussians
from recon.meshing.files import write_mesh
from recon.meshing.triangles import TriangleMesh
from recon.precision import WORLD
from render import Cameras
from render.cameras import look_at

trimesh = pytest.importorskip("trimesh")

FAR = (500_000.0, 5_000_000.0, 100.0)
TETRAHEDRON = TriangleMesh(
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]]),
    np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]]),
    np.array([[0.0, 0, 0], [1, 0, 0], [0, 0.5, 0], [0, 0, 1]]),
)


@pytest.mark.parametrize("extension", [".ply", ".obj", ".stl", ".glb"])
@pytest.mark.parametrize("origin", [WORLD, FAR], ids=["near", "far"])
def test_files_hold_the_mesh(tmp_path: Path, extension: str, origin: tuple) -> None:
    path = tmp_path / f"mesh{extension}"
    write_mesh(path, TETRAHEDRON, origin)
    loaded = trimesh.load(path, force="mesh", process=extension == ".stl")
    # float32 alone cannot hold positions of STL far away.
    exact = 0.5 if extension == ".stl" and origin != WORLD else 1e-5
    expected = TETRAHEDRON.vertices + origin
    if extension == ".glb":
        expected = expected * [-1, -1, 1]
    assert len(loaded.faces) == 4 or exact == 0.5
    assert np.abs(loaded.bounds - [expected.min(0), expected.max(0)]).max() < exact
    if exact < 0.5:
        assert loaded.is_watertight and loaded.volume == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("up", ["+z", "+y", "-y"])
def test_up_is_y_in_gltf(tmp_path: Path, up: str) -> None:
    write_mesh(tmp_path / "mesh.glb", TETRAHEDRON, FAR, up=up)
    loaded = trimesh.load(tmp_path / "mesh.glb", force="mesh", process=False)
    world = TETRAHEDRON.vertices + FAR
    height = {"+z": world[:, 2], "+y": world[:, 1], "-y": -world[:, 1]}[up]
    assert np.abs(loaded.vertices[:, 1] - height).max() < 1e-5
    assert loaded.volume == pytest.approx(1.0, rel=1e-3)


def test_colors_are_kept(tmp_path: Path) -> None:
    for extension in (".ply", ".obj"):
        path = tmp_path / f"mesh{extension}"
        write_mesh(path, TETRAHEDRON, WORLD)
        found = trimesh.load(path, process=False).visual.vertex_colors[:, :3]
        assert np.abs(found / 255.0 - TETRAHEDRON.colors).max() < 0.005


def test_colors_of_gltf_are_linear(tmp_path: Path) -> None:
    write_mesh(tmp_path / "mesh.glb", TETRAHEDRON, WORLD)
    data = (tmp_path / "mesh.glb").read_bytes()
    length = int.from_bytes(data[12:16], "little")
    document = json.loads(data[20 : 20 + length])
    view = document["bufferViews"][2]
    start = 28 + length + view["byteOffset"]
    colors = np.frombuffer(data[start : start + view["byteLength"]], "<u2").reshape(-1, 4)
    assert colors[2, 1] / 65535 == pytest.approx(0.2140, abs=1e-4)


def test_the_command_makes_a_mesh(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("skimage")
    scene, out = tmp_path / "scene.ply", tmp_path / "mesh.ply"
    middle = torch.tensor(CENTER)
    view = look_at(middle - torch.tensor([0.0, 0, 2]), middle, torch.tensor([0.0, -1, 0]))
    start = Cameras.from_fov(view[None].double(), 40.0, 96, 96)
    save_gaussians(scene, sphere(), start=start)
    words = ["mesh", str(scene), "-o", str(out), "--faces", "500", "--resolution", "96"]
    main([*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    mesh = trimesh.load(out)
    assert told["faces"] == len(mesh.faces) <= 500
    away = np.linalg.norm(mesh.vertices - CENTER, axis=1)
    assert abs(np.median(away) - RADIUS) < 0.03


def test_collision_writes_a_closed_mesh_and_convex_parts(tmp_path: Path) -> None:
    for name in ("skimage", "manifold3d", "coacd"):
        pytest.importorskip(name)
    scene, out, cameras = tmp_path / "scene.ply", tmp_path / "mesh.glb", tmp_path / "t.json"
    save_gaussians(scene, sphere())
    known = [FrameCamera(c.viewmats[0], c.Ks[0], c.width, c.height) for c in around()]
    names = [f"{index}.png" for index in range(len(known))]
    write_transforms(
        cameras, [Frame(n, tmp_path / n, c) for n, c in zip(names, known, strict=True)]
    )
    words = ["--cameras", str(cameras), "--collision", "--faces", "300", "--resolution", "96"]
    main(["mesh", str(scene), "-o", str(out), *words])
    found = trimesh.load(out)
    solid = found.geometry["mesh"]
    parts = [mesh for name, mesh in found.geometry.items() if name != "mesh"]
    names = sorted(name for name in found.geometry if name != "mesh")
    assert names[0] == "UCX_mesh_00" and len(names) == len(parts) >= 1
    assert len(solid.faces) <= 300 and solid.is_watertight
    volume = 4 / 3 * np.pi * RADIUS**3
    assert solid.volume == pytest.approx(volume, rel=0.1)
    assert all(part.is_watertight and part.is_convex for part in parts)
    assert sum(part.volume for part in parts) == pytest.approx(volume, rel=0.15)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "mesh.fbx"], "unknown extension: mesh.fbx; expected one of: .glb, .obj"),
        (["-o", "mesh.ply", "--faces", "2"], "--faces must be at least 4, found 2"),
        (["-o", "scene.ply"], "is the input scene.ply itself"),
        (["-o", "mesh.ply", "--cameras", "missing"], "missing"),
        (["-o", "mesh.obj", "--collision"], "convex parts need the extension .glb, found mesh.obj"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
    words: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    save_gaussians(Path("scene.ply"), sphere(300))
    with pytest.raises(SystemExit) as stopped:
        main(["mesh", "scene.ply", *words])
    text = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and message in text and len(text.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scene.ply"]


def test_the_missing_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    save_gaussians(tmp_path / "scene.ply", sphere(300))
    with pytest.raises(SystemExit):
        main(["mesh", str(tmp_path / "scene.ply"), "-o", str(tmp_path / "mesh.ply")])
    assert "pip install 'reconsplat[mesh]'" in capsys.readouterr().err
    assert not (tmp_path / "mesh.ply").exists()


TEXTURED = replace(
    TETRAHEDRON, colors=None, uv=np.array([[0.0, 0], [1, 0], [0, 1], [1, 1]]),
    texture=np.zeros((4, 4, 3)),
)  # fmt: skip


def test_the_files_beside_an_obj_are_beside_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link.obj").symlink_to(tmp_path / "store" / "real.obj")
    write_mesh(tmp_path / "link.obj", TEXTURED, WORLD)
    files = {path.name for path in (tmp_path / "store").iterdir()}
    assert files == {"real.obj", "real.mtl", "real.png"}
    assert {path.name for path in tmp_path.iterdir()} == {"store", "link.obj"}
    assert "mtllib real.mtl\n" in (tmp_path / "store" / "real.obj").read_text()
    assert "map_Kd real.png\n" in (tmp_path / "store" / "real.mtl").read_text()


@pytest.mark.parametrize("failing", ["texture_png", "np.savetxt"])
def test_no_file_of_an_obj_is_replaced_before_all_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before = {}
    for extension in ("obj", "mtl", "png"):
        (tmp_path / f"mesh.{extension}").write_text(f"old {extension}")
        before[f"mesh.{extension}"] = f"old {extension}"

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"recon.meshing.files.{failing}", refuse)
    with pytest.raises(InputError, match="No space left on device"):
        write_mesh(tmp_path / "mesh.obj", TEXTURED, WORLD)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_a_material_that_cannot_be_written_leaves_the_texture(tmp_path: Path) -> None:
    (tmp_path / "mesh.obj").write_text("old")
    (tmp_path / "mesh.png").write_text("old")
    (tmp_path / "mesh.mtl").mkdir()
    with pytest.raises(InputError, match=r"cannot write .*mesh\.mtl: it is a folder"):
        write_mesh(tmp_path / "mesh.obj", TEXTURED, WORLD)
    assert (tmp_path / "mesh.obj").read_text() == (tmp_path / "mesh.png").read_text() == "old"
