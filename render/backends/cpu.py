"""The CPU rasterizer: our SIMD kernel behind `torch.autograd.Function`.

Same semantics as the reference, in float32. Bit-identical for any number of threads,
which is torch's (`torch.set_num_threads`; see `render.backends.threads`).
"""

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from render.arguments import check_like
from render.backends import abi, native
from render.backends.threads import kernel_threads
from render.cameras import Cameras
from render.gaussians import Gaussians
from render.types import BackendUnavailable, OutOfMemory, RasterizeSettings, RenderOutput

# Return code of cpu/abi.cpp.
OUT_OF_MEMORY = 1
# The kernel numbers tiles of 32 px in 16 bits along each side, and Gaussians in 31.
MAX_SIDE_PX, MAX_GAUSSIANS = 32 * 2**16, 2**31 - 2**12


@dataclass(frozen=True)
class _Inputs:
    """Contiguous tensors of one call, with all batch axes flattened into one."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    colors: Tensor | None
    """SH [b n k 3], channels [b n c], or None for depth alone."""
    viewmats: Tensor
    Ks: Tensor
    mask: Tensor | None

    def tensors(self) -> tuple[Tensor | None, ...]:
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)


@dataclass(frozen=True)
class _Call:
    """The arguments of one call that are not tensors."""

    width: int
    height: int
    sh: bool
    """Whether colours are SH coefficients."""
    depth: bool
    settings: RasterizeSettings

    def request(self, inputs: _Inputs) -> abi.Request:
        scenes, count = inputs.means.shape[:2]
        settings = self.settings
        width, coefficients = 0, 0
        if inputs.colors is not None:
            width = inputs.colors.shape[-1]
            coefficients = inputs.colors.shape[2] if self.sh else 0
        return abi.Request(
            scenes, inputs.viewmats.shape[1], count, self.width, self.height,
            kernel_threads(), width, coefficients, self.depth,
            settings.antialiased, settings.absgrad,
            settings.near, settings.far, settings.eps2d, settings.radius_clip,
            settings.alpha_max, settings.alpha_min, settings.transmittance_min,
            *(_pointer(t) for t in (inputs.means, inputs.quats, inputs.scales)),
            *(_pointer(t) for t in (inputs.opacities, inputs.colors, inputs.mask)),
            _pointer(inputs.viewmats), _pointer(inputs.Ks),
        )  # fmt: skip


class _State:
    """State of the kernel from forward to backward; freed with the graph."""

    def __init__(self) -> None:
        self.handle = ctypes.c_void_p()

    def __del__(self) -> None:
        if self.handle:
            native.load_library().recon_cpu_free(self.handle)


def _forward(
    call: _Call, inputs: _Inputs, state: _State | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Render colours, depth and alpha, and count the Gaussians that are not finite."""
    request = call.request(inputs)
    images, size = (request.scenes, request.views), (call.height, call.width)
    rgb, depth, alpha = (_empty(*images, c, *size) for c in (request.colors, request.depth, 1))
    nonfinite = torch.zeros(images, dtype=torch.int64)
    handle = ctypes.byref(state.handle) if state else None
    _check(
        native.load_library().recon_cpu_forward(
            ctypes.byref(request), _images(rgb, depth, alpha), _pointer(nonfinite), handle
        )
    )
    return rgb, depth, alpha, nonfinite


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx, absgrad: Tensor | None, call: _Call, *tensors: Tensor | None):  # type: ignore[override]
        state = _State() if any(ctx.needs_input_grad) else None
        rgb, depth, alpha, nonfinite = _forward(call, _Inputs(*tensors), state)  # type: ignore[arg-type]
        ctx.mark_non_differentiable(nonfinite)
        ctx.set_materialize_grads(False)
        if state is not None:
            ctx.save_for_backward(rgb, depth, alpha, *tensors)
            ctx.state, ctx.call, ctx.absgrad = state, call, absgrad
        return rgb, depth, alpha, nonfinite

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *v_images: Tensor | None):  # type: ignore[override]
        rendered, tensors = ctx.saved_tensors[:3], ctx.saved_tensors[3:]
        inputs = _Inputs(*tensors)
        request = ctx.call.request(inputs)
        named = ("means", "quats", "scales", "opacities", "colors", "viewmats")
        given = [getattr(inputs, name) for name in named]
        gradients = [None if t is None else torch.empty_like(t) for t in given]
        v_images = tuple(None if v is None else v.contiguous() for v in v_images[:3])
        out = abi.Gradients(*(_pointer(g) for g in (*gradients, ctx.absgrad)))
        _check(
            native.load_library().recon_cpu_backward(
                ctypes.byref(request), ctx.state.handle, _images(*rendered), _images(*v_images),
                ctypes.byref(out), False,
            )
        )  # fmt: skip
        return None, None, *gradients, None, None


class KeptRender:
    """Images of one scene that keep what their backward pass needs; see `render.gradients`."""

    def __init__(self, gaussians: Gaussians, cameras: Cameras, settings: RasterizeSettings) -> None:
        self.inputs, sh = _inputs(gaussians.detach(), cameras.detach(), None, None, True)
        self.call = _Call(cameras.width, cameras.height, sh, False, settings)
        self.state: _State | None = _State()
        self.rgb, self.depth, self.alpha, _ = _forward(self.call, self.inputs, self.state)
        self.rgb, self.depth, self.alpha = self.rgb[0], self.depth[0], self.alpha[0]

    def backward(self, v_rgb: Tensor, v_alpha: Tensor | None, into: Gaussians, add: bool) -> Tensor:
        """Write gradients like the scene or add them, free the state, return the viewmats' ones."""
        if self.state is None:
            raise RuntimeError("backward was called before; render again")
        v_viewmats = torch.empty_like(self.inputs.viewmats)
        out = _gradients(into, v_viewmats)
        v_rgb = v_rgb.contiguous()
        v_alpha = None if v_alpha is None else v_alpha.contiguous()
        request = self.call.request(self.inputs)
        _check(
            native.load_library().recon_cpu_backward(
                ctypes.byref(request), self.state.handle,
                _images(self.rgb, self.depth, self.alpha), _images(v_rgb, None, v_alpha),
                ctypes.byref(out), add,
            )
        )  # fmt: skip
        self.state = None
        return v_viewmats


def rasterize_cpu(
    gaussians: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings,
    channels: Tensor | None,
    mask: Tensor | None,
) -> RenderOutput:
    """Render every batch entry and camera; see `render.rasterize`."""
    batch, count = gaussians.means.shape[:-2], len(gaussians)
    with_color, with_depth = settings.render_mode != "D", settings.render_mode != "RGB"
    inputs, sh = _inputs(gaussians, cameras, channels if with_color else None, mask, with_color)
    call = _Call(cameras.width, cameras.height, sh, with_depth, settings)
    entries, views = inputs.viewmats.shape[:2]
    absgrad = torch.zeros(entries, views, count, 2) if settings.absgrad else None
    rgb, depth, alpha, nonfinite = _Rasterize.apply(absgrad, call, *inputs.tensors())
    return RenderOutput(
        rgb=rgb.view(*batch, *rgb.shape[1:]),
        alpha=alpha.view(*batch, *alpha.shape[1:]),
        depth=depth.view(*batch, *depth.shape[1:]),
        nonfinite=nonfinite.reshape(*batch, views),
        absgrad=None if absgrad is None else absgrad.view(*batch, views, count, 2),
    )


def contributions_cpu(
    gaussians: Gaussians, cameras: Cameras, settings: RasterizeSettings, mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Measure (weight_sum, weight_max, hits), each [*b n]; see `render.contributions`."""
    inputs, _ = _inputs(gaussians.detach(), cameras, None, mask, False)
    call = _Call(cameras.width, cameras.height, False, True, settings)
    shape = inputs.opacities.shape
    out = (torch.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.int64))
    pointers = abi.Contributions(*(_pointer(t) for t in out))
    library = native.load_library()
    _check(
        library.recon_cpu_contributions(ctypes.byref(call.request(inputs)), ctypes.byref(pointers))
    )
    weight_sum, weight_max, hits = (t.reshape(gaussians.opacities.shape) for t in out)
    return weight_sum, weight_max, hits


def adam_step_cpu(
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, float],
    gradients: Gaussians,
) -> None:
    """Take a step of Adam in place; see `recon.optimisation.adam`.

    Args:
        tensors: Those of AdamStep in cpu/adam.h, by name; float32, contiguous, on the CPU.
        numbers: Its floats, by name.
        gradients: Of the activated attributes.
    """
    gradients_of = {f"gradients.{name}": t for name, t in vars(gradients).items()}
    for name, tensor in {**tensors, **gradients_of}.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}, expected torch.float32")
        if not tensor.is_contiguous():
            raise ValueError(f"{name} is not contiguous; make it with .contiguous()")
    for name, tensor in gradients_of.items():
        check_like(name, tensor, tensors[name.split(".")[1]])
    count, coefficients = tensors["sh"].shape[:2]
    pointers = {name: _pointer(tensor) for name, tensor in tensors.items()}
    step = abi.AdamStep(
        count=count,
        coefficients=coefficients,
        threads=kernel_threads(),
        **numbers,
        **pointers,
    )
    _check(
        native.load_library().recon_cpu_adam_step(
            ctypes.byref(step), ctypes.byref(_gradients(gradients, None))
        )
    )


def photo_loss_cpu(
    image: Tensor, photo: Tensor, valid: Tensor, ssim_weight: float, grey: bool
) -> tuple[float, float, Tensor]:
    """Compute the loss of a rendered image; see `recon.optimisation.photo_loss`.

    Args:
        image: Rendered image [3 h w]; like all of them float32 on the CPU.
        photo: Photo [3 h w].
        valid: Factor of both [1 h w].
        ssim_weight: Weight of 1 - SSIM; if it is 0, SSIM is not computed and returned as 0.
        grey: Whether SSIM is that of the means of the channels, counted for each channel.

    Returns:
        Sums over pixels and channels of the absolute error and of SSIM, and the gradient with
        respect to the image [3 h w] of the loss summed likewise.
    """
    tensors = tuple(tensor.contiguous() for tensor in (image, photo, valid))
    height, width = image.shape[-2:]
    for name, tensor in zip(("image", "photo", "valid"), tensors, strict=True):
        expected = (1 if name == "valid" else 3, height, width)
        if tensor.dtype != torch.float32 or tensor.shape != expected:
            raise ValueError(
                f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}, expected torch.float32 "
                f"and {expected}"
            )
    gradient = torch.empty_like(tensors[0])
    sums = torch.zeros(2, dtype=torch.float64)
    loss = abi.PhotoLoss(
        width, height, kernel_threads(), grey, ssim_weight,
        *(_pointer(t) for t in (*tensors, gradient, sums[:1], sums[1:])),
    )  # fmt: skip
    _check(native.load_library().recon_cpu_photo_loss(ctypes.byref(loss)))
    absolute, similarity = sums.tolist()
    return absolute, similarity, gradient


def _gradients(into: Gaussians, viewmats: Tensor | None) -> abi.Gradients:
    shape = (into.means, into.quats, into.scales, into.opacities, into.sh, viewmats)
    return abi.Gradients(*(_pointer(tensor) for tensor in shape), None)


def _inputs(
    gaussians: Gaussians,
    cameras: Cameras,
    channels: Tensor | None,
    mask: Tensor | None,
    with_color: bool,
) -> tuple[_Inputs, bool]:
    """Check the inputs, make them contiguous with one batch axis; also return if colours are SH."""
    batch = gaussians.means.shape[:-2]
    entries = math.prod(batch)
    for name, tensor in {**vars(gaussians), "viewmats": cameras.viewmats, "Ks": cameras.Ks}.items():
        if tensor.dtype != torch.float32 or tensor.device.type != "cpu":
            raise ValueError(
                f"the cpu rasterizer needs float32 tensors on the CPU; {name} is {tensor.dtype} "
                f"on {tensor.device} (backend 'reference' takes float64)"
            )
    if max(cameras.width, cameras.height) > MAX_SIDE_PX or len(gaussians) > MAX_GAUSSIANS:
        raise ValueError(
            f"the cpu rasterizer takes images of up to {MAX_SIDE_PX} px a side and {MAX_GAUSSIANS} "
            f"Gaussians; got {cameras.width} x {cameras.height} px and {len(gaussians)}"
        )

    def flat(tensor: Tensor) -> Tensor:
        return tensor.reshape(entries, *tensor.shape[len(batch) :]).contiguous()

    colors = None
    if with_color:
        colors = flat(gaussians.sh if channels is None else channels)
    inputs = _Inputs(
        means=flat(gaussians.means),
        quats=flat(gaussians.quats),
        scales=flat(gaussians.scales),
        opacities=flat(gaussians.opacities),
        colors=colors,
        viewmats=flat(cameras.viewmats),
        Ks=flat(cameras.Ks),
        mask=None if mask is None else flat(mask),
    )
    return inputs, with_color and channels is None


def _empty(*shape: int) -> Tensor:
    try:
        return torch.empty(*shape)
    except RuntimeError:  # of torch's allocator
        raise OutOfMemory(
            f"no memory for an image tensor of shape {shape}; render fewer or smaller views"
        ) from None


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _images(rgb: Tensor | None, depth: Tensor | None, alpha: Tensor | None):
    """Return pointers to the images; null for one that is not rendered or has no gradient."""
    tensors = (None if t is None or t.numel() == 0 else t for t in (rgb, depth, alpha))
    return ctypes.byref(abi.Images(*(_pointer(t) for t in tensors)))


def _check(code: int) -> None:
    """Raise the error that a kernel call reports, if any."""
    if code == OUT_OF_MEMORY:
        raise OutOfMemory("the cpu rasterizer ran out of memory; render fewer or smaller views")
    if code != 0:
        reason = native.load_library().recon_cpu_last_error().decode(errors="replace")
        raise BackendUnavailable(f"the cpu rasterizer failed: {reason}")
