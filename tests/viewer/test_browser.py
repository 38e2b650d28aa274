"""The viewer in a real browser: rendering, panels, clicks, downloads."""

from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from browsing import choose, free_port, gaussians, photos, viewer, visit, wait_for
from chromium import Chromium
from helpers import psnr, random_gaussians

from recon.formats import load_gaussians
from render import Gaussians
from viewer import DisplaySettings, Photos, Viewer, ViewerScene
from viewer.display_settings import splat_arrays
from viewer.normalisation import BROWSER_RADIUS

pytestmark = pytest.mark.slow
WIDTH, HEIGHT = 480, 360


Size = tuple[int, int]
"""Width and height (px)."""


def rendered(session, size: Size = (WIDTH, HEIGHT)) -> torch.Tensor:
    """Return the browser's rendering of the scene, without panels."""
    wanted = {"width": size[0], "height": size[1], "transport_format": "png"}
    image = session.client.get_render(**wanted, timeout=240.0)
    return torch.from_numpy(image[..., :3].copy()).permute(2, 0, 1).float() / 255


def expected(viewer: Viewer, session, size: Size = (WIDTH, HEIGHT)) -> torch.Tensor:
    """Return recon's rendering from the browser's camera."""
    return viewer.state.rendered(session.camera(*size))


def wait_for_image(
    page, session, accept: Callable[[torch.Tensor], bool], size: Size = (WIDTH, HEIGHT)
) -> torch.Tensor:
    """Wait until the browser's rendering is accepted and return it."""
    images = []

    def accepted() -> bool:
        images.append(rendered(session, size))
        return accept(images[-1])

    wait_for(page, accepted)
    return images[-1]


def scene_area(image: torch.Tensor) -> tuple[slice, ...]:
    """Return the rectangle in which a rendering differs from the black background."""
    shown = image.amax(0) > 0.1
    rows, columns = (shown.any(axis).nonzero()[:, 0].tolist() for axis in (1, 0))
    return (
        slice(None),
        slice(rows[0], rows[-1] + 1),
        slice(columns[0], columns[-1] + 1),
    )


def move_to(page, session, position: np.ndarray) -> None:
    """Move a browser's camera and wait until the browser reports that it has moved."""
    before = session.moved_at
    session.client.camera.position = position
    wait_for(page, lambda: session.moved_at > before)


def number_input(page, label: str):
    """Return the number field beside a slider."""
    row = page.locator("label", has_text=label).locator("xpath=ancestor::div[2]")
    return row.locator("input[type=text]").first


def hide_cameras(page, viewer: Viewer) -> None:
    page.get_by_label("Show cameras").click()
    wait_for(page, lambda: not any(f.visible for f in viewer.panels.cameras.frustums))


@pytest.mark.parametrize("distance", [1.0, 3.0, 9.0])
def test_browser_renders_what_the_rasterizer_renders(
    viewer: Viewer, visit, distance: float
) -> None:
    """In the size of the canvas, for which splats are made large enough to be drawn."""
    page, session = visit(viewer)
    hide_cameras(page, viewer)
    size = (session.client.camera.image_width, session.client.camera.image_height)
    start, before = viewer.state.start, session.sent[0]
    if distance > 1:
        move_to(page, session, start.look_at + distance * (start.position - start.look_at))
        wait_for(page, lambda: session.sent[0] is not before)
    wanted = expected(viewer, session, size)
    assert float(wanted.mean()) > 0.002
    area = scene_area(wanted)
    assert psnr(torch.zeros_like(wanted)[area], wanted[area]) < 18
    image = wait_for_image(page, session, lambda image: psnr(image[area], wanted[area]) > 24, size)
    assert psnr(image, wanted) > 35


def test_colouring(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    hide_cameras(page, viewer)
    start = expected(viewer, session)
    seen = [wait_for_image(page, session, lambda image: psnr(image, start) > 27)]
    for coloring in ("depth", "normals", "contribution"):
        choose(page, "Colour by", coloring)
        wait_for(page, lambda c=coloring: session.sent[0].settings.coloring == c)
        seen.append(wait_for_image(page, session, lambda image: psnr(image, seen[-1]) < 25))
        assert all(psnr(seen[-1], other) < 25 for other in seen[:-1])
    choose(page, "Render as", "points")
    wait_for(page, lambda: session.sent[0].settings.primitive == "points")
    page.get_by_role("button", name="Reset", exact=True).click()
    wait_for(page, lambda: session.sent[0].settings == DisplaySettings())
    wait_for_image(page, session, lambda image: psnr(image, seen[0]) > 30)


def test_thresholds_and_field_of_view(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    scene = viewer.state.scenes[0]

    def count() -> int:
        return len(
            splat_arrays(
                scene, viewer.state.settings, session.camera(), viewer.state.normalisation
            ).centers
        )

    longest = (
        scene.state.gaussians.scales.amax(-1).median()
        * viewer.state.normalisation.scale
        / BROWSER_RADIUS
    )
    # All of plane-sweep's Gaussians have one opacity.
    thresholds = {"Max size": 100 * float(longest), "Min opacity": 0.96}
    whole = count()
    for label, value in thresholds.items():
        field = number_input(page, label)
        field.fill(f"{value:.2f}")
        field.press("Enter")
        wait_for(page, lambda before=whole: count() < before)
        whole = count()
    wait_for(page, lambda: session.sent[0].settings == viewer.state.settings)
    text = f"{whole:,} within the thresholds"
    wait_for(page, lambda: text in viewer.panels.scenes.summary.content)
    field = number_input(page, "Field of view")
    field.fill("30")
    field.press("Enter")
    wait_for(page, lambda: abs(np.rad2deg(session.client.camera.fov) - 30) < 0.5)


def test_click_on_a_camera(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    field = number_input(page, "Camera size")
    field.fill("3")
    field.press("Enter")
    start = viewer.state.start.camera
    frustums = [f for n, f in enumerate(viewer.panels.cameras.frustums) if n != start]
    wait_for(page, lambda: all(f.image is not None for f in frustums))
    # Its photo would cover the scene in the start view.
    assert viewer.panels.cameras.frustums[start].image is None
    # The page gives no sign that the larger frustums can be clicked.
    page.wait_for_timeout(2000)
    box = page.locator("canvas").first.bounding_box()
    camera = session.camera(round(box["width"]), round(box["height"]))
    centers = viewer.panels.cameras.cameras.centers
    ahead = viewer.panels.cameras.cameras.viewmats[:, 2, :3]
    depth = 3 * 0.03 * 10 / viewer.state.normalisation.scale
    pixels, _ = camera.project(centers + 0.9 * depth * ahead)
    before = np.array(session.client.camera.position)
    x, y = pixels[0, 1].tolist()
    page.mouse.click(box["x"] + x, box["y"] + y)
    wait_for(page, lambda: "PSNR" in viewer.panels.cameras.summary.content)
    positions = viewer.state.normalisation.to_browser(centers)
    wait_for(page, lambda: np.linalg.norm(positions - session.client.camera.position, axis=1).min()
             < 1e-2)  # fmt: skip
    assert np.linalg.norm(before - session.client.camera.position) > 0.1
    found = float(viewer.panels.cameras.summary.content.split("PSNR ")[1].split()[0])
    assert found > 15
    selected = viewer.panels.cameras.choice.value
    assert selected in viewer.panels.cameras.summary.content

    def hidden() -> list[str]:
        panel = viewer.panels.cameras
        frustums = zip(panel.names, panel.frustums, strict=True)
        return [name for name, frustum in frustums if not frustum.visible]

    wait_for(page, lambda: hidden() == [selected])
    other = next(name for name in viewer.panels.cameras.names if name != selected)
    choose(page, "Photo", other)
    wait_for(page, lambda: other in viewer.panels.cameras.summary.content)
    wait_for(page, lambda: hidden() == [other])
    choose(page, "Photo", "-")
    wait_for(page, lambda: not viewer.panels.cameras.photo.visible)
    wait_for(page, lambda: not hidden())
    wait_for(page, lambda: "PSNR" not in viewer.panels.cameras.summary.content)


def test_crop_undo_and_save(viewer: Viewer, visit, tmp_path: Path) -> None:
    page, session = visit(viewer)
    page.get_by_text("Select and save").click()
    choose(page, "Select by", "box")
    wait_for(page, lambda: viewer.panels.edit.box.visible)
    scene = viewer.state.scenes[0]
    gaussians = scene.state.gaussians
    inside, total = int(viewer.panels.edit.contains(scene.offset, gaussians).sum()), len(gaussians)
    assert 0 < inside < total
    page.get_by_role("button", name="Delete inside").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == total - inside)
    page.get_by_role("button", name="Undo").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == total)
    page.get_by_role("button", name="Delete outside").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == inside)
    for extension in (".ply", ".spz"):
        choose(page, "Format", extension)
        wait_for(page, lambda e=extension: viewer.panels.edit.format.value == e)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save", exact=True).click()
        path = tmp_path / f"saved{extension}"
        download.value.save_as(path)
        assert len(load_gaussians(path)) == inside
    kept = load_gaussians(tmp_path / "saved.ply")
    assert torch.allclose(kept.means, gaussians[scene.state.kept].means)


def click_at(page, x: float, y: float) -> None:
    """Click on the canvas, at fractions of its width and height."""
    box = page.locator("canvas").first.bounding_box()
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])


def test_measuring_sets_the_frame_that_is_saved(viewer: Viewer, visit, tmp_path: Path) -> None:
    page, session = visit(viewer)
    hide_cameras(page, viewer)
    panel = viewer.panels.measure
    page.get_by_text("Measure and align").click()
    choose(page, "Click for", "distance")
    wait_for(page, lambda: "two points" in panel.summary.content)
    page.wait_for_timeout(1000)
    for number, x in enumerate((0.35, 0.6)):
        click_at(page, x, 0.6)
        wait_for(page, lambda n=number: len(panel.points) == n + 1)
    measured = panel.distance()
    assert measured is not None
    wait_for(page, lambda: f"{measured:.4g}" in panel.summary.content)
    field = page.get_by_label("True distance").first
    field.fill("2.5")
    field.press("Enter")
    wait_for(page, lambda: panel.length.value == 2.5)
    page.get_by_role("button", name="Set scale").click()
    wait_for(page, lambda: abs(panel.distance() - 2.5) < 1e-6)
    choose(page, "Click for", "origin")
    page.wait_for_timeout(1000)
    click_at(page, 0.5, 0.6)
    wait_for(page, lambda: viewer.state.alignment.origin is not None)
    choose(page, "Up axis", "+z")
    page.get_by_role("button", name="Up as in this view").click()
    wait_for(page, lambda: viewer.state.alignment.up is not None)
    wait_for(page, lambda: panel.axes.visible and "+z up" in panel.summary.content)
    origin, scale = torch.tensor(viewer.state.alignment.origin), viewer.state.alignment.scale
    page.get_by_text("Select and save").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save", exact=True).click()
    download.value.save_as(tmp_path / "saved.ply")
    saved, before = load_gaussians(tmp_path / "saved.ply"), viewer.state.scenes[0].state.gaussians
    assert torch.allclose(saved.scales, scale * before.scales, rtol=1e-3)
    distances = scale * (before.means - origin).norm(dim=1)
    assert torch.allclose(saved.means.norm(dim=1), distances.float(), rtol=1e-3)
    up = -session.camera().c2w[0, :3, 1]
    height = scale * (before.means - origin) @ up
    assert torch.allclose(saved.means[:, 2], height.float(), atol=1e-3 * float(distances.max()))
    page.get_by_role("button", name="Reset frame").click()
    wait_for(page, lambda: viewer.state.alignment.scale == 1 and not panel.points)


def test_lasso_sphere_and_keyboard_map(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    assert page.title() == "sample.ply - recon"
    page.keyboard.press("?")
    page.get_by_text("find a command").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("find a command").wait_for(state="hidden")
    hide_cameras(page, viewer)
    scene, panel = viewer.state.scenes[0], viewer.panels.edit
    total = len(scene.state.gaussians)
    page.get_by_text("Select and save").click()
    choose(page, "Select by", "lasso")
    wait_for(page, lambda: panel.hint.visible)
    page.wait_for_timeout(1000)
    page.get_by_role("button", name="Delete inside").click()
    # It covers a part of the scene for a while.
    page.get_by_text("at least three corners").wait_for()
    page.get_by_text("at least three corners").wait_for(state="hidden")
    # Chromium without a graphics card is told so at the top left.
    corners = [(0.3, 0.4), (0.6, 0.4), (0.6, 0.7), (0.3, 0.7)]
    for number, (x, y) in enumerate(corners):
        click_at(page, x, y)
        wait_for(page, lambda n=number: len(panel.corners) == n + 1)
    assert np.abs(np.array(panel.corners) - corners).max() < 0.01
    inside = int(panel.contains(scene.offset, scene.state.gaussians).sum())
    page.get_by_role("button", name="Delete inside").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == total - inside)
    assert 0 < inside < total
    wait_for(page, lambda: panel.lines is None)
    page.get_by_role("button", name="Undo").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == total)
    choose(page, "Select by", "sphere")
    wait_for(page, lambda: panel.sphere.visible)
    field = number_input(page, "Radius")
    field.fill("3")
    field.press("Enter")
    wait_for(page, lambda: panel.sphere.radius == 3)
    inside = int(panel.contains(scene.offset, scene.state.gaussians).sum())
    page.get_by_role("button", name="Delete outside").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == inside)
    assert 0 < inside < total


def test_image_and_video(viewer: Viewer, visit, tmp_path: Path) -> None:
    import cv2

    page, session = visit(viewer)
    page.get_by_text("Image", exact=True).click()
    field = page.get_by_label("Height, px").first
    field.fill("200")
    field.press("Enter")
    wait_for(page, lambda: viewer.panels.image.height.value == 200)
    page.get_by_role("button", name="Render this view").click()
    wait_for(page, lambda: viewer.panels.image.image.visible)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "view.png")
    saved = cv2.cvtColor(cv2.imread(str(tmp_path / "view.png")), cv2.COLOR_BGR2RGB)
    height, width = saved.shape[:2]
    image = viewer.state.rendered(session.camera(width, height))
    assert height == 200
    assert psnr(torch.from_numpy(saved).permute(2, 0, 1).float() / 255, image) > 45
    page.get_by_text("Camera path").click()
    page.get_by_role("button", name="Save video").click()
    page.get_by_text("Add at least two views first").wait_for()
    page.get_by_role("button", name="Add this view").click()
    wait_for(page, lambda: len(viewer.panels.path.views) == 1)
    move_to(page, session, session.client.camera.position * 1.2)
    page.get_by_role("button", name="Add this view").click()
    wait_for(page, lambda: len(viewer.panels.path.views) == 2)
    field = number_input(page, "Duration, s")
    field.fill("1")
    field.press("Enter")
    wait_for(page, lambda: viewer.panels.path.seconds.value == 1)
    with page.expect_download(timeout=240_000) as download:
        page.get_by_role("button", name="Save video").click()
    download.value.save_as(tmp_path / "path.mp4")
    video = cv2.VideoCapture(str(tmp_path / "path.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 30
    assert video.get(cv2.CAP_PROP_FRAME_HEIGHT) == 480


def test_background(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    hide_cameras(page, viewer)
    field = page.locator("input[value^='rgb(']").first

    def typed() -> bool:
        field.fill("rgb(0, 200, 40)")
        field.press("Enter")
        page.wait_for_timeout(500)
        return viewer.state.settings.background == (0, 200, 40)

    # The page may not listen yet at the first attempt.
    wait_for(page, typed)
    wanted = expected(viewer, session)
    image = wait_for_image(page, session, lambda image: psnr(image, wanted) > 27)
    corner = image[:, 2:6, 2:6].mean((1, 2)) * 255
    assert torch.allclose(corner, torch.tensor([0.0, 200.0, 40.0]), atol=2)


def test_path_preview(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    page.get_by_text("Camera path").click()
    camera = session.client.camera
    positions = []
    for number in range(2):
        page.get_by_role("button", name="Add this view").click()
        wait_for(page, lambda n=number: len(viewer.panels.path.views) == n + 1)
        positions.append(np.array(camera.position))
        move_to(page, session, camera.position * 1.3)
    field = number_input(page, "Duration, s")
    field.fill("1")
    field.press("Enter")
    wait_for(page, lambda: viewer.panels.path.seconds.value == 1)
    page.get_by_role("button", name="Preview").click()
    wait_for(page, lambda: np.linalg.norm(camera.position - positions[1]) < 0.2)
    field.fill("60")
    field.press("Enter")
    wait_for(page, lambda: viewer.panels.path.seconds.value == 60)
    page.get_by_role("button", name="Preview").click()
    wait_for(page, lambda: viewer.panels.path.busy.locked())
    page.get_by_role("button", name="Preview").click()
    wait_for(page, lambda: not viewer.panels.path.busy.locked())
    page.get_by_role("button", name="Clear").click()
    wait_for(
        page,
        lambda: not viewer.panels.path.views and "No views" in viewer.panels.path.summary.content,
    )


def test_two_browsers_receive_a_changed_scene(viewer: Viewer, visit, gaussians: Gaussians) -> None:
    first_page, one = visit(viewer)
    page, two = visit(viewer)
    move_to(first_page, one, one.client.camera.position * 1.5)
    assert np.linalg.norm(one.client.camera.position - two.client.camera.position) > 1
    versions = [session.sent[0].version for session in (one, two)]
    viewer.state.update(gaussians[torch.arange(len(gaussians) // 2)])
    for session, version in zip((one, two), versions, strict=True):
        wait_for(page, lambda s=session, v=version: s.sent[0].version > v)


def test_closed_browser_ends_its_session_only(viewer: Viewer, visit, gaussians: Gaussians) -> None:
    page, session = visit(viewer)
    other, _ = visit(viewer)
    page.close()
    wait_for(other, lambda: len(viewer.sessions) == 1)
    wait_for(other, lambda: session.closed)
    viewer.state.update(gaussians)
    wait_for(other, lambda: all(s.sent[0].version == 1 for s in viewer.sessions.values()))


def test_several_scenes(gaussians: Gaussians, photos: Photos, visit, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    cloud = random_gaussians(500, generator, degree=1, dtype=torch.float32)
    scenes = [ViewerScene("a.ply", gaussians), ViewerScene("b.ply", cloud)]
    with Viewer(scenes, photos, port=free_port()) as viewer:
        page, session = visit(viewer)
        assert [scene.visible for scene in scenes] == [True, False]
        choose(page, "Show", "b.ply")
        wait_for(page, lambda: scenes[1].visible and 1 in session.sent)
        wait_for(page, lambda: not scenes[0].visible)
        choose(page, "Show", "side by side")
        wait_for(page, lambda: all(scene.visible for scene in scenes))
        wait_for(page, lambda: scenes[1].offset != scenes[0].offset)
        hide_cameras(page, viewer)
        wanted = expected(viewer, session)
        # Both are in the image.
        assert all(float(half.max()) > 0.3 for half in wanted.chunk(2, 2))
        wait_for_image(page, session, lambda image: psnr(image, wanted) > 22)
        page.get_by_text("Select and save").click()
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save", exact=True).click()
        assert saved.value.suggested_filename == "scenes-edited.zip"
        with ZipFile(saved.value.path()) as archive:
            assert archive.namelist() == ["a-edited.ply", "b-edited.ply"]
            archive.extractall(tmp_path)
        assert len(load_gaussians(tmp_path / "b-edited.ply")) == len(cloud)
        scenes[0].name = "elsewhere/b.splat"
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save", exact=True).click()
        with ZipFile(saved.value.path()) as archive:
            assert archive.namelist() == ["b-edited.ply", "b-edited-2.ply"]


def test_view_dependent_colours_follow_the_camera(visit) -> None:
    generator = torch.Generator().manual_seed(1)
    cloud = random_gaussians(300, generator, degree=2, dtype=torch.float32)
    with Viewer([ViewerScene("c.ply", cloud)], port=free_port()) as viewer:
        page, session = visit(viewer)

        def shows_camera(image: torch.Tensor) -> bool:
            # Of this moment: a page that is still opening may move its camera once more.
            return psnr(image, expected(viewer, session)) > 20

        before, start = session.sent[0], viewer.state.start
        ahead = np.array(start.look_at) - start.position
        move_to(page, session, start.look_at + np.roll(ahead, 1))
        wait_for(page, lambda: session.sent[0] is not before)
        wait_for_image(page, session, shows_camera)
        page.get_by_label("View-dependent").click()
        wait_for(page, lambda: not session.sent[0].settings.use_sh)
        wait_for_image(page, session, shows_camera)


def test_browser_that_stops_answering_is_killed(chromium: Chromium) -> None:
    api = pytest.importorskip("playwright.sync_api")
    with chromium.limited(2) as browser, pytest.raises(api.Error, match="closed"):
        browser.new_page().wait_for_timeout(120_000)
    with chromium.limited() as browser:
        assert browser.is_connected()
