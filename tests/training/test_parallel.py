"""Several processes: the same training, whole or sharded (FSDP2), each from the other's states."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from conftest import ROOT
from noise_scenes import NoiseScenes, noise_source
from safetensors.torch import load_file

from recon.errors import ReconError
from recon.model.registry import load_checkpoint
from training.config import read_config
from training.metrics_logger import METRICS
from training.parallel import check_distribution
from training.run_folder import STATE, WEIGHTS
from training.trainer import Trainer

STEPS = 50
OPTIONS = [
    "network=gs-lrm", "size=tiny", "changes={width: 32, layers: 2, heads: 2, recompute: true}",
    "dataset.width=16", "dataset.height=16", "dataset.context=[2,3]", "dataset.targets=1",
    "dataset.batch=4", f"optimiser.steps={STEPS}", "optimiser.warmup=5", "optimiser.ema=0.9",
    "save_every=100", "log_every=1", "validate_every=25", "validation_scenes=1",
    "tensorboard=false", "device=cpu", "dataset.procedural.weight=0",
    "dataset.custom.noise.weight=1",
]  # fmt: skip
# Trains in two halves by each way, and with the second half by the other way.
SCRIPT = """
import os, shutil, sys
from pathlib import Path
import torch
from noise_scenes import NoiseScenes
from training.config import read_config
from training.sources import SOURCES
from training.run_folder import STATE
from training.trainer import Trainer

out, half, options = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
SOURCES["noise"] = lambda options, context: NoiseScenes()

def trainer(name, *more):
    return Trainer(read_config(None, [*options, f"out={out / name}", *more]))

def resumed(name, *more):
    again = trainer(name, *more)
    again.resume()
    again.train()

ways = {"ddp": "optimiser.accumulate=1", "fsdp": "parallel=fsdp", "parts": "optimiser.accumulate=2"}
for name, way in ways.items():
    first = trainer(name, way)
    first.train(half)
    if os.environ["RANK"] == "0" and name != "parts":
        shutil.copytree(out / name, out / f"{name}-then-other")
    if name == "fsdp":
        resumed(name, way)
    else:
        first.train()
resumed("ddp-then-other", "parallel=fsdp")
resumed("fsdp-then-other", "parallel=ddp")
sharded = trainer("parts-fsdp", "parallel=fsdp", ways["parts"])
held = sum(weight.to_local().numel() for weight in sharded.network.parameters())
whole = sum(weight.numel() for weight in sharded.network.parameters())
assert held < 0.55 * whole
sharded.train()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs that two processes have made."""
    out = tmp_path_factory.mktemp("runs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    processes = []
    for rank in range(2):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1", "PYTHONPATH": paths,
        }  # fmt: skip
        words = [sys.executable, "-c", SCRIPT, str(out), str(STEPS // 2), *OPTIONS]
        processes.append(subprocess.Popen(words, env=environment))
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    return out


def losses_of(run: Path) -> list[float]:
    return [json.loads(row)["total"] for row in (run / METRICS).open()]


def same(one: Path, two: Path) -> bool:
    a, b = load_file(one), load_file(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_two_processes_take_the_steps_of_one(runs: Path, tmp_path: Path) -> None:
    """Losses and weights to the bit: two parts one after the other, or at the same time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    Trainer(read_config(None, [*OPTIONS, f"out={tmp_path}", "optimiser.accumulate=2"])).train()
    torch.set_num_threads(threads)
    assert losses_of(tmp_path) == losses_of(runs / "ddp")
    assert len(set(losses_of(tmp_path))) == STEPS
    assert same(tmp_path / WEIGHTS, runs / "ddp" / WEIGHTS)


@pytest.mark.parametrize(
    ("name", "other"),
    [("fsdp", "ddp"), ("ddp-then-other", "ddp"), ("fsdp-then-other", "ddp"),
     ("parts-fsdp", "parts")],
)  # fmt: skip
def test_sharded_weights_are_trained_as_whole_ones(runs: Path, name: str, other: str) -> None:
    """Losses, weights, moments and averages, also where one goes on from the other's state."""
    assert losses_of(runs / name) == pytest.approx(losses_of(runs / other), rel=1e-4)
    one, two = load_file(runs / name / STATE), load_file(runs / other / STATE)
    assert one.keys() == two.keys()
    for key, value in two.items():
        scale = max(float(value.abs().max()), 1e-3)
        assert float((one[key] - value).abs().max()) < 1e-3 * scale, key


def test_averaged_weights_are_those_for_inference(runs: Path) -> None:
    state = load_file(runs / "fsdp" / STATE)
    network = load_checkpoint(runs / "fsdp" / WEIGHTS).network
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[f"averaged.{name}"]), name
        assert not torch.equal(value, state[f"network.{name}"])


def test_other_ways_to_shard_are_refused() -> None:
    check_distribution("MULTI_GPU")
    with pytest.raises(ReconError, match="distributed_type FSDP, which recon does not use; take"):
        check_distribution("FSDP")


@pytest.mark.parametrize(("name", "processes"), [("one_gpu", 1), ("eight_gpus", 8), ("nodes", 32)])
def test_configurations_of_accelerate_are_read(name: str, processes: int) -> None:
    """By accelerate itself, which refuses unknown keys."""
    config = load_config_from_file(str(ROOT / "configs" / "accelerate" / f"{name}.yaml"))
    assert config.num_processes == processes
    assert config.distributed_type == ("NO" if processes == 1 else "MULTI_GPU")


def test_exchange_goes_on_after_an_error(tmp_path: Path) -> None:
    class Sharded:
        exchanges = True

        def set_requires_gradient_sync(self, exchanges: bool) -> None:
            self.exchanges = exchanges

    trainer, network = Trainer.__new__(Trainer), Sharded()
    trainer.sharded, trainer.network = True, network
    with pytest.raises(KeyError), trainer._without_exchange():
        assert not network.exchanges
        raise KeyError
    assert network.exchanges
