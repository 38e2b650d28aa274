"""The loss of a rendered image, and its gradient."""

import pytest
import torch
from torch import Tensor

from recon.optimisation.photo_loss import photo_loss, ssim
from render.backends.cpu import photo_loss_cpu

HEIGHT, WIDTH = 40, 50


@pytest.fixture()
def pair(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    target = torch.rand(3, HEIGHT, WIDTH, generator=generator)
    return target + 0.3 * torch.randn(3, HEIGHT, WIDTH, generator=generator), target


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


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 8), (97, 41)])
@pytest.mark.parametrize("weight", [0.0, 0.05, 1.0])
def test_kernel_is_torch(size: tuple[int, int], weight: float, generator: torch.Generator) -> None:
    photo = torch.rand(3, *size, generator=generator)
    image = photo + 0.2 * torch.randn(3, *size, generator=generator)
    image[0, 0, 0] = photo[0, 0, 0]  # no error, no sign
    valid = torch.rand(1, *size, generator=generator).round()
    error, gradient = photo_loss(image, photo, valid, weight)
    exact = (tensor.double() for tensor in (image, photo, valid))
    true_error, true_gradient = photo_loss(*exact, weight)
    assert float(error) == pytest.approx(float(true_error), rel=1e-5)
    assert torch.allclose(gradient.double(), true_gradient, rtol=1e-3, atol=2e-4)
    assert torch.equal(gradient == 0, true_gradient == 0)
    in_torch = photo_loss(image, photo, valid, weight, in_torch=True)
    assert float(error) == pytest.approx(float(in_torch[0]), rel=1e-5)
    assert torch.allclose(gradient, in_torch[1], rtol=1e-3, atol=2e-4)


def test_gradient_is_that_of_the_loss(pair: tuple[Tensor, Tensor]) -> None:
    image, photo = (tensor.double() for tensor in pair)
    valid = torch.ones(1, HEIGHT, WIDTH, dtype=torch.float64)
    valid[:, :, 30:] = 0
    image.requires_grad_()
    grey, grey_photo = ((t * valid).mean(0).expand(3, -1, -1) for t in (image, photo))
    similar = ssim(grey, grey_photo) * image.numel()
    loss = 0.7 * ((image - photo) * valid).abs().sum() - 0.3 * similar
    loss.backward()
    _, gradient = photo_loss(pair[0], pair[1], valid.float(), 0.3)
    assert image.grad is not None
    assert torch.allclose(gradient.double(), image.grad, rtol=1e-3, atol=1e-4)


def test_result_does_not_depend_on_threads(generator: torch.Generator) -> None:
    image, photo = torch.rand(2, 3, 130, 45, generator=generator)
    valid = torch.ones(1, 130, 45)
    threads = torch.get_num_threads()
    try:
        results = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(photo_loss_cpu(image, photo, valid, 0.05, True))
    finally:
        torch.set_num_threads(threads)
    for error, similarity, gradient in results[1:]:
        assert (error, similarity) == results[0][:2]
        assert torch.equal(gradient, results[0][2])


def test_kernel_refuses_other_sizes_and_types() -> None:
    image, valid = torch.zeros(3, 4, 5), torch.ones(1, 4, 5)
    for photo in (torch.zeros(3, 4, 6), torch.zeros(1, 4, 5), torch.zeros(2, 3, 4, 5)):
        with pytest.raises(
            ValueError, match=r"photo is .*, expected torch.float32 and \(3, 4, 5\)"
        ):
            photo_loss_cpu(image, photo, valid, 0.1, True)
    with pytest.raises(ValueError, match=r"valid is torch.float64 of shape \(1, 4, 5\), expected"):
        photo_loss_cpu(image, image, valid.double(), 0.1, True)
    with pytest.raises(ValueError, match=r"image is .* of shape \(1, 4, 5\), expected"):
        photo_loss_cpu(valid, image, valid, 0.1, True)
