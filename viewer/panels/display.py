"""The panel of display settings."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import viser

from viewer.coloring import COLORINGS
from viewer.display_settings import PRIMITIVES, DisplaySettings
from viewer.panels.controls import set_value
from viewer.server import set_background
from viewer.state import ViewerState

# The smallest size threshold (per cent of the scene's radius), and that at which no Gaussian is
# left out.
MIN_SIZE, NO_MAX_SIZE = 0.05, 20.0


class DisplayPanel:
    """Colouring, thresholds, background, field of view, and a reset of all of them."""

    def __init__(self, state: ViewerState, server: viser.ViserServer) -> None:
        self.state, self.server, gui = state, server, server.gui
        self.default = default = state.settings
        sh_degree = max((scene.state.gaussians.sh_degree for scene in state.scenes), default=0)
        fov_deg = round(float(np.rad2deg(state.start.fov)))
        with gui.add_folder("Display"):
            self.coloring = gui.add_dropdown("Colour by", COLORINGS, initial_value=default.coloring)
            self.primitive = gui.add_dropdown(
                "Render as", PRIMITIVES, initial_value=default.primitive
            )
            self.use_sh = gui.add_checkbox(
                "View-dependent", default.use_sh, disabled=sh_degree == 0,
                hint="Spherical harmonics, evaluated as the camera moves",
            )  # fmt: skip
            self.min_opacity = gui.add_slider("Min opacity", 0.0, 1.0, 0.01, default.min_opacity)
            self.max_size = gui.add_slider(
                "Max size", MIN_SIZE, NO_MAX_SIZE, 0.05, _percent(default.max_size),
                hint=f"Per cent of the scene's radius; {NO_MAX_SIZE:g} displays all",
            )  # fmt: skip
            self.background = gui.add_rgb("Background", default.background)
            self.fov = gui.add_slider("Field of view", 10, 120, 1, fov_deg)
            self.reset = gui.add_button("Reset", icon=viser.Icon.REFRESH)
        controls: tuple[Any, ...] = (
            self.coloring, self.primitive, self.use_sh, self.min_opacity, self.max_size,
            self.background,
        )  # fmt: skip
        for control in controls:
            control.on_update(self._on_change)
        self.defaults = [(control, control.value) for control in (*controls, self.fov)]
        self.fov.on_update(self._on_fov)
        self.reset.on_click(self._on_reset)

    def _on_change(self, event: viser.GuiEvent[Any]) -> None:
        settings = replace(
            self.default, coloring=self.coloring.value, primitive=self.primitive.value,
            use_sh=self.use_sh.value, min_opacity=self.min_opacity.value,
            max_size=_max_size(self.max_size.value), background=self.background.value,
        )  # fmt: skip
        self._apply(settings)

    def _apply(self, settings: DisplaySettings) -> None:
        if settings.background != self.state.settings.background:
            set_background(self.server, settings.background)
        self.state.set_display(settings)

    def _on_fov(self, event: viser.GuiEvent[Any]) -> None:
        clients = [event.client] if event.client else self.server.get_clients().values()
        for client in clients:
            client.camera.fov = float(np.deg2rad(self.fov.value))

    def _on_reset(self, event: viser.GuiEvent[Any]) -> None:
        for control, value in self.defaults:
            set_value(control, value)
        self._apply(self.default)
        self.state.reset.emit()
        if event.client is not None:
            self.state.go_to_start(event.client)


def _percent(max_size: float) -> float:
    """Convert a fraction to the nearest value of the slider."""
    return min(max(100 * max_size, MIN_SIZE), NO_MAX_SIZE)


def _max_size(percent: float) -> float:
    """Convert the slider's value to a fraction, infinite at its upper end."""
    return math.inf if percent >= NO_MAX_SIZE else percent / 100
