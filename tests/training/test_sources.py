"""Sources of training scenes beside the procedural ones, and their mixture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from re10k_files import frames_of, write_chunk, write_text

from recon.errors import ConfigError, ReconError
from training.config import DatasetConfig, read_config
from training.data.captures import CaptureScenes, CapturesConfig
from training.data.clips import RealEstate10KConfig, RealEstate10KScenes, _block_seed
from training.data.meshes import MeshesConfig, MeshScenes
from training.data.meshes import source as mesh_source
from training.data.procedural import ProceduralConfig
from training.data.types import SampleRequest, TrainingSample
from training.sources import build_source


def same(a: TrainingSample, b: TrainingSample) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.cameras.viewmats, b.cameras.viewmats)


# RealEstate10K


@pytest.fixture(scope="module", params=["chunk", "text"])
def clips(
    request: pytest.FixtureRequest, sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An undamaged clip, and one with a broken and a missing frame."""
    folder = tmp_path_factory.mktemp("clips")
    files, cameras = frames_of(sample, 7, 64)
    broken = [files[0], b"broken", *files[2:]]
    if request.param == "chunk":
        write_chunk(folder / "000000.torch", {"a": (files, cameras), "b": (broken, cameras)})
        (folder / "000001.torch").write_bytes(b"not a chunk")
    else:
        write_text(folder, "a", files, cameras)
        write_text(folder, "b", broken, cameras)
        (folder / "b" / "99000.jpg").unlink()
    return folder


def test_context_of_a_clip_spans_its_targets(clips: Path) -> None:
    config = RealEstate10KConfig(folder=str(clips), gap=(4, 5), held_out=0.0)
    source = RealEstate10KScenes(config)
    _, cameras = frames_of_clips(clips)
    for seed in range(12):
        request = SampleRequest(seed, 3, 1, 48, 32, step=seed * 50)
        sample = source.sample(request)
        assert sample.images.shape == (4, 3, 32, 48)
        assert bool(torch.isnan(sample.depth).all())
        order = [int((cameras - c).norm(dim=1).argmin()) for c in sample.cameras.centers.float()]
        assert order[2] - order[0] in (4, 5) and order[0] < order[1] < order[2]
        assert order[0] < order[3] < order[2]
        baseline = float((sample.cameras.centers[2] - sample.cameras.centers[0]).norm())
        assert float(sample.near[0]) == pytest.approx(baseline, rel=1e-4)
        assert float(sample.far[0]) == pytest.approx(100 * baseline, rel=1e-4)
        assert same(sample, RealEstate10KScenes(config).sample(request))
    assert source.skipped.reasons["corrupt image"] > 0


def test_one_context_view_of_a_clip_is_refused(clips: Path) -> None:
    message = "dataset.context must be at least 2 with dataset.realestate10k, .* found 1"
    source = RealEstate10KScenes(RealEstate10KConfig(folder=str(clips), gap=(4, 5)))
    with pytest.raises(ConfigError, match=message):
        source.sample(SampleRequest(0, 1, 2, 48, 32))
    words = [
        "dataset.realestate10k.weight=1", f"dataset.realestate10k.folder={clips}",
        "dataset.context=[1, 4]",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        build_source(read_config(None, words).dataset, 0, "cpu")


def test_runs_with_other_seeds_read_other_chunks(clips: Path) -> None:
    """Of the first order, the chunk is the one it has always been."""
    blocks = range(40)

    def seeds(order: int) -> list[int]:
        requests = (SampleRequest(0, 2, 1, 48, 32, step=50 * b + 7, order=order) for b in blocks)
        return [_block_seed(request) for request in requests]

    assert seeds(0) == list(blocks)
    assert len({*seeds(0), *seeds(1), *seeds(2)}) == 3 * len(blocks)


def frames_of_clips(clips: Path) -> tuple[int, torch.Tensor]:
    from training.data.realestate10k import open_clips
    from training.data.types import Skipped

    clip = next(c for c in open_clips(clips, Skipped()) if c.key == "a")
    rotmats, shifts = clip.viewmats[:, :3, :3], clip.viewmats[:, :3, 3:]
    return len(clip), (-rotmats.mT @ shifts)[..., 0]


def test_unusable_clips_are_named(tmp_path: Path, sample: Path) -> None:
    files, cameras = frames_of(sample, 3, 64)
    write_text(tmp_path, "short", files, cameras)
    source = RealEstate10KScenes(RealEstate10KConfig(folder=str(tmp_path)))
    with pytest.raises(ReconError, match=r"no usable clip .*clip too short \(20\)"):
        source.sample(SampleRequest(0))


# Captures


def test_captures_are_cropped_to_size(sample: Path) -> None:
    source = CaptureScenes(CapturesConfig(folder=str(sample), neighbours=4))
    seen = set()
    for seed in range(6):
        request = SampleRequest(seed, 2, 2, 48, 48)
        scene = source.sample(request)
        assert scene.images.shape == (4, 3, 48, 48)
        assert scene.cameras.width == scene.cameras.height == 48
        assert bool((scene.near > 0).all()) and bool((scene.near < scene.far).all())
        assert same(scene, source.sample(request))
        seen.add(float(scene.images.sum()))
    assert len(seen) > 3
    large = source.sample(SampleRequest(0, 2, 0, 96, 96))
    small = source.sample(SampleRequest(0, 2, 0, 48, 48))
    assert torch.allclose(large.cameras.Ks[:, :2], 2 * small.cameras.Ks[:, :2], rtol=0.03)


def test_unusable_captures_are_named(sample: Path, tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="no captures with cameras in"):
        CaptureScenes(CapturesConfig(folder=str(tmp_path))).sample(SampleRequest(0))
    with pytest.raises(ReconError, match="has the 50 photos that context and targets need"):
        CaptureScenes(CapturesConfig(folder=str(sample))).sample(SampleRequest(0, 48, 2))


# Meshes


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A textured box (GLB), a red ball (OBJ) and a broken file."""
    folder = tmp_path_factory.mktemp("meshes")
    checks = np.zeros((8, 8, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = (20, 200, 40)
    box = trimesh.creation.box((2, 1, 1))
    uv = box.vertices[:, :2] + 0.5
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(checks))
    box.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    box.export(folder / "box.glb")
    ball = trimesh.creation.icosphere(3)
    red = trimesh.visual.material.SimpleMaterial(diffuse=[220, 10, 10, 255])
    ball.visual = trimesh.visual.TextureVisuals(uv=np.zeros((len(ball.vertices), 2)), material=red)
    (folder / "ball").mkdir()
    ball.export(folder / "ball" / "ball.obj")
    (folder / "broken.glb").write_bytes(b"glTF and then nothing")
    return folder


def test_meshes_are_rendered_once_and_exactly(
    meshes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = str(tmp_path / "cache")
    config = MeshesConfig(folder=str(meshes), cache=cache, rendered=6, held_out=0)
    source = MeshScenes(config)
    requests = [SampleRequest(seed, 2, 1, 48, 40) for seed in range(8)]
    samples = [source.sample(request) for request in requests]
    assert source.skipped.reasons["unreadable mesh"] > 0
    assert len(list((tmp_path / "cache").iterdir())) == 2
    for scene in samples:
        assert scene.images.shape == (3, 3, 40, 48)
        solid = scene.depth < 0.999 * scene.far[0]
        assert 0.05 < float(solid.float().mean()) < 0.95
        rays_o, rays_d = scene.cameras.rays()
        points = (rays_o + scene.depth[..., None] * rays_d)[solid]
        assert float(points.norm(dim=1).max()) < 1.001  # in the unit sphere
        if float(points.norm(dim=1).min()) > 0.54:  # the ball: half the box's diagonal, 1/sqrt(3)
            assert float(points.norm(dim=1).std()) < 0.01
    monkeypatch.setattr(mesh_source, "render_mesh", None)
    for request, scene in zip(requests, samples, strict=True):
        if request.seed not in broken_first(meshes, config):
            assert same(scene, MeshScenes(config).sample(request))


def broken_first(meshes: Path, config: MeshesConfig) -> set[int]:
    """Seeds that try the broken file, which is not cached."""
    files = list(MeshScenes(config).files)
    broken = [i for i, file in enumerate(files) if file.name == "broken.glb"]
    tried = set()
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        if int(torch.randint(len(files), (), generator=generator)) in broken:
            tried.add(seed)
    return tried


def test_mesh_colours_are_those_of_the_file(meshes: Path) -> None:
    ball = mesh_source.render_mesh(meshes / "ball" / "ball.obj", 2, 32, 32)
    inside = ball["rgba"][:, 3] == 255
    red, green = (ball["rgba"][:, c][inside].float().mean() for c in (0, 1))
    assert red > 3 * green
    box = mesh_source.render_mesh(meshes / "box.glb", 6, 64, 64)
    inside = box["rgba"][:, 3] == 255
    green = box["rgba"][:, 1][inside].float()
    assert float(green.std()) > 30  # the checks
    outside = box["rgba"][:, 3] == 0
    assert not bool(torch.isfinite(box["depth"][outside]).any())


def test_unusable_meshes_are_named(meshes: Path, tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="no .glb, .gltf, .obj files in"):
        MeshScenes(MeshesConfig(folder=str(tmp_path))).sample(SampleRequest(0))
    few = MeshScenes(MeshesConfig(folder=str(meshes), rendered=3, held_out=0))
    with pytest.raises(ReconError, match="context and targets need 4 renders of a mesh"):
        few.sample(SampleRequest(0))


# The mixture


def test_mixture_takes_every_source_by_its_weight(meshes: Path, sample: Path, tmp_path: Path):
    config = DatasetConfig(
        procedural=ProceduralConfig(weight=1.0),
        meshes=MeshesConfig(2.0, str(meshes), str(tmp_path), rendered=5, held_out=0),
        captures=CapturesConfig(1.0, str(sample)),
    )
    mixture = build_source(config, 0, "cpu")
    assert len(mixture.sources) == 3 and mixture.weights == (1.0, 2.0, 1.0)
    known, request = 0, SampleRequest(0, 2, 1, 16, 16)
    for seed in range(16):
        scene = mixture.sample(replace(request, seed=seed))
        assert scene.images.shape == (3, 3, 16, 16)
        known += int(bool(torch.isfinite(scene.depth).all()))
    assert 6 <= known < 16
    with pytest.raises(ReconError, match="no source of scenes"):
        build_source(DatasetConfig(procedural=ProceduralConfig(weight=0.0)), 0, "cpu")
    with pytest.raises(ReconError, match="dataset.meshes.folder is not given"):
        build_source(DatasetConfig(meshes=MeshesConfig(weight=1.0)), 0, "cpu")
