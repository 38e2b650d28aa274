"""A scene: Gaussians, and what is known about how they were made."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from recon.capture import Frame
from recon.capture.sfm import CameraSource, PosedCapture
from recon.compression import EncodedScene, compress
from recon.config import ReconstructConfig
from recon.formats import (
    NamedCamera,
    SceneSource,
    check_values,
    format_of,
    open_scene,
    save_gaussians,
)
from recon.precision import WORLD, Origin
from recon.simplification.decimation import importance_order
from recon.spread import spread_cameras
from recon.start_camera import local_start, world_start
from recon.types import StageProgress, Views
from render import Cameras, Gaussians, RasterizeSettings, RenderOutput, rasterize


@dataclass(frozen=True)
class Provenance:
    """How a scene was made."""

    config: ReconstructConfig
    """Settings of the reconstruction."""
    version: str
    """Version of recon that made it."""
    camera_source: CameraSource
    """`given` (with the input), `solved` (by structure from motion), or `none` (assumed, for a
    single photo without a camera)."""
    view_names: tuple[str, ...]
    """Names of the views that were used."""
    frames: tuple[Frame, ...] = ()
    """The photos that were used, with their original cameras; empty if tensors were given."""
    poses: PosedCapture | None = None
    """All photos with cameras, and those that were left out; None if tensors were given."""
    num_predicted: int = 0
    """Number of Gaussians that the model predicted."""
    simplified: bool = False
    """Whether Gaussians were pruned and merged, which happens only before an optimisation."""
    num_steps: int = 0
    """Number of optimisation steps that were taken."""
    cameras_corrected: bool = False
    """Whether the optimisation corrected the cameras."""

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of the photos that are not used: unreadable, or without a camera."""
        if self.poses is None:
            return ()
        return (*self.poses.capture.left_out, *self.poses.unregistered)

    @property
    def frames_with_cameras(self) -> tuple[Frame, ...]:
        """All photos whose cameras were solved, or the photos used if cameras were given."""
        if self.poses is None or self.camera_source != "solved":
            return self.frames
        return self.poses.capture.frames

    @property
    def depth_is_guessed(self) -> bool:
        """Whether there was only one view, from which depth cannot be measured."""
        return len(self.view_names) == 1


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene of 3D Gaussians.

    A scene that was read from a file has its Gaussians and what the file keeps beside them; all
    other fields are None.

    Example:
        scene = recon.reconstruct("photos/")
        image = scene.render().rgb[0]
        scene.save("scene.ply")
    """

    gaussians: Gaussians
    """Activated attributes, in the world frame of `cameras`."""
    cameras: Cameras | None = None
    """Cameras of the views that were used, at the size at which they were used."""
    depth: Float[Tensor, "g h w"] | None = None
    """Depth that the model predicted for each geometry view (z, world units), before any
    optimisation."""
    confidence: Float[Tensor, "g h w"] | None = None
    """Confidence of that depth, 0 to 1."""
    geometry_views: tuple[int, ...] | None = None
    """Indices of the views that Gaussians were predicted from; None stands for all views."""
    exposure: Float[Tensor, "v 3"] | None = None
    """Exposure of each view relative to the scene, per colour channel; their geometric mean is 1.
    None if the scene was not optimised."""
    source_view: Int[Tensor, " n"] | None = None
    """Index of the view that each Gaussian was predicted from; of a merged one, that of its most
    visible member."""
    provenance: Provenance | None = None
    """How the scene was made."""
    origin: Origin = WORLD
    """World coordinates of the point that Gaussians and cameras are relative to. Not zero where
    float32 cannot hold positions in the world frame, such as UTM coordinates; files are written in
    the world frame."""
    antialiased: bool = False
    """Whether the scene is for rendering with the 2D filter of Mip-Splatting."""
    start: Cameras | None = None
    """Camera from which to look at the scene first, in the world frame; by default the
    one in the middle of `cameras`. Files of most formats keep it."""
    file_cameras: tuple[NamedCamera, ...] = field(default=(), repr=False)
    """Further cameras of the file that the scene was read from, in the world frame, such as those
    of the photos in USD."""
    ordered: bool = field(default=False, repr=False)
    """Whether the Gaussians are in order of importance."""

    def __len__(self) -> int:
        return len(self.gaussians)

    def __repr__(self) -> str:
        views = "" if self.cameras is None else f", {len(self.cameras)} views"
        return f"Scene({len(self):,} Gaussians{views})"

    def by_importance(self) -> "Scene":
        """Return the scene with its most important Gaussians first.

        Importance is measured by rendering the scene's cameras, so that each leading part of the
        Gaussians is close to the best smaller scene. Without cameras the order stays as it is.
        """
        if self.ordered or self.cameras is None:
            return self
        order = importance_order(self.gaussians, self.cameras.to(self.gaussians.device))
        source_view = None if self.source_view is None else self.source_view[order]
        return replace(self, gaussians=self.gaussians[order], source_view=source_view, ordered=True)

    def save(self, path: str | Path) -> None:
        """Write the Gaussians to a file.

        The extension chooses the format: .ply, .compressed.ply, .splat, .spz, .sog, .glb, .usdc,
        .usda or .usdz. Those of USD get the cameras of the views as well.
        Formats that keep the order of Gaussians get the most important ones first.

        Raises:
            InputError: The format is unknown, the scene is empty or has invalid values, such as NaN
                or opacities above 1, or the file cannot be written.
        """
        path = Path(path)
        keeps_order = format_of(path).keeps_order
        check_values(path, self.gaussians)
        scene = self.by_importance() if keeps_order else self
        cameras = self._kept_cameras(path)
        start = self._start()
        save_gaussians(path, scene.gaussians, self.origin, self.antialiased, start, cameras)

    def _kept_cameras(self, path: Path) -> tuple[NamedCamera, ...]:
        """Return the cameras to write into a file: those of the views, where its format can."""
        views = self._photo_cameras() if format_of(path).keeps_cameras else ()
        return views or self.file_cameras

    def _photo_cameras(self) -> tuple[NamedCamera, ...]:
        """Return the cameras of the views in the world frame, named like their photos."""
        if self.cameras is None:
            return ()
        names = () if self.provenance is None else self.provenance.view_names
        if len(names) != len(self.cameras):
            names = tuple(f"view_{index}" for index in range(len(self.cameras)))
        return tuple(
            NamedCamera(name, world_start(self.cameras[[index]], self.origin))
            for index, name in enumerate(names)
        )

    def _start(self) -> Cameras | None:
        if self.start is not None or self.cameras is None:
            return self.start
        central = spread_cameras(self.cameras, 1)
        return world_start(self.cameras[central], self.origin)

    def render(
        self,
        cameras: Cameras | None = None,
        background: Sequence[float] | Tensor | None = None,
        **options: Any,
    ) -> RenderOutput:
        """Render the scene.

        Args:
            cameras: Cameras to render, relative to `origin`; by default those of the scene, or the
                one to look at it from first if it has none, as if read from a file.
            background: Colour behind the scene, display sRGB in [0, 1], of all cameras or of each;
                with `channels`, a value for each of them. Black by default.
            options: Further arguments of `render.rasterize`, such as `settings`; without, the
                settings are those that the scene is for.

        Returns:
            Images with a leading axis for the cameras: `rgb [v 3 h w]`, `alpha`, `depth` and more;
            without that axis for a single camera.

        Raises:
            ValueError: No cameras are given, and the scene has none.
        """
        chosen = self.cameras if cameras is None else cameras
        if chosen is None:
            if self.start is None:
                raise ValueError("this scene has no cameras; pass some to render()")
            chosen = local_start(self.start, self.origin)
        chosen = chosen.to(self.gaussians.device)
        options.setdefault("settings", RasterizeSettings(antialiased=self.antialiased))
        if background is not None:
            options["backgrounds"] = torch.as_tensor(background).to(self.gaussians.means)
        return rasterize(self.gaussians, chosen, **options)

    def compress(
        self,
        path: str | Path,
        *,
        max_loss_db: float | None = None,
        target_mb: float | None = None,
        keep_fraction: float | None = None,
        views: Views | None = None,
        progress: StageProgress = lambda stage, done: None,
    ) -> EncodedScene:
        """Write a smaller file: see `recon.compress`.

        Losses are measured on `views`, which are the photos, or else at the scene's cameras; a
        scene without cameras gets synthetic ones.

        Args:
            path: File to write; the extension chooses the format (.sog is the smallest).
            max_loss_db: Maximum loss of PSNR (dB).
            target_mb: Maximum file size (MB, 10^6 bytes).
            keep_fraction: Fraction of the Gaussians to keep, in (0, 1].
            views: Photos of the scene.
            progress: Called with the stage and its completed fraction.

        Returns:
            The file at `path`, with its number of Gaussians and its loss.

        Raises:
            ConfigError: A limit is out of range or cannot be met, or several are given.
            InputError: The extension is unknown, or the scene is empty, has invalid values, such as
                NaN or opacities above 1, or does not match the views.
        """
        source = SceneSource.of(self.gaussians, self.origin, self.antialiased, self._start())
        return compress(
            replace(source, cameras=self._kept_cameras(Path(path))),
            path,
            max_loss_db=max_loss_db,
            target_mb=target_mb,
            keep_fraction=keep_fraction,
            views=views,
            cameras=None if views is not None or self.cameras is None else self.cameras.to("cpu"),
            progress=progress,
        )


def load(path: str | Path) -> Scene:
    """Read a scene file (.ply, .compressed.ply, .splat, .spz, .sog, .glb, .usdc, .usda, .usdz).

    Raises:
        InputError: The file is missing, damaged, empty, or in an unknown format.
    """
    source = open_scene(Path(path))
    return Scene(
        source.load(),
        origin=source.origin,
        antialiased=source.antialiased,
        start=source.start,
        file_cameras=source.cameras,
    )
