"""The viewer's server, and the wiring of state, panels and sessions."""

import ipaddress
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import viser

from viewer.display_settings import DisplaySettings
from viewer.page_texts import page_texts
from viewer.panels.cameras import CamerasPanel
from viewer.panels.display import DisplayPanel
from viewer.panels.edit import EditPanel
from viewer.panels.image import ImagePanel
from viewer.panels.measure import MeasurePanel
from viewer.panels.path import PathPanel
from viewer.panels.scenes import ScenesPanel
from viewer.photos import Photos
from viewer.scene import ViewerScene
from viewer.server import set_up_scene, start_server, stop_server
from viewer.session import Session
from viewer.state import ViewerState

LOCALHOST = "127.0.0.1"


@dataclass(frozen=True)
class Panels:
    """The panels of a viewer, from top to bottom."""

    scenes: ScenesPanel
    cameras: CamerasPanel | None
    display: DisplayPanel
    measure: MeasurePanel
    edit: EditPanel
    image: ImagePanel
    path: PathPanel


class Viewer:
    """A server that displays scenes in any number of browsers.

    Use it as a context manager, or call `stop` at the end.
    """

    def __init__(
        self,
        scenes: Sequence[ViewerScene],
        photos: Photos | None = None,
        host: str = LOCALHOST,
        port: int = 8080,
        settings: DisplaySettings | None = None,
    ) -> None:
        """Start the server on `port`, or on the next free port (see `address`).

        Args:
            scenes: one or more, all in the world frame of the photos' cameras.
            photos: photos to display and to start from.
            host: address to listen on.
            port: port to listen on.
            settings: initial display settings.
        """
        self.state = ViewerState(scenes, photos, settings)
        self.sessions: dict[int, Session] = {}
        self.lock = threading.Lock()
        self.server = start_server(host, port, page_texts(self.state.scenes))
        # Without the button that sends the scene to a public server.
        self.server.gui.configure_theme(
            control_layout="collapsible", show_logo=False, show_share_button=False, dark_mode=True
        )
        set_up_scene(self.server, self.state.start, self.state.settings.background)
        self.panels = self._add_panels()
        self.server.on_client_connect(self._connected)
        self.server.on_client_disconnect(self._disconnected)

    def _add_panels(self) -> Panels:
        state, server = self.state, self.server
        return Panels(
            scenes=ScenesPanel(state, server),
            cameras=None if state.photos is None else CamerasPanel(state, server, state.photos),
            display=DisplayPanel(state, server),
            measure=MeasurePanel(state, server),
            edit=EditPanel(state, server),
            image=ImagePanel(state, server),
            path=PathPanel(state, server),
        )

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    @property
    def address(self) -> str:
        """The URL to open in a browser."""
        return f"http://{_host_in_url(self.server.get_host())}:{self.server.get_port()}"

    def stop(self) -> None:
        """Close all connections and the port."""
        for session in list(self.sessions.values()):
            session.close()
        stop_server(self.server)

    def _connected(self, client: viser.ClientHandle) -> None:
        with self.lock:
            self.sessions[client.client_id] = Session(self.state, client)

    def _disconnected(self, client: viser.ClientHandle) -> None:
        with self.lock:
            session = self.sessions.pop(client.client_id, None)
        if session is not None:
            session.close()


def _host_in_url(host: str) -> str:
    """Return an address to listen on, or a name, as browsers on this machine write it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:  # all addresses, of one version: asyncio does not mix them
        return "localhost" if address.version == 4 else "[::1]"
    # The zone of fe80::1%eth0 is percent-encoded (RFC 6874).
    return f"[{host.replace('%', '%25')}]" if address.version == 6 else host
