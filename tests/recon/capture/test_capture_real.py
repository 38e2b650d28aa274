"""The real captures open, load and agree with their COLMAP models."""

from pathlib import Path

import pytest
import torch

from recon.capture import load_capture, load_views, select_spread
from recon.capture.colmap import find_colmap, read_colmap

NAMES = {
    "dtu-scan65": 10,
    "fountain": 11,
    "fox": 50,
    "kitti360-drive": 16,
    "lego": 35,
    "llff-horns": 12,
    "mary-rose": 16,
    "monstree": 4,
    "sceaux-castle": 7,
    "table": 20,
}


@pytest.mark.captures
@pytest.mark.parametrize("name", NAMES)
def test_opens_and_loads(captures: Path, name: str):
    capture = load_capture(captures / name)
    assert (capture.kind, len(capture.frames)) == ("transforms", NAMES[name])
    frames = [capture.frames[i] for i in select_spread(capture, 3)]
    views = load_views(frames, 256)
    assert max(views.images.shape[-2:]) == 256
    assert views.valid.mean() > 0.9
    assert views.images.min() >= 0 and views.images.max() <= 1
    assert views.images.std() > 0.05
    assert views.depth_bounds is None


@pytest.mark.captures
def test_colmap_model_equals_transforms(captures: Path):
    """llff-horns holds the same cameras twice, through different conventions."""
    pytest.importorskip("pycolmap")
    root = captures / "llff-horns"
    model = find_colmap(root)
    assert model is not None
    by_colmap = read_colmap(root, model).frames
    by_transforms = load_capture(root).frames
    assert [f.image_path for f in by_colmap] == [f.image_path for f in by_transforms]
    for a, b in zip(by_colmap, by_transforms, strict=True):
        assert a.camera is not None and b.camera is not None
        torch.testing.assert_close(a.camera.viewmat, b.camera.viewmat, atol=1e-9, rtol=0)
        torch.testing.assert_close(a.camera.K, b.camera.K, atol=1e-9, rtol=0)
        assert a.camera.coefficients == b.camera.coefficients
        assert a.points is not None and len(a.points) > 100


@pytest.mark.captures
@pytest.mark.parametrize("name", ["monstree-12mp", "nle-tower"])
def test_plain_photos(captures: Path, name: str):
    capture = load_capture(captures / "raw" / name)
    assert capture.kind == "images" and not capture.has_cameras
    assert len(capture.frames) >= 4
