"""Source of scenes from meshes: rendered once, then drawn from a cache."""

import functools
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recon.errors import InputError, MissingDependency
from recon.files import atomic_output
from render import Cameras
from render.cameras import look_at
from training.data.types import (
    SampleRequest,
    Skipped,
    TrainingSample,
    Unusable,
    draw_index,
    draw_near,
    hashed_seed,
    none_held_out,
    split_held_out,
)

SUFFIXES = (".glb", ".gltf", ".obj")
TRIES = 20
Protocol = Literal["random", "gs-lrm"]
"""How a mesh is scaled and lit, and where its cameras are (see `render_mesh`)."""
FORMAT = 1
# Depth of the background, relative to the farthest point of the object.
BACKGROUND = 2.0


@dataclass(frozen=True)
class MeshesConfig:
    """Options for mesh files, rendered in front of a plain background."""

    weight: float = 0.0
    """Relative frequency of this source."""
    folder: str = ""
    """Folder of .glb, .gltf and .obj files, searched recursively."""
    cache: str = "~/.cache/recon/meshes"
    """Folder of cached renders."""
    rendered: int = 24
    """Number of renders of each mesh."""
    neighbours: int = 10
    """Context and targets are drawn from a render and this number of its nearest neighbours (times
    the baseline of the request)."""
    held_out: int = 32
    """Number of meshes kept for validation, chosen by the hashes of their paths in the folder; at
    most half of all."""


@dataclass(frozen=True)
class MeshScenes:
    """Source of scenes from mesh files; unreadable ones are skipped and counted."""

    config: MeshesConfig
    skipped: Skipped = field(default_factory=Skipped)

    @functools.cached_property
    def files(self) -> Sequence[Path]:
        """All mesh files, sorted; raise InputError if there are none."""
        folder = Path(self.config.folder)
        found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not found:
            raise InputError(f"dataset.meshes.folder: no {', '.join(SUFFIXES)} files in {folder}")
        return found

    @functools.cached_property
    def parts(self) -> tuple[Sequence[Path], Sequence[Path]]:
        """The files to train on, and those that are held out."""
        keys = [path.relative_to(self.config.folder).as_posix() for path in self.files]
        return split_held_out(self.files, keys, self.config.held_out)

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return neighbouring views of one object, each in a random role."""
        generator = request.generator()
        if request.views > self.config.rendered:
            raise InputError(
                f"dataset.meshes.rendered is {self.config.rendered}, but context and targets need "
                f"{request.views} renders of a mesh"
            )
        files = self.parts[request.held_out]
        if not files:
            raise none_held_out(
                "dataset.meshes", self.config.held_out, len(self.files), self.config.folder
            )
        for _ in range(TRIES):
            path = files[draw_index(generator, len(files))]
            try:
                renders = self._renders(path, request)
            except Unusable as error:
                self.skipped.note(str(error))
                continue
            return _sample(renders, self.config, request, generator)
        raise InputError(
            f"no usable mesh{' that is held out' if request.held_out else ''} in "
            f"{self.config.folder} after {TRIES} tries: {self.skipped}"
        )

    def _renders(self, path: Path, request: SampleRequest) -> dict[str, Tensor]:
        """Read the renders of a mesh from the cache; render a missing or damaged entry."""
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
        options = (self.config.rendered, request.width, request.height)
        return hashlib.blake2b(repr((facts, options)).encode(), digest_size=12).hexdigest()


def render_mesh(
    path: Path,
    count: int,
    width: int,
    height: int,
    protocol: Protocol = "random",
    seed: int | None = None,
) -> dict[str, Tensor]:
    """Render a mesh from `count` random directions; the same file gives the same renders.

    Args:
        path: File of the mesh.
        count: Number of renders.
        width: Width of the renders (px).
        height: Height of the renders (px).
        protocol: random: the object in the unit sphere, which every camera sees whole, lit by sky
            and sun. gs-lrm: as GS-LRM renders Objaverse (Zhang et al. 2024, section 4.1): in the
            box [-1, 1]^3, from 1.5 to 2.8 away on all sides, under uniform light, at 50 degrees.
        seed: Seed of the cameras and the light; by default it follows from the file's name.

    Returns:
        rgba [v 4 h w] (uint8, premultiplied), depth [v h w], viewmats [v 4 4] and Ks [v 3 3].

    Raises:
        Unusable: The file cannot be read.
        MissingDependency: trimesh or Embree is not installed.
    """
    check_renderer()
    from training.data.meshes.cast import MeshRenderer
    from training.data.meshes.soup import in_box, load_soup

    generator = torch.Generator().manual_seed(hashed_seed(path.name) if seed is None else seed)
    soup, light = load_soup(path), None
    if protocol == "gs-lrm":
        soup, cameras = in_box(soup), _gs_lrm_cameras(count, width, height, generator)
    else:
        cameras = _random_cameras(count, width, height, generator)
        light = torch.tensor([1.0, 1.0, 0.0]) * torch.randn(3, generator=generator)
        light = torch.nn.functional.normalize(light + torch.tensor([0.0, 0.0, 1.2]), dim=0)
    renderer = MeshRenderer(soup, light)
    images = [renderer.render(camera) for camera in cameras]
    return {
        "rgba": torch.stack([(255 * image.rgba).round().to(torch.uint8) for image in images]),
        "depth": torch.stack([image.depth for image in images]),
        "viewmats": cameras.viewmats.contiguous(),
        "Ks": cameras.Ks.contiguous(),
    }


def check_renderer() -> None:
    """Raise MissingDependency if trimesh or Embree is not installed."""
    try:
        import training.data.meshes.cast  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f"meshes: {error}; pip install 'reconsplat[train]'") from None


def _random_cameras(count: int, width: int, height: int, generator: torch.Generator) -> Cameras:
    """Draw cameras that face the unit sphere from all sides, more from the side than from above."""
    draw = torch.rand(count, 4, generator=generator)
    fov_deg = 30 + 30 * float(draw[0, 3])
    azimuth, elevation = 2 * math.pi * draw[:, 0], torch.deg2rad(-10 + 65 * draw[:, 1] ** 1.5)
    distance = (1.0 + 0.4 * draw[:, 2]) / math.sin(math.radians(fov_deg) / 2)
    radius = distance * elevation.cos()
    centers = torch.stack(
        [radius * azimuth.cos(), radius * azimuth.sin(), distance * elevation.sin()], 1
    )
    viewmats = torch.stack([look_at(center, torch.zeros(3)) for center in centers])
    return Cameras.from_fov(viewmats, fov_deg, width, height, "shorter")


def _gs_lrm_cameras(count: int, width: int, height: int, generator: torch.Generator) -> Cameras:
    """Draw cameras that face the origin from all directions alike."""
    z, azimuth, distance = torch.rand(3, count, generator=generator)
    z, azimuth, distance = 2 * z - 1, 2 * math.pi * azimuth, 1.5 + 1.3 * distance
    flat = (1 - z * z).sqrt()
    centers = distance[:, None] * torch.stack([flat * azimuth.cos(), flat * azimuth.sin(), z], 1)
    viewmats = torch.stack([look_at(center, torch.zeros(3)) for center in centers])
    return Cameras.from_fov(viewmats, 50.0, width, height, "shorter")


def _sample(
    renders: dict[str, Tensor],
    config: MeshesConfig,
    request: SampleRequest,
    generator: torch.Generator,
) -> TrainingSample:
    cameras = Cameras(renders["viewmats"], renders["Ks"], request.width, request.height)
    first = draw_index(generator, len(cameras))
    nearest = (cameras.centers - cameras.centers[first]).norm(dim=1).argsort(stable=True)
    chosen = draw_near(nearest.tolist(), config.neighbours, request, generator)
    rgba = renders["rgba"][chosen].float() / 255
    images = rgba[:, :3] + (1 - rgba[:, 3:]) * draw_background(generator)[:, None, None]
    depth = renders["depth"][chosen]
    solid = torch.isfinite(depth)
    ends = depth[solid] if bool(solid.any()) else torch.tensor([1.0, 2.0])
    near, far = float(ends.min()), BACKGROUND * float(ends.max())
    depth = torch.where(solid, depth, far)
    rows = (torch.full((len(chosen),), end) for end in (near, far))
    return TrainingSample(images, cameras[chosen], depth, *rows).to(request.device)


def draw_background(generator: torch.Generator) -> Float[Tensor, "3"]:
    """Draw white, black or a random colour."""
    kind = int(torch.randint(3, (), generator=generator))
    color = torch.rand(3, generator=generator)
    return color if kind == 2 else torch.full((3,), float(1 - kind))
