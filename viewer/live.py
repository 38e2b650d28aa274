"""A viewer of a scene that is still being optimised or trained."""

import time

from recon.capture import Capture
from recon.capture.cameras import relative_to
from recon.reporting import note
from recon.scene import Scene
from render import Gaussians
from viewer.app import LOCALHOST, Viewer
from viewer.photos import Photos
from viewer.scene import ViewerScene


class LiveViewer:
    """Starts with the first state of a scene and takes later ones; browsers may come and go.

    A context manager, so that the port is closed however the work ends.
    """

    def __init__(self, name: str, host: str = LOCALHOST, port: int = 8080) -> None:
        self.name, self.host, self.port = name, host, port
        self.viewer: Viewer | None = None

    def __enter__(self) -> "LiveViewer":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.viewer is not None:
            self.viewer.stop()

    def update(self, gaussians: Gaussians, capture: Capture | None = None) -> None:
        """Display a later state of the scene; only the first call adds the capture's photos."""
        if self.viewer is not None:
            self.viewer.state.update(gaussians)
        elif len(gaussians):
            scene = ViewerScene(f"{self.name} (in progress)", gaussians.detach().to("cpu"))
            photos = None if capture is None else Photos.of(capture)
            self.viewer = Viewer([scene], photos, self.host, self.port)
            note(f"live view at {self.viewer.address}")

    def finish(self, made: Scene, capture: Capture, megabytes: float) -> None:
        """Display the scene as it was written to its file, with its capture in the world frame."""
        self.update(made.gaussians, relative_to(capture, made.origin))
        if self.viewer is not None:
            scene = self.viewer.state.scenes[0]
            scene.name, scene.megabytes, scene.origin = self.name, megabytes, made.origin
            scene.start = made.start
            self.viewer.state.changed.emit()

    def serve_forever(self) -> None:
        """Serve until Ctrl-C."""
        if self.viewer is not None:
            note(f"still serving at {self.viewer.address} (press Ctrl-C to stop)")
            while True:
                time.sleep(3600)
