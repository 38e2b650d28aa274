"""The panel that crops scenes and saves what is left."""

import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import viser
from jaxtyping import Bool
from torch import Tensor

from recon.files import temporary_folder
from recon.formats import FORMATS, save_gaussians
from render import Gaussians
from render.quaternions import quats_to_rotmats
from viewer.display_settings import visible_gaussians
from viewer.normalisation import BROWSER_RADIUS
from viewer.panels.controls import notify
from viewer.scene import ViewerScene
from viewer.state import ViewerState

COLOR = (255, 170, 0)


class EditPanel:
    """A crop box; the Gaussians inside or outside are deleted, and the rest is saved."""

    def __init__(self, state: ViewerState, server: viser.ViserServer) -> None:
        self.state, gui = state, server.gui
        with gui.add_folder("Crop and save", expand_by_default=False):
            self.active = gui.add_checkbox("Crop box", False)
            largest = 3 * BROWSER_RADIUS
            self.size = gui.add_vector3(
                "Box size", 3 * (BROWSER_RADIUS,), min=3 * (0.01,), max=3 * (largest,), step=0.1
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
        self.active.on_update(self._on_active)
        self.size.on_update(self._on_size)
        self.inside.on_click(lambda event: self._delete(event, inside=True))
        self.outside.on_click(lambda event: self._delete(event, inside=False))
        self.undo.on_click(self._on_undo)
        self.save.on_click(self._on_save)

    def _on_active(self, event: viser.GuiEvent[Any]) -> None:
        self.gizmo.visible = self.box.visible = self.active.value

    def _on_size(self, event: viser.GuiEvent[Any]) -> None:
        self.box.dimensions = self.size.value

    def contains(
        self, offset: tuple[float, float, float], gaussians: Gaussians
    ) -> Bool[Tensor, "n"]:
        """Return which means lie in the box, for a scene at this offset (browser units)."""
        normalisation = self.state.normalisation
        position = np.asarray(self.gizmo.position) - np.asarray(offset)
        rotmat = quats_to_rotmats(torch.as_tensor(np.asarray(self.gizmo.wxyz))[None])[0].float()
        local = (gaussians.means - normalisation.to_world(position)) @ rotmat
        half = torch.tensor(self.size.value) / 2 / normalisation.scale
        return (local.abs() <= half).all(-1)

    def _matches(
        self, offset: tuple[float, float, float], inside: bool, gaussians: Gaussians
    ) -> Bool[Tensor, "n"]:
        return self.contains(offset, gaussians) == inside

    def _delete(self, event: viser.GuiEvent[Any], inside: bool) -> None:
        if not self.active.value:
            notify(event.client, "Switch the crop box on first")
            return
        count = 0
        for scene in self.state.visible_scenes():
            count += scene.hide(partial(self._matches, scene.offset, inside))
        self.state.notify_changed()
        notify(event.client, f"{count:,} Gaussians removed")

    def _on_undo(self, event: viser.GuiEvent[Any]) -> None:
        undone = [scene.undo() for scene in self.state.visible_scenes()]
        self.state.notify_changed()
        if not any(undone):
            notify(event.client, "Nothing to undo")

    def _on_save(self, event: viser.GuiEvent[Any]) -> None:
        """Send each visible scene as a file in its own frame, several in one .zip.

        Browsers may drop all but one of the downloads that begin together.
        """
        if (client := event.client) is None:
            return
        with temporary_folder() as folder:
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
        save_gaussians(path, part, scene.origin, scene.antialiased, scene.start, scene.file_cameras)
        notify(client, f"{len(part):,} Gaussians saved as {path.name}")
        return path
