"""Which scenes are shown, and what they are."""

from typing import TYPE_CHECKING

import viser

from viewer.look import passing

if TYPE_CHECKING:
    from viewer.app import Viewer


class ScenesPanel:
    """Names, counts and sizes; several scenes are toggled or put side by side."""

    def __init__(self, viewer: "Viewer") -> None:
        self.viewer, gui = viewer, viewer.server.gui
        with gui.add_folder("Scene"):
            self.facts = gui.add_markdown(self._text(None))
            if len(viewer.scenes) > 1:
                names = [scene.name for scene in viewer.scenes]
                self.shown = gui.add_dropdown("Show", [*names, "side by side"])
                self.shown.on_update(self._choose)
                self._arrange(names[0])

    def _choose(self, event: viser.GuiEvent) -> None:
        self._arrange(self.shown.value)
        self.viewer.refresh()
        for client in self.viewer.server.get_clients().values():
            self.viewer.go_to_start(client)

    def _arrange(self, choice: str) -> None:
        beside = self.viewer.beside()
        for number, scene in enumerate(self.viewer.scenes):
            together = choice == "side by side"
            scene.visible = together or scene.name == choice
            scene.offset = tuple((number * beside).tolist()) if together else (0.0, 0.0, 0.0)

    def update(self, seconds: float | None = None) -> None:
        """Say what is shown now."""
        self.facts.content = self._text(seconds)

    def _text(self, seconds: float | None) -> str:
        lines = []
        for scene in self.viewer.scenes:
            if not scene.visible:
                continue
            state = scene.state
            total, left = len(state.gaussians), int(state.kept.sum())
            size = f", {scene.megabytes:.1f} MB" if scene.megabytes else ""
            lines.append(f"**{scene.name}**: {total:,} Gaussians{size}")
            if left < total:
                lines.append(f"{total - left:,} removed")
            passes = passing(state.gaussians, self.viewer.look, self.viewer.space)
            seen = int((state.kept & passes).sum())
            if seen > self.viewer.look.limit:
                lines.append(f"the {self.viewer.look.limit:,} most important ones are shown")
            elif seen < left:
                lines.append(f"{seen:,} within the thresholds")
        if seconds is not None:
            lines.append(f"sent in {1000 * seconds:.0f} ms")
        return "  \n".join(lines)
