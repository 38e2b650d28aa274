"""The smallest file within a loss, or the best one of a size: tried, rendered and measured."""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recon.compress.importance import importance_order
from recon.compress.looks import Looks
from recon.compress.shrink import shrink
from recon.errors import ReconError
from recon.formats import load_gaussians, save_gaussians
from render import Gaussians

Progress = Callable[[float], None]
# A size or loss is met between this part of it and all of it.
CLOSE = 0.95
ROUNDS = 8
# Fewer Gaussians than this part of a scene are not tried.
LEAST = 0.005
# Part of the allowed loss that leaving out spherical harmonics may take.
SH_SHARE = 0.3
BYTES_PER_MB = 1_000_000


@dataclass(frozen=True)
class Packed:
    """A smaller scene, as a file holds it."""

    gaussians: Gaussians
    size: int
    """Of the file (bytes)."""
    loss_db: float
    """Measured on what the file gives back."""


class Packer:
    """Makes a scene smaller, for one format."""

    def __init__(self, scene: Gaussians, looks: Looks, suffix: str) -> None:
        self.scene, self.looks, self.suffix = scene, looks, suffix

    def pack(self, fewer: Gaussians) -> Packed:
        """Written, read back and looked at."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"scene{self.suffix}"
            save_gaussians(path, fewer)
            size, back = path.stat().st_size, load_gaussians(path)
        return Packed(fewer, size, self.looks.loss_db(back))

    def within_loss(self, limit_db: float, progress: Progress) -> Packed:
        """The smallest found that loses at most so much; ReconError when the format itself costs
        more."""
        scene = self._cut(limit_db)
        whole = self._smaller(scene, len(scene))
        if whole.loss_db > limit_db:
            raise ReconError(
                f"--max-loss {limit_db:g}: {self.suffix} alone loses {whole.loss_db:.2f} dB; allow "
                "more or choose another format"
            )
        best, low, high = whole, LEAST, 1.0
        for number in range(ROUNDS):
            progress(number / ROUNDS)
            share = math.sqrt(low * high)
            found = self._smaller(scene, max(round(share * len(scene)), 1))
            if found.loss_db <= limit_db:
                best, high = (found if found.size < best.size else best), share
                if found.loss_db >= CLOSE * limit_db:
                    break
            else:
                low = share
            if high / low < 1.03:
                break
        return best

    def _smaller(self, scene: Gaussians, count: int) -> Packed:
        """So many Gaussians that look like the scene, in order of importance."""
        fewer = shrink(scene, count, self.looks)
        return self.pack(fewer.select(importance_order(fewer, self.looks.lessons.cameras)))

    def _cut(self, limit_db: float) -> Gaussians:
        """Without the spherical harmonics that can be spared."""
        for degree in range(self.scene.sh_degree):
            cut = self.scene.cut_sh(degree)
            if self.looks.loss_db(cut) <= SH_SHARE * limit_db:
                return cut
        return self.scene

    def within_size(self, megabytes: float, progress: Progress) -> Packed:
        """The best found of at most so many megabytes; ReconError when none is small enough."""
        limit = megabytes * BYTES_PER_MB
        whole = self._smaller(self.scene, len(self.scene))
        if whole.size <= limit:
            return whole
        count = len(self.scene) * limit / whole.size
        low, high = 0, len(self.scene)
        best: Packed | None = None
        for number in range(ROUNDS):
            progress(number / ROUNDS)
            found = self._smaller(self.scene, max(int(count), 1))
            if found.size <= limit:
                best, low = found, int(count)
                if found.size >= CLOSE * limit:
                    break
            else:
                high = int(count)
            # Sizes grow nearly in step with the number, but for what every file has.
            count *= 0.5 * (1 + CLOSE) * limit / found.size
            if not low < count < high:
                count = (low + high) / 2
            if high - low < 2:
                break
        if best is None:
            raise ReconError(
                f"--target-size {megabytes:g}: even {max(low, 1)} Gaussians need more; choose a "
                "larger size or another format"
            )
        return best

    def keep(self, share: float) -> Packed:
        """The most important ones, as they are."""
        order = importance_order(self.scene, self.looks.lessons.cameras)
        return self.pack(self.scene.select(order[: max(round(share * len(order)), 1)]))
