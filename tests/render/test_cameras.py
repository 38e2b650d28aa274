"""Cameras: constructors, and every method with and without the axis of views."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import look_at_cameras, random_sim3

from render import Cameras, look_at


def test_from_focal_puts_the_principal_point_in_the_middle() -> None:
    viewmats = look_at_cameras(3).viewmats
    cameras = Cameras.from_focal(viewmats, 50.0, 80, 60)
    expected = torch.tensor([[50.0, 0, 40], [0, 50, 30], [0, 0, 1]]).double()
    assert torch.equal(cameras.Ks, expected.expand(3, 3, 3)) and cameras.Ks.is_contiguous()
    assert torch.equal(cameras.viewmats, viewmats)
    other = Cameras.from_focal(viewmats[0], (50.0, 45.0), 80, 60, center_px=(1.0, 2.0))
    assert other.Ks.tolist() == [[50, 0, 1], [0, 45, 2], [0, 0, 1]]


@pytest.mark.parametrize(
    ("side", "pixels"),
    [("width", (8, 3)), ("height", (4, 6)), ("longer", (8, 3)), ("shorter", (4, 6))],
)
def test_from_fov_spans_the_side(side: str, pixels: tuple[float, float]) -> None:
    """A point at half the angle from the axis is on the edge of the image."""
    camera = Cameras.from_fov(torch.eye(4).double(), 80.0, 8, 6, side)
    edge = math.tan(math.radians(40.0))
    across = torch.tensor([edge, 0.0, 1.0] if pixels[0] == 8 else [0.0, edge, 1.0])
    found, _ = camera.project(across.double()[None])
    assert torch.allclose(found[0], torch.tensor(pixels).double())


@pytest.mark.parametrize("fov_deg", [0.0, 180.0, -5.0, math.nan])
def test_from_fov_refuses_impossible_angles(fov_deg: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 180 degrees"):
        Cameras.from_fov(torch.eye(4), fov_deg, 8, 6)


def test_from_c2w_inverts_poses() -> None:
    cameras = look_at_cameras(3)
    back = Cameras.from_c2w(cameras.c2w, cameras.Ks[0], cameras.width, cameras.height)
    assert torch.allclose(back.viewmats, cameras.viewmats) and torch.equal(back.Ks, cameras.Ks)


def test_from_c2w_converts_the_axes_of_opengl() -> None:
    """The identity looks along -z with y up: what is up and ahead is in the upper half."""
    K = Cameras.from_focal(torch.eye(4), 10.0, 20, 20).Ks
    camera = Cameras.from_c2w(torch.eye(4), K, 20, 20, axes="opengl")
    pixels, depth = camera.project(torch.tensor([[0.5, 0.5, -1.0]]))
    assert depth.tolist() == [1.0] and pixels.tolist() == [[15.0, 5.0]]


def test_every_method_takes_a_single_camera(generator: torch.Generator) -> None:
    cameras, transform = look_at_cameras(3), random_sim3(generator)
    points = torch.randn(7, 3, generator=generator).double()
    methods = [
        lambda c: c.c2w,
        lambda c: c.centers,
        lambda c: c.rays()[0],
        lambda c: c.rays()[1],
        lambda c: c.project(points)[0],
        lambda c: c.project(points)[1],
        lambda c: c.resized(10, 12).Ks,
        lambda c: c.cropped(3, 4, 10, 12).Ks,
        lambda c: c.transformed(transform).viewmats,
    ]
    for method in methods:
        together = method(cameras)
        for index, camera in enumerate(cameras):
            assert torch.allclose(method(camera), together[index], rtol=1e-13)
    assert cameras[1].rays()[0].shape == (cameras.height, cameras.width, 3)
    assert cameras[1].flatten() == cameras[[1]]


def test_single_cameras_of_batches_project_their_own_points(generator: torch.Generator) -> None:
    batch = look_at_cameras(6).unflatten(2)
    points = torch.randn(2, 7, 3, generator=generator).double()
    together, _ = batch.project(points)
    for view, camera in enumerate(batch):
        assert torch.allclose(camera.project(points)[0], together[:, view], rtol=1e-13)


WRONG_ARGUMENTS = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from helpers import look_at_cameras
from render import Cameras, look_at

poses = torch.eye(4).expand(2, 4, 4)
K = torch.eye(3)
for call in (
    lambda: Cameras.from_c2w(poses, K, 8, 6, axes="blender"),
    lambda: Cameras.from_c2w(poses[:, :3], K, 8, 6),
    lambda: Cameras.from_c2w(poses, K.long(), 8, 6),
    lambda: Cameras.from_c2w(poses, K.expand(3, 3, 3), 8, 6),
    lambda: Cameras.from_c2w(poses, -K, 8, 6),
    lambda: Cameras.from_c2w(poses, K, 8, 0),
    lambda: Cameras.from_fov(poses, 60.0, 8, 6, side="diagonal"),
    lambda: Cameras.from_fov(poses, 60.0, 0, 6),
    lambda: Cameras.from_focal(poses.long(), 50.5, 8, 6),
    lambda: Cameras.from_focal(poses[:, :, :3], 50.0, 8, 6),
    lambda: Cameras.from_focal(poses.numpy(), 50.0, 8, 6),
    lambda: Cameras.from_focal(poses, 0.0, 8, 6),
    lambda: Cameras.from_focal(poses, (5.0, -5.0), 8, 6),
    lambda: Cameras.from_focal(poses, 5.0, 8, -6),
    lambda: look_at_cameras(2).resized(0, 6),
    lambda: look_at_cameras(2).cropped(0, 0, 8, 0),
):
    try:
        print("nothing was said of", call())
    except (TypeError, ValueError) as error:
        print(type(error).__name__, error)
"""


def test_wrong_arguments_are_named() -> None:
    """In a process without the shape checks that tests switch on: users do not have them."""
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", WRONG_ARGUMENTS, str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    cast = "cast it with .float()"
    assert done.stdout.splitlines() == [
        "ValueError axes is 'blender', expected opencv or opengl (of Blender, NeRF and nerfstudio)",
        "ValueError c2w has shape (2, 3, 4), expected (*v, 4, 4); append the row (0, 0, 0, 1)",
        f"ValueError Ks is torch.int64, expected a floating-point [3 3]; {cast}",
        "ValueError Ks has shape (3, 3, 3), expected (2, 3, 3) or (3, 3) for all",
        "ValueError Ks has focal lengths that are not positive",
        "ValueError the images have 8 x 0 px, expected at least 1 x 1",
        "ValueError side is 'diagonal', expected one of: width, height, longer, shorter",
        "ValueError the images have 0 x 6 px, expected at least 1 x 1",
        f"ValueError viewmats is torch.int64, expected a floating-point [4 4]; {cast}",
        "ValueError viewmats has shape (2, 4, 3), expected (*v, 4, 4)",
        "TypeError viewmats is a ndarray, expected a tensor",
        "ValueError focal_px is 0.0, expected a positive number of pixels",
        "ValueError focal_px is (5.0, -5.0), expected a positive number of pixels",
        "ValueError the images have 8 x -6 px, expected at least 1 x 1",
        "ValueError the images have 0 x 6 px, expected at least 1 x 1",
        "ValueError the images have 8 x 0 px, expected at least 1 x 1",
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("up", [None, (0.0, 0.0, -2.0), (0.0, 1.0, 0.0)])
def test_look_at_is_a_rotation_along_every_axis(
    dtype: torch.dtype, up: tuple[float, float, float] | None
) -> None:
    position = torch.tensor([0.3, -0.2, 5.0], dtype=dtype)
    axis = None if up is None else torch.tensor(up, dtype=dtype)
    for ahead in torch.cat([torch.eye(3), -torch.eye(3), torch.tensor([[1e-9, 0, -1.0]])]).to(
        dtype
    ):
        viewmat = look_at(position, position + 3 * ahead, axis)
        rotmat = viewmat[:3, :3]
        assert torch.allclose(rotmat @ rotmat.T, torch.eye(3, dtype=dtype), atol=1e-5)
        assert float(torch.linalg.det(rotmat)) == pytest.approx(1)
        assert torch.allclose(rotmat @ ahead, ahead.new_tensor([0, 0, 1]), atol=1e-5)
        assert torch.allclose(rotmat @ position, -viewmat[:3, 3])


def test_look_at_refuses_what_is_no_direction() -> None:
    position = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"target - position is \(0.0, 0.0, 0.0\), expected a dir"):
        look_at(position, position.clone())
    with pytest.raises(ValueError, match=r"target - position is \(nan, 1.0, 0.0\)"):
        look_at(torch.zeros(3), torch.tensor([torch.nan, 1.0, 0.0]))
    with pytest.raises(ValueError, match=r"up is \(0.0, 0.0, 0.0\), expected a direction"):
        look_at(position, torch.zeros(3), torch.zeros(3))
