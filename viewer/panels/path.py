"""A camera path through views that were kept, as a preview and as a film."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import viser
from torch import Tensor

from render import Cameras
from render.paths import interpolate
from render.video import write_video
from viewer.panels import put

if TYPE_CHECKING:
    from viewer.app import Viewer

FPS, PREVIEW_FPS = 30.0, 15.0


def film_width(height: int) -> int:
    """Of 16:9, even as codecs want it (px)."""
    return 2 * round(height * 8 / 9)


class PathPanel:
    """Views are added where the camera is; the path goes through them in order."""

    def __init__(self, viewer: "Viewer") -> None:
        self.viewer, gui = viewer, viewer.server.gui
        self.views: list[Cameras] = []
        self.busy, self.stop = threading.Lock(), threading.Event()
        with gui.add_folder("Camera path", expand_by_default=False):
            self.facts = gui.add_markdown("No views yet")
            self.add = gui.add_button("Add this view", icon=viser.Icon.PLUS)
            self.clear = gui.add_button("Clear", icon=viser.Icon.TRASH)
            self.seconds = gui.add_slider("Seconds", 1.0, 60.0, 0.5, 4.0)
            self.height = gui.add_dropdown("Film height, px", ("480", "720", "1080"))
            self.preview = gui.add_button(
                "Preview", hint="A second click ends it", icon=viser.Icon.PLAYER_PLAY
            )
            self.film = gui.add_button("Save film", icon=viser.Icon.MOVIE)
            self.progress = gui.add_progress_bar(0.0, visible=False)
        self.add.on_click(self._add)
        self.clear.on_click(self._clear)
        self.preview.on_click(self._preview)
        self.film.on_click(self._film)

    def _add(self, event: viser.GuiEvent) -> None:
        if event.client is not None:
            height = int(self.height.value)
            self.views.append(self.viewer.eye(event.client, film_width(height), height))
            self._say()

    def _clear(self, event: viser.GuiEvent) -> None:
        self.views.clear()
        self._say()

    def _say(self) -> None:
        count = len(self.views)
        self.facts.content = f"{count} view{'' if count == 1 else 's'}" if count else "No views yet"

    def _along(self, fps: float, height: int) -> Cameras:
        width = film_width(height)
        kept = Cameras.cat([view.resized(width, height) for view in self.views])
        count = max(round(fps * self.seconds.value), 2)
        return interpolate(self.viewer.scenes[0].state.gaussians, kept, count)

    def _preview(self, event: viser.GuiEvent) -> None:
        self._alone(event, self._play)

    def _film(self, event: viser.GuiEvent) -> None:
        self._alone(event, self._record)

    def _alone(self, event: viser.GuiEvent, act: Callable[[viser.ClientHandle], None]) -> None:
        """Along the path, one at a time."""
        client = event.client
        if client is None:
            return
        if len(self.views) < 2:
            self.viewer.tell(client, "Add at least two views first")
        elif not self.busy.acquire(blocking=False):
            # A second click ends a preview.
            self.stop.set()
            self.viewer.tell(client, "Preview ended, or a film is being made")
        else:
            try:
                act(client)
            finally:
                self.busy.release()

    def _play(self, client: viser.ClientHandle) -> None:
        self.stop.clear()
        path = self._along(PREVIEW_FPS, 480)
        for number in range(len(path)):
            if self.stop.is_set():
                break
            self.viewer.go_to(client, path[[number]])
            self.stop.wait(1 / PREVIEW_FPS)

    def _record(self, client: viser.ClientHandle) -> None:
        try:
            self.progress.visible = True
            path = self._along(FPS, int(self.height.value))
            with tempfile.TemporaryDirectory(prefix="recon-view-") as folder:
                file = Path(folder) / "path.mp4"
                write_video(file, self._frames(path), FPS)
                client.send_file_download("path.mp4", file.read_bytes(), save_immediately=True)
        except OSError as error:
            self.viewer.tell(client, str(error))
        finally:
            self.progress.visible = False

    def _frames(self, path: Cameras) -> Iterator[Tensor]:
        for number in range(len(path)):
            put(self.progress, 100 * number / len(path))
            yield self.viewer.rendered(path[[number]])
