"""Output of a training run: log lines, metrics.jsonl and boards."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from recon.errors import InputError
from recon.files import atomic_output
from recon.reporting import shown_time
from training.boards import Board
from training.losses import PSNR, SQUARED_ERROR, TOTAL

METRICS = "metrics.jsonl"
Report = Callable[[str], None]


class MetricsLogger:
    """Collects the losses of steps and writes their means."""

    def __init__(
        self,
        folder: Path,
        report: Report,
        boards: Sequence[Board] = (),
        peak: Callable[[], float] = lambda: math.inf,
    ) -> None:
        """Collect nothing yet.

        Args:
            folder: Folder of the run.
            report: Receives lines of text for the user.
            boards: Also receive the scalars and images.
            peak: Measures the floating-point operations per second of a large matrix product.
        """
        self.folder, self.report, self.boards, self.peak = folder, report, boards, peak
        self.rows: list[dict[str, float]] = []
        self.skipped = 0
        self.since, self.waited_s, self.flops = time.monotonic(), 0.0, 0.0

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

    def forget_after(self, step: int) -> None:
        """Remove the lines of later steps, which a run that is resumed takes again."""
        path = self.folder / METRICS
        with self._writing(path):
            if not path.is_file():
                return
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= step]
            if len(kept) < len(lines):
                with atomic_output(path) as temporary:
                    temporary.write_text("".join(kept), encoding="utf-8")

    def add(self, losses: dict[str, float], flops: float = 0.0, skipped: bool = False) -> None:
        """Collect the losses of one step, and the operations that the network needs for it.

        Of a step that was skipped, or whose losses are not finite, only its number counts: one NaN
        would be the mean of all.
        """
        if skipped or not all(map(math.isfinite, losses.values())):
            self.skipped += 1
        else:
            self.rows.append(losses)
        self.flops += flops

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of this block as spent waiting for scenes."""
        start = time.monotonic()
        yield
        self.waited_s += time.monotonic() - start

    def write(self, step: int, until: int, scenes: int, lr: float) -> None:
        """Write the mean losses of the collected steps, the speed and the time left.

        `skipped` is the number of steps whose losses are not among them, if any.
        `waiting` is the fraction of the time since the last line that was spent waiting for scenes.
        `mfu`, the model FLOPs utilisation (Chowdhery et al., PaLM, 2022, appendix B), is the
        network's operations since then, relative to those of matrix products in the same time.

        Args:
            step: Number of steps done.
            until: Step at which this call of `Trainer.train` ends.
            scenes: Scenes per step.
            lr: Learning rate of the last step.
        """
        steps = len(self.rows) + self.skipped
        if not steps:
            return
        passed = time.monotonic() - self.since
        seconds, waiting = passed / steps, self.waited_s / max(passed, 1e-9)
        names = list(self.rows[-1]) if self.rows else []
        means = {name: sum(row[name] for row in self.rows) / len(self.rows) for name in names}
        skipped = {"skipped": self.skipped} if self.skipped else {}
        self.rows, self.skipped, self.waited_s = [], 0, 0.0
        error = means.pop(SQUARED_ERROR, None)  # None where nothing can be rendered
        scores = {} if error is None else {PSNR: -10 * math.log10(max(error, 1e-10))}
        speed = {"samples_per_s": scenes / seconds, "waiting": waiting}
        if self.flops:
            speed["mfu"] = self.flops / max(passed, 1e-9) / self.peak()
        self.since, self.flops = time.monotonic(), 0.0
        row = {"step": step, **speed, "lr": lr, **skipped, **scores, **means}
        metrics = self.folder / METRICS
        with self._writing(metrics):
            self.folder.mkdir(parents=True, exist_ok=True)
            _append(metrics, json.dumps(row) + "\n")
        self.scalars("train", {k: v for k, v in row.items() if k != "step"}, step)
        parts = [f"step {step}/{until}"]
        parts += [f"loss {means[TOTAL]:.4f}"] if means else []
        parts += [f"{count} skipped" for count in skipped.values()]
        parts += [f"PSNR {value:.2f}" for value in scores.values()]
        parts += [f"{k} {v:.3f}" for k, v in means.items() if k not in ("mse", TOTAL)]
        parts += [f"{scenes / seconds:.2f} samples/s", f"waiting {waiting:.0%}"]
        parts += [f"MFU {speed['mfu']:.0%}"] if "mfu" in speed else []
        parts += [f"{shown_time(seconds * (until - step))} left"]
        self.report("  ".join(parts))

    def scalars(self, group: str, values: dict[str, float], step: int) -> None:
        """Add scalars to the boards."""
        for board in self.boards:
            with self._writing(board.folder):
                board.scalars(group, values, step)

    def image(self, name: str, image: Float[Tensor, "3 h w"], step: int) -> None:
        """Add an image to the boards."""
        for board in self.boards:
            with self._writing(board.folder):
                board.image(name, image, step)


def _step_of(line: str) -> float:
    """Return the step of a line of metrics; infinity if the line was cut."""
    try:
        return float(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf


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
