"""Edge-aware interpolation of confident depth into pixels without it."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

# Conjugate-gradient iterations.
ITERATIONS = 150


def fill_disparity(
    disparity: Float[Tensor, "v h w"],
    confidence: Float[Tensor, "v h w"],
    guide: Float[Tensor, "v 3 h w"],
    smoothness: float,
    edge: float = 0.03,
) -> Float[Tensor, "v h w"]:
    """Solve a weighted least-squares smoothing of disparity for each view.

    Minimises sum c (x - disparity)^2 + smoothness sum w (x_i - x_j)^2 over four-neighbours,
    w = exp(-|difference of the guide| / edge), by conjugate gradients (Farbman et al. 2008,
    "Edge-preserving decompositions", eq. 2).

    Args:
        disparity: Disparity in any unit, near 1 so that the solver's constants suit it.
        confidence: Weight c of each pixel's own disparity.
        guide: Images whose edges the disparity may follow.
        smoothness: Weight of the differences between neighbours.
        edge: Difference of the guide at which that weight has fallen to 1/e.
    """
    right = _weights(guide[..., :, 1:] - guide[..., :, :-1], edge) * smoothness
    down = _weights(guide[..., 1:, :] - guide[..., :-1, :], edge) * smoothness
    confidence = confidence + 1e-5

    def apply(x: Tensor) -> Tensor:
        out = confidence * x
        flow = right * (x[..., :, 1:] - x[..., :, :-1])
        out[..., :, 1:] += flow
        out[..., :, :-1] -= flow
        flow = down * (x[..., 1:, :] - x[..., :-1, :])
        out[..., 1:, :] += flow
        out[..., :-1, :] -= flow
        return out

    diagonal = confidence.clone()
    diagonal[..., :, 1:] += right
    diagonal[..., :, :-1] += right
    diagonal[..., 1:, :] += down
    diagonal[..., :-1, :] += down
    return _conjugate_gradients(apply, confidence * disparity, disparity, diagonal)


def _weights(difference: Float[Tensor, "v 3 h w"], edge: float) -> Float[Tensor, "v h w"]:
    # Never zero, so that isolated regions of one colour still get a depth.
    return torch.exp(-difference.abs().amax(1) / edge) + 1e-3


def _conjugate_gradients(
    apply: Callable[[Tensor], Tensor], target: Tensor, start: Tensor, diagonal: Tensor
) -> Tensor:
    """Solve apply(x) = target for each view by Jacobi-preconditioned conjugate gradients."""
    x = start.clone()
    residual = target - apply(x)
    direction = residual / diagonal
    energy = (residual * direction).sum((-2, -1), keepdim=True)
    for _ in range(ITERATIONS):
        image = apply(direction)
        length = energy / (direction * image).sum((-2, -1), keepdim=True).clamp_min(1e-30)
        x = x + length * direction
        residual = residual - length * image
        scaled = residual / diagonal
        new_energy = (residual * scaled).sum((-2, -1), keepdim=True)
        direction = scaled + new_energy / energy.clamp_min(1e-30) * direction
        energy = new_energy
    return x
