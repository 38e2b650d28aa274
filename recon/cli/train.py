"""`recon train --config FILE key=value`: train a network."""

import signal
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from recon.cli.arguments import Arg
from recon.errors import MissingDependency
from recon.interrupts import WORDS, hold_signal
from recon.reporting import say

if TYPE_CHECKING:
    from viewer import LiveViewer


@dataclass(frozen=True)
class Train:
    """Train a network."""

    assignments: Annotated[tuple[str, ...], Arg(positional=True, metavar="KEY=VALUE")] = ()
    """Fields of the configuration to change, such as optimiser.lr=1e-4."""
    config: Path | None = None
    """YAML file of the fields that differ from their defaults."""
    resume: bool = False
    """Resume from the last state in the output folder."""
    until: Annotated[int | None, Arg(metavar="STEP")] = None
    """Stop at this step; the length of the learning-rate schedule stays the same."""
    viewer: Annotated[bool, Arg(replaces=("--view",))] = False
    """Open a viewer in the browser that shows one scene from every validation."""
    quiet: bool = False
    """Print warnings, errors and the final line only."""

    def run(self) -> None:
        """Train; state, weights and metrics are written to the output folder.

        Raises:
            SystemExit: 143 after SIGTERM and 130 after Ctrl-C, which end the training after the
                present step.
        """
        from training.config import read_config

        try:
            from training.run_folder import WEIGHTS
            from training.trainer import Trainer
        except ImportError as error:
            raise MissingDependency(
                f"recon train: {error}; pip install 'reconsplat[train]'"
            ) from None
        config = read_config(self.config, self.assignments)
        with self._live(Path(config.out).name) as live:
            watch = live.update if live is not None else None
            report = (lambda line: None) if self.quiet else say
            trainer = Trainer(config, report=report, watch=watch)
            if self.resume:
                trainer.resume()
            begin = trainer.step
            # Clusters send SIGTERM before they take a machine away.
            with hold_signal(signal.SIGTERM, signal.SIGINT) as asked:
                trainer.train(self.until, stop=lambda: asked() is not None)
                number = asked()
        if trainer.accelerator.is_main_process and trainer.step:
            end = f"; {WORDS[signal.Signals(number)]}, continue with --resume" if number else ""
            of = f"step {trainer.step} of {config.optimiser.steps}"
            wrote = "wrote" if trainer.step > begin else "nothing to train, unchanged:"
            say(f"{wrote} {Path(config.out) / WEIGHTS}: {of}{end}")
        if number:
            raise SystemExit(128 + number)

    def _live(self, name: str) -> "AbstractContextManager[LiveViewer | None]":
        if not self.viewer:
            return nullcontext()
        from viewer import LiveViewer

        return LiveViewer(name)
