"""Validation on held-out scenes, or on those that sources make for it alone."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.inference import run_network
from render import Gaussians, rasterize
from training.batches import make_batch
from training.config import CurriculumConfig, TrainConfig
from training.data.types import Batch, Source
from training.rendering import SETTINGS, Renderer

# Added to the run's seed, so that no training step has the same scenes of a source that makes them.
SEED_OFFSET = 1_000_000_007


@dataclass(frozen=True)
class Validation:
    """Result of one validation."""

    scores: dict[str, float]
    """psnr of the targets (dB), and depth: mean absolute error of log depth where it is known."""
    image: Float[Tensor, "3 h w"]
    """One row per scene: the first context image, its disparity, then for every target the render
    and the ground truth."""
    scene: Gaussians
    """Gaussians of the first scene."""


class Validator:
    """Evaluates a network on the same few scenes every time.

    Args:
        config: Configuration of the run.
        source: Source of the scenes.
        source_device: Device on which the source makes them.
        device: Device of the network.
    """

    def __init__(
        self, config: TrainConfig, source: Source, source_device: str, device: str
    ) -> None:
        dataset = replace(config.dataset, batch=1)
        seed = config.seed + SEED_OFFSET
        config = replace(config, seed=seed, dataset=dataset, curriculum=CurriculumConfig())
        self.batches = [
            make_batch(config, source, i, device=source_device, held_out=True).to(device)
            for i in range(config.validation_scenes)
        ]

    @torch.no_grad()
    def __call__(self, network: nn.Module, renderer: Renderer = rasterize) -> Validation:
        """Evaluate a network in evaluation mode; its mode is restored."""
        was_training = network.training
        network.eval()
        rows, errors, depth_errors = [], [], []
        scenes: list[Gaussians] = []
        for batch in self.batches:
            output = run_network(network, batch.context)
            rendered = renderer(output.gaussians, batch.cameras, settings=SETTINGS).rgb
            rendered = rendered.clamp(0, 1)
            context = batch.context.images.shape[1]
            errors.append((rendered - batch.images)[:, context:].square().mean())
            depth_errors.append(_depth_errors(batch, output.depth))
            rows.append(_row(batch, output.depth, rendered))
            scenes.append(output.gaussians)
        network.train(was_training)
        psnrs = [-10 * torch.log10(error + 1e-10) for error in errors]
        scores = {"psnr": float(torch.stack(psnrs).mean())}
        known = torch.cat(depth_errors)
        if len(known):
            scores["depth"] = float(known.mean())
        first = Gaussians(**{f.name: getattr(scenes[0], f.name)[0] for f in fields(Gaussians)})
        return Validation(scores, torch.cat(rows, 1).cpu(), first)


def _depth_errors(batch: Batch, depth: Float[Tensor, "b v h w"]) -> Float[Tensor, " n"]:
    """Return the absolute errors of log depth of the pixels whose depth is known.

    A prediction without a logarithm (NaN, infinite, 0 or less) counts as the whole range.
    """
    error = (depth.log() - batch.depth.log()).abs()
    whole_range = (batch.context.far / batch.context.near).log()[..., None, None]
    error = torch.where(torch.isfinite(error), error, whole_range)
    return error[torch.isfinite(batch.depth)]


def _row(
    batch: Batch, depth: Float[Tensor, "b v h w"], rendered: Float[Tensor, "b t 3 h w"]
) -> Float[Tensor, "3 h row"]:
    near, far = batch.context.near[0, 0], batch.context.far[0, 0]
    disparity = (1 / depth[0, 0] - 1 / far) / (1 / near - 1 / far)
    cells = [batch.images[0, 0], disparity.clamp(0, 1).expand(3, -1, -1)]
    for target in range(batch.context.images.shape[1], batch.images.shape[1]):
        cells += [rendered[0, target], batch.images[0, target]]
    return torch.cat(cells, -1)
