"""A render whose gradients are written into given tensors, without an autograd graph."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from render.arguments import check_arguments, check_like, is_single_camera
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
    alpha: Float[Tensor, "1 h w"]

    def __init__(self, gaussians: Gaussians, camera: Cameras, settings: RasterizeSettings) -> None:
        """Render a scene into a single camera, in mode "RGB".

        The Gaussians must not change before `backward`.

        Raises:
            TypeError, ValueError: an argument does not fit, as in `rasterize`; there are batch axes
                or several cameras, or the mode is another.
        """
        check_arguments(gaussians, camera, settings)
        if gaussians.means.ndim != 2 or not is_single_camera(gaussians, camera):
            raise ValueError(
                f"means has shape {tuple(gaussians.means.shape)} and viewmats "
                f"{tuple(camera.viewmats.shape)}, expected (n, 3) and (4, 4): one scene and a "
                "single camera, such as cameras[0]"
            )
        settings = with_near_plane(settings, gaussians)
        if settings.render_mode != "RGB":
            raise ValueError(f"render_mode is {settings.render_mode!r}, expected RGB")
        self._attributes = {name: t.detach() for name, t in vars(gaussians).items()}
        self._kept = None
        if choose_backend(gaussians) == "cpu":
            from render.backends.cpu import KeptRender

            single = camera.map(lambda tensor: tensor.unsqueeze(-3))
            self._kept = KeptRender(gaussians, single, settings)
            self.rgb, self.alpha = self._kept.rgb[0], self._kept.alpha[0]
        else:
            self._leaves = gaussians.map(lambda tensor: tensor.detach().requires_grad_())
            self._viewmats = camera.viewmats.detach().requires_grad_()
            camera = replace(camera, viewmats=self._viewmats)
            with torch.enable_grad():
                output = rasterize(self._leaves, camera, settings=settings)
            self._graph = (output.rgb, output.alpha)
            self.rgb, self.alpha = (image.detach() for image in self._graph)

    def backward(
        self,
        v_rgb: Float[Tensor, "3 h w"],
        into: Gaussians,
        add: bool = False,
        v_alpha: Float[Tensor, "1 h w"] | None = None,
    ) -> Float[Tensor, "4 4"]:
        """Compute the gradients of all attributes, once; return that of the view matrix.

        Args:
            v_rgb: Gradient with respect to `rgb`.
            into: Overwritten with the gradients; contiguous, of the shapes of the Gaussians.
            add: Add them to `into` instead.
            v_alpha: Gradient with respect to `alpha`; None for none.

        Raises:
            ValueError: the shape, dtype or device of a tensor does not fit, or one of `into` is not
                contiguous.
        """
        check_like("v_rgb", v_rgb, self.rgb)
        if v_alpha is not None:
            check_like("v_alpha", v_alpha, self.alpha)
        for name, attribute in self._attributes.items():
            given = getattr(into, name)
            check_like(f"into.{name}", given, attribute)
            # The kernel writes to the memory, row after row.
            if not given.is_contiguous():
                raise ValueError(f"into.{name} is not contiguous; make it with .contiguous()")
        if self._kept is not None:
            return self._kept.backward(v_rgb, v_alpha, into, add)[0, 0]
        leaves = [*vars(self._leaves).values(), self._viewmats]
        if v_alpha is None:
            v_alpha = torch.zeros_like(self.alpha)
        *found, v_viewmats = torch.autograd.grad(self._graph, leaves, (v_rgb, v_alpha))
        for tensor, gradient in zip(vars(into).values(), found, strict=True):
            tensor.copy_(tensor + gradient if add else gradient)
        return v_viewmats
