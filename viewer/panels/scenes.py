"""The panel of scenes: which ones are displayed, and their numbers of Gaussians and sizes."""

from typing import Any

import viser

from viewer.display_settings import visible_mask
from viewer.state import ViewerState

SIDE_BY_SIDE = "side by side"


class ScenesPanel:
    """Names and sizes of scenes; several are displayed one at a time or side by side."""

    def __init__(self, state: ViewerState, server: viser.ViserServer) -> None:
        self.state, self.server = state, server
        with server.gui.add_folder("Scene"):
            self.summary = server.gui.add_markdown(self._text())
            if len(state.scenes) > 1:
                names = [scene.name for scene in state.scenes]
                self.choice = server.gui.add_dropdown("Show", [*names, SIDE_BY_SIDE])
                self.choice.on_update(self._on_choice)
                state.show_one(names[0])
        state.changed.connect(self._update)
        state.sent.connect(self._update)

    def _on_choice(self, event: viser.GuiEvent[Any]) -> None:
        if self.choice.value == SIDE_BY_SIDE:
            self.state.show_side_by_side()
        else:
            self.state.show_one(self.choice.value)
        self.state.notify_changed()
        for client in self.server.get_clients().values():
            self.state.go_to_start(client)

    def _update(self) -> None:
        self.summary.content = self._text()

    def _text(self) -> str:
        lines = []
        settings = self.state.settings
        for scene in self.state.visible_scenes():
            state = scene.state
            total, kept = len(state.gaussians), int(state.kept.sum())
            size = f", {scene.megabytes:.1f} MB" if scene.megabytes else ""
            lines.append(f"**{scene.name}**: {total:,} Gaussians{size}")
            if kept < total:
                lines.append(f"{total - kept:,} removed")
            passes = visible_mask(state.gaussians, settings, self.state.normalisation)
            visible = int((state.kept & passes).sum())
            if visible > settings.max_splats:
                lines.append(f"the {settings.max_splats:,} most important ones are displayed")
            elif visible < kept:
                lines.append(f"{visible:,} within the thresholds")
        if self.state.send_seconds is not None:
            lines.append(f"sent in {1000 * self.state.send_seconds:.0f} ms")
        return "  \n".join(lines)
