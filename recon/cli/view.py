"""`recon view SCENE...`: look at scenes in the browser."""

import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from recon.errors import ReconError
from recon.reporting import megabytes, say, shown_size

if TYPE_CHECKING:
    from viewer import Photos, Viewer, ViewerScene


@dataclass(frozen=True)
class View:
    """Show scenes in the browser until Ctrl-C, or write a web page that does."""

    scenes: tyro.conf.Positional[tuple[Path, ...]]
    """Scene files (.ply, .compressed.ply, .splat, .spz, .sog, .glb), in one frame."""
    cameras: Path | None = None
    """Capture or transforms.json whose photos to show and to start from."""
    static: Path | None = None
    """Write a folder with a web page of the scene instead, for any web server."""
    max_splats: int = 1_000_000
    """Most Gaussians of a scene to send to a browser; the most important ones are shown."""
    port: int = 8080
    """Port to listen on; the next free one when it is taken."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines of the network look."""
    open: bool = False
    """Open the browser."""

    def run(self) -> None:
        """Serve until interrupted."""
        from viewer import DisplaySettings, Viewer, write_page

        self._check()
        photos = self._photos()
        scenes, settings = self._load(), DisplaySettings(max_splats=self.max_splats)
        if self.static is not None:
            write_page(self.static, scenes[0], photos, settings)
            page = self.static / "index.html"
            say(f"wrote {page}: open it, or put it on a web server; {shown_size(page)}")
            return
        with Viewer(scenes, photos, self.host, self.port, settings) as viewer:
            self._announce(viewer)
            while True:
                time.sleep(3600)

    def _check(self) -> None:
        from recon.files import check_new_folder

        if not self.scenes:
            raise ReconError("recon view: no scene given; expected one or more scene files")
        if not 0 < self.port < 65536:
            raise ReconError(f"--port must be between 1 and 65535, found {self.port}")
        if self.max_splats < 1:
            raise ReconError(f"--max-splats must be at least 1, found {self.max_splats}")
        if self.static is not None:
            if len(self.scenes) > 1:
                raise ReconError("--static writes a page of one scene; give one scene file")
            check_new_folder(self.static)

    def _photos(self) -> "Photos | None":
        from recon.capture import load_capture
        from viewer import Photos

        if self.cameras is None:
            return None
        capture = load_capture(self.cameras)
        if not capture.has_cameras:
            raise ReconError(f"{self.cameras} has no cameras; leave --cameras out")
        return Photos.of(capture)

    def _load(self) -> "list[ViewerScene]":
        from recon.formats import load_gaussians
        from viewer import ViewerScene

        loaded = []
        for path in self.scenes:
            gaussians = load_gaussians(path)
            if len(gaussians) == 0:
                raise ReconError(f"{path} holds no Gaussians: nothing to show")
            name = path.name if [p.name for p in self.scenes].count(path.name) == 1 else str(path)
            loaded.append(ViewerScene(name, gaussians, megabytes(path)))
        return loaded

    def _announce(self, viewer: "Viewer") -> None:
        count = sum(len(scene.state.gaussians) for scene in viewer.state.scenes)
        port = viewer.server.get_port()
        taken = f" (port {self.port} is taken)" if port != self.port else ""
        names = ", ".join(scene.name for scene in viewer.state.scenes)
        say(f"{names}: {count:,} Gaussians at {viewer.address}{taken} (Ctrl-C ends)")
        if self.open:
            webbrowser.open(viewer.address)
