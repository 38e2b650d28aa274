"""Structure from motion on photos without cameras."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import psnr, random_sim3
from PIL import Image

from recon import ReconError
from recon.capture import Capture, load_capture, load_views, select_spread
from recon.capture.cameras import transform_frame
from recon.capture.colmap import read_colmap
from recon.capture.exif import exif_focals
from recon.capture.sfm import PosedCapture, SolveConfig, export_colmap, solve_cameras, stages
from recon.capture.sfm import solver as solver_module
from recon.cli import main as cli
from recon.formats import load_gaussians
from render import rasterize
from render.cameras import camera_centers
from training.evaluation.camera_poses import align, relative_errors_deg, solve_again

needs_learned = pytest.mark.skipif(not stages._has_kornia(), reason="needs the extra match")


def ignore(stage: str, done: float) -> None:
    """Ignore the progress."""


@pytest.fixture(scope="module")
def photos(sample: Path, tmp_path_factory) -> Capture:
    """Return the sample's photos without cameras, and one unrelated photo."""
    folder = tmp_path_factory.mktemp("photos")
    shutil.copytree(sample / "images", folder, dirs_exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    capture = load_capture(folder)
    # Depths of another frame of the world, which must not be kept.
    frames = tuple(replace(frame, depth_bounds=(1e3, 1e4)) for frame in capture.frames)
    return replace(capture, frames=frames)


@pytest.fixture(scope="module")
def solved(photos: Capture) -> PosedCapture:
    return solve_cameras(photos, SolveConfig(), ignore)


@pytest.mark.slow
def test_cameras_are_those_of_the_scene(solved: PosedCapture, sample: Path) -> None:
    assert solved.camera_source == "solved" and solved.unregistered == ("noise.png",)
    assert len(solved.capture.frames) == 8 and solved.capture.has_cameras
    expected_cameras = {Path(f.name).name: f.camera for f in load_capture(sample).frames}
    given = torch.stack([expected_cameras[f.name].viewmat for f in solved.capture.frames])
    found = torch.stack([f.camera.viewmat for f in solved.capture.frames])
    # The solver takes the image centre for the principal point; it is 0.7 degrees away.
    assert float(relative_errors_deg(found, given).median()) < 0.8
    positions = align(found, given).apply(camera_centers(found))
    spread = (camera_centers(given) - camera_centers(given).mean(0)).norm(dim=-1).max()
    assert float((positions - camera_centers(given)).norm(dim=-1).max()) < 0.02 * spread
    for frame in solved.capture.frames:
        K, true_K = frame.camera.K, expected_cameras[frame.name].K
        assert float((K[0, 0] / true_K[0, 0] - 1).abs()) < 0.02
        assert frame.points is not None and len(frame.points) > 50
        assert frame.depth_bounds is None


@pytest.mark.slow
def test_the_same_photos_are_solved_once(
    solved: PosedCapture, photos: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments) -> None:
        raise AssertionError("solved again")

    monkeypatch.setattr(solver_module, "run_sfm", never)
    again = solve_cameras(photos, SolveConfig(), ignore)
    for a, b in zip(solved.capture.frames, again.capture.frames, strict=True):
        assert torch.equal(a.camera.viewmat, b.camera.viewmat)
    with pytest.raises(AssertionError, match="solved again"):
        solve_cameras(photos, SolveConfig(use_cache=False), ignore)
    with pytest.raises(AssertionError, match="solved again"):
        solve_cameras(photos, SolveConfig(seed=1), ignore)
    fewer = replace(photos, frames=photos.frames[:-1])
    with pytest.raises(AssertionError, match="solved again"):
        solve_cameras(fewer, SolveConfig(), ignore)


@pytest.mark.slow
def test_exported_project_reads_back(solved: PosedCapture, tmp_path: Path) -> None:
    export_colmap(solved, tmp_path / "project")
    back = load_capture(tmp_path / "project")
    assert back.kind == "colmap"
    for a, b in zip(solved.capture.frames, back.frames, strict=True):
        assert Path(a.name).name == Path(b.name).name and a.camera.K.equal(b.camera.K)
        assert torch.equal(a.camera.viewmat, b.camera.viewmat)
        assert a.image_path.read_bytes() == b.image_path.read_bytes()
    again = read_colmap(tmp_path / "project", tmp_path / "project" / "sparse" / "0")
    assert len(again.frames) == 8


@pytest.mark.slow
def test_command_line(solved: PosedCapture, photos: Capture, tmp_path: Path, capsys) -> None:
    """The scene reproduces the photos, and unregistered photos are listed."""
    scene, cameras = tmp_path / "s.ply", tmp_path / "c.json"
    options = ["--resolution", "96", "--max-views", "3", "--save-cameras", str(cameras)]
    cli.main([str(photos.root), "-o", str(scene), *options])
    assert capsys.readouterr().out.endswith("; left out: noise.png\n")
    given = load_capture(cameras)
    assert len(given.frames) == 8 and given.has_cameras
    used = [given.frames[i] for i in select_spread(given, 3)]
    views, gaussians = load_views(used, 96), load_gaussians(scene)
    shown = rasterize(gaussians, views.cameras).rgb
    assert psnr(shown, views.images) > 22


@pytest.mark.slow
def test_info_knows_what_was_solved(solved: PosedCapture, photos: Capture, capsys) -> None:
    cli.main(["info", str(photos.root)])
    shown = capsys.readouterr()
    assert re.search(r"cameras solved before +8\n", shown.out)
    assert "without overlap with the others: noise.png" in shown.err


@pytest.mark.slow
def test_solving_is_deterministic(solved: PosedCapture, photos: Capture) -> None:
    again = solve_cameras(photos, SolveConfig(use_cache=False), ignore)
    for a, b in zip(solved.capture.frames, again.capture.frames, strict=True):
        assert torch.equal(a.camera.viewmat, b.camera.viewmat) and torch.equal(a.points, b.points)


@pytest.mark.slow
@pytest.mark.parametrize("elsewhere", [[], ["--metric-scale", "2.5", "--center"]])
def test_exported_project_gives_the_same_scene(
    solved: PosedCapture, photos: Capture, elsewhere: list[str], tmp_path: Path
) -> None:
    fast = ["--resolution", "64", "--max-views", "3", "--refine", "0", "--quiet"]
    project = tmp_path / "project"
    options = ["--save-colmap", str(project), *elsewhere]
    cli.main([str(photos.root), "-o", str(tmp_path / "a.ply"), *options, *fast])
    cli.main([str(project), "-o", str(tmp_path / "b.ply"), *fast])
    first, second = (load_gaussians(tmp_path / name) for name in ("a.ply", "b.ply"))
    assert len(first) == len(second)
    near = (first.means - second.means).norm(dim=1) < 1e-3 * first.means.std()
    assert float(near.float().mean()) > 0.99


@pytest.mark.slow
def test_photos_of_different_things(photos: Capture, tmp_path: Path) -> None:
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (192, 256, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    with pytest.raises(
        ReconError,
        match="of the 2 photos in .*: there are too few matches",
    ):
        solve_cameras(load_capture(tmp_path), SolveConfig(), ignore)


@pytest.mark.slow
@pytest.mark.parametrize("matcher", ["sift", pytest.param("aliked", marks=needs_learned)])
def test_two_photos_are_enough(photos: Capture, sample: Path, matcher: str) -> None:
    """Two-view tracks are enough for two cameras."""
    pair = replace(photos, frames=tuple(f for f in photos.frames if f.name[:3] in ("002", "004")))
    assert len(pair.frames) == 2
    solved = solve_cameras(pair, SolveConfig(matcher=matcher), ignore).capture.frames
    expected_cameras = {Path(f.name).name: f.camera for f in load_capture(sample).frames}
    given = torch.stack([expected_cameras[f.name].viewmat for f in solved])
    found = torch.stack([f.camera.viewmat for f in solved])
    assert float(relative_errors_deg(found, given).max()) < 4
    # Lenses are straight, or hardly bent where there are points enough to tell.
    assert all(abs(value) < 0.1 for frame in solved for value in frame.camera.coefficients)


@pytest.mark.slow
def test_down_is_down(solved: PosedCapture, sample: Path) -> None:
    """+y of the solved world is -z of the sample, although all its photos look down on it."""
    expected_cameras = {Path(f.name).name: f.camera for f in load_capture(sample).frames}
    given = torch.stack([expected_cameras[f.name].viewmat for f in solved.capture.frames])
    found = torch.stack([f.camera.viewmat for f in solved.capture.frames])
    down = align(found, given).rotmat @ torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    assert float(torch.rad2deg(torch.arccos(-down[2]))) < 10


@needs_learned
def test_learned_matches_come_second(photos: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALIKED is tried when SIFT leaves photos unregistered; the better outcome is kept."""
    tried, by_sift = [], 0

    def run_matcher(prepared, work, seed, matcher, report) -> stages.Outcome:
        tried.append(matcher)
        return stages.Outcome({"sift": by_sift, "aliked": 6}[matcher], 500, 3, work / matcher)

    monkeypatch.setattr(stages, "_run_matcher", run_matcher)
    prepared = stages.PreparedImages(Path(), None, (), {str(i): {} for i in range(8)})
    for count, expected in ((8, "sift"), (2, "aliked"), (6, "sift"), (7, "sift")):
        by_sift = count
        outcome = stages.run_sfm(prepared, Path(), 0, stages.available_matchers(8), ignore)
        assert outcome.model.name == expected
    assert tried == ["sift", "sift", "aliked", "sift", "aliked", "sift"]
    assert stages.available_matchers(stages.MAX_PHOTOS_LEARNED + 1) == ("sift",)


def test_a_stage_has_a_limit(photos: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    hurried = replace(stages.FEATURES, limit=(0.01, 0.0, 0.0))
    monkeypatch.setitem(stages.STAGES, "sift", (hurried,))
    with pytest.raises(ReconError, match="extracting features took over 0 s"):
        solve_cameras(photos, SolveConfig(use_cache=False), ignore)


def test_a_stage_that_dies_is_one_line(photos: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = replace(stages.FEATURES, command=("no such script.py",))
    monkeypatch.setitem(stages.STAGES, "sift", (missing,))
    with pytest.raises(ReconError, match="extracting features failed: .*no such") as end:
        solve_cameras(photos, SolveConfig(use_cache=False), ignore)
    assert "\n" not in str(end.value)


def test_one_photo_looks_ahead(photos: Capture) -> None:
    alone = replace(photos, frames=photos.frames[:1])
    posed = solve_cameras(alone, SolveConfig(), ignore)
    assert posed.camera_source == "none" and posed.colmap_model is None
    (frame,) = posed.capture.frames
    assert frame.camera is not None and torch.equal(frame.camera.viewmat, torch.eye(4).double())
    width, height = frame.camera.width, frame.camera.height
    assert frame.camera.K[:2, 2].tolist() == [width / 2, height / 2]


def test_many_photos_are_thinned(photos: Capture) -> None:
    many = replace(photos, frames=photos.frames * 60)
    kept = solver_module._reduced(many).frames
    assert len(kept) == solver_module.MAX_SOLVED_PHOTOS
    assert kept[0] is many.frames[0] and kept[-1] is many.frames[-1]


@pytest.mark.parametrize("focal_35mm, expected", [(18, 50.0), (36, 100.0), (0, None), (None, None)])
def test_exif_focal(focal_35mm: int | None, expected: float | None, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Phone"
    if focal_35mm is not None:
        exif.get_ifd(0x8769)[0xA405] = focal_35mm
    Image.new("RGB", (60, 100)).save(tmp_path / "a.jpg", exif=exif)
    (exif,) = exif_focals([tmp_path / "a.jpg"])
    assert exif.focal_px == expected and exif.camera.startswith("Phone")


def test_alignment_undoes_a_sim3(sample: Path) -> None:
    capture = load_capture(sample)
    given = torch.stack([f.camera.viewmat for f in capture.frames if f.camera])
    away = random_sim3(torch.Generator().manual_seed(0))
    frames = [transform_frame(frame, away) for frame in capture.frames]
    found = torch.stack([f.camera.viewmat for f in frames if f.camera])
    assert float(relative_errors_deg(found, given).max()) < 1e-3
    back = align(found, given)
    restored = torch.stack([transform_frame(f, back).camera.viewmat for f in frames])
    assert torch.allclose(restored, given, atol=1e-9)


@pytest.mark.slow
def test_solving_again_lands_in_the_given_frame(sample: Path) -> None:
    capture = load_capture(sample)
    solved, transform = solve_again(capture, SolveConfig())
    for frame, given in zip(solved.capture.frames, capture.frames, strict=True):
        camera = transform_frame(frame, transform).camera
        assert torch.allclose(camera.viewmat, given.camera.viewmat, atol=0.08)
