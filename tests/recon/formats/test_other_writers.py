"""Scene files of other writers: layouts, encodings and flags that recon itself does not write."""

import base64
import gzip
import json
import re
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from format_helpers import scene_of
from test_ply import assert_same, table_of, write_table

from recon import ReconError, ReconWarning, load
from recon.cli.main import main
from recon.formats import open_scene, save_gaussians
from recon.formats.glb import write_glb
from recon.formats.source import SceneSource
from recon.formats.spz import AXES
from render import Gaussians
from render.quaternions import quats_to_rotmats, rotmats_to_quats
from render.sh import C0

COUNT = 40


def scene(degree: int = 1) -> Gaussians:
    return scene_of(degree, COUNT)


def ply_of(path: Path, degree: int = 1) -> np.ndarray:
    save_gaussians(path, scene(degree))
    return table_of(path)


def without(table: np.ndarray, *names: str) -> np.ndarray:
    kept = [name for name in table.dtype.names or () if name not in names]
    out = np.zeros(len(table), [(name, table.dtype[name]) for name in kept])
    for name in kept:
        out[name] = table[name]
    return out


def with_column(table: np.ndarray, name: str, values: np.ndarray, kind: str = "<f4") -> np.ndarray:
    out = np.zeros(
        len(table), [*((n, table.dtype[n]) for n in table.dtype.names or ()), (name, kind)]
    )
    for known in table.dtype.names or ():
        out[known] = table[known]
    out[name] = values
    return out


def test_infinite_logits_are_0_and_1(tmp_path: Path) -> None:
    table = ply_of(tmp_path / "a.ply")
    table["opacity"][:2], table["opacity"][2:4], table["scale_0"][4] = np.inf, -np.inf, -np.inf
    write_table(tmp_path / "b.ply", table, "ascii")
    found = open_scene(tmp_path / "b.ply").load()
    assert len(found) == COUNT
    assert found.opacities[:4].tolist() == [1, 1, 0, 0] and 0 <= float(found.scales[4, 0]) < 1e-12
    for extension in (".ply", ".splat", ".spz", ".sog", ".glb", ".compressed.ply"):
        save_gaussians(tmp_path / f"c{extension}", found)
        back = open_scene(tmp_path / f"c{extension}").load()
        assert len(back) == COUNT and bool(back.scales.isfinite().all())


def test_2d_gaussians_are_flat(tmp_path: Path) -> None:
    table = ply_of(tmp_path / "a.ply")
    write_table(tmp_path / "b.ply", without(table, "scale_2"), "binary_little_endian")
    with pytest.warns(ReconWarning, match="2D Gaussians"):
        found = open_scene(tmp_path / "b.ply").load()
    assert torch.allclose(found.scales[:, :2], scene().scales[:, :2], rtol=1e-5)
    assert torch.allclose(found.scales[:, 2], 1e-3 * scene().scales[:, :2].amin(1), rtol=1e-4)


@pytest.mark.parametrize(("kind", "top"), [("u1", 255), ("<f4", 1)])
def test_colors_of_point_clouds_are_read(kind: str, top: int, tmp_path: Path) -> None:
    table = without(ply_of(tmp_path / "a.ply", 0), "f_dc_0", "f_dc_1", "f_dc_2")
    for name, value in {"red": 1.0, "green": 0.2, "blue": 0.0}.items():
        table = with_column(table, name, np.full(COUNT, value * top), kind)
    write_table(tmp_path / "b.ply", table, "binary_little_endian")
    with pytest.warns(ReconWarning) as caught:
        found = open_scene(tmp_path / "b.ply").load()
    assert len(caught) == 1 and "red, green and blue instead of f_dc" in str(caught[0].message)
    assert torch.allclose(0.5 + C0 * found.sh[:, 0], torch.tensor([1.0, 0.2, 0.0]), atol=1e-6)


@pytest.mark.parametrize("encoding", ["binary_big_endian", "ascii"])
def test_more_data_than_the_header_declares_is_told(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_table(path, ply_of(path, 0), encoding)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"vertex 40", b"vertex 37"))
    told = "3 lines" if encoding == "ascii" else r"204 bytes at its end are ignored \(3 vertices"
    with pytest.warns(ReconWarning, match=told):
        assert len(open_scene(path).load()) == 37


def test_more_data_than_a_compressed_header_declares_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.compressed.ply"
    save_gaussians(path, scene())
    path.write_bytes(path.read_bytes() + bytes(160))
    with pytest.warns(ReconWarning, match="160 bytes at its end are ignored"):
        assert len(open_scene(path).load()) == COUNT


@pytest.mark.parametrize("lines", [b"property float focal", b"property list uchar int v"])
@pytest.mark.parametrize("encoding", ["binary_big_endian", "ascii"])
def test_vertices_may_come_second(lines: bytes, encoding: str, tmp_path: Path) -> None:
    write_table(tmp_path / "a.ply", ply_of(tmp_path / "a.ply"), encoding)
    whole = (tmp_path / "a.ply").read_bytes()
    is_list = b"list" in lines
    if encoding == "ascii":
        rows = b"2 5 6\n1 7\n" if is_list else b"5\n6\n"
    else:
        rows = b"\x02\0\0\0\0\0\0\0\0\x01\0\0\0\0" if is_list else struct.pack(">2f", 5, 6)
    whole = whole.replace(b"element vertex", b"element camera 2\n" + lines + b"\nelement vertex")
    whole = whole.replace(b"end_header\n", b"end_header\n" + rows)
    (tmp_path / "b.ply").write_bytes(whole)
    with pytest.warns(ReconWarning, match="not read: elements camera"):
        assert_same(open_scene(tmp_path / "b.ply").load(), scene())


def test_filter_of_mip_splatting_is_applied(tmp_path: Path) -> None:
    table = with_column(ply_of(tmp_path / "a.ply"), "filter_3D", np.full(COUNT, 0.1))
    write_table(tmp_path / "b.ply", table, "binary_little_endian")
    with pytest.warns(ReconWarning, match="3D filter"):
        source = open_scene(tmp_path / "b.ply")
    before, found = scene(), source.load()
    wider = (before.scales**2 + 0.01).sqrt()
    assert source.antialiased and torch.allclose(found.scales, wider, rtol=1e-4)
    ratio = before.scales.prod(1) / wider.prod(1)
    assert torch.allclose(found.opacities, before.opacities * ratio, rtol=1e-4)


@pytest.mark.parametrize("extension", [".ply", ".compressed.ply", ".spz", ".sog"])
def test_antialiasing_is_kept(extension: str, tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.ply", scene(0))
    whole = (tmp_path / "a.ply").read_bytes()
    whole = whole.replace(b"\nelement", b"\ncomment antialiased 1\nelement", 1)
    (tmp_path / "a.ply").write_bytes(whole)
    main(["convert", str(tmp_path / "a.ply"), "-o", str(tmp_path / f"b{extension}"), "--quiet"])
    assert load(tmp_path / f"b{extension}").antialiased
    save_gaussians(tmp_path / f"c{extension}", scene(0))
    assert not load(tmp_path / f"c{extension}").antialiased
    with pytest.warns(ReconWarning, match="cannot say that the scene is for antialiased"):
        load(tmp_path / "a.ply").save(tmp_path / "d.splat")


def test_activated_opacities_are_suspected(tmp_path: Path) -> None:
    table = ply_of(tmp_path / "a.ply")
    table["opacity"] = np.linspace(0.05, 0.95, COUNT)
    write_table(tmp_path / "b.ply", table, "binary_little_endian")
    with pytest.warns(ReconWarning, match=r"opacities are from 0\.05 to 0\.95"):
        open_scene(tmp_path / "b.ply")


def spz_bytes(path: Path, version: int = 3, flags: int = 0, tail: bytes = b"") -> None:
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[4], data[14] = version, flags
    path.write_bytes(gzip.compress(bytes(data) + tail))


def axes_record(axes: int) -> bytes:
    return struct.pack("<III", 0xADBE0003, 4, axes)


@pytest.mark.parametrize("axes", [6, 4, 5, 12, 16])
def test_spz_in_declared_axes(axes: int, tmp_path: Path) -> None:
    """A scene written in other axes comes back: what is right stays right, up stays up."""
    directions = {"R": (1, 0, 0), "D": (0, 1, 0), "F": (0, 0, 1)}
    directions |= {"L": (-1, 0, 0), "U": (0, -1, 0), "B": (0, 0, -1)}
    # Rows: the axes of the file in those of the scene.
    change = torch.tensor([directions[letter] for letter in AXES[axes]], dtype=torch.float32)
    path, whole = tmp_path / "a.spz", scene(0)
    covars = change @ whole.covars() @ change.mT
    # Eigenvectors are a rotation in either case, as an axis has no sign.
    rotated = change @ quats_to_rotmats(whole.quats) * torch.linalg.det(change)
    other = Gaussians(
        whole.means @ change.T, rotmats_to_quats(rotated), whole.scales, whole.opacities, whole.sh
    )
    assert torch.allclose(other.covars(), covars, atol=1e-5)
    save_gaussians(path, other)
    spz_bytes(path, flags=2, tail=axes_record(axes))
    if axes == 6:
        found = open_scene(path).load()
    else:
        with pytest.warns(ReconWarning, match=f"declares the axes {AXES[axes]}"):
            found = open_scene(path).load()
    order = torch.cdist(whole.means, found.means).argmin(1)
    assert torch.allclose(found.means[order], whole.means, atol=1e-3)
    assert torch.allclose(found.covars()[order], whole.covars(), rtol=0.2, atol=2e-3)


def test_spz_extensions_and_versions(tmp_path: Path) -> None:
    path = tmp_path / "a.spz"
    save_gaussians(path, scene(0))
    plain = open_scene(path).load()
    orbit = struct.pack("<II3f", 0xADBE0002, 12, 0, 0, 0)
    spz_bytes(path, flags=3, tail=orbit + axes_record(6))
    with pytest.warns(ReconWarning, match="not read: SPZ extension 0xADBE0002"):
        source = open_scene(path)
    assert source.antialiased
    assert_same(source.load(), plain)
    for tail, message in ((orbit[:-2], "extensions end within"), (axes_record(99), "unknown axes")):
        save_gaussians(path, scene(0))
        spz_bytes(path, flags=2, tail=tail)
        with pytest.raises(ReconError, match=message):
            open_scene(path)
    save_gaussians(path, scene(0))
    spz_bytes(path, version=5)
    with pytest.raises(ReconError, match="version 1 to 4, found 5"):
        open_scene(path)


def test_spz_version_1(tmp_path: Path) -> None:
    whole = scene(0)
    head = struct.pack("<IIIBBBB", 0x5053474E, 1, COUNT, 0, 12, 0, 0)
    means = whole.means.numpy().astype("<f2").tobytes()
    rest = bytes([128]) * COUNT * (1 + 3 + 3 + 3)
    (tmp_path / "a.spz").write_bytes(gzip.compress(head + means + rest))
    found = open_scene(tmp_path / "a.spz").load()
    assert torch.allclose(found.means, whole.means, atol=2e-3)
    assert torch.allclose(found.opacities, torch.full((COUNT,), 128 / 255))


def unbundled(tmp_path: Path, degree: int = 0) -> Path:
    save_gaussians(tmp_path / "a.sog", scene(degree))
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        archive.extractall(tmp_path / "folder")
    return tmp_path / "folder" / "meta.json"


@pytest.mark.parametrize("degree", [0, 2])
def test_unbundled_sog(degree: int, tmp_path: Path, capsys) -> None:
    meta = unbundled(tmp_path, degree)
    bundled = open_scene(tmp_path / "a.sog").load()
    assert_same(open_scene(meta).load(), bundled)
    assert_same(open_scene(meta.parent).load(), bundled)
    main(["info", str(meta.parent)])
    assert re.search(rf"^gaussians +{COUNT}$", capsys.readouterr().out, re.MULTILINE)
    (meta.parent / "quats.webp").unlink()
    with pytest.raises(ReconError, match=r"no quats\.webp in its folder"):
        open_scene(meta)


def test_sog_version_1(tmp_path: Path) -> None:
    meta_path = unbundled(tmp_path)
    meta = json.loads(meta_path.read_text())
    del meta["version"], meta["count"]
    meta["means"]["shape"] = [COUNT, 3]
    for name, low, high in (("scales", -4, -1), ("sh0", -1, 1)):
        width = 3 if name == "scales" else 4
        del meta[name]["codebook"]
        meta[name] |= {"mins": [low] * width, "maxs": [high] * width}
    meta_path.write_text(json.dumps(meta))
    old, new = open_scene(meta_path).load(), open_scene(tmp_path / "a.sog").load()
    assert torch.equal(old.means, new.means) and torch.equal(old.quats, new.quats)
    assert float(old.scales.log().min()) >= -4.001 and float(old.scales.log().max()) <= -0.999
    # The fourth value is a logit between its bounds.
    assert torch.allclose(torch.logit(old.opacities), 2 * new.opacities - 1, atol=1e-4)
    assert (old.sh.amin() >= -1.001) and (old.sh.amax() <= 1.001)


def test_levels_of_detail_are_named(tmp_path: Path) -> None:
    (tmp_path / "lod-meta.json").write_text("{}")
    with pytest.raises(ReconError, match="levels of detail"):
        open_scene(tmp_path)
    with pytest.raises(SystemExit):
        main(["info", str(tmp_path)])


def change_glb(path: Path, **changes: object) -> None:
    """Change the extension of the primitive of a .glb."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    extension = document["meshes"][0]["primitives"][0]["extensions"]["KHR_gaussian_splatting"]
    extension |= changes
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = data[20 + length :]
    head = struct.pack("<4sII", b"glTF", 2, 20 + len(text) + len(rest))
    path.write_bytes(head + struct.pack("<I4s", len(text), b"JSON") + text + rest)


def test_glb_with_logarithms(tmp_path: Path) -> None:
    whole = scene(0)
    logs = Gaussians(
        whole.means, whole.quats, whole.scales.log(), torch.logit(whole.opacities), whole.sh
    )
    # The writer alone, since saving checks the values.
    write_glb(tmp_path / "a.glb", SceneSource.of(logs))
    with (
        pytest.warns(ReconWarning, match="all are read as logarithms"),
        pytest.warns(ReconWarning, match="all are read as logits"),
    ):
        found = open_scene(tmp_path / "a.glb").load()
    assert_same(found, whole)


def test_glb_with_linear_colors(tmp_path: Path) -> None:
    whole = scene(1)
    save_gaussians(tmp_path / "a.glb", whole)
    change_glb(tmp_path / "a.glb", colorSpace="lin_rec709_display")
    with pytest.warns(ReconWarning, match="linear colours"):
        found = open_scene(tmp_path / "a.glb").load()
    linear = (0.5 + C0 * whole.sh[:, 0]).clamp_min(0)
    display = torch.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    bright = linear > 0
    assert torch.allclose((0.5 + C0 * found.sh[:, 0])[bright], display[bright], atol=1e-5)
    # A small change of the linear colour changes the display colour by as much as the higher SH.
    ratio = found.sh[:, 1] / whole.sh[:, 1]
    middle = (linear > 0.01) & (linear < 0.99)
    slope = 1.055 / 2.4 * linear ** (1 / 2.4 - 1)
    assert torch.allclose(ratio[middle], slope[middle], rtol=1e-3)


def test_scales_that_may_be_linear_are_told(tmp_path: Path, recwarn) -> None:
    table = ply_of(tmp_path / "a.ply")
    for i in range(3):
        table[f"scale_{i}"] = np.exp(table[f"scale_{i}"])
    write_table(tmp_path / "b.ply", table, "binary_little_endian")
    with pytest.warns(ReconWarning, match="may be linear already: a scene that looks like fog"):
        open_scene(tmp_path / "b.ply")
    # Large units alone are no reason.
    large = scene()
    scaled = replace(large, means=1e4 * large.means, scales=1e3 * large.scales)
    scaled.scales[0] = 5
    save_gaussians(tmp_path / "c.ply", scaled)
    recwarn.clear()
    open_scene(tmp_path / "c.ply")
    assert not recwarn.list


def test_a_folder_with_a_scene_is_named(tmp_path: Path) -> None:
    save_gaussians(tmp_path / "scene.ply", scene())
    with pytest.raises(ReconError, match=r"is a folder; pass the scene in it, such as scene\.ply"):
        open_scene(tmp_path)


def as_text(path: Path, where: str) -> Path:
    """Write a .glb as a .gltf that keeps its values in the file itself, in one file or in two."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document, binary = json.loads(data[20 : 20 + length]), data[28 + length :]
    split = document["bufferViews"][2]["byteOffset"] if where == "two" else len(binary)
    document["buffers"] = []
    for index, part in enumerate(filter(None, (binary[:split], binary[split:]))):
        uri = f"sub dir/{index}.bin"
        (path.parent / uri).parent.mkdir(exist_ok=True)
        (path.parent / uri).write_bytes(part)
        if where == "inside":
            uri = f"data:application/octet-stream;base64,{base64.b64encode(part).decode()}"
        document["buffers"].append({"uri": uri.replace(" ", "%20"), "byteLength": len(part)})
    for view in document["bufferViews"]:
        if view["byteOffset"] >= split:
            view |= {"buffer": 1, "byteOffset": view["byteOffset"] - split}
    text = path.with_suffix(".gltf")
    text.write_text(json.dumps(document), encoding="utf-8-sig")
    return text


@pytest.mark.parametrize("where", ["inside", "one", "two"])
def test_gltf_as_text(where: str, tmp_path: Path, capsys, recwarn) -> None:
    save_gaussians(tmp_path / "a.glb", scene(2))
    text = as_text(tmp_path / "a.glb", where)
    assert_same(open_scene(text).load(), scene(2))
    main(["info", str(text), "--json"])
    files = [text, *(tmp_path.glob("sub dir/*") if where != "inside" else ())]
    size = sum(file.stat().st_size for file in files)
    assert json.loads(capsys.readouterr().out)["megabytes"] == round(size / 1e6, 3)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("../a.glb", "in the folder of the .gltf only"),
        ("/etc/passwd", "in the folder of the .gltf only"),
        ("%2e%2e/a.glb", "in the folder of the .gltf only"),
        ("https://example.org/a.bin", "in the folder of the .gltf only"),
        ("C:\\a.bin", "in the folder of the .gltf only"),
        ("lost.bin", "which is not there"),
        ("", "in the folder of the .gltf only"),
        ("data:application/octet-stream,xx", "not in base64"),
        ("data:application/octet-stream;base64,x", "not in base64"),
        ("data:application/octet-stream;base64,AAAA", "reaches beyond the end"),
    ],
)
def test_gltf_follows_nothing_else(uri: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    save_gaussians(tmp_path / "scene" / "a.glb", scene(0))
    text = as_text(tmp_path / "scene" / "a.glb", "one")
    document = json.loads(text.read_text(encoding="utf-8-sig"))
    document["buffers"][0]["uri"] = uri
    text.write_text(json.dumps(document))
    with pytest.raises(ReconError, match=message):
        open_scene(text)
    document["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {}}
    text.write_text(json.dumps(document))
    with pytest.raises(ReconError, match=r"compressed POSITION \(EXT_meshopt_compression\)"):
        open_scene(text)


@pytest.mark.parametrize("changes", [{"kernel": "box"}, {"colorSpace": "acescg"}])
def test_glb_with_unknown_kernels(changes: dict[str, str], tmp_path: Path) -> None:
    save_gaussians(tmp_path / "a.glb", scene(0))
    change_glb(tmp_path / "a.glb", **changes)
    with pytest.raises(ReconError, match=next(iter(changes.values()))):
        open_scene(tmp_path / "a.glb")
    change_glb(
        tmp_path / "a.glb", kernel="ellipse", colorSpace="srgb_rec709_display", projection="flat"
    )
    with pytest.warns(ReconWarning, match="projection 'flat'"):
        open_scene(tmp_path / "a.glb")


def write_and_read(path: Path, written: Gaussians, message: str | None = None) -> SceneSource:
    if message is None:
        save_gaussians(path, written)
    else:
        with pytest.warns(ReconWarning, match=message):
            save_gaussians(path, written)
    return open_scene(path)


@pytest.mark.parametrize("distance", [1e5, 5e8])
@pytest.mark.parametrize("extension", [".spz", ".compressed.ply"])
def test_one_far_gaussian_does_not_ruin_the_others(
    extension: str, distance: float, tmp_path: Path
) -> None:
    whole = scene_of(0, 400)
    whole.means[17] = distance * torch.tensor([0.6, 0.0, 0.8])
    found = write_and_read(tmp_path / f"a{extension}", whole, "moved 1 of 400").load()
    near = torch.cdist(whole.means, found.means).min(1).values
    near[17] = 0
    assert len(found) == 400 and float(near.max()) < 1e-2
    far = found.means[found.means.norm(dim=1).argmax()]
    direction = torch.nn.functional.normalize(far, dim=0)
    assert torch.allclose(direction, torch.tensor([0.6, 0.0, 0.8]), atol=0.05)


def test_spz_tells_what_it_clips(tmp_path: Path) -> None:
    tiny = scene(1)
    tiny = Gaussians(1e-3 * tiny.means, tiny.quats, 1e-4 * tiny.scales, tiny.opacities, 3 * tiny.sh)
    message = r"SPZ clips, of 40 Gaussians: scales outside 4\.5e-05 to 3\.8e\+02 units \(\d+\)"
    write_and_read(tmp_path / "a.spz", tiny, message)
