"""Textures: the colours of the scene at every point, in files that others read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mesh_scenes import CENTER, around, sphere

from recon.cli.main import main
from recon.formats import save_gaussians
from recon.meshing.extract import MeshConfig, extract_mesh
from recon.meshing.files import write_mesh
from recon.meshing.triangles import TriangleMesh
from recon.precision import WORLD

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")
pytest.importorskip("xatlas")

CONFIG = MeshConfig(faces=1500, texture_px=256, max_voxels=60_000)


@pytest.fixture(scope="module")
def mesh() -> TriangleMesh:
    return extract_mesh(sphere(), around(), CONFIG)


def colors_at(loaded: object, points: np.ndarray) -> np.ndarray:
    """Return the colours of a loaded mesh at points of its triangles (their corners' means)."""
    uv = loaded.visual.uv[loaded.faces].mean(1)  # type: ignore[attr-defined]
    material = loaded.visual.material  # type: ignore[attr-defined]
    image = getattr(material, "baseColorTexture", None) or material.image
    pixels = np.asarray(image.convert("RGB"))
    columns = np.clip((uv[:, 0] * pixels.shape[1]).astype(int), 0, pixels.shape[1] - 1)
    rows = np.clip(((1 - uv[:, 1]) * pixels.shape[0]).astype(int), 0, pixels.shape[0] - 1)
    return pixels[rows, columns] / 255.0


@pytest.mark.parametrize("extension", [".glb", ".obj"])
def test_files_have_the_colors_of_the_scene(
    mesh: TriangleMesh, extension: str, tmp_path: Path
) -> None:
    path = tmp_path / f"mesh{extension}"
    write_mesh(path, mesh, WORLD)
    loaded = trimesh.load(path, force="mesh", process=False)
    assert len(loaded.faces) == len(mesh.faces) <= 1500
    middle = loaded.vertices[loaded.faces].mean(1)
    side = middle[:, 0] * (-1 if extension == ".glb" else 1) - CENTER[0]
    found = colors_at(loaded, middle)
    right, left = found[side > 0.1].mean(0), found[side < -0.1].mean(0)
    assert right[0] > 0.85 > 0.15 > right[1] and left[1] > 0.85 > 0.15 > left[0]
    # No texel of a triangle is left without a colour.
    assert (found.sum(1) > 0.5).mean() > 0.99
    names = {".obj": {"mesh.obj", "mesh.mtl", "mesh.png"}, ".glb": {"mesh.glb"}}[extension]
    assert {file.name for file in tmp_path.iterdir()} == names


def test_photos_color_the_texture(mesh: TriangleMesh) -> None:
    """Photos are of any size, and pixels that are masked out do not count."""
    photos = []
    for _ in around():
        photo = torch.tensor([0.1, 0.2, 0.9, 1.0])[:, None, None].repeat(1, 150, 150)
        photo[:, :, :75] = torch.tensor([1.0, 1.0, 1.0, 0.0])[:, None, None]
        photos.append(photo)
    painted = extract_mesh(sphere(), around(), CONFIG, photos=photos)
    assert painted.texture is not None and painted.colors is None
    blue = np.abs(painted.texture - [0.1, 0.2, 0.9]).max(2) < 0.05
    assert blue.mean() > 0.95


def test_what_photos_mask_out_is_removed() -> None:
    """The part above the middle of the sphere is transparent in every photo."""
    photos = []
    for camera in around():
        origins, rays = (each[0] for each in camera.rays())
        depth = (torch.tensor(CENTER) - origins[0, 0]) @ camera.viewmats[0, 2, :3]
        below = (origins + depth * rays)[..., 1] > CENTER[1]
        photos.append(torch.cat([torch.ones(3, 96, 96), below[None].float()]))
    whole = extract_mesh(sphere(), around(), MeshConfig(max_voxels=60_000, colors=False))
    config = MeshConfig(max_voxels=60_000, colors=False)
    part = extract_mesh(sphere(), around(), config, photos=photos)
    assert 0.4 < len(part.faces) / len(whole.faces) < 0.75
    assert part.vertices[:, 1].mean() > whole.vertices[:, 1].mean() + 0.05


def test_charts_do_not_overlap(mesh: TriangleMesh) -> None:
    assert mesh.uv is not None and mesh.uv.min() >= 0 and mesh.uv.max() <= 1
    a, b, c = (mesh.uv[mesh.faces[:, corner]] for corner in range(3))
    cross = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    assert 0.3 < np.abs(cross).sum() / 2 < 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        ("-o @m.ply --texture 512", ["--texture", ".glb or .obj", "m.ply"]),
        ("-o @m.glb --texture 512 --collision", ["--texture", "--collision"]),
        ("-o @m.glb --texture 8", ["--texture", "from 64", "8"]),
    ],
)
def test_options_that_do_not_fit(
    words: str, parts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_gaussians(tmp_path / "s.ply", sphere(50))
    with pytest.raises(SystemExit) as end:
        main(f"mesh @s.ply {words}".replace("@", f"{tmp_path}/").split())
    text = capsys.readouterr().err
    assert end.value.code == 2 and all(part in text for part in parts), text
    assert [file.name for file in tmp_path.iterdir()] == ["s.ply"]
