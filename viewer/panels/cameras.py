"""The photos' cameras in the scene; a click shows how well the scene agrees with a photo."""

import threading
from typing import TYPE_CHECKING

import numpy as np
import viser

from recon.errors import ReconError
from render.quaternions import rotmats_to_quats
from render.video import to_bytes
from viewer.panels import put
from viewer.photos import Photos
from viewer.space import SHOWN_RADIUS, vertical_fov

if TYPE_CHECKING:
    from viewer.app import Viewer

FRUSTUM, COLOR = 0.02 * SHOWN_RADIUS, (20, 110, 220)
NONE, ASK = "-", "Click a camera to compare with its photo"
# Differences are shown so much stronger.
DIFFERENCE_GAIN = 3.0


class CamerasPanel:
    """Frustums to click, and photo, rendering and difference of the one that was."""

    def __init__(self, viewer: "Viewer", photos: Photos) -> None:
        self.viewer, self.photos = viewer, photos
        self.cameras = photos.cameras()
        self.quats = rotmats_to_quats(self.cameras.c2w[:, :3, :3])
        gui, blank = viewer.server.gui, np.full((8, 12, 3), 40, np.uint8)
        with gui.add_folder("Photos"):
            self.names = [photos.name(number) for number in range(len(photos))]
            self.choice = gui.add_dropdown("Photo", [NONE, *self.names])
            self.facts = gui.add_markdown(ASK)
            self.photo = gui.add_image(blank, label="Photo", visible=False)
            self.render = gui.add_image(blank, label="Scene", visible=False)
            self.difference = gui.add_image(
                blank, label=f"Difference, {DIFFERENCE_GAIN:g} times", visible=False
            )
            self.shown = gui.add_checkbox("Show cameras", True)
            self.size = gui.add_slider("Camera size", 0.2, 5.0, 0.1, 1.0)
        self.visited: int | None = None
        self.frustums = [self._frustum(number) for number in range(len(photos))]
        self.shown.on_update(self._toggle)
        self.size.on_update(self._resize)
        self.choice.on_update(self._choose)
        threading.Thread(target=self._fill, daemon=True).start()

    def _frustum(self, number: int) -> viser.CameraFrustumHandle:
        handle = self.viewer.server.scene.add_camera_frustum(
            f"/cameras/{number}",
            fov=vertical_fov(self.cameras[[number]]),
            aspect=self.cameras.width / self.cameras.height,
            scale=FRUSTUM, color=COLOR, thickness=0.02 * FRUSTUM,
            wxyz=tuple(self.quats[number].tolist()),
            position=tuple(self.viewer.space.shown(self.cameras.centers[number]).tolist()),
        )  # fmt: skip
        handle.on_click(lambda event: self.visit(event.client, number))
        return handle

    def _fill(self) -> None:
        """The photos' thumbnails into their frustums, as they are read."""
        for number, frustum in enumerate(self.frustums):
            # The first view is behind this one: its photo would hide the scene.
            if number == self.viewer.start.camera:
                continue
            try:
                frustum.image = self.photos.thumbnail(number)
            except ReconError:
                continue

    def _toggle(self, event: viser.GuiEvent) -> None:
        self._show()

    def _show(self) -> None:
        # From its own place, a camera's frustum would frame the view and its photo hide the scene.
        for number, frustum in enumerate(self.frustums):
            frustum.visible = self.shown.value and number != self.visited

    def _resize(self, event: viser.GuiEvent) -> None:
        for frustum in self.frustums:
            frustum.scale = FRUSTUM * self.size.value

    def _choose(self, event: viser.GuiEvent) -> None:
        # The server sets the list, too.
        if event.client is None:
            return
        if self.choice.value in self.names:
            self.visit(event.client, self.names.index(self.choice.value))
        else:
            self.clear()

    def visit(self, client: viser.ClientHandle | None, number: int) -> None:
        """Fly to a photo's place and compare."""
        if client is not None:
            self.viewer.go_to(client, self.cameras[[number]])
        self.visited = number
        self._show()
        put(self.choice, self.names[number])
        self._compare(number)

    def clear(self) -> None:
        """No comparison."""
        self.visited = None
        put(self.choice, NONE)
        self.facts.content = ASK
        for picture in (self.photo, self.render, self.difference):
            picture.visible = False
        self._show()

    def _compare(self, number: int) -> None:
        try:
            view = self.photos.photo(number)
        except ReconError as error:
            self.facts.content = str(error)
            return
        rendered = self.viewer.rendered(view.cameras)
        valid = view.valid[0]
        change = (rendered - view.images[0]) * valid
        mse = float(change.square().sum() / (3 * valid.sum()).clamp_min(1))
        psnr = -10 * np.log10(max(mse, 1e-10))
        self.facts.content = f"**{self.photos.name(number)}**: PSNR {psnr:.2f} dB"
        self.photo.image = to_bytes(view.images[0])
        self.render.image = to_bytes(rendered * valid)
        self.difference.image = to_bytes(DIFFERENCE_GAIN * change.abs())
        for picture in (self.photo, self.render, self.difference):
            picture.visible = True
