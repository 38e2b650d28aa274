"""Scenes that are never trained on, looked at from time to time."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.inference import run_network
from render import Gaussians, RasterizeSettings, rasterize
from training.batches import Batch, make_batch
from training.config import CurriculumConfig, TrainConfig
from training.data.types import Source

# Added to the seed: no step of training has it.
OTHER_SEED = 1_000_000_007
SETTINGS = RasterizeSettings(render_mode="RGB")


@dataclass(frozen=True)
class Validation:
    """What was found."""

    scores: dict[str, float]
    """PSNR of the targets (dB), and the mean absolute error of log depth, where it is known."""
    picture: Float[Tensor, "3 h w"]
    """A scene a row: the first context photo, its disparity, every target as rendered and as it
    is."""
    scene: Gaussians
    """The first scene."""


class Validator:
    """The same scenes every time."""

    def __init__(self, config: TrainConfig, source: Source, device: str) -> None:
        data = replace(config.data, batch=1)
        other = replace(
            config, seed=config.seed + OTHER_SEED, data=data, curriculum=CurriculumConfig()
        )
        self.batches = [
            make_batch(other, source, i, device=device) for i in range(config.validation_scenes)
        ]

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> Validation:
        """Judge a network; its mode is left as it was."""
        was_training = network.training
        network.eval()
        rows, errors, depth_errors = [], [], []
        scenes: list[Gaussians] = []
        for batch in self.batches:
            output = run_network(network, batch.context)
            shown = rasterize(output.gaussians, batch.cameras, settings=SETTINGS).rgb.clamp(0, 1)
            context = batch.context.images.shape[1]
            errors.append((shown - batch.images)[:, context:].square().mean())
            error = (output.depth.log() - batch.depth.log()).abs()
            depth_errors.append(error[torch.isfinite(error)])
            rows.append(_row(batch, output.depth, shown))
            scenes.append(output.gaussians)
        network.train(was_training)
        psnrs = [-10 * torch.log10(error + 1e-10) for error in errors]
        scores = {"psnr": float(torch.stack(psnrs).mean())}
        known = torch.cat(depth_errors)
        if len(known):
            scores["depth"] = float(known.mean())
        width = max(row.shape[-1] for row in rows)
        padded = [torch.nn.functional.pad(row, (0, width - row.shape[-1])) for row in rows]
        first = Gaussians(**{f.name: getattr(scenes[0], f.name)[0] for f in fields(Gaussians)})
        return Validation(scores, torch.cat(padded, 1).cpu(), first)


def _row(
    batch: Batch, depth: Float[Tensor, "b v h w"], shown: Float[Tensor, "b t 3 h w"]
) -> Float[Tensor, "3 h row"]:
    near, far = batch.context.near[0, 0], batch.context.far[0, 0]
    disparity = (1 / depth[0, 0] - 1 / far) / (1 / near - 1 / far)
    cells = [batch.images[0, 0], disparity.clamp(0, 1).expand(3, -1, -1)]
    for target in range(batch.context.images.shape[1], batch.images.shape[1]):
        cells += [shown[0, target], batch.images[0, target]]
    return torch.cat(cells, -1)
