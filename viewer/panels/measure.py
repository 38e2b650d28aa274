"""The panel that measures distances, and sets scale, up axis and origin of what is saved."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
import viser
from jaxtyping import Float
from torch import Tensor

from recon.meshing.depth_maps import render_depth_maps
from render import Cameras, Gaussians
from render.cameras import look_at
from render.quaternions import rotmats_to_quats
from viewer.alignment import UP_AXES, Alignment
from viewer.display_settings import visible_gaussians
from viewer.normalisation import BROWSER_RADIUS
from viewer.panels.controls import notify, set_value
from viewer.state import ViewerState

COLOR = (0, 200, 255)
OFF, DISTANCE, ORIGIN, GROUND = "-", "distance", "origin", "ground"
CLICKS = {DISTANCE: 2, ORIGIN: 1, GROUND: 3}
HINTS = {
    OFF: "", DISTANCE: "Click on two points", ORIGIN: "Click on the point that becomes the origin",
    GROUND: "Click on three points of the ground, far apart",
}  # fmt: skip
# Field of view and size of the image in which the surface at a click is found.
PICK_FOV_DEG, PICK_PX = 0.5, 9


@torch.no_grad()
def surface_point(
    gaussians: Gaussians, position: Float[Tensor, "3"], direction: Float[Tensor, "3"]
) -> Float[Tensor, "3"] | None:
    """Return the point where a ray meets a surface, at the median of its light; None if nowhere.

    Args:
        gaussians: The scene.
        position: Where the ray begins.
        direction: Where it leads.
    """
    direction = torch.nn.functional.normalize(direction, dim=0)
    up = torch.eye(3).to(direction)[int(direction.abs().argmin())]
    viewmat = look_at(position, position + direction, up)
    camera = Cameras.from_fov(viewmat[None], PICK_FOV_DEG, PICK_PX, PICK_PX)
    (seen,) = render_depth_maps(gaussians, [camera], False, lambda done: None)
    depth = seen.depth[PICK_PX // 2, PICK_PX // 2]
    return position + depth * direction if float(depth) > 0 else None


class MeasurePanel:
    """Points that are clicked on, and the frame that they define."""

    def __init__(self, state: ViewerState, server: viser.ViserServer) -> None:
        self.state, self.server, gui = state, server, server.gui
        self.points: list[Tensor] = []
        """Clicked points [3], in the world but relative to the local origin."""
        self.marks: list[Any] = []
        with gui.add_folder("Measure and align", expand_by_default=False):
            self.mode = gui.add_dropdown("Click for", (OFF, *CLICKS))
            self.summary = gui.add_markdown("")
            self.length = gui.add_number("True distance", 1.0, min=1e-6, step=1e-4)
            self.set_scale = gui.add_button(
                "Set scale", icon=viser.Icon.RULER_2, hint="The measured distance is the true one"
            )
            self.up_axis = gui.add_dropdown("Up axis", tuple(UP_AXES))
            self.up_view = gui.add_button(
                "Up as in this view", icon=viser.Icon.ARROW_UP, hint="Level the camera first"
            )
            self.reset = gui.add_button("Reset frame", icon=viser.Icon.REFRESH)
        self.axes = server.scene.add_frame(
            "/frame", axes_length=0.3 * BROWSER_RADIUS, axes_radius=0.01 * BROWSER_RADIUS,
            visible=False,
        )  # fmt: skip
        self.mode.on_update(self._on_mode)
        self.set_scale.on_click(self._on_scale)
        self.up_axis.on_update(self._on_up_axis)
        self.up_view.on_click(self._on_up_view)
        self.reset.on_click(self._on_reset)

    def distance(self) -> float | None:
        """Return the measured distance in the frame to save; None without two points."""
        if self.mode.value != DISTANCE or len(self.points) < 2:
            return None
        first, second = self.points[:2]
        return self.state.alignment.scale * float((second - first).norm())

    def _on_mode(self, event: viser.GuiEvent[Any]) -> None:
        self.server.scene.remove_click_callback(self._on_click)
        self._clear()
        if self.mode.value != OFF:
            self.server.scene.on_click()(self._on_click)
        self._update()

    def _on_click(self, event: viser.SceneClickEvent) -> None:
        if self.mode.value not in CLICKS:
            return
        found = self._picked(event)
        if found is None:
            notify(event.client, "There is no surface at this point")
            return
        if len(self.points) >= CLICKS[self.mode.value]:
            self._clear()
        self.points.append(found)
        self._mark()
        if len(self.points) == CLICKS[self.mode.value]:
            self._complete(event.client)
        self._update()

    def _picked(self, event: viser.SceneClickEvent) -> Float[Tensor, "3"] | None:
        """Return the nearest surface of the visible scenes at a click."""
        state, found = self.state, []
        position = state.normalisation.to_world(np.array(event.ray_origin))
        direction = torch.tensor(event.ray_direction).float()
        for scene in state.visible_scenes():
            moved = position - torch.tensor(scene.offset) / state.normalisation.scale
            part = visible_gaussians(scene, state.settings, state.normalisation)
            point = surface_point(part, moved, direction) if len(part) else None
            if point is not None:
                found.append((float((point - moved).norm()), point))
        return min(found, key=lambda pair: pair[0])[1] if found else None

    def _complete(self, client: viser.ClientHandle) -> None:
        """Use the points once there are enough of them."""
        alignment = self.state.alignment
        if self.mode.value == ORIGIN:
            world = self.points[0].double() + torch.tensor(
                self.state.scenes[0].origin, dtype=torch.float64
            )
            x, y, z = world.tolist()
            self.state.alignment = replace(alignment, origin=(x, y, z))
        elif self.mode.value == GROUND:
            a, b, c = self.points
            normal = torch.linalg.cross(b - a, c - a)
            if float(normal.norm()) < 1e-3 * float((b - a).norm() * (c - a).norm()):
                notify(client, "The three points are on a line; choose others")
                self._clear()
                return
            center = self.state.normalisation.to_world(np.asarray(client.camera.position))
            self._set_up(normal if float(normal @ (center - a)) > 0 else -normal)

    def _set_up(self, direction: Float[Tensor, "3"]) -> None:
        x, y, z = torch.nn.functional.normalize(direction.double(), dim=0).tolist()
        self.state.alignment = replace(self.state.alignment, up=(x, y, z))
        self._update()

    def _on_scale(self, event: viser.GuiEvent[Any]) -> None:
        measured = self.distance()
        if not measured:
            notify(event.client, "Measure a distance first: choose Click for distance")
            return
        factor = float(self.length.value) / measured
        alignment = self.state.alignment
        self.state.alignment = replace(alignment, scale=alignment.scale * factor)
        self._mark()
        self._update()

    def _on_up_axis(self, event: viser.GuiEvent[Any]) -> None:
        self.state.alignment = replace(self.state.alignment, up_axis=self.up_axis.value)
        self._update()

    def _on_up_view(self, event: viser.GuiEvent[Any]) -> None:
        if event.client is not None:
            camera = self.state.camera_of(event.client, 16, 16)
            self._set_up(-camera.c2w[0, :3, 1])

    def _on_reset(self, event: viser.GuiEvent[Any]) -> None:
        self.state.alignment = Alignment(up_axis=self.up_axis.value)
        set_value(self.mode, OFF)
        self._on_mode(event)

    def _clear(self) -> None:
        self.points.clear()
        self._mark()

    def _mark(self) -> None:
        """Display the points, and the distance between two of them."""
        for mark in self.marks:
            mark.remove()
        self.marks.clear()
        scene, shown = self.server.scene, [self._in_browser(point) for point in self.points]
        for index, where in enumerate(shown):
            self.marks.append(
                scene.add_icosphere(
                    f"/measure/{index}", 0.01 * BROWSER_RADIUS, COLOR, position=where
                )
            )
        if len(shown) > 1:
            ends = np.stack([shown[:-1], shown[1:]], 1)
            self.marks.append(
                scene.add_line_segments(
                    "/measure/line", ends, COLOR, thickness=3.0, thickness_units="screen"
                )
            )
        if (measured := self.distance()) is not None:
            middle = (shown[0] + shown[1]) / 2
            self.marks.append(scene.add_label("/measure/text", f"{measured:.4g}", position=middle))

    def _in_browser(self, point: Float[Tensor, "3"]) -> np.ndarray:
        return self.state.normalisation.to_browser(point)

    def _update(self) -> None:
        alignment, lines = self.state.alignment, [HINTS[self.mode.value]]
        if (measured := self.distance()) is not None:
            lines = [f"Distance **{measured:.4g}**"]
        if alignment.scale != 1:
            lines.append(f"Saved {alignment.scale:.4g} times as large")
        if alignment.up is not None:
            lines.append(f"Saved with {alignment.up_axis} up")
        if alignment.origin is not None:
            lines.append("Saved with the picked origin")
        self.summary.content = "  \n".join(line for line in lines if line)
        self._show_axes()

    def _show_axes(self) -> None:
        """Display the axes of the frame that scenes are saved in."""
        moved = self.state.alignment.transform()
        self.axes.visible = moved is not None
        if moved is not None:
            back = moved.inverse()
            origin = torch.tensor(self.state.scenes[0].origin, dtype=torch.float64)
            self.axes.wxyz = rotmats_to_quats(back.rotmat[None])[0].numpy()
            self.axes.position = self._in_browser((back.translation - origin).float())
