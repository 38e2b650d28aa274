"""Scenes that are read block by block, so that files larger than memory can be converted."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import torch

from recon.formats.y_up import Up, up_axis
from recon.precision import WORLD, Origin
from render import Cameras, Gaussians

# Gaussians per block; a multiple of the 256 of a chunk of compressed PLY.
BLOCK_SIZE = 1 << 18
# Lengths of quaternions differ from 1 by no more after rounding to float32.
UNIT_ROUNDING = 1e-6


def ignore_progress(fraction: float) -> None:
    """Ignore the progress."""


@dataclass(frozen=True)
class NamedCamera:
    """A camera that a scene file keeps, such as that of a photo."""

    name: str
    camera: Cameras
    """One camera in the world frame, float64 on the CPU, without distortion."""


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
    origin: Origin = WORLD
    """World coordinates of the point that the means are relative to: not zero where float32 cannot
    hold positions in the world frame (see `recon.precision`)."""
    antialiased: bool = False
    """Whether the scene was made for rendering with the 2D filter of Mip-Splatting, which lowers
    the opacity of Gaussians thinner than a pixel (`RasterizeSettings.antialiased`)."""
    start: Cameras | None = None
    """Camera from which to look at the scene first, in the world frame, float64 (see
    `recon.start_camera`); None if the file does not tell."""
    cameras: tuple[NamedCamera, ...] = ()
    """Further cameras that the file keeps, such as those of the photos."""
    report: Callable[[float], None] = ignore_progress
    """Receives the progress of `read` (0 to 1)."""

    @staticmethod
    def of(
        gaussians: Gaussians,
        origin: Origin = WORLD,
        antialiased: bool = False,
        start: Cameras | None = None,
    ) -> "SceneSource":
        """Return a source of a scene in memory; its quaternions get unit length."""
        scene = gaussians.detach().to("cpu")

        def blocks() -> Iterator[Gaussians]:
            for start in range(0, len(scene), BLOCK_SIZE):
                yield _with_unit_quats(scene[start : start + BLOCK_SIZE])

        return SceneSource(len(scene), scene.sh_degree, blocks, origin, antialiased, start)

    def up_axis(self) -> Up:
        """Return the axis that points up, as the cameras of the file tell it."""
        start = [] if self.start is None else [self.start]
        return up_axis([named.camera for named in self.cameras] or start)

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
        return replace(self.mapped(lambda block: block.cut_sh(degree)), sh_degree=degree)

    def mapped(self, change: Callable[[Gaussians], Gaussians]) -> "SceneSource":
        """Change every block by a function that keeps the number of Gaussians."""
        return replace(self, blocks=lambda: map(change, self.blocks()))

    def scaled(self, factor: float) -> "SceneSource":
        """Multiply positions, sizes and distances between cameras by a factor."""
        if factor == 1:
            return self
        x, y, z = self.origin

        def changed(block: Gaussians) -> Gaussians:
            return replace(block, means=factor * block.means, scales=factor * block.scales)

        return replace(
            self.mapped(changed),
            origin=(factor * x, factor * y, factor * z),
            start=None if self.start is None else _scaled_camera(self.start, factor),
            cameras=tuple(
                replace(named, camera=_scaled_camera(named.camera, factor))
                for named in self.cameras
            ),
        )

    def around(self, origin: Origin) -> "SceneSource":
        """Express the means relative to another origin, which must be near for float32."""
        shift = torch.tensor(self.origin, dtype=torch.float64) - torch.tensor(origin).double()
        if not shift.any():
            return self
        moved = self.mapped(lambda b: replace(b, means=(b.means.double() + shift).to(b.means)))
        return replace(moved, origin=origin)

    def load(self) -> Gaussians:
        """Read all blocks into one scene in memory, relative to the origin."""
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


def _with_unit_quats(block: Gaussians) -> Gaussians:
    """Normalise quaternions, as the rasterizer does; formats can hold no others.

    Those that are unit but for rounding stay as they are, bit for bit, and so do zeros.
    """
    length = block.quats.double().norm(dim=-1, keepdim=True)
    other = ((length - 1).abs() > UNIT_ROUNDING) & (length > 0)
    if not other.any():
        return block
    unit = (block.quats.double() / length).to(block.quats)
    return replace(block, quats=torch.where(other, unit, block.quats))


def _scaled_camera(camera: Cameras, factor: float) -> Cameras:
    viewmats = camera.viewmats.clone()
    viewmats[..., :3, 3] *= factor
    return replace(camera, viewmats=viewmats)
