"""Scenes in the browser, through viser's own splat renderer."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import viser
from jaxtyping import Float
from torch import Tensor

from render import Cameras, Gaussians, rasterize
from render.paths import focus_point
from render.quaternions import rotmats_to_quats
from viewer.look import Look, visible_part
from viewer.panels.cameras import CamerasPanel
from viewer.panels.display import DisplayPanel
from viewer.panels.edit import EditPanel
from viewer.panels.path import PathPanel
from viewer.panels.picture import PicturePanel
from viewer.panels.scenes import ScenesPanel
from viewer.photos import Photos
from viewer.quiet import start_server, stop_server
from viewer.scene import ShownScene
from viewer.session import Session
from viewer.space import SHOWN_RADIUS, Space, Start, vertical_fov
from viewer.stage import set_stage

LOCAL = "127.0.0.1"
# Scenes beside each other stand this many times the scene's radius apart.
APART = 2.5
# Of most windows, beside the panel.
WIDTH_OVER_HEIGHT = 1.3


class Viewer:
    """A server that shows scenes to any number of browsers; a context, or call `stop`."""

    def __init__(
        self,
        scenes: Sequence[ShownScene],
        photos: Photos | None = None,
        host: str = LOCAL,
        port: int = 8080,
        look: Look | None = None,
    ) -> None:
        """All scenes are in the frame of the photos' cameras. When the port is taken, viser moves
        to the next free one: see `address`."""
        self.scenes, self.look = list(scenes), look or Look()
        cameras = None if photos is None or len(photos) == 0 else photos.cameras()
        if cameras is not None and photos is not None:
            judges = photos.judges()
            for scene in self.scenes:
                scene.judges = judges
        first = self.scenes[0].state.gaussians
        self.space = Space.of(first)
        self.start = Start.of(first, cameras, self.space)
        self.sessions: dict[int, Session] = {}
        self.lock = threading.Lock()
        self.server = start_server(host, port)
        # Sharing would send the scene to another machine.
        self.server.gui.configure_theme(
            control_layout="collapsible", show_logo=False, show_share_button=False, dark_mode=True
        )
        set_stage(self.server, self.start, self.look.background)
        self.facts = ScenesPanel(self)
        self.cameras = None if cameras is None or photos is None else CamerasPanel(self, photos)
        self.display = DisplayPanel(self)
        self.edit, self.picture = EditPanel(self), PicturePanel(self)
        self.path = PathPanel(self)
        self.server.on_client_connect(self._connected)
        self.server.on_client_disconnect(self._disconnected)

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        host = self.server.get_host()
        return f"http://{'localhost' if host == '0.0.0.0' else host}:{self.server.get_port()}"

    @property
    def start_fov_deg(self) -> float:
        """Vertical field of view of the first view (degrees)."""
        return float(np.rad2deg(self.start.fov))

    def stop(self) -> None:
        """Close all connections and the port."""
        for session in list(self.sessions.values()):
            session.close()
        stop_server(self.server)

    def update(self, gaussians: Gaussians) -> None:
        """A newer state of the first scene."""
        self.scenes[0].replace(gaussians)
        self.refresh()

    def set_look(self, look: Look) -> None:
        """Other settings."""
        self.look = look
        self.refresh()

    def refresh(self) -> None:
        """Send what changed to every browser."""
        with self.lock:
            sessions = list(self.sessions.values())
        for session in sessions:
            session.refresh()
        self.facts.update()

    def on_sent(self, seconds: float) -> None:
        """A browser has been sent its scenes."""
        self.facts.update(seconds)

    def visible_scenes(self) -> list[ShownScene]:
        """Those that are shown."""
        return [scene for scene in self.scenes if scene.visible]

    def beside(self) -> Float[Tensor, "3"]:
        """From one scene to the next, side by side: to the right of the first view."""
        ahead = self.start.look_at - self.start.position
        right = np.cross(ahead, self.start.up)
        step = APART * SHOWN_RADIUS / max(float(np.linalg.norm(right)), 1e-9)
        return torch.from_numpy(right * step)

    @torch.no_grad()
    def rendered(self, eye: Cameras) -> Float[Tensor, "3 h w"]:
        """What is visible, by recon's own rasterizer (CPU)."""
        parts = [self._placed(scene) for scene in self.visible_scenes()]
        degree = min(part.sh_degree for part in parts) if self.look.use_sh else 0
        whole = Gaussians.cat([part.cut_sh(degree) for part in parts])
        background = torch.tensor([self.look.background]).float() / 255
        return rasterize(whole, eye, background).rgb[0].clamp(0, 1)

    def _placed(self, scene: ShownScene) -> Gaussians:
        """What is visible of a scene, where the browser has it."""
        part = visible_part(scene, self.look, self.space)
        return replace(part, means=part.means + torch.tensor(scene.offset) / self.space.scale)

    def eye(self, client: viser.ClientHandle, width: int, height: int) -> Cameras:
        """A browser's camera, for a picture of this size (px)."""
        camera = client.camera
        return self.space.eye(camera.wxyz, camera.position, camera.fov, width, height)

    def go_to(self, client: viser.ClientHandle, camera: Cameras) -> None:
        """Move a browser's camera to where one of ours is."""
        quat = rotmats_to_quats(camera.c2w[:, :3, :3])[0]
        focus = focus_point(self.scenes[0].state.gaussians, camera)
        with client.atomic():
            client.camera.up_direction = -(camera.c2w[0, :3, 1]).numpy()
            client.camera.position = self.space.shown(camera.centers[0])
            client.camera.look_at = self.space.shown(focus)
            client.camera.wxyz = quat.numpy()
            client.camera.fov = vertical_fov(camera)

    def go_to_start(self, client: viser.ClientHandle) -> None:
        """Back to the first view, or so far back that scenes beside each other are in it."""
        offsets = np.array([scene.offset for scene in self.visible_scenes()])
        middle = offsets.mean(0) if len(offsets) else np.zeros(3)
        back = self.start.position - self.start.look_at
        if len(offsets) > 1:
            wide = float(np.linalg.norm(offsets - middle, axis=1).max()) + SHOWN_RADIUS
            away = wide / np.tan(self.start.fov / 2) / WIDTH_OVER_HEIGHT
            back = back * max(away / max(float(np.linalg.norm(back)), 1e-9), 1.0)
        with client.atomic():
            client.camera.up_direction = self.start.up
            client.camera.position = self.start.look_at + middle + back
            client.camera.look_at = self.start.look_at + middle
            client.camera.fov = self.start.fov

    def tell(self, client: viser.ClientHandle | None, text: str) -> None:
        """A short note in the browser."""
        if client is not None:
            client.add_notification("recon", text, auto_close_seconds=4.0)

    def _connected(self, client: viser.ClientHandle) -> None:
        with self.lock:
            self.sessions[client.client_id] = Session(self, client)

    def _disconnected(self, client: viser.ClientHandle) -> None:
        with self.lock:
            session = self.sessions.pop(client.client_id, None)
        if session is not None:
            session.close()
