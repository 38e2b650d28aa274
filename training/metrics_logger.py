"""Output of a training run: log lines, metrics.jsonl and tensorboard."""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from recon.errors import InputError
from training.losses import PSNR, SQUARED_ERROR, TOTAL

METRICS, TENSORBOARD = "metrics.jsonl", "tensorboard"
Report = Callable[[str], None]


class MetricsLogger:
    """Collects the losses of steps and writes their means."""

    def __init__(self, folder: Path, report: Report, tensorboard: bool) -> None:
        self.folder, self.report, self.tensorboard = folder, report, tensorboard
        self.rows: list[dict[str, float]] = []
        self.since, self.waited_s = time.monotonic(), 0.0
        self._writer: Any = None

    def _tensorboard(self, step: int) -> Any:
        """Return tensorboard's writer, opened on first use; None if it is disabled."""
        if self.tensorboard and self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            running = set(threading.enumerate())
            # A run that was killed may have logged steps that are now repeated.
            self._writer = SummaryWriter(str(self.folder / TENSORBOARD), purge_step=step)
            _without_tracebacks(set(threading.enumerate()) - running)
        return self._writer

    @contextmanager
    def _writing(self, path: Path) -> Iterator[None]:
        """Raise InputError where metrics cannot be written."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot write {path}: {error.strerror or error}; make room or choose another "
                "out=FOLDER"
            ) from error

    def add(self, losses: dict[str, float]) -> None:
        """Collect the losses of one step."""
        self.rows.append(losses)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of this block as spent waiting for scenes."""
        start = time.monotonic()
        yield
        self.waited_s += time.monotonic() - start

    def write(self, step: int, until: int, scenes: int, lr: float) -> None:
        """Write the mean losses of the collected steps, the speed and the time left.

        `waiting` is the fraction of the time since the last line that was spent waiting for scenes.

        Args:
            step: Number of steps done.
            until: Step at which this call of `Trainer.train` ends.
            scenes: Scenes per step.
            lr: Learning rate of the last step.
        """
        if not self.rows:
            return
        passed = time.monotonic() - self.since
        seconds, waiting = passed / len(self.rows), self.waited_s / max(passed, 1e-9)
        names = self.rows[-1]
        means = {name: sum(row[name] for row in self.rows) / len(self.rows) for name in names}
        self.rows, self.since, self.waited_s = [], time.monotonic(), 0.0
        error = means.pop(SQUARED_ERROR, None)  # None where nothing can be rendered
        scores = {} if error is None else {PSNR: -10 * math.log10(max(error, 1e-10))}
        speed = {"samples_per_s": scenes / seconds, "waiting": waiting}
        row = {"step": step, **speed, "lr": lr, **scores, **means}
        metrics = self.folder / METRICS
        with self._writing(metrics):
            self.folder.mkdir(parents=True, exist_ok=True)
            _append(metrics, json.dumps(row) + "\n")
        self.scalars("train", {k: v for k, v in row.items() if k != "step"}, step)
        parts = [f"step {step}/{until}", f"loss {means[TOTAL]:.4f}"]
        parts += [f"PSNR {value:.2f}" for value in scores.values()]
        parts += [f"{k} {v:.3f}" for k, v in means.items() if k not in ("mse", TOTAL)]
        parts += [f"{scenes / seconds:.2f} samples/s", f"waiting {waiting:.0%}"]
        parts += [_time_left(seconds * (until - step))]
        self.report("  ".join(parts))

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Write scalars to tensorboard."""
        with self._writing(self.folder / TENSORBOARD):
            writer = self._tensorboard(step)
            if writer is not None:
                for name, value in values.items():
                    writer.add_scalar(f"{group}/{name}", value, step)
                writer.flush()

    def image(self, name: str, image: Float[Tensor, "3 h w"], step: int) -> None:
        """Write an image to tensorboard."""
        with self._writing(self.folder / TENSORBOARD):
            writer = self._tensorboard(step)
            if writer is not None:
                writer.add_image(name, image, step)
                writer.flush()


def _append(path: Path, line: str) -> None:
    """Append a line to a file, completely or not at all."""
    before = path.stat().st_size if path.exists() else 0
    try:
        with path.open("a") as handle:
            handle.write(line)
    except OSError:
        with suppress(OSError):  # there may be no file yet
            os.truncate(path, before)
        raise


def _without_tracebacks(threads: Collection[threading.Thread]) -> None:
    """Print no traceback of an error in these threads, whose writer raises it by its next call."""
    others = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if found.thread not in threads:
            others(found)

    threading.excepthook = hook


def _time_left(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min left" if hours else f"{minutes} min left"
