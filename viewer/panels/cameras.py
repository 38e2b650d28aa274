"""The panel of photos: their cameras in the scene, and a comparison of photo and rendering."""

import threading
from typing import Any

import numpy as np
import viser

from recon.errors import ReconError
from render.quaternions import rotmats_to_quats
from render.video import to_bytes
from viewer.normalisation import BROWSER_RADIUS
from viewer.panels.controls import set_value
from viewer.photos import Photos
from viewer.start_view import vertical_fov
from viewer.state import ViewerState

FRUSTUM, COLOR = 0.02 * BROWSER_RADIUS, (20, 110, 220)
NO_PHOTO, INSTRUCTION = "-", "Click a camera to compare with its photo"
# Differences are amplified by this factor.
DIFFERENCE_GAIN = 3.0


class CamerasPanel:
    """Camera frustums to click; photo, rendering and difference of the one that was clicked."""

    def __init__(self, state: ViewerState, server: viser.ViserServer, photos: Photos) -> None:
        self.state, self.server, self.photos = state, server, photos
        self.cameras = photos.cameras()
        self.quats = rotmats_to_quats(self.cameras.c2w[:, :3, :3])
        gui, blank = server.gui, np.full((8, 12, 3), 40, np.uint8)
        with gui.add_folder("Photos"):
            self.names = [photos.name(index) for index in range(len(photos))]
            self.choice = gui.add_dropdown("Photo", [NO_PHOTO, *self.names])
            self.summary = gui.add_markdown(INSTRUCTION)
            self.photo = gui.add_image(blank, label="Photo", visible=False)
            self.render = gui.add_image(blank, label="Rendering", visible=False)
            self.difference = gui.add_image(
                blank, label=f"Difference x {DIFFERENCE_GAIN:g}", visible=False
            )
            self.visible = gui.add_checkbox("Show cameras", True)
            self.size = gui.add_slider("Camera size", 0.2, 5.0, 0.1, 1.0)
        self.selected: int | None = None
        self.frustums = [self._add_frustum(index) for index in range(len(photos))]
        self.visible.on_update(self._on_visible)
        self.size.on_update(self._on_size)
        self.choice.on_update(self._on_choice)
        state.reset.connect(self.clear)
        threading.Thread(target=self._load_thumbnails, daemon=True).start()

    def _add_frustum(self, index: int) -> viser.CameraFrustumHandle:
        position = self.state.normalisation.to_browser(self.cameras.centers[index])
        handle = self.server.scene.add_camera_frustum(
            f"/cameras/{index}",
            fov=vertical_fov(self.cameras[[index]]),
            aspect=self.cameras.width / self.cameras.height,
            scale=FRUSTUM, color=COLOR, thickness=0.02 * FRUSTUM,
            wxyz=tuple(self.quats[index].tolist()), position=tuple(position.tolist()),
        )  # fmt: skip
        handle.on_click(lambda event: self.select(event.client, index))
        return handle

    def _load_thumbnails(self) -> None:
        """Put the photos' thumbnails into their frustums, one after the other."""
        for index, frustum in enumerate(self.frustums):
            # The start view is behind this frustum: its photo would cover the scene.
            if index == self.state.start.camera:
                continue
            try:
                frustum.image = self.photos.thumbnail(index)
            except ReconError:
                continue

    def _on_visible(self, event: viser.GuiEvent[Any]) -> None:
        self._update_visibility()

    def _update_visibility(self) -> None:
        # Seen from its own position, a frustum would frame the view and its photo cover the scene.
        for index, frustum in enumerate(self.frustums):
            frustum.visible = self.visible.value and index != self.selected

    def _on_size(self, event: viser.GuiEvent[Any]) -> None:
        for frustum in self.frustums:
            frustum.scale = FRUSTUM * self.size.value

    def _on_choice(self, event: viser.GuiEvent[Any]) -> None:
        # The list also changes when the server sets it, which has no client.
        if event.client is None:
            return
        if self.choice.value in self.names:
            self.select(event.client, self.names.index(self.choice.value))
        else:
            self.clear()

    def select(self, client: viser.ClientHandle | None, index: int) -> None:
        """Move the browser's camera to a photo's camera and compare photo and rendering."""
        if client is not None:
            self.state.go_to(client, self.cameras[[index]])
        self.selected = index
        self._update_visibility()
        set_value(self.choice, self.names[index])
        self._compare(index)

    def clear(self) -> None:
        """End the comparison."""
        self.selected = None
        set_value(self.choice, NO_PHOTO)
        self.summary.content = INSTRUCTION
        for image in (self.photo, self.render, self.difference):
            image.visible = False
        self._update_visibility()

    def _compare(self, index: int) -> None:
        try:
            view = self.photos.view(index)
        except ReconError as error:
            self.summary.content = str(error)
            return
        rendered = self.state.rendered(view.cameras)
        valid = view.valid[0]
        difference = (rendered - view.images[0]) * valid
        mse = float(difference.square().sum() / (3 * valid.sum()).clamp_min(1))
        psnr = -10 * np.log10(max(mse, 1e-10))
        self.summary.content = f"**{self.photos.name(index)}**: PSNR {psnr:.2f} dB"
        self.photo.image = to_bytes(view.images[0])
        self.render.image = to_bytes(rendered * valid)
        self.difference.image = to_bytes(DIFFERENCE_GAIN * difference.abs())
        for image in (self.photo, self.render, self.difference):
            image.visible = True
