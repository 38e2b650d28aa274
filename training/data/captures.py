"""Captures, in any format that recon reads, as a source of training scenes.

python -m training.data.captures FOLDER [PATTERN ...]

prints a table of the photos' authors and licences, for a model card, from the files SOURCE.txt of
the captures, without those that match a pattern.
"""

import argparse
import fnmatch
import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture import Capture, pinhole_cameras
from recon.errors import ConfigError, InputError, ReconError, warn
from recon.reporting import say
from render import Cameras
from training.data.photo_windows import (
    SIDE_PX,
    as_images,
    color_table,
    cut,
    draw_windows,
    load_photo,
    read_capture,
)
from training.data.sparse_depth import other_ranges, sparse_depths
from training.data.sparse_points import (
    SparsePoints,
    draw_overlapping,
    read_sparse_points,
    triangulation_angles,
)
from training.data.stored import nearest_cameras
from training.data.types import (
    SampleRequest,
    TrainingSample,
    draw_index,
    draw_near,
)
from training.programs import program, table_lines

SOURCE_FILE = "SOURCE.txt"


@dataclass(frozen=True)
class CapturesConfig:
    """Options for posed photos; their depth is known at structure-from-motion points, if any."""

    weight: float = 0.0
    """Relative frequency of this source."""
    folder: str = ""
    """Folder of captures, or of a single capture."""
    weights: dict[str, float] = field(default_factory=dict)
    """Relative frequency of captures by the pattern (such as "garden_*") of their folders' names;
    the first that matches counts, and 1 if none does."""
    exclude: tuple[str, ...] = ()
    """Patterns of captures that are never used."""
    held_out: tuple[str, ...] = ()
    """Patterns of captures that are used for validation alone; without, validation is on other
    windows of the photos that are trained on, with a warning."""
    angles_deg: tuple[float, float] = (1.5, 25.0)
    """Range of the angle between two views' rays to the points that they share (times the baseline
    of the request)."""
    neighbours: int = 8
    """Without points: context and targets are drawn from a photo and this number of its nearest
    neighbours (times the baseline of the request)."""
    smallest: float = 0.5
    """Sides of the smallest window of photos, relative to the largest that fits; 1 never zooms."""
    color: float = 0.1
    """Maximum change of gain and gamma (natural logarithm), common to the views of a scene."""


@dataclass(frozen=True)
class PosedPhotos:
    """A capture, and what its points tell about its photos."""

    capture: Capture
    name: str
    """Name of its folder."""
    weight: float
    cameras: Cameras
    points: SparsePoints | None
    angles_deg: Float[Tensor, "v v"] | None
    """Triangulation angles of pairs of photos."""

    @staticmethod
    def read(capture: Capture, name: str, weight: float) -> "PosedPhotos":
        """Read the points of a capture that has cameras."""
        cameras = pinhole_cameras(capture)
        points = read_sparse_points(capture)
        angles_deg = None if points is None else triangulation_angles(points, cameras)
        return PosedPhotos(capture, name, weight, cameras, points, angles_deg)

    def draw_views(
        self, config: CapturesConfig, request: SampleRequest, generator: torch.Generator
    ) -> list[int]:
        """Draw photos that show the same part of the scene, in random order."""
        count = len(self.cameras)
        first = draw_index(generator, count)
        nearest = nearest_cameras(self.cameras, first)
        if self.angles_deg is not None:
            low, high = (request.baseline * angle for angle in config.angles_deg)
            angles = self.angles_deg[first]
            drawn = [first, *draw_overlapping(angles, (low, high), request.views - 1, generator)]
            nearest = [*drawn, *(i for i in nearest if i not in drawn)][: request.views]
        return draw_near(nearest, config.neighbours, request, generator)


@dataclass(frozen=True)
class CaptureScenes:
    """Source of scenes from captures, whose photos are kept in memory."""

    config: CapturesConfig

    @functools.cached_property
    def captures(self) -> Sequence[PosedPhotos]:
        """Captures of the folder that have cameras; raise InputError if there are none."""
        folder = Path(self.config.folder)
        if not folder.is_dir():
            raise InputError(f"dataset.captures.folder: no folder {folder}")
        found: list[PosedPhotos] = []
        names: list[str] = []

        def leave_out(path: Path, reason: str) -> None:
            names.append(path.resolve().name)
            if path != folder and not _matches(names[-1], self.config.exclude):
                warn(f"dataset.captures.folder: {path} is left out: {reason}")

        for path, capture in posed_captures(folder, leave_out):
            names.append(path.resolve().name)
            weight = self._weight(names[-1])
            if weight > 0:
                found.append(PosedPhotos.read(capture, names[-1], weight))
        self._check_patterns(names)
        if not found:
            raise InputError(f"dataset.captures.folder: no captures with cameras in {folder}")
        return found

    def _weight(self, name: str) -> float:
        if _matches(name, self.config.exclude):
            return 0.0
        weights = self.config.weights
        return next((weights[p] for p in weights if fnmatch.fnmatchcase(name, p)), 1.0)

    def _check_patterns(self, names: Sequence[str]) -> None:
        """Raise ConfigError for a pattern that no capture matches: it may be misspelt."""
        for key in ("weights", "exclude", "held_out"):
            for pattern in getattr(self.config, key):
                if not fnmatch.filter(names, pattern):
                    raise ConfigError(
                        f"dataset.captures.{key}: no capture in {self.config.folder} matches "
                        f"{pattern!r}; found: {', '.join(names) or 'none'}"
                    )

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return windows of photos that overlap, each in a random role."""
        generator, config = request.generator(), self.config
        posed = self._draw_capture(request, generator)
        order = posed.draw_views(config, request, generator)
        side = max(SIDE_PX, 2 * request.width, 2 * request.height)
        photos = [load_photo(posed.capture.root, i, side) for i in order]
        focus = _draw_focus(posed.points, order, generator)
        size = (request.width, request.height)
        windows = draw_windows(photos, size, config.smallest, focus, generator)
        parts = [cut(p, w, *size) for p, w in zip(photos, windows, strict=True)]
        table = color_table(config.color, generator)
        images = as_images([pixels for pixels, _ in parts], table)
        viewmats, Ks = (
            torch.stack([getattr(camera, key) for _, camera in parts]) for key in ("viewmats", "Ks")
        )
        cameras = Cameras(viewmats, Ks, *size)
        depth, ranges = sparse_depths(posed.points, order, cameras)
        if not bool(ranges.isfinite().all()) or photos[0].depth_bounds is not None:
            ranges = other_ranges(photos[: request.context], images, cameras, posed.cameras)
        near, far = ranges.unbind(1)
        outside = (depth < near[:, None, None]) | (depth > far[:, None, None])
        depth = depth.masked_fill(outside, float("nan"))
        return TrainingSample(images, cameras, depth, near, far).to(request.device)

    def _draw_capture(self, request: SampleRequest, generator: torch.Generator) -> PosedPhotos:
        """Draw a capture by weight: one held out for validation, else one of the others."""
        usable = [c for c in self.captures if len(c.cameras) >= request.views]
        chosen = [c for c in usable if _matches(c.name, self.config.held_out) == request.held_out]
        if request.held_out and not self.config.held_out:
            warn(
                "dataset.captures.held_out names no capture: the validation is on photos that are "
                "also trained on; name some, or set validate_every=0"
            )
            chosen = usable
        if not chosen:
            raise InputError(
                f"dataset.captures.folder: no capture in {self.config.folder} has the "
                f"{request.views} photos that context and targets need"
            )
        weights = torch.tensor([c.weight for c in chosen])
        return chosen[int(torch.multinomial(weights, 1, generator=generator))]


def posed_captures(
    folder: Path, left_out: Callable[[Path, str], None] | None = None
) -> Iterator[tuple[Path, Capture]]:
    """Yield the folders of captures that have cameras: a folder itself, and those in it.

    Args:
        folder: Folder of a capture, or of captures.
        left_out: Called with each folder in a folder of captures that is none with cameras, and the
            reason. Of a capture's own subfolders there is nothing to tell.
    """
    found: list[tuple[Path, _Read]] = []
    others: list[tuple[Path, str]] = []
    for path in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        read = read_posed(path)
        if isinstance(read, str):
            others.append((path, read))
        else:
            found.append((path.absolute(), read))
    own = read_posed(folder)
    if not isinstance(own, str):
        others = []
        # A folder with a single capture is read as that one, which would count twice.
        if own[0].root.absolute() not in [path for path, _ in found]:
            found.insert(0, (folder.absolute(), own))
    elif not found:
        others.append((folder, own))
    for path, reason in others:
        if left_out is not None:
            left_out(path, reason)
    for path, (capture, warned) in found:
        for warning in warned:  # of what is left out, there is nothing to tell
            warnings.warn(warning.message, warning.category, stacklevel=2)
        yield path, capture


_Read: TypeAlias = tuple[Capture, list[warnings.WarningMessage]]
"""A capture, and the warnings that it gave."""


def read_posed(path: Path) -> _Read | str:
    """Read a capture; return the reason if it is none with cameras."""
    with warnings.catch_warnings(record=True) as warned:
        try:
            capture = read_capture(path)
        except ReconError as error:
            return str(error)
    return (capture, warned) if capture.has_cameras else f"the capture {path} has no cameras"


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _draw_focus(
    points: SparsePoints | None, photos: list[int], generator: torch.Generator
) -> Float[Tensor, "3"] | None:
    """Draw one of the points that most of the photos see; None if they have none in common."""
    if points is None or len(common := points.common(photos)) == 0:
        return None
    index = common[draw_index(generator, len(common))]
    return torch.from_numpy(points.xyz[index])


def read_sources(folder: Path, exclude: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Read the `key: value` lines of SOURCE.txt of each capture, by the name of its folder."""
    paths = sorted(path.parent for path in folder.glob(f"*/{SOURCE_FILE}"))
    return {path.name: read_source(path) for path in paths if not _matches(path.name, exclude)}


def read_source(folder: Path) -> dict[str, str]:
    """Read the `key: value` lines of a folder's SOURCE.txt; none if it has no such file."""
    path = folder / SOURCE_FILE
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = (line.partition(":") for line in text.splitlines())
    return {key.strip(): value.strip() for key, _, value in lines}


def attribution(folder: Path, exclude: Sequence[str] = ()) -> str:
    """Return a Markdown table of the sources of captures.

    Raises:
        InputError: No capture of the folder has a SOURCE.txt.
    """
    keys = ("kind", "licence", "attribution", "repository", "changes")
    sources = read_sources(folder, exclude)
    rows = [[name, *(facts.get(key, "") for key in keys)] for name, facts in sources.items()]
    if not rows:
        raise InputError(f"no captures with a {SOURCE_FILE} in {folder}")
    head = ["capture", "contents", "licence", "attribution", "source", "changes"]
    return "\n".join(table_lines(head, rows))


@program
def main(words: Sequence[str] | None = None) -> None:
    """Print the table of sources."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("exclude", nargs="*", metavar="PATTERN", help="captures to leave out")
    options = parser.parse_args(words)
    say(attribution(options.folder, options.exclude))


if __name__ == "__main__":
    main()
