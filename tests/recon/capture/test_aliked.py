"""The script of learned features: what it brings along for a torch without torchvision."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from recon.capture.isolated_process import FOLDER


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("aliked", Path(FOLDER) / "aliked.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_offsets_it_is_a_convolution(script: ModuleType) -> None:
    torch.manual_seed(0)
    image, weight, bias = torch.rand(2, 3, 9, 11), torch.rand(4, 3, 3, 3), torch.rand(4)
    found = script.deform_conv2d(image, torch.zeros(2, 18, 9, 11), weight, bias, (1, 1))
    expected = torch.nn.functional.conv2d(image, weight, bias, padding=1)
    assert torch.allclose(found, expected, atol=1e-5)


def test_offsets_move_each_tap_by_rows_then_columns(script: ModuleType) -> None:
    """One tap of weight 1: the picture, looked at elsewhere, between pixels and outside, too."""
    image = torch.rand(1, 1, 6, 7)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 2] = 1
    offset = torch.zeros(1, 18, 6, 7)
    tap = 0 * 3 + 2
    offset[:, 2 * tap], offset[:, 2 * tap + 1] = 1 + 2, -1 + 0.5
    found = script.deform_conv2d(image, offset, weight, None, (1, 1))[0, 0]
    # The tap is at (-1, +1) of the middle; with its offset at (2, 0.5).
    wide = torch.nn.functional.pad(image[0, 0], (0, 1, 0, 2))
    expected = (wide[2:8, :7] + wide[2:8, 1:8]) / 2
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_mask_weighs_each_tap(script: ModuleType) -> None:
    image, weight = torch.rand(1, 2, 5, 5), torch.rand(3, 2, 3, 3)
    mask = torch.full((1, 9, 5, 5), 0.25)
    plain = script.deform_conv2d(image, torch.zeros(1, 18, 5, 5), weight, None, (1, 1))
    masked = script.deform_conv2d(image, torch.zeros(1, 18, 5, 5), weight, None, (1, 1), mask)
    assert torch.allclose(masked, 0.25 * plain, atol=1e-5)
