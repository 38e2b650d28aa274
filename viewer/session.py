"""One browser: it gets the scenes as they look from its own camera."""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import viser

from render import Cameras
from viewer.look import Look, arrays_of

if TYPE_CHECKING:
    from viewer.app import Viewer

# Moving on by less than this part of the distance to the middle of the scene does not call for new
# widths, or by less than this, or turning by about this angle (radians), for new colours.
FAR_MOVE, TURN = 0.12, 0.05
# The camera must rest so long before scenes are sent anew (s).
REST_S = 0.25
# Waiting for the last sending of a closed session ends after so long (s).
LONGEST_S = 20.0


@dataclass(frozen=True)
class _Sent:
    """What a browser has of a scene."""

    version: int
    look: Look
    eye: Cameras


class Session:
    """Sends scenes to one client, in a thread of its own."""

    def __init__(self, viewer: "Viewer", client: viser.ClientHandle) -> None:
        self.viewer, self.client = viewer, client
        self.handles: dict[int, viser.GaussianSplatHandle] = {}
        self.sent: dict[int, _Sent] = {}
        self.wake, self.over = threading.Event(), False
        self.moved_at = 0.0
        client.camera.on_update(self._on_camera)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.wake.set()

    def refresh(self) -> None:
        """Something changed."""
        self.wake.set()

    def close(self) -> None:
        """The browser is gone. Waits for what is under way, since Python may not end while a thread
        computes."""
        self.over = True
        self.wake.set()
        self.thread.join(LONGEST_S)

    def eye(self, width: int | None = None, height: int | None = None) -> Cameras:
        """The browser's camera, for a picture of its own size unless another is asked for."""
        camera = self.client.camera
        height = height or max(camera.image_height, 1)
        width = width or max(camera.image_width, 1)
        return self.viewer.eye(self.client, width, height)

    def _on_camera(self, camera: viser.CameraHandle) -> None:
        self.moved_at = time.monotonic()
        self.wake.set()

    def _run(self) -> None:
        while not self.over:
            self.wake.wait()
            self.wake.clear()
            while not self.over and time.monotonic() - self.moved_at < REST_S:
                time.sleep(0.05)
            if not self.over:
                self._send_all()

    def _send_all(self) -> None:
        viewer, started = self.viewer, time.perf_counter()
        eye, look, changed = self.eye(), viewer.look, False
        for number, scene in enumerate(viewer.scenes):
            handle = self.handles.get(number)
            if handle is not None:
                handle.visible, handle.position = scene.visible, scene.offset
            wanted = _Sent(scene.version, look, eye)
            sent, degree = self.sent.get(number), scene.state.gaussians.sh_degree
            if not scene.visible or not _stale(sent, wanted, degree, viewer.space.center):
                continue
            arrays = arrays_of(scene, look, eye, viewer.space).as_arguments()
            if handle is None:
                self.handles[number] = self.client.scene.add_gaussian_splats(
                    f"/scenes/{number}", *arrays, position=scene.offset
                )
            else:
                handle.set_gaussians(*arrays)
            self.sent[number] = wanted
            changed = True
        if changed:
            viewer.on_sent(time.perf_counter() - started)


def _stale(sent: _Sent | None, wanted: _Sent, sh_degree: int, center: torch.Tensor) -> bool:
    """Whether a browser has something else than it should."""
    if sent is None or sent.version != wanted.version or sent.look != wanted.look:
        return True
    old, new = sent.eye, wanted.eye
    zoomed = abs(float(old.Ks[0, 1, 1] / new.Ks[0, 1, 1]) - 1)
    moved = float((old.centers[0] - new.centers[0]).norm())
    moved /= max(float((old.centers[0] - center).norm()), 1e-9)
    if max(zoomed, moved) > FAR_MOVE:
        return True
    turned = float((old.viewmats[0, :3, :3] - new.viewmats[0, :3, :3]).norm())
    return wanted.look.follows_eye(sh_degree) and max(turned, moved) > TURN
