"""Learned matching by ALIKED and LightGlue: the bundled weights and the script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

pytest.importorskip("kornia", "0.9", reason="needs the extra match")
from recon.capture.isolated import SCRIPTS, learned_matching

WEIGHTS = ROOT / "assets" / "aliked_lightglue.safetensors"
SIZE, SHIFT = (480, 180), (40, 24)


@pytest.fixture(scope="module")
def matched(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Match two crops of one photo that are SHIFT pixels apart."""
    folder = tmp_path_factory.mktemp("matching")
    photo = Image.open(sorted((sample / "images").iterdir())[0]).convert("RGB")
    photo = photo.resize((480, 360)).crop((0, 100, SIZE[0], 100 + SIZE[1]))
    width, height = photo.width - SHIFT[0], photo.height - SHIFT[1]
    photo.crop((0, 0, width, height)).save(folder / "a.png")
    photo.crop((*SHIFT, photo.width, photo.height)).save(folder / "b.png")
    job = {
        "images": str(folder),
        "groups": [{"names": ["a.png", "b.png"]}],
        "weights": [str(folder / "missing.safetensors"), str(WEIGHTS)],
        "keypoints": str(folder / "keypoints.npz"),
        "seed": 0,
    }
    (folder / "job.json").write_text(json.dumps(job))
    # A home folder and proxies that would make any download fail.
    environment = os.environ | {"HOME": str(folder), "HTTPS_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, str(SCRIPTS / "learned_matching.py"), str(folder / "job.json")]
    subprocess.run(command, check=True, env=environment)
    return dict(np.load(folder / "keypoints.npz", allow_pickle=False))


@pytest.mark.slow
def test_matches_of_shifted_crops_are_shifted(matched: dict[str, np.ndarray]) -> None:
    a, b = matched["keypoints|a.png"], matched["keypoints|b.png"]
    first, second = matched["matches|a.png|b.png"].T
    error = np.linalg.norm(a[first] - b[second] - SHIFT, axis=1)
    assert len(first) > 300
    assert np.median(error) < 0.5 and (error < 2).mean() > 0.95


@pytest.mark.slow
def test_keypoints_are_in_the_image(matched: dict[str, np.ndarray]) -> None:
    keypoints = matched["keypoints|a.png"]
    assert (keypoints > 0).all() and (keypoints < [SIZE[0] - SHIFT[0], SIZE[1] - SHIFT[1]]).all()


def test_all_weights_are_loaded() -> None:
    """No parameter keeps its random initialisation."""
    torch.manual_seed(0)
    first = learned_matching.load_networks(WEIGHTS)
    torch.manual_seed(1)
    second = learned_matching.load_networks(WEIGHTS)
    for a, b in zip(first, second, strict=True):
        assert not a.training
        for name, value in a.state_dict().items():
            assert torch.equal(value, b.state_dict()[name]), name
    assert float(first[1].state_dict()["transformers.0.self_attn.Wqkv.weight"].std()) < 0.2


def test_features_outside_of_a_mask_are_dropped() -> None:
    keypoints = torch.tensor([[[0.0, 0.0], [3.4, 1.0], [5.0, 2.6], [9.4, 3.2]]])
    features = {"keypoints": keypoints, "descriptors": torch.arange(4.0)[None, :, None]}
    mask = torch.zeros(4, 10, dtype=torch.bool)
    mask[1, 3] = mask[3, 9] = True
    kept = learned_matching.masked_features(features, mask)
    assert kept["descriptors"].flatten().tolist() == [1, 3]
    assert torch.equal(kept["keypoints"], keypoints[:, [1, 3]])
