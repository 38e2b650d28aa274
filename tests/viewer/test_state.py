"""The state that panels and sessions share, without a server."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from browsing import photos  # noqa: F401
from helpers import look_at_cameras, psnr, random_gaussians

from render import Gaussians, RasterizeSettings, rasterize
from viewer import DisplaySettings, Photos, ViewerScene
from viewer.normalisation import BROWSER_RADIUS
from viewer.state import Signal, ViewerState


@pytest.fixture()
def clouds(generator: torch.Generator) -> list[Gaussians]:
    return [random_gaussians(300, generator, degree=d, dtype=torch.float32) for d in (1, 0)]


@pytest.fixture()
def state(clouds: list[Gaussians]) -> ViewerState:
    return ViewerState([ViewerScene(name, cloud) for name, cloud in zip("ab", clouds, strict=True)])


def test_signal_calls_listeners_in_order_until_they_disconnect() -> None:
    signal, calls = Signal(), []

    def first() -> None:
        calls.append("first")
        signal.disconnect(first)

    signal.connect(first)
    signal.connect(lambda: calls.append("second"))
    signal.emit()
    signal.emit()
    assert calls == ["first", "second", "second"]


def test_changes_and_transfers_are_reported(state: ViewerState, clouds: list[Gaussians]) -> None:
    changes, transfers = [], []
    state.changed.connect(lambda: changes.append(state.send_seconds))
    state.sent.connect(lambda: transfers.append(state.send_seconds))
    state.notify_sent(0.5)
    state.update(clouds[1])
    state.notify_sent(0.25)
    state.set_display(DisplaySettings(use_sh=False))
    assert changes == [None, None] and transfers == [0.5, 0.25]
    assert state.scenes[0].version == 1 and not state.settings.use_sh


def test_scenes_alone_and_side_by_side(state: ViewerState) -> None:
    state.show_one("b")
    assert [scene.name for scene in state.visible_scenes()] == ["b"]
    state.show_side_by_side()
    assert len(state.visible_scenes()) == 2 and state.scenes[0].offset == (0.0, 0.0, 0.0)
    offset = np.array(state.scenes[1].offset)
    assert np.linalg.norm(offset) == pytest.approx(2.5 * BROWSER_RADIUS)
    ahead = state.start.look_at - state.start.position
    assert abs(offset @ ahead) < 1e-3 * np.linalg.norm(offset) * np.linalg.norm(ahead)
    state.show_one("a")
    assert state.scenes[1].offset == (0.0, 0.0, 0.0)


def test_rendering_takes_what_is_visible(state: ViewerState, clouds: list[Gaussians]) -> None:
    camera = look_at_cameras(1, 120, 100, torch.float32)
    state.show_one("b")
    only = state.rendered(camera)
    alone = ViewerState([ViewerScene("b", clouds[1])])
    assert psnr(only, alone.rendered(camera)) > 60
    state.scenes[0].visible = True
    assert psnr(state.rendered(camera), only) < 40
    state.set_display(DisplaySettings(min_opacity=1.1, background=(255, 0, 0)))
    assert torch.equal(state.rendered(camera)[:, 0, 0], torch.tensor([1.0, 0.0, 0.0]))


def test_edits_are_undone_together_and_in_order(state: ViewerState) -> None:
    """Scenes in which an edit hid nothing keep what was hidden there before."""

    def below(counts: tuple[int, int]):
        wanted = dict(zip("ab", counts, strict=True))
        return lambda scene, gaussians: torch.arange(300) < wanted[scene.name]

    def kept() -> list[int]:
        return [int(scene.state.kept.sum()) for scene in state.scenes]

    assert state.hide(below((10, 20))) == 30 and state.hide(below((10, 25))) == 5
    assert state.hide(below((0, 0))) == 0 and kept() == [290, 275]
    assert state.undo() and kept() == [290, 280]
    state.show_one("a")
    assert state.undo() and kept() == [300, 280] and not state.undo()
    state.show_one("b")
    assert state.undo() and kept() == [300, 300] and not state.undo()


@pytest.mark.parametrize("second", [True, False])
def test_scenes_for_antialiased_rendering(clouds: list[Gaussians], second: bool) -> None:
    """They are rendered so, unless another visible scene is not for that."""
    clouds = [cloud.cut_sh(0) for cloud in clouds]
    thin = [replace(cloud, scales=0.05 * cloud.scales) for cloud in clouds]
    scenes = [
        ViewerScene("a", thin[0], antialiased=True),
        ViewerScene("b", thin[1], antialiased=second),
    ]
    camera = look_at_cameras(1, 120, 100, torch.float32)
    wanted, plain = (
        rasterize(Gaussians.cat(thin), camera, settings=RasterizeSettings(antialiased=each)).rgb[0]
        for each in (second, False)
    )
    assert psnr(ViewerState(scenes).rendered(camera), wanted.clamp(0, 1)) > 60
    assert not second or psnr(wanted, plain) < 40


def test_photos_choose_the_start_view(photos: Photos, clouds: list[Gaussians]) -> None:
    scenes = [ViewerScene("a", cloud) for cloud in clouds]
    state = ViewerState(scenes, photos)
    assert state.start.camera in range(len(photos))
    assert all(len(scene.contribution_cameras) == len(photos) for scene in scenes)
    empty = ViewerState(scenes, Photos(replace(photos.capture, frames=())))
    assert empty.photos is None and empty.start.camera is None
