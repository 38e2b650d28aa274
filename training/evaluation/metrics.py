"""Image metrics of a render against a photo: PSNR, SSIM, ST-LPIPS, LPIPS."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def psnr(
    render: Float[Tensor, "3 h w"], photo: Float[Tensor, "3 h w"], valid: Float[Tensor, "1 h w"]
) -> float:
    """Compute the peak signal-to-noise ratio (dB) over valid pixels, clipped to [0, 1]."""
    error = (render.clamp(0, 1) - photo).square() * valid
    return float(-10 * torch.log10(error.sum() / (3 * valid.sum()).clamp_min(1) + 1e-10))


def psnr_exposure_fitted(
    render: Float[Tensor, "3 h w"], photo: Float[Tensor, "3 h w"], valid: Float[Tensor, "1 h w"]
) -> float:
    """Compute PSNR (dB) after a least-squares gain of each colour channel of the render."""
    product = (render * photo * valid).sum((1, 2))
    energy = (render * render * valid).sum((1, 2)).clamp_min(1e-12)
    return psnr(render * (product / energy)[:, None, None], photo, valid)


def ssim(
    render: Float[Tensor, "3 h w"], photo: Float[Tensor, "3 h w"], valid: Float[Tensor, "1 h w"]
) -> float:
    """Compute SSIM (Wang et al. 2004), 11 px Gaussian window, mean over valid pixels."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    filled = torch.where(valid > 0, render.clamp(0, 1), photo)
    _, full = structural_similarity_index_measure(
        filled[None], photo[None], data_range=1.0, return_full_image=True
    )
    return float((full[0] * valid).sum() / (3 * valid.sum()).clamp_min(1))


def st_lpips(
    render: Float[Tensor, "3 h w"], photo: Float[Tensor, "3 h w"], valid: Float[Tensor, "1 h w"]
) -> float | None:
    """Compute shift-tolerant LPIPS (Ghildyal & Liu 2022), AlexNet; lower is better.

    Returns:
        The distance; None if the package with the weights is not installed.
    """
    from training.evaluation.st_lpips import load_st_lpips

    return _distance(load_st_lpips(), render, photo, valid)


def lpips(
    render: Float[Tensor, "3 h w"], photo: Float[Tensor, "3 h w"], valid: Float[Tensor, "1 h w"]
) -> float | None:
    """Compute LPIPS (Zhang et al. 2018), VGG16; lower is better.

    Returns:
        The distance; None if torchvision's weights are not on this machine.
    """
    from training.evaluation.lpips import load_lpips

    return _distance(load_lpips(), render, photo, valid)


def _distance(
    model: nn.Module | None,
    render: Float[Tensor, "3 h w"],
    photo: Float[Tensor, "3 h w"],
    valid: Float[Tensor, "1 h w"],
) -> float | None:
    if model is None:
        return None
    filled = torch.where(valid > 0, render.clamp(0, 1), photo)
    with torch.no_grad():
        return float(model(filled[None], photo[None]))
