"""One training step's computations, shared by the trainer and the benchmark."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import cast

import torch
from torch import nn

from recon.model.inference import run_network
from render import RenderOutput, rasterize
from training.config import OptimiserConfig
from training.data.types import Batch
from training.losses import (
    SQUARED_ERROR,
    LossConfig,
    LossInputs,
    LossTerm,
    WeightedLoss,
    draw_backgrounds,
    evaluate_losses,
    is_custom,
    without_renders,
)
from training.rendering import SETTINGS, Renderer


def batch_losses(
    network: nn.Module,
    batch: Batch,
    losses: Mapping[str, WeightedLoss | LossTerm],
    config: LossConfig,
    autocast: AbstractContextManager[object],
    renderer: Renderer | None = rasterize,
) -> dict[str, torch.Tensor]:
    """Run a network on a batch and return its losses, with gradients where enabled.

    Args:
        network: Network to train.
        batch: Input views and ground truth.
        losses: Loss terms by name.
        config: Background of the renders.
        autocast: Precision of the network; geometry and rendering are always float32.
        renderer: Renders the Gaussians; None computes only the terms that need no renders.

    Returns:
        Unweighted terms by name, their weighted sum as "total", and the squared error of the
        rendered colours as "squared_error", without gradients, for the log's PSNR; not without a
        renderer.

    Raises:
        ReconError: A term that is not built in did not return a finite scalar tensor, or all terms
            need renders and there are none.
    """
    with autocast:
        output = run_network(network, batch.context)
    if renderer is None:
        inputs = LossInputs(output, cast(RenderOutput, None), batch)
        return evaluate_losses(without_renders(losses), inputs)
    backgrounds = draw_backgrounds(config, batch.cameras)
    # The built-in terms do not read rendered depth; of others nothing is known.
    depth = any(is_custom(loss) for loss in losses.values())
    settings = replace(SETTINGS, render_mode="RGB+D") if depth else SETTINGS
    rendered = renderer(output.gaussians, batch.cameras, backgrounds=backgrounds, settings=settings)
    earlier = tuple(
        renderer(gaussians, batch.cameras, backgrounds=backgrounds, settings=SETTINGS)
        for gaussians in output.intermediate_gaussians
        if gaussians.means.requires_grad
    )
    values = evaluate_losses(losses, LossInputs(output, rendered, batch, earlier, renderer))
    error = (rendered.rgb.detach() - batch.images).square().mean()
    return {**values, SQUARED_ERROR: error}


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """Build AdamW for the trainable parameters, with weight decay on matrices only."""
    trainable = [p for p in network.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.dim() > 1]
    others = [p for p in trainable if p.dim() <= 1]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    # One kernel for all weights where torch has it: on a CPU 4 to 7 times as fast.
    fused = all(weight.device.type in ("cpu", "cuda") for weight in trainable)
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=fused)
