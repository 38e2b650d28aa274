"""Files with depth and alpha."""

from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from render import RenderOutput
from render.image_files import with_alpha, write_depth_png, write_exr
from render.srgb import display_slope, from_linear, to_linear
from render.video import read_images, write_image


def test_srgb_and_linear_light() -> None:
    display = np.linspace(-0.1, 1.2, 1001)
    with np.errstate(all="raise"):
        linear = to_linear(display)
        assert np.allclose(from_linear(linear), display, atol=1e-6)
        slope = display_slope(linear)
    assert to_linear(np.array(0.5)) == ((0.5 + 0.055) / 1.055) ** 2.4
    assert from_linear(np.array(0.5)) == 1.055 * 0.5 ** (1 / 2.4) - 0.055
    # The curve has a corner of a fraction of a percent where its two parts meet.
    assert np.allclose(np.gradient(display, linear)[1:-1], slope[1:-1], rtol=0.02)


def render(alpha: torch.Tensor, depth: torch.Tensor, rgb: torch.Tensor) -> RenderOutput:
    """Return one image with these straight colours and expected depths."""
    return RenderOutput(
        (alpha * rgb)[None], alpha[None], (alpha * depth)[None], torch.zeros(1, dtype=torch.int64)
    )


@pytest.fixture()
def output() -> RenderOutput:
    alpha = torch.tensor([[[1.0, 0.75], [0.25, 0.0]]])
    depth = torch.tensor([[[2.5, 1.0], [3.0, 0.0]]])
    return render(alpha, depth, torch.tensor([0.5, 0.02, 1.0])[:, None, None].expand(3, 2, 2))


def test_depth_png(tmp_path: Path, output: RenderOutput) -> None:
    assert write_depth_png(tmp_path / "d.png", output, 0.001) == 0
    values = cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)
    assert values.dtype == np.uint16 and values.tolist() == [[2500, 1000], [0, 0]]
    assert write_depth_png(tmp_path / "d.png", output, 2e-5) == 0.25
    values = cv2.imread(str(tmp_path / "d.png"), cv2.IMREAD_UNCHANGED)
    assert values.tolist() == [[65535, 50000], [0, 0]]


def test_exr(tmp_path: Path, output: RenderOutput) -> None:
    write_exr(tmp_path / "a.exr", output)
    with OpenEXR.File(str(tmp_path / "a.exr"), separate_channels=True) as file:
        channels = {name: channel.pixels for name, channel in file.channels().items()}
    assert set(channels) == set("RGBAZ")
    assert channels["A"].tolist() == [[1, 0.75], [0.25, 0]]
    assert np.allclose(channels["Z"], [[2.5, 1], [3, np.inf]])
    # Linear light of sRGB 0.5 is 0.2140, multiplied by alpha.
    assert np.allclose(channels["R"], 0.21404 * channels["A"], atol=2e-4)
    assert np.allclose(channels["G"], 0.02 / 12.92 * channels["A"], atol=2e-5)
    write_exr(tmp_path / "z.exr", output, only_depth=True)
    with OpenEXR.File(str(tmp_path / "z.exr"), separate_channels=True) as file:
        assert set(file.channels()) == {"Z"}
    with pytest.raises(OSError, match="could not write"):
        write_exr(tmp_path / "missing" / "a.exr", output)


def test_transparent_png(tmp_path: Path, output: RenderOutput) -> None:
    write_image(tmp_path / "a.png", with_alpha(output))
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    assert pixels.shape == (2, 2, 4) and pixels[..., 3].tolist() == [[255, 191], [64, 0]]
    assert pixels[1, 0].tolist() == [128, 5, 255, 64] and pixels[1, 1].tolist() == [0, 0, 0, 0]
    with pytest.raises(ValueError, match="the image has shape"):
        write_image(tmp_path / "a.jpg", with_alpha(output))


def test_images_are_read_back(tmp_path: Path) -> None:
    image = torch.rand(3, 5, 4)
    write_image(tmp_path / "a.png", image)
    (read,) = read_images([tmp_path / "a.png"])
    assert float((read - image).abs().max()) < 0.0021
    with pytest.raises(OSError, match=r"cannot read the image .*b\.png"):
        next(read_images([tmp_path / "b.png"]))
