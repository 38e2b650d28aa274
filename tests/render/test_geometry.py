"""Quaternions, Sim3, cameras, projection: conventions and gradients."""

import torch
from helpers import look_at_cameras, random_gaussians, random_sim3

from render import Cameras, projection
from render.quaternions import multiply_quats, quats_to_rotmats, rotmats_to_quats


def test_quaternion_order_is_wxyz() -> None:
    quarter_rotation_about_z = torch.tensor([0.5**0.5, 0, 0, 0.5**0.5], dtype=torch.float64)
    rotated = quats_to_rotmats(quarter_rotation_about_z) @ torch.tensor([1.0, 0, 0]).double()
    assert torch.allclose(rotated, torch.tensor([0.0, 1, 0]).double())


def test_quaternion_round_trip_and_product(generator: torch.Generator) -> None:
    quats = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    # Rotations by 180 degrees, where the real part vanishes, are the hard cases.
    quats[:20, 0] = 0
    rotmats = quats_to_rotmats(quats)
    assert torch.allclose(quats_to_rotmats(rotmats_to_quats(rotmats)), rotmats, atol=1e-12)
    product = multiply_quats(rotmats_to_quats(rotmats[:100]), rotmats_to_quats(rotmats[100:]))
    assert torch.allclose(quats_to_rotmats(product), rotmats[:100] @ rotmats[100:], atol=1e-12)


def test_sim3_inverse(generator: torch.Generator) -> None:
    transform = random_sim3(generator)
    points = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(transform.inverse().apply(transform.apply(points)), points)


def test_c2w_inverts_viewmats() -> None:
    cameras = look_at_cameras(3)
    assert torch.allclose(cameras.c2w @ cameras.viewmats, torch.eye(4).double().expand(3, 4, 4))


def test_rays_project_back_to_pixel_centres() -> None:
    cameras = look_at_cameras(2)
    rays_o, rays_d = cameras.rays()
    points = rays_o + 2.5 * rays_d
    for v in range(2):
        pixels, depth = cameras[[v]].project(points[v].reshape(-1, 3))
        pixels = pixels.reshape(cameras.height, cameras.width, 2)
        assert torch.allclose(depth, torch.tensor(2.5).double())
        assert torch.allclose(pixels[7, 11], torch.tensor([11.5, 7.5]).double())


def test_resize_and_crop_then_project(generator: torch.Generator) -> None:
    cameras = look_at_cameras(2)
    points = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    pixels, _ = cameras.project(points)
    doubled, _ = cameras.resized(2 * cameras.width, 3 * cameras.height).project(points)
    assert torch.allclose(doubled, pixels * torch.tensor([2.0, 3.0]).double())
    cropped, _ = cameras.cropped(5, 9, 20, 20).project(points)
    assert torch.allclose(cropped, pixels - torch.tensor([5.0, 9.0]).double())


def test_gradcheck_of_covariance_and_projection(generator: torch.Generator) -> None:
    scene = random_gaussians(4, generator)
    camera = look_at_cameras(1)
    K, rotmat = camera.Ks[0], camera.viewmats[0, :3, :3]

    def image_covariances(means, quats, scales):
        from dataclasses import replace

        moved = replace(scene, means=means, quats=quats, scales=scales)
        local = means @ rotmat.T + camera.viewmats[0, :3, 3]
        jacobian = projection.projection_jacobian(local, K, camera.width, camera.height)
        covars2d = projection.project_covars(moved.covars(), jacobian, rotmat)
        widened, factor = projection.widen(covars2d, 0.3)
        return projection.conics_of(widened), factor

    inputs = [t.clone().requires_grad_() for t in (scene.means, scene.quats, scene.scales)]
    assert torch.autograd.gradcheck(image_covariances, inputs)


def test_gradcheck_of_points_to_pixels(generator: torch.Generator) -> None:
    camera = look_at_cameras(2)
    points = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(camera.project, (points,))


def test_jacobian_is_the_derivative_of_projection(generator: torch.Generator) -> None:
    camera = look_at_cameras(1)
    point = torch.tensor([0.1, -0.2, 3.0], dtype=torch.float64)
    ours = projection.projection_jacobian(point[None], camera.Ks[0], camera.width, camera.height)
    unposed = Cameras(torch.eye(4).double()[None], camera.Ks, camera.width, camera.height)
    exact = torch.autograd.functional.jacobian(lambda p: unposed.project(p[None])[0][0, 0], point)
    assert torch.allclose(ours[0], exact)
