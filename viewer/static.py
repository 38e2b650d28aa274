"""A scene as one web page, for any web server or none."""

import html
from pathlib import Path

from recon.files import atomic_output
from viewer.look import Look, arrays_of
from viewer.photos import Photos
from viewer.quiet import start_server, stop_server
from viewer.scene import ShownScene
from viewer.space import Space, Start
from viewer.stage import set_stage

# Height of the picture that widths of small Gaussians are made for (px).
PAGE_PX = 1080


def write_page(folder: Path, scene: ShownScene, photos: Photos | None, look: Look) -> None:
    """A new folder with an index.html that holds viser's viewer and the scene; it opens from disk,
    too. Colours and widths are those of the start view."""
    cameras = None if photos is None or len(photos) == 0 else photos.cameras()
    space = Space.of(scene.state.gaussians)
    start = Start.of(scene.state.gaussians, cameras, space)
    server = start_server("127.0.0.1", 0)
    try:
        eye = space.looking(start.position, start.look_at, start.up, start.fov, PAGE_PX)
        set_stage(server, start, look.background)
        server.scene.add_gaussian_splats(
            "/scene", *arrays_of(scene, look, eye, space).as_arguments()
        )
        page = server.scene.as_html(dark_mode=True)
    finally:
        stop_server(server)
    page = page.replace("<title>Viser</title>", f"<title>{html.escape(scene.name)}</title>", 1)
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        (temporary / "index.html").write_text(page, encoding="utf-8")
