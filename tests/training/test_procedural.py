"""Procedural scenes are exact, deterministic, varied, and their views overlap."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recon.errors import InputError
from training.data.frames import decode_frame
from training.data.procedural import ProceduralConfig, generate
from training.data.procedural.bank import LEVELS, SIDE_PX, TextureBank, list_photos, make_bank
from training.data.procedural.builder import stage_rng
from training.data.procedural.cast import NEVER, Caster
from training.data.procedural.layout import KINDS, World, random_world
from training.data.procedural.mesh import boxes
from training.data.procedural.paths import MIN_OVERLAP, clear_cameras, flat_rays, overlap
from training.data.procedural.sample import MAX_RATIO
from training.data.procedural.shapes import SHAPES
from training.data.types import SampleRequest, Unusable, problem_of

CONFIG = ProceduralConfig()


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return make_bank(noises=6)


def world(seed: int, complexity: float = 1.0) -> World:
    return random_world(seed, 6, 6, complexity)


def first_hit(world: World, origins: np.ndarray, dirs: np.ndarray) -> np.ndarray:
    """Test every ray against every triangle in float64 (Möller and Trumbore 1997)."""
    a, b, c = world.layout.vertices[world.layout.faces].astype(float).transpose(1, 0, 2)
    depths = []
    for o, d in zip(origins.astype(float), dirs.astype(float), strict=True):
        p = np.cross(d, c - a)
        det = ((b - a) * p).sum(1)
        det = np.where(abs(det) < 1e-12, np.inf, det)
        u = ((o - a) * p).sum(1) / det
        q = np.cross(o - a, b - a)
        v = (q @ d) / det
        t = ((c - a) * q).sum(1) / det
        inside = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & np.isfinite(det)
        depths.append(np.where(inside, t, NEVER).min())
    return np.array(depths)


def test_depth_is_that_of_the_nearest_triangle() -> None:
    found = 0
    for seed in range(3):
        scene, request = world(seed), SampleRequest(seed, 2, 0, 8, 6)
        caster = Caster(scene.layout)
        cameras = clear_cameras(stage_rng(seed, "cameras"), scene, caster, request)
        origins, dirs = flat_rays(cameras)
        depth, expected = caster.hits(origins, dirs).depth, first_hit(scene, origins, dirs)
        same = np.abs(depth - expected) <= 1e-3 * expected
        assert same.mean() > 0.98  # all but rays along an edge
        found += int((depth < NEVER).sum())
    assert found > 150


def test_depth_of_a_sample_is_z_at_pixel_centres(bank: TextureBank) -> None:
    for supersampling in (1, 2):
        config = ProceduralConfig(supersampling=supersampling)
        sample = generate(SampleRequest(3, 2, 0, 8, 6), config, bank)
        expected = first_hit(world(3), *flat_rays(sample.cameras))
        expected = np.minimum(expected, float(sample.far[0])).reshape(2, 6, 8)
        same = np.abs(sample.depth.numpy() - expected) <= 1e-3 * expected
        assert same.mean() > 0.98


def test_same_request_same_bytes(bank: TextureBank) -> None:
    requests = [SampleRequest(seed, 3, 0, 48, 40) for seed in (5, 5, 6)]
    one, two, other = (generate(request, CONFIG, bank) for request in requests)
    assert torch.equal(one.images, two.images) and torch.equal(one.depth, two.depth)
    assert torch.equal(one.cameras.viewmats, two.cameras.viewmats)
    assert not torch.equal(one.images, other.images)


def test_stages_do_not_shift_each_other(bank: TextureBank) -> None:
    """Fewer things leave the light, the exposure and the surroundings as they were."""
    assert stage_rng(1, "light").random() != stage_rng(1, "cameras").random()
    assert stage_rng(1, "light").random() == stage_rng(1, "light").random()
    for seed in range(5):
        full, few = world(seed), world(seed, 0.2)
        assert full.kind == few.kind and len(few.layout.faces) < len(full.layout.faces)
        if full.kind == "table":
            count = 12  # vertices of the table's top
            assert np.array_equal(full.layout.vertices[:count], few.layout.vertices[:count])


def test_cameras_are_outside_of_things_and_views_overlap() -> None:
    overlaps = []
    for seed in range(14):
        scene = world(seed)
        caster = Caster(scene.layout)
        request = SampleRequest(seed, 2, 2, 96, 72)
        cameras = clear_cameras(stage_rng(seed, "cameras"), scene, caster, request)
        centers = cameras.centers.numpy()[:, None]
        within = (centers > scene.layout.low) & (centers < scene.layout.high)
        assert not within.all(-1).any(), seed
        small = cameras.resized(24, 18)
        depth = caster.hits(*flat_rays(small)).depth.reshape(4, -1)
        assert (depth < NEVER).mean(1).min() > 0.2, seed
        overlaps.append(overlap(small, depth))
    assert np.median(overlaps) > MIN_OVERLAP and np.mean(np.array(overlaps) > 0.25) >= 0.85


@pytest.mark.parametrize("views", [2, 8])
def test_samples_are_what_networks_need(bank: TextureBank, views: int) -> None:
    contrasts = []
    for seed in range(5):
        request = SampleRequest(seed, views, 0, 40, 32)
        sample = generate(request, CONFIG, bank)
        assert problem_of(sample, request) is None
        near, far = float(sample.near[0]), float(sample.far[0])
        assert 0 < near < far <= 1.0001 * MAX_RATIO * near
        assert near <= float(sample.depth.min()) * 1.0001
        assert float(sample.depth.max()) <= far * 1.00001
        contrasts.append(float(sample.images.std()))
        assert 0.15 < float(sample.images.mean()) < 0.97
    assert sorted(contrasts)[len(contrasts) // 2] > 0.1  # textured and lit, not grey


def test_scenes_vary() -> None:
    worlds = [world(seed) for seed in range(24)]
    assert {scene.kind for scene in worlds} == set(KINDS)
    counts = [len(scene.layout.low) for scene in worlds]
    assert min(counts) < 30 and max(counts) > 150
    assert {scene.closed for scene in worlds} == {True, False}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_are_finite_and_of_the_size_asked_for(name: str) -> None:
    for seed in range(10):
        mesh = SHAPES[name](stage_rng(seed, name), 0.5)
        assert np.isfinite(mesh.vertices).all() and np.isfinite(mesh.uv).all()
        assert mesh.faces.min() >= 0 and mesh.faces.max() < len(mesh.vertices)
        assert 0.03 < np.abs(mesh.vertices).max() < 1.5
        lengths = np.linalg.norm(mesh.normals, axis=1)
        assert np.mean(np.abs(lengths - 1) < 1e-3) > 0.6  # all but poles


def test_faces_of_boxes_fit_their_normals() -> None:
    mesh = boxes(np.array([[0.0, 0, 0], [3, 0, 0]]), np.array([[1.0, 2, 3], [1, 1, 1]]))
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert np.allclose(
        np.abs((normals * mesh.normals[mesh.faces[:, 0]]).sum(1)), np.linalg.norm(normals, axis=1)
    )
    low, high = mesh.vertices[:24].min(0), mesh.vertices[:24].max(0)
    assert low.tolist() == [-1, -2, -3] and high.tolist() == [1, 2, 3]


def test_textures_tile_and_have_mipmaps(bank: TextureBank) -> None:
    assert bank.level(0).shape == (6, SIDE_PX, SIDE_PX, 3)
    assert bank.level(LEVELS - 1).shape[1] == SIDE_PX >> (LEVELS - 1)
    texture, uv = np.arange(len(bank)), np.full((len(bank), 2), 0.3, np.float32)
    near = bank.look_up(texture, uv, np.full(len(bank), 1 / SIDE_PX))
    again = bank.look_up(texture, uv + 5, np.full(len(bank), 1 / SIDE_PX))
    assert np.allclose(near, again, atol=1e-3)
    x = int(0.3 * SIDE_PX - 0.5)
    square = bank.level(0)[:, x : x + 2, x : x + 2] ** 2
    assert (near >= square.min((1, 2)) - 1e-4).all() and (near <= square.max((1, 2)) + 1e-4).all()
    far = bank.look_up(texture, uv, np.full(len(bank), 10.0))
    assert np.abs(np.sqrt(far) - bank.level(0).mean((1, 2))).mean() < 0.2


@pytest.mark.parametrize("content", [b"no photo", b""])
def test_damaged_photos_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"dataset\.photos: cannot read .*a\.png: .*remove it"):
        make_bank(list_photos(str(tmp_path)), noises=1)
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    cut = (tmp_path / "a.png").read_bytes()[:60]
    (tmp_path / "a.png").write_bytes(cut)
    with pytest.raises(InputError, match=r"dataset\.photos: cannot read .*a\.png"):
        make_bank(list_photos(str(tmp_path)), noises=1)


def test_images_that_are_too_large_are_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a clip as of the photos of textures: Pillow refuses what may be an attack."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    with pytest.raises(Unusable, match="corrupt image"):
        decode_frame(buffer.getvalue(), (1.0, 1.0, 0.5, 0.5), 16, 16)
