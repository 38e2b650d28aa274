"""The current view by recon's own rasterizer: exact, of any size, to keep."""

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import viser

from render.video import to_bytes, write_image

if TYPE_CHECKING:
    from viewer.app import Viewer

MAX_SIDE_PX = 8192


class PicturePanel:
    """Size, rendering, download."""

    def __init__(self, viewer: "Viewer") -> None:
        self.viewer, gui = viewer, viewer.server.gui
        with gui.add_folder("Picture", expand_by_default=False):
            self.height = gui.add_number("Height, px", 720, min=16, max=MAX_SIDE_PX, step=1)
            self.draw = gui.add_button("Render this view", icon=viser.Icon.PHOTO)
            self.save = gui.add_button("Save PNG", icon=viser.Icon.DOWNLOAD)
            self.facts = gui.add_markdown("recon's own rasterizer, without the browser's limits")
            self.image = gui.add_image(np.full((8, 12, 3), 40, np.uint8), visible=False)
        self.draw.on_click(self._draw)
        self.save.on_click(self._save)

    def _rendered(self, client: viser.ClientHandle):
        height = int(self.height.value)
        aspect = client.camera.image_width / max(client.camera.image_height, 1)
        width = min(max(round(height * aspect), 16), MAX_SIDE_PX)
        started = time.perf_counter()
        picture = self.viewer.rendered(self.viewer.eye(client, width, height))
        spent = 1000 * (time.perf_counter() - started)
        self.facts.content = f"{width} x {height} px in {spent:.0f} ms"
        return picture

    def _draw(self, event: viser.GuiEvent) -> None:
        if event.client is not None:
            self.image.image = to_bytes(self._rendered(event.client))
            self.image.visible = True

    def _save(self, event: viser.GuiEvent) -> None:
        if event.client is None:
            return
        with tempfile.TemporaryDirectory(prefix="recon-view-") as folder:
            path = Path(folder) / "view.png"
            write_image(path, self._rendered(event.client))
            event.client.send_file_download("view.png", path.read_bytes(), save_immediately=True)
