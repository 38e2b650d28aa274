"""Robust weights: suspect pixels of a photo that the scene does not explain have no weight.

A scene that all photos agree on fits each of them but for what only that one shows, such as
passers-by. As in RobustNeRF (Sabour et al. 2023, section 4) a pixel is an outlier where the
residual around it exceeds a quantile of all residuals; as colours are averaged over neighbourhoods
before they are compared, detail that is not sharp yet is none. Only pixels that were suspect from
the start can be outliers: where a scene is wrong, all photos have large residuals, and without
their weight it would stay wrong (docs/experiments/transients.md).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, max_pool2d

# Quantile of the residuals, its multiple above which a residual is an outlier, and the smallest
# one that is (of white).
QUANTILE, FACTOR, MIN_RESIDUAL = 0.9, 2.0, 0.08
# Fraction by which the quantile follows that of each render.
FOLLOWING = 0.1


class RobustWeights:
    """Weights of the pixels of all views, 0 or 1, at a low resolution."""

    def __init__(self, outliers: Bool[Tensor, "v h w"]) -> None:
        """Start with known outliers.

        Args:
            outliers: Suspect pixels of the views, which have no weight at first, at a low
                resolution.
        """
        self.suspect, self.outliers = outliers, outliers.clone()
        self.is_learning = False
        self.quantile: float | None = None

    def of(self, view: int, height: int, width: int) -> Float[Tensor, "1 h w"]:
        """Return the weights of a view at a size."""
        inliers = 1 - self.outliers[view][None, None].float()
        return interpolate(inliers, (height, width), mode="nearest")[0]

    def update(
        self, view: int, residual: Float[Tensor, "3 h w"], valid: Float[Tensor, "1 h w"]
    ) -> None:
        """Find the outliers of a view anew, once `is_learning` is set.

        Args:
            view: Index of the view.
            residual: Difference of its render and the photo.
            valid: 1 where there is a photo.
        """
        if not self.is_learning:
            return
        size = (self.outliers.shape[1], self.outliers.shape[2])
        inside = adaptive_avg_pool2d(valid[None], size)
        mean = adaptive_avg_pool2d((residual * valid)[None], size) / inside.clamp_min(1e-6)
        score = _blurred(mean).abs().mean(1)[0]
        known = score[inside[0, 0] > 0.5]
        if len(known) == 0:
            return
        latest = float(torch.quantile(known, QUANTILE))
        before = latest if self.quantile is None else self.quantile
        self.quantile = before + FOLLOWING * (latest - before)
        limit = max(FACTOR * self.quantile, MIN_RESIDUAL)
        outliers = _blurred((score > limit)[None, None].float()) > 0.5
        found = max_pool2d(outliers.float(), 3, 1, 1)[0, 0] > 0
        self.outliers[view] = found & self.suspect[view]


def _blurred(images: Float[Tensor, "v c h w"]) -> Float[Tensor, "v c h w"]:
    return avg_pool2d(images, 3, 1, 1, count_include_pad=False)
