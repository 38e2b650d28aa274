"""Boards that plot a training run: TensorBoard, and Weights & Biases without a network."""

import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from recon.errors import MissingDependency

TENSORBOARD, WANDB = "tensorboard", "wandb"


@runtime_checkable
class Board(Protocol):
    """Receives scalars and images of a run by step; its files are in `folder`."""

    folder: Path

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Add scalars by name."""

    def image(self, name: str, image: Float[Tensor, "3 h w"], step: int) -> None:
        """Add an image, display sRGB in [0, 1]."""


class TensorBoard:
    """Writes TensorBoard's event files to the run's folder."""

    def __init__(self, run: Path) -> None:
        self.folder = run / TENSORBOARD
        self._writer: Any = None

    def _opened(self, step: int) -> Any:
        """Return the writer, opened on first use."""
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            running = set(threading.enumerate())
            # A run that was killed may have logged steps that are now repeated.
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
            _without_tracebacks(set(threading.enumerate()) - running)
        return self._writer

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Add scalars as GROUP/NAME."""
        writer = self._opened(step)
        for name, value in values.items():
            writer.add_scalar(f"{group}/{name}", value, step)
        writer.flush()

    def image(self, name: str, image: Float[Tensor, "3 h w"], step: int) -> None:
        """Add an image."""
        writer = self._opened(step)
        writer.add_image(name, image, step)
        writer.flush()


class WeightsAndBiases:
    """Writes a run of Weights & Biases to the run's folder; `wandb sync` uploads it.

    Raises:
        MissingDependency: wandb is not installed.
    """

    def __init__(self, run: Path) -> None:
        try:
            import wandb
        except ImportError as error:
            raise MissingDependency(
                f"wandb=true: {error}; pip install 'reconsplat[wandb]' or leave it out"
            ) from None
        self.folder, self._name, self._wandb = run / WANDB, run.name, wandb
        self._run: Any = None

    def _opened(self) -> Any:
        """Return wandb's run, opened on first use."""
        if self._run is None:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._run = self._wandb.init(
                project="recon", name=self._name, dir=str(self.folder.parent), mode="offline",
                settings=self._wandb.Settings(silent=True),
            )  # fmt: skip
        return self._run

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Add scalars as GROUP/NAME."""
        self._opened().log({f"{group}/{name}": value for name, value in values.items()}, step)

    def image(self, name: str, image: Float[Tensor, "3 h w"], step: int) -> None:
        """Add an image."""
        shown = self._wandb.Image(image.movedim(0, -1).numpy())
        self._opened().log({name: shown}, step)


def _without_tracebacks(threads: Collection[threading.Thread]) -> None:
    """Print no traceback of an error in these threads, whose writer raises it by its next call."""
    others = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if found.thread not in threads:
            others(found)

    threading.excepthook = hook
