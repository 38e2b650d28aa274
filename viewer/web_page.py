"""Export of a scene as one web page, for any web server or none."""

from pathlib import Path

from recon.files import atomic_output
from viewer.display_settings import DisplaySettings, splat_arrays
from viewer.page_texts import page_texts, with_texts
from viewer.photos import Photos
from viewer.scene import ViewerScene
from viewer.server import set_up_scene, start_server, stop_server
from viewer.state import ViewerState

# Image height for which the minimum sizes of Gaussians are computed (px).
PAGE_PX = 1080


def write_page(
    folder: Path, scene: ViewerScene, photos: Photos | None, settings: DisplaySettings
) -> None:
    """Write a new folder with an index.html that holds viser's viewer and the scene.

    The page also opens from disk. Colours and minimum sizes are those of the start view.
    """
    state = ViewerState([scene], photos, settings)
    start = state.start
    camera = state.normalisation.look_at_camera(
        start.position, start.look_at, start.up, start.fov, PAGE_PX
    )
    server = start_server("127.0.0.1", 0)
    try:
        set_up_scene(server, start, settings.background)
        arrays = splat_arrays(scene, settings, camera, state.normalisation)
        server.scene.add_gaussian_splats("/scene", *arrays.as_arguments())
        page = server.scene.as_html(dark_mode=True)
    finally:
        stop_server(server)
    page = with_texts(page, page_texts([scene]))
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        (temporary / "index.html").write_text(page, encoding="utf-8")
