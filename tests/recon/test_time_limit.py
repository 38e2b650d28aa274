"""A granted time: it is shared out between the stages, by a clock that the test moves."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import recon
import recon.fusion.predict
import recon.time_limit
from recon.capture import load_capture, load_views
from recon.cli.arguments import UsageError
from recon.cli.main import main
from recon.cli.options import ReconstructOptions, parse_time
from recon.config import FusionConfig, OptimiseConfig, ReconstructConfig, ViewConfig
from recon.errors import ConfigError, ReconWarning
from recon.fusion.predict import predict_fused
from recon.model.registry import build_model
from recon.optimisation.view_count_policy import POLICY
from recon.pipeline import reconstruct
from recon.scene import Scene
from recon.time_limit import TimeLimit
from recon.types import Model, Prediction, Progress, Views
from render import Cameras


@dataclass
class Clock:
    """A clock that only the test moves."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (recon.time_limit, recon.fusion.predict):
        monkeypatch.setattr(module, "time", clock)
    return clock


def test_what_is_left(clock: Clock) -> None:
    limit = TimeLimit(10.0)
    clock.now = 4.0
    assert limit.left == 6.0
    clock.now = 11.0
    assert limit.left == 0.0 and TimeLimit().left is None


@pytest.mark.parametrize(
    ("spent", "before", "steps", "told"),
    [
        (21.3, 20.9, 0, "photos and depth took 21 s, and nothing was optimised; grant more"),
        (10.0, 8.2, 4, "took 8.2 s, and 4 steps of the optimisation 1.8 s; grant more"),
        (12.1, 3.0, 60, "took 3 s, and 60 steps of the optimisation 9.1 s; grant more"),
        (12.1, 12.0, None, "10 s were too short: the run took 12 s; grant more"),
        (11.9, 3.0, 60, None),
        (10.0, 8.2, 5, None),
        (10.0, 9.0, None, None),
    ],
)
def test_a_time_that_is_too_short_is_told(
    clock: Clock, spent: float, before: float, steps: int | None, told: str | None
) -> None:
    limit, clock.now = TimeLimit(10.0), spent
    with warnings.catch_warnings(record=True) as found:
        limit.warn_if_short(before, steps, is_cut=spent >= 10)
    texts = [str(warning.message) for warning in found]
    assert [text.startswith("10 s were too short: ") for text in texts] == [True] * (
        told is not None
    )
    assert told is None or texts[0].endswith(told)
    TimeLimit().warn_if_short(before, steps)


def test_few_steps_are_no_matter_if_the_time_did_not_cut_them(clock: Clock) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        TimeLimit(10.0).warn_if_short(1.0, 2)


def timed(clock: Clock) -> Model:
    """Return a model that takes ten seconds at 32 px, and 3.5 at half of that."""
    model = build_model("constant-depth")

    def slow(views: Views, progress: Progress) -> Prediction:
        clock.now += 10 * (views.cameras.width / 32) ** 1.5
        return model(views, progress)

    return slow


@pytest.mark.parametrize(
    "seconds, count, side", [(100.0, 8, 32), (30.0, 8, 24), (12.0, 4, 16), (1.0, 2, 16)]
)
def test_less_time_gives_smaller_depth_maps_and_then_fewer(
    sample: Path, clock: Clock, seconds: float, count: int, side: int
) -> None:
    views = load_views(load_capture(sample), 32)
    config = FusionConfig(min_views=3, group_size=2)
    found = predict_fused(views, timed(clock), config, lambda done: None, seconds)
    assert found.geometry_views is not None and len(found.geometry_views) == count
    assert found.depth.shape[-1] == side
    assert clock.now <= max(seconds, 7.1)


@pytest.mark.parametrize(
    "seconds, count, side", [(100.0, 20, 32), (50.0, 18, 32), (36.0, 12, 32), (30.0, 12, 29)]
)
def test_many_depth_maps_become_fewer_before_they_become_smaller(
    clock: Clock, seconds: float, count: int, side: int
) -> None:
    cameras = Cameras.from_fov(torch.eye(4).repeat(20, 1, 1), 60.0, 32, 24)
    cameras.viewmats[:, 0, 3] = torch.arange(20.0)
    views = recon.load_views(torch.rand(20, 3, 24, 32), cameras=cameras)
    found = predict_fused(views, timed(clock), FusionConfig(), lambda done: None, seconds)
    assert found.geometry_views is not None and len(found.geometry_views) == count
    assert found.depth.shape[-1] == side


def test_a_short_time_still_gives_a_scene(sample: Path) -> None:
    config = ReconstructConfig(
        views=ViewConfig(max_views=5, resolution=32),
        model="constant-depth",
        optimise=OptimiseConfig(steps=1),
        seconds=1e-3,
    )
    with pytest.warns(ReconWarning, match="0.001 s were too short: .* nothing was optimised"):
        scene = reconstruct(sample, config)
    assert len(scene) > 0 and scene.geometry_views is not None


def test_the_command_tells_a_time_that_was_too_short(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--model constant-depth --max-views 2 --resolution 32 --time 0.1s --json"
    main([str(sample), "-o", str(tmp_path / "s.ply"), *options.split()])
    out, err = capsys.readouterr()
    assert "warning: 0.1 s were too short: cameras, photos and depth took" in err
    assert any("nothing was optimised" in text for text in json.loads(out)["warnings"])


def test_a_slow_writing_is_told(
    sample: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = TimeLimit(60.0)
    monkeypatch.setattr("recon.cli.reconstruct.TimeLimit", lambda *_: limit)
    save = Scene.save

    def slow(scene: Scene, path: Path) -> None:
        save(scene, path)
        object.__setattr__(limit, "started", limit.started - 70)

    monkeypatch.setattr(Scene, "save", slow)
    options = "--model constant-depth --max-views 2 --resolution 32 --refine 0 --time 60s"
    main([str(sample), "-o", str(tmp_path / "s.ply"), *options.split()])
    assert "60 s were too short: writing" in (err := capsys.readouterr().err)
    assert err.count("too short") == 1


def test_a_long_time_is_used_as_far_as_it_helps() -> None:
    for count in (2, 40):
        usual = OptimiseConfig().for_num_views(count)
        granted = OptimiseConfig().for_time(60.0, count)
        assert granted.seconds == 60.0
        assert granted.steps == POLICY.max_steps(usual.steps, count) > 2 * usual.steps


@pytest.mark.parametrize("text, seconds", [("40s", 40), ("3m", 180), ("1.5h", 5400)])
def test_times_of_the_command_line(text: str, seconds: float) -> None:
    assert parse_time("--time", text) == seconds
    assert ReconstructOptions(time=text).config().seconds == seconds


@pytest.mark.parametrize("text", ["40", "s", "-3m", "3 m", "1e3s", "2d", ""])
def test_what_is_not_a_time(text: str) -> None:
    with pytest.raises(UsageError, match="--time: expected a time such as 40s, 3m or 1h, found"):
        parse_time("--time", text)


def test_a_time_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="seconds must be above 0"):
        ReconstructConfig(seconds=0.0)
    with pytest.raises(ConfigError, match="seconds and optimise.seconds exclude each other"):
        ReconstructConfig(seconds=60.0, optimise=OptimiseConfig.for_seconds(20.0))


def test_qualities_differ_in_effort() -> None:
    draft, standard, high = (
        ReconstructOptions(quality=name).config() for name in ("draft", "standard", "high")
    )
    assert standard == ReconstructConfig()
    assert draft.optimise.steps < standard.optimise.steps < high.optimise.steps
    assert draft.fusion.max_views < standard.fusion.max_views < high.fusion.max_views
    own = ReconstructOptions(quality="draft", refine="7", max_gaussians=99).config()
    assert own.optimise.steps == 7 and own.simplify.limit(4096) == 99
