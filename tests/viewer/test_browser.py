"""The viewer in a real browser: pictures, panels, clicks, downloads."""

import os
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from browsing import free_port, gaussians, photos, viewer, visit, wait_for
from conftest import ROOT
from helpers import psnr, random_gaussians

from recon.formats import load_gaussians
from render import Gaussians
from viewer import Look, Photos, ShownScene, Viewer
from viewer.look import arrays_of
from viewer.space import SHOWN_RADIUS

pytestmark = pytest.mark.slow
WIDTH, HEIGHT = 480, 360
# Of the documentation's pictures.
DESKTOP = {"width": 1280, "height": 860}


def shown(session) -> torch.Tensor:
    """What the browser draws of the scene, without panels."""
    size = {"height": HEIGHT, "width": WIDTH, "transport_format": "png"}
    picture = session.client.get_render(**size, timeout=60.0)
    return torch.from_numpy(picture[..., :3].copy()).permute(2, 0, 1).float() / 255


def number_input(page, label: str):
    """The number beside a slider."""
    row = page.locator("label", has_text=label).locator("xpath=ancestor::div[2]")
    return row.locator("input[type=text]").first


def choose(page, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()


def picture(page, name: str) -> None:
    """A screenshot for the documentation, when it is asked for."""
    if os.environ.get("RECON_SCREENSHOTS"):
        folder = ROOT / "docs" / "viewer"
        folder.mkdir(exist_ok=True)
        before = page.viewport_size
        page.set_viewport_size(DESKTOP)
        # viser's remark that this browser has no graphics card.
        for button in page.locator("[class*=Notification-closeButton]").all():
            button.click()
        page.wait_for_timeout(4000)
        page.screenshot(
            path=folder / f"{name}.jpg", quality=80, type="jpeg", timeout=300_000
        )  # fmt: skip
        page.set_viewport_size(before)


def hide_cameras(page, viewer: Viewer) -> None:
    page.get_by_label("Show cameras").click()
    wait_for(page, lambda: not any(f.visible for f in viewer.cameras.frustums))


@pytest.mark.parametrize("distance", [1.0, 3.0, 9.0])
def test_shows_what_the_rasterizer_shows(viewer: Viewer, visit, distance: float) -> None:
    page, session = visit(viewer)
    hide_cameras(page, viewer)
    start, camera = viewer.start, session.client.camera
    before = session.sent[0]
    camera.position = start.look_at + distance * (start.position - start.look_at)
    if distance > 1:
        wait_for(page, lambda: session.sent[0] is not before)
    page.wait_for_timeout(1500)
    found, expected = shown(session), viewer.rendered(session.eye(WIDTH, HEIGHT))
    assert float(expected.mean()) > 0.002
    assert psnr(found, expected) > 27
    if distance == 1:
        picture(page, "colour")


def test_colouring(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    hide_cameras(page, viewer)
    seen = [shown(session)]
    for coloring in ("depth", "normals", "contribution"):
        choose(page, "Colouring", coloring)
        wait_for(page, lambda c=coloring: session.sent[0].look.coloring == c)
        page.wait_for_timeout(1500)
        seen.append(shown(session))
        picture(page, coloring)
    for number, one in enumerate(seen):
        assert all(psnr(one, other) < 25 for other in seen[:number])
    choose(page, "Drawn as", "points")
    wait_for(page, lambda: session.sent[0].look.shape == "points")
    picture(page, "points")
    page.get_by_role("button", name="Reset", exact=True).click()
    wait_for(page, lambda: session.sent[0].look == Look())
    page.wait_for_timeout(1500)
    assert psnr(shown(session), seen[0]) > 30


def test_thresholds_and_field_of_view(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    scene = viewer.scenes[0]

    def count() -> int:
        return len(arrays_of(scene, viewer.look, session.eye(), viewer.space).centers)

    longest = scene.state.gaussians.scales.amax(-1).median() * viewer.space.scale / SHOWN_RADIUS
    # All of plane-sweep's Gaussians have one opacity.
    thresholds = {"Largest size": 100 * float(longest), "Least opacity": 0.96}
    whole = count()
    for label, value in thresholds.items():
        field = number_input(page, label)
        field.fill(f"{value:.2f}")
        field.press("Enter")
        wait_for(page, lambda before=whole: count() < before)
        whole = count()
    wait_for(page, lambda: session.sent[0].look == viewer.look)
    assert f"{whole:,} within the thresholds" in viewer.facts.facts.content
    field = number_input(page, "Field of view")
    field.fill("30")
    field.press("Enter")
    wait_for(page, lambda: abs(np.rad2deg(session.client.camera.fov) - 30) < 0.5)


def test_click_on_a_camera(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    field = number_input(page, "Camera size")
    field.fill("3")
    field.press("Enter")
    start = viewer.start.camera
    frustums = [f for n, f in enumerate(viewer.cameras.frustums) if n != start]
    wait_for(page, lambda: all(f.image is not None for f in frustums))
    # Its photo would hide the scene from the first view.
    assert viewer.cameras.frustums[start].image is None
    page.wait_for_timeout(2000)
    box = page.locator("canvas").first.bounding_box()
    eye = session.eye(round(box["width"]), round(box["height"]))
    centers = viewer.cameras.cameras.centers
    ahead = viewer.cameras.cameras.viewmats[:, 2, :3]
    depth = 3 * 0.03 * 10 / viewer.space.scale
    pixels, _ = eye.project(centers + 0.9 * depth * ahead)
    before = np.array(session.client.camera.position)
    x, y = pixels[0, 1].tolist()
    page.mouse.click(box["x"] + x, box["y"] + y)
    wait_for(page, lambda: "PSNR" in viewer.cameras.facts.content)
    places = viewer.space.shown(centers)
    wait_for(page, lambda: np.linalg.norm(places - session.client.camera.position, axis=1).min()
             < 1e-2)  # fmt: skip
    assert np.linalg.norm(before - session.client.camera.position) > 0.1
    found = float(viewer.cameras.facts.content.split("PSNR ")[1].split()[0])
    assert found > 15
    visited = viewer.cameras.choice.value
    assert visited in viewer.cameras.facts.content

    def hidden() -> list[str]:
        shown = zip(viewer.cameras.names, viewer.cameras.frustums, strict=True)
        return [name for name, frustum in shown if not frustum.visible]

    assert hidden() == [visited]
    other = next(name for name in viewer.cameras.names if name != visited)
    choose(page, "Photo", other)
    wait_for(page, lambda: other in viewer.cameras.facts.content)
    assert hidden() == [other]
    field.fill("1")
    field.press("Enter")
    picture(page, "compare")
    choose(page, "Photo", "-")
    wait_for(page, lambda: not viewer.cameras.photo.visible)
    assert not hidden() and "PSNR" not in viewer.cameras.facts.content


def test_crop_undo_and_save(viewer: Viewer, visit, tmp_path: Path) -> None:
    page, session = visit(viewer)
    page.get_by_text("Crop and save").click()
    page.get_by_label("Crop box").click()
    wait_for(page, lambda: viewer.edit.box.visible)
    page.wait_for_timeout(500)
    picture(page, "crop")
    scene = viewer.scenes[0]
    gaussians = scene.state.gaussians
    inside, total = int(viewer.edit.contains(scene.offset, gaussians).sum()), len(gaussians)
    assert 0 < inside < total
    page.get_by_role("button", name="Delete inside").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == total - inside)
    page.get_by_role("button", name="Undo").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == total)
    page.get_by_role("button", name="Delete outside").click()
    wait_for(page, lambda: int(scene.state.kept.sum()) == inside)
    for extension in (".ply", ".spz"):
        choose(page, "Format", extension)
        wait_for(page, lambda e=extension: viewer.edit.format.value == e)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save", exact=True).click()
        path = tmp_path / f"saved{extension}"
        download.value.save_as(path)
        assert len(load_gaussians(path)) == inside
    kept = load_gaussians(tmp_path / "saved.ply")
    expected = gaussians[scene.state.kept]
    assert torch.allclose(kept.means, expected.means)


def test_picture_and_film(viewer: Viewer, visit, tmp_path: Path) -> None:
    import cv2

    page, session = visit(viewer)
    page.get_by_text("Picture", exact=True).click()
    field = page.get_by_label("Height, px").first
    field.fill("200")
    field.press("Enter")
    wait_for(page, lambda: viewer.picture.height.value == 200)
    page.get_by_role("button", name="Render this view").click()
    wait_for(page, lambda: viewer.picture.image.visible)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    download.value.save_as(tmp_path / "view.png")
    saved = cv2.cvtColor(cv2.imread(str(tmp_path / "view.png")), cv2.COLOR_BGR2RGB)
    height, width = saved.shape[:2]
    expected = viewer.rendered(session.eye(width, height))
    assert height == 200
    assert psnr(torch.from_numpy(saved).permute(2, 0, 1).float() / 255, expected) > 45
    page.get_by_text("Camera path").click()
    page.get_by_role("button", name="Save film").click()
    page.get_by_text("Add at least two views first").wait_for()
    page.get_by_role("button", name="Add this view").click()
    wait_for(page, lambda: len(viewer.path.views) == 1)
    session.client.camera.position = session.client.camera.position * 1.2
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Add this view").click()
    wait_for(page, lambda: len(viewer.path.views) == 2)
    field = number_input(page, "Seconds")
    field.fill("1")
    field.press("Enter")
    wait_for(page, lambda: viewer.path.seconds.value == 1)
    with page.expect_download(timeout=120_000) as download:
        page.get_by_role("button", name="Save film").click()
    download.value.save_as(tmp_path / "path.mp4")
    film = cv2.VideoCapture(str(tmp_path / "path.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 30
    assert film.get(cv2.CAP_PROP_FRAME_HEIGHT) == 480


def test_background(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    hide_cameras(page, viewer)
    field = page.locator("input[value^='rgb(']").first

    def typed() -> bool:
        field.fill("rgb(0, 200, 40)")
        field.press("Enter")
        page.wait_for_timeout(500)
        return viewer.look.background == (0, 200, 40)

    # A first try may come before the page listens.
    wait_for(page, typed)
    expected = viewer.rendered(session.eye(WIDTH, HEIGHT))
    # The page draws it when it comes to it.
    wait_for(page, lambda: psnr(shown(session), expected) > 27)
    corner = shown(session)[:, 2:6, 2:6].mean((1, 2)) * 255
    assert torch.allclose(corner, torch.tensor([0.0, 200.0, 40.0]), atol=2)


def test_path_is_shown_before_it_is_saved(viewer: Viewer, visit) -> None:
    page, session = visit(viewer)
    page.get_by_text("Camera path").click()
    camera = session.client.camera
    places = []
    for number in range(2):
        page.get_by_role("button", name="Add this view").click()
        wait_for(page, lambda n=number: len(viewer.path.views) == n + 1)
        places.append(np.array(camera.position))
        camera.position = camera.position * 1.3
        page.wait_for_timeout(500)
    field = number_input(page, "Seconds")
    field.fill("1")
    field.press("Enter")
    wait_for(page, lambda: viewer.path.seconds.value == 1)
    page.get_by_role("button", name="Preview").click()
    wait_for(page, lambda: np.linalg.norm(camera.position - places[1]) < 0.2)
    field.fill("60")
    field.press("Enter")
    wait_for(page, lambda: viewer.path.seconds.value == 60)
    page.get_by_role("button", name="Preview").click()
    wait_for(page, lambda: viewer.path.busy.locked())
    page.get_by_role("button", name="Preview").click()
    wait_for(page, lambda: not viewer.path.busy.locked())
    page.get_by_role("button", name="Clear").click()
    wait_for(page, lambda: not viewer.path.views and "No views" in viewer.path.facts.content)


def test_two_browsers_and_a_scene_that_changes(viewer: Viewer, visit, gaussians: Gaussians) -> None:
    _, one = visit(viewer)
    page, two = visit(viewer)
    one.client.camera.position = one.client.camera.position * 1.5
    page.wait_for_timeout(1000)
    assert np.linalg.norm(one.client.camera.position - two.client.camera.position) > 1
    versions = [session.sent[0].version for session in (one, two)]
    viewer.update(gaussians[torch.arange(len(gaussians) // 2)])
    for session, version in zip((one, two), versions, strict=True):
        wait_for(page, lambda s=session, v=version: s.sent[0].version > v)


def test_a_closed_browser_does_not_matter(viewer: Viewer, visit, gaussians: Gaussians) -> None:
    page, session = visit(viewer)
    other, _ = visit(viewer)
    page.close()
    wait_for(other, lambda: len(viewer.sessions) == 1)
    assert session.over
    viewer.update(gaussians)
    wait_for(other, lambda: all(s.sent[0].version == 1 for s in viewer.sessions.values()))


def test_several_scenes(gaussians: Gaussians, photos: Photos, visit, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    cloud = random_gaussians(500, generator, degree=1, dtype=torch.float32)
    scenes = [ShownScene("a.ply", gaussians), ShownScene("b.ply", cloud)]
    with Viewer(scenes, photos, port=free_port()) as viewer:
        page, session = visit(viewer)
        assert [scene.visible for scene in scenes] == [True, False]
        choose(page, "Show", "b.ply")
        wait_for(page, lambda: scenes[1].visible and 1 in session.sent)
        assert not scenes[0].visible
        choose(page, "Show", "side by side")
        wait_for(page, lambda: all(scene.visible for scene in scenes))
        assert scenes[1].offset != scenes[0].offset
        hide_cameras(page, viewer)
        page.wait_for_timeout(2000)
        found, expected = shown(session), viewer.rendered(session.eye(WIDTH, HEIGHT))
        assert psnr(found, expected) > 22
        # Both are in the picture.
        assert all(float(half.max()) > 0.3 for half in expected.chunk(2, 2))
        picture(page, "side_by_side")
        page.get_by_text("Crop and save").click()
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
    with Viewer([ShownScene("c.ply", cloud)], port=free_port()) as viewer:
        page, session = visit(viewer)
        before, camera = session.sent[0], session.client.camera
        ahead = np.array(viewer.start.look_at) - viewer.start.position
        camera.position = viewer.start.look_at + np.roll(ahead, 1)
        wait_for(page, lambda: session.sent[0] is not before)
        page.wait_for_timeout(1500)
        assert psnr(shown(session), viewer.rendered(session.eye(WIDTH, HEIGHT))) > 20
        page.get_by_label("View-dependent").click()
        wait_for(page, lambda: not session.sent[0].look.use_sh)
        page.wait_for_timeout(1500)
        assert psnr(shown(session), viewer.rendered(session.eye(WIDTH, HEIGHT))) > 20
