"""Configuration of a benchmark: suite files, and the splits of captures (`splits.json`)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from recon.capture import Capture, Frame
from recon.errors import InputError
from recon.overlay import overlay


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
    """Folder of .torch chunks, or of .txt files with frames, relative to the suite's root."""
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
    cases = [Case(root / name, str(split)) for name, splits in chosen.items() for split in splits]
    clips = None
    if "realestate10k" in document:
        where = f"{path}, realestate10k"
        clips = overlay(RealEstate10KBenchmark(), document["realestate10k"], where)
        clips = replace(clips, folder=str(root / clips.folder), index=str(root / clips.index))
    return Suite(tuple(cases), clips)


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
    """Read a named split of a capture's splits.json.

    Raises:
        InputError: There is no such split, or its frames do not exist or overlap.
    """
    path, splits = capture.root / "splits.json", read_splits(capture)
    if name not in splits:
        raise InputError(f"{path} has no split {name!r}; it has: {', '.join(map(str, splits))}")
    frames = {frame.name: frame for frame in capture.frames}
    chosen = {}
    for role in ("context", "target"):
        names = splits[name].get(role, [])
        missing = [n for n in names if n not in frames]
        if missing or not names:
            found = f"{missing[0]!r} is not a frame of the capture" if missing else "it is empty"
            raise InputError(f"{path}, split {name!r}: bad list {role!r}: {found}")
        chosen[role] = tuple(frames[n] for n in names)
    shared = {f.name for f in chosen["context"]} & {f.name for f in chosen["target"]}
    if shared:
        raise InputError(f"{path}, split {name!r}: {min(shared)} is both context and target")
    return Split(**chosen)
