"""A bank of square textures with mipmaps, looked up by texture coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from recon.capture.images import DECODE_ERRORS
from recon.errors import InputError

SIDE_PX = 256
LEVELS = 7
STARTS = np.cumsum([0] + [(SIDE_PX >> level) ** 2 for level in range(LEVELS)])
# Linear value of each byte: gamma 2 is close to sRGB and cheap to invert.
_LINEAR = ((np.arange(256) / 255) ** 2).astype(np.float32)
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class TextureBank:
    """t tiling textures at LEVELS sizes, each half the previous one, the levels in one row."""

    pixels: UInt8[np.ndarray, "t p 4"]
    """Display colours with gamma 2; the fourth channel pads to one word."""
    noises: int
    """Number of textures that are noise; they come first, then photos."""

    def __len__(self) -> int:
        return len(self.pixels)

    def level(self, index: int) -> Float[np.ndarray, "t side side 3"]:
        """Return all textures at one size, in [0, 1]."""
        side = SIDE_PX >> index
        rows = self.pixels[:, STARTS[index] : STARTS[index] + side * side, :3]
        return (rows.astype(np.float32) / 255).reshape(-1, side, side, 3)

    def look_up(
        self,
        texture: Int[np.ndarray, " r"],
        uv: Float[np.ndarray, "r 2"],
        footprint: Float[np.ndarray, " r"],
    ) -> Float[np.ndarray, "r 3"]:
        """Sample linear colours, bilinearly in the nearest mipmap level.

        Args:
            texture: Index of the texture of each point.
            uv: Texture coordinates; 1 is one period of the texture.
            footprint: Size of a pixel in the same unit, which selects the mipmap level, so that
                distant textures do not alias.
        """
        words = self.pixels.view(np.uint32).reshape(-1)
        level = np.log2(np.maximum(footprint * SIDE_PX, 1)).round().astype(np.int32)
        level = np.minimum(level, LEVELS - 1)
        side = SIDE_PX >> level
        position = uv * side[:, None].astype(np.float32) - np.float32(0.5)
        base = np.floor(position)
        t = (position - base).astype(np.float32)
        low = base.astype(np.int64) & (side - 1)[:, None]
        high = (low + 1) & (side - 1)[:, None]
        start = texture.astype(np.int64) * self.pixels.shape[1] + STARTS[level]
        rows = start + low[:, 1] * side, start + high[:, 1] * side
        parts = [
            _LINEAR[words[row + x].view(np.uint8).reshape(-1, 4)[:, :3]]
            for row in rows
            for x in (low[:, 0], high[:, 0])
        ]
        top = parts[0] + t[:, :1] * (parts[1] - parts[0])
        bottom = parts[2] + t[:, :1] * (parts[3] - parts[2])
        return np.asarray(top + t[:, 1:] * (bottom - top))


def make_bank(photos: Sequence[Path] = (), noises: int = 48, seed: int = 0) -> TextureBank:
    """Make a bank of noise textures and of square crops of photos, mirrored so that they tile."""
    generator = torch.Generator().manual_seed(seed)
    images = [_noise_texture(generator) for _ in range(noises)]
    # A third of the noise textures are made of two others, chosen by a third.
    for i in range(0, noises - 2, 3):
        images[i] = _mixed(generator, images[i + 1], images[i + 2])
    images += [_photo_texture(path) for path in photos]
    level = torch.stack(images).movedim(-1, 1)
    rows = []
    for _ in range(LEVELS):
        rows.append(level.flatten(2))
        level = torch.nn.functional.avg_pool2d(level, 2)
    flat = torch.cat(rows, 2).movedim(1, -1)
    padded = torch.nn.functional.pad(flat, (0, 1))
    return TextureBank((255 * padded).round().to(torch.uint8).contiguous().numpy(), noises)


def _mixed(
    generator: torch.Generator,
    one: Float[Tensor, "side side 3"],
    two: Float[Tensor, "side side 3"],
) -> Float[Tensor, "side side 3"]:
    """Choose between two textures by AND, OR or XOR of two patterns at different scales."""
    scale = int(torch.randint(2, 5, (), generator=generator))
    a, b = _fractal(generator) > 0.5, _fractal(generator).repeat(scale, scale) > 0.5
    b = b[::scale, ::scale]
    kind = int(torch.randint(3, (), generator=generator))
    chosen = (a & b, a | b, a ^ b)[kind]
    return torch.where(chosen[..., None], one, two)


def list_photos(folder: str) -> list[Path]:
    """List the photos of a folder, sorted; raise InputError if there are none."""
    if not folder:
        return []
    found = sorted(p for p in Path(folder).glob("*") if p.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise InputError(f"dataset.photos: no images ({', '.join(PHOTO_SUFFIXES)}) in {folder!r}")
    return found


def _photo_texture(path: Path) -> Float[Tensor, "side side 3"]:
    """Tile the central square of a photo with its mirror images, which leaves no seams.

    A damaged photo is an error: without it, the same seed would give other textures.
    """
    try:
        with Image.open(path) as photo:
            short = min(photo.size)
            left, top = (photo.width - short) // 2, (photo.height - short) // 2
            half = photo.convert("RGB").crop((left, top, left + short, top + short))
            half = half.resize((SIDE_PX // 2, SIDE_PX // 2), Image.Resampling.LANCZOS)
    except DECODE_ERRORS as error:
        reason = "it is no image" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(
            f"dataset.photos: cannot read {path}: {reason}; replace or remove it"
        ) from None
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
