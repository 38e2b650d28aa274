"""The loss of a rendered image, with its gradient: a pass of the CPU kernel, or torch.

The kernel takes a tenth of the time that separable blurs of OpenCV take.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d

# Window and constants of Wang et al. 2004, as in 3DGS.
REACH, SIGMA = 5, 1.5
C1, C2 = 0.01**2, 0.03**2


def photo_loss(
    image: Float[Tensor, "3 h w"],
    photo: Float[Tensor, "3 h w"],
    valid: Float[Tensor, "1 h w"],
    ssim_weight: float,
    in_torch: bool = False,
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 h w"]]:
    """Compute the absolute error, and the gradient of the loss, both summed over pixels.

    The loss is that of 3DGS (Kerbl et al. 2023, eq. 7), with 1 - SSIM of the grey images for
    D-SSIM: as good as that of the channels, in a third of the time
    (docs/experiments/steps-and-colors.md).

    Args:
        image: Rendered image.
        photo: The photo.
        valid: Factor of both.
        ssim_weight: Weight of 1 - SSIM; that of the absolute error is the rest.
        in_torch: Leave out the kernel, which is used for float32 on the CPU.
    """
    if not in_torch and _fits_kernel(image):
        from render.backends.cpu import photo_loss_cpu

        error, _, gradient = photo_loss_cpu(image, photo, valid, ssim_weight, True)
        return image.new_tensor(error), gradient
    image, photo = image * valid, photo * valid
    difference = image - photo
    gradient = difference.sign()
    absolute = (difference * gradient).sum()
    if ssim_weight > 0:
        grey, grey_photo = image.mean(0, keepdim=True), photo.mean(0, keepdim=True)
        _, derivatives = _ssim_map(grey, grey_photo)
        slope = _gradient(grey, grey_photo, derivatives)
        gradient = (1 - ssim_weight) * gradient - ssim_weight * valid * slope
    return absolute, gradient


def ssim(image: Float[Tensor, "3 h w"], target: Float[Tensor, "3 h w"]) -> Float[Tensor, ""]:
    """Compute the mean structural similarity (Wang et al. 2004, eq. 13), differentiable in `image`.

    Pixels beyond the border are 0, as in 3DGS.
    """
    found = _Ssim.apply(image, target)  # type: ignore[no-untyped-call]
    assert isinstance(found, Tensor)
    return found


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, target: Tensor) -> Tensor:
        image = image.detach()
        if _fits_kernel(image):
            from render.backends.cpu import photo_loss_cpu

            valid = torch.ones_like(image[:1])
            _, total, gradient = photo_loss_cpu(image, target, valid, 1.0, False)
            ctx.save_for_backward(-gradient)
            return image.new_tensor(total / image.numel())
        values, derivatives = _ssim_map(image, target)
        ctx.save_for_backward(_gradient(image, target, derivatives))
        mean: Tensor = values.mean()
        return mean

    @staticmethod
    def backward(ctx: Any, *v_mean: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return v_mean[0] / gradient.numel() * gradient, None


def _fits_kernel(image: Tensor) -> bool:
    return image.device.type == "cpu" and image.dtype == torch.float32


def _ssim_map(
    x: Float[Tensor, "c h w"], y: Float[Tensor, "c h w"]
) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "k h w"]]:
    """Compute each pixel's similarity, and its derivatives by the blurred x, x * x and x * y."""
    mx, my, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).split(len(x))
    a1, a2 = 2 * mx * my + C1, 2 * (xy - mx * my) + C2
    b1, b2 = mx * mx + my * my + C1, xx - mx * mx + yy - my * my + C2
    values = a1 * a2 / (b1 * b2)
    v_xy, v_xx = 2 * a1 / (b1 * b2), -values / b2
    v_mx = 2 * my * a2 / (b1 * b2) - 2 * mx * values / b1 - my * v_xy - 2 * mx * v_xx
    return values, torch.cat([v_mx, v_xx, v_xy])


def _gradient(
    x: Float[Tensor, "c h w"], y: Float[Tensor, "c h w"], derivatives: Float[Tensor, "k h w"]
) -> Float[Tensor, "c h w"]:
    # The window is symmetric, so that the blur is its own adjoint.
    v_mx, v_xx, v_xy = _blur(derivatives).split(len(x))
    gradient: Tensor = v_mx + 2 * x * v_xx + y * v_xy
    return gradient


def _blur(channels: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    """Blur each channel with the window."""
    window = torch.arange(-REACH, REACH + 1).to(channels).div(SIGMA).square().mul(-0.5).exp()
    window /= window.sum()
    columns = conv2d(channels[:, None], window.view(1, 1, -1, 1), padding="same")
    blurred: Tensor = conv2d(columns, window.view(1, 1, 1, -1), padding="same")
    return blurred[:, 0]
