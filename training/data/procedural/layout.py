"""Random layouts: rooms, tables and open ground with objects, and paths of cameras.

World: z up, the objects within a radius of about 1 around the origin.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Cameras
from render.cameras import look_at
from render.tensors import TensorStruct
from training.data.procedural.solids import CUBE, CYLINDER, SPHERE, Solids
from training.data.procedural.soup import Soup, random_soup
from training.data.types import SampleRequest

Number = float | int
SceneKind = Literal["room", "table", "outdoor", "plain"]
KINDS: tuple[SceneKind, ...] = ("room", "table", "outdoor", "plain")


@dataclass(frozen=True)
class Layout(TensorStruct):
    """Solids and soups with their materials, and the kind of scene."""

    kind: SceneKind
    solids: Solids
    soups: tuple[Soup, ...]
    texture: Int[Tensor, "n"]
    """Index of the texture of each solid, then of each soup; the next two in the same order."""
    density: Float[Tensor, "n"]
    """Textures per world unit."""
    gloss: Float[Tensor, "n"]
    """Strength of the specular highlight."""


class LayoutBuilder:
    """Collects solids and soups, then groups the solids by shape."""

    def __init__(self, generator: torch.Generator, textures: int) -> None:
        self.generator, self.textures = generator, textures
        self.rows: list[tuple[int, Tensor, Tensor, int, bool, tuple[int, float, float]]] = []
        self.soups: list[tuple[Soup, tuple[int, float, float]]] = []

    def uniform(self, low: Number, high: Number) -> float:
        """Draw a number in [low, high)."""
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def integer(self, count: int) -> int:
        """Draw an integer in [0, count)."""
        return int(torch.randint(count, (), generator=self.generator))

    def add(
        self,
        shape: int,
        center: Sequence[Number],
        half: Sequence[Number],
        rotmat: Tensor | None = None,
    ) -> int:
        """Add a solid and return its index.

        Args:
            shape: CUBE, SPHERE or CYLINDER.
            center: Centre (world).
            half: Half extents along its own axes.
            rotmat: World from its own axes; None for the identity.
        """
        if rotmat is None:
            rotmat = torch.eye(3)
        to_local = torch.diag(1 / torch.tensor(half, dtype=torch.float32)) @ rotmat.T
        origin = torch.tensor(center, dtype=torch.float32)
        self.rows.append((shape, to_local, origin, -1, True, self.material()))
        return len(self.rows) - 1

    def material(self) -> tuple[int, float, float]:
        """Draw a material: texture, density, gloss."""
        gloss = self.uniform(0.2, 0.8) if self.uniform(0, 1) < 0.25 else 0.0
        density = math.exp(self.uniform(math.log(0.25), math.log(1.6)))
        return self.integer(self.textures), density, gloss

    def add_soup(self, size: float, base: tuple[float, float, float]) -> None:
        """Add a random triangle soup."""
        self.soups.append((random_soup(self.generator, size, base), self.material()))

    def cut(self, solid: int, cutter: int) -> None:
        """Cut one solid out of another, and make the cutter invisible."""
        shape, to_local, center, _, _, material = self.rows[solid]
        self.rows[solid] = (shape, to_local, center, cutter, True, material)
        shape, to_local, center, old, _, material = self.rows[cutter]
        self.rows[cutter] = (shape, to_local, center, old, False, material)

    def rotation(self, upright: bool) -> Tensor:
        """Draw a rotation about the vertical, or about any axis."""
        angle = self.uniform(0, 2 * math.pi)
        c, s = math.cos(angle), math.sin(angle)
        about_z = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])
        if upright:
            return about_z
        q, r = torch.linalg.qr(torch.randn(3, 3, generator=self.generator))
        rotmat: Tensor = q * torch.sign(r.diagonal())
        return rotmat

    def layout(self, kind: SceneKind) -> Layout:
        """Return all solids, grouped by shape, and all soups."""
        order = sorted(range(len(self.rows)), key=lambda i: self.rows[i][0])
        position = {old: new for new, old in enumerate(order)}
        rows = [self.rows[i] for i in order]
        counts = tuple(sum(row[0] == shape for row in rows) for shape in (CUBE, SPHERE, CYLINDER))
        solids = Solids(
            counts=counts,  # type: ignore[arg-type]
            to_local=torch.stack([row[1] for row in rows]),
            centers=torch.stack([row[2] for row in rows]),
            cutters=torch.tensor([position.get(row[3], -1) for row in rows]),
            visible=torch.tensor([row[4] for row in rows]),
        )
        materials = [row[5] for row in rows] + [material for _, material in self.soups]
        return Layout(
            kind,
            solids,
            tuple(soup for soup, _ in self.soups),
            torch.tensor([material[0] for material in materials]),
            torch.tensor([material[1] for material in materials]),
            torch.tensor([material[2] for material in materials]),
        )


def random_layout(generator: torch.Generator, textures: int) -> Layout:
    """Draw a scene of a random kind."""
    build = LayoutBuilder(generator, textures)
    kind = KINDS[build.integer(len(KINDS))]
    floor = 0.0
    if kind == "room":
        _room(build)
    elif kind == "table":
        _table(build)
    elif kind == "outdoor":
        _outdoor(build)
    for _ in range(3 + build.integer(8)):
        _object(build, floor)
    for _ in range(build.integer(4)):
        _thin(build, floor)
    for _ in range(max(0, build.integer(4) - 1)):
        base = (build.uniform(-1.1, 1.1), build.uniform(-1.1, 1.1), floor)
        build.add_soup(build.uniform(0.3, 0.9), base)
    return build.layout(kind)


def _room(build: LayoutBuilder) -> None:
    """Add a floor, two to four walls and sometimes a ceiling."""
    half = [build.uniform(2.0, 4.5), build.uniform(2.0, 4.5)]
    height = build.uniform(2.0, 3.5)
    build.add(CUBE, [0, 0, -0.5], [9, 9, 0.5])
    walls = [(0, 1), (1, 1), (0, -1), (1, -1)]
    for axis, side in walls[: 2 + build.integer(3)]:
        center, size = [0.0, 0.0, height / 2], [9.0, 9.0, height / 2]
        center[axis], size[axis] = side * (half[axis] + 0.1), 0.1
        build.add(CUBE, center, size)
    if build.uniform(0, 1) < 0.3:
        build.add(CUBE, [0, 0, height + 0.1], [9, 9, 0.1])


def _table(build: LayoutBuilder) -> None:
    """Add a table top, the floor below and a wall behind."""
    build.add(CUBE, [0, 0, -0.06], [build.uniform(1.1, 2.0), build.uniform(1.1, 2.0), 0.06])
    build.add(CUBE, [0, 0, -1.6], [12, 12, 0.5])
    build.add(
        CUBE,
        [0, build.uniform(2.5, 6), 1],
        [12, 0.1, 5],
        build.rotation(True) if build.uniform(0, 1) < 0.2 else None,
    )


def _outdoor(build: LayoutBuilder) -> None:
    """Add ground with mounds, and distant buildings or trees."""
    build.add(CUBE, [0, 0, -0.5], [60, 60, 0.5])
    for _ in range(build.integer(5)):
        center = [build.uniform(-12, 12), build.uniform(-12, 12), build.uniform(-0.2, 0)]
        wide = build.uniform(1.5, 6)
        build.add(SPHERE, center, [wide, build.uniform(1.5, 6), build.uniform(0.2, 1.2)])
    for _ in range(2 + build.integer(6)):
        angle, distance = build.uniform(0, 2 * math.pi), build.uniform(5, 28)
        tall = build.uniform(0.8, 4)
        center = [distance * math.cos(angle), distance * math.sin(angle), tall]
        size = [build.uniform(0.6, 3), build.uniform(0.6, 3), tall]
        build.add(
            CUBE if build.uniform(0, 1) < 0.7 else CYLINDER, center, size, build.rotation(True)
        )


def _object(build: LayoutBuilder, floor: float) -> None:
    """Add an object that stands on the floor or floats, sometimes with a piece cut out."""
    shape = build.integer(3)
    half = [math.exp(build.uniform(math.log(0.1), math.log(0.5))) for _ in range(3)]
    if shape == SPHERE and build.uniform(0, 1) < 0.6:
        half = [half[0]] * 3
    spread = 1.3
    floats = build.uniform(0, 1) < 0.15
    center = [build.uniform(-spread, spread), build.uniform(-spread, spread), floor + half[2]]
    if floats:
        center[2] += build.uniform(0.1, 1.0)
    solid = build.add(shape, center, half, build.rotation(not floats))
    if build.uniform(0, 1) < 0.25:
        size = [h * build.uniform(0.5, 0.9) for h in half]
        offset = [c + build.uniform(-0.8, 0.8) * h for c, h in zip(center, half, strict=True)]
        build.cut(solid, build.add(build.integer(3), offset, size, build.rotation(False)))


def _thin(build: LayoutBuilder, floor: float) -> None:
    """Add a pole, a bar or a board on edge."""
    radius, long = build.uniform(0.008, 0.03), build.uniform(0.3, 0.9)
    position = [build.uniform(-1.2, 1.2), build.uniform(-1.2, 1.2)]
    if build.uniform(0, 1) < 0.6:
        build.add(CYLINDER, [*position, floor + long], [radius, radius, long])
    else:
        build.add(
            CUBE,
            [*position, floor + build.uniform(0.1, 0.9)],
            [long, radius, build.uniform(0.01, 0.2)],
            build.rotation(True),
        )


def random_cameras(generator: torch.Generator, request: SampleRequest) -> Cameras:
    """Draw cameras that face the objects from an arc or a forward path.

    The field of view is 30 to 80 degrees; neighbours are 2 to 20 degrees apart, times the baseline
    of the request.
    """
    views, width, height = request.views, request.width, request.height

    def uniform(low: Number, high: Number) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    azimuth, distance = uniform(-0.9, 0.9) - math.pi / 2, uniform(1.9, 3.6)
    step = (
        request.baseline
        * math.radians(math.exp(uniform(math.log(2), math.log(20))))
        * (1 if uniform(0, 1) < 0.5 else -1)
    )
    elevation, forward = math.radians(uniform(6, 45)), uniform(0, 1) < 0.15
    target = torch.tensor([uniform(-0.3, 0.3), uniform(-0.3, 0.3), uniform(0.1, 0.5)])
    centers = []
    for i in range(views):
        k = i - (views - 1) / 2
        angle = azimuth + (0.15 if forward else 1.0) * k * step
        reach = distance * (1 - (0.8 * k * abs(step) if forward else 0)) * uniform(0.95, 1.05)
        lift = elevation + uniform(-0.15, 0.15) * abs(step) * views
        flat = max(reach, 1.4) * math.cos(lift)
        centers.append(
            [flat * math.cos(angle), flat * math.sin(angle), max(reach * math.sin(lift), 0.15)]
        )
    fov_deg = uniform(30, 80)
    jitter = 0.08 * torch.randn(views, 3, generator=generator)
    viewmats = torch.stack(
        [look_at(torch.tensor(p), target + j) for p, j in zip(centers, jitter, strict=True)]
    )
    center_px = (width * uniform(0.45, 0.55), height * uniform(0.45, 0.55))
    return Cameras.from_fov(viewmats, fov_deg, width, height, "width", center_px)
