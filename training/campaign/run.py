"""The stages of a campaign, one after the other; each is a run of `Trainer`."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from recon.errors import ConfigError, InputError
from recon.model.checkpoint import read_checkpoint
from training.campaign.recipe import Recipe, Stage
from training.campaign.report import write_metrics
from training.metrics_logger import Report
from training.network import configured_network
from training.state import read_progress, read_weights
from training.trainer import STATE, WEIGHTS, Trainer, check_unchanged


def run_campaign(
    recipe: Recipe, stop: Callable[[], bool], report: Report = lambda line: None
) -> bool:
    """Run a campaign from the step where it stopped; everything is derived from its folder.

    Args:
        recipe: The campaign.
        stop: Asked before every step whether to save and stop.
        report: Receives lines of text for the user.

    Returns:
        Whether the campaign is complete.

    Raises:
        ReconError: The folder holds another campaign, or a stage cannot be run.
    """
    for index, stage in enumerate(recipe.stages):
        steps = stage.config.optimiser.steps
        progress = read_progress(stage.folder / STATE)
        if progress is not None and progress["step"] >= steps:
            check_unchanged(stage.folder / STATE, progress, stage.config)
            continue
        if stop():
            return False
        report(f"stage {stage.name}: {steps} steps, {stage.scenes} scenes")
        if not _run_stage(recipe, index, stop, report):
            return False
    return True


def _run_stage(recipe: Recipe, index: int, stop: Callable[[], bool], report: Report) -> bool:
    """Run a stage up to its end or until asked to stop; return whether it is complete."""
    stage = recipe.stages[index]
    network = None if index == 0 else _continued(stage, recipe.stages[index - 1])
    trainer = Trainer(stage.config, network=network, report=report)
    if (stage.folder / STATE).exists():
        trainer.resume()
    trainer.train(stop=stop, saved=lambda: write_metrics(recipe))
    # The next stage starts from files that the main process writes.
    trainer.accelerator.wait_for_everyone()
    return trainer.step >= stage.config.optimiser.steps


def _continued(stage: Stage, previous: Stage) -> nn.Module:
    """Return the network of a stage with the weights with which the previous one ended."""
    torch.manual_seed(stage.config.seed)
    network = configured_network(stage.config)
    path = previous.folder / (STATE if stage.start == "raw" else WEIGHTS)
    if not path.is_file():
        raise InputError(f"stage {stage.name}: no {path} of the previous stage; it was removed")
    weights = read_weights(path) if stage.start == "raw" else read_checkpoint(path)[1]
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ConfigError(
            f"stage {stage.name}: its network has another shape than that of {previous.name}; "
            "network, size and changes may only differ in what changes no weights"
        ) from None
    return network


def scenes_before(recipe: Recipe, index: int) -> int:
    """Return the number of scenes of all stages before one."""
    return sum(stage.scenes for stage in recipe.stages[:index])


def position(recipe: Recipe) -> tuple[str, int, int]:
    """Return where a campaign is: the name of the stage, its step, and the scenes so far."""
    scenes = 0
    for stage in recipe.stages:
        progress = read_progress(Path(stage.folder) / STATE)
        step = progress["step"] if progress else 0
        scenes += step * stage.config.dataset.batch
        if step < stage.config.optimiser.steps:
            return stage.name, step, scenes
    last = recipe.stages[-1]
    return last.name, last.config.optimiser.steps, scenes
