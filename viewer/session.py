"""One browser: receives the scenes as seen from its own camera."""

import threading
import time
from dataclasses import dataclass

import torch
import viser

from render import Cameras
from viewer.display_settings import DisplaySettings, splat_arrays
from viewer.state import ViewerState

# Scenes are sent again, with new minimum sizes, after the camera has moved by more than this
# fraction of its distance to the scene's centre ...
MAX_MOVE = 0.12
# ... and with new view-dependent colours after it has moved by more than this fraction or rotated
# by about this angle (radians).
MAX_COLOR_MOVE = 0.05
# The camera must be at rest for this long before scenes are sent again (s).
REST_S = 0.25
# Longest wait for the last transfer of a closed session (s).
CLOSE_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class _Sent:
    """What a browser has received of a scene."""

    version: int
    settings: DisplaySettings
    camera: Cameras


class Session:
    """Sends the scenes to one client, in a separate thread."""

    def __init__(self, state: ViewerState, client: viser.ClientHandle) -> None:
        self.state, self.client = state, client
        self.handles: dict[int, viser.GaussianSplatHandle] = {}
        self.sent: dict[int, _Sent] = {}
        self.wake, self.closed = threading.Event(), False
        self.moved_at = 0.0
        client.camera.on_update(self._on_camera)
        state.changed.connect(self.wake.set)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        self.wake.set()

    def close(self) -> None:
        """Stop sending, and wait for a transfer in progress.

        Python may not exit while a thread computes.
        """
        self.closed = True
        self.state.changed.disconnect(self.wake.set)
        self.wake.set()
        self.thread.join(CLOSE_TIMEOUT_S)

    def camera(self, width: int | None = None, height: int | None = None) -> Cameras:
        """Return the browser's camera in world coordinates, by default for its own image size."""
        camera = self.client.camera
        height = height or max(camera.image_height, 1)
        width = width or max(camera.image_width, 1)
        return self.state.camera_of(self.client, width, height)

    def _on_camera(self, camera: viser.CameraHandle) -> None:
        self.moved_at = time.monotonic()
        self.wake.set()

    def _run(self) -> None:
        while not self.closed:
            self.wake.wait()
            self.wake.clear()
            while not self.closed and time.monotonic() - self.moved_at < REST_S:
                time.sleep(0.05)
            if not self.closed:
                self._send_all()

    def _send_all(self) -> None:
        state, started = self.state, time.perf_counter()
        camera, settings, changed = self.camera(), state.settings, False
        for index, scene in enumerate(state.scenes):
            handle = self.handles.get(index)
            if handle is not None:
                handle.visible, handle.position = scene.visible, scene.offset
            wanted = _Sent(scene.version, settings, camera)
            sent, degree = self.sent.get(index), scene.state.gaussians.sh_degree
            center = state.normalisation.center
            if not scene.visible or not _is_stale(sent, wanted, degree, center):
                continue
            arrays = splat_arrays(scene, settings, camera, state.normalisation).as_arguments()
            if handle is None:
                self.handles[index] = self.client.scene.add_gaussian_splats(
                    f"/scenes/{index}", *arrays, position=scene.offset
                )
            else:
                handle.set_gaussians(*arrays)
            self.sent[index] = wanted
            changed = True
        if changed:
            state.notify_sent(time.perf_counter() - started)


def _is_stale(sent: _Sent | None, wanted: _Sent, sh_degree: int, center: torch.Tensor) -> bool:
    """Return whether the splats sent to this client are out of date."""
    if sent is None or sent.version != wanted.version or sent.settings != wanted.settings:
        return True
    old, new = sent.camera, wanted.camera
    zoomed = abs(float(old.Ks[0, 1, 1] / new.Ks[0, 1, 1]) - 1)
    moved = float((old.centers[0] - new.centers[0]).norm())
    moved /= max(float((old.centers[0] - center).norm()), 1e-9)
    if max(zoomed, moved) > MAX_MOVE:
        return True
    rotated = float((old.viewmats[0, :3, :3] - new.viewmats[0, :3, :3]).norm())
    return wanted.settings.depends_on_view(sh_degree) and max(rotated, moved) > MAX_COLOR_MOVE
