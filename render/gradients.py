"""A render whose gradients are written into given tensors, without an autograd graph."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from render.arguments import check_arguments
from render.cameras import Cameras
from render.gaussians import Gaussians
from render.rasterize import choose_backend, rasterize, with_near_plane
from render.types import RasterizeSettings


class GradientRender:
    """The image of one camera, which keeps what its backward pass needs while it exists.

    An optimiser that knows its loss's gradient saves what autograd allocates: a tensor of each
    attribute for each view, and copies to add them.
    """

    rgb: Float[Tensor, "3 h w"]

    def __init__(self, gaussians: Gaussians, camera: Cameras, settings: RasterizeSettings) -> None:
        """Render a scene into a single camera, in mode "RGB".

        The Gaussians must not change before `backward`.
        """
        check_arguments(gaussians, camera, settings)
        settings = with_near_plane(settings, gaussians)
        if settings.render_mode != "RGB":
            raise ValueError(f"render_mode is {settings.render_mode!r}, expected RGB")
        self._kept = None
        if choose_backend(gaussians) == "cpu":
            from render.backends.cpu import KeptRender

            single = camera.map(lambda tensor: tensor.unsqueeze(-3))
            self._kept = KeptRender(gaussians, single, settings)
            self.rgb = self._kept.rgb[0]
        else:
            self._leaves = gaussians.map(lambda tensor: tensor.detach().requires_grad_())
            self._viewmats = camera.viewmats.detach().requires_grad_()
            camera = replace(camera, viewmats=self._viewmats)
            with torch.enable_grad():
                self._graph = rasterize(self._leaves, camera, settings=settings).rgb
            self.rgb = self._graph.detach()

    def backward(
        self, v_rgb: Float[Tensor, "3 h w"], into: Gaussians, add: bool = False
    ) -> Float[Tensor, "4 4"]:
        """Compute the gradients of all attributes, once; return that of the view matrix.

        Args:
            v_rgb: Gradient with respect to `rgb`.
            into: Overwritten with the gradients; contiguous, of the shapes of the Gaussians.
            add: Add them to `into` instead.
        """
        if self._kept is not None:
            return self._kept.backward(v_rgb[None], into, add)[0, 0]
        leaves = [*vars(self._leaves).values(), self._viewmats]
        *found, v_viewmats = torch.autograd.grad(self._graph, leaves, v_rgb)
        for tensor, gradient in zip(vars(into).values(), found, strict=True):
            tensor.copy_(tensor + gradient if add else gradient)
        return v_viewmats
