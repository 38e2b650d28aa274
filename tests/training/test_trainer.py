"""The training loop: learning, resumption, several processes, the command line."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file

from recon.cli.main import main
from recon.errors import ReconError
from recon.formats import load_gaussians
from recon.model.layers import precision
from recon.model.registry import load_checkpoint
from training.batches import make_batch
from training.boards import TENSORBOARD, WANDB, TensorBoard
from training.campaign.recipe import read_recipe
from training.config import (
    CurriculumConfig,
    DatasetConfig,
    OptimiserConfig,
    TrainConfig,
    network_config,
    read_config,
)
from training.data.types import Batch, SampleRequest, TrainingSample
from training.evaluation.suite import read_suite
from training.metrics_logger import METRICS, MetricsLogger
from training.run_folder import STATE, VALIDATION_IMAGES, WEIGHTS
from training.sources import Mixture, build_source
from training.trainer import Trainer, learning_rate

TINY = [
    "network=gs-lrm", "size=tiny", "dataset.width=24", "dataset.height=16", "dataset.context=[2,3]",
    "dataset.batch=2", "optimiser.steps=8", "optimiser.warmup=2", "save_every=2", "log_every=1",
    "validate_every=0",
]  # fmt: skip


def tiny(out: Path, *more: str) -> TrainConfig:
    return read_config(None, [*TINY, f"out={out}", *more])


@pytest.fixture(scope="module")
def source() -> Mixture:
    return build_source(DatasetConfig(), 0, "cpu")


def same_state(one: Path, two: Path) -> bool:
    a, b = load_file(one / STATE), load_file(two / STATE)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    Trainer(tiny(tmp_path / "whole")).train()
    Trainer(tiny(tmp_path / "parts")).train(until=3)
    for until in (5, None):
        again = Trainer(tiny(tmp_path / "parts"))
        again.resume()
        again.train(until)
    assert again.step == 8
    assert same_state(tmp_path / "whole", tmp_path / "parts")
    steps = [json.loads(row)["step"] for row in (tmp_path / "parts" / METRICS).open()]
    assert steps == list(range(1, 9))


@pytest.mark.slow
def test_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    """SIGKILL at any moment leaves a whole state behind."""
    command = [sys.executable, "-m", "recon", "train", "--quiet", *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, f"out={whole}"], check=True, env=environment)
    running = subprocess.Popen([*command, f"out={killed}"], env=environment)
    while not (killed / STATE).exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    subprocess.run([*command, f"out={killed}", "--resume"], check=True, env=environment)
    assert same_state(whole, killed)


def test_sigterm_saves_and_exits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """After the step in which it comes, as clusters send it before they take a machine away."""
    step = Trainer._train_step

    def terminated(self: Trainer, batches: Iterator[Batch]) -> dict[str, float]:
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batches)

    monkeypatch.setattr(Trainer, "_train_step", terminated)
    words = ["train", "--quiet", *TINY, "save_every=100", f"out={tmp_path / 'run'}"]
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 143
    assert capsys.readouterr().out.endswith("step 3 of 8; terminated, continue with --resume\n")
    monkeypatch.undo()
    main([*words, "--resume"])
    Trainer(tiny(tmp_path / "whole")).train()
    assert same_state(tmp_path / "run", tmp_path / "whole")


def test_training_learns(tmp_path: Path, source: Mixture) -> None:
    """The loss on scenes that are never trained on falls."""
    trainer = Trainer(tiny(tmp_path, "optimiser.steps=80", "optimiser.lr=1e-3", "save_every=80"))
    other = replace(trainer.config, seed=99)
    unseen = [make_batch(other, source, step) for step in range(12)]

    def unseen_loss() -> float:
        with torch.no_grad():
            return sum(float(trainer.batch_losses(batch)["total"]) for batch in unseen)

    before = unseen_loss()
    trainer.train()
    assert unseen_loss() < 0.85 * before


def test_batches_depend_on_seed_and_step_alone(source: Mixture) -> None:
    config = TrainConfig(dataset=DatasetConfig(16, 16, (2, 4), 1, 4))
    batches = [make_batch(config, source, step) for step in range(6)]
    again = make_batch(config, source, 3)
    assert torch.equal(batches[3].images, again.images)
    assert len({b.context.images.shape[1] for b in batches}) > 1
    halves = [make_batch(config, source, 3, (rank, 2)) for rank in range(2)]
    mixed = torch.stack([halves[i % 2].images[i // 2] for i in range(4)])
    assert torch.equal(mixed, again.images)
    other = make_batch(replace(config, seed=1), source, 3)
    assert other.images.shape != again.images.shape or not torch.equal(other.images, again.images)


def test_the_depth_range_is_jittered_and_contains_all_depths(source: Mixture) -> None:
    """At inference the range is estimated, so training must not give the exact one."""
    exact = TrainConfig(dataset=DatasetConfig(16, 16, (2, 2), 1, 1, slack=0.0))
    loose = replace(exact, dataset=replace(exact.dataset, slack=0.4))
    ratios = []
    for step in range(30):
        true, given = (make_batch(config, source, step) for config in (exact, loose))
        ratios.append(float(given.context.far[0, 0] / true.context.far[0, 0]))
        near, far = given.context.near[0, 0], given.context.far[0, 0]
        assert bool((given.depth >= near * 0.9999).all() and (given.depth <= far * 1.0001).all())
        assert torch.equal(true.images, given.images)
    assert 0.9 <= min(ratios) < 1 < 1.3 < max(ratios) <= 1.5


def test_curriculum_goes_from_easy_to_configured(source: Mixture) -> None:
    data = DatasetConfig(64, 48, (2, 6), 1, 1)
    config = TrainConfig(dataset=data, curriculum=CurriculumConfig(100, 2, 0.25, 0.5))
    plain = TrainConfig(dataset=data)
    early = [make_batch(config, source, step) for step in range(4)]
    assert {b.images.shape[-2:] for b in early} == {(32, 32)}
    assert {b.context.images.shape[1] for b in early} == {2}
    later = [make_batch(config, source, step) for step in range(100, 112)]
    assert {b.images.shape[-2:] for b in later} == {(48, 64)}
    assert max(b.context.images.shape[1] for b in later) > 4
    assert torch.equal(later[0].images, make_batch(plain, source, 100).images)

    def spread(config: TrainConfig) -> float:
        """Sum over scenes of the largest angle between two views."""
        data = replace(config.dataset, context=(4, 4))
        axes = [
            make_batch(replace(config, dataset=data), source, step).cameras.viewmats[0, :, 2, :3]
            for step in range(12)
        ]
        return sum(float(torch.arccos((a @ a.T).clamp(-1, 1)).amax()) for a in axes)

    assert spread(config) < 0.6 * spread(plain)


def test_accumulated_parts_make_the_same_step(tmp_path: Path) -> None:
    """One scene after the other or both at once: the same weights up to rounding."""
    Trainer(tiny(tmp_path / "one")).train()
    Trainer(tiny(tmp_path / "two", "optimiser.accumulate=2")).train()
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("one", "two"))
    for key, value in one.items():
        assert float((value - two[key]).abs().max()) < 2e-3, key
        assert float((value - two[key]).abs().mean()) < 2e-5, key
    with pytest.raises(ReconError, match="dataset.batch is 2, expected a multiple of 3"):
        Trainer(tiny(tmp_path, "optimiser.accumulate=3"))


def test_random_draws_are_resumed_too(tmp_path: Path) -> None:
    """`epipolar` draws depths while it trains."""
    options = ("network=epipolar", "optimiser.steps=3")
    Trainer(tiny(tmp_path / "whole", *options)).train()
    Trainer(tiny(tmp_path / "parts", *options)).train(until=2)
    torch.manual_seed(123)
    again = Trainer(tiny(tmp_path / "parts", *options))
    again.resume()
    again.train()
    assert same_state(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_compiled_blocks_are_trained_alike(tmp_path: Path) -> None:
    """In processes of their own: torch cannot compile the checks of shapes in the tests."""
    command = [sys.executable, "-m", "recon", "train", "--quiet", *TINY, "optimiser.steps=4"]
    for name in ("false", "true"):
        words = [*command, "changes={layers: 1}", f"compile={name}", f"out={tmp_path / name}"]
        subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    rows = [
        [json.loads(row)["total"] for row in (tmp_path / name / METRICS).open()]
        for name in ("false", "true")
    ]
    assert rows[0] == pytest.approx(rows[1], rel=1e-4)
    plain, compiled = (load_file(tmp_path / name / WEIGHTS) for name in ("false", "true"))
    assert plain.keys() == compiled.keys()


def test_a_run_starts_from_given_weights(tmp_path: Path) -> None:
    Trainer(tiny(tmp_path / "first")).train(until=2)
    weights = tmp_path / "first" / WEIGHTS
    second = Trainer(tiny(tmp_path / "second", f"init={weights}"))
    for key, value in load_file(weights).items():
        assert torch.equal(second.network.state_dict()[key], value)
    with pytest.raises(ReconError, match="holds a gs-lrm whose shape differs from cost-vol"):
        Trainer(tiny(tmp_path / "third", f"init={weights}", "network=cost-volume"))


def test_new_inputs_of_a_network_start_without_effect(tmp_path: Path, source: Mixture) -> None:
    """Its predictions are those of the checkpoint, which also lacks a part and has another one."""
    smaller = "changes={evidence: false, feedback_rounds: 1, carry: false}"
    first = Trainer(tiny(tmp_path / "first", "network=cost-volume", smaller))
    first.train(until=1)
    larger = "changes={evidence: true, feedback_rounds: 0, carry: true}"
    init = f"init={tmp_path / 'first' / WEIGHTS}"
    second = Trainer(tiny(tmp_path / "second", "network=cost-volume", larger, init))
    old = load_checkpoint(tmp_path / "first" / WEIGHTS).network
    old.config = replace(old.config, feedback_rounds=0)
    context = make_batch(second.config, source, 0).context
    with torch.no_grad():
        outputs = [network(context) for network in (old, second.network)]
    assert torch.equal(outputs[0].depth, outputs[1].depth)
    assert torch.equal(outputs[0].gaussians.scales, outputs[1].gaussians.scales)


def test_a_part_of_the_network_is_trained_alone(tmp_path: Path) -> None:
    config = tiny(tmp_path, "network=cost-volume", "optimiser.only=decoder", "optimiser.steps=2")
    trainer = Trainer(config)
    before = {name: value.clone() for name, value in trainer.network.state_dict().items()}
    trainer.train()
    moved = {n for n, v in trainer.network.state_dict().items() if not torch.equal(v, before[n])}
    assert moved and all(name.startswith("decoder.") for name in moved)
    again = Trainer(config)
    again.resume()
    with pytest.raises(ReconError, match=r"no parameter starts with 'nose'; parts: .*decoder"):
        Trainer(replace(config, optimiser=replace(config.optimiser, only="nose")))


def test_a_run_logs_metrics_and_images(tmp_path: Path) -> None:
    """Lines, metrics, tensorboard and images; validation does not change the weights."""
    lines: list[str] = []
    options = ("validate_every=4", "validation_scenes=2", "log_every=4", "loss.opacity=0.01")
    Trainer(tiny(tmp_path / "shown", *options), report=lines.append).train()
    Trainer(tiny(tmp_path / "quiet", "loss.opacity=0.01", "tensorboard=false")).train()
    one, two = (load_file(tmp_path / name / WEIGHTS) for name in ("shown", "quiet"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    said = [line for line in lines if line.startswith("step ")]
    assert len(said) == 2 and all("samples/s" in line and " left" in line for line in said)
    assert sum(line.startswith("validation at step") for line in lines) == 2
    rows = [json.loads(row) for row in (tmp_path / "shown" / METRICS).open()]
    assert {"mse", "depth", "opacity", "total", "lr", "samples_per_s"} < set(rows[0])
    # Three times the forward pass's operations, of those that matrix products do in the time.
    assert all(0 < row["mfu"] < 1 for row in rows) and "  MFU " in said[0]
    files = sorted((tmp_path / "shown" / VALIDATION_IMAGES).iterdir())
    assert [p.name for p in files] == ["step_000004.png", "step_000008.png"]
    with Image.open(files[1]) as image:
        assert image.size == (6 * 24, 2 * 16)  # photo, disparity, two targets twice
    assert list((tmp_path / "shown" / TENSORBOARD).glob("events*"))
    assert not (tmp_path / "quiet" / TENSORBOARD).exists()


def test_weights_and_biases_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    options = ("wandb=true", "tensorboard=false", "optimiser.steps=2", "validate_every=2")
    Trainer(tiny(tmp_path / "run", *options, "validation_scenes=1")).train()
    (record,) = (tmp_path / "run" / WANDB).glob("offline-run-*/*.wandb")
    assert record.stat().st_size > 0
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ReconError, match=r"wandb=true: .*; pip install 'reconsplat\[wandb\]'"):
        Trainer(tiny(tmp_path / "other", *options))


def test_metrics_on_a_full_disk_are_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracebacks: list[object] = []
    monkeypatch.setattr(threading, "excepthook", tracebacks.append)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ReconError, match=r"cannot write .*tensorboard: File too large"):
            logger = MetricsLogger(tmp_path, print, [TensorBoard(tmp_path)])
            logger.image("noise", torch.rand(3, 64, 64), 1)
        with pytest.raises(ReconError, match=r"cannot write .*metrics.jsonl: File too large"):
            logger = MetricsLogger(tmp_path, print)
            for step in range(20):
                logger.add({"total": 1.0})
                logger.write(step, 20, 1, 0.1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not tracebacks
    # No line is cut.
    rows = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert len(rows) > 1


def test_lines_of_steps_that_are_taken_again_are_removed(tmp_path: Path) -> None:
    """Those after the last save of a run that was killed, which may have cut the last one."""
    Trainer(tiny(tmp_path)).train(until=2)
    with (tmp_path / METRICS).open("a") as file:
        file.write('{"step": 3, "total": 1.0}\n{"ste')
    again = Trainer(tiny(tmp_path))
    again.resume()
    again.train(until=4)
    steps = [json.loads(row)["step"] for row in (tmp_path / METRICS).open()]
    assert steps == [1, 2, 3, 4]


class FailsLater:
    """Noise, until a step; or no scene for validation."""

    def __init__(self, source: Mixture, last: int, validates: bool = True) -> None:
        self.source, self.last, self.validates = source, last, validates

    def sample(self, request: SampleRequest) -> TrainingSample:
        if request.held_out and not self.validates:
            raise ReconError("no scene for validation")
        if request.step > self.last:
            raise ReconError("no more scenes")
        return self.source.sample(request)


def test_an_error_loses_no_step(
    tmp_path: Path, source: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the scenes or of a validation, between two saves."""
    options = ("save_every=100", "save_minutes=100", "validation_scenes=1", "tensorboard=false")
    with pytest.raises(ReconError, match="no more scenes"):
        Trainer(tiny(tmp_path / "one", *options), FailsLater(source, 2)).train()
    again = Trainer(tiny(tmp_path / "one", *options))
    again.resume()
    assert again.step == 3

    def full(*arguments: object) -> None:
        raise ReconError("no room for the image")

    monkeypatch.setattr("training.trainer.write_image", full)
    with pytest.raises(ReconError, match="no room for the image"):
        Trainer(tiny(tmp_path / "two", *options, "validate_every=2"), source).train()
    again = Trainer(tiny(tmp_path / "two", *options))
    again.resume()
    assert again.step == 2


def test_scenes_for_validation_are_made_before_the_training(
    tmp_path: Path, source: Mixture
) -> None:
    """And an error of them, or of the first batch, leaves no folder."""
    out = tmp_path / "runs" / "one"
    wanting = FailsLater(source, 8, validates=False)
    with pytest.raises(ReconError, match="no scene for validation"):
        Trainer(tiny(out, "validate_every=4"), wanting).train()
    with pytest.raises(ReconError, match="no more scenes"):
        Trainer(tiny(out), FailsLater(source, -1)).train()
    assert not out.parent.exists()


def test_schedule() -> None:
    config = OptimiserConfig(steps=100, lr=1.0, warmup=10)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0)
    assert rates.index(max(rates)) in (9, 10) and rates[-1] < 1e-3


def test_command_line_from_start_to_scene(
    tmp_path: Path, sample: Path, capsys: pytest.CaptureFixture
) -> None:
    out, scene = tmp_path / "run", tmp_path / "scene.ply"
    config = tmp_path / "x.yaml"
    config.write_text(
        f"out: {out}\nnetwork: gs_lrm\nsize: tiny\noptimiser: {{steps: 3, warmup: 1}}\n"
    )
    options = ["dataset.width=16", "dataset.height=16", "validate_every=0"]
    main(["train", "--config", str(config), *options, "--until", "2"])
    assert "step 2/2" in capsys.readouterr().out
    main(["train", "--config", str(config), *options, "--resume"])
    assert "step 3 of 3" in capsys.readouterr().out
    model = ["--model", str(out / WEIGHTS), "--resolution", "48", "--max-views", "2", "--refine=0"]
    main([str(sample), "-o", str(scene), "--quiet", *model])
    assert len(load_gaussians(scene)) == 2 * 48 * 36
    before = (out / WEIGHTS).stat().st_mtime_ns
    for words in ([], ["--until", "2"]):
        main(["train", "--config", str(config), *options, "--resume", *words])
        assert capsys.readouterr().out.endswith(f"unchanged: {out / WEIGHTS}: step 3 of 3\n")
    assert (out / WEIGHTS).stat().st_mtime_ns == before
    for until in ("0", "-3"):
        with pytest.raises(SystemExit) as end:
            main(["train", *options, f"out={tmp_path / 'new'}", "--until", until])
        assert end.value.code == 2 and not (tmp_path / "new").exists()
        assert f"--until must be at least 1, found {until}" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--config", str(config), *options])
    assert "already contains a run; pass --resume" in capsys.readouterr().err


def test_wrong_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="command line: unknown key optimiser.lrr; did you mean"):
        tiny(tmp_path, "optimiser.lrr=1")
    with pytest.raises(ReconError, match="parallel must be one of ddp, fsdp, found 'zero'"):
        tiny(tmp_path, "parallel=zero")
    with pytest.raises(ReconError, match="wandb must be true or false, found 'maybe'"):
        tiny(tmp_path, "wandb=maybe")
    with pytest.raises(ReconError, match="expected key=value"):
        tiny(tmp_path, "lr")
    with pytest.raises(ReconError, match="unknown network 'nerf'; expected one of: cost-volume"):
        Trainer(tiny(tmp_path, "network=nerf"))
    with pytest.raises(ReconError, match="gs-lrm has no size 'huge'"):
        Trainer(tiny(tmp_path, "size=huge"))
    with pytest.raises(ReconError, match="changes: unknown key widht; did you mean width"):
        Trainer(tiny(tmp_path, "changes={widht: 3}"))
    with pytest.raises(ReconError, match="nothing to resume"):
        Trainer(tiny(tmp_path)).resume()
    Trainer(tiny(tmp_path)).train(until=2)
    with pytest.raises(ReconError, match="cannot resume .*: seed was 0, now 1"):
        Trainer(tiny(tmp_path, "seed=1")).resume()
    for words, message in (
        (["optimiser.lr=1e-5"], "optimiser.lr was 0.0004, now 1e-05; set optimiser.lr=0.0004, or"),
        (["network=long-lrm"], "network was gs-lrm, now long-lrm; set network=gs-lrm, or"),
        (["changes.layers=2"], "changes.layers was not set, now 2; leave it out, or start a new"),
    ):
        with pytest.raises(ReconError, match=rf"cannot resume .*: {message}"):
            Trainer(tiny(tmp_path, *words)).resume()
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:500])
    with pytest.raises(ReconError, match="cannot resume from .* damaged: put an intact"):
        Trainer(tiny(tmp_path)).resume()


def test_steps_without_finite_gradients_are_skipped_and_end_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    trainer = Trainer(tiny(tmp_path), report=said.append)
    plain = trainer.accelerator.unwrap_model(trainer.network)
    before = [p.detach().clone() for p in plain.parameters()]
    honest = Trainer.batch_losses

    def broken(self: Trainer, batch: Batch) -> dict[str, torch.Tensor]:
        return {name: value * torch.nan for name, value in honest(self, batch).items()}

    monkeypatch.setattr(Trainer, "batch_losses", broken)
    monkeypatch.setattr("training.trainer.MAX_SKIPPED_STEPS", 3)
    trainer.train(until=2)
    assert all(torch.equal(a, b) for a, b in zip(before, plain.parameters(), strict=True))
    assert sum("step skipped" in line for line in said) == 2
    with pytest.raises(ReconError, match="3 steps in a row had gradients that are not finite"):
        trainer.train(until=3)
    trainer.skipped = 1
    monkeypatch.setattr(Trainer, "batch_losses", honest)
    trainer.train(until=4)
    assert trainer.skipped == 0
    assert not all(torch.equal(a, b) for a, b in zip(before, plain.parameters(), strict=True))


def test_emulated_bf16_becomes_fp32(
    tmp_path: Path, source: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert precision.usable_precision("fp32", "cpu") == "fp32"
    monkeypatch.setattr(precision, "has_bf16", lambda device: True)
    assert precision.usable_precision("bf16", "cpu") == "bf16"
    monkeypatch.setattr(precision, "has_bf16", lambda device: False)
    lines: list[str] = []
    trainer = Trainer(tiny(tmp_path, "precision=bf16"), source, report=lines.append)
    assert trainer.accelerator.mixed_precision == "no"
    assert "bf16 is emulated on this processor, and slow: training in fp32" in lines
