"""The training loop, the same on one CPU and on many GPUs (accelerate)."""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from recon.config import overlay
from recon.errors import ReconError
from recon.model.checkpoint import save_checkpoint
from recon.model.networks import build_network, named_size, run_network
from render import RasterizeSettings, rasterize
from training.batches import Batch, make_batch, seed_of
from training.config import OptimiserConfig, TrainConfig
from training.data.procedural.bank import list_photos, make_bank
from training.losses import losses_of
from training.state import load_state, save_state

STATE, WEIGHTS, METRICS = "state.safetensors", "model.safetensors", "metrics.jsonl"
SETTINGS = RasterizeSettings(render_mode="RGB")
Report = Callable[[str], None]


class Trainer:
    """One run. `train` goes from the current step to a later one."""

    def __init__(self, config: TrainConfig, report: Report = lambda line: None) -> None:
        self.config, self.report = config, report
        precision = "bf16" if config.precision == "bf16" else "no"
        self.accelerator = Accelerator(mixed_precision=precision)
        if config.data.batch % self.accelerator.num_processes:
            raise ReconError(
                f"data.batch is {config.data.batch}, expected a multiple of the "
                f"{self.accelerator.num_processes} processes"
            )
        self.out = Path(config.out)
        self.step = 0
        torch.manual_seed(config.seed)
        network = _network(config)
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.averaged.to(self.accelerator.device)
        optimiser = _optimiser(network, config.optimiser)
        self.network, self.optimiser = self.accelerator.prepare(network, optimiser)
        photos = list_photos(config.data.photos)
        self.bank = make_bank(photos, seed=config.seed).to(self.accelerator.device)

    def resume(self) -> None:
        """Go on from the state in the run's folder; ReconError when there is none."""
        path = self.out / STATE
        if not path.is_file():
            raise ReconError(f"nothing to resume: no {path}; run without --resume")
        plain = self.accelerator.unwrap_model(self.network)
        progress = load_state(path, plain, self.averaged, self.optimiser)
        then, now = progress["config"], json.loads(json.dumps(asdict(self.config)))
        for key in ("network", "size", "changes", "data", "optimiser", "loss", "seed"):
            if then[key] != now[key]:
                raise ReconError(f"cannot resume {path}: {key} was {then[key]}, now {now[key]}")
        self.step = progress["step"]

    def train(self, until: int | None = None) -> dict[str, float]:
        """Steps up to `until`, or the schedule's end; the last step's losses."""
        until = min(until or self.config.optimiser.steps, self.config.optimiser.steps)
        started, first, losses = time.monotonic(), self.step, {"total": math.nan}
        while self.step < until:
            losses = self._one_step()
            self.step += 1
            if self.step % self.config.log_every == 0 or self.step == until:
                self._log(losses, (time.monotonic() - started) / (self.step - first), until)
            if self.step % self.config.save_every == 0 or self.step == until:
                self.save()
        return losses

    def _one_step(self) -> dict[str, float]:
        config = self.config
        share = (self.accelerator.process_index, self.accelerator.num_processes)
        device = str(self.accelerator.device)
        batch = make_batch(config.data, self.bank, config.seed, self.step, share, device)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config.optimiser, self.step)
        # A network may draw at random: what, follows from the step as all else does.
        torch.manual_seed(seed_of(config.seed, self.step, -2 - share[0]))
        losses = self._losses(batch)
        self.optimiser.zero_grad()
        self.accelerator.backward(losses["total"])
        self.accelerator.clip_grad_norm_(self.network.parameters(), config.optimiser.clip)
        self.optimiser.step()
        self._average()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _losses(self, batch: Batch) -> dict[str, torch.Tensor]:
        with self.accelerator.autocast():
            output = run_network(self.network, batch.context)
        shown = rasterize(output.gaussians, batch.cameras, settings=SETTINGS)
        return losses_of(self.config.loss, output, shown, batch.images, batch.depth)

    def _average(self) -> None:
        """Exponential moving average of the weights, shorter at the start."""
        decay = min(self.config.optimiser.ema, (self.step + 1) / (self.step + 10))
        plain = self.accelerator.unwrap_model(self.network)
        with torch.no_grad():
            for mean, value in zip(self.averaged.parameters(), plain.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)

    def _log(self, losses: dict[str, float], seconds: float, until: int) -> None:
        if not self.accelerator.is_main_process:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        rate = self.config.data.batch / seconds
        row = {"step": self.step, "samples_per_s": rate, **losses}
        with (self.out / METRICS).open("a") as handle:
            handle.write(json.dumps(row) + "\n")
        minutes = seconds * (until - self.step) / 60
        psnr = -10 * math.log10(max(losses["mse"], 1e-10))
        self.report(
            f"step {self.step}/{until}  loss {losses['total']:.4f}  PSNR {psnr:.2f}  "
            f"depth {losses['depth']:.3f}  {rate:.2f} samples/s  {minutes:.0f} min left"
        )

    def save(self) -> None:
        """The state to go on from, and the averaged weights to use."""
        if not self.accelerator.is_main_process:
            return
        self.out.mkdir(parents=True, exist_ok=True)
        plain = self.accelerator.unwrap_model(self.network)
        progress: dict[str, Any] = {"step": self.step, "config": asdict(self.config)}
        save_state(self.out / STATE, plain, self.averaged, self.optimiser, progress)
        provenance = {**progress, "data": "procedural scenes", "licence": "Apache-2.0"}
        save_checkpoint(self.out / WEIGHTS, self.config.network, self.averaged, provenance)


def learning_rate(config: OptimiserConfig, step: int) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _network(config: TrainConfig) -> nn.Module:
    shape = overlay(named_size(config.network, config.size), config.changes, "changes")
    return build_network(config.network, shape)


def _optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    matrices = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2))
