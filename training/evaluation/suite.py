"""Configuration of a benchmark: suite files, and the splits of captures (`splits.json`)."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml

from recon.capture import Capture, Frame
from recon.errors import InputError, shortened
from recon.overlay import overlay
from render.cameras import camera_centers
from training.bounds import ANY, COUNT, check_number

# Names of splits that are made by a rule.
RULE = re.compile(r"(every|sector) (\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Case:
    """A capture and one of its splits."""

    capture: Path
    split: str

    @property
    def name(self) -> str:
        """The name capture/split."""
        return f"{self.capture.name}/{self.split}"


@dataclass(frozen=True)
class Split:
    """Frames to reconstruct from, and held-out frames."""

    context: tuple[Frame, ...]
    target: tuple[Frame, ...]


@dataclass(frozen=True)
class RealEstate10KBenchmark:
    """A RealEstate10K test set; the defaults are pixelSplat's protocol."""

    folder: str = ""
    """Folder of .torch chunks, of .txt files with frames, or of tar files that `recon data convert`
    has made of either, relative to the suite's root."""
    index: str = ""
    """pixelSplat's evaluation index (JSON), relative to the suite's root."""
    width: int = 256
    """Image width (px)."""
    height: int = 256
    """Image height (px)."""
    near: float = 1.0
    """Nearest depth, relative to the distance between the first and the last context view."""
    far: float = 100.0
    """Farthest depth, relative to the same distance."""
    limit: int = 0
    """Maximum number of clips of the index; 0 for all."""


@dataclass(frozen=True)
class Suite:
    """A benchmark: splits of captures, and optionally a RealEstate10K test set."""

    cases: tuple[Case, ...]
    realestate10k: RealEstate10KBenchmark | None = None

    def select(self, only: Sequence[str]) -> tuple[Case, ...]:
        """Return the cases named as capture or capture/split; all cases if no names are given.

        Raises:
            InputError: No case has one of the names.
        """
        names = {case: {case.capture.name, case.name} for case in self.cases}
        for name in only:
            if all(name not in each for each in names.values()):
                known = ", ".join(case.name for case in self.cases)
                raise InputError(f"--only {name}: no such case in the suite; it has {known}")
        return tuple(c for c in self.cases if not only or not names[c].isdisjoint(only))


def read_suite(path: Path) -> Suite:
    """Read a suite file.

    Args:
        path: YAML file with `root` (relative to the file), `cases` (capture: list of splits) and
            `realestate10k` (fields of `RealEstate10KBenchmark`).

    Raises:
        InputError: The file cannot be read or has other contents.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"suite not found: {path}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    known = {"root", "cases", "realestate10k"}
    if not isinstance(document, dict) or set(document) - known or not set(document) - {"root"}:
        raise InputError(
            f"{path}: expected the keys 'root' and 'cases' (capture: list of splits) or "
            "'realestate10k' (folder, index)"
        )
    root = (path.parent / str(document.get("root", "."))).resolve()
    chosen = document.get("cases", {})
    if not isinstance(chosen, dict):
        raise InputError(f"{path}: 'cases' must map captures to lists of splits")
    for name, splits in chosen.items():
        if not isinstance(splits, list):
            raise InputError(
                f"{path}: cases, {name}: expected a list of splits, found {shortened(splits)}"
            )
    cases = [
        Case(root / str(name), str(split)) for name, splits in chosen.items() for split in splits
    ]
    clips = None
    if "realestate10k" in document:
        where = f"{path}, realestate10k"
        clips = overlay(RealEstate10KBenchmark(), document["realestate10k"], where)
        _check_clips(clips, where)
        clips = replace(clips, folder=str(root / clips.folder), index=str(root / clips.index))
    return Suite(tuple(cases), clips)


def _check_clips(clips: RealEstate10KBenchmark, where: str) -> None:
    """Check the fields of a RealEstate10K test set."""
    for name, bounds in {"width": COUNT, "height": COUNT, "limit": ANY}.items():
        check_number(f"{where}: {name}", getattr(clips, name), bounds)
    if not 0 < clips.near < clips.far:
        raise InputError(
            f"{where}: near must be above 0 and below far, found {clips.near:g} and {clips.far:g}"
        )


def read_splits(capture: Capture) -> dict[str, dict[str, list[str]]]:
    """Read a capture's splits.json: split -> role (context or target) -> names of frames.

    Raises:
        InputError: The file is missing or malformed.
    """
    path = capture.root / "splits.json"
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f'no {path}; expected {{"name": {{"context": [files], "target": [files]}}}}'
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(splits, dict):
        raise InputError(f"{path}: expected an object, found {type(splits).__name__}")
    return splits


def read_split(capture: Capture, name: str) -> Split:
    """Return a split: one of a capture's splits.json by its name, or one by a rule.

    Args:
        capture: The photos.
        name: Name in splits.json, or "every 8" (each eighth photo is held out, the first one
            included) or "sector 0.2" (this fraction of the photos, neighbours, is held out).

    Raises:
        InputError: There is no such split, or its frames do not exist or overlap.
    """
    if (rule := RULE.fullmatch(name)) is not None:
        return _split_by_rule(capture, rule[1], float(rule[2]))
    path, splits = capture.root / "splits.json", read_splits(capture)
    if name not in splits:
        raise InputError(f"{path} has no split {name!r}; it has: {', '.join(map(str, splits))}")
    if not isinstance(splits[name], dict):
        raise InputError(f"{path}, split {name!r}: expected context and target, found another kind")
    frames = {frame.name: frame for frame in capture.frames}
    chosen = {}
    for role in ("context", "target"):
        names = splits[name].get(role, [])
        if not isinstance(names, list):
            raise InputError(f"{path}, split {name!r}: {role!r} must be a list, found {names!r}")
        missing = [n for n in names if n not in frames]
        if missing or not names:
            found = f"{missing[0]!r} is not a frame of the capture" if missing else "it is empty"
            raise InputError(f"{path}, split {name!r}: bad list {role!r}: {found}")
        chosen[role] = tuple(frames[n] for n in names)
    shared = {f.name for f in chosen["context"]} & {f.name for f in chosen["target"]}
    if shared:
        raise InputError(f"{path}, split {name!r}: {min(shared)} is both context and target")
    return Split(**chosen)


def _split_by_rule(capture: Capture, rule: str, number: float) -> Split:
    count = len(capture.frames)
    if rule == "every":
        held_out = set(range(0, count, int(number)))
    else:
        held_out = _neighbours(capture, min(max(round(number * count), 1), count))
    if not 0 < len(held_out) < count:
        raise InputError(
            f"{capture.title} has {count} photos, of which the split {rule} {number:g} holds out "
            f"{len(held_out)}; expected some photos to reconstruct from, and some held out"
        )
    frames = dict(enumerate(capture.frames))
    return Split(
        tuple(frame for i, frame in frames.items() if i not in held_out),
        tuple(frame for i, frame in frames.items() if i in held_out),
    )


def _neighbours(capture: Capture, count: int) -> set[int]:
    """Return a photo at the edge of the capture and those whose cameras are nearest to it.

    One radian of viewing direction counts as the median distance of the cameras from their median.
    """
    cameras = [frame.camera for frame in capture.frames if frame.camera is not None]
    viewmats = torch.stack([camera.viewmat for camera in cameras])
    centers = camera_centers(viewmats)
    centers = centers - centers.median(0).values
    distances = centers.norm(dim=1)
    poses = torch.cat([centers / distances.median().clamp_min(1e-12), viewmats[:, 2, :3]], 1)
    from_first = (poses - poses[distances.argmax()]).norm(dim=1)
    return set(from_first.argsort(stable=True)[:count].tolist())
