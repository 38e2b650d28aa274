"""The stages of a campaign, one after the other; each is a run of `Trainer`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recon.errors import ConfigError, InputError, ReconError
from recon.files import atomic_output
from recon.model.checkpoint import read_checkpoint, save_parts
from recon.overlay import overlay
from training.campaign.batch_size import grow_batch, measure_speed, with_batch
from training.campaign.export import export_campaign
from training.campaign.recipe import Recipe, Stage
from training.campaign.report import PLOT, write_report
from training.campaign.scores import ROWS, TABLE, DevelopmentScores
from training.config import TrainConfig
from training.metrics_logger import METRICS, Report
from training.network import configured_network, part_of
from training.run_folder import STATE, WEIGHTS, check_unchanged
from training.state import read_progress, read_weights
from training.trainer import Trainer

# Name of the published folder of weights, and the largest size of a file there (bytes).
PUBLISHED, PART_BYTES = "weights", 15 * 2**20


@dataclass(frozen=True)
class CampaignOptions:
    """How a campaign runs, which does not belong to its recipe."""

    publish: Path | None = None
    """Folder to which each save also writes the weights (float16, in files under 15 MiB), the
    metrics, the plot and the scores."""
    grow: bool = False
    """Whether the batch of each stage grows until the GPU is full (see `with_batch`)."""


class Campaign:
    """A campaign, which goes on from the step where its folder says that it stopped.

    Args:
        recipe: The campaign.
        options: How it runs.
        report: Receives lines of text for the user.
        scores: Development scores; by default those of the recipe.
    """

    def __init__(
        self,
        recipe: Recipe,
        options: CampaignOptions | None = None,
        report: Report = lambda line: None,
        scores: DevelopmentScores | None = None,
    ) -> None:
        self.recipe, self.report = recipe, report
        self.options = options or CampaignOptions()
        self.scores = scores or DevelopmentScores(recipe.out, recipe.evaluate, report)

    def run(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Run until the end or until asked to stop; return whether the campaign is complete.

        Args:
            stop: Asked before every step whether to save and stop.

        Raises:
            ReconError: The folder holds another campaign, or a stage cannot be run.
        """
        return all(self._run_stage(index, stop) for index in range(len(self.recipe.stages)))

    def _run_stage(self, index: int, stop: Callable[[], bool]) -> bool:
        """Run a stage up to its end or until asked to stop; return whether it is complete."""
        stage = self._with_actual_batch(index)
        path, steps = stage.folder / STATE, stage.config.optimiser.steps
        progress = read_progress(path)
        if progress is not None and progress["step"] >= steps:
            check_unchanged(path, progress, stage.config)
            self._update_scores(stage, steps, stop)
            return True
        if stop():
            return False
        self.report(f"stage {stage.name}: {steps} steps, {stage.scenes} scenes")
        trainer = self._trainer(index)
        if progress is not None:
            trainer.resume()
        trainer.train(stop=stop, saved=lambda: self._saved(stage, trainer.step, stop))
        # The next stage starts from files that the main process writes.
        trainer.accelerator.wait_for_everyone()
        return trainer.step >= steps

    def _trainer(self, index: int) -> Trainer:
        stage = self.recipe.stages[index]
        first, previous = self.recipe.stages[0], self.recipe.stages[index - 1]
        network = None if index == 0 else _continued(stage, previous, first.config.init)
        return Trainer(stage.config, network=network, report=self.report)

    def _with_actual_batch(self, index: int) -> Stage:
        """Return a stage with the batch that fits the GPU; a stage that has begun keeps its own."""
        stage = self.recipe.stages[index]
        if not self.options.grow:
            return stage
        progress = read_progress(stage.folder / STATE)
        if progress is not None:
            config = _with_recorded_batch(stage.config, progress["config"])
        else:
            trainer = self._trainer(index)
            batch = grow_batch(lambda n: measure_speed(trainer, n), stage.config.dataset.batch)
            config = with_batch(stage.config, batch)
            self.report(
                f"stage {stage.name}: batch of {batch} scenes, lr {config.optimiser.lr:.3g}"
            )
        self.recipe = self.recipe.with_config(stage, config)
        return self.recipe.stages[index]

    def _saved(self, stage: Stage, step: int, stop: Callable[[], bool]) -> None:
        """Write everything that is derived from the state that was just saved."""
        self._update_scores(stage, step, stop)
        write_report(self.recipe, self.scores.rows())
        if self.options.publish is not None:
            publish(self.recipe, self.options.publish)

    def _update_scores(self, stage: Stage, step: int, stop: Callable[[], bool]) -> None:
        if not stop():  # an evaluation takes minutes
            scenes = self.recipe.scenes_before(stage) + step * stage.config.dataset.batch
            self.scores.update(stage, step, scenes)

    def position(self) -> tuple[str, int, int]:
        """Return the name of the current stage, its step, and the number of scenes so far."""
        scenes = 0
        for stage in self.recipe.stages:
            progress = read_progress(stage.folder / STATE)
            step = progress["step"] if progress else 0
            scenes += step * stage.config.dataset.batch
            if step < stage.config.optimiser.steps:
                return stage.name, step, scenes
        return self.recipe.stages[-1].name, self.recipe.stages[-1].config.optimiser.steps, scenes


def publish(recipe: Recipe, folder: Path) -> None:
    """Write the weights in small files, the metrics, the plot and the scores to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = recipe.out / f"{PUBLISHED}.safetensors"
    try:
        export_campaign(recipe, whole)
    except ReconError:  # a weight that is not finite: the last good ones remain
        return
    save_parts(whole, folder / PUBLISHED, PART_BYTES)
    for name in (METRICS, PLOT, ROWS, TABLE):
        if (recipe.out / name).is_file():
            with atomic_output(folder / name) as temporary:
                temporary.write_bytes((recipe.out / name).read_bytes())


def _with_recorded_batch(config: TrainConfig, recorded: dict[str, Any]) -> TrainConfig:
    changes = {
        "dataset": {"batch": recorded["dataset"]["batch"]},
        "optimiser": recorded["optimiser"],
    }
    return overlay(config, changes, "state")


def _continued(stage: Stage, previous: Stage, init: str) -> nn.Module:
    """Return the network of a stage with the weights with which the previous one ended.

    Whole parts that the previous one lacks, such as `feedback`, are those of the campaign's `init`.
    """
    torch.manual_seed(stage.config.seed)
    network = configured_network(stage.config)
    path = previous.folder / (STATE if stage.start == "raw" else WEIGHTS)
    if not path.is_file():
        raise InputError(f"stage {stage.name}: no {path} of the previous stage; it was removed")
    weights = read_weights(path) if stage.start == "raw" else read_checkpoint(path)[1]
    if init:
        lacking = {part_of(key) for key in network.state_dict()} - {part_of(key) for key in weights}
        first = read_checkpoint(Path(init))[1]
        weights |= {key: value for key, value in first.items() if part_of(key) in lacking}
    try:
        network.load_state_dict(weights)
    except RuntimeError:
        raise ConfigError(
            f"stage {stage.name}: its network has another shape than that of {previous.name}; "
            "network, size and changes may only differ in what changes no weights"
        ) from None
    return network
