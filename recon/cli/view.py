"""`recon view SCENE...`: view scenes in the browser."""

import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from recon.cli.arguments import Arg, UsageError, refuse_idle
from recon.cli.scene_capture import capture_of_scene
from recon.errors import warn
from recon.reporting import megabytes, say, shown_size

if TYPE_CHECKING:
    from viewer import Photos, Viewer, ViewerScene


@dataclass(frozen=True)
class View:
    """View scenes in the browser, or write a web page of a scene."""

    scenes: Annotated[tuple[Path, ...], Arg(positional=True, metavar="SCENE")]
    """Scene files ({scene_extensions}) in a common frame."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE")] = None
    """Capture or transforms.json: its photos are shown, and the view starts near one of them."""
    static: Annotated[Path | None, Arg(metavar="FOLDER")] = None
    """Write a web page of the scene to this folder, for the disk or any web server, and exit. An
    earlier page there is replaced."""
    max_splats: int = 1_000_000
    """Maximum number of Gaussians per scene to send to a browser: the most important ones."""
    port: int = 8080
    """Port to listen on; if it is in use, the next free one."""
    host: Annotated[str, Arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 admits other machines on the network."""
    open: bool = False
    """Open the page in the default browser."""

    def run(self) -> None:
        """Serve until interrupted, or write the page."""
        from viewer import DisplaySettings, Viewer, write_page

        self._check()
        scenes, settings = self._load(), DisplaySettings(max_splats=self.max_splats)
        photos = self._photos(scenes[0])
        if self.static is not None:
            write_page(self.static, scenes[0], photos, settings)
            page = self.static / "index.html"
            say(f"wrote {page}: open it in a browser, or serve it; {shown_size(megabytes(page))}")
            return
        with Viewer(scenes, photos, self.host, self.port, settings) as viewer:
            self._announce(viewer)
            while True:
                time.sleep(3600)

    def _check(self) -> None:
        from viewer.server import check_address
        from viewer.web_page import check_page_folder

        if not 0 < self.port < 65536:
            raise UsageError(f"--port must be between 1 and 65535, found {self.port}")
        if self.max_splats < 1:
            raise UsageError(f"--max-splats must be at least 1, found {self.max_splats}")
        if self.static is None:
            check_address(self.host)
        else:
            refuse_idle(self, ("port", "host", "open"), "with --static, which serves nothing")
            if len(self.scenes) > 1:
                raise UsageError("--static writes a page of one scene; give one scene file")
            check_page_folder(self.static)

    def _photos(self, scene: "ViewerScene") -> "Photos | None":
        from recon.capture.cameras import relative_to
        from viewer import Photos

        if self.cameras is None:
            return None
        capture = capture_of_scene(self.cameras, scene.start)
        return Photos.of(relative_to(capture, scene.origin))

    def _load(self) -> "list[ViewerScene]":
        from recon.formats import open_scene, scene_bytes
        from viewer import ViewerScene

        loaded: list[ViewerScene] = []
        for path in self.scenes:
            source = open_scene(path)
            if source.antialiased:
                warn(
                    f"{path} is for antialiased rendering (Mip-Splatting), which the viewer does "
                    "not offer: thin Gaussians look too opaque; images that it saves and recon "
                    "render are right"
                )
            # All relative to the origin of the first.
            source = source.around(loaded[0].origin) if loaded else source
            name = path.name if [p.name for p in self.scenes].count(path.name) == 1 else str(path)
            loaded.append(
                ViewerScene(
                    name,
                    source.load(),
                    scene_bytes(path) / 1e6,
                    source.origin,
                    source.antialiased,
                    source.start,
                    source.cameras,
                )
            )
        return loaded

    def _announce(self, viewer: "Viewer") -> None:
        count = sum(len(scene.state.gaussians) for scene in viewer.state.scenes)
        port = viewer.server.get_port()
        taken = f" (port {self.port} is taken)" if port != self.port else ""
        names = ", ".join(scene.name for scene in viewer.state.scenes)
        say(f"{names}: {count:,} Gaussians at {viewer.address}{taken} (press Ctrl-C to stop)")
        if self.open:
            webbrowser.open(viewer.address)
