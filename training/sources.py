"""All sources of a run, and which one a scene comes from."""

from dataclasses import dataclass

import torch

from recon.errors import ConfigError
from training.config import DataConfig
from training.data.captures import CaptureScenes
from training.data.clips import RealEstate10KScenes
from training.data.meshes import MeshScenes
from training.data.procedural import ProceduralScenes
from training.data.procedural.bank import list_photos, make_bank
from training.data.types import SampleRequest, Source, TrainingSample


@dataclass(frozen=True)
class Mixture:
    """A source made of sources; each scene's seed decides which one."""

    sources: tuple[Source, ...]
    shares: tuple[float, ...]

    @staticmethod
    def of(config: DataConfig, seed: int, device: str) -> "Mixture":
        """Those whose share is above 0; ReconError when none is, or one has no folder."""
        for name in ("realestate10k", "meshes", "captures"):
            part = getattr(config, name)
            if part.share > 0 and not part.folder:
                raise ConfigError(
                    f"data.{name}.share is {part.share} but data.{name}.folder is not given; "
                    f"add data.{name}.folder=FOLDER"
                )
        parts: list[tuple[Source, float]] = []
        if config.procedural.share > 0:
            bank = make_bank(list_photos(config.photos), seed=seed).to(torch.device(device))
            scenes = ProceduralScenes(config.procedural, bank)
            parts.append((scenes, config.procedural.share))
        if config.realestate10k.share > 0:
            parts.append((RealEstate10KScenes(config.realestate10k), config.realestate10k.share))
        if config.meshes.share > 0:
            parts.append((MeshScenes(config.meshes), config.meshes.share))
        if config.captures.share > 0:
            parts.append((CaptureScenes(config.captures), config.captures.share))
        if not parts:
            raise ConfigError("no source of scenes: give one of data.*.share a number above 0")
        sources, shares = zip(*parts, strict=True)
        return Mixture(sources, shares)

    def sample(self, request: SampleRequest) -> TrainingSample:
        """From the source that the seed chooses."""
        generator = request.generator()
        place = torch.multinomial(torch.tensor(self.shares), 1, generator=generator)
        return self.sources[int(place)].sample(request)
