"""Camera paths and image files."""

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from helpers import look_at_cameras, random_gaussians
from PIL import Image

from render import Cameras
from render.guess import default_camera
from render.paths import PATHS, focus_point, interpolate
from render.video import depth_to_color, write_image, write_video


@pytest.mark.parametrize("name", list(PATHS))
def test_paths_look_at_the_scene(name: str, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(200, generator), look_at_cameras(3)
    path = PATHS[name](scene, cameras, 9)
    assert len(path) == 9 and path.width == cameras.width
    rotmats = path.viewmats[:, :3, :3]
    assert torch.allclose(rotmats @ rotmats.mT, torch.eye(3).double().expand(9, 3, 3), atol=1e-9)
    focus = focus_point(scene, cameras[[1]])
    pixels, depth = path.project(focus[None])
    assert float(depth.min()) > 1
    assert float((pixels[:, 0] - cameras.Ks[:1, :2, 2]).norm(dim=1).max()) < 6


def test_points_on_the_first_edges_of_an_image_are_in_view() -> None:
    camera = Cameras.from_focal(torch.eye(4)[None], 8.0, 16, 16)
    edge = random_gaussians(1, torch.Generator().manual_seed(0))
    edge = replace(edge, means=torch.tensor([[-3.0, -3.0, 3.0]]))  # at pixel (0, 0)
    assert focus_point(edge, camera)[2] == 3


def test_interpolation_passes_through_the_cameras(generator: torch.Generator) -> None:
    cameras = look_at_cameras(3)
    path = interpolate(cameras, 5)
    assert PATHS["interpolate"](random_gaussians(5, generator), cameras, 5) == path
    assert torch.allclose(path.viewmats[[0, 2, 4]], cameras.viewmats, atol=1e-9)


@pytest.mark.parametrize("name", list(PATHS))
def test_paths_take_a_single_camera(name: str, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(20, generator), look_at_cameras(3)
    assert PATHS[name](scene, cameras[1], 4) == PATHS[name](scene, cameras[[1]], 4)
    with pytest.raises(ValueError, match="a path needs at least one camera"):
        PATHS[name](scene, cameras[:0], 4)


def test_default_camera_sees_the_scene(generator: torch.Generator) -> None:
    scene = random_gaussians(500, generator)
    camera = default_camera(scene, 80, 60)
    pixels, depth = camera.project(scene.means)
    x, y = pixels[0].unbind(-1)
    seen = (depth[0] > 0) & (x > 0) & (x < 80) & (y > 0) & (y < 60)
    assert float(seen.float().mean()) > 0.85


def test_image_round_trip(tmp_path: Path) -> None:
    rgb = torch.rand(3, 9, 7)
    write_image(tmp_path / "a.png", rgb)
    read = np.asarray(Image.open(tmp_path / "a.png")) / 255
    assert np.abs(read - rgb.permute(1, 2, 0).numpy()).max() < 0.003


def test_grey_image_round_trip(tmp_path: Path) -> None:
    alpha = torch.rand(1, 9, 7)
    write_image(str(tmp_path / "a.PNG"), alpha)
    read = np.asarray(Image.open(tmp_path / "a.PNG")) / 255
    assert read.shape == (9, 7) and np.abs(read - alpha[0].numpy()).max() < 0.003


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.xyz", torch.zeros(3, 8, 8), r"a.xyz: its name must end in .png or .jpg or .jpeg"),
        ("a.png", torch.zeros(2, 8, 8), r"the image has shape \(2, 8, 8\), expected \(3, h, w\)"),
        ("a.png", torch.zeros(3, 0, 8), r"the image has shape \(3, 0, 8\)"),
    ],
)
def test_wrong_images_are_named(
    name: str, image: torch.Tensor, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_image(tmp_path / name, image)
    with pytest.raises(OSError, match="No such file"):
        write_image(tmp_path / "missing" / "a.png", torch.zeros(3, 8, 8))


def test_wrong_frames_are_named(tmp_path: Path) -> None:
    file, frames = tmp_path / "a.mp4", [torch.zeros(3, 8, 8), torch.zeros(3, 8, 9)]
    for fps in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="fps is .*, expected a positive number"):
            write_video(file, frames[:1], fps)
    with pytest.raises(ValueError, match="its name must end in .mp4"):
        write_video(tmp_path / "a.avi", frames[:1], 10.0)
    with pytest.raises(
        ValueError, match=r"frame 1 has height and width \(8, 9\), expected \(8, 8\)"
    ):
        write_video(file, frames, 10.0)
    with pytest.raises(ValueError, match=r"frame 0 has shape \(8, 8\)"):
        write_video(file, iter([torch.zeros(8, 8)]), 10.0)
    with pytest.raises(ValueError, match="frame 0 is torch.uint8, expected a floating-point"):
        write_video(file, iter([torch.zeros(3, 8, 8, dtype=torch.uint8)]), 10.0)


def test_video_of_grey_frames(tmp_path: Path) -> None:
    write_video(str(tmp_path / "a.mp4"), [torch.full((1, 8, 8), 0.5)] * 2, 10.0)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") / 255 for frame in container.decode(video=0)]
    assert len(frames) == 2 and np.abs(frames[0] - 0.5).max() < 0.02


@pytest.mark.parametrize("fps", [10.0, 29.97])
def test_video_is_h264_with_even_size(fps: float, tmp_path: Path) -> None:
    """H.264 in 4:2:0 with the index in front, of even size, in the colours of its frames."""
    colors = [torch.tensor([r, 0.3, 0.6]).reshape(3, 1, 1).expand(3, 33, 47) for r in (0.1, 0.5, 1)]
    write_video(tmp_path / "a.mp4", iter(colors), fps)
    with av.open(str(tmp_path / "a.mp4")) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv420p"
        assert abs(float(stream.average_rate) - fps) < 0.01
        frames = [frame.to_ndarray(format="rgb24") / 255 for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(34, 48, 3)] * 3
    for frame, color in zip(frames, colors, strict=True):
        assert np.abs(frame.mean((0, 1)) - color[:, 0, 0].numpy()).max() < 0.02
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    video = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert video.read()[1].shape == (34, 48, 3)


def test_unwritable_video_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        write_video(tmp_path / "b.mp4", [], 10.0)
    assert not (tmp_path / "b.mp4").exists()
    with pytest.raises(OSError, match="missing"):
        write_video(tmp_path / "missing" / "b.mp4", [torch.zeros(3, 8, 8)], 10.0)


def test_depth_colours_near_red_and_nothing_black() -> None:
    depth = torch.tensor([[[1.0, 4.0, 9.0]]])
    colors = depth_to_color(depth, torch.tensor([[[1.0, 1.0, 0.0]]]))
    assert colors[0, 0, 0] > 2 * colors[2, 0, 0] and colors[:, 0, 2].abs().max() == 0
