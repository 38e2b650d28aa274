"""viser's server: start and stop it, and set up what is the same for every scene."""

import io
import socket
import warnings
from contextlib import redirect_stdout

import numpy as np
import viser

from recon.errors import InputError
from viewer.start_view import StartView


def start_server(host: str, port: int) -> viser.ViserServer:
    """Listen on this port or the next free one, without viser's console output."""
    check_address(host)
    # A browser may leave while data is on its way to it, which is no reason for a warning.
    warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection", UserWarning)
    # viser prints its table of addresses whatever `verbose` says.
    with redirect_stdout(io.StringIO()):
        return viser.ViserServer(host=host, port=port, label="recon", verbose=False)


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
