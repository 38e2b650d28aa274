"""Normalisation of poses and scale before a network, and its inverse after it.

Networks see cameras around the origin, in the axes of the mean camera, with the farthest one at
distance 1 (GS-LRM, Zhang et al. 2024, section 4.1: relative to the mean camera, scaled to
[-1, 1]). The frame follows the cameras under any Sim3, and so does a network's scene.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.layers.precision import full_precision
from render import Gaussians
from render.quaternions import multiply_quats, nearest_rotmats, rotmats_to_quats
from render.sh import rotate_sh

# Cameras closer together than this fraction of the nearest depth have no usable baseline.
MIN_BASELINE = 1e-4


@dataclass(frozen=True)
class Normalisation:
    """The similarity normalised = scale * rotmat (world - center) of each scene of a batch."""

    rotmats: Float[Tensor, "b 3 3"]
    centers: Float[Tensor, "b 3"]
    scales: Float[Tensor, " b"]

    @staticmethod
    @full_precision
    def of(batch: ViewBatch) -> "Normalisation":
        """Compute the normalisation of a batch's cameras.

        A single view, or views without a baseline, take their scale from the depth range.
        """
        c2w = batch.cameras.c2w.double()
        centers = c2w[..., :3, 3]
        center = centers.mean(-2)
        mean_c2w = nearest_rotmats(c2w[..., :3, :3].mean(-3))
        radius = (centers - center[..., None, :]).norm(dim=-1).amax(-1)
        middle_depth = (batch.near * batch.far).sqrt().mean(-1).double()
        has_baseline = radius > MIN_BASELINE * batch.near.amin(-1)
        scales = 1 / torch.where(has_baseline, radius, middle_depth)
        return Normalisation(mean_c2w.mT, center, scales)

    @full_precision
    def apply(self, batch: ViewBatch) -> ViewBatch:
        """Transform a batch to the normalised frame; depths are multiplied by the scale."""
        viewmats = batch.cameras.viewmats.double()
        rotmats, translations = viewmats[..., :3, :3], viewmats[..., :3, 3]
        scales = self.scales[:, None]
        normalised_translations = (
            scales[..., None]
            * (rotmats @ self.centers[:, None, :, None] + translations[..., None])[..., 0]
        )
        normalised = torch.zeros_like(viewmats)
        normalised[..., :3, :3] = rotmats @ self.rotmats[:, None].mT
        normalised[..., :3, 3] = normalised_translations
        normalised[..., 3, 3] = 1
        cameras = replace(batch.cameras, viewmats=normalised.to(batch.cameras.viewmats))
        near, far = (depth * scales.to(depth) for depth in (batch.near, batch.far))
        return replace(batch, cameras=cameras, near=near, far=far)

    @full_precision
    def undo(self, output: NetworkOutput) -> NetworkOutput:
        """Transform a network's output back to the cameras' own frame and scale."""
        unit = self.scales.to(output.depth)[:, None, None, None]
        return replace(
            output,
            gaussians=self._undo_gaussians(output.gaussians),
            depth=output.depth / unit,
            intermediate_depths=tuple(depth / unit for depth in output.intermediate_depths),
            intermediate_gaussians=tuple(
                self._undo_gaussians(gaussians) for gaussians in output.intermediate_gaussians
            ),
            viewmats=None if output.viewmats is None else self._undo_poses(output.viewmats),
        )

    def _undo_poses(self, viewmats: Float[Tensor, "b v 4 4"]) -> Float[Tensor, "b v 4 4"]:
        rotmats = viewmats[..., :3, :3] @ self.rotmats.to(viewmats)[:, None]
        shift = rotmats @ self.centers.to(viewmats)[:, None, :, None]
        translations = viewmats[..., :3, 3:] / self.scales.to(viewmats)[:, None, None, None] - shift
        top = torch.cat([rotmats, translations], -1)
        return torch.cat([top, viewmats[..., 3:, :]], -2)

    def _undo_gaussians(self, g: Gaussians) -> Gaussians:
        rotmats, centers = self.rotmats.to(g.means), self.centers.to(g.means)
        scales = self.scales.to(g.means)
        quats = rotmats_to_quats(rotmats.mT)[:, None].expand_as(g.quats)
        sh = g.sh
        if g.sh_degree > 0:
            rotated = [rotate_sh(s, r.mT) for s, r in zip(sh, rotmats, strict=True)]
            sh = torch.stack(rotated)
        return Gaussians(
            means=g.means @ rotmats / scales[:, None, None] + centers[:, None],
            quats=multiply_quats(quats, g.quats),
            scales=g.scales / scales[:, None, None],
            opacities=g.opacities,
            sh=sh,
        )
