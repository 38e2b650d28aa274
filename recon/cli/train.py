"""`recon train --config FILE key=value`: train a network."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from recon.errors import MissingDependency, ReconError
from recon.reporting import say

if TYPE_CHECKING:
    from viewer import LiveViewer


@dataclass(frozen=True)
class Train:
    """Train a network."""

    assignments: tyro.conf.Positional[tuple[str, ...]] = ()
    """Fields to change, such as optimiser.lr=1e-4 dataset.batch=4."""
    config: Path | None = None
    """YAML file with fields to change; the defaults otherwise."""
    resume: bool = False
    """Go on where the run's folder says it stopped."""
    until: int | None = None
    """Stop at this step; the schedule stays as long as it is (steps)."""
    view: bool = False
    """Show a scene of every validation in the browser, until the training ends."""
    quiet: bool = False
    """Print nothing but errors and the last line."""

    def run(self) -> None:
        """Write state, weights and metrics into the run's folder."""
        from training.config import read_config

        try:
            from training.trainer import STATE, WEIGHTS, Trainer
        except ImportError as error:
            raise MissingDependency(
                f"recon train: {error}; pip install 'reconsplat[train]'"
            ) from None
        config = read_config(self.config, self.assignments)
        if not self.resume and (Path(config.out) / STATE).exists():
            raise ReconError(
                f"{config.out} already holds a run; go on with --resume, or give another out=FOLDER"
            )
        with self._live(Path(config.out).name) as live:
            watch = live.update if live is not None else None
            report = (lambda line: None) if self.quiet else say
            trainer = Trainer(config, report=report, watch=watch)
            if self.resume:
                trainer.resume()
            trainer.train(self.until)
        say(f"wrote {Path(config.out) / WEIGHTS}: step {trainer.step} of {config.optimiser.steps}")

    def _live(self, name: str) -> "AbstractContextManager[LiveViewer | None]":
        if not self.view:
            return nullcontext()
        from viewer import LiveViewer

        return LiveViewer(name)
