"""The 3DGS PLY: round trips, foreign layouts, damaged files, foreign readers."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import random_gaussians

from recon import ReconError, ReconWarning
from recon.formats import load_gaussians, save_gaussians
from recon.formats.ply_header import read_header, read_table
from render import Gaussians


def scene_of(degree: int, count: int = 50) -> Gaussians:
    generator = torch.Generator().manual_seed(degree)
    return random_gaussians(count, generator, degree, torch.float32)


def table_of(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.array(read_table(path, file, read_header(path, file)))


def write_table(path: Path, table: np.ndarray, encoding: str) -> None:
    """Write a PLY with any property order, types and encoding, without recon's writer."""
    names = {"f4": "float", "f8": "double", "u1": "uchar"}
    lines = ["ply", f"format {encoding} 1.0", "comment made by a test"]
    lines.append(f"element vertex {len(table)}")
    for name in table.dtype.names or ():
        lines.append(f"property {names[table.dtype[name].str[1:]]} {name}")
    with path.open("wb") as file:
        file.write(("\n".join([*lines, "end_header"]) + "\n").encode())
        if encoding == "ascii":
            for row in table:
                file.write((" ".join(repr(float(v)) for v in row) + "\n").encode())
        else:
            order = ">" if "big" in encoding else "<"
            file.write(table.astype(table.dtype.newbyteorder(order)).tobytes())


def assert_same(a: Gaussians, b: Gaussians, tolerance: float = 1e-5) -> None:
    for name in ("means", "quats", "scales", "opacities", "sh"):
        one, two = getattr(a, name), getattr(b, name)
        assert one.shape == two.shape, name
        assert torch.allclose(one, two, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("degree", range(5))
def test_round_trip(degree: int, tmp_path: Path) -> None:
    scene = scene_of(degree)
    save_gaussians(tmp_path / "a.ply", scene)
    assert_same(scene, load_gaussians(tmp_path / "a.ply"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.ply"]


def test_layout_is_the_one_viewers_expect(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    save_gaussians(path, scene_of(1))
    with path.open("rb") as file:
        header = read_header(path, file)
    names = [name for name, _ in header.properties]
    assert names[:9] == ["x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"]
    assert names[9:18] == [f"f_rest_{i}" for i in range(9)]
    assert names[18:] == [
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]
    assert header.encoding == "binary_little_endian" and [e.name for e in header.elements] == [
        "vertex"
    ]
    assert {kind for _, kind in header.properties} == {"f4"}


def test_rest_coefficients_are_channel_major(tmp_path: Path) -> None:
    scene = scene_of(1)
    save_gaussians(tmp_path / "a.ply", scene)
    table = table_of(tmp_path / "a.ply")
    # f_rest_0..2 are red's three coefficients of the first band.
    assert np.allclose(table["f_rest_1"], scene.sh[:, 2, 0].numpy())
    assert np.allclose(table["f_rest_3"], scene.sh[:, 1, 1].numpy())


def test_opacity_extremes_stay_finite(tmp_path: Path) -> None:
    scene = scene_of(0, 4)
    extreme = Gaussians(
        scene.means,
        scene.quats,
        torch.tensor([[0.0, 1e-30, 1.0]]).expand(4, 3),
        torch.tensor([0.0, 1.0, 0.5, 1.0]),
        scene.sh,
    )
    save_gaussians(tmp_path / "a.ply", extreme)
    table = table_of(tmp_path / "a.ply")
    assert all(np.isfinite(table[name]).all() for name in table.dtype.names or ())
    back = load_gaussians(tmp_path / "a.ply")
    assert torch.allclose(back.opacities, extreme.opacities, atol=1e-6)


@pytest.mark.parametrize("encoding", ["binary_little_endian", "binary_big_endian", "ascii"])
def test_other_layouts_are_read(encoding: str, tmp_path: Path) -> None:
    scene = scene_of(2)
    save_gaussians(tmp_path / "a.ply", scene)
    table = table_of(tmp_path / "a.ply")
    keep = [name for name in reversed(table.dtype.names or ()) if not name.startswith("n")]
    fields = [(name, "<f8" if name == "x" else "<f4") for name in keep] + [("label", "<u1")]
    other = np.zeros(len(table), fields)
    for name in keep:
        other[name] = table[name]
    write_table(tmp_path / "b.ply", other, encoding)
    assert_same(scene, load_gaussians(tmp_path / "b.ply"))


def test_bad_rows_are_dropped_and_zero_quats_become_identity(tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.ply", scene_of(0, 10))
    table = table_of(tmp_path / "a.ply")
    table["x"][3] = np.nan
    for i in range(4):
        table[f"rot_{i}"][5] = 0
    write_table(tmp_path / "b.ply", table, "binary_little_endian")
    with pytest.warns(ReconWarning, match=r"b\.ply: dropped 1 of 10 rows"):
        back = load_gaussians(tmp_path / "b.ply")
    assert len(back) == 9
    assert torch.equal(back.quats[4], torch.tensor([1.0, 0, 0, 0]))


@pytest.mark.parametrize("degree", [0, 1])
def test_no_row_is_good(degree: int, tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.ply", scene_of(degree, 10))
    table = table_of(tmp_path / "a.ply")
    table["opacity"][:] = np.nan
    write_table(tmp_path / "b.ply", table, "binary_little_endian")
    with (
        pytest.warns(ReconWarning, match="dropped 10 of 10 rows"),
        pytest.raises(ReconError, match="is empty: it has no usable Gaussian"),
    ):
        load_gaussians(tmp_path / "b.ply")


def test_damaged_files(tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.ply", scene_of(0))
    whole = (tmp_path / "a.ply").read_bytes()
    cases = {
        b"obj\n": "not a PLY file",
        whole[:-10]: "is truncated: 50 vertices need 3400 bytes, found 3390",
        whole[:100]: "has no end_header",
        whole[: whole.index(b"property float z")]: "has no end_header",
        whole.replace(b"vertex 50", b"vertex 5000000000"): "is truncated",
        whole.replace(b"vertex 50", b"vertex x"): "malformed PLY header line",
        whole.replace(
            b"float opacity", b"float opacite"
        ): "has incomplete Gaussians: its vertices have no opacity",
        whole.replace(b"float scale_0", b"quad scale_0"): "unknown type 'quad'",
        whole.replace(b"float ny", b"float f_rest_0"): "has 1 f_rest properties; expected 0, 9",
    }
    for content, message in cases.items():
        (tmp_path / "b.ply").write_bytes(content)
        with pytest.raises(ReconError, match=message):
            load_gaussians(tmp_path / "b.ply")


def test_wrong_names(tmp_path: Path) -> None:
    with pytest.raises(ReconError, match=r"unknown scene format \.obj; recon can write \.ply"):
        save_gaussians(tmp_path / "a.obj", scene_of(0))
    with pytest.raises(ReconError, match="scene not found"):
        load_gaussians(tmp_path / "none.ply")


def test_gaussforge_reads_the_same(tmp_path: Path) -> None:
    gaussforge = pytest.importorskip("gaussforge")
    scene = scene_of(1)
    save_gaussians(tmp_path / "a.ply", scene)
    read = gaussforge.GaussForge().read((tmp_path / "a.ply").read_bytes(), "ply")["data"]

    def values(name: str, columns: int) -> np.ndarray:
        return np.frombuffer(read[name], "<f4").reshape(-1, columns)

    table = table_of(tmp_path / "a.ply")
    assert read["numPoints"] == len(scene)
    assert np.array_equal(values("positions", 3), scene.means.numpy())
    assert np.allclose(np.exp(values("scales", 3)), scene.scales.numpy(), rtol=1e-5)
    assert np.allclose(values("alphas", 1)[:, 0], table["opacity"])
    assert np.allclose(values("rotations", 4), scene.quats.numpy(), atol=1e-6)
    assert np.allclose(values("colors", 3), scene.sh[:, 0].numpy(), atol=1e-6)


def test_gaussforge_converts_degree_0_unchanged(tmp_path: Path) -> None:
    # Its `read` fails on scenes without f_rest, its own files included; `convert` works.
    gaussforge = pytest.importorskip("gaussforge")
    scene = scene_of(0)
    save_gaussians(tmp_path / "a.ply", scene)
    converted = gaussforge.GaussForge().convert((tmp_path / "a.ply").read_bytes(), "ply", "ply")
    (tmp_path / "b.ply").write_bytes(converted["data"])
    assert_same(scene, load_gaussians(tmp_path / "b.ply"))


def test_splat_transform_reads_the_same(tmp_path: Path) -> None:
    command = shutil.which("splat-transform")
    if command is None:
        pytest.skip("splat-transform is not on PATH (npm install -g @playcanvas/splat-transform)")
    scene = scene_of(1)
    save_gaussians(tmp_path / "a.ply", scene)
    subprocess.run([command, "-w", "a.ply", "b.csv"], cwd=tmp_path, check=True, capture_output=True)
    rows = np.genfromtxt(tmp_path / "b.csv", delimiter=",", names=True)
    table = table_of(tmp_path / "a.ply")
    assert len(rows) == len(scene)
    for name in ("x", "f_dc_1", "f_rest_4", "opacity", "scale_2", "rot_3"):
        assert np.allclose(rows[name], table[name], atol=1e-5), name


def test_values_that_were_written_activated_are_suspicious(tmp_path: Path) -> None:
    """An exporter that writes opacities and scales as they are makes fog (supersplat-viewer)."""
    scene = random_gaussians(50, torch.Generator().manual_seed(0)).to(torch.float32)
    activated = replace(
        scene, opacities=torch.sigmoid(scene.opacities), scales=torch.exp(scene.scales)
    )
    save_gaussians(tmp_path / "a.ply", activated)
    with pytest.warns(ReconWarning, match="no scale is negative.*logarithms of the scales"):
        load_gaussians(tmp_path / "a.ply")
    save_gaussians(tmp_path / "b.ply", replace(activated, scales=scene.scales.clamp_max(0.5)))
    with pytest.warns(ReconWarning, match="too transparent needs their logits"):
        load_gaussians(tmp_path / "b.ply")
