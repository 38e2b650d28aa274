"""SSIM, its gradient, and the loss that has a part of it."""

import pytest
import torch
from torch import Tensor

from recon.optimisation.ssim import WINDOW, convolve, ssim, ssim_gradient


@pytest.fixture()
def pair(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    target = torch.rand(3, 40, 50, generator=generator)
    return target + 0.3 * torch.randn(3, 40, 50, generator=generator), target


def test_ssim_and_its_gradient_are_those_of_torchmetrics(pair: tuple[Tensor, Tensor]) -> None:
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, target = pair
    # Equal beyond the border, where torchmetrics mirrors the images: zeros.
    for each in (target, image):
        each[:, :12] = each[:, -12:] = each[:, :, :12] = each[:, :, -12:] = 0
    found, expected = (image.clone().requires_grad_() for _ in range(2))
    value = ssim(found, target)
    reference = structural_similarity_index_measure(expected[None], target[None], data_range=1.0)
    assert isinstance(reference, Tensor)
    value.backward()
    reference.backward()
    inside = (slice(None), slice(12, -12), slice(12, -12))
    assert found.grad is not None and expected.grad is not None
    assert float(value.detach()) == pytest.approx(float(reference.detach()), abs=1e-5)
    assert torch.allclose(found.grad[inside], expected.grad[inside], atol=1e-7)
    assert float(found.grad[inside].abs().max()) > 1e-5


def test_gradient_is_that_of_the_sum(pair: tuple[Tensor, Tensor]) -> None:
    image, target = pair[0].requires_grad_(), pair[1]
    (image.numel() * ssim(image, target)).backward()
    assert image.grad is not None
    assert torch.allclose(ssim_gradient(image.detach(), target), image.grad, rtol=1e-4, atol=1e-6)


def test_other_devices_blur_alike(pair: tuple[Tensor, Tensor]) -> None:
    import cv2

    expected = cv2.sepFilter2D(
        pair[0][1].numpy(), -1, WINDOW, WINDOW, borderType=cv2.BORDER_CONSTANT
    )
    assert torch.allclose(convolve(pair[0])[1], torch.from_numpy(expected), atol=1e-6)
