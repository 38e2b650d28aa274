"""RealEstate10K as a source of training scenes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from recon.errors import InputError
from training.data.realestate10k import (
    Clip,
    clip_files,
    clips_of_file,
    load_frames,
)
from training.data.types import SampleRequest, Skipped, TrainingSample, Unusable

TRIES = 20
# A chunk holds some dozens of films and takes a second to read: stay with it for some steps.
STEPS_PER_CHUNK = 50


@dataclass(frozen=True)
class RealEstate10KConfig:
    """Defaults as pixelSplat trains (Charatan et al. 2024, appendix)."""

    weight: float = 0.0
    """How often scenes come from here, relative to the other sources."""
    folder: str = ""
    """Folder with .torch chunks, or with .txt files and frames."""
    gap: tuple[int, int] = (25, 45)
    """Fewest and most frames between the first and the last context view."""
    near: float = 1.0
    """Nearest depth, in distances between those two."""
    far: float = 100.0
    """Farthest depth, in distances between those two."""


@dataclass(frozen=True)
class RealEstate10KScenes:
    """The source. What is broken is skipped and counted."""

    config: RealEstate10KConfig
    skipped: Skipped = field(default_factory=Skipped)

    @functools.cached_property
    def files(self) -> Sequence[Path]:
        """Chunks or .txt files."""
        return clip_files(Path(self.config.folder))

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Frames of one film: the context spans a gap, the targets lie within."""
        generator = request.generator()
        for attempt in range(TRIES):
            clips = self._clips(request, generator, attempt)
            if not clips:
                continue
            clip = clips[_integer(generator, len(clips))]
            frames = self._frames(clip, request, generator)
            if frames is None:
                self.skipped.note("film too short")
                continue
            try:
                return self._load(clip, frames, request)
            except Unusable as error:
                self.skipped.note(str(error))
        reasons = ", ".join(f"{reason} ({n})" for reason, n in self.skipped.reasons.items())
        raise InputError(f"no usable film in {self.config.folder} after {TRIES} tries: {reasons}")

    def _clips(
        self, request: SampleRequest, generator: torch.Generator, attempt: int
    ) -> list[Clip]:
        chunks = self.files[0].suffix == ".torch"
        block = torch.Generator().manual_seed(request.step // STEPS_PER_CHUNK)
        # Another chunk when this one is broken.
        which = block if chunks and attempt == 0 else generator
        clips, troubles = _read_clips(self.files[_integer(which, len(self.files))])
        for reason in troubles.reasons:
            self.skipped.note(reason)
        return clips

    def _frames(
        self, clip: Clip, request: SampleRequest, generator: torch.Generator
    ) -> list[int] | None:
        low, high = (max(round(gap * request.baseline), 1) for gap in self.config.gap)
        low, high = max(low, request.views - 1), min(max(high, request.views - 1), len(clip) - 1)
        if high < low:
            return None
        gap = low + _integer(generator, high - low + 1)
        start = _integer(generator, len(clip) - gap)
        inner = 1 + torch.randperm(gap - 1, generator=generator)
        between = sorted(inner[: request.context - 2].tolist()) if request.context > 2 else []
        used = max(request.context - 2, 0)
        targets = inner[used : used + request.targets].tolist()
        context = [0, *between, gap][: request.context]
        return [start + frame for frame in (*context, *targets)]

    def _load(self, clip: Clip, frames: list[int], request: SampleRequest) -> TrainingSample:
        images, cameras = load_frames(clip, frames, request.width, request.height)
        context: Tensor = cameras.centers[: request.context]
        baseline = float((context[-1] - context[0]).norm())
        if baseline <= 0:
            raise Unusable("camera stands still")
        depth = images.new_full((len(images), request.height, request.width), float("nan"))
        ends = (self.config.near * baseline, self.config.far * baseline)
        near, far = (images.new_full((len(images),), end) for end in ends)
        return TrainingSample(images, cameras, depth, near, far).to(request.device)


@functools.lru_cache(maxsize=2)
def _read_clips(path: Path) -> tuple[list[Clip], Skipped]:
    skipped = Skipped()
    return list(clips_of_file(path, skipped)), skipped


def _integer(generator: torch.Generator, count: int) -> int:
    return int(torch.randint(count, (), generator=generator))
