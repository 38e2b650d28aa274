"""The smallest file within a loss, or the best one of a size: tried, rendered and measured."""

import math
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from recon.compress.approach import AIM, approach, is_met
from recon.compress.harmonics import lower_sh
from recon.compress.looks import Looks
from recon.compress.quantise import Steps, find_steps, quantise
from recon.compress.shrink import shrink
from recon.errors import ConfigError
from recon.files import atomic_output
from recon.formats import SceneSource, load_gaussians, save_gaussians
from recon.formats.sog import write_sog
from recon.formats.spz import SpzConfig, write_spz
from recon.simplify.importance import importance_order
from recon.types import Progress
from render import Gaussians

# Part of a loss that spherical harmonics which are left out, and rounded numbers, may take.
SH_SHARE, ROUNDING_SHARE = 0.3, 0.2
# Where the search starts: part of the Gaussians; how a loss grows with their number, and a size.
FIRST_SHARE, LOSS_SLOPE, SIZE_SLOPE = 0.3, -1.5, 1.0
# How often rounding may make up for what numbers of Gaussians cannot, and how much more or less it
# may take for that.
TUNINGS, TUNED = 2, (0.25, 4.0)
BYTES_PER_MB = 1_000_000
# These pack few different values into less.
PACKING: dict[str, Callable[[Path, SceneSource, int], None]] = {
    ".sog": write_sog,
    ".spz": lambda path, source, dropped: write_spz(path, source, SpzConfig(dropped_bits=dropped)),
}
# These have an order of their own.
REORDERING = (*PACKING, ".compressed.ply")


@dataclass(frozen=True)
class Packed:
    """A smaller scene in a file."""

    path: Path
    count: int
    """Gaussians."""
    loss_db: float
    """Measured on what the file gives back."""

    @property
    def size(self) -> int:
        """Of the file (bytes)."""
        return self.path.stat().st_size


class Packer:
    """Makes a scene smaller, for one format; a context, which keeps what it tries in a scratch
    folder."""

    def __init__(self, scene: Gaussians, looks: Looks, suffix: str) -> None:
        self.scene, self.looks, self.suffix = scene, looks, suffix
        self.tried = 0
        self.balanced: dict[tuple[int, int], Packed] = {}

    def __enter__(self) -> "Packer":
        self.scratch = tempfile.TemporaryDirectory(prefix="recon-compress-")
        return self

    def __exit__(self, *exception: object) -> None:
        self.scratch.cleanup()

    def pack(self, fewer: Gaussians, steps: Steps | None = None) -> Packed:
        """Written, in order of importance where the format keeps one, read back and looked at."""
        if self.suffix not in REORDERING:
            fewer = fewer[importance_order(fewer, self.looks.lessons.cameras)]
        return self._looked_at(fewer, steps or Steps())

    def _looked_at(self, scene: Gaussians, steps: Steps) -> Packed:
        path = self._write(scene, steps)
        return Packed(path, len(scene), self.looks.loss_db(load_gaussians(path)))

    def save(self, packed: Packed, path: Path) -> None:
        """Put the file where it belongs."""
        with atomic_output(path) as temporary:
            shutil.copyfile(packed.path, temporary)

    def _write(self, scene: Gaussians, steps: Steps) -> Path:
        self.tried += 1
        path = Path(self.scratch.name) / f"{self.tried}{self.suffix}"
        if self.suffix in PACKING:
            source = SceneSource.of(quantise(scene, steps))
            PACKING[self.suffix](path, source, steps.dropped_bits)
        else:
            save_gaussians(path, scene)
        return path

    def _stored(self, scene: Gaussians, dropped_bits: int) -> Gaussians:
        """What the format gives back."""
        path = self._write(scene, Steps(dropped_bits=dropped_bits))
        found = load_gaussians(path)
        path.unlink()
        return found

    def _steps(self, scene: Gaussians, loss_db: float) -> Steps:
        if self.suffix not in PACKING:
            return Steps()
        return find_steps(scene, self.looks, loss_db, self._stored)

    def within_loss(self, limit_db: float, progress: Progress) -> Packed:
        """The smallest found that loses at most so much; ReconError when the format itself costs
        more."""
        scene, whole = self._cut(limit_db), self.pack(self.scene)
        if whole.loss_db > limit_db:
            raise ConfigError(
                f"max_loss={limit_db:g}: {self.suffix} alone loses {whole.loss_db:.2f} dB; allow "
                "more or choose another format",
                "max_loss",
            )
        rounding = ROUNDING_SHARE * (limit_db - whole.loss_db)
        steps = self._steps(scene, rounding)

        def attempt(count: int) -> Packed:
            return self.pack(shrink(scene, count, self.looks), steps)

        found = approach(
            attempt, lambda packed: packed.loss_db, limit_db, LOSS_SLOPE,
            round(FIRST_SHARE * len(scene)), len(scene), progress,
        )  # fmt: skip
        good = [packed for packed in (whole, *found) if packed.loss_db <= limit_db]
        best = min(good, key=lambda packed: packed.size)
        if best is whole or self.suffix not in PACKING or is_met(best.loss_db, limit_db):
            return best
        fewer = shrink(scene, best.count, self.looks)
        return self._rounded_more(limit_db, best, fewer, steps, rounding)

    def _rounded_more(
        self, limit_db: float, best: Packed, fewer: Gaussians, steps: Steps, rounding_db: float
    ) -> Packed:
        """These Gaussians, with coarser steps than those that cost so much: the loss need not fall
        evenly with the number of Gaussians, so that none may bring it just below the limit."""
        last = best
        for _ in range(TUNINGS):
            # What rounding loses goes with the square of its steps, beside the format's own grid.
            more = 1 + (AIM * limit_db - last.loss_db) / max(rounding_db, 1e-9)
            more = min(max(more, TUNED[0]), TUNED[1])
            steps, rounding_db = steps.times(math.sqrt(more)), rounding_db * more
            last = self.pack(fewer, steps)
            if last.loss_db <= limit_db and last.size < best.size:
                best = last
            if is_met(last.loss_db, limit_db):
                break
        return best

    def _cut(self, limit_db: float) -> Gaussians:
        """Without the spherical harmonics that can be spared."""
        for degree in range(self.scene.sh_degree):
            cut = lower_sh(self.scene, degree, self.looks.lessons.cameras)
            if self.looks.loss_db(cut) <= SH_SHARE * limit_db:
                return cut
        return self.scene

    def within_size(self, megabytes: float, progress: Progress) -> Packed:
        """The best found of at most so many megabytes; ReconError when none is small enough."""
        limit = megabytes * BYTES_PER_MB
        whole = self.pack(self.scene)
        if whole.size <= limit:
            return whole

        scene, count = self._spared(limit, whole.size)
        found = approach(
            partial(self._balanced, scene), lambda packed: packed.size, limit, SIZE_SLOPE,
            count, len(scene), progress,
        )  # fmt: skip
        good = [packed for packed in found if packed.size <= limit]
        if not good:
            least = min(found, key=lambda packed: packed.size)
            raise ConfigError(
                f"target_size={megabytes:g}: {least.count:,} of the Gaussians take "
                f"{least.size / BYTES_PER_MB:.4g} MB already; choose more or another format",
                "target_size",
            )
        return min(good, key=lambda packed: packed.loss_db)

    def _spared(self, limit: float, whole: int) -> tuple[Gaussians, int]:
        """Without the spherical harmonics that say less than more Gaussians in their place; and
        about how many fit into the bytes; `whole` is the size of all."""
        tried: list[tuple[float, Gaussians, int]] = []
        for degree in range(self.scene.sh_degree + 1):
            scene = lower_sh(self.scene, degree, self.looks.lessons.cameras)
            all_there = degree == self.scene.sh_degree
            size = whole if all_there else self._write(scene, Steps()).stat().st_size
            count = min(max(round(len(scene) * limit / size), 1), len(scene))
            if self.scene.sh_degree == 0:
                return scene, count
            found = self._balanced(scene, count)
            # At the same size; those that are all there already could not be more.
            unlike = found.size / limit if count < len(scene) else max(found.size / limit, 1.0)
            tried.append((found.loss_db * unlike**-LOSS_SLOPE, scene, count))
        _, scene, count = min(tried, key=lambda each: each[0])
        return scene, count

    def _balanced(self, scene: Gaussians, count: int) -> Packed:
        """So many Gaussians of the scene with the harmonics it has here; rounding may cost its
        share of what having fewer costs."""
        wish = scene.sh_degree, count
        if wish not in self.balanced:
            fewer = shrink(scene, count, self.looks)
            rounding = self.looks.loss_db(fewer) * ROUNDING_SHARE / (1 - ROUNDING_SHARE)
            self.balanced[wish] = self.pack(fewer, self._steps(fewer, rounding))
        return self.balanced[wish]

    def keep(self, share: float) -> Packed:
        """The most important ones, as they are."""
        order = importance_order(self.scene, self.looks.lessons.cameras)
        kept = self.scene[order[: max(round(share * len(order)), 1)]]
        return self._looked_at(kept, Steps())
