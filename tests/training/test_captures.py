"""Photos with structure-from-motion points as training scenes."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from recon.capture import Capture, Frame, load_capture, pinhole_cameras, write_transforms
from recon.capture.types import FrameCamera
from recon.errors import ReconError, ReconWarning
from render import Cameras
from render.cameras import look_at
from training.config import read_config
from training.data import sparse_depth
from training.data.captures import CaptureScenes, CapturesConfig, PosedPhotos, attribution
from training.data.sparse_points import read_sparse_points, triangulation_angles
from training.data.types import SampleRequest, TrainingSample, problem_of

WIDTH, HEIGHT, PHOTOS, STEP_DEG, DISTANCE = 120, 90, 9, 6.0, 3.0
HIDDEN = 40  # points that no photo sees, since they are occluded


def colors_of(points: np.ndarray) -> np.ndarray:
    """The texture of the plane z = 0, smooth enough to be compared between pixels."""
    x, y = points[..., 0], points[..., 1]
    return np.stack([0.5 + 0.3 * np.sin(2 * x + k) * np.cos(1.5 * y - k) for k in range(3)], -1)


def write_capture(folder: Path, with_points: bool = True) -> Path:
    """Photos from an arc around a plane, and points on it; the last are seen by nobody."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for i in range(PHOTOS):
        angle = math.radians(STEP_DEG * (i - (PHOTOS - 1) / 2))
        position = torch.tensor([math.sin(angle), -0.2, -math.cos(angle)]).double() * DISTANCE
        viewmat = look_at(position, torch.zeros(3).double())
        camera = Cameras.from_focal(viewmat, 110.0, WIDTH, HEIGHT, center_px=(58.0, 47.0))
        rays_o, rays_d = (rays.numpy() for rays in camera.rays())
        hits = rays_o - rays_d * (rays_o[..., 2:] / rays_d[..., 2:])
        name = f"images/{i}.png"
        Image.fromarray((255 * colors_of(hits)).round().astype(np.uint8)).save(folder / name)
        frames.append(Frame(name, folder / name, FrameCamera(viewmat, camera.Ks, WIDTH, HEIGHT)))
    write_transforms(folder / "transforms.json", frames)
    if with_points:
        rng = np.random.default_rng(0)
        xyz = np.concatenate([rng.uniform(-1.2, 1.2, (400, 2)), np.zeros((400, 1))], 1)
        shown = len(xyz) - HIDDEN
        # Photo i does not see point i. Points are listed twice, as with several features.
        visible = [np.tile(np.delete(np.arange(shown), i), 2) for i in reversed(range(PHOTOS))]
        offsets = 2 * (shown - 1) * np.arange(PHOTOS + 1)
        # The rows of the file are in another order than the photos.
        names = np.array([frame.name for frame in reversed(frames)])
        np.savez(
            folder / "points.npz", xyz=xyz.astype(np.float32), image_names=names, offsets=offsets,
            point_idx=np.concatenate(visible).astype(np.int32),
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_capture(tmp_path_factory.mktemp("captures") / "plane")


@pytest.fixture()
def sample_of(capture: Path) -> Callable[..., TrainingSample]:
    def sample(seed: int, **options: object) -> TrainingSample:
        request = SampleRequest(seed, 2, 1, 40, 30)
        found = CaptureScenes(CapturesConfig(1.0, str(capture), **options)).sample(request)
        assert problem_of(found, request) is None
        return found

    return sample


def test_depth_pixels_and_cameras_agree(
    sample_of: Callable[..., TrainingSample], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_depth, "estimate_depth_range", None)  # too slow to be used
    focal = set()
    for seed in range(6):
        sample = sample_of(seed, color=0.0)
        known = sample.depth.isfinite()
        assert 20 < int(known.sum()) / 3 < 361
        rays_o, rays_d = sample.cameras.rays()
        points = (rays_o + sample.depth[..., None] * rays_d)[known]
        # A point is up to half a diagonal of a pixel from the pixel's ray: 0.06 on the plane.
        assert float(points[:, 2].abs().max()) < 0.06
        expected = torch.from_numpy(colors_of(points.numpy())).float()
        assert float((sample.images.movedim(1, -1)[known] - expected).abs().max()) < 0.08
        exact = (rays_o - rays_d * (rays_o[..., 2:] / rays_d[..., 2:])).numpy()
        expected = torch.from_numpy(colors_of(exact)).float().movedim(-1, 1)
        assert float((sample.images - expected).abs().mean()) < 0.002
        focal.add(round(float(sample.cameras.Ks[0, 0, 0])))
        assert torch.allclose(sample.cameras.Ks[:, 0, 0], sample.cameras.Ks[0, 0, 0])
    assert len(focal) > 3 and min(focal) >= 36 and max(focal) <= 2 * 37  # zoom of 1 to 2


def test_only_points_that_a_photo_sees_have_depth(capture: Path) -> None:
    points = read_sparse_points(load_capture(capture))
    assert points is not None and len(points.xyz) == 400
    for photo, index in enumerate(points.seen):
        assert index.tolist() == [i for i in range(400 - HIDDEN) if i != photo]
    cameras = Cameras.from_focal(
        look_at(torch.tensor([0.0, -0.1, -3.0]), torch.zeros(3))[None], 40.0, 40, 30
    )
    depth, ranges = sparse_depth.sparse_depths(points, [0], cameras)
    means2d, z = cameras[0].project(torch.from_numpy(points.xyz))
    x, y = means2d.floor().long().unbind(1)
    inside = (x >= 0) & (x < 40) & (y >= 0) & (y < 30)
    for i in range(400 - HIDDEN):
        if inside[i] and i != 0:
            assert float(depth[0, y[i], x[i]]) <= float(z[i]) + 1e-6
    seen = inside.clone()
    seen[0] = seen[-HIDDEN:] = False
    assert int(depth.isfinite().sum()) == len(torch.stack([x, y])[:, seen].unique(dim=1).T)
    low, high = np.quantile(z[seen].numpy(), (0.02, 0.98))
    assert ranges[0].tolist() == pytest.approx([0.8 * low, 1.3 * high], rel=1e-5)


def test_few_points_leave_the_range_to_the_plane_sweep(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "few")
    arrays = dict(np.load(folder / "points.npz", allow_pickle=False))
    arrays["offsets"] = 10 * np.arange(PHOTOS + 1)
    np.savez(folder / "points.npz", **arrays)
    sample = CaptureScenes(CapturesConfig(1.0, str(folder))).sample(SampleRequest(0, 2, 1, 40, 30))
    assert float(sample.near[0]) < DISTANCE < float(sample.far[0])


def test_views_are_chosen_by_angle(capture: Path) -> None:
    found = load_capture(capture)
    points, cameras = read_sparse_points(found), pinhole_cameras(found)
    assert points is not None
    angles = triangulation_angles(points, cameras)
    for i in range(PHOTOS - 1):
        assert float(angles[i, i + 1]) == pytest.approx(STEP_DEG, rel=0.15)
    posed = PosedPhotos.read(found, "plane", 1.0)
    for limits, baseline, allowed in (
        ((4.0, 9.0), 1.0, {1}),
        ((8.0, 16.0), 1.0, {2}),
        ((8.0, 16.0), 0.5, {1}),
    ):
        config = CapturesConfig(angles_deg=limits)
        for seed in range(5):
            request = SampleRequest(seed, 1, 1, baseline=baseline)
            first, second = posed.draw_views(config, request, request.generator())
            assert abs(first - second) in allowed
    apart = replace(posed, angles_deg=torch.full((PHOTOS, PHOTOS), math.inf))
    request = SampleRequest(0, 3, 2)
    chosen = apart.draw_views(CapturesConfig(), request, request.generator())
    assert len(set(chosen)) == 5 and max(chosen) - min(chosen) <= 6  # the nearest ones


def test_points_of_colmap_are_matched_between_photos(capture: Path) -> None:
    frames = load_capture(capture).frames[:2]
    points = torch.rand(5, 3, generator=torch.Generator().manual_seed(0)).double()
    parts = (points[:4], points[[4, 1, 3]])
    frames = tuple(replace(f, points=p) for f, p in zip(frames, parts, strict=True))
    found = read_sparse_points(Capture(capture, "colmap", frames))
    assert found is not None and len(found.xyz) == 5
    common = found.xyz[found.common([0, 1])]
    assert sorted(common.tolist()) == sorted(points[[1, 3]].float().tolist())


def test_colours_change_alike_in_all_views(sample_of: Callable[..., TrainingSample]) -> None:
    plain, changed = sample_of(2, color=0.0), sample_of(2, color=0.3)
    assert torch.equal(plain.depth.isnan(), changed.depth.isnan())
    ratio = [changed.images[v].mean((1, 2)) / plain.images[v].mean((1, 2)) for v in range(3)]
    assert float((ratio[0] - 1).abs().max()) > 0.02
    assert torch.allclose(ratio[0], ratio[1], atol=0.03)


def test_weights_and_patterns_choose_captures(capture: Path, tmp_path: Path) -> None:
    for name in ("sea_a", "sea_b", "land"):
        shutil.copytree(capture, tmp_path / name)

    def drawn(**options: object) -> set[str]:
        source = CaptureScenes(CapturesConfig(1.0, str(tmp_path), **options))
        requests = [SampleRequest(seed) for seed in range(20)]
        return {source._draw_capture(r, r.generator()).name for r in requests}

    assert drawn() == {"sea_a", "sea_b", "land"}
    assert drawn(weights={"sea_*": 0.0}) == {"land"}
    assert drawn(weights={"sea_a": 1.0, "sea_*": 0.0, "land": 0.0}) == {"sea_a"}
    assert drawn(exclude=("sea_?",)) == {"land"}
    assert drawn(held_out=("land",)) == {"sea_a", "sea_b"}
    for key in ("exclude", "held_out", "weights"):
        with pytest.raises(ReconError, match=f"captures.{key}: no capture in .* matches 'see_'"):
            drawn(**{key: {"see_": 1.0} if key == "weights" else ("see_",)})


def test_captures_that_cannot_be_read_are_told(capture: Path, tmp_path: Path) -> None:
    (tmp_path / "good").symlink_to(capture)
    for name in ("bad", "unwanted"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "transforms.json").write_text("{")
    scenes = CaptureScenes(CapturesConfig(folder=str(tmp_path), exclude=("unwanted",)))
    with pytest.warns(ReconWarning) as told:
        assert len(scenes.captures) == 1
    (text,) = [str(warning.message) for warning in told]
    assert f"folder: {tmp_path}/bad is left out: {tmp_path}/bad/transforms.json is not" in text


def test_patterns_and_ranges_are_read_from_configs() -> None:
    lines = ["weights={'sea_*': 1, land: 0.5}", "angles_deg=[2, 25]", "exclude=[sky]"]
    config = read_config(None, [f"dataset.captures.{line}" for line in lines]).dataset.captures
    assert config.weights == {"sea_*": 1.0, "land": 0.5} and config.exclude == ("sky",)
    assert config.angles_deg == (2.0, 25.0)


def test_held_out_captures_are_for_validation(capture: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(capture, tmp_path / name)
    source = CaptureScenes(CapturesConfig(1.0, str(tmp_path), held_out=("two",)))
    for held_out, name in ((False, "one"), (True, "two")):
        requests = [SampleRequest(s, held_out=held_out) for s in range(8)]
        assert {source._draw_capture(r, r.generator()).name for r in requests} == {name}


def test_damaged_points_are_named(tmp_path: Path) -> None:
    folder = write_capture(tmp_path / "damaged")
    arrays = dict(np.load(folder / "points.npz", allow_pickle=False))
    source = CaptureScenes(CapturesConfig(1.0, str(folder)))
    for change, message in (
        ({"xyz": arrays["xyz"][:9]}, "indices outside 0 to 8"),
        ({"xyz": arrays["xyz"][:, :2]}, r"xyz has shape \(400, 2\)"),
        ({"offsets": arrays["offsets"][:2]}, "index 8 is out of bounds"),
    ):
        np.savez(folder / "points.npz", **{**arrays, **change})
        with pytest.raises(ReconError, match=f"cannot read .*points.npz: .*{message}"):
            source.sample(SampleRequest(0))
    (folder / "points.npz").write_bytes(b"PK broken")
    with pytest.raises(ReconError, match=r"cannot read .*points.npz"):
        source.sample(SampleRequest(0))


def test_attribution_lists_used_captures(tmp_path: Path) -> None:
    for name, licence in (("a", "CC0-1.0"), ("b", "CC-BY-4.0"), ("share", "CC-BY-SA-4.0")):
        (tmp_path / name).mkdir()
        text = f"set: {name}\nlicence: {licence}\nattribution: A|B: C\nchanges: resized\n"
        (tmp_path / name / "SOURCE.txt").write_text(text)
    lines = attribution(tmp_path, ["share*"]).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| a |  | CC0-1.0 | A/B: C |")
    with pytest.raises(ReconError, match="no captures with a SOURCE.txt"):
        attribution(tmp_path, ["*"])
