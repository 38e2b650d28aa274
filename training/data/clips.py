"""Clips of RealEstate10K as a source of training scenes."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from recon.errors import ConfigError, InputError, counted
from training.data.realestate10k import (
    Clip,
    clip_files,
    clips_of_file,
    load_frames,
)
from training.data.types import (
    Item,
    SampleRequest,
    Skipped,
    TrainingSample,
    Unusable,
    draw_index,
    hashed_seed,
    split_held_out,
)

TRIES = 20
TOO_SHORT = "clip too short"
# A chunk holds dozens of clips and takes a second to read: several steps use the same one.
STEPS_PER_CHUNK = 50


@dataclass(frozen=True)
class RealEstate10KConfig:
    """Options for clips; defaults as in pixelSplat (Charatan et al. 2024, appendix)."""

    weight: float = 0.0
    """Relative frequency of this source."""
    folder: str = ""
    """Folder of .torch chunks, of .txt files and frames, or of tar files of clips that `recon data
    convert` has made of either."""
    gap: tuple[int, int] = (25, 45)
    """Minimum and maximum number of frames from the first to the last context view."""
    near: float = 1.0
    """Nearest depth, relative to the distance between these two views."""
    far: float = 100.0
    """Farthest depth, relative to the same distance."""
    held_out: float = 0.05
    """Fraction of the clips kept for validation, chosen by the hashes of their keys: of the .txt
    files, or of the clips of each chunk; at least one of two or more, at most half."""


@dataclass(frozen=True)
class RealEstate10KScenes:
    """Source of scenes from clips; damaged ones are skipped and counted."""

    config: RealEstate10KConfig
    skipped: Skipped = field(default_factory=Skipped)

    @functools.cached_property
    def files(self) -> Sequence[Path]:
        """All chunks or .txt files of the folder; raise InputError if there are none."""
        return clip_files(Path(self.config.folder))

    @functools.cached_property
    def texts(self) -> tuple[Sequence[Path], Sequence[Path]]:
        """The .txt files, of one clip each, to train on, and those that are held out."""
        return self._split(self.files, [path.stem for path in self.files])

    def _split(
        self, items: Sequence[Item], keys: Sequence[str]
    ) -> tuple[Sequence[Item], Sequence[Item]]:
        fraction = self.config.held_out
        count = max(round(fraction * len(set(keys))), 1) if fraction > 0 else 0
        return split_held_out(items, keys, count)

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return frames of one clip: the context spans a gap, the targets lie within it.

        Raises:
            ConfigError: One context view is wanted, which spans nothing, or no clip is held out.
            InputError: No clip can be used.
        """
        check_context(request.context)
        self._check_held_out(request)
        generator = request.generator()
        for attempt in range(TRIES):
            clips = self._clips(request, generator, attempt)
            if not clips:
                continue
            clip = clips[draw_index(generator, len(clips))]
            frames = self._frames(clip, request, generator)
            if frames is None:
                self.skipped.note(TOO_SHORT)
                continue
            try:
                return self._load(clip, frames, request)
            except Unusable as error:
                self.skipped.note(str(error))
        raise InputError(
            f"no usable clip{' that is held out' if request.held_out else ''} in "
            f"{self.config.folder} after {TRIES} tries: "
            f"{self.skipped or 'its files hold none'}{self._remedy()}"
        )

    def _check_held_out(self, request: SampleRequest) -> None:
        """Raise ConfigError if no clip can be held out."""
        too_few = self.files[0].suffix == ".txt" and len(self.files) < 2
        if request.held_out and (too_few or self.config.held_out == 0):
            raise ConfigError(
                f"dataset.realestate10k.held_out is {self.config.held_out}, but validation needs "
                f"some of the clips of the {counted(len(self.files), 'file')} in "
                f"{self.config.folder}; set validate_every=0, or dataset.realestate10k.held_out "
                "above 0 with 2 clips or more"
            )

    def _remedy(self) -> str:
        if not self.skipped.reasons[TOO_SHORT]:
            return ""
        return f"; lower dataset.realestate10k.gap, now {list(self.config.gap)} frames"

    def _clips(
        self, request: SampleRequest, generator: torch.Generator, attempt: int
    ) -> Sequence[Clip]:
        chunks = self.files[0].suffix != ".txt"
        files = self.files if chunks else self.texts[request.held_out]
        block = torch.Generator().manual_seed(_block_seed(request))
        # A damaged chunk is replaced by another one, drawn for this scene alone.
        draw = block if chunks and attempt == 0 else generator
        clips, skipped = _read_clips(files[draw_index(draw, len(files))])
        for reason in skipped.reasons:
            self.skipped.note(reason)
        if not chunks:
            return clips
        return self._split(clips, [clip.key for clip in clips])[request.held_out]

    def _frames(
        self, clip: Clip, request: SampleRequest, generator: torch.Generator
    ) -> list[int] | None:
        low, high = (max(round(gap * request.baseline), 1) for gap in self.config.gap)
        low, high = max(low, request.views - 1), min(max(high, request.views - 1), len(clip) - 1)
        if high < low:
            return None
        gap = low + draw_index(generator, high - low + 1)
        start = draw_index(generator, len(clip) - gap)
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
            raise Unusable("camera does not move")
        depth = images.new_full((len(images), request.height, request.width), float("nan"))
        ends = (self.config.near * baseline, self.config.far * baseline)
        near, far = (images.new_full((len(images),), end) for end in ends)
        return TrainingSample(images, cameras, depth, near, far).to(request.device)


def check_context(context: int) -> None:
    """Raise ConfigError unless context views have a distance, which the range of depth needs."""
    if context < 2:
        raise ConfigError(
            "dataset.context must be at least 2 with dataset.realestate10k, whose near and far "
            f"are relative to the distance of the first and last context view; found {context}"
        )


def _block_seed(request: SampleRequest) -> int:
    """Return the seed of the chunk that several steps use.

    It depends on the run, but for the first order, which keeps the scenes that it has always had.
    """
    block = request.step // STEPS_PER_CHUNK
    return block if request.order == 0 else hashed_seed(f"{request.order} {block}")


@functools.lru_cache(maxsize=2)
def _read_clips(path: Path) -> tuple[list[Clip], Skipped]:
    skipped = Skipped()
    return list(clips_of_file(path, skipped)), skipped
