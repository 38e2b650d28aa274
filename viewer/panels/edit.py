"""Cut parts of the scene away, and take home what is left."""

import tempfile
import zipfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import viser
from jaxtyping import Bool
from torch import Tensor

from recon.formats import FORMATS, save_gaussians
from render import Gaussians
from render.quaternions import quats_to_rotmats
from viewer.look import visible_part
from viewer.scene import ShownScene
from viewer.space import SHOWN_RADIUS

if TYPE_CHECKING:
    from viewer.app import Viewer

COLOR = (255, 170, 0)


class EditPanel:
    """A box to move, turn and size; what is inside or outside goes; the rest is saved."""

    def __init__(self, viewer: "Viewer") -> None:
        self.viewer, gui = viewer, viewer.server.gui
        with gui.add_folder("Crop and save", expand_by_default=False):
            self.on = gui.add_checkbox("Crop box", False)
            largest = 3 * SHOWN_RADIUS
            self.size = gui.add_vector3(
                "Box size", 3 * (SHOWN_RADIUS,), min=3 * (0.01,), max=3 * (largest,), step=0.1
            )
            self.inside = gui.add_button("Delete inside", icon=viser.Icon.TRASH)
            self.outside = gui.add_button("Delete outside", icon=viser.Icon.CROP)
            self.undo = gui.add_button("Undo", icon=viser.Icon.ARROW_BACK_UP)
            self.format = gui.add_dropdown("Format", tuple(FORMATS))
            self.save = gui.add_button(
                "Save", icon=viser.Icon.DOWNLOAD, hint="What is visible now, as a download"
            )
        self.gizmo = viewer.server.scene.add_transform_controls(
            "/crop", scale=0.4 * SHOWN_RADIUS, visible=False
        )
        self.box = viewer.server.scene.add_box(
            "/crop/box", color=COLOR, dimensions=self.size.value, wireframe=True, visible=False
        )
        self.on.on_update(self._toggle)
        self.size.on_update(self._resize)
        self.inside.on_click(lambda event: self._cut(event, inside=True))
        self.outside.on_click(lambda event: self._cut(event, inside=False))
        self.undo.on_click(self._undo)
        self.save.on_click(self._save)

    def _toggle(self, event: viser.GuiEvent) -> None:
        self.gizmo.visible = self.box.visible = self.on.value

    def _resize(self, event: viser.GuiEvent) -> None:
        self.box.dimensions = self.size.value

    def contains(
        self, offset: tuple[float, float, float], gaussians: Gaussians
    ) -> Bool[Tensor, "n"]:
        """Which means of a scene at this offset lie in the box."""
        place = np.asarray(self.gizmo.position) - np.asarray(offset)
        rotmat = quats_to_rotmats(torch.as_tensor(np.asarray(self.gizmo.wxyz))[None])[0].float()
        local = (gaussians.means - self.viewer.space.world(place)) @ rotmat
        half = torch.tensor(self.size.value) / 2 / self.viewer.space.scale
        return (local.abs() <= half).all(-1)

    def _marked(
        self, offset: tuple[float, float, float], inside: bool, gaussians: Gaussians
    ) -> Bool[Tensor, "n"]:
        return self.contains(offset, gaussians) == inside

    def _cut(self, event: viser.GuiEvent, inside: bool) -> None:
        if not self.on.value:
            self.viewer.tell(event.client, "Turn the crop box on first")
            return
        gone = 0
        for scene in self.viewer.visible_scenes():
            gone += scene.hide(partial(self._marked, scene.offset, inside))
        self.viewer.refresh()
        self.viewer.tell(event.client, f"{gone:,} Gaussians removed")

    def _undo(self, event: viser.GuiEvent) -> None:
        done = [scene.undo() for scene in self.viewer.visible_scenes()]
        self.viewer.refresh()
        if not any(done):
            self.viewer.tell(event.client, "Nothing to undo")

    def _save(self, event: viser.GuiEvent) -> None:
        """Each visible scene as a file of its own, at its own place; several travel as one .zip,
        since browsers may drop all but one of the downloads that begin together."""
        if (client := event.client) is None:
            return
        with tempfile.TemporaryDirectory(prefix="recon-view-") as folder:
            paths = [
                path
                for scene in self.viewer.visible_scenes()
                if (path := self._save_one(client, scene, Path(folder)))
            ]
            if len(paths) > 1:
                together = Path(folder) / "scenes-edited.zip"
                with zipfile.ZipFile(together, "w") as archive:
                    for path in paths:
                        archive.write(path, path.name)
                paths = [together]
            for path in paths:
                client.send_file_download(path.name, path.read_bytes(), save_immediately=True)

    def _save_one(self, client: viser.ClientHandle, scene: ShownScene, folder: Path) -> Path | None:
        """The file of a scene, None when nothing of it is visible."""
        part = visible_part(scene, self.viewer.look, self.viewer.space)
        if len(part) == 0:
            self.viewer.tell(client, f"Nothing of {scene.name} is visible: nothing to save")
            return None
        stem, suffix = f"{Path(scene.name).stem}-edited", self.format.value
        path, number = folder / f"{stem}{suffix}", 2
        while path.exists():
            # Scenes of other folders or formats may have the same name.
            path, number = folder / f"{stem}-{number}{suffix}", number + 1
        save_gaussians(path, part)
        self.viewer.tell(client, f"{len(part):,} Gaussians saved as {path.name}")
        return path
