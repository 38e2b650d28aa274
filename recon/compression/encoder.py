"""Encoder: quantisation, files of one format, and the choice of quantisation steps."""

import math
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recon.compression.objective import RateDistortionObjective
from recon.errors import ReconWarning
from recon.files import temporary_folder
from recon.formats import check_kept, encodings, open_scene, write_scene
from recon.formats.registry import SceneFormat
from recon.formats.source import NamedCamera, SceneSource
from recon.precision import WORLD, Origin
from render import Cameras, Gaussians

# Numbers per Gaussian of each attribute. The loss is divided among attributes in this ratio: errors
# grow with the square of a step, so this is the smallest size for a loss (reverse water-filling;
# Cover and Thomas, section 10.3.3).
DIMENSIONS = {"color": 3, "scale": 3, "quat": 3, "opacity": 1, "sh": 3}
POSITION_DIMENSIONS = 3
# Initial and largest step of the search for each attribute's step.
FIRST_STEP = {"color": 0.05, "scale": 0.1, "quat": 0.02, "opacity": 0.02, "sh": 0.05}
MAX_STEP = {"color": 0.5, "scale": 0.7, "quat": 0.2, "opacity": 0.2, "sh": 0.5}
# Smallest step, as a fraction of the initial one.
MIN_STEP_RATIO = 1 / 64
ROUNDS = 3
MAX_DROPPED_BITS = 8


@dataclass(frozen=True)
class QuantisationSteps:
    """Distance between neighbouring values of each attribute; 0 leaves it unquantised."""

    color: float = 0.0
    """Step of the SH coefficient of degree 0."""
    scale: float = 0.0
    """Step of the logarithm of scales."""
    quat: float = 0.0
    """Step of the three smaller components of quaternions."""
    opacity: float = 0.0
    """Step of opacities."""
    sh: float = 0.0
    """Step of the higher spherical harmonics."""
    dropped_bits: int = 0
    """Number of the lowest bits of positions that the format drops."""

    def scaled(self, factor: float) -> "QuantisationSteps":
        """Multiply all steps by a factor; positions stay unchanged."""
        return replace(self, **{name: factor * getattr(self, name) for name in DIMENSIONS})


UNQUANTISED = QuantisationSteps()


def quantise(scene: Gaussians, steps: QuantisationSteps) -> Gaussians:
    """Round attributes to multiples of their steps; positions are left to the format."""
    color, sh = scene.sh[:, :1], scene.sh[:, 1:]
    return Gaussians(
        means=scene.means,
        quats=_rounded_quats(scene.quats, steps.quat),
        scales=_rounded(scene.scales.clamp_min(1e-30).log(), steps.scale).exp(),
        opacities=_rounded(scene.opacities, steps.opacity).clamp(0, 1),
        sh=torch.cat([_rounded(color, steps.color), _rounded(sh, steps.sh)], 1),
    )


def _rounded(values: Tensor, step: float) -> Tensor:
    return values if step == 0 else (values / step).round() * step


def _rounded_quats(quats: Tensor, step: float) -> Tensor:
    if step == 0:
        return quats
    largest, three = encodings.encode_smallest_three(quats.numpy())
    rounded = np.round(three / step) * np.float32(step)
    return torch.from_numpy(encodings.decode_smallest_three(largest, rounded))


@dataclass(frozen=True)
class Encoder:
    """Writes scenes in one format to files in a temporary folder."""

    scene_format: SceneFormat
    folder: Path
    """Folder that holds every encoded file."""
    origin: Origin = WORLD
    """World coordinates of the point that the scenes are relative to."""
    antialiased: bool = False
    """Whether the scenes are for rendering with the 2D filter of Mip-Splatting."""
    start: Cameras | None = None
    """Camera from which to look at the scenes first."""
    cameras: tuple[NamedCamera, ...] = ()
    """Further cameras that the files keep, where the format can."""
    warnings: dict[Path, list[str]] = field(default_factory=dict)
    """What the writer warned of, by file: only the file that is kept matters."""

    @staticmethod
    @contextmanager
    def temporary(scene_format: SceneFormat, source: SceneSource) -> Iterator["Encoder"]:
        """Create an encoder whose files are deleted when the context ends.

        Args:
            scene_format: Format of the files.
            source: Scene whose origin, cameras and kind of rendering the files keep.
        """
        kept = source.origin, source.antialiased, source.start, source.cameras
        with temporary_folder() as folder:
            yield Encoder(scene_format, folder, *kept)

    @property
    def quantises(self) -> bool:
        """Whether quantised values make files of this format smaller."""
        return self.scene_format.write_quantised is not None

    def encode(self, scene: Gaussians, steps: QuantisationSteps = UNQUANTISED) -> Path:
        """Write a scene to a new file; steps are ignored by formats of fixed precision."""
        extension = self.scene_format.extension
        path = self.folder / secrets.token_hex(6) / f"scene{extension}"
        path.parent.mkdir()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ReconWarning)
            if self.scene_format.write_quantised is None:
                write_scene(path, self._source(scene))
            else:
                source = self._source(quantise(scene, steps))
                check_kept(path, source)
                self.scene_format.write_quantised(path, source, steps.dropped_bits)
        self.warnings[path] = [str(warning.message) for warning in caught]
        return path

    def _source(self, scene: Gaussians) -> SceneSource:
        source = SceneSource.of(scene, self.origin, self.antialiased, self.start)
        return replace(source, cameras=self.cameras)

    def decode(self, path: Path) -> Gaussians:
        """Read an encoded file, relative to the same origin."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReconWarning)
            return open_scene(path).around(self.origin).load()

    def round_trip(self, scene: Gaussians, steps: QuantisationSteps = UNQUANTISED) -> Gaussians:
        """Encode and decode a scene, without keeping the file."""
        path = self.encode(scene, steps)
        found = self.decode(path)
        path.unlink()
        return found


def find_steps(
    scene: Gaussians, encoder: Encoder, objective: RateDistortionObjective, loss_db: float
) -> QuantisationSteps:
    """Find the largest steps that together lose about `loss_db`.

    Args:
        scene: The scene to be encoded.
        encoder: Encoder of a format; one of fixed precision needs no steps.
        objective: Objective of the original scene; what `scene` has lost already is not counted.
        loss_db: Loss of PSNR that all quantised attributes may cause together (dB).
    """
    if not encoder.quantises:
        return UNQUANTISED
    dimensions = {name: n for name, n in DIMENSIONS.items() if name != "sh" or scene.sh_degree}
    before = objective.loss_db(scene)
    per_dimension = loss_db / (POSITION_DIMENSIONS + sum(dimensions.values()))
    steps: dict[str, Any] = {
        name: _find_step(scene, objective, name, before, per_dimension * n)
        for name, n in dimensions.items()
    }
    # Without SH, whose palettes take long to compute and do not depend on positions.
    plain = scene.cut_sh(0)
    unchanged = objective.loss_db(encoder.round_trip(plain))
    limit_db = unchanged + POSITION_DIMENSIONS * per_dimension
    return QuantisationSteps(**steps, dropped_bits=_find_bits(plain, encoder, objective, limit_db))


def _find_step(
    scene: Gaussians, objective: RateDistortionObjective, name: str, before: float, loss_db: float
) -> float:
    """Find the largest step of one attribute whose loss beyond `before` is at most `loss_db`."""
    first, largest = FIRST_STEP[name], MAX_STEP[name]
    step, best = first, MIN_STEP_RATIO * first
    for _ in range(ROUNDS):
        only: dict[str, Any] = {name: step}
        lost = objective.loss_db(quantise(scene, QuantisationSteps(**only))) - before
        if lost <= loss_db:
            best = max(best, step)
        # Small losses grow with the square of the step; aim just below the limit.
        step *= 0.95 * math.sqrt(loss_db / max(lost, 1e-9))
        step = min(max(step, MIN_STEP_RATIO * first), largest)
    return best


def _find_bits(
    scene: Gaussians, encoder: Encoder, objective: RateDistortionObjective, limit_db: float
) -> int:
    """Find the largest number of dropped bits within a loss, by bisection."""
    low, high = 0, MAX_DROPPED_BITS
    while low < high:
        middle = (low + high + 1) // 2
        decoded = encoder.round_trip(scene, QuantisationSteps(dropped_bits=middle))
        if objective.loss_db(decoded) <= limit_db:
            low = middle
        else:
            high = middle - 1
    return low
