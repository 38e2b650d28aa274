"""Write captures with cameras as clips of RealEstate10K, with an evaluation index.

    python -m training.data.write_clips FOLDER ... -o OUT --held-out fox --side 256

OUT/train and OUT/test get the clips, as .txt files with frames, and OUT/index.json is the
evaluation index of OUT/test. `recon data convert` makes shards of either, and `recon eval` reads
the index. Training needs dataset.realestate10k.gap, whose default (25, 45) is for videos, to be
less than the frames of a clip: the last line says which.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon.capture import Capture, Frame, load_views, pinhole_cameras
from recon.errors import InputError, counted
from recon.files import atomic_output, check_new_folder
from recon.reporting import note, say
from render.video import to_bytes
from training.data.captures import posed_captures
from training.data.shards.tar import fractional_intrinsics
from training.programs import program

# Time from one frame to the next, as in a video of 30 frames a second (microseconds).
FRAME_US = 33_333
JPEG_QUALITY = 95


def write_clips(
    folders: Sequence[Path],
    out: Path,
    held_out: Sequence[str] = (),
    side: int = 256,
    length: int = 24,
    gap: int = 4,
    max_photos: int = 240,
) -> str:
    """Write the captures of folders as clips; return a line that says how many.

    Photos are put into an order in which neighbours are near each other, as in a video, and cut
    into clips. Undistortion is done; the principal point is kept.

    Args:
        folders: Captures, or folders of captures.
        out: New folder.
        held_out: Names of the captures that go to the test set.
        side: Shorter side of the frames (px).
        length: Frames of a clip, at most.
        gap: Frames between the two context views of the index; the targets are those between.
        max_photos: Photos of a capture, at most.

    Raises:
        InputError: There are no captures with cameras, two have the same name, no held-out one has
            that name, or none has enough photos.
    """
    _check_sizes(side, length, gap, max_photos)
    captures = _captures(folders)
    if unknown := [name for name in held_out if name not in captures]:
        raise InputError(
            f"--held-out: no capture {unknown[0]}; found: {', '.join(sorted(captures))}"
        )
    check_new_folder(out)
    clips: dict[str, list[Frame]] = {}
    for name, capture in captures.items():
        for index, frames in enumerate(_cut(name, capture, length, gap, max_photos)):
            part = "test" if name in held_out else "train"
            clips[f"{part}/{name}-{index}"] = frames
    if not clips:
        most = max(len(capture.frames) for capture in captures.values())
        raise InputError(
            f"no capture has enough photos for a clip: --gap {gap} needs {gap + 1}, found at most "
            f"{most}; choose a smaller --gap or add photos"
        )
    _write_all(out, clips, side, gap)
    lengths = [len(frames) for key, frames in clips.items() if key.startswith("train/")]
    tests = len(clips) - len(lengths)
    text = f"wrote {out}: {counted(len(lengths), 'clip')} to train on, {tests} to test"
    if not lengths:
        return text
    return f"{text}; train with dataset.realestate10k.gap=[{gap},{max(lengths) - 1}]"


def _write_all(out: Path, clips: Mapping[str, list[Frame]], side: int, gap: int) -> None:
    """Write clips by their folders, and the evaluation index of those in test/."""
    items: dict[str, dict[str, list[int]]] = {}
    with atomic_output(out) as temporary:
        temporary.mkdir()
        for key, frames in clips.items():
            _write_clip(temporary / key, frames, side)
            part, _, name = key.partition("/")
            if part == "test":
                first = (len(frames) - gap) // 2
                between = list(range(first + 1, first + gap))
                items[name] = {"context": [first, first + gap], "target": between}
        text = json.dumps(items, indent=1) + "\n"
        (temporary / "index.json").write_text(text, encoding="utf-8")


def _check_sizes(side: int, length: int, gap: int, max_photos: int) -> None:
    """Check the options; raise InputError for the first that cannot be right."""
    for option, value, least, why in (
        ("--side", side, 8, ""),
        ("--gap", gap, 1, ""),
        ("--length", length, gap + 1, f", more than --gap {gap}"),
        ("--max-photos", max_photos, gap + 1, f", more than --gap {gap}"),
    ):
        if value < least:
            raise InputError(f"{option} must be at least {least}{why}; found {value}")


def _captures(folders: Sequence[Path]) -> dict[str, Capture]:
    """Return the captures with cameras by name, and say which folders have none.

    Raises:
        InputError: There are none, or two have the same name.
    """
    found: dict[str, Capture] = {}
    paths: dict[str, Path] = {}
    reasons: list[str] = []

    def leave_out(path: Path, reason: str) -> None:
        reasons.append(reason)
        note(f"skipped {path}: {reason}")

    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no folder {folder}; expected a capture or a folder of captures")
        for path, capture in posed_captures(folder, leave_out):
            name = path.resolve().name
            if name in found:
                raise InputError(
                    f"two captures are called {name}, after which clips are called: {paths[name]} "
                    f"and {path}; give each once, or rename a folder"
                )
            found[name], paths[name] = capture, path
    if not found:
        raise InputError(f"no captures with cameras in {', '.join(map(str, folders))}")
    return found


def _cut(name: str, capture: Capture, length: int, gap: int, max_photos: int) -> list[list[Frame]]:
    """Cut photos into clips, and say how many are in none: what is too short has no gap."""
    order = video_order(pinhole_cameras(capture).centers)
    starts = range(0, min(len(order), max_photos), length)
    parts = [order[start : min(start + length, max_photos)] for start in starts]
    clips = [[capture.frames[i] for i in part] for part in parts if len(part) > gap]
    if left := len(order) - sum(map(len, clips)):
        note(
            f"{name}: {left} of the {len(order)} photos are in no clip; it takes at most "
            f"{max_photos} (--max-photos), and a clip has more than {gap} (--gap)"
        )
    return clips


def video_order(centers: Float[Tensor, "n 3"]) -> list[int]:
    """Return an order of cameras in which each is followed by the nearest of those that remain.

    It begins with the one that is farthest from their mean: an end of the path, if it has ends.
    """
    left = list(range(len(centers)))
    current = int((centers - centers.mean(0)).norm(dim=-1).argmax())
    order = []
    while True:
        order.append(current)
        left.remove(current)
        if not left:
            return order
        current = left[int((centers[left] - centers[current]).norm(dim=-1).argmin())]


def _write_clip(folder: Path, frames: Sequence[Frame], side: int) -> None:
    """Write KEY.txt and KEY/TIMESTAMP.jpg."""
    folder.mkdir(parents=True)
    lines = [folder.name]
    for index, frame in enumerate(frames):
        assert frame.camera is not None
        size = frame.camera.width, frame.camera.height
        scale = min(1.0, side / min(size))
        views = load_views([frame], round(scale * max(size)))
        stamp = FRAME_US * (index + 1)
        image = Image.fromarray(to_bytes(views.images[0]))
        image.save(folder / f"{stamp}.jpg", quality=JPEG_QUALITY)
        focal = fractional_intrinsics(views.cameras)[0].tolist()
        pose = views.cameras.viewmats[0, :3].flatten().tolist()
        numbers = " ".join(f"{value:.9g}" for value in (*focal, 0, 0, *pose))
        lines.append(f"{stamp} {numbers}")
    folder.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Write the clips that the command line asks for; exit with code 2 on a user error."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.write_clips",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folders", type=Path, nargs="+", metavar="FOLDER",
        help="a capture with cameras, or a folder of captures",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="OUT", help="new folder"
    )
    parser.add_argument(
        "--held-out", nargs="*", default=(), metavar="NAME",
        help="captures (names of their folders) whose clips go to OUT/test [default: none]",
    )  # fmt: skip
    for name, default, text in (
        ("side", 256, "shorter side of the frames (px), which are never enlarged"),
        ("length", 24, "frames of a clip, at most"),
        (
            "gap",
            4,
            "frames from first to last context view of the index; a clip has more",
        ),
        ("max-photos", 240, "photos of a capture, at most"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{text} [default: {default}]"
        )
    options = parser.parse_args(arguments)
    sizes = (options.side, options.length, options.gap, options.max_photos)
    say(write_clips(options.folders, options.output, options.held_out, *sizes))


if __name__ == "__main__":
    main()
