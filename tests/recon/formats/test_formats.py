"""Every format is read back within its rounding, by recon and by other readers."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from format_helpers import BYTE, EXACT, FORMATS, ROUNDING, as_stored, assert_close, scene_of

from recon import InputError, ReconError
from recon.cli import main as cli
from recon.formats import load_gaussians, open_scene, save_gaussians, write_scene
from recon.formats.codebook import codebook, nearest, palette
from recon.formats.encodings import sh_signs
from recon.formats.glb import write_glb
from recon.formats.gltf import read_document
from recon.formats.source import SceneSource
from recon.formats.spz import SpzConfig, write_spz
from recon.precision import WORLD
from render import Cameras, Gaussians, Sim3

FOREIGN = {".compressed.ply": "compressed.ply", ".splat": "splat", ".spz": "spz", ".sog": "sog"}


@pytest.mark.parametrize("extension, kept", [(".splat", 0), (".sog", 3), (".spz", 4), (".glb", 4)])
def test_convert_says_which_harmonics_are_kept(
    extension: str, kept: int, tmp_path: Path, capsys
) -> None:
    save_gaussians(tmp_path / "a.ply", scene_of(4))
    out = tmp_path / f"b{extension}"
    cli.main(["convert", str(tmp_path / "a.ply"), "-o", str(out)])
    assert load_gaussians(out).sh_degree == kept
    said = f"SH degree {kept}" + (" (4 before)" if kept < 4 else "") + ","
    assert said in capsys.readouterr().out


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("extension", FORMATS)
def test_round_trip(extension: str, degree: int, tmp_path: Path) -> None:
    scene, path = scene_of(degree), tmp_path / f"a{extension}"
    save_gaussians(path, scene)
    assert_close(as_stored(scene, extension), load_gaussians(path), ROUNDING[extension])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("extension", FORMATS)
def test_one_gaussian(extension: str, tmp_path: Path) -> None:
    scene = scene_of(0)[torch.tensor([3])]
    save_gaussians(tmp_path / f"a{extension}", scene)
    assert_close(scene, load_gaussians(tmp_path / f"a{extension}"), ROUNDING[extension])


@pytest.mark.parametrize("extension", FORMATS)
def test_none_at_all(extension: str, tmp_path: Path) -> None:
    nothing, path = scene_of(1)[torch.zeros(0, dtype=torch.long)], tmp_path / f"a{extension}"
    with pytest.raises(ReconError, match="is empty; it needs at least one Gaussian"):
        save_gaussians(path, nothing)
    assert not path.exists()


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("extension", FOREIGN)
def test_gaussforge_reads_what_we_write(extension: str, degree: int, tmp_path: Path) -> None:
    gaussforge = pytest.importorskip("gaussforge")
    scene, path = scene_of(degree), tmp_path / f"a{extension}"
    save_gaussians(path, scene)
    found = gaussforge.GaussForge().convert(path.read_bytes(), FOREIGN[extension], "ply")
    assert "error" not in found, found.get("error")
    (tmp_path / "b.ply").write_bytes(found["data"])
    found = load_gaussians(tmp_path / "b.ply")
    assert_close(as_stored(scene, extension), found, ROUNDING[extension])


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("extension", FOREIGN)
def test_we_read_what_gaussforge_writes(extension: str, degree: int, tmp_path: Path) -> None:
    gaussforge = pytest.importorskip("gaussforge")
    if extension == ".sog" and degree:
        pytest.skip("its palettes take minutes")
    scene = scene_of(degree)
    save_gaussians(tmp_path / "a.ply", scene)
    made = gaussforge.GaussForge().convert(
        (tmp_path / "a.ply").read_bytes(), "ply", FOREIGN[extension]
    )
    path = tmp_path / f"b{extension}"
    path.write_bytes(made["data"])
    back = gaussforge.GaussForge().convert(made["data"], FOREIGN[extension], "ply")
    (tmp_path / "c.ply").write_bytes(back["data"])
    # The same file, read by both.
    assert_close(load_gaussians(tmp_path / "c.ply"), load_gaussians(path), READ_ALIKE)


READ_ALIKE = type(EXACT)(2e-3, 0.01, 5e-3, 5e-3, 0.04, 5e-3)


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("extension", [".compressed.ply", ".splat", ".spz", ".sog"])
def test_splat_transform_reads_what_we_write(extension: str, degree: int, tmp_path: Path) -> None:
    scene = scene_of(degree)
    save_gaussians(tmp_path / f"a{extension}", scene)
    splat_transform(tmp_path, f"a{extension}", "b.ply")
    found = load_gaussians(tmp_path / "b.ply")
    assert_close(as_stored(scene, extension), found, ROUNDING[extension])


@pytest.mark.parametrize("name", ["b.compressed.ply", "b.spz", "b.sog", "b.glb"])
def test_we_read_what_splat_transform_writes(name: str, tmp_path: Path) -> None:
    scene = scene_of(0 if name == "b.sog" else 2)
    save_gaussians(tmp_path / "a.ply", scene)
    splat_transform(tmp_path, "a.ply", name)
    back = load_gaussians(tmp_path / name)
    rounding = ROUNDING[name[1:]]
    if name == "b.spz":
        # It rounds SH to 5 and 4 bits, and positions to 1/4096.
        rounding = type(EXACT)(1e-3, 0.04, 3e-3, 0.02, 0.07, 0.01)
    if name == "b.sog":
        # It cuts where we round.
        rounding = type(EXACT)(4e-4, 0.02, 2 * BYTE, 0.03, 9.0, 0.02)
    order = match(scene, back)
    assert_close(scene, back[order], rounding)


def splat_transform(folder: Path, source: str, target: str) -> None:
    command = shutil.which("splat-transform")
    if command is None:
        pytest.skip("splat-transform is not on PATH (npm install -g @playcanvas/splat-transform)")
    subprocess.run(
        [command, "-w", "-g", "cpu", source, target], cwd=folder, check=True, capture_output=True
    )


def match(scene: Gaussians, other: Gaussians) -> torch.Tensor:
    """Return the index of the nearest Gaussian of the other scene."""
    return torch.cdist(scene.means, other.means).argmin(1)


def test_sign_flips_of_sh_agree_with_rotations() -> None:
    """The signs for spz and glb are those of a rotation of the scene."""
    scene = scene_of(3)
    for flips in ({"x": 1, "y": -1, "z": -1}, {"x": -1, "y": -1, "z": 1}):
        rotation = torch.diag(torch.tensor([float(flips[axis]) for axis in "xyz"]))
        rotated = scene.transformed(Sim3(torch.tensor(1.0), rotation, torch.zeros(3)))
        expected = scene.sh * torch.from_numpy(sh_signs(flips, 16))
        assert torch.allclose(rotated.sh, expected, atol=1e-5)


def test_glb_applies_the_transform_of_its_node(tmp_path: Path) -> None:
    """A node's translation and scale apply in the axes of glTF (x and y negated)."""
    scene, path = scene_of(1), tmp_path / "a.glb"
    write_glb(path, SceneSource.of(scene))
    data = path.read_bytes()
    moved = b'"nodes": [{"scale": [2, 2, 2], "translation": [1, 0, 3], "mesh": 0}]'
    plain = b'"nodes": [{"mesh": 0}]'
    # The JSON is padded with spaces: take as many away as the new text is longer.
    longer = len(moved) - len(plain)
    text_length = int.from_bytes(data[12:16], "little")
    text = data[20 : 20 + text_length].replace(plain, moved)
    text += b" " * (-len(text) % 4)
    size = len(data) + len(text) - text_length
    head = data[:8] + size.to_bytes(4, "little") + len(text).to_bytes(4, "little") + data[16:20]
    path.write_bytes(head + text + data[20 + text_length :])
    assert longer > 0
    back = load_gaussians(path)
    assert torch.allclose(back.means, 2 * scene.means + torch.tensor([-1.0, 0, 3]), atol=1e-5)
    assert torch.allclose(back.scales, 2 * scene.scales, rtol=1e-5)


@pytest.mark.parametrize("origin", [WORLD, (500_000.0, 5_000_000.0, 100.0)], ids=["near", "far"])
@pytest.mark.parametrize("up", ["+z", "+y", "-y"])
def test_up_of_glb_is_that_of_the_cameras(
    up: str, origin: tuple[float, float, float], tmp_path: Path
) -> None:
    """+y of glTF's world is up, and the scene is read back as it was."""
    scene, path = scene_of(2), tmp_path / "a.glb"
    axis = {"+z": (0.0, 0, 1), "+y": (0.0, 1, 0), "-y": (0.0, -1, 0)}[up]
    ahead = (1.0, 0, 0)
    down = torch.tensor(axis).neg()
    right = torch.linalg.cross(down, torch.tensor(ahead))
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3] = torch.stack([right, down, torch.tensor(ahead)], 1)
    start = Cameras.from_c2w(c2w[None], torch.eye(3).double()[None] * 50, 64, 48)
    source = SceneSource.of(scene, origin, start=start)
    assert source.up_axis() == up
    write_glb(path, source)
    document = read_document(path)
    ((matrix, primitive),) = document.primitives()
    stored = document.accessor(primitive["attributes"], "POSITION", 3).astype(np.float64)
    shown = stored @ matrix[:3, :3].T + matrix[:3, 3]
    world = scene.means.double().numpy() + origin
    assert np.abs(shown[:, 1] - world @ axis).max() < 1e-6
    assert np.linalg.det(matrix[:3, :3]) == 1
    ((_, camera, _),) = document.perspective_cameras()
    assert np.allclose(camera[:3, 1], [0, 1, 0])
    back = open_scene(path)
    assert torch.equal(back.load().means, scene.means) or origin != WORLD
    found = back.load().means.double().numpy() + back.origin
    assert np.abs(found - world).max() < 1e-5
    assert torch.equal(back.load().sh, scene.sh)
    assert torch.allclose(back.load().quats, scene.quats, atol=1e-6)
    assert back.start is not None and torch.allclose(back.start.c2w, c2w)


def test_spz_positions_fit_scenes_of_any_size(tmp_path: Path) -> None:
    scene, path = scene_of(0), tmp_path / "a.spz"
    for size in (1e-3, 1.0, 1e3, 1e6):
        large = Gaussians(
            size * scene.means, scene.quats, size * scene.scales, scene.opacities, scene.sh
        )
        save_gaussians(path, large)
        away = (load_gaussians(path).means - large.means).abs().max()
        assert float(away) <= 1e-3 * size, size
    write_spz(path, SceneSource.of(scene), SpzConfig(fraction_bits=4))
    assert float((load_gaussians(path).means - scene.means).abs().max()) > 0.02


def test_codebook_is_better_than_equal_steps() -> None:
    values = np.random.default_rng(0).standard_normal(20_000) ** 3
    centers = codebook(values)
    assert len(centers) == 256 and (np.diff(centers) >= 0).all()
    error = np.abs(centers[nearest(centers, values)] - values)
    even = np.linspace(values.min(), values.max(), 256)
    assert np.square(error).mean() < 0.25 * np.square(even[nearest(even, values)] - values).mean()


def test_palette_of_few_vectors_is_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randn(40, 9, generator=generator)
    vectors = kinds[torch.randint(40, (3000,), generator=generator)]
    centers, label = palette(vectors, 1024)
    assert len(centers) <= 1100 and int(label.max()) < len(centers)
    assert float((centers[label] - vectors).abs().max()) < 1e-3


def test_glb_beyond_its_limit_is_not_begun(tmp_path: Path) -> None:
    source = SceneSource(80_000_000, 0, lambda: iter(()))
    with pytest.raises(InputError, match=r"a.glb: it would have 4,800,.* bytes, and a .glb at most "
                       "4,294,967,295; choose .ply or .usdc"):  # fmt: skip
        write_scene(tmp_path / "a.glb", source)
    assert not list(tmp_path.iterdir())
