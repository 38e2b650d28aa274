"""Selection by shapes, measured points, the frame that is saved, and texts of the page."""

from pathlib import Path

import numpy as np
import pytest
import torch
from browsing import free_port
from helpers import look_at_cameras, random_gaussians

from recon.formats import NamedCamera
from recon.precision import WORLD
from render import Cameras, Gaussians, rasterize
from viewer.alignment import UP_AXES, Alignment, rotation_between
from viewer.page_texts import page_texts, with_texts
from viewer.panels.measure import surface_point
from viewer.scene import ViewerScene
from viewer.selection import in_box, in_polygon, in_sphere


@pytest.fixture()
def cloud(generator: torch.Generator) -> Gaussians:
    return random_gaussians(400, generator, degree=1, dtype=torch.float32)


def test_box_and_sphere() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.9, 0, 0], [0, 0.9, 0], [0.6, 0.6, 0]])
    size, middle = torch.tensor([2.0, 1.0, 1.0]), torch.zeros(3)
    level, quarter = np.array([1.0, 0, 0, 0]), np.array([0.5**0.5, 0, 0, 0.5**0.5])
    assert in_box(points, middle, level, size).tolist() == [True, True, False, False]
    assert in_box(points, middle, quarter, size).tolist() == [True, False, True, False]
    assert in_sphere(points, middle, 0.87).tolist() == [True, False, False, True]


def test_polygon_selects_what_it_covers_at_any_depth() -> None:
    camera = Cameras.from_fov(torch.eye(4)[None], 90.0, 200, 100)
    # An L: its corner is cut out.
    corners = np.array([[0.1, 0.1], [0.9, 0.1], [0.9, 0.5], [0.5, 0.5], [0.5, 0.9], [0.1, 0.9]])
    pixels = torch.tensor([[40.0, 80.0], [160.0, 20.0], [160.0, 80.0], [10.0, 50.0]])
    for depth in (0.5, 50.0):
        points = torch.cat([(pixels - torch.tensor([100.0, 50.0])) / 50, torch.ones(4, 1)], 1)
        found = in_polygon(depth * points, camera, corners)
        assert found.tolist() == [True, True, False, False]
        assert not in_polygon(-depth * points, camera, corners).any()


def test_clicks_find_the_surface_in_front() -> None:
    """Two walls: the nearer one is found, also by a ray that is not along an axis."""
    y, x = torch.meshgrid(torch.linspace(-2, 2, 60), torch.linspace(-2, 2, 60), indexing="ij")
    walls = [torch.stack([x, y, torch.full_like(x, z)], -1).reshape(-1, 3) for z in (3.0, 5.0)]
    means = torch.cat(walls)
    count = len(means)
    scene = Gaussians(
        means, torch.tensor([[1.0, 0, 0, 0]]).expand(count, 4),
        torch.tensor([[0.06, 0.06, 0.005]]).expand(count, 3), torch.full((count,), 0.9),
        torch.zeros(count, 1, 3),
    )  # fmt: skip
    for direction in ([0.0, 0, 1], [0.3, -0.2, 1.0]):
        found = surface_point(scene, torch.zeros(3), torch.tensor(direction))
        assert found is not None
        assert torch.allclose(found, 3 * torch.tensor(direction), atol=0.03)
    assert surface_point(scene, torch.zeros(3), torch.tensor([0.0, 0, -1])) is None


@pytest.mark.parametrize("axis", list(UP_AXES))
@pytest.mark.parametrize("up", [(0.0, -1, 0), (0.0, 1, 0), (0.3, 0.5, -0.8)])
def test_smallest_rotation(axis: str, up: tuple[float, float, float]) -> None:
    src, dst = torch.tensor(up), torch.tensor(UP_AXES[axis]).double()
    rotmat = rotation_between(src, dst)
    found = rotmat @ torch.nn.functional.normalize(src.double(), dim=0)
    assert torch.allclose(found, dst, atol=1e-9)
    assert torch.allclose(rotmat @ rotmat.T, torch.eye(3).double(), atol=1e-9)
    assert float(torch.linalg.det(rotmat)) == pytest.approx(1)


@pytest.mark.parametrize("picked", [None, (500_001.0, 5_000_002.0, 3.0)])
@pytest.mark.parametrize("origin", [WORLD, (500_000.0, 5_000_000.0, 0.0)])
def test_aligned_scene_looks_the_same(
    cloud: Gaussians, origin: tuple[float, float, float], picked: tuple[float, float, float] | None
) -> None:
    if origin == WORLD and picked is not None:
        picked = (1.0, 2.0, 3.0)
    local = look_at_cameras(1, 96, 80)
    shift = torch.eye(4).double()
    shift[:3, 3] = -torch.tensor(origin)
    start = Cameras(local.viewmats @ shift, local.Ks, local.width, local.height)
    alignment = Alignment(2.5, (0.3, 0.5, -0.8), "+z", picked)
    moved, to, camera, named = alignment.applied(cloud, origin, start, (NamedCamera("a", start),))
    assert camera is not None and named[0].camera == camera
    shift[:3, 3] = torch.tensor(to, dtype=torch.float64)
    near = Cameras(camera.viewmats @ shift, camera.Ks, camera.width, camera.height)
    before = rasterize(cloud, local.to(torch.float32)).rgb
    after = rasterize(moved, near.to(torch.float32)).rgb
    assert float((before - after).abs().max()) < 2e-3
    transform = alignment.transform()
    assert transform is not None
    if picked is not None:
        assert to == WORLD
        assert float(transform.apply(torch.tensor(picked, dtype=torch.float64)).abs().max()) < 1e-6
    world = cloud.means.double() + torch.tensor(origin, dtype=torch.float64)
    found = moved.means.double() + torch.tensor(to, dtype=torch.float64)
    assert float((transform.apply(world) - found).abs().max()) < 1e-4


def test_unchanged_frame_changes_nothing(cloud: Gaussians) -> None:
    kept, *_ = Alignment(up_axis="+z").applied(cloud, WORLD, None, ())
    assert kept is cloud


def test_pages_have_the_texts_of_recon(cloud: Gaussians, tmp_path: Path) -> None:
    import urllib.request

    from viewer import DisplaySettings, Viewer, write_page

    scene = ViewerScene("a <b>.ply", cloud)
    with Viewer([scene], port=free_port()) as viewer:
        page = urllib.request.urlopen(viewer.address, timeout=10).read().decode()
    write_page(tmp_path / "page", scene, None, DisplaySettings())
    for text in (page, (tmp_path / "page" / "index.html").read_text()):
        head = text[:20_000]
        assert "<title>a &lt;b&gt;.ply - recon</title>" in head
        assert 'content="a &lt;b&gt;.ply: 400 3D Gaussians, displayed by recon"' in head
        assert "250.44" not in head and "Viser client" not in head and 'id="recon-keys"' in text
    assert page_texts([]).title == "recon"
    assert with_texts("<title>x</title>", page_texts([scene])).startswith("<title>a &lt;b&gt;")
