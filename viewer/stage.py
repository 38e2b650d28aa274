"""What every scene is shown on: up, first view, background; the same live and in a page."""

import numpy as np
import viser

from viewer.space import Start


def set_stage(server: viser.ViserServer, start: Start, background: tuple[int, int, int]) -> None:
    """Before anything is shown."""
    up = tuple(start.up.tolist())
    server.scene.set_up_direction(up)
    camera = server.initial_camera
    camera.position, camera.look_at = tuple(start.position), tuple(start.look_at)
    camera.up, camera.fov = up, start.fov
    paint_background(server, background)


def paint_background(server: viser.ViserServer, color: tuple[int, int, int]) -> None:
    """Behind the scene, 0 to 255."""
    server.scene.set_background_image(np.array(color, np.uint8)[None, None], format="png")
