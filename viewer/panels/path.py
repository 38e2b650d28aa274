"""The panel of camera paths through saved views, with a preview and video export."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import viser
from torch import Tensor

from recon.files import temporary_folder
from render import Cameras
from render.paths import interpolate
from render.video import write_video
from viewer.panels.controls import notify, set_value, telling_errors
from viewer.state import ViewerState

FPS, PREVIEW_FPS, PREVIEW_PX = 30.0, 15.0, 480
NO_VIEWS = "No views yet"


def video_width(height: int) -> int:
    """Return the width of a 16:9 video (px), even as codecs require."""
    return 2 * round(height * 8 / 9)


class PathPanel:
    """Saves views of the current camera; the path passes through them in order."""

    def __init__(self, state: ViewerState, server: viser.ViserServer) -> None:
        self.state, gui = state, server.gui
        self.views: list[Cameras] = []
        self.busy, self.stop = threading.Lock(), threading.Event()
        with gui.add_folder("Camera path", expand_by_default=False):
            self.summary = gui.add_markdown(NO_VIEWS)
            self.add = gui.add_button("Add this view", icon=viser.Icon.PLUS)
            self.clear = gui.add_button("Clear", icon=viser.Icon.TRASH)
            self.seconds = gui.add_slider("Duration, s", 1.0, 60.0, 0.5, 4.0)
            self.height = gui.add_dropdown("Video height, px", ("480", "720", "1080"))
            self.preview = gui.add_button(
                "Preview", hint="Click again to stop", icon=viser.Icon.PLAYER_PLAY
            )
            self.video = gui.add_button("Save video", icon=viser.Icon.MOVIE)
            self.progress = gui.add_progress_bar(0.0, visible=False)
        self.add.on_click(self._on_add)
        self.clear.on_click(self._on_clear)
        self.preview.on_click(self._on_preview)
        self.video.on_click(self._on_video)

    def _on_add(self, event: viser.GuiEvent[Any]) -> None:
        if event.client is not None:
            height = int(self.height.value)
            self.views.append(self.state.camera_of(event.client, video_width(height), height))
            self._update()

    def _on_clear(self, event: viser.GuiEvent[Any]) -> None:
        self.views.clear()
        self._update()

    def _update(self) -> None:
        count = len(self.views)
        self.summary.content = f"{count} view{'' if count == 1 else 's'}" if count else NO_VIEWS

    def _path(self, fps: float, height: int) -> Cameras:
        """Interpolate the saved views, one camera per frame."""
        width = video_width(height)
        views = Cameras.cat([view.resized(width, height) for view in self.views])
        count = max(round(fps * self.seconds.value), 2)
        return interpolate(views, count)

    def _on_preview(self, event: viser.GuiEvent[Any]) -> None:
        self._run_exclusively(event, self._play)

    def _on_video(self, event: viser.GuiEvent[Any]) -> None:
        self._run_exclusively(event, self._record)

    def _run_exclusively(
        self, event: viser.GuiEvent[Any], action: Callable[[viser.ClientHandle], None]
    ) -> None:
        """Run one preview or recording at a time; a second click stops a preview."""
        client = event.client
        if client is None:
            return
        if len(self.views) < 2:
            notify(client, "Add at least two views first")
        elif not self.busy.acquire(blocking=False):
            self.stop.set()
            notify(client, "Preview stopped, or a video is still being saved")
        else:
            try:
                action(client)
            finally:
                self.busy.release()

    def _play(self, client: viser.ClientHandle) -> None:
        self.stop.clear()
        path = self._path(PREVIEW_FPS, PREVIEW_PX)
        for index in range(len(path)):
            if self.stop.is_set():
                break
            self.state.go_to(client, path[[index]])
            self.stop.wait(1 / PREVIEW_FPS)

    def _record(self, client: viser.ClientHandle) -> None:
        try:
            self.progress.visible = True
            path = self._path(FPS, int(self.height.value))
            with telling_errors(client), temporary_folder() as folder:
                file = folder / "path.mp4"
                write_video(file, self._frames(path), FPS)
                client.send_file_download("path.mp4", file.read_bytes(), save_immediately=True)
        finally:
            self.progress.visible = False

    def _frames(self, path: Cameras) -> Iterator[Tensor]:
        for index in range(len(path)):
            set_value(self.progress, 100 * index / len(path))
            yield self.state.rendered(path[[index]])
