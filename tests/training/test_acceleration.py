"""Scenes made in advance, growth of the batch, and what renders where."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from noise_scenes import NoiseScenes, noise_source

from recon.errors import ConfigError, ReconError
from render import RenderOutput, rasterize
from render.types import BackendUnavailable
from training.batches import make_batch
from training.campaign.batch_size import grow_batch, measure_speed, with_batch
from training.config import DatasetConfig, OptimiserConfig, TrainConfig, read_config
from training.data.types import SampleRequest, TrainingSample
from training.loader import _Batches, batches_ahead, make_parts
from training.rendering import choose_renderer, rendering_problem
from training.trainer import Trainer

CPU, OTHER = torch.device("cpu"), torch.device("meta")


def tiny(out: Path, *more: str) -> TrainConfig:
    return read_config(None, [
        "network=gs-lrm", "size=tiny", "dataset.width=24", "dataset.height=16",
        "dataset.context=[2,3]", "dataset.targets=1", "optimiser.steps=3", "optimiser.warmup=1",
        "validate_every=0", "tensorboard=false", "dataset.procedural.weight=0",
        "dataset.custom.noise.weight=1", f"out={out}", *more,
    ])  # fmt: skip


class Empty:
    """A source without scenes."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        raise ReconError(f"no scene for step {request.step}")


def test_scenes_made_in_advance_are_the_same(tmp_path: Path) -> None:
    config = tiny(tmp_path, "workers=1")
    source = NoiseScenes()
    shards = [(step, (part, 2)) for step in range(3) for part in range(2)]
    state = torch.random.get_rng_state()
    ahead = list(batches_ahead(config, source, shards, "cpu"))
    assert torch.equal(state, torch.random.get_rng_state())
    assert ahead == list(make_parts(config, source, shards, "cpu"))
    # Not raised in the process that makes it, where the message would become a traceback.
    assert str(_Batches(config, Empty(), shards)[2]) == "no scene for step 1"


def test_batch_grows_until_it_does_not_pay() -> None:
    def measure(limit: int, full: int) -> list[int]:
        tried: list[int] = []

        def speed(batch: int) -> float | None:
            tried.append(batch)
            return None if batch > limit else float(min(batch, full)) ** 0.9

        return [*tried, grow_batch(speed, 2)]

    assert measure(limit=40, full=1000)[-1] == 32
    assert measure(limit=1000, full=16)[-1] == 16
    assert measure(limit=1, full=16)[-1] == 2  # not even the first fits: training will say so


def test_speed_is_measured_without_a_change(tmp_path: Path) -> None:
    trainer = Trainer(tiny(tmp_path))
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    speed = measure_speed(trainer, 4)
    assert speed is not None and speed > 0
    after = trainer.network.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    trainer.batch_losses = lambda batch: _raise(torch.OutOfMemoryError("full"))  # type: ignore[method-assign]
    assert measure_speed(trainer, 4) is None


def _raise(error: Exception) -> dict[str, torch.Tensor]:
    raise error


def test_a_larger_batch_sees_as_many_scenes() -> None:
    config = TrainConfig(
        dataset=DatasetConfig(batch=2), optimiser=OptimiserConfig(1001, 1e-3, 100, ema=0.99)
    )
    large = with_batch(config, 8)
    assert large.dataset.batch == 8
    assert (large.optimiser.steps, large.optimiser.warmup) == (251, 25)
    assert large.optimiser.lr == pytest.approx(2e-3)
    assert math.log(large.optimiser.ema) == pytest.approx(4 * math.log(0.99))
    assert with_batch(config, 2) == config


def test_the_first_device_that_renders_is_used() -> None:
    said: list[str] = []
    assert choose_renderer(CPU, said.append) is rasterize and not said
    absent = {OTHER: "no gsplat"}
    elsewhere = choose_renderer(OTHER, said.append, absent.get)
    assert elsewhere is not None and elsewhere is not rasterize
    assert said == ["no rendering on meta: no gsplat"]
    nothing = {OTHER: "no gsplat", CPU: "no library"}
    assert choose_renderer(OTHER, said.append, nothing.get) is None
    assert said[-1] == "no rendering on cpu: no library"


@pytest.mark.parametrize("term", ["mse", "distortion", "leak"])
def test_all_terms_render_where_rendering_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, term: str
) -> None:
    """Gaussians elsewhere, as on a GPU that cannot render, never reach the rasterizer there."""
    elsewhere = choose_renderer(OTHER, lambda line: None, {OTHER: "no gsplat"}.get)
    assert elsewhere is not None
    calls: list[str] = []

    def counted(*arguments: Any, **options: Any) -> RenderOutput:
        calls.append(term)
        return elsewhere(*arguments, **options)

    def refuse(*arguments: Any, **options: Any) -> RenderOutput:
        raise BackendUnavailable("rendered where nothing can be")

    monkeypatch.setattr("training.losses.rasterize", refuse)
    config = tiny(tmp_path, f"loss.{term}=0.1")
    trainer = Trainer(config)
    trainer.renderer = counted
    losses = trainer.batch_losses(make_batch(config, NoiseScenes(), 0))
    losses["total"].backward()
    assert math.isfinite(float(losses[term].detach())) and len(calls) >= (
        2 if term == "distortion" else 1
    )


@pytest.mark.parametrize(
    "error", [BackendUnavailable("no gsplat"), RuntimeError("CUDA error: no kernel image\nmore")]
)
def test_a_broken_rasterizer_is_noticed(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    assert rendering_problem(CPU) is None
    monkeypatch.setattr("training.rendering.rasterize", lambda *a, **k: _raise(error))
    found = rendering_problem(CPU)
    assert found is not None and ("no gsplat" in found or "no kernel image" in found)
    assert "\n" not in found


def test_training_without_renders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth alone, and an error where not even that is a loss."""
    monkeypatch.setattr("training.trainer.choose_renderer", lambda device, report: None)
    lines: list[str] = []
    losses = Trainer(tiny(tmp_path / "a", "validate_every=1"), report=lines.append).train()
    assert set(losses) == {"depth", "total"} and math.isfinite(losses["total"])
    assert any("no renders" in line for line in lines) and "PSNR" not in lines[-1]
    with pytest.raises(ReconError, match="set loss.depth above 0"):
        Trainer(tiny(tmp_path / "b", "loss.depth=0")).train()


def test_wrong_numbers_are_named(tmp_path: Path) -> None:
    for assignment in ("dataset.width=-1", "optimiser.steps=-3", "dataset.batch=0", "workers=-1"):
        name = assignment.partition("=")[0]
        with pytest.raises(ConfigError, match=f"{name} must be at least"):
            Trainer(tiny(tmp_path, assignment))
    with pytest.raises(ConfigError, match=r"dataset.context must be .* found \[3, 2\]"):
        Trainer(tiny(tmp_path, "dataset.context=[3,2]"))
    with pytest.raises(ReconError, match="out: cannot create the folder .*null byte"):
        Trainer(replace(tiny(tmp_path), out=str(tmp_path / "a\0b"))).train()
    with pytest.raises(ReconError, match="out: cannot create the folder /proc/x"):
        Trainer(replace(tiny(tmp_path), out="/proc/x")).train()
