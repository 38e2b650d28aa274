"""Export of a scene as one web page, for any web server or none."""

from pathlib import Path

from recon.files import atomic_output, check_output_folder
from viewer.display_settings import DisplaySettings, splat_arrays
from viewer.page_texts import MARK, page_texts, with_texts
from viewer.photos import Photos
from viewer.scene import ViewerScene
from viewer.server import set_up_scene, start_server, stop_server
from viewer.state import ViewerState

# Image height for which the minimum sizes of Gaussians are computed (px).
PAGE_PX = 1080
# viser sorts splats in a worker that is a module in a blob. Chromium starts no such worker for a
# page from the disk, and splats stay in the order of the file. There the worker becomes a script,
# which may not ask for import.meta. This has to run before viser's own scripts.
SHIM = """<script>if (location.protocol === "file:") {
  window.Blob = class extends Blob {
    constructor(parts = [], options) {
      const asScript = part => typeof part === "string"
        ? part.replaceAll("import.meta.url", "self.location.href") : part;
      super(Array.from(parts, asScript), options);
    }
  };
  window.Worker = class extends Worker {
    constructor(url, options) { super(url, {...options, type: "classic"}); }
  };
}</script>"""


def check_page_folder(folder: Path) -> None:
    """Check that a page can be written to a folder: a new one, or one with a page of recon.

    Raises:
        InputError: There is something else at the path, or no permission.
    """
    page = folder / "index.html"
    try:
        is_ours = page.is_file() and MARK in page.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        # Unreadable, or an impossible name, of which the check below tells.
        is_ours = False
    check_output_folder(folder, [page.name] if is_ours else [])


def write_page(
    folder: Path, scene: ViewerScene, photos: Photos | None, settings: DisplaySettings
) -> None:
    """Write a folder with an index.html that holds viser's viewer and the scene.

    The page also opens from the disk. Colours and minimum sizes are those of the start view.
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
    page = with_texts(page, page_texts([scene])).replace("<script", f"{SHIM}<script", 1)
    with atomic_output(folder) as temporary:
        temporary.mkdir()
        (temporary / "index.html").write_text(page, encoding="utf-8")
