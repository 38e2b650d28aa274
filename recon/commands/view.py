"""`recon view SCENE`: look at a scene in the browser."""

import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path

import tyro

from recon.commands.output import say
from recon.errors import ReconError


@dataclass(frozen=True)
class View:
    """Show a scene in the browser until Ctrl-C."""

    scene: tyro.conf.Positional[Path]
    """Scene file (.ply, .compressed.ply, .splat, .spz, .sog, .glb)."""
    cameras: Path | None = None
    """Capture or transforms.json whose cameras to show and to start from."""
    port: int = 8080
    """Port to listen on; the next free one when it is taken."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines of the network look."""
    open: bool = False
    """Open the browser."""

    def run(self) -> None:
        """Serve until interrupted."""
        from recon.commands.render import pinhole_cameras
        from recon.formats import load_gaussians
        from viewer.app import serve

        if not 0 < self.port < 65536:
            raise ReconError(f"--port must be between 1 and 65535, found {self.port}")
        gaussians = load_gaussians(self.scene)
        cameras = None
        if self.cameras is not None:
            from recon.capture import open_capture

            capture = open_capture(self.cameras)
            if not capture.has_cameras:
                raise ReconError(f"{self.cameras} has no cameras; leave --cameras out")
            cameras = pinhole_cameras(capture, None)
        server = serve(gaussians, cameras, self.host, self.port)
        address = f"http://{self.host}:{server.get_port()}"
        say(f"{self.scene}: {len(gaussians):,} Gaussians at {address} (Ctrl-C ends)")
        if self.open:
            webbrowser.open(address)
        try:
            while True:
                time.sleep(3600)
        finally:
            server.stop()
