"""What a run says while it goes: lines, metrics.jsonl, tensorboard."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

METRICS, BOARD = "metrics.jsonl", "tensorboard"
Report = Callable[[str], None]


class Logbook:
    """Collects the losses of steps and writes their means."""

    def __init__(self, folder: Path, report: Report, tensorboard: bool) -> None:
        self.folder, self.report, self.tensorboard = folder, report, tensorboard
        self.rows: list[dict[str, float]] = []
        self.since = time.monotonic()
        self._board: Any = None

    def board(self, step: int) -> Any:
        """Tensorboard's writer, or None; opened when it is first needed."""
        if self.tensorboard and self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            # A run that was killed may have written steps that are now made again.
            self._board = SummaryWriter(str(self.folder / BOARD), purge_step=step)
        return self._board

    def add(self, losses: dict[str, float]) -> None:
        """Remember one step."""
        self.rows.append(losses)

    def write(self, step: int, until: int, scenes: int, lr: float) -> None:
        """A line about the steps since the last: means of their losses, speed and time left."""
        if not self.rows:
            return
        seconds = (time.monotonic() - self.since) / len(self.rows)
        names = self.rows[-1]
        means = {name: sum(row[name] for row in self.rows) / len(self.rows) for name in names}
        self.rows, self.since = [], time.monotonic()
        row = {"step": step, "samples_per_s": scenes / seconds, "lr": lr, **means}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / METRICS).open("a") as handle:
            handle.write(json.dumps(row) + "\n")
        self.scalars("train", {k: v for k, v in row.items() if k != "step"}, step)
        psnr = -10 * math.log10(max(means["mse"], 1e-10))
        parts = [f"step {step}/{until}", f"loss {means['total']:.4f}", f"PSNR {psnr:.2f}"]
        parts += [f"{k} {v:.3f}" for k, v in means.items() if k not in ("mse", "total")]
        parts += [f"{scenes / seconds:.2f} samples/s", _left(seconds * (until - step))]
        self.report("  ".join(parts))

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """To tensorboard."""
        board = self.board(step)
        if board is not None:
            for name, value in values.items():
                board.add_scalar(f"{group}/{name}", value, step)
            board.flush()

    def picture(self, name: str, picture: Float[Tensor, "3 h w"], step: int) -> None:
        """To tensorboard."""
        board = self.board(step)
        if board is not None:
            board.add_image(name, picture, step)
            board.flush()


def _left(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min left" if hours else f"{minutes} min left"
