"""A bank of square textures with mipmaps, looked up by texture coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from recon.errors import InputError
from render.tensors import TensorStruct

SIDE_PX = 256
LEVELS = 6
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class TextureBank(TensorStruct):
    """t tiling textures at LEVELS sizes, each half the previous one."""

    levels: tuple[Float[Tensor, "t _ _ 3"], ...]

    def __len__(self) -> int:
        return len(self.levels[0])

    def look_up(
        self,
        texture: Int[Tensor, "r"],
        uv: Float[Tensor, "r 2"],
        footprint: Float[Tensor, "r"],
    ) -> Float[Tensor, "r 3"]:
        """Sample colours.

        Args:
            texture: Index of the texture of each point.
            uv: Texture coordinates; 1 is one period of the texture.
            footprint: Size of a pixel in the same unit, which selects the mipmap level, so that
                distant textures do not alias.
        """
        level = (footprint * SIDE_PX).clamp_min(1).log2().round().long().clamp_max(LEVELS - 1)
        colors = torch.zeros(len(texture), 3, device=uv.device)
        for i, images in enumerate(self.levels):
            mine = (level == i).nonzero()[:, 0]
            if len(mine):
                colors[mine] = _bilinear(images, texture[mine], uv[mine])
        return colors


def _bilinear(
    images: Float[Tensor, "t side side 3"], texture: Int[Tensor, "r"], uv: Float[Tensor, "r 2"]
) -> Float[Tensor, "r 3"]:
    side = images.shape[1]
    position = uv * side - 0.5
    base = position.floor()
    t = position - base
    x0, y0 = (base.long() % side).unbind(-1)
    x1, y1 = (x0 + 1) % side, (y0 + 1) % side
    tx, ty = t[:, :1], t[:, 1:]
    top = images[texture, y0, x0] * (1 - tx) + images[texture, y0, x1] * tx
    bottom = images[texture, y1, x0] * (1 - tx) + images[texture, y1, x1] * tx
    return top * (1 - ty) + bottom * ty


def make_bank(photos: Sequence[Path] = (), noises: int = 48, seed: int = 0) -> TextureBank:
    """Make a bank of noise textures and of square crops of photos, mirrored so that they tile."""
    generator = torch.Generator().manual_seed(seed)
    images = [_noise_texture(generator) for _ in range(noises)]
    images += [_photo_texture(path) for path in photos]
    levels = [torch.stack(images)]
    for _ in range(LEVELS - 1):
        finer = levels[-1].movedim(-1, 1)
        levels.append(torch.nn.functional.avg_pool2d(finer, 2).movedim(1, -1).contiguous())
    return TextureBank(tuple(levels))


def list_photos(folder: str) -> list[Path]:
    """List the photos of a folder, sorted; raise InputError if there are none."""
    if not folder:
        return []
    found = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise InputError(f"dataset.photos: no images ({', '.join(PHOTO_SUFFIXES)}) in {folder!r}")
    return found


def _photo_texture(path: Path) -> Float[Tensor, "side side 3"]:
    """Tile the central square of a photo with its mirror images, which leaves no seams."""
    with Image.open(path) as photo:
        short = min(photo.size)
        left, top = (photo.width - short) // 2, (photo.height - short) // 2
        half = photo.convert("RGB").crop((left, top, left + short, top + short))
        half = half.resize((SIDE_PX // 2, SIDE_PX // 2), Image.Resampling.LANCZOS)
    quarter = torch.from_numpy(np.asarray(half).copy()).float() / 255
    row = torch.cat([quarter, quarter.flip(1)], 1)
    return torch.cat([row, row.flip(0)], 0)


def _noise_texture(generator: torch.Generator) -> Float[Tensor, "side side 3"]:
    """Mix two or three colours by tiling noise, which may form stripes, cells, bricks or spots."""
    tone = _fractal(generator)
    kind = int(torch.randint(5, (), generator=generator))
    y, x = torch.meshgrid(*(torch.arange(SIDE_PX) / SIDE_PX,) * 2, indexing="ij")
    whole = 1 + torch.randint(6, (2,), generator=generator)
    phase = float(2 * torch.pi) * (whole[0] * x + whole[1] * y)
    if kind == 1:  # stripes, bent
        tone = 0.5 + 0.5 * torch.sin(phase + 4 * tone)
    elif kind == 2:  # squares
        cells = 2 * whole
        odd = ((x * cells[0]).floor() + (y * cells[1]).floor()) % 2
        tone = 0.75 * odd + 0.25 * tone
    elif kind == 3:  # bricks: rows shifted by half
        rows = (y * 2 * whole[1]).floor()
        along = x * 2 * whole[0] + 0.5 * (rows % 2)
        gap = ((along % 1) < 0.08) | ((y * 2 * whole[1]) % 1 < 0.15)
        tone = torch.where(gap, 0.0, 0.4 + 0.6 * tone)
    elif kind == 4:  # spots
        tone = (_fractal(generator) > 0.55).float() * 0.8 + 0.2 * tone
    dark, light = _muted(generator, 0.12, 0.6), _muted(generator, 0.45, 0.98)
    grain = 0.12 * (torch.rand(SIDE_PX, SIDE_PX, 1, generator=generator) - 0.5)
    image = dark + (light - dark) * tone[..., None] + grain
    return (image + 0.15 * (_fractal(generator) - 0.5)[..., None]).clamp(0.02, 0.98)


def _muted(generator: torch.Generator, low: float, high: float) -> Float[Tensor, "3"]:
    """Draw a colour of limited brightness; most are less saturated than uniform random colours."""
    color = torch.rand(3, generator=generator)
    amount, brightness = (float(value) for value in torch.rand(2, generator=generator))
    color = (color.mean() + 1.1 * amount**2 * (color - color.mean())).clamp_min(0)
    return color / color.max().clamp_min(1e-3) * (low + (high - low) * brightness)


def _fractal(generator: torch.Generator) -> Float[Tensor, "side side"]:
    """Make tiling noise with detail at many scales, in [0, 1]."""
    start = int(torch.randint(1, 4, (), generator=generator))
    gain = 0.45 + 0.3 * float(torch.rand((), generator=generator))
    total, weight = torch.zeros(1, 1, SIDE_PX, SIDE_PX), 1.0
    for octave in range(start, 8):
        cells = 2**octave
        lattice = torch.rand(1, 1, cells, cells, generator=generator)
        padded = torch.nn.functional.pad(lattice, (2, 2, 2, 2), mode="circular")
        size = SIDE_PX * (cells + 4) // cells
        smooth = torch.nn.functional.interpolate(padded, (size, size), mode="bicubic")
        edge = 2 * SIDE_PX // cells
        total += weight * smooth[..., edge : edge + SIDE_PX, edge : edge + SIDE_PX]
        weight *= gain
    total = total[0, 0]
    low, high = torch.quantile(total.flatten()[::16], torch.tensor([0.02, 0.98])).unbind()
    return ((total - low) / (high - low)).clamp(0, 1)
