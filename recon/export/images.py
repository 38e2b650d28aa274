"""Images of a scene: what is rendered for each camera, and the files it is written to."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from recon.errors import ConfigError, MissingDependency, warn
from recon.types import StageProgress
from render import Cameras, Gaussians, RasterizeSettings, RenderOutput, rasterize
from render.image_files import check_exr_support, with_alpha, write_depth_png, write_exr
from render.panorama import rasterize_panorama
from render.video import check_video_support, depth_to_color, write_image

IMAGE_FORMATS = (".png", ".jpg", ".jpeg", ".exr")
BACKGROUNDS = {"black": (0.0, 0.0, 0.0), "white": (1.0, 1.0, 1.0), "grey": (0.5, 0.5, 0.5)}
TRANSPARENT = "transparent"
MAX_SCALE = 8
# Largest fraction of the pixels that may be too far for a 16-bit depth without a warning.
MAX_BEYOND = 1e-3


@dataclass(frozen=True)
class ImageConfig:
    """What is rendered for a camera."""

    background: str = "black"
    """One of BACKGROUNDS, or TRANSPARENT for an alpha channel."""
    depth: bool = False
    """Depth instead of colours."""
    depth_unit: float | None = None
    """Depth of one step of a 16-bit image (world units); None writes depth as colours."""
    panorama: bool = False
    """All directions, as an equirectangular image."""
    scale: int = 1
    """Each pixel is the mean of scale x scale rendered ones."""
    antialiased: bool = False
    """As `RasterizeSettings.antialiased`."""

    def check(self, suffix: str) -> None:
        """Check that images of this kind fit into files with this extension (".mp4" for a video).

        Raises:
            ReconError: A setting is out of range or does not fit; says which and why.
            MissingDependency: A package that writes such files is not installed.
        """
        if not 1 <= self.scale <= MAX_SCALE:
            raise ConfigError(f"scale must be from 1 to {MAX_SCALE}, got {self.scale}", "scale")
        if self.depth_unit is not None:
            if not self.depth_unit > 0:
                raise ConfigError(
                    f"depth_unit must be positive, got {self.depth_unit:g}", "depth_unit"
                )
            if not self.depth or suffix != ".png":
                raise ConfigError(
                    "depth_unit is for 16-bit depth: it needs depth=True and .png images",
                    "depth_unit",
                    "depth",
                )
        if self.background == TRANSPARENT and (self.depth or suffix not in (".png", ".exr")):
            raise ConfigError(
                "background transparent needs colours, and .png or .exr images", "background"
            )
        try:
            if suffix == ".mp4":
                check_video_support()
            elif suffix == ".exr":
                check_exr_support()
        except OSError:
            package, extra = ("PyAV", "video") if suffix == ".mp4" else ("OpenEXR", "exr")
            raise MissingDependency(
                f"writing {suffix} needs {package}, which is not installed; "
                f"pip install 'reconsplat[{extra}]', or write .png images"
            ) from None


def render_camera(gaussians: Gaussians, camera: Cameras, config: ImageConfig) -> RenderOutput:
    """Render one camera [1] over black, without gradients.

    Of a panorama, only the pose and the width of the camera count, and depth is the distance along
    the ray.
    """
    settings = RasterizeSettings(antialiased=config.antialiased)
    width, height = config.scale * camera.width, config.scale * camera.height
    with torch.no_grad():
        if config.panorama:
            output = rasterize_panorama(gaussians, camera, width, settings=settings)
        else:
            output = rasterize(gaussians, camera.resized(width, height), settings=settings)
    if config.scale == 1:
        return output
    rgb, alpha, depth = (
        avg_pool2d(tensor, config.scale) for tensor in (output.rgb, output.alpha, output.depth)
    )
    return replace(output, rgb=rgb, alpha=alpha, depth=depth)


def displayed(output: RenderOutput, config: ImageConfig) -> Float[Tensor, "c h w"]:
    """Return the image of a render to display: colours, with alpha if transparent, or depth."""
    if config.depth:
        return depth_to_color(output.expected_depth[0], output.alpha[0])
    if config.background == TRANSPARENT:
        return with_alpha(output)
    color = output.rgb.new_tensor(BACKGROUNDS[config.background])
    return output.rgb[0] + (1 - output.alpha[0]) * color[:, None, None]


def write_file(path: Path, output: RenderOutput, config: ImageConfig) -> float:
    """Write a render to an image file; return the fraction of pixels beyond a 16-bit depth."""
    if path.suffix.lower() == ".exr":
        write_exr(path, output, only_depth=config.depth)
    elif config.depth_unit is not None:
        return write_depth_png(path, output, config.depth_unit)
    else:
        write_image(path, displayed(output, config))
    return 0.0


def write_images(
    paths: Iterable[Path],
    gaussians: Gaussians,
    cameras: Cameras,
    config: ImageConfig,
    progress: StageProgress,
) -> None:
    """Render the cameras one by one, each to its path, through a file beside it.

    Files that exist already are kept. A warning tells if pixels are too far for a 16-bit depth.
    """
    beyond = []
    for i, path in enumerate(paths):
        progress("rendering", i / len(cameras))
        if path.exists():
            continue
        temporary = path.with_name(f".writing{path.suffix}")
        output = render_camera(gaussians, cameras[[i]], config)
        beyond.append(write_file(temporary, output, config))
        temporary.replace(path)
    if beyond and max(beyond) > MAX_BEYOND:
        warn(
            f"up to {100 * max(beyond):.3g} % of the pixels of an image are farther than 65,535 "
            f"steps of {config.depth_unit:g} and have the largest value; pass a larger depth_unit",
            fields=["depth_unit"],
        )
