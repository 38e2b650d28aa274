"""The training loop, the same on one CPU and on many GPUs (accelerate)."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from recon.devices import choose_device
from recon.errors import ConfigError, ReconError
from recon.files import atomic_output, check_output, check_space
from recon.model.checkpoint import save_checkpoint
from recon.model.layers.attention import Block
from recon.model.layers.precision import usable_precision
from render import Gaussians
from render.video import write_image
from training.batches import seed_of
from training.benchmarks.model import matmul_peak
from training.boards import Board, TensorBoard, WeightsAndBiases
from training.config import OptimiserConfig, TrainConfig, check_config
from training.data.types import Batch, Source
from training.loader import StepShards, batches_ahead, make_parts, naming_ended_workers
from training.losses import (
    LossTerm,
    WeightedLoss,
    configured_losses,
    weighted_losses,
)
from training.metrics_logger import MetricsLogger, Report
from training.network import initial_network
from training.parallel import check_distribution, copy_whole, shard, whole
from training.rendering import choose_renderer
from training.run_folder import STATE, VALIDATION_IMAGES, WEIGHTS, check_unchanged, new_folder
from training.sources import build_source, describe_source
from training.state import load_state, read_progress, save_state, state_tensors
from training.step import batch_losses, build_optimiser
from training.validation import Validator

# A run gives up after this many consecutive steps without finite gradients.
MAX_SKIPPED_STEPS = 20
FLOAT_BYTES = 4.0


class Trainer:
    """A training run; `train` goes from the current step to a later one.

    Everything that `config` describes can also be passed in. Then the run is as reproducible as
    what is passed: a source whose samples depend on their requests alone resumes to the bit.

    Args:
        config: The run's configuration.
        source: Source of the training scenes; by default built from `config.dataset`.
        losses: Loss terms by name, each a `WeightedLoss` or a callable of weight 1; by default
            those of `config.loss`.
        network: Network to train, of the class that `config.network` names in
            `recon.model.registry.NETWORKS`, with its configuration as attribute `config`;
            by default built from `config.network`, `config.size` and `config.changes`.
        report: Receives lines of text for the user.
        watch: Receives the first scene of every validation.

    Raises:
        ReconError: The configuration does not fit together; the message names the field.
    """

    def __init__(
        self,
        config: TrainConfig,
        source: Source | None = None,
        losses: Mapping[str, WeightedLoss | LossTerm] | None = None,
        network: nn.Module | None = None,
        *,
        report: Report = lambda line: None,
        watch: Callable[[Gaussians], None] | None = None,
    ) -> None:
        check_config(config)
        self.config, self.watch = config, watch
        device = _device_of(config)
        self.precision = usable_precision(config.precision, device)
        if self.precision != config.precision:
            report(f"{config.precision} is emulated on this processor, and slow: training in fp32")
        mixed = "bf16" if self.precision == "bf16" else "no"
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed)
        check_distribution(self.accelerator.distributed_type.value)
        _check_parts(config, self.accelerator.num_processes)
        # torch's remark on the strides of gradients that processes exchange.
        warnings.filterwarnings("ignore", "Grad strides do not match")
        self.out = Path(config.out)
        self.step = 0
        self.skipped = 0
        self.flops = 0.0
        self.peak_per_s: float | None = None
        self.losses = weighted_losses(configured_losses(config.loss) if losses is None else losses)
        self.passed: dict[str, Any] = {}
        if source is not None:
            self.passed["source"] = type(source).__name__
        if losses is not None:
            self.passed["losses"] = {name: loss.weight for name, loss in self.losses.items()}
        self.device = str(self.accelerator.device)
        self._prepare(initial_network(config, network))
        # Processes that make scenes in advance do not use the GPU.
        self.source_device = "cpu" if config.workers else self.device
        if source is None:
            source = build_source(config.dataset, config.seed, self.source_device)
        self.source = source
        self.logger = MetricsLogger(self.out, report, boards_of(config), self._peak)
        self.renderer = choose_renderer(self.accelerator.device, report)
        if self.renderer is None:
            report("no renders: training by the losses that need none, and no validation")
        self.validator: Validator | None = None
        self.saved_step, self.saved_at = -1, time.monotonic()

    def _prepare(self, network: nn.Module) -> None:
        """Make the average and the optimiser of a network, and let all processes train it."""
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        # Those of the checkpoint; others are caches of the network's own.
        stored = network.state_dict().keys()
        self.buffers = [name for name, _ in network.named_buffers() if name in stored]
        accelerator, config = self.accelerator, self.config
        for module in network.modules() if config.compile else ():
            if isinstance(module, Block):
                module.compile()
        self.sharded = config.parallel == "fsdp" and accelerator.num_processes > 1
        if self.sharded:
            # All averaged weights, for validation and inference.
            self.whole_average = copy.deepcopy(self.averaged)
            for each in (network, self.averaged):
                shard(each, accelerator.num_processes, accelerator.device)
            self.network = network
            self.optimiser = accelerator.prepare(build_optimiser(network, config.optimiser))
        else:
            self.averaged.to(accelerator.device)
            optimiser = build_optimiser(network, config.optimiser)
            self.network, self.optimiser = accelerator.prepare(network, optimiser)

    def resume(self) -> None:
        """Continue from the state in the run's folder.

        Raises:
            ReconError: There is no state, or it belongs to another configuration.
        """
        path = self.out / STATE
        progress = read_progress(path)
        if progress is None:
            raise ReconError(f"nothing to resume: no {path}; run without --resume")
        check_unchanged(path, progress, self.config)
        plain = self.accelerator.unwrap_model(self.network)
        load_state(path, plain, self.averaged, self.optimiser)
        self.step = self.saved_step = progress["step"]
        if self.accelerator.is_main_process:
            self.logger.forget_after(self.step)

    def train(
        self,
        until: int | None = None,
        *,
        stop: Callable[[], bool] | None = None,
        saved: Callable[[], None] = lambda: None,
    ) -> dict[str, float]:
        """Train up to step `until`, or to the end of the schedule.

        Args:
            until: Step at which to end.
            stop: Asked before every step, in every process: True from one of them saves the state
                and ends the training.
            saved: Called by the main process after each save.

        Returns:
            Unweighted losses of the last step by name, their weighted sum as "total", and the
            squared error of the rendered colours as "squared_error".

        Raises:
            ReconError: `until` is below 1, the run's folder holds another run or cannot be written,
                there are no scenes for validation, a source or a loss term returned something
                wrong, or the gradients stay not finite.
        """
        if until is not None and until < 1:
            raise ConfigError(f"until must be at least 1, found {until}", "until")
        steps = self.config.optimiser.steps
        until = steps if until is None else min(until, steps)
        losses = {"total": math.nan}
        if self.step >= until:
            return losses
        self._check_free()
        with new_folder(self.out):
            self._check_room()
            self._prepare_validation()
            if self.accelerator.is_main_process:
                self.logger.report(f"scenes: {describe_source(self.source)}")
            self.saved_at = time.monotonic()
            with (
                naming_ended_workers(self.out / STATE),
                self._keeping_steps(),
                closing(self._batches(until)) as batches,
            ):
                while self.step < until and not self._asked_to_stop(stop):
                    losses = self._train_step(batches)
                    self.step += 1
                    self._log(losses, until)
                    if self._due(self.config.save_every, until) or self._any(self._save_is_old()):
                        self._save_and_tell(saved)
                    self._validate_if_due(until)
                # Before the end of processes that make scenes, which takes as long as theirs.
                if self._has_unsaved_steps():
                    self._save_and_tell(saved)
        return losses

    def _check_free(self) -> None:
        """Check that the run's folder holds no other run."""
        if self.step == 0 and (self.out / STATE).exists():
            raise ReconError(
                f"{self.config.out} already contains a run; pass --resume, or another out=FOLDER"
            )

    def _check_room(self) -> None:
        """Check before hours of training that the run's folder can be written."""
        check_output(self.out / STATE)
        # The weights, their average, and two moments of each.
        num_values = 4 * sum(weight.numel() for weight in self.network.parameters())
        check_space(self.out / STATE, num_values * FLOAT_BYTES)

    def _prepare_validation(self) -> None:
        """Make the scenes of the validation: an error of theirs must not come after hours."""
        config = self.config
        wanted = config.validate_every and self.renderer and self.accelerator.is_main_process
        if not wanted or self.validator is not None:
            return
        # Processes are sent the source without what it has read here.
        source = copy.deepcopy(self.source) if config.workers else self.source
        self.validator = Validator(config, source, self.source_device, self.device)

    @contextmanager
    def _keeping_steps(self) -> Iterator[None]:
        """Save the steps before an error, of scenes or of a validation, that the user can correct.

        Sharded weights are not saved: the other processes do not know of the error.
        """
        try:
            yield
        except (ReconError, OSError):
            if self._has_unsaved_steps() and not self.sharded:
                # The first error counts.
                with suppress(ReconError, OSError):
                    self.save()
            raise

    def _has_unsaved_steps(self) -> bool:
        return self.step > 0 and self.saved_step != self.step

    def _save_and_tell(self, saved: Callable[[], None]) -> None:
        self.save()
        if self.accelerator.is_main_process:
            saved()

    def _asked_to_stop(self, stop: Callable[[], bool] | None) -> bool:
        """Return whether any process was asked to stop; all processes get the same answer."""
        return stop is not None and self._any(stop())

    def _any(self, answer: bool) -> bool:
        """Return whether any process has the answer True; all must ask."""
        if self.accelerator.num_processes == 1:
            return answer
        if answer:
            self.accelerator.set_trigger()
        return bool(self.accelerator.check_trigger())

    def _batches(self, until: int) -> Generator[Batch, None, None]:
        """Yield the batches of this process from the current step on, part by part."""
        config, processes = self.config, self.accelerator.num_processes
        count = processes * config.optimiser.accumulate
        mine = range(self.accelerator.process_index, count, processes)
        shards = StepShards(range(self.step, until), mine, count)
        if config.workers:
            return batches_ahead(config, self.source, shards, self.device)
        return make_parts(config, self.source, shards, self.device)

    def _log(self, losses: dict[str, float], until: int) -> None:
        """Log the losses of the last step, where the configuration asks for it."""
        config = self.config
        self.logger.add(losses, self.flops, skipped=self.skipped > 0)
        if self.accelerator.is_main_process and self._due(config.log_every, until):
            lr = learning_rate(config.optimiser, self.step - 1)
            self.logger.write(self.step, until, config.dataset.batch, lr)

    def _validate_if_due(self, until: int) -> None:
        if self.config.validate_every and self._due(self.config.validate_every, until):
            averaged = self._gathered_average()
            if self.accelerator.is_main_process:
                self._validate(averaged)

    def _due(self, every: int, until: int) -> bool:
        return self.step % every == 0 or self.step == until

    def _save_is_old(self) -> bool:
        return time.monotonic() - self.saved_at >= 60 * self.config.save_minutes

    def _train_step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """Accumulate the gradients of all parts of the step's scenes, then step the optimiser."""
        config, parts = self.config.optimiser, self.config.optimiser.accumulate
        processes = self.accelerator.num_processes
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimiser.zero_grad()
        total: dict[str, float] = {}
        self.flops = 0.0
        for part in range(parts):
            with self.logger.waiting():
                batch = next(batches)
            self.flops += self._flops(batch)
            # A network may draw random numbers: they depend on the step, as everything else does.
            first = part * processes + self.accelerator.process_index
            torch.manual_seed(seed_of(self.config.seed, self.step, -2 - first))
            last = part == parts - 1
            # Processes exchange gradients once per step.
            with nullcontext() if last else self._without_exchange():
                losses = self.batch_losses(batch)
                self.accelerator.backward(losses["total"] / parts)
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + float(value.detach()) / parts
        total = self._mean_over_processes(total)
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), config.clip)
        self._descend(bool(torch.isfinite(whole(torch.as_tensor(norm)))))
        return total

    def _flops(self, batch: Batch) -> float:
        """Count the operations of a training step of a batch; 0 if the network cannot say.

        A backward pass needs twice those of a forward pass; what is recomputed does not count.
        """
        plain = self.accelerator.unwrap_model(self.network)
        count: Callable[[int, int, int], int] | None = getattr(plain, "flops", None)
        scenes, views, _, height, width = batch.context.images.shape
        return 3.0 * scenes * count(views, height, width) if count is not None else 0.0

    def _peak(self) -> float:
        """Measure the floating-point operations per second of this process's device, once."""
        if self.peak_per_s is None:
            self.peak_per_s = matmul_peak(self.device, self.precision)
        return self.peak_per_s

    def _mean_over_processes(self, losses: dict[str, float]) -> dict[str, float]:
        """Return the losses of the whole batch, the same in all processes."""
        processes = self.accelerator.num_processes
        if processes == 1:
            return losses
        mine = torch.tensor(list(losses.values()), dtype=torch.float64, device=self.device)
        means = self.accelerator.gather(mine).view(processes, -1).sum(0) / processes
        return dict(zip(losses, means.tolist(), strict=True))

    @contextmanager
    def _without_exchange(self) -> Iterator[None]:
        """Keep the gradients of this block in the process that computes them."""
        if not self.sharded:
            with self.accelerator.no_sync(self.network):
                yield
            return
        network: Any = self.network
        network.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            network.set_requires_gradient_sync(True)

    def _descend(self, finite: bool) -> None:
        """Step the optimiser, unless the gradients are not finite: they would ruin the weights.

        Raises:
            ReconError: `MAX_SKIPPED_STEPS` steps in a row had such gradients.
        """
        self.skipped = 0 if finite else self.skipped + 1
        if finite:
            self.optimiser.step()
            self._average()
        elif self.skipped >= MAX_SKIPPED_STEPS:
            raise ReconError(
                f"step {self.step}: {MAX_SKIPPED_STEPS} steps in a row had gradients that are not "
                "finite; lower optimiser.lr or set precision: fp32, and continue with --resume"
            )
        else:
            self.logger.report(f"step {self.step}: gradients not finite, step skipped")

    def batch_losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Run the network on a batch and return its losses, with gradients where enabled."""
        autocast = self.accelerator.autocast()
        return batch_losses(
            self.network, batch, self.losses, self.config.loss, autocast, self.renderer
        )

    def _average(self) -> None:
        """Update the exponential moving average of the weights, with a shorter window at first."""
        decay = min(self.config.optimiser.ema, (self.step + 1) / (self.step + 10))
        plain = self.accelerator.unwrap_model(self.network)
        with torch.no_grad():
            for mean, value in zip(self.averaged.parameters(), plain.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)
            # Running statistics are means already.
            for name in self.buffers:
                self.averaged.get_buffer(name).copy_(plain.get_buffer(name))

    def _gathered_average(self) -> nn.Module:
        """Return the network with all averaged weights; all processes must ask."""
        if not self.sharded:
            return self.averaged
        copy_whole(self.averaged, self.whole_average)
        return self.whole_average

    def _validate(self, averaged: nn.Module) -> None:
        """Write scores and an image of the averaged weights on the scenes of the validation."""
        if self.renderer is None or self.validator is None:
            return
        result = self.validator(averaged.to(self.device), self.renderer)
        if self.watch is not None:
            self.watch(result.scene)
        self.logger.scalars("validation", result.scores, self.step)
        self.logger.image("validation", result.image, self.step)
        folder = self.out / VALIDATION_IMAGES
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_output(folder / f"step_{self.step:06d}.png") as temporary:
            write_image(temporary, result.image)
        scores = "  ".join(f"{name} {value:.3f}" for name, value in result.scores.items())
        self.logger.report(f"validation at step {self.step}  {scores}")

    def save(self) -> None:
        """Write the averaged weights for inference, and the state to resume from.

        The state comes last: it says that the step is done, and a failure before it leaves the
        step to be repeated.
        """
        if self.sharded or self.accelerator.is_main_process:
            self._write_files()
        self.saved_step, self.saved_at = self.step, time.monotonic()

    def _write_files(self) -> None:
        """Write weights and state in the main process; of sharded ones, all processes must ask."""
        plain = self.accelerator.unwrap_model(self.network)
        is_main = self.accelerator.is_main_process
        tensors = state_tensors(plain, self.averaged, self.optimiser, keep=is_main)
        averaged = self._gathered_average()
        if not is_main:
            return
        progress: dict[str, Any] = {"step": self.step, "config": asdict(self.config)}
        machine = {
            "device": self.accelerator.device.type,
            "processes": self.accelerator.num_processes,
            "parallel": self.config.parallel,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        facts = {"licence": self.config.licence, "computed_on": machine}
        provenance = {**progress, **facts, **self.passed}
        save_checkpoint(self.out / WEIGHTS, self.config.network, averaged, provenance)
        save_state(self.out / STATE, tensors, progress)


def _check_parts(config: TrainConfig, processes: int) -> None:
    """Raise ReconError if a step's scenes cannot be divided."""
    parts = processes * config.optimiser.accumulate
    if config.dataset.batch % parts:
        raise ReconError(
            f"dataset.batch is {config.dataset.batch}, expected a multiple of {parts} "
            f"({processes} processes x optimiser.accumulate)"
        )


def _device_of(config: TrainConfig) -> str:
    """Return the kind of device; the message of an error names the field, which has no flag."""
    try:
        return choose_device(config.device).type
    except ConfigError as error:
        raise ConfigError(str(error)) from None


def boards_of(config: TrainConfig) -> list[Board]:
    """Return the boards that a configuration asks for."""
    boards: list[Board] = [TensorBoard(Path(config.out))] if config.tensorboard else []
    return boards + ([WeightsAndBiases(Path(config.out))] if config.wandb else [])


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    progress = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
