"""Photos with damaged or absurd EXIF data are used, or named; EXIF never costs a photo.

RECON_FUZZ sets the number of captures of each format.
"""

import importlib.util
import io
import math
import os
import random
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from mutations import mutated
from PIL import Image

from recon.capture import load_capture
from recon.capture.exif import exif_down, exif_focals, exif_orientation
from recon.capture.images import image_size, read_image
from recon.capture.sfm.prepare import prepare_images
from recon.errors import ReconWarning

COUNT = int(os.environ.get("RECON_FUZZ", "25"))
SIZE = 24, 16
# Tags of the first directory, of the one that it points to, and of GPS.
ORIENTATION, MODEL, EXIF_IFD, GPS_IFD = 0x0112, 0x0110, 0x8769, 0x8825
MAKER_NOTE, FOCAL, EQUIVALENT, ZOOM = 0x927C, 0x920A, 0xA405, 0xA404
OTHERS = (0x010F, 0x0132, 0x0201, 0x0202, 0x9286, 0xA001, 0xA005, 0x0100, 0x0111, 0x0117, 0xFFFF)
# Bytes per value by type: byte, ASCII, short, long, rational, undefined, signed ones, float, IFD.
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
Entry = tuple[int, int, int, bytes]


def rational(top: int, bottom: int) -> bytes:
    return struct.pack("<II", top, bottom)


def entry(tag: int, dice: random.Random) -> Entry:
    """Return a value (tag, type, count, bytes): usual, absurd, or of the wrong type."""
    if dice.random() < 0.4:
        kind = dice.choice([*WIDTHS, 0, 14, 99])
        count = dice.choice((0, 1, 1, 2, 7, 1000, 2**31, 2**32 - 1))
        return tag, kind, count, dice.randbytes(min(count, 40) * WIDTHS.get(kind, 1))
    if tag == ORIENTATION:
        return tag, 3, 1, struct.pack("<H", dice.choice((1, 3, 6, 8, 5, 0, 9, 65535)))
    if tag == FOCAL:
        pair = dice.choice(((425, 100), (0, 0), (1, 0), (2**32 - 1, 1), (0, 5), (1, 2**32 - 1)))
        return tag, dice.choice((5, 10)), 1, rational(*pair)
    if tag == EQUIVALENT:
        return tag, 3, 1, struct.pack("<H", dice.choice((26, 0, 1, 65535, 3000)))
    if tag == ZOOM:
        return tag, 5, 1, rational(dice.choice((1, 0, 4)), dice.choice((1, 0)))
    text = dice.choice(
        (b"", b"\0\0", b"iPhone\0", b"\xff\xfe\x00\xd8", b"\n\r\x1b[31m", b"x" * 3000)
    )
    return tag, dice.choice((2, 7)), len(text), text


def directory(entries: list[Entry], at: int, following: int) -> bytes:
    """Pack a directory at an offset, with the values that do not fit into it behind it."""
    table, values = b"", b""
    behind = at + 2 + 12 * len(entries) + 4
    for tag, kind, count, data in entries:
        inline = data.ljust(4, b"\0")[:4]
        if len(data) > 4:
            inline, values = struct.pack("<I", behind + len(values)), values + data
        table += struct.pack("<HHI", tag, kind, count) + inline
    return struct.pack("<H", len(entries)) + table + struct.pack("<I", following) + values


def exif_block(dice: random.Random) -> bytes:
    """Return an EXIF block with two directories, GPS and a thumbnail, of which any may be wrong."""
    some = [
        entry(tag, dice) for tag in (FOCAL, EQUIVALENT, ZOOM, MAKER_NOTE) if dice.random() < 0.8
    ]
    some += [(MAKER_NOTE, 7, 200, dice.randbytes(200))] * (dice.random() < 0.3)
    gps = [(tag, 5, 3, dice.randbytes(24)) for tag in (2, 4)] + [entry(1, dice)]
    inner = directory(some, 1000, dice.choice((0, 8, 1000)))
    positions = directory(gps, 3000 + len(inner), 0)
    # Pointers may lead nowhere, to themselves, or to each other.
    to_exif = dice.choice((1000, 1000, 1000, 8, 0, 2**32 - 1))
    to_gps = dice.choice((3000 + len(inner), 1000, 8, 2**31))
    first = [entry(tag, dice) for tag in (MODEL, ORIENTATION) if dice.random() < 0.9]
    first += [entry(dice.choice(OTHERS), dice) for _ in range(dice.randrange(3))]
    first += [
        (EXIF_IFD, 4, 1, struct.pack("<I", to_exif)),
        (GPS_IFD, 4, 1, struct.pack("<I", to_gps)),
    ]
    block = b"II*\0" + struct.pack("<I", 8) + directory(first, 8, dice.choice((0, 0, 8, 1000)))
    block = block[:1000].ljust(1000, b"\0") + inner
    block = block[: 3000 + len(inner)].ljust(3000 + len(inner), b"\0") + positions
    block += dice.randbytes(dice.choice((0, 500)))
    if dice.random() < 0.3:
        block = mutated(block, dice) or b"I"
    return block[: dice.choice((len(block), len(block), dice.randrange(1, len(block) + 1)))][:65000]


def encoded(extension: str, exif: bytes) -> bytes:
    """Return a photo with an EXIF block, which is written as it is."""
    pixels = np.random.default_rng(1).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    if extension == ".heic":
        import pillow_heif  # type: ignore[import-not-found]

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    if not exif:
        image.save(buffer, "TIFF" if extension == ".tif" else "PNG")
        return buffer.getvalue()
    name = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".heic": "HEIF"}[extension]
    head = b"Exif\0\0" if extension in (".jpg", ".heic") else b""
    image.save(buffer, name, exif=head + exif)
    return buffer.getvalue()


def damaged_tiff(dice: random.Random) -> bytes:
    """Return a TIFF whose own directory has strange values behind those that pixels need."""
    data = encoded(".tif", b"")
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    kept = [data[at + 2 + 12 * i :][:12] for i in range(count)]
    extra = [entry(tag, dice) for tag in (MODEL, ORIENTATION) if dice.random() < 0.9]
    extra.append((EXIF_IFD, 4, 1, struct.pack("<I", dice.choice((at, 8, 2**31, len(data))))))
    rows = []
    for tag, kind, number, value in extra:
        inline = (
            value.ljust(4, b"\0")[:4] if len(value) <= 4 else struct.pack("<I", len(data) + 900)
        )
        rows.append(struct.pack("<HHI", tag, kind, number) + inline)
    table = sorted(kept + rows, key=lambda row: struct.unpack_from("<H", row)[0])
    changed = bytearray(data)
    changed[4:8] = struct.pack("<I", len(data))
    end = struct.pack("<I", dice.choice((0, 0, len(data))))
    return (
        bytes(changed)
        + struct.pack("<H", len(table))
        + b"".join(table)
        + end
        + dice.randbytes(3000)
    )


FORMATS = (".jpg", ".png", ".webp", ".heic", ".tif")


@pytest.mark.parametrize("extension", FORMATS)
def test_damaged_exif(extension: str, tmp_path: Path) -> None:
    if extension == ".heic" and importlib.util.find_spec("pillow_heif") is None:
        pytest.skip("needs pillow_heif")
    dice = random.Random(extension)
    good = encoded(".png", b"")
    focals = 0
    for attempt in range(COUNT):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        is_tiff = extension == ".tif"
        damaged = damaged_tiff(dice) if is_tiff else encoded(extension, exif_block(dice))
        (folder / f"a{extension}").write_bytes(damaged)
        (folder / "good.png").write_bytes(good)
        focals += check(folder)
    assert extension == ".tif" or 0 < focals < COUNT


def test_a_rotated_tiff_is_upright_already(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)
    Image.fromarray(stored).save(tmp_path / "a.tif", exif=exif)
    path = tmp_path / "a.tif"
    assert exif_orientation(path) == 1 and exif_down(path) == (0, 1)
    for apply in (False, True):
        shown = read_image(path, apply_orientation=apply)[0]
        np.testing.assert_allclose(255 * shown, np.rot90(stored, -1), atol=0.01)
    assert image_size(path) == (SIZE[1], SIZE[0])


def check(folder: Path) -> int:
    """Read a capture as the solver does; return how many focal lengths EXIF gives."""
    work = folder.with_name(f"{folder.name}-work")
    work.mkdir()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        capture = load_capture(folder)
        used = [frame.image_path for frame in capture.frames]
        focals = exif_focals(used)
        prepared = prepare_images(capture.frames, work)
        for path in used:
            assert exif_down(path) in ((0, 1), (1, 0), (0, -1), (-1, 0))
            width, height = image_size(path)
            shape = (width, height) if exif_orientation(path) >= 5 else (height, width)
            assert read_image(path, apply_orientation=True)[0].shape == (*shape, 3)
    said = " ".join(str(w.message) for w in caught if issubclass(w.category, ReconWarning))
    assert "\n" not in said and "\x1b" not in said
    # No photo is lost by its EXIF data; those of a TIFF are beside what its pixels need.
    lost = {path.name for path in folder.iterdir()} - {path.name for path in used}
    assert lost <= {"a.tif"} and all(name in said for name in lost), said
    assert len(prepared.originals) == len(used)
    for focal in focals:
        assert focal.focal_px is None or 0 < focal.focal_px < math.inf
    return sum(focal.focal_px is not None for focal in focals)
