"""The training loop, the same on one CPU and on many GPUs (accelerate)."""

import copy
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from recon.errors import ReconError
from recon.model.checkpoint import save_checkpoint
from recon.model.inference import run_network
from recon.model.registry import build_network, load_checkpoint, named_size
from recon.overlay import overlay
from render import Gaussians, RasterizeSettings, rasterize
from render.video import write_image
from training.batches import Batch, make_batch, seed_of
from training.config import OptimiserConfig, TrainConfig
from training.losses import backgrounds_of, losses_of
from training.metrics_logger import Logbook, Report
from training.sources import Mixture
from training.state import load_state, save_state
from training.validation import Validator

STATE, WEIGHTS, PICTURES = "state.safetensors", "model.safetensors", "validation"
SETTINGS = RasterizeSettings(render_mode="RGB")
# Steps in a row without finite gradients after which a run gives up.
PATIENCE = 20
# What may not change when a run goes on.
FIXED = ("network", "size", "init", "changes", "data", "curriculum", "optimiser", "loss", "seed")


class Trainer:
    """One run. `train` goes from the current step to a later one."""

    def __init__(
        self,
        config: TrainConfig,
        report: Report = lambda line: None,
        watch: Callable[[Gaussians], None] | None = None,
    ) -> None:
        """`report` gets lines for the user, `watch` a scene of every validation."""
        self.config, self.watch = config, watch
        precision = "bf16" if config.precision == "bf16" else "no"
        self.accelerator = Accelerator(mixed_precision=precision)
        parts = self.accelerator.num_processes * config.optimiser.accumulate
        if config.data.batch % parts:
            raise ReconError(
                f"data.batch is {config.data.batch}, expected a multiple of {parts} "
                f"({self.accelerator.num_processes} processes x optimiser.accumulate)"
            )
        self.out = Path(config.out)
        self.step = 0
        self.skipped = 0
        torch.manual_seed(config.seed)
        network = _network(config)
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.averaged.to(self.accelerator.device)
        optimiser = _optimiser(network, config.optimiser)
        self.network, self.optimiser = self.accelerator.prepare(network, optimiser)
        self.device = str(self.accelerator.device)
        self.source = Mixture.of(config.data, config.seed, self.device)
        self.logbook = Logbook(self.out, report, config.tensorboard)
        self.validator: Validator | None = None

    def resume(self) -> None:
        """Go on from the state in the run's folder; ReconError when there is none."""
        path = self.out / STATE
        if not path.is_file():
            raise ReconError(f"nothing to resume: no {path}; run without --resume")
        plain = self.accelerator.unwrap_model(self.network)
        progress = load_state(path, plain, self.averaged, self.optimiser)
        then, now = progress["config"], json.loads(json.dumps(asdict(self.config)))
        for key in FIXED:
            if then[key] != now[key]:
                raise ReconError(f"cannot resume {path}: {key} was {then[key]}, now {now[key]}")
        self.step = progress["step"]

    def train(self, until: int | None = None) -> dict[str, float]:
        """Steps up to `until`, or the schedule's end; the last step's losses."""
        config, main = self.config, self.accelerator.is_main_process
        until = min(until or config.optimiser.steps, config.optimiser.steps)
        losses = {"total": math.nan}
        while self.step < until:
            losses = self._one_step()
            self.step += 1
            self.logbook.add(losses)
            if main and self._due(config.log_every, until):
                lr = learning_rate(config.optimiser, self.step - 1)
                self.logbook.write(self.step, until, config.data.batch, lr)
            if main and config.validate_every and self._due(config.validate_every, until):
                self._validate()
            if self._due(config.save_every, until):
                self.save()
        return losses

    def _due(self, every: int, until: int) -> bool:
        return self.step % every == 0 or self.step == until

    def _one_step(self) -> dict[str, float]:
        """Gradients of all parts of the step's scenes, then one step down."""
        config, parts = self.config.optimiser, self.config.optimiser.accumulate
        processes = self.accelerator.num_processes
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, self.step)
        self.optimiser.zero_grad()
        total: dict[str, float] = {}
        for part in range(parts):
            first = part * processes + self.accelerator.process_index
            share = (first, processes * parts)
            batch = make_batch(self.config, self.source, self.step, share, self.device)
            # A network may draw at random: what, follows from the step as all else does.
            torch.manual_seed(seed_of(self.config.seed, self.step, -2 - first))
            last = part == parts - 1
            # Processes exchange gradients once a step.
            with nullcontext() if last else self.accelerator.no_sync(self.network):
                losses = self._losses(batch)
                self.accelerator.backward(losses["total"] / parts)
            for name, value in losses.items():
                total[name] = total.get(name, 0.0) + float(value.detach()) / parts
        norm = self.accelerator.clip_grad_norm_(self.network.parameters(), config.clip)
        self._descend(bool(torch.isfinite(torch.as_tensor(norm))))
        return total

    def _descend(self, finite: bool) -> None:
        """One step of the optimiser, or none: gradients that are not finite would end the run's
        weights for good. ReconError when it happens again and again."""
        self.skipped = 0 if finite else self.skipped + 1
        if finite:
            self.optimiser.step()
            self._average()
        elif self.skipped >= PATIENCE:
            raise ReconError(
                f"step {self.step}: {PATIENCE} steps in a row had gradients that are not finite; "
                "lower optimiser.lr or set precision: fp32, and go on with --resume"
            )
        else:
            self.logbook.report(f"step {self.step}: gradients not finite, step skipped")

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        with self.accelerator.autocast():
            output = run_network(self.network, batch.context)
        behind = backgrounds_of(self.config.loss, batch.cameras)
        shown = rasterize(output.gaussians, batch.cameras, backgrounds=behind, settings=SETTINGS)
        truth = (batch.images, batch.depth, batch.cameras)
        return losses_of(self.config.loss, output, shown, *truth)

    def _average(self) -> None:
        """Exponential moving average of the weights, shorter at the start."""
        decay = min(self.config.optimiser.ema, (self.step + 1) / (self.step + 10))
        plain = self.accelerator.unwrap_model(self.network)
        with torch.no_grad():
            for mean, value in zip(self.averaged.parameters(), plain.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)

    def _validate(self) -> None:
        """The averaged weights on scenes that are never trained on: scores and a picture."""
        self.validator = self.validator or Validator(self.config, self.source, self.device)
        found = self.validator(self.averaged)
        if self.watch is not None:
            self.watch(found.scene)
        self.logbook.scalars("validation", found.scores, self.step)
        self.logbook.picture("validation", found.picture, self.step)
        folder = self.out / PICTURES
        folder.mkdir(parents=True, exist_ok=True)
        write_image(folder / f"step_{self.step:06d}.png", found.picture)
        scores = "  ".join(f"{name} {value:.3f}" for name, value in found.scores.items())
        self.logbook.report(f"validation at step {self.step}  {scores}")

    def save(self) -> None:
        """The state to go on from, and the averaged weights to use."""
        if not self.accelerator.is_main_process:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        plain = self.accelerator.unwrap_model(self.network)
        progress: dict[str, Any] = {"step": self.step, "config": asdict(self.config)}
        save_state(self.out / STATE, plain, self.averaged, self.optimiser, progress)
        provenance = {**progress, "licence": self.config.licence}
        save_checkpoint(self.out / WEIGHTS, self.config.network, self.averaged, provenance)


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _network(config: TrainConfig) -> nn.Module:
    shape = overlay(named_size(config.network, config.size), config.changes, "changes")
    network = build_network(config.network, shape)
    if config.init:
        found = load_checkpoint(Path(config.init))
        try:
            network.load_state_dict(found.network.state_dict())
        except RuntimeError:
            raise ReconError(
                f"init: {config.init} holds a {found.name} of another shape than {config.network} "
                f"{config.size}"
            ) from None
    chosen = config.optimiser.only
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(chosen))
    if not any(parameter.requires_grad for parameter in network.parameters()):
        known = ", ".join(dict.fromkeys(name.split(".")[0] for name in network.state_dict()))
        raise ReconError(f"optimiser.only: no parameter starts with {chosen!r}; parts: {known}")
    return network


def _optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    learning = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in learning if p.dim() > 1]
    others = [p for p in learning if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2))
