"""Scene files whose names do not tell what they hold."""

import gzip
import json
import shutil
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from format_helpers import ROUNDING, as_stored, assert_close, scene_of
from test_ply import write_table

from recon import ReconError, ReconWarning, load_capture
from recon.cli.main import main
from recon.formats import is_scene, open_scene, save_gaussians
from recon.formats.contents import check_content

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n"
LITTLE = "binary_little_endian"
PAGE = b"\n<!DOCTYPE html>\n<html><body>404</body></html>"


def stored(folder: Path, extension: str) -> Path:
    path = folder / f"scene{extension}"
    save_gaussians(path, scene_of(1, 40))
    return path


def in_folders(path: Path, archive: Path, *folders: str) -> Path:
    """Write an archive with the files of a SOG in each of some folders."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(archive, "w") as target:
        for folder in folders:
            for name in source.namelist():
                target.writestr(folder + name, source.read(name))
    return archive


@pytest.mark.parametrize(
    ("extension", "name"),
    [
        (".ply", "a.splat"), (".ply", "a"), (".ply", "a.ply.txt"), (".spz", "a.ply"),
        (".glb", "a.spz"), (".sog", "a.zip"), (".sog", "a.splat"), (".compressed.ply", "a.spz"),
        (".usdc", "a.usda"), (".usda", "a"), (".usdz", "a.zip"),
    ],
)  # fmt: skip
def test_content_counts_more_than_the_name(extension: str, name: str, tmp_path: Path) -> None:
    path = shutil.copy(stored(tmp_path, extension), tmp_path / name)
    found = ".ply" if extension == ".compressed.ply" else extension
    assert is_scene(path)
    with pytest.warns(ReconWarning, match=rf"is a {found} by its content"):
        scene = open_scene(path).load()
    assert_close(as_stored(scene_of(1, 40), extension), scene, ROUNDING[extension])


def test_a_ply_whose_size_fits_a_splat(tmp_path: Path, recwarn) -> None:
    """A PLY called .splat whose size is a multiple of 32 would be read as noise."""
    content = stored(tmp_path, ".ply").read_bytes()
    head, _, body = content.partition(b"\nelement")
    padding = b"x" * (-(len(content) + len("\ncomment ")) % 32)
    (tmp_path / "a.splat").write_bytes(head + b"\ncomment " + padding + b"\nelement" + body)
    assert (tmp_path / "a.splat").stat().st_size % 32 == 0
    assert_close(scene_of(1, 40), open_scene(tmp_path / "a.splat").load(), ROUNDING[".ply"])


def test_archives_of_sog(tmp_path: Path, capsys) -> None:
    sog = stored(tmp_path, ".sog")
    below = in_folders(sog, tmp_path / "below.zip", "scan/")
    with pytest.warns(ReconWarning, match="by its content"):
        found = open_scene(below).load()
    assert_close(as_stored(scene_of(1, 40), ".sog"), found, ROUNDING[".sog"])
    two = in_folders(sog, tmp_path / "two.zip", "a/", "b/")
    message = r"holds 2 scenes, in a/, b/; unpack"
    with pytest.warns(ReconWarning), pytest.raises(ReconError, match=message):
        open_scene(two)
    main(["info", str(below)])
    assert "positions" in capsys.readouterr().out
    # Their textures are no photos.
    with zipfile.ZipFile(sog) as archive:
        archive.extractall(tmp_path / "folder")
    with pytest.raises(ReconError, match="holds 2 scenes, .*; to reconstruct, pass the folder of"):
        load_capture(two)
    for path in (below, tmp_path / "folder", sog, stored(tmp_path, ".ply")):
        with pytest.raises(ReconError, match="is a scene already, and no photos"):
            load_capture(path)


def gltf(*modes: int) -> bytes:
    """Return a binary glTF of meshes whose primitives have these modes."""
    primitives = [{"mode": mode, "attributes": {}} for mode in modes]
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": primitives}] if modes else [],
    }
    if not modes:
        document["nodes"] = [{}]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON") + text


VERTICES = (
    b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\n"
    b"property float z\n"
)


@pytest.mark.parametrize(
    ("content", "name", "kind"),
    [
        (gltf(4), "mesh.glb", "a mesh in glTF"),
        (gltf(0, 4), "mesh.glb", "a mesh in glTF"),
        (gltf(0), "points.glb", "a point cloud in glTF"),
        (gltf(), "empty.glb", "a glTF without meshes"),
        (gltf(4)[20:], "mesh.gltf", "a mesh in glTF"),
        (VERTICES + b"end_header\n0 0 0\n", "points3D.ply", "the PLY of a point cloud"),
        (
            VERTICES + b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"
            b"0 0 0\n3 0 0 0\n",
            "mesh.ply", "the PLY of a mesh",
        ),
    ],
)  # fmt: skip
def test_what_is_no_capture_is_called_what_it_is(
    content: bytes, name: str, kind: str, tmp_path: Path, capsys
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SystemExit) as end:
        main([str(tmp_path / name), "-o", str(tmp_path / "out.ply")])
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    assert f"{name} is {kind}, without Gaussians" in error
    assert error.endswith("; to reconstruct, pass the folder of the photos\n")


def test_projects_that_are_archives_of_scenes(tmp_path: Path) -> None:
    path = tmp_path / "a.ssproj"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("document.json", "{}")
        archive.write(stored(tmp_path, ".ply"), "splat_0.ply")
    for read in (open_scene, load_capture):
        with pytest.raises(ReconError, match=r"is an archive; extract its scene \(splat_0\.ply\)"):
            read(path)


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (POINTER, "a.ply", "pointer of Git LFS, not the file; run `git lfs pull`"),
        (POINTER, "a.spz", "pointer of Git LFS"),
        (PAGE, "a.splat", "a web page, as failed downloads leave it"),
        (b"\xef\xbb\xbf<html>", "a.sog", "a web page"),
        (gzip.compress(b"ply\n"), "a.ply", "compressed with gzip; unpack it"),
        (b"PK\x03\x04" + bytes(60), "a.glb", "a zip archive; unpack it"),
        (b"x", "a.ksplat", r"unknown scene format \.ksplat.*export the scene as \.ply"),
    ],
)
def test_what_is_no_scene_is_told(content: bytes, name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReconError, match=message):
        open_scene(tmp_path / name)


@pytest.mark.parametrize("name", ["000.jpg", "clip.mp4", "transforms.json", "sparse/cameras.bin"])
def test_placeholders_of_captures(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(POINTER)
    if path.suffix == ".bin":
        path.with_name("images.bin").write_bytes(POINTER)
    source = path if name == "clip.mp4" else tmp_path
    with pytest.raises(ReconError, match=rf"{path.name}.*pointer of Git LFS"):
        load_capture(source)


def test_other_kinds_of_ply(tmp_path: Path) -> None:
    def message(table: np.ndarray) -> str:
        write_table(tmp_path / "a.ply", table, LITTLE)
        with pytest.raises(ReconError) as error:
            open_scene(tmp_path / "a.ply")
        return str(error.value)

    points = np.zeros(3, [(axis, "<f4") for axis in "xyz"])
    assert "PLY of a point cloud, without Gaussians" in message(points)
    anchors = np.zeros(3, [(name, "<f4") for name in ("x", "y", "z", "f_anchor_feat_0")])
    assert "Scaffold-GS" in message(anchors)
    write_table(tmp_path / "a.ply", points, LITTLE)
    content = (tmp_path / "a.ply").read_bytes()
    face = b"element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "b.ply").write_bytes(content.replace(b"end_header\n", face) + b"\0")
    with pytest.raises(ReconError, match=r"b\.ply is the PLY of a mesh"):
        open_scene(tmp_path / "b.ply")


def test_two_bytes_do_not_make_a_splat_a_gzip(tmp_path: Path) -> None:
    path = tmp_path / "a.splat"
    path.write_bytes(b"\x1f\x8b\x00\x40" + bytes(28))
    check_content(path, ".splat")
    path.write_bytes(gzip.compress(b"abc"))
    with pytest.raises(ReconError, match="gzip"):
        check_content(path, ".splat")
