"""viser's server: start and stop it, and set up what is the same for every scene."""

import io
import shutil
import socket
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import viser
from viser import infra

from recon.errors import InputError
from viewer.page_texts import PageTexts, with_texts
from viewer.start_view import StartView

# Folders that servers serve their page from; one server starts at a time.
_FOLDERS: dict[int, tempfile.TemporaryDirectory[str]] = {}
_STARTING = threading.Lock()


def start_server(
    host: str, port: int, texts: PageTexts = PageTexts("recon", "Viewer of recon")
) -> viser.ViserServer:
    """Listen on this port or the next free one, without viser's console output.

    Args:
        host: Address to listen on.
        port: Port to begin with.
        texts: What the page says about itself.
    """
    check_address(host)
    # A browser may leave while data is on its way to it, which is no reason for a warning.
    warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection", UserWarning)
    # viser prints its table of addresses whatever `verbose` says.
    folder = tempfile.TemporaryDirectory(prefix="recon-page-")
    _write_page(Path(folder.name), texts)
    with redirect_stdout(io.StringIO()), _served_from(Path(folder.name)):
        server = viser.ViserServer(host=host, port=port, label="recon", verbose=False)
    _FOLDERS[id(server)] = folder
    return server


def _write_page(folder: Path, texts: PageTexts) -> None:
    """Write viser's page with the texts of recon, with what else viser serves beside it."""
    build = Path(viser.__file__).resolve().parent / "client" / "build"
    shutil.copytree(build, folder, dirs_exist_ok=True)
    page = folder / "index.html"
    page.write_text(with_texts(page.read_text("utf-8"), texts), "utf-8")


@contextmanager
def _served_from(folder: Path) -> Iterator[None]:
    """Let servers that are started in the block serve a folder, which viser has no option for."""
    with _STARTING:
        original = infra.WebsockServer

        def serving(*arguments: Any, **options: Any) -> Any:
            return original(*arguments, **{**options, "http_server_root": folder})

        infra.WebsockServer = serving  # type: ignore[misc, assignment]
        try:
            yield
        finally:
            infra.WebsockServer = original  # type: ignore[misc]


def check_address(host: str) -> None:
    """Raise InputError unless this machine can listen on an address; viser would wait for ever."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"cannot listen on {host}: {getattr(error, 'strerror', None) or error}; expected an "
            "address of this machine, such as 127.0.0.1, or 0.0.0.0 for all"
        ) from None


def stop_server(server: viser.ViserServer) -> None:
    """Close the server's port and connections."""
    with redirect_stdout(io.StringIO()):
        server.stop()
    if (folder := _FOLDERS.pop(id(server), None)) is not None:
        folder.cleanup()


def set_up_scene(
    server: viser.ViserServer, start: StartView, background: tuple[int, int, int]
) -> None:
    """Set the up direction, the first camera and the background, before a scene is added."""
    up = tuple(start.up.tolist())
    server.scene.set_up_direction(up)
    camera = server.initial_camera
    camera.position, camera.look_at = tuple(start.position), tuple(start.look_at)
    camera.up, camera.fov = up, start.fov
    set_background(server, background)


def set_background(server: viser.ViserServer, color: tuple[int, int, int]) -> None:
    """Fill the background with a colour (0 to 255)."""
    server.scene.set_background_image(np.array(color, np.uint8)[None, None], format="png")
