"""Cameras: constructors, and every method with and without the axis of views."""

import math

import pytest
import torch
from helpers import look_at_cameras, random_sim3

from render import Cameras


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
