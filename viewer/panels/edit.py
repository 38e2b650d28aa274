"""The panel that selects Gaussians by a shape, deletes them, and saves what is left."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import viser
from jaxtyping import Bool
from torch import Tensor

from recon.files import temporary_folder
from recon.formats import FORMATS, save_gaussians
from render import Cameras, Gaussians
from viewer.display_settings import visible_gaussians
from viewer.normalisation import BROWSER_RADIUS
from viewer.panels.controls import notify, telling_errors
from viewer.scene import ViewerScene
from viewer.selection import in_box, in_polygon, in_sphere
from viewer.state import ViewerState

COLOR = (255, 170, 0)
OFF, BOX, SPHERE, LASSO = "-", "box", "sphere", "lasso"
# Depth at which the lasso is drawn (browser units).
LASSO_DISTANCE = 0.5


class EditPanel:
    """A box, a sphere or a lasso; the Gaussians inside or outside are deleted, the rest saved."""

    def __init__(self, state: ViewerState, server: viser.ViserServer) -> None:
        self.state, self.server, gui = state, server, server.gui
        self.corners: list[tuple[float, float]] = []
        """Corners of the lasso, as fractions of width and height of its camera."""
        self.camera: Cameras | None = None
        """Camera of the lasso, world coordinates."""
        self.lines: Any = None
        with gui.add_folder("Select and save", expand_by_default=False):
            self.shape = gui.add_dropdown("Select by", (OFF, BOX, SPHERE, LASSO))
            largest = 3 * BROWSER_RADIUS
            self.size = gui.add_vector3(
                "Box size", 3 * (BROWSER_RADIUS,), min=3 * (0.01,), max=3 * (largest,), step=0.1,
                visible=False,
            )  # fmt: skip
            self.radius = gui.add_slider(
                "Radius", 0.1, largest, 0.1, BROWSER_RADIUS / 2, visible=False
            )
            self.hint = gui.add_markdown(
                "Click around what to select; moving the camera begins anew", visible=False
            )
            self.inside = gui.add_button("Delete inside", icon=viser.Icon.TRASH)
            self.outside = gui.add_button("Delete outside", icon=viser.Icon.CROP)
            self.undo = gui.add_button("Undo", icon=viser.Icon.ARROW_BACK_UP)
            self.format = gui.add_dropdown("Format", tuple(FORMATS))
            self.save = gui.add_button(
                "Save", icon=viser.Icon.DOWNLOAD, hint="Download what is visible now"
            )
        self.gizmo = server.scene.add_transform_controls(
            "/crop", scale=0.4 * BROWSER_RADIUS, visible=False
        )
        self.box = server.scene.add_box(
            "/crop/box", color=COLOR, dimensions=self.size.value, wireframe=True, visible=False
        )
        self.sphere = server.scene.add_icosphere(
            "/crop/sphere", self.radius.value, COLOR, wireframe=True, visible=False
        )
        self.shape.on_update(self._on_shape)
        self.size.on_update(self._on_size)
        self.radius.on_update(self._on_radius)
        self.inside.on_click(lambda event: self._delete(event, inside=True))
        self.outside.on_click(lambda event: self._delete(event, inside=False))
        self.undo.on_click(self._on_undo)
        self.save.on_click(self._on_save)

    def _on_shape(self, event: viser.GuiEvent[Any]) -> None:
        shape = self.shape.value
        self.gizmo.visible = shape in (BOX, SPHERE)
        self.box.visible = self.size.visible = shape == BOX
        self.sphere.visible = self.radius.visible = shape == SPHERE
        self.hint.visible = shape == LASSO
        self.server.scene.remove_click_callback(self._on_corner)
        self._clear_lasso()
        if shape == LASSO:
            self.server.scene.on_click()(self._on_corner)

    def _on_size(self, event: viser.GuiEvent[Any]) -> None:
        self.box.dimensions = self.size.value

    def _on_radius(self, event: viser.GuiEvent[Any]) -> None:
        self.sphere.radius = self.radius.value

    def _on_corner(self, event: viser.SceneClickEvent) -> None:
        """Add a corner to the lasso, which begins anew after the camera has moved."""
        client = event.client
        height = max(client.camera.image_height, 1)
        camera = self.state.camera_of(client, max(client.camera.image_width, 1), height)
        if self.camera is None or not torch.allclose(
            camera.viewmats, self.camera.viewmats, atol=1e-5
        ):
            self._clear_lasso()
            self.camera = camera
        self.corners.append(event.screen_pos)
        self._draw_lasso()

    def _clear_lasso(self) -> None:
        self.corners.clear()
        self.camera = None
        self._draw_lasso()

    def _draw_lasso(self) -> None:
        """Draw the closed polygon in front of its camera."""
        if self.lines is not None:
            self.lines.remove()
            self.lines = None
        if self.camera is None or len(self.corners) < 2:
            return
        camera = self.camera
        size = torch.tensor([camera.width, camera.height])
        pixels = torch.tensor(self.corners) * size
        ahead = (pixels - camera.Ks[0, :2, 2]) / camera.Ks[0].diagonal()[:2]
        rays = torch.cat([ahead, torch.ones(len(ahead), 1)], 1) @ camera.viewmats[0, :3, :3]
        world = camera.centers[0] + LASSO_DISTANCE / self.state.normalisation.scale * rays
        corners = self.state.normalisation.to_browser(world)
        ends = np.stack([corners, np.roll(corners, -1, 0)], 1)
        self.lines = self.server.scene.add_line_segments(
            "/lasso", ends, COLOR, thickness=3.0, thickness_units="screen"
        )

    def contains(
        self, offset: tuple[float, float, float], gaussians: Gaussians
    ) -> Bool[Tensor, " n"]:
        """Return which means the shape selects, for a scene at this offset (browser units)."""
        normalisation = self.state.normalisation
        position = np.asarray(self.gizmo.position) - np.asarray(offset)
        means, middle = gaussians.means, normalisation.to_world(position)
        if self.shape.value == LASSO:
            assert self.camera is not None
            shifted = means + torch.tensor(offset) / normalisation.scale
            return in_polygon(shifted, self.camera, np.array(self.corners))
        if self.shape.value == SPHERE:
            return in_sphere(means, middle, self.radius.value / normalisation.scale)
        size = torch.tensor(self.size.value) / normalisation.scale
        return in_box(means, middle, np.asarray(self.gizmo.wxyz), size)

    def _delete(self, event: viser.GuiEvent[Any], inside: bool) -> None:
        if self.shape.value == OFF:
            notify(event.client, "Choose what to select by first")
            return
        if self.shape.value == LASSO and len(self.corners) < 3:
            notify(event.client, "Click on at least three corners of the lasso first")
            return
        count = self.state.hide(
            lambda scene, gaussians: self.contains(scene.offset, gaussians) == inside
        )
        if self.shape.value == LASSO:
            self._clear_lasso()
        notify(event.client, f"{count:,} Gaussians removed")

    def _on_undo(self, event: viser.GuiEvent[Any]) -> None:
        if not self.state.undo():
            notify(event.client, "Nothing to undo")

    def _on_save(self, event: viser.GuiEvent[Any]) -> None:
        """Send each visible scene as a file in its own frame, several in one .zip.

        Browsers may drop all but one of the downloads that begin together.
        """
        if (client := event.client) is None:
            return
        with telling_errors(client), temporary_folder() as folder:
            paths = [
                path
                for scene in self.state.visible_scenes()
                if (path := self._save_one(client, scene, folder))
            ]
            if len(paths) > 1:
                archive_path = folder / "scenes-edited.zip"
                with zipfile.ZipFile(archive_path, "w") as archive:
                    for path in paths:
                        archive.write(path, path.name)
                paths = [archive_path]
            for path in paths:
                client.send_file_download(path.name, path.read_bytes(), save_immediately=True)

    def _save_one(
        self, client: viser.ClientHandle, scene: ViewerScene, folder: Path
    ) -> Path | None:
        """Write the visible Gaussians of a scene; return None when there are none."""
        part = visible_gaussians(scene, self.state.settings, self.state.normalisation)
        if len(part) == 0:
            notify(client, f"No visible Gaussians in {scene.name}: nothing to save")
            return None
        stem, suffix = f"{Path(scene.name).stem}-edited", self.format.value
        path, number = folder / f"{stem}{suffix}", 2
        while path.exists():
            # Scenes of different folders or formats may have the same name.
            path, number = folder / f"{stem}-{number}{suffix}", number + 1
        moved, origin, start, cameras = self.state.alignment.applied(
            part, scene.origin, scene.start, scene.file_cameras
        )
        save_gaussians(path, moved, origin, scene.antialiased, start, cameras)
        notify(client, f"{len(part):,} Gaussians saved as {path.name}")
        return path
