"""Values that no scene can have: huge scales, rows of zeros, values that must not be saved."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_ply import scene_of, table_of, write_table

from recon import InputError, ReconWarning, Scene
from recon.formats import (
    FORMATS,
    SceneSource,
    format_of,
    load_gaussians,
    open_scene,
    save_gaussians,
    write_scene,
)
from render.quaternions import quats_to_rotmats


def test_scales_that_overflow_are_dropped_and_every_format_stays_readable(tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.ply", scene_of(0))
    table = table_of(tmp_path / "a.ply")
    table["scale_0"][3] = 89
    table["scale_1"][4] = 1e30
    write_table(tmp_path / "b.ply", table, "ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.warns(ReconWarning, match="2 of 50 rows with scales above"):
            source = open_scene(tmp_path / "b.ply")
        for extension in FORMATS:
            path = tmp_path / f"out{extension}"
            write_scene(path, source)
            read = load_gaussians(path)
            read.validate()
            assert len(read) == 48, extension


def test_rows_of_zeros_are_dropped_and_counted(tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.ply", scene_of(1))
    table = table_of(tmp_path / "a.ply")
    table[40:] = 0
    write_table(tmp_path / "b.ply", table, "binary_little_endian")
    with pytest.warns(ReconWarning, match="10 of 50 rows of zeros.*partly empty"):
        assert len(load_gaussians(tmp_path / "b.ply")) == 40


@pytest.mark.parametrize("extension", [".splat", ".glb"])
def test_zeros_and_huge_scales_of_other_formats_are_dropped(extension: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{extension}"
    scene = scene_of(0)
    scales, quats = scene.scales.clone(), scene.quats.clone()
    scales[0], scales[1:5], quats[1:5] = 1e30, 0, -1 if extension == ".splat" else 0
    # The writer alone, since saving checks the values.
    broken = replace(scene, scales=scales, quats=quats)
    source = replace(SceneSource.of(scene), blocks=lambda: iter([broken]))
    format_of(path).write(path, source)
    with pytest.warns(ReconWarning, match="dropped"):
        assert len(load_gaussians(path)) == 45


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("opacities", 1.5),
        ("opacities", -0.1),
        ("means", torch.nan),
        ("scales", -1.0),
        ("sh", torch.inf),
        ("quats", 0.0),
    ],
)
@pytest.mark.parametrize("extension", [".ply", ".sog"])
def test_invalid_values_are_not_saved(
    name: str, value: float, extension: str, tmp_path: Path
) -> None:
    scene = scene_of(0)
    values = getattr(scene, name).clone()
    values[3:5] = value
    broken = replace(scene, **{name: values})
    path = tmp_path / f"a{extension}"
    for save in (
        lambda: save_gaussians(path, broken),
        lambda: Scene(broken).save(path),
        lambda: Scene(broken).compress(path, keep_fraction=1.0),
    ):
        with pytest.raises(InputError, match=rf"cannot write .*Gaussians\.{name}"):
            save()
    assert not list(tmp_path.iterdir())


def test_huge_scales_in_memory_are_clipped(tmp_path: Path) -> None:
    scene = scene_of(0)
    scales = scene.scales.clone()
    scales[3] = 1e38
    for extension in FORMATS:
        with pytest.warns(ReconWarning, match="clipped the scales of 1 of 50"):
            save_gaussians(tmp_path / f"a{extension}", replace(scene, scales=scales))
        assert len(load_gaussians(tmp_path / f"a{extension}")) == 50, extension


@pytest.mark.parametrize("extension", FORMATS)
def test_quaternions_are_saved_with_unit_length(extension: str, tmp_path: Path) -> None:
    scene = scene_of(0)
    rotated = torch.nn.functional.normalize(torch.tensor([0.8, 0.6, 0.0, 0.0]), dim=0)
    scene = replace(scene, quats=rotated.expand(len(scene), 4))
    factors = torch.linspace(0.1, 5.0, len(scene))[:, None]
    expected, found = tmp_path / f"a{extension}", tmp_path / f"b{extension}"
    save_gaussians(expected, scene)
    save_gaussians(found, replace(scene, quats=factors * scene.quats))
    one, other = (quats_to_rotmats(load_gaussians(path).quats) for path in (expected, found))
    assert torch.allclose(one, other, atol=1e-5)
    # The rounding of .splat is the coarsest.
    assert torch.allclose(one, quats_to_rotmats(scene.quats), atol=0.03)
