"""A scene in parts, so that files larger than memory can be converted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch

from recon.types import Progress
from render import Gaussians

# Gaussians of a part; a multiple of the 256 that formats take at once.
ROWS = 1 << 18


def ignore(done: float) -> None:
    """No progress wanted."""


@dataclass(frozen=True)
class SceneSource:
    """Gaussians that can be gone through several times, in order, in parts of ROWS (the last one
    may be smaller)."""

    count: int
    sh_degree: int
    parts: Callable[[], Iterator[Gaussians]]
    """On the CPU, without gradients."""
    report: Progress = ignore
    """Told how much is done (0 to 1)."""

    @staticmethod
    def of(gaussians: Gaussians, report: Progress = ignore) -> "SceneSource":
        """A scene in memory."""
        scene = gaussians.detach().to("cpu")

        def parts() -> Iterator[Gaussians]:
            for start in range(0, len(scene), ROWS):
                yield scene[torch.arange(start, min(start + ROWS, len(scene)))]

        return SceneSource(len(scene), scene.sh_degree, parts, report)

    def read(self, turn: int = 0, turns: int = 1) -> Iterator[Gaussians]:
        """The parts, for one of several turns; progress is that of all turns."""
        done = 0
        for part in self.parts():
            yield part
            done += len(part)
            self.report((turn + done / self.count) / turns)

    def cut_to(self, degree: int) -> "SceneSource":
        """Without spherical harmonics above a degree."""
        if degree >= self.sh_degree:
            return self
        return replace(
            self, sh_degree=degree, parts=lambda: (part.cut_sh(degree) for part in self.parts())
        )

    def load(self) -> Gaussians:
        """All in memory."""
        coefficients = (self.sh_degree + 1) ** 2
        shapes = {"means": (3,), "quats": (4,), "scales": (3,), "opacities": ()}
        shapes["sh"] = (coefficients, 3)
        whole = {name: torch.zeros(self.count, *shape) for name, shape in shapes.items()}
        start = 0
        for part in self.read():
            for field in fields(Gaussians):
                whole[field.name][start : start + len(part)] = getattr(part, field.name)
            start += len(part)
        return Gaussians(**whole)


def regrouped(parts: Iterator[Gaussians]) -> Iterator[Gaussians]:
    """The same Gaussians in parts of ROWS."""
    kept: list[Gaussians] = []
    for part in parts:
        kept.append(part)
        if sum(map(len, kept)) >= ROWS:
            joined = Gaussians.cat(kept)
            index = torch.arange(len(joined))
            yield joined[index[:ROWS]]
            kept = [joined[index[ROWS:]]]
    rest = [part for part in kept if len(part)]
    if rest:
        yield Gaussians.cat(rest)
