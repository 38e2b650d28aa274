"""Videos of other containers, codecs and colour spaces, rotated and damaged ones."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from photo_generators import quarter_means, quarters, srgb_codes

from recon import ReconError
from recon.capture import load_capture
from recon.capture import video_frames as module
from recon.capture.images import read_pixels
from recon.errors import ReconWarning

av = pytest.importorskip("av")

SRGB_FROM_BT2020 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)
FRAMES = 6


@pytest.fixture(autouse=True)
def usual_priority():
    """Undo the real-time priority that SVT-AV1 gives a process of root, and all its children.

    A busy one of these starves the browser of other tests.
    """
    yield
    if hasattr(os, "sched_setscheduler"):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


def write(
    path: Path, codec: str, codes: np.ndarray, colors: tuple[int, int, int], **options
) -> None:
    """Write a video whose frames all have these codes [h w 3] in [0, 1].

    Args:
        path: File to write; its extension selects the container.
        codec: Name of the encoder.
        codes: Non-linear RGB.
        colors: Numbers of the matrix, the transfer function and the primaries (ITU-T H.273).
        options: `pixels` (8 bits by default), `gaps` between frames, `motion` (px per frame),
            `encoder` for its options.
    """
    pixels, gaps = options.get("pixels", "yuv420p"), options.get("gaps", [1] * FRAMES)
    matrix, transfer, primaries = colors
    red, blue = {9: (0.2627, 0.0593), 1: (0.2126, 0.0722), 6: (0.299, 0.114)}[matrix]
    y = codes @ np.array([red, 1 - red - blue, blue])
    planes = [
        y,
        (codes[..., 2] - y) / (2 - 2 * blue) + 0.5,
        (codes[..., 0] - y) / (2 - 2 * red) + 0.5,
    ]
    deep = pixels.endswith("10le")
    scale, dtype = (4, np.uint16) if deep else (1, np.uint8)
    ranges = ((219, 16), (224, 16), (224, 16))
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=10, options=options.get("encoder", {}))
        stream.height, stream.width = codes.shape[:2]
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries = matrix, transfer, primaries
        context.color_range = 1
        time = 0
        for index, gap in enumerate(gaps):
            frame = av.VideoFrame(stream.width, stream.height, pixels)
            for i, (plane, (span, low)) in enumerate(zip(planes, ranges, strict=True)):
                moved = np.roll(plane, options.get("motion", 0) * index, axis=1)
                values = moved if i == 0 else moved[::2, ::2]
                stored = ((values * span + low) * scale).round().astype(dtype)
                target = frame.planes[i]
                row = np.zeros((target.height, target.line_size // dtype().itemsize), dtype)
                row[:, : stored.shape[1]] = stored
                target.update(row)
            frame.colorspace, frame.color_range, frame.pts = matrix, 1, time
            frame.color_trc, frame.color_primaries = transfer, primaries
            time += gap
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def frame_of(path: Path, count: int = FRAMES) -> np.ndarray:
    capture = load_capture(path)
    assert len(capture.frames) == count
    return read_pixels(capture.frames[0].image_path, apply_orientation=False)[0].astype(float)


def hlg_codes(linear: np.ndarray) -> np.ndarray:
    """Return HLG of scene light relative to diffuse white at 75 % (BT.2100, table 5, OETF)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light = linear * (np.exp((0.75 - c) / a) + b) / 12
    return np.where(light <= 1 / 12, np.sqrt(3 * light), a * np.log(12 * light - b + 1e-12) + c)


def pq_codes(linear: np.ndarray) -> np.ndarray:
    """Return PQ of light relative to diffuse white of 203 cd/m2 (BT.2100, table 4)."""
    power = (linear * 203 / 10000) ** (2610 / 16384)
    return ((3424 + 2413 * 32 * power) / (4096 + 2392 * 32 * power)) ** (2523 / 4096 * 128)


@pytest.mark.parametrize("transfer, codes_of, name", [(18, hlg_codes, "HLG"), (16, pq_codes, "PQ")])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
def test_hdr_becomes_srgb(
    transfer: int, codes_of, name: str, suffix: str, tmp_path: Path, cache
) -> None:
    path = tmp_path / f"a{suffix}"
    linear = (quarters() @ np.linalg.inv(SRGB_FROM_BT2020).T).clip(0, 1)
    encoder = {"x265-params": "log-level=none"}
    write(
        path, "libx265", codes_of(linear), (9, transfer, 9), pixels="yuv420p10le", encoder=encoder
    )
    with pytest.warns(ReconWarning, match=f"converted from {name}"):
        found = quarter_means(frame_of(path))
    assert np.abs(found - quarter_means(srgb_codes(quarters()))).max() < 6


@pytest.mark.parametrize(
    "name, codec",
    [("a.ts", "mpeg2video"), ("a.3gp", "mpeg4"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"),
     ("a.MTS", "libx264"), ("a.m4v", "mpeg4"), ("a.mp4", "libsvtav1")],
)  # fmt: skip
def test_containers_and_codecs(name: str, codec: str, tmp_path: Path, cache, recwarn) -> None:
    path = tmp_path / name
    # MPEG-4 part 2 does not say which matrix it has.
    colors = (6, 1, 1) if codec == "mpeg4" else (1, 1, 1)
    # Not every container is known by capitals, nor stores every time between frames.
    write(path.with_suffix(path.suffix.lower()), codec, srgb_codes(quarters()) / 255, colors)
    path.with_suffix(path.suffix.lower()).rename(path)
    found = quarter_means(frame_of(path))
    assert np.abs(found - quarter_means(srgb_codes(quarters()))).max() < 12
    assert not [w for w in recwarn if issubclass(w.category, ReconWarning)]


def test_frames_at_uneven_times(tmp_path: Path, cache) -> None:
    codes = srgb_codes(quarters()) / 255
    write(tmp_path / "a.mkv", "libx264", codes, (1, 1, 1), gaps=[1, 7, 1, 30, 2, 1])
    assert frame_of(tmp_path / "a.mkv").shape == (64, 96, 3)


def test_without_pyav(tmp_path: Path, cache, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = srgb_codes(quarters()) / 255
    write(tmp_path / "av1.mp4", "libsvtav1", codes, (1, 1, 1))
    encoder = {"x265-params": "log-level=none"}
    deep = {"pixels": "yuv420p10le", "encoder": encoder, "motion": 8}
    write(tmp_path / "pq.mp4", "libx265", codes, (9, 16, 9), **deep)
    monkeypatch.setattr(module, "_pyav", lambda: None)
    with pytest.raises(ReconError, match=r"av1\.mp4: .*pip install 'reconsplat\[video\]'"):
        load_capture(tmp_path / "av1.mp4")
    with pytest.warns(ReconWarning, match=r"pq\.mp4 are PQ .*only roughly"):
        load_capture(tmp_path / "pq.mp4")


def test_a_video_that_is_cut_short(tmp_path: Path, cache) -> None:
    path = tmp_path / "a.ts"
    noise = np.random.default_rng(0).random((64, 96, 3))
    write(path, "mpeg2video", noise, (1, 1, 1), gaps=[1] * 30)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert 2 <= len(load_capture(path).frames) < 30
    mp4 = tmp_path / "b.mp4"
    write(mp4, "libx264", noise, (1, 1, 1))
    mp4.write_bytes(mp4.read_bytes()[:-300])
    with pytest.raises(ReconError, match=r"b\.mp4: it cannot be decoded as a video"):
        load_capture(mp4)


@pytest.mark.parametrize(
    "matrix, corner",
    [((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))],
)
@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_rotation(matrix: tuple, corner: tuple, codec: str, tmp_path: Path, cache) -> None:
    """The display matrix of a track (ISO 14496-12) moves the white corner at the top left."""
    path, codes = tmp_path / "a.mp4", np.zeros((64, 96, 3))
    codes[:24, :24] = 1
    write(path, codec, codes, (1, 1, 1))
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, data.find(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    image = frame_of(path)
    assert image.shape == ((96, 64, 3) if matrix[0] == 0 else (64, 96, 3))
    row, column = (8 if index == 0 else -8 for index in corner)
    assert image[row, column].min() > 200 and (image > 128).mean() < 0.12


@pytest.mark.parametrize("version", [1, 2])
def test_panoramas_are_told(version: int, tmp_path: Path, cache) -> None:
    """The boxes of Google's Spherical Video RFC, versions 2 and 1."""
    path = tmp_path / "a.mp4"
    xml = b"uuid<GSpherical:Spherical>true</GSpherical:Spherical>"
    mark = xml if version == 1 else b"free\0\0\0\x08sv3d"
    write(path, "libx264", np.zeros((64, 128, 3)), (1, 1, 1))
    data = bytearray(path.read_bytes())
    start = data.rfind(b"moov") - 4
    box = struct.pack(">I", 4 + len(mark)) + mark
    size = struct.unpack_from(">I", data, start)[0]
    assert start + size == len(data)
    struct.pack_into(">I", data, start, size + len(box))
    path.write_bytes(data + box)
    with pytest.warns(ReconWarning, match=r"frames of .*a\.mp4 are panoramas"):
        load_capture(path)
