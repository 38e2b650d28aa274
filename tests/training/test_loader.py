"""Scenes made by other processes: the same training, how long it waits, and processes that end."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from re10k_files import frames_of, write_chunk

from recon.errors import ConfigError, ReconError
from training.benchmarks import data as bench
from training.benchmarks import waiting
from training.config import TrainConfig, read_config
from training.data.realestate10k import load_frames, open_clips
from training.data.shards import ShardsConfig
from training.data.types import SampleRequest, Skipped, TrainingSample
from training.loader import StepShards, _Batches, _Workers, batches_ahead, naming_ended_workers
from training.metrics_logger import METRICS
from training.run_folder import STATE, check_unchanged
from training.trainer import Trainer

STEPS = 4


@pytest.fixture(scope="module")
def chunks(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chunks")
    frames = frames_of(sample, 7, 64)
    for number in range(2):
        write_chunk(folder / f"{number:06d}.torch", {f"{number}{i}": frames for i in range(3)})
    return folder


def config_of(out: Path, chunks: Path, *more: str) -> TrainConfig:
    return read_config(None, [
        "network=gs-lrm", "size=tiny", "dataset.width=32", "dataset.height=24",
        "dataset.context=[2,3]", "dataset.targets=1", f"optimiser.steps={STEPS}",
        "optimiser.warmup=1", "validate_every=0", "tensorboard=false", "log_every=1",
        "dataset.procedural.weight=0", "dataset.realestate10k.weight=1",
        f"dataset.realestate10k.folder={chunks}", "dataset.realestate10k.gap=[3,6]",
        f"out={out}", *more,
    ])  # fmt: skip


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_workers(tmp_path: Path, chunks: Path) -> None:
    losses, lines = [], []
    for name, pieces in (("none", (0, 0)), ("some", (1, 4))):
        for workers, until in zip(pieces, (STEPS // 2, STEPS), strict=True):
            config = config_of(tmp_path / name, chunks, f"workers={workers}")
            trainer = Trainer(config, report=lines.append)
            if until == STEPS:
                trainer.resume()
            trainer.train(until)
        rows = [json.loads(row) for row in (Path(config.out) / METRICS).open()]
        losses.append([row["total"] for row in rows])
        # Without processes of their own, the scenes are made while the training waits.
        assert all((0 if workers else 0.001) < row["waiting"] <= 1 for row in rows)
    assert losses[0] == losses[1] and len(set(losses[0])) == STEPS
    steps = [line for line in lines if line.startswith("step ")]
    assert len(steps) == 2 * STEPS and all("  waiting " in line for line in steps)


def test_shards_of_steps_are_counted_without_a_list() -> None:
    shards = StepShards(range(5, 8), range(1, 4, 2), 4)
    assert list(shards) == [(step, (part, 4)) for step in (5, 6, 7) for part in (1, 3)]
    assert shards[-1] == (7, (3, 4)) and shards[4:] == [(7, (1, 4)), (7, (3, 4))]
    assert len(StepShards(range(10**9), range(2), 2)) == 2 * 10**9
    with pytest.raises(IndexError):
        shards[6]


class Killed:
    """A source whose process the system ends."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_process_that_is_killed_is_one_error(tmp_path: Path, chunks: Path) -> None:
    config = config_of(tmp_path, chunks, "workers=1")
    shards = StepShards(range(2), range(1), 1)
    with (
        pytest.raises(ReconError, match="makes scenes ended .*lower workers"),
        naming_ended_workers(),
    ):
        list(batches_ahead(config, Killed(), shards, "cpu"))
    (tmp_path / STATE).touch()
    for state, remedy in ((None, "start again"), (tmp_path / STATE, "continue with --resume")):
        with pytest.raises(ReconError, match=remedy), naming_ended_workers(state):
            raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed.")
    with pytest.raises(RuntimeError, match="other"), naming_ended_workers():
        raise RuntimeError("other")


# Options after the program; the training fails where they say.
FAILING = """
import os, sys
from recon.cli.main import main
from recon.errors import ReconError
from training.data.types import SampleRequest
from training.sources import SOURCES
from training.trainer import Trainer

class Fails:
    def __init__(self, where):
        self.where = where
        SOURCES["procedural"] = self.build
    def build(self, options, context):
        self.source = BUILD(options, context)
        return self
    def sample(self, request: SampleRequest):
        if self.where.isdecimal() and request.step == int(self.where):
            raise ReconError(f"no scene for step {request.step}")
        return self.source.sample(request)

BUILD = SOURCES["procedural"]
def fail(self, batch):
    raise ReconError("no losses")

if __name__ == "__main__":
    fails = Fails(sys.argv[1])
    if sys.argv[1] == "losses":
        Trainer.batch_losses = fail
    main(["train", *sys.argv[2:]])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "workers", "message"),
    [
        ("2", 2, "no scene for step 2"),
        ("losses", 1, "no losses"),
    ],
)
def test_an_error_ends_the_processes_that_make_scenes(
    where: str, workers: int, message: str, tmp_path: Path, chunks: Path
) -> None:
    """Of a batch, and of the training itself, while the next batch is made."""
    program = tmp_path / "fail.py"
    program.write_text(FAILING)
    words = [
        "network=gs-lrm", "size=tiny", "dataset.width=16", "dataset.height=16", "validate_every=0",
        "optimiser.steps=9", "tensorboard=false", f"workers={workers}", f"out={tmp_path / 'run'}",
    ]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, str(program), where, *words],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 2
    assert ended.stderr == f"recon: error: {message}\n"


@pytest.mark.slow
def test_a_cut_tar_file_ends_recon_train(tmp_path: Path) -> None:
    (tmp_path / "000000.tar").write_bytes(b"x" * 3000)
    words = [
        "dataset.procedural.weight=0", "dataset.shards.weight=1", "size=tiny", "network=gs-lrm",
        f"dataset.shards.folder={tmp_path}", "workers=2", "validate_every=0", "tensorboard=false",
        f"out={tmp_path / 'run'}",
    ]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-m", "recon", "train", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("recon: error: ") and "000000.tar" in line


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_all_processes_ends_the_training(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """A cluster's SIGTERM reaches those that make scenes too; they last until all is saved."""
    words = [
        "network=gs-lrm", "size=tiny", "dataset.width=16", "dataset.height=16", "validate_every=0",
        "tensorboard=false", "workers=2", "log_every=1", f"out={tmp_path}",
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "recon", "train", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    ) as running:
        assert running.stdout is not None
        while not running.stdout.readline().startswith("step 1/"):
            assert running.poll() is None
        os.killpg(running.pid, number)
        out, errors = running.communicate(timeout=60)
    assert running.returncode == code, errors
    word = {signal.SIGTERM: "terminated", signal.SIGINT: "interrupted"}[number]
    assert out.endswith(f"; {word}, continue with --resume\n") and errors == ""
    assert (tmp_path / STATE).is_file()


def test_a_process_that_makes_scenes_is_ended_by_its_owner_alone() -> None:
    """By no signal that all receive, not even while it starts."""
    process = _Workers().Process(target=time.sleep, args=(60,))
    process.start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    process.join(0.3)
    assert process.is_alive()
    process.terminate()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_an_error_of_the_system_reaches_the_training_whole(tmp_path: Path, chunks: Path) -> None:
    class Unreadable:
        def sample(self, request: SampleRequest) -> TrainingSample:
            raise FileNotFoundError(2, "No such file or directory", "nowhere")

    shards = StepShards(range(2), range(1), 1)
    found = _Batches(config_of(tmp_path, chunks), Unreadable(), shards)[0]
    assert isinstance(found, OSError) and found.filename == "nowhere"
    # A local class cannot be sent to another process, either.
    message = "workers is 1, but source Unreadable cannot be sent to other processes: .*; use worke"
    with pytest.raises(ConfigError, match=message):
        next(batches_ahead(config_of(tmp_path, chunks, "workers=1"), Unreadable(), shards, "cpu"))


def test_frames_are_scaled_and_cropped_as_whole_ones(tmp_path: Path, sample: Path) -> None:
    """Resampling only what remains of a frame, or decoding a large file at half size."""
    generator = np.random.default_rng(0)
    small = Image.fromarray(generator.integers(0, 256, (12, 20, 3), np.uint8))
    photo = small.resize((640, 360), Image.Resampling.BICUBIC)
    _, cameras = frames_of(sample, 1, 64)
    for name, width, height, tolerance in (("whole", 256, 256, 1), ("draft", 64, 48, 2)):
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=95)
        folder = tmp_path / name
        folder.mkdir()
        write_chunk(folder / "000000.torch", {"a": ([buffer.getvalue()], cameras[:1])})
        (clip,) = open_clips(folder, Skipped())
        images, _ = load_frames(clip, [0], width, height)
        with Image.open(buffer) as file:
            scale = max(width / file.width, height / file.height)
            size = (round(scale * file.width), round(scale * file.height))
            whole = file.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        expected = np.asarray(whole.crop((left, top, left + width, top + height)), float)
        found = 255 * images[0].movedim(0, -1).numpy()
        assert np.abs(found - expected).max() <= tolerance + 1e-3
        assert np.abs(found - expected).mean() < 0.35 * tolerance


def test_fields_that_came_later_had_their_default(tmp_path: Path, chunks: Path) -> None:
    """A state of an earlier version, whose configuration lacks a source, can be resumed."""
    config = config_of(tmp_path, chunks)
    earlier = json.loads(json.dumps(asdict(config)))
    del earlier["dataset"]["shards"], earlier["loss"]["background"]
    check_unchanged(tmp_path, {"config": earlier}, config)
    # Data may be mounted elsewhere.
    moved = replace(config.dataset.realestate10k, folder="/elsewhere")
    moved_config = replace(config, dataset=replace(config.dataset, realestate10k=moved))
    check_unchanged(tmp_path, {"config": earlier}, moved_config)
    changed = replace(config, dataset=replace(config.dataset, shards=ShardsConfig(weight=1.0)))
    with pytest.raises(ReconError, match=r"dataset.shards.weight was 0.0, now 1.0; set"):
        check_unchanged(tmp_path, {"config": earlier}, changed)


def test_benchmark_of_the_data(tmp_path: Path, chunks: Path) -> None:
    config = config_of(tmp_path, chunks)
    found = bench.bench_data(config, 3, 0.001)
    assert 0 < found["waiting"] < 1 and found["samples_per_s"] > 0
    assert found["processor_ms_per_sample"] > 0 and found["peak_mb_trainer"] > 50


def test_waiting_is_measured_by_one_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the photos that ship, with a short step and small images, in this process."""
    monkeypatch.setattr(waiting, "SIDE", 32)
    monkeypatch.setattr(waiting, "STEP_S", 0.001)
    waiting.main(["--steps", "3", "--workers", "0"])
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["waiting"] < 1 and found["samples_per_s"] > 0
    assert found["processor_ms_per_sample"] > 0 and found["peak_mb_trainer"] > 50
    with pytest.raises(SystemExit) as end:
        waiting.main(["nowhere"])
    assert end.value.code == 2 and "recon: error: " in capsys.readouterr().err
