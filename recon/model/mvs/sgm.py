"""Semi-global matching: smooth depth maps from noisy costs.

Hirschmueller 2008, "Stereo Processing by Semiglobal Matching and Mutual Information".
"""

import torch
from jaxtyping import Float
from torch import Tensor


def aggregate(
    costs: Float[Tensor, "d h w"],
    guide: Float[Tensor, "3 h w"],
    small_step: float,
    large_step: float,
) -> Float[Tensor, "d h w"]:
    """Sum the costs of the best paths from eight directions (eq. 13 and 14).

    A path pays `small_step` where neighbours lie one plane apart and up to `large_step` for
    more, less across edges of the guide image, where depth may jump.
    """
    total = torch.zeros_like(costs)
    for flip in (False, True):
        for transpose in (False, True):
            for slant in (-1, 0, 1):
                if transpose and slant:
                    continue
                c, g = _reoriented(costs, flip, transpose), _reoriented(guide, flip, transpose)
                path = _aggregate_rows(c, g, slant, small_step, large_step)
                total += _undo_reoriented(path, flip, transpose)
    return total


def _reoriented(x: Tensor, flip: bool, transpose: bool) -> Tensor:
    x = x.mT if transpose else x
    return x.flip(-2) if flip else x


def _undo_reoriented(x: Tensor, flip: bool, transpose: bool) -> Tensor:
    x = x.flip(-2) if flip else x
    return x.mT if transpose else x


def _aggregate_rows(
    costs: Float[Tensor, "d h w"],
    guide: Float[Tensor, "3 h w"],
    slant: int,
    small_step: float,
    large_step: float,
) -> Float[Tensor, "d h w"]:
    """Aggregate along paths that go down the rows and `slant` columns sideways per row."""
    rows = costs.permute(1, 0, 2).contiguous()
    guide_rows = guide.permute(1, 0, 2)
    shifted = torch.roll(guide_rows[:-1], slant, -1)
    edge = (guide_rows[1:] - shifted).abs().amax(1, keepdim=True)
    jump = small_step + (large_step - small_step) * torch.exp(-edge / 0.06)
    paths = [rows[0]]
    for y in range(1, len(rows)):
        before = torch.roll(paths[-1], slant, -1) if slant else paths[-1]
        lowest = before.amin(0, keepdim=True)
        best = torch.minimum(before, lowest + jump[y - 1])
        best[1:] = torch.minimum(best[1:], before[:-1] + small_step)
        best[:-1] = torch.minimum(best[:-1], before[1:] + small_step)
        paths.append(rows[y] + best - lowest)
    return torch.stack(paths, 1)


def best_plane(costs: Float[Tensor, "d h w"]) -> Float[Tensor, "h w"]:
    """Find the position of the lowest cost, interpolated by a parabola through three costs."""
    index = costs.argmin(0)
    inner = index.clamp(1, len(costs) - 2)[None]
    left, middle, right = (costs.gather(0, inner + step)[0] for step in (-1, 0, 1))
    bend = left - 2 * middle + right
    offset = torch.where(bend > 1e-9, 0.5 * (left - right) / bend.clamp_min(1e-9), 0)
    at_border = index != inner[0]
    return index + torch.where(at_border, 0, offset.clamp(-0.5, 0.5))
