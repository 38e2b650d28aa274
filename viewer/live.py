"""A scene that is still being made."""

import time

from recon.capture import Capture
from recon.reporting import note
from render import Gaussians
from viewer.app import LOCAL, Viewer
from viewer.photos import Photos
from viewer.scene import ShownScene


class LiveViewer:
    """Starts with the first state of the scene and takes newer ones; browsers come and go. A
    context, so that what ends the making closes the port, too."""

    def __init__(self, name: str, host: str = LOCAL, port: int = 8080) -> None:
        self.name, self.host, self.port = name, host, port
        self.viewer: Viewer | None = None

    def __enter__(self) -> "LiveViewer":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.viewer is not None:
            self.viewer.stop()

    def show(self, gaussians: Gaussians, capture: Capture | None = None) -> None:
        """Another state of the scene; the capture's photos are taken from the first call."""
        if self.viewer is not None:
            self.viewer.update(gaussians)
        elif len(gaussians):
            scene = ShownScene(f"{self.name}, being made", gaussians.detach().to("cpu"))
            photos = None if capture is None else Photos.of(capture)
            self.viewer = Viewer([scene], photos, self.host, self.port)
            note(f"the scene as it is made: {self.viewer.address}")

    def finish(self, gaussians: Gaussians, capture: Capture, megabytes: float) -> None:
        """The scene as it was written."""
        self.show(gaussians, capture)
        if self.viewer is not None:
            scene = self.viewer.scenes[0]
            scene.name, scene.megabytes = self.name, megabytes
            self.viewer.facts.update()

    def stay(self) -> None:
        """Serve until Ctrl-C."""
        if self.viewer is not None:
            note(f"still at {self.viewer.address} (Ctrl-C ends)")
            while True:
                time.sleep(3600)
