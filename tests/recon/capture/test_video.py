"""Frames of a video as photos."""

import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from recon import ReconError
from recon.capture import load_capture
from recon.capture.images import read_image
from recon.capture.video import FLOW_PX, default_count, select_frames

# Frames of the test video that are blurred, and those in which the camera rests.
BLURRED = (4, 6, 13, 21)
RESTING = range(24, 40)


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    """Write a video of a camera that moves along a wall, then rests."""
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    rng = np.random.default_rng(0)
    wall = cv2.resize(rng.integers(0, 255, (60, 240, 3), dtype=np.uint8), None, fx=8, fy=8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (320, 240))
    for number in range(40):
        x = 20 * min(number, RESTING[0])
        image = np.ascontiguousarray(wall[100:340, x : x + 320])
        writer.write(cv2.blur(image, (25, 25)) if number in BLURRED else image)
    writer.release()
    return path


def numbers(path: Path, count: int) -> list[int]:
    return [int(Path(f.name).stem.split("_")[1]) for f in load_capture(path, count).frames]


def test_sharp_frames_spread_over_the_motion(video: Path, cache: Path) -> None:
    chosen = numbers(video, 8)
    assert len(chosen) == 8 and not set(chosen) & set(BLURRED)
    assert sum(n in RESTING for n in chosen) <= 2
    assert max(np.diff(chosen[:6])) <= 8
    frame = load_capture(video, 8).frames[0]
    assert frame.image_path.is_relative_to(cache)
    assert read_image(frame.image_path, True)[0].shape == (240, 320, 3)
    assert frame.camera is None


def test_a_video_is_read_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = numbers(video, 5)
    monkeypatch.setattr(cv2, "imwrite", None)
    assert numbers(video, 5) == first


def test_number_of_photos_grows_with_the_motion() -> None:
    walk = np.full(900, 0.01 * FLOW_PX)
    assert default_count(walk[:300]) == 50 and default_count(walk) == 150
    assert default_count(np.zeros(900)) == 40 and default_count(100 * walk) == 240


def test_short_videos_give_all_they_have(video: Path) -> None:
    assert len(numbers(video, 100)) == 40


def test_choice_is_the_sharpest_of_each_piece() -> None:
    frames = np.arange(6)
    sharpness = np.array([1.0, 3.0, 2.0, 9.0, 8.0, 7.0])
    assert select_frames(frames, sharpness, np.ones(6), 2).tolist() == [1, 3]
    assert select_frames(frames, sharpness, np.zeros(6), 3).tolist() == [1, 3, 4]


def test_what_is_no_video_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mov").write_text("not a video")
    with wave.open(str(tmp_path / "sound.mkv"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0" * 16000)
    for name in ("empty.mp4", "text.mov", "sound.mkv"):
        with pytest.raises(ReconError, match=f"{name}: it cannot be decoded as a video") as end:
            load_capture(tmp_path / name)
        assert "\n" not in str(end.value)


def test_one_frame_is_not_enough(video: Path) -> None:
    with pytest.raises(ReconError, match="frames must be at least 2"):
        load_capture(video, 1)
