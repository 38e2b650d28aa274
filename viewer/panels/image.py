"""The panel that renders the current view with recon's own rasterizer."""

import time
from typing import Any

import numpy as np
import viser
from jaxtyping import Float
from torch import Tensor

from recon.files import temporary_folder
from render.video import to_bytes, write_image
from viewer.panels.controls import telling_errors
from viewer.state import ViewerState

MIN_SIDE_PX, MAX_SIDE_PX = 16, 8192


class ImagePanel:
    """Renders an image of any size, to compare or to download."""

    def __init__(self, state: ViewerState, server: viser.ViserServer) -> None:
        self.state, gui = state, server.gui
        with gui.add_folder("Image", expand_by_default=False):
            self.height = gui.add_number(
                "Height, px", 720, min=MIN_SIDE_PX, max=MAX_SIDE_PX, step=1
            )
            self.render = gui.add_button("Render this view", icon=viser.Icon.PHOTO)
            self.save = gui.add_button("Save PNG", icon=viser.Icon.DOWNLOAD)
            self.summary = gui.add_markdown("Uses recon's own rasterizer")
            self.image = gui.add_image(np.full((8, 12, 3), 40, np.uint8), visible=False)
        self.render.on_click(self._on_render)
        self.save.on_click(self._on_save)

    def _rendered(self, client: viser.ClientHandle) -> Float[Tensor, "3 h w"]:
        height = int(self.height.value)
        aspect = client.camera.image_width / max(client.camera.image_height, 1)
        width = min(max(round(height * aspect), MIN_SIDE_PX), MAX_SIDE_PX)
        started = time.perf_counter()
        image = self.state.rendered(self.state.camera_of(client, width, height))
        milliseconds = 1000 * (time.perf_counter() - started)
        self.summary.content = f"{width} x {height} px in {milliseconds:.0f} ms"
        return image

    def _on_render(self, event: viser.GuiEvent[Any]) -> None:
        if event.client is not None:
            self.image.image = to_bytes(self._rendered(event.client))
            self.image.visible = True

    def _on_save(self, event: viser.GuiEvent[Any]) -> None:
        if (client := event.client) is None:
            return
        with telling_errors(client), temporary_folder() as folder:
            path = folder / "view.png"
            write_image(path, self._rendered(client))
            client.send_file_download("view.png", path.read_bytes(), save_immediately=True)
