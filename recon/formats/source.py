"""Scenes that are read block by block, so that files larger than memory can be converted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch

from render import Gaussians

# Gaussians per block; a multiple of the 256 of a chunk of compressed PLY.
BLOCK_SIZE = 1 << 18


def ignore_progress(fraction: float) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class SceneSource:
    """Gaussians that can be iterated several times, in order.

    Blocks have BLOCK_SIZE Gaussians; the last one may have fewer.
    """

    count: int
    """Number of Gaussians."""
    sh_degree: int
    """Degree of the spherical harmonics."""
    blocks: Callable[[], Iterator[Gaussians]]
    """Starts an iteration over the blocks, which are on the CPU and without gradients."""
    report: Callable[[float], None] = ignore_progress
    """Receives the progress of `read` (0 to 1)."""

    @staticmethod
    def of(
        gaussians: Gaussians, report: Callable[[float], None] = ignore_progress
    ) -> "SceneSource":
        """Return a source of a scene in memory."""
        scene = gaussians.detach().to("cpu")

        def blocks() -> Iterator[Gaussians]:
            for start in range(0, len(scene), BLOCK_SIZE):
                yield scene[start : start + BLOCK_SIZE]

        return SceneSource(len(scene), scene.sh_degree, blocks, report)

    def read(self, index: int = 0, passes: int = 1) -> Iterator[Gaussians]:
        """Iterate over the blocks and report the progress.

        Args:
            index: Index of this pass.
            passes: Number of passes that the reported progress covers.
        """
        done = 0
        for block in self.blocks():
            yield block
            done += len(block)
            self.report((index + done / self.count) / passes)

    def cut_to(self, degree: int) -> "SceneSource":
        """Drop the spherical harmonics above a degree."""
        if degree >= self.sh_degree:
            return self
        return replace(
            self, sh_degree=degree, blocks=lambda: (block.cut_sh(degree) for block in self.blocks())
        )

    def load(self) -> Gaussians:
        """Read all blocks into one scene in memory."""
        coefficients = (self.sh_degree + 1) ** 2
        shapes: dict[str, tuple[int, ...]] = {
            "means": (3,),
            "quats": (4,),
            "scales": (3,),
            "opacities": (),
            "sh": (coefficients, 3),
        }
        tensors = {name: torch.zeros(self.count, *shape) for name, shape in shapes.items()}
        start = 0
        for block in self.read():
            for field in fields(Gaussians):
                tensors[field.name][start : start + len(block)] = getattr(block, field.name)
            start += len(block)
        return Gaussians(**tensors)


def regroup(blocks: Iterator[Gaussians]) -> Iterator[Gaussians]:
    """Regroup blocks of any size into blocks of BLOCK_SIZE, as readers that drop rows need."""
    pending: list[Gaussians] = []
    for block in blocks:
        pending.append(block)
        if sum(map(len, pending)) >= BLOCK_SIZE:
            joined = Gaussians.cat(pending)
            yield joined[:BLOCK_SIZE]
            pending = [joined[BLOCK_SIZE:]]
    rest = [block for block in pending if len(block)]
    if rest:
        yield Gaussians.cat(rest)
