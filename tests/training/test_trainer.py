"""The training loop: it learns, stops and goes on, alone and in company."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from recon.cli import main
from recon.errors import ReconError
from recon.formats import load_gaussians
from training.batches import make_batch
from training.config import DataConfig, OptimiserConfig, TrainConfig, read_config
from training.data.procedural import ProceduralConfig
from training.data.procedural.bank import TextureBank, make_bank
from training.trainer import METRICS, STATE, WEIGHTS, Trainer, learning_rate

TINY = [
    "size=tiny", "data.procedural.width=24", "data.procedural.height=16", "data.context=[2,3]",
    "data.batch=2", "optimiser.steps=8", "optimiser.warmup=2", "save_every=2", "log_every=1",
]  # fmt: skip


def tiny(out: Path, *more: str) -> TrainConfig:
    return read_config(None, [*TINY, f"out={out}", *more])


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return make_bank()


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
    command = [sys.executable, "-m", "recon.cli", "train", "--quiet", *TINY]
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


TWO = """
import sys
from pathlib import Path
from training.config import read_config
from training.trainer import Trainer
Trainer(read_config(None, sys.argv[1:])).train()
"""


@pytest.mark.slow
def test_two_processes_take_the_same_steps(tmp_path: Path) -> None:
    """Two processes with half the batch each: the same weights up to rounding."""
    Trainer(tiny(tmp_path / "one")).train()
    processes = []
    for rank in range(2):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        arguments = [sys.executable, "-c", TWO, *TINY, f"out={tmp_path / 'two'}"]
        processes.append(subprocess.Popen(arguments, env=environment))
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    one, two = load_file(tmp_path / "one" / WEIGHTS), load_file(tmp_path / "two" / WEIGHTS)
    for key, value in one.items():
        # Adam turns rounding of tiny gradients into steps of the learning rate's size.
        assert float((value - two[key]).abs().max()) < 2e-3, key
        assert float((value - two[key]).abs().mean()) < 2e-5, key


def test_training_learns(tmp_path: Path, bank: TextureBank) -> None:
    """Scenes never trained on are shown better afterwards."""
    trainer = Trainer(tiny(tmp_path, "optimiser.steps=80", "optimiser.lr=1e-3", "save_every=80"))
    unseen = [make_batch(trainer.config.data, bank, 99, step) for step in range(12)]

    def judge() -> float:
        with torch.no_grad():
            return sum(float(trainer._losses(batch)["total"]) for batch in unseen)

    before = judge()
    trainer.train()
    assert judge() < 0.85 * before


def test_batches_depend_on_seed_and_step_alone(bank: TextureBank) -> None:
    data = DataConfig(ProceduralConfig(width=16, height=16), (2, 4), 1, 4)
    batches = [make_batch(data, bank, 0, step) for step in range(6)]
    again = make_batch(data, bank, 0, 3)
    assert torch.equal(batches[3].images, again.images)
    assert len({b.context.images.shape[1] for b in batches}) > 1
    halves = [make_batch(data, bank, 0, 3, (rank, 2)) for rank in range(2)]
    mixed = torch.stack([halves[i % 2].images[i // 2] for i in range(4)])
    assert torch.equal(mixed, again.images)
    other = make_batch(data, bank, 1, 3)
    assert other.images.shape != again.images.shape or not torch.equal(other.images, again.images)


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
    config.write_text(f"out: {out}\nsize: tiny\noptimiser: {{steps: 3, warmup: 1}}\n")
    options = ["data.procedural.width=16", "data.procedural.height=16"]
    main(["train", "--config", str(config), *options, "--until", "2"])
    assert "step 2/2" in capsys.readouterr().out
    main(["train", "--config", str(config), *options, "--resume"])
    assert "step 3 of 3" in capsys.readouterr().out
    model = ["--model", str(out / WEIGHTS), "--resolution", "48", "--max-views", "2"]
    main([str(sample), "-o", str(scene), "--quiet", *model])
    assert len(load_gaussians(scene)) == 2 * 48 * 36
    with pytest.raises(SystemExit):
        main(["train", "--config", str(config), *options])
    assert "already holds a run; go on with --resume" in capsys.readouterr().err


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match="command line: unknown key optimiser.lrr; did you mean"):
        tiny(tmp_path, "optimiser.lrr=1")
    with pytest.raises(ReconError, match="expected key=value"):
        tiny(tmp_path, "lr")
    with pytest.raises(ReconError, match="unknown network 'nerf'; expected one of: gs_lrm"):
        Trainer(tiny(tmp_path, "network=nerf"))
    with pytest.raises(ReconError, match="gs_lrm has no size 'huge'"):
        Trainer(tiny(tmp_path, "size=huge"))
    with pytest.raises(ReconError, match="changes: unknown key widht; did you mean width"):
        Trainer(tiny(tmp_path, "changes={widht: 3}"))
    with pytest.raises(ReconError, match="nothing to resume"):
        Trainer(tiny(tmp_path)).resume()
    Trainer(tiny(tmp_path)).train(until=2)
    with pytest.raises(ReconError, match="cannot resume .*: seed was 0, now 1"):
        Trainer(tiny(tmp_path, "seed=1")).resume()
    (tmp_path / STATE).write_bytes((tmp_path / STATE).read_bytes()[:500])
    with pytest.raises(ReconError, match="cannot resume from"):
        Trainer(tiny(tmp_path)).resume()


def test_numbers_are_read_as_people_write_them(tmp_path: Path) -> None:
    config = tiny(tmp_path, "optimiser.lr=1e-4", "precision=bf16")
    assert config.optimiser.lr == 1e-4 and config.precision == "bf16"
    assert replace(config, precision="fp32") != config
