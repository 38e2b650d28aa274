"""Which captures and splits to evaluate: `splits.json` and suite files."""

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
    """One capture and one of its splits."""

    capture: Path
    split: str

    @property
    def name(self) -> str:
        """capture/split."""
        return f"{self.capture.name}/{self.split}"


@dataclass(frozen=True)
class Split:
    """Frames to reconstruct from and frames that are held out."""

    context: tuple[Frame, ...]
    target: tuple[Frame, ...]


@dataclass(frozen=True)
class Films:
    """A RealEstate10K test set; defaults are pixelSplat's protocol."""

    folder: str = ""
    """Chunks or .txt files with frames, relative to the suite's root."""
    index: str = ""
    """pixelSplat's evaluation index (JSON), relative to the suite's root."""
    width: int = 256
    """Of all pictures (px)."""
    height: int = 256
    """Of all pictures (px)."""
    near: float = 1.0
    """Nearest depth, in distances between the first and the last context view."""
    far: float = 100.0
    """Farthest depth, in distances between those two."""
    limit: int = 0
    """Only so many scenes of the index; 0 for all."""


@dataclass(frozen=True)
class Suite:
    """What a suite file asks for."""

    cases: tuple[Case, ...]
    films: Films | None

    def chosen(self, only: Sequence[str]) -> tuple[Case, ...]:
        """The cases named as capture or capture/split, all without names; ReconError for a name
        that none has."""
        names = {case: {case.capture.name, case.name} for case in self.cases}
        for name in only:
            if all(name not in each for each in names.values()):
                known = ", ".join(case.name for case in self.cases)
                raise InputError(f"--only {name}: no such case in the suite; it has {known}")
        return tuple(c for c in self.cases if not only or not names[c].isdisjoint(only))


def read_suite(path: Path) -> Suite:
    """A YAML file with `root` (relative to the file), `cases` (capture: list of splits) and
    `realestate10k` (fields of Films); ReconError when it does not fit."""
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
    films = None
    if "realestate10k" in document:
        films = overlay(Films(), document["realestate10k"], f"{path}, realestate10k")
        films = replace(films, folder=str(root / films.folder), index=str(root / films.index))
    return Suite(tuple(cases), films)


def read_splits(capture: Capture) -> dict[str, dict[str, list[str]]]:
    """All of a capture's splits.json: split -> role -> names of frames; ReconError without one."""
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
    """A named split of a capture's splits.json; ReconError when it does not fit."""
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
