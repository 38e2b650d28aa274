"""Damaged and malicious files give a clear error or a valid scene, with bounded memory and time.

RECON_FUZZ sets the number of mutated files for each reader.
"""

import io
import json
import os
import random
import struct
import time
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from format_helpers import FORMATS, scene_of
from helpers import look_at_cameras
from memory import in_fresh_process, peak_bytes
from mutations import glb_with_other_values, mutated

from recon import ReconError
from recon.formats import load_gaussians, save_gaussians

COUNT = int(os.environ.get("RECON_FUZZ", "150"))
MAX_SECONDS = 5.0
MAX_GROWTH_BYTES = 100_000_000


def check(path: Path) -> bool:
    """Return whether a file is read; fail on anything but a valid scene or an InputError."""
    started = time.process_time()
    try:
        scene = load_gaussians(path)
    except ReconError as error:
        assert "\n" not in str(error) and str(path) in str(error)
        return False
    finally:
        assert time.process_time() - started < MAX_SECONDS
    assert scene.means.isfinite().all() and scene.sh.isfinite().all()
    assert (scene.scales >= 0).all() and not scene.scales.isnan().any()
    assert ((scene.opacities >= 0) & (scene.opacities <= 1)).all()
    assert torch.allclose(scene.quats.norm(dim=1), torch.ones(len(scene)), atol=1e-3)
    return True


def check_all_mutations(folder: Path) -> tuple[dict[str, list[int]], int]:
    """Check mutated files of all formats.

    Returns:
        How many were read, for each extension, and by how much memory has grown (bytes).
    """
    for extension in FORMATS:
        path = folder / f"a{extension}"
        save_gaussians(path, scene_of(2, 300))
        check(path)
    before = peak_bytes()
    read = {extension: check_mutations(folder / f"a{extension}") for extension in FORMATS}
    return read, peak_bytes() - before


def check_mutations(path: Path) -> list[int]:
    """Return how many mutated files were read."""
    read = []
    for degree in (0, 2):
        save_gaussians(path, scene_of(degree, 300))
        whole, dice = path.read_bytes(), random.Random(degree)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read.append(sum(check_mutation(path, whole, dice) for _ in range(COUNT)))
    return read


def check_mutation(path: Path, whole: bytes, dice: random.Random) -> bool:
    if path.suffix != ".spz":
        path.write_bytes(mutated(whole, dice))
        return check(path)
    # Changes would hardly get past the checksum of gzip otherwise.
    compressor = zlib.compressobj(wbits=31)
    data = compressor.compress(mutated(zlib.decompress(whole, 31), dice))
    path.write_bytes(data + compressor.flush())
    return check(path)


@pytest.mark.slow
def test_mutations(tmp_path: Path) -> None:
    """All formats in one process, whose start takes longer than the files of a format."""
    read, growth = in_fresh_process(check_all_mutations, tmp_path)
    assert growth < MAX_GROWTH_BYTES
    assert {p.name for p in tmp_path.iterdir()} == {f"a{extension}" for extension in FORMATS}
    # Some mutations change values only, and some damage the file.
    assert all(0 < count < COUNT for counts in read.values() for count in counts), read


@pytest.mark.slow
def test_mutated_descriptions_of_sog(tmp_path: Path) -> None:
    """The zip is intact, but its members are damaged."""
    path, dice = tmp_path / "a.sog", random.Random(0)
    save_gaussians(path, scene_of(1, 300))
    members = members_of(path)
    for _ in range(COUNT):
        name = dice.choice(sorted(members))
        with zipfile.ZipFile(path, "w") as archive:
            for other, data in members.items():
                archive.writestr(other, mutated(data, dice) if other == name else data)
        check(path)


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_members(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def sog_with(path: Path, **changes: object) -> None:
    """Write a .sog with changed entries of meta.json."""
    save_gaussians(path, scene_of(0, 300))
    members = members_of(path)
    meta = json.loads(members["meta.json"])
    members["meta.json"] = json.dumps(meta | changes).encode()
    write_members(path, members)


def test_sog_cannot_reach_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret.webp").write_bytes(b"x")
    for name in ("../secret.webp", str(tmp_path / "secret.webp"), "..\\secret.webp", "\0"):
        sog_with(tmp_path / "a.sog", quats={"files": [name]})
        with pytest.raises(ReconError, match="is damaged: it has no "):
            load_gaussians(tmp_path / "a.sog")


@pytest.mark.parametrize("count", [0, -1, 10**6, 10**12, 1.5, "9", None, True])
def test_sog_of_absurd_counts(count: object, tmp_path: Path) -> None:
    sog_with(tmp_path / "a.sog", count=count)
    if count is True:
        with pytest.raises(ReconError, match="count must be"):
            load_gaussians(tmp_path / "a.sog")
        return
    with pytest.raises(ReconError, match="count must be|too small"):
        load_gaussians(tmp_path / "a.sog")


def test_zip_bomb(tmp_path: Path) -> None:
    """A member that decompresses to gigabytes is rejected."""
    save_gaussians(tmp_path / "a.sog", scene_of(0, 300))
    members = members_of(tmp_path / "a.sog")
    members["meta.json"] += b" " * 60_000_000
    write_members(tmp_path / "a.sog", members, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "a.sog").stat().st_size < 1_000_000
    with pytest.raises(ReconError, match="meta.json unpacks to 6"):
        load_gaussians(tmp_path / "a.sog")


def test_image_bomb(tmp_path: Path) -> None:
    """A constant WebP of 16,383 x 16,383 pixels has a few hundred bytes."""
    from PIL import Image

    save_gaussians(tmp_path / "a.sog", scene_of(0, 300))
    members = members_of(tmp_path / "a.sog")
    bomb = io.BytesIO()
    Image.new("L", (8000, 8000)).save(bomb, "WEBP", lossless=True, quality=0, method=0)
    members["quats.webp"] = bomb.getvalue()
    write_members(tmp_path / "a.sog", members)
    with pytest.raises(ReconError, match="pixels in"):
        load_gaussians(tmp_path / "a.sog")


def test_gzip_bomb(tmp_path: Path) -> None:
    """A file with zeros for 50 million Gaussians is compressed a thousandfold."""
    compressor = zlib.compressobj(wbits=31)
    data = compressor.compress(struct.pack("<IIIBBBB", 0x5053474E, 3, 50_000_000, 0, 12, 0, 0))
    data += compressor.compress(bytes(20_000_000)) + compressor.flush()
    (tmp_path / "a.spz").write_bytes(data)
    with pytest.raises(ReconError, match="50000000 Gaussians do not fit into"):
        load_gaussians(tmp_path / "a.spz")


def test_glb_cannot_reach_other_files(tmp_path: Path) -> None:
    document = {
        "asset": {"version": "2.0"},
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0}, "extensions": {"KHR_gaussian_splatting": {}}}
                ]
            }
        ],
        "buffers": [{"uri": "../secret.bin", "byteLength": 36}, {"byteLength": 36}],
        "bufferViews": [{"buffer": 1, "byteLength": 36}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
    }
    text = json.dumps(document).encode()
    head = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text), len(text), b"JSON")
    (tmp_path / "a.glb").write_bytes(head + text)
    with pytest.raises(ReconError, match="keeps POSITION in another file"):
        load_gaussians(tmp_path / "a.glb")


def test_values_of_other_kinds_in_glb(tmp_path: Path) -> None:
    path = tmp_path / "a.glb"
    save_gaussians(path, scene_of(0, 3), start=look_at_cameras(1))
    refused = 0
    for _ in glb_with_other_values(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                load_gaussians(path).validate()
            except ReconError:
                refused += 1
    assert refused > 100
