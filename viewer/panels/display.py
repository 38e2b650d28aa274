"""How the scene is shown."""

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import viser

from viewer.coloring import COLORINGS
from viewer.look import SHAPES, Look
from viewer.panels import put
from viewer.stage import paint_background

if TYPE_CHECKING:
    from viewer.app import Viewer

# The size threshold (per cent of the scene) that leaves nothing out.
LARGEST = 20.0


def _part(percent: float) -> float:
    return math.inf if percent >= LARGEST else percent / 100


class DisplayPanel:
    """Colouring, thresholds, background, field of view; and a way back."""

    def __init__(self, viewer: "Viewer") -> None:
        self.viewer, gui = viewer, viewer.server.gui
        self.default = viewer.look
        with gui.add_folder("Display"):
            self.coloring = gui.add_dropdown("Colouring", COLORINGS)
            self.shape = gui.add_dropdown("Drawn as", SHAPES)
            self.use_sh = gui.add_checkbox(
                "View-dependent", True, hint="Spherical harmonics, evaluated as you move",
                disabled=max((s.state.gaussians.sh_degree for s in viewer.scenes), default=0) == 0,
            )  # fmt: skip
            self.min_opacity = gui.add_slider("Least opacity", 0.0, 1.0, 0.01, 0.0)
            self.max_size = gui.add_slider(
                "Largest size", 0.05, LARGEST, 0.05, LARGEST,
                hint=f"Per cent of the scene; {LARGEST:g} shows all",
            )  # fmt: skip
            self.background = gui.add_rgb("Background", self.default.background)
            self.fov = gui.add_slider("Field of view", 10, 120, 1, round(viewer.start_fov_deg))
            self.reset = gui.add_button("Reset", icon=viser.Icon.REFRESH)
        controls: tuple[Any, ...] = (
            self.coloring, self.shape, self.use_sh, self.min_opacity, self.max_size,
            self.background,
        )  # fmt: skip
        for control in controls:
            control.on_update(self._changed)
        self.defaults = [(control, control.value) for control in (*controls, self.fov)]
        self.fov.on_update(self._fov_changed)
        self.reset.on_click(self._reset)

    def _changed(self, event: viser.GuiEvent) -> None:
        look = replace(
            self.default, coloring=self.coloring.value, shape=self.shape.value,
            use_sh=self.use_sh.value, min_opacity=self.min_opacity.value,
            max_size=_part(self.max_size.value), background=self.background.value,
        )  # fmt: skip
        self._apply(look)

    def _apply(self, look: Look) -> None:
        if look.background != self.viewer.look.background:
            paint_background(self.viewer.server, look.background)
        self.viewer.set_look(look)

    def _fov_changed(self, event: viser.GuiEvent) -> None:
        clients = [event.client] if event.client else self.viewer.server.get_clients().values()
        for client in clients:
            client.camera.fov = float(np.deg2rad(self.fov.value))

    def _reset(self, event: viser.GuiEvent) -> None:
        for control, value in self.defaults:
            put(control, value)
        self._apply(self.default)
        if self.viewer.cameras is not None:
            self.viewer.cameras.clear()
        if event.client is not None:
            self.viewer.go_to_start(event.client)
