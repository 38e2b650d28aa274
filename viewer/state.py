"""The common state of panels and browser sessions: scenes, display settings, normalisation.

Nothing here knows the server, the panels or the sessions; they connect to the signals.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
import viser
from jaxtyping import Bool, Float
from torch import Tensor

from recon.start_camera import local_start
from render import Cameras, Gaussians, RasterizeSettings, rasterize
from render.paths import focus_point
from render.quaternions import rotmats_to_quats
from viewer.alignment import Alignment
from viewer.display_settings import DisplaySettings, visible_gaussians
from viewer.normalisation import BROWSER_RADIUS, SceneNormalisation
from viewer.photos import Photos
from viewer.scene import ViewerScene
from viewer.start_view import StartView, vertical_fov

# Distance between scenes side by side, in radii of a scene.
SIDE_BY_SIDE_DISTANCE = 2.5
# Aspect ratio of most browser windows beside the panels.
WINDOW_ASPECT = 1.3


class Signal:
    """Functions to call when something happens; any thread may connect, disconnect and emit."""

    def __init__(self) -> None:
        self._listeners: tuple[Callable[[], None], ...] = ()
        self._lock = threading.Lock()

    def connect(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the signal is emitted."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def disconnect(self, listener: Callable[[], None]) -> None:
        """Stop calling `listener`."""
        with self._lock:
            self._listeners = tuple(each for each in self._listeners if each != listener)

    def emit(self) -> None:
        """Call all listeners in the order in which they were connected."""
        for listener in self._listeners:
            listener()


class ViewerState:
    """Scenes and how they are displayed."""

    def __init__(
        self,
        scenes: Sequence[ViewerScene],
        photos: Photos | None = None,
        settings: DisplaySettings | None = None,
    ) -> None:
        """Derive normalisation and start view from the first scene and the photos.

        Args:
            scenes: one or more, all in the world frame of the photos' cameras.
            photos: photos to start from and to measure contributions with.
            settings: initial display settings.
        """
        self.scenes = list(scenes)
        self.settings = settings or DisplaySettings()
        self.photos = None if photos is None or len(photos) == 0 else photos
        cameras = None
        if self.photos is not None:
            cameras = self.photos.cameras()
            contribution_cameras = self.photos.contribution_cameras()
            for scene in self.scenes:
                scene.contribution_cameras = contribution_cameras
        first = self.scenes[0].state.gaussians
        self.normalisation = SceneNormalisation.of(first)
        start = self.scenes[0].start
        if start is not None:
            start = local_start(start, self.scenes[0].origin)
        self.start = StartView.of(first, cameras, self.normalisation, start)
        self.alignment = Alignment()
        """The frame that scenes are saved in."""
        self.changed, self.sent, self.reset = Signal(), Signal(), Signal()
        self._edits: list[set[int]] = []
        """For each edit, the indices of the scenes in which it can be undone."""
        self.send_seconds: float | None = None
        """Time that the last transfer to a browser took; None while one is due."""

    def update(self, gaussians: Gaussians) -> None:
        """Replace the first scene by a later state of an optimisation."""
        self.scenes[0].replace(gaussians)
        self.notify_changed()

    def set_display(self, settings: DisplaySettings) -> None:
        """Change the display settings."""
        self.settings = settings
        self.notify_changed()

    def notify_changed(self) -> None:
        """Tell all listeners that scenes or settings have changed."""
        self.send_seconds = None
        self.changed.emit()

    def notify_sent(self, seconds: float) -> None:
        """Tell all listeners that a browser has received its scenes."""
        self.send_seconds = seconds
        self.sent.emit()

    def visible_scenes(self) -> list[ViewerScene]:
        """Return the scenes that are displayed."""
        return [scene for scene in self.scenes if scene.visible]

    def hide(self, mask_of: Callable[[ViewerScene, Gaussians], Bool[Tensor, " n"]]) -> int:
        """Hide Gaussians of the visible scenes and return how many more are hidden now.

        Args:
            mask_of: Returns which Gaussians of a scene to hide.
        """
        total, edit = 0, set[int]()
        self._edits.append(edit)
        for index, scene in enumerate(self.scenes):
            if scene.visible and (count := scene.hide(partial(mask_of, scene))) > 0:
                total += count
                edit.add(index)
        self.notify_changed()
        return total

    def undo(self) -> bool:
        """Undo the last edit of the visible scenes and return whether there was one.

        Scenes that it did not change keep their own edits, which are older.
        """
        visible = {index for index, scene in enumerate(self.scenes) if scene.visible}
        for edit in reversed(self._edits):
            found = edit & visible
            edit -= found
            if any([self.scenes[index].undo() for index in found]):
                self.notify_changed()
                return True
        return False

    def show_one(self, name: str) -> None:
        """Display only the scene of this name, at the origin."""
        for scene in self.scenes:
            scene.visible, scene.offset = scene.name == name, (0.0, 0.0, 0.0)

    def show_side_by_side(self) -> None:
        """Display all scenes, each to the right of the one before as seen from the start view."""
        ahead = self.start.look_at - self.start.position
        right = np.cross(ahead, self.start.up)
        distance = SIDE_BY_SIDE_DISTANCE * BROWSER_RADIUS
        step = right * distance / max(float(np.linalg.norm(right)), 1e-9)
        for index, scene in enumerate(self.scenes):
            x, y, z = (index * step).tolist()
            scene.visible, scene.offset = True, (x, y, z)

    @torch.no_grad()
    def rendered(self, camera: Cameras) -> Float[Tensor, "3 h w"]:
        """Render the visible scenes with recon's own rasterizer (CPU), colours in [0, 1].

        It is antialiased if all of them are for that: what overlaps is rendered in one way.
        """
        scenes = self.visible_scenes()
        parts = [self._placed(scene) for scene in scenes]
        settings = RasterizeSettings(antialiased=all(scene.antialiased for scene in scenes))
        degree = min(part.sh_degree for part in parts) if self.settings.use_sh else 0
        whole = Gaussians.cat([part.cut_sh(degree) for part in parts])
        background = torch.tensor([self.settings.background]).float() / 255
        output = rasterize(whole, camera, backgrounds=background, settings=settings)
        return output.rgb[0].clamp(0, 1)

    def _placed(self, scene: ViewerScene) -> Gaussians:
        """Return the visible Gaussians of a scene at its position in the browser."""
        part = visible_gaussians(scene, self.settings, self.normalisation)
        offset = torch.tensor(scene.offset) / self.normalisation.scale
        return replace(part, means=part.means + offset)

    def camera_of(self, client: viser.ClientHandle, width: int, height: int) -> Cameras:
        """Return a browser's camera in world coordinates, for images of this size (px)."""
        camera = client.camera
        return self.normalisation.camera(camera.wxyz, camera.position, camera.fov, width, height)

    def go_to(self, client: viser.ClientHandle, camera: Cameras) -> None:
        """Move a browser's camera to a camera in world coordinates."""
        quat = rotmats_to_quats(camera.c2w[:, :3, :3])[0]
        focus = focus_point(self.scenes[0].state.gaussians, camera)
        with client.atomic():
            client.camera.up_direction = -(camera.c2w[0, :3, 1]).numpy()
            client.camera.position = self.normalisation.to_browser(camera.centers[0])
            client.camera.look_at = self.normalisation.to_browser(focus)
            client.camera.wxyz = quat.numpy()
            client.camera.fov = vertical_fov(camera)

    def go_to_start(self, client: viser.ClientHandle) -> None:
        """Move a browser's camera to the start view, or back until all scenes are in view."""
        offsets = np.array([scene.offset for scene in self.visible_scenes()])
        middle = offsets.mean(0) if len(offsets) else np.zeros(3)
        back = self.start.position - self.start.look_at
        if len(offsets) > 1:
            radius = float(np.linalg.norm(offsets - middle, axis=1).max()) + BROWSER_RADIUS
            distance = radius / np.tan(self.start.fov / 2) / WINDOW_ASPECT
            back = back * max(distance / max(float(np.linalg.norm(back)), 1e-9), 1.0)
        with client.atomic():
            client.camera.up_direction = self.start.up
            client.camera.position = self.start.look_at + middle + back
            client.camera.look_at = self.start.look_at + middle
            client.camera.fov = self.start.fov
