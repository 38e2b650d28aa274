"""The registry of scene formats."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from format_helpers import ROUNDING, scene_of

from recon.formats import (
    FORMATS,
    SceneFormat,
    SceneSource,
    attribute_bytes,
    is_scene,
    load_gaussians,
    save_gaussians,
)
from recon.scene_extensions import SCENE_EXTENSIONS
from render import Gaussians


def write_npz(path: Path, source: SceneSource) -> None:
    scene = source.load()
    arrays = {name: getattr(scene, name).numpy() for name in scene.__dataclass_fields__}
    with path.open("wb") as file:
        np.savez(file, **arrays)


def open_npz(path: Path) -> SceneSource:
    with np.load(path, allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return SceneSource.of(Gaussians(**tensors))


def test_one_record_adds_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = SceneFormat(".toy", "NumPy arrays", open=open_npz, write=write_npz)
    monkeypatch.setitem(FORMATS, toy.extension, toy)
    scene, path = scene_of(1), tmp_path / "a.toy"
    save_gaussians(path, scene)
    found = load_gaussians(path)
    assert is_scene(path)
    assert torch.equal(found.means, scene.means) and torch.equal(found.sh, scene.sh)
    assert attribute_bytes(path, len(scene), 1) == {}


def test_every_list_of_formats_is_complete() -> None:
    assert tuple(FORMATS) == SCENE_EXTENSIONS
    assert set(ROUNDING) == set(FORMATS)
    table = (ROOT / "docs" / "formats.md").read_text()
    for extension, record in FORMATS.items():
        assert record.extension == extension
        assert f"\n| `{extension}` |" in table


@pytest.mark.parametrize("extension", FORMATS)
def test_order_is_kept_where_the_record_says_so(extension: str, tmp_path: Path) -> None:
    scene = scene_of(0)
    shuffled = scene[torch.randperm(len(scene), generator=torch.Generator().manual_seed(0))]
    path = tmp_path / f"a{extension}"
    save_gaussians(path, shuffled)
    same_order = torch.allclose(load_gaussians(path).means, shuffled.means, atol=0.01)
    assert same_order == FORMATS[extension].keeps_order


@pytest.mark.parametrize("extension", FORMATS)
def test_sh_degree_is_limited_as_the_record_says(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{extension}"
    save_gaussians(path, scene_of(4))
    assert load_gaussians(path).sh_degree == FORMATS[extension].max_sh_degree


@pytest.mark.parametrize("extension", [e for e, f in FORMATS.items() if f.write_quantised])
def test_dropped_bits_make_files_smaller(extension: str, tmp_path: Path) -> None:
    write, source = FORMATS[extension].write_quantised, SceneSource.of(scene_of(0))
    assert write is not None
    paths = [tmp_path / f"{bits}{extension}" for bits in (0, 4)]
    write(paths[0], source, 0)
    write(paths[1], source, 4)
    assert paths[1].stat().st_size < 0.97 * paths[0].stat().st_size


@pytest.mark.parametrize("extension", FORMATS)
def test_bytes_by_attribute_sum_to_the_file(extension: str, tmp_path: Path) -> None:
    scene, path = scene_of(1, 3000), tmp_path / f"a{extension}"
    save_gaussians(path, scene)
    total = sum(attribute_bytes(path, len(scene), FORMATS[extension].max_sh_degree and 1).values())
    assert total == pytest.approx(path.stat().st_size / len(scene), rel=0.1)


def test_extensions_do_not_import_torch() -> None:
    code = "import sys, recon.scene_extensions; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
