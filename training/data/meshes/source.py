"""The source: rendered once, cached, views drawn from the cache."""

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recon.errors import InputError, MissingDependency
from recon.files import atomic_output
from render import Cameras
from render.cameras import look_at
from training.data.types import SampleRequest, Skipped, TrainingSample, Unusable

SUFFIXES = (".glb", ".gltf", ".obj")
TRIES = 20
FORMAT = 1
# What lies behind an object, relative to its farthest point.
BACKGROUND = 2.0


@dataclass(frozen=True)
class MeshesConfig:
    """Objects before a plain background."""

    weight: float = 0.0
    """How often scenes come from here, relative to the other sources."""
    folder: str = ""
    """Folder of .glb, .gltf and .obj files, at any depth."""
    cache: str = "~/.cache/recon/meshes"
    """Where rendered pictures are kept."""
    rendered: int = 24
    """Pictures rendered of each mesh."""
    neighbours: int = 10
    """Context and targets are drawn from a picture and so many of its nearest ones (times the
    baseline asked for)."""


@dataclass(frozen=True)
class MeshScenes:
    """The source. Meshes that cannot be read are skipped and counted."""

    config: MeshesConfig
    skipped: Skipped = field(default_factory=Skipped)

    @functools.cached_property
    def files(self) -> Sequence[Path]:
        """All meshes, in order; ReconError when there is none."""
        folder = Path(self.config.folder)
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"dataset.meshes.folder: no {', '.join(SUFFIXES)} files in {folder}")
        return found

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Views of one object, near one another, in random roles."""
        generator = request.generator()
        if request.views > self.config.rendered:
            raise InputError(
                f"dataset.meshes.rendered is {self.config.rendered}, but context and targets need "
                f"{request.views} pictures of a mesh"
            )
        for _ in range(TRIES):
            path = self.files[int(torch.randint(len(self.files), (), generator=generator))]
            try:
                pictures = self._pictures(path, request)
            except Unusable as error:
                self.skipped.note(str(error))
                continue
            return _sample(pictures, self.config, request, generator)
        reasons = ", ".join(f"{reason} ({n})" for reason, n in self.skipped.reasons.items())
        raise InputError(f"no usable mesh in {self.config.folder} after {TRIES} tries: {reasons}")

    def _pictures(self, path: Path, request: SampleRequest) -> dict[str, Tensor]:
        """From the cache; a broken or missing entry is rendered."""
        folder = Path(self.config.cache).expanduser()
        file = folder / f"{self._key(path, request)}.safetensors"
        try:
            return load_file(file)
        except (FileNotFoundError, SafetensorError):
            pass
        rendered = render_mesh(path, self.config.rendered, request.width, request.height)
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_output(file) as temporary:
            save_file(rendered, temporary)
        return rendered

    def _key(self, path: Path, request: SampleRequest) -> str:
        stat = path.stat()
        facts = (FORMAT, str(path.resolve()), stat.st_mtime_ns, stat.st_size)
        what = (self.config.rendered, request.width, request.height)
        return hashlib.blake2b(repr((facts, what)).encode(), digest_size=12).hexdigest()


def render_mesh(path: Path, count: int, width: int, height: int) -> dict[str, Tensor]:
    """`count` pictures from all around: rgba [v 4 h w] uint8, depth [v h w], viewmats, Ks.

    The same file gives the same pictures; Unusable when it cannot be read.
    """
    try:
        from training.data.meshes.cast import Caster
        from training.data.meshes.soup import load_soup
    except ImportError as error:
        raise MissingDependency(
            f"dataset.meshes: {error}; pip install 'reconsplat[train]'"
        ) from None
    seed = hashlib.blake2b(path.name.encode(), digest_size=4).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(seed, "little"))
    cameras = _around(count, width, height, generator)
    light = torch.tensor([1.0, 1.0, 0.0]) * torch.randn(3, generator=generator)
    light = torch.nn.functional.normalize(light + torch.tensor([0.0, 0.0, 1.2]), dim=0)
    caster = Caster(load_soup(path), light)
    pictures = [caster.picture(cameras[v]) for v in range(count)]
    return {
        "rgba": torch.stack([(255 * p.rgba).round().to(torch.uint8) for p in pictures]),
        "depth": torch.stack([p.depth for p in pictures]),
        "viewmats": cameras.viewmats.contiguous(),
        "Ks": cameras.Ks.contiguous(),
    }


def _around(count: int, width: int, height: int, generator: torch.Generator) -> Cameras:
    """Cameras that look at the unit sphere from all sides, more from the side than from above."""
    draw = torch.rand(count, 4, generator=generator)
    fov_deg = 30 + 30 * float(draw[0, 3])
    azimuth, lift = 2 * math.pi * draw[:, 0], torch.deg2rad(-10 + 65 * draw[:, 1] ** 1.5)
    reach = (1.0 + 0.4 * draw[:, 2]) / math.sin(math.radians(fov_deg) / 2)
    flat = reach * lift.cos()
    places = torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), reach * lift.sin()], 1)
    viewmats = torch.stack([look_at(place, torch.zeros(3)) for place in places])
    return Cameras.from_fov(viewmats, fov_deg, width, height, "shorter")


def _sample(
    pictures: dict[str, Tensor],
    config: MeshesConfig,
    request: SampleRequest,
    generator: torch.Generator,
) -> TrainingSample:
    cameras = Cameras(pictures["viewmats"], pictures["Ks"], request.width, request.height)
    first = int(torch.randint(len(cameras), (), generator=generator))
    near_by = max(round(config.neighbours * request.baseline) + 1, request.views)
    nearest = (cameras.centers - cameras.centers[first]).norm(dim=1).argsort(stable=True)[:near_by]
    chosen = nearest[torch.randperm(len(nearest), generator=generator)[: request.views]]
    rgba = pictures["rgba"][chosen].float() / 255
    images = rgba[:, :3] + (1 - rgba[:, 3:]) * _background(generator)[:, None, None]
    depth = pictures["depth"][chosen]
    solid = torch.isfinite(depth)
    ends = depth[solid] if bool(solid.any()) else torch.tensor([1.0, 2.0])
    near, far = float(ends.min()), BACKGROUND * float(ends.max())
    depth = torch.where(solid, depth, far)
    rows = (torch.full((len(chosen),), end) for end in (near, far))
    return TrainingSample(images, cameras[chosen], depth, *rows).to(request.device)


def _background(generator: torch.Generator) -> Float[Tensor, "3"]:
    """White, black, or any colour."""
    kind = int(torch.randint(3, (), generator=generator))
    color = torch.rand(3, generator=generator)
    return color if kind == 2 else torch.full((3,), float(1 - kind))
