"""Write captures with cameras as clips of RealEstate10K, with an evaluation index.

    python -m training.data.write_clips FOLDER ... -o OUT --held-out fox --side 256

OUT/train and OUT/test get the clips, as .txt files with frames, and OUT/index.json is the
evaluation index of OUT/test. `recon data convert` makes shards of either, and `recon eval` reads
the index.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon.capture import Frame, load_views, pinhole_cameras
from recon.errors import InputError, ReconError
from recon.files import check_new_folder
from recon.reporting import note, say
from render.video import to_bytes
from training.data.captures import posed_captures
from training.data.shards.tar import fractional_intrinsics

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
        InputError: There are no captures with cameras, or no held-out one of that name.
    """
    check_new_folder(out)
    if not (1 <= gap < length and side >= 8 and max_photos > gap):
        raise InputError(
            "--side must be at least 8, --gap at least 1 and less than --length and --max-photos"
        )
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"no folder {folder}; expected a capture or a folder of captures")
    captures = [each for folder in folders for each in posed_captures(folder)]
    names = sorted(path.name for path, _ in captures)
    if unknown := [name for name in held_out if name not in names]:
        raise InputError(f"--held-out: no capture {unknown[0]}; found: {', '.join(names)}")
    if not names:
        raise InputError(f"no captures with cameras in {', '.join(map(str, folders))}")
    index: dict[str, dict[str, list[int]]] = {}
    counts = {"train": 0, "test": 0}
    for path, capture in captures:
        part = "test" if path.name in held_out else "train"
        posed = [frame for frame in capture.frames if frame.camera is not None]
        order = video_order(pinhole_cameras(capture).centers)[:max_photos]
        for number, start in enumerate(range(0, len(order), length)):
            frames = order[start : start + length]
            if len(frames) <= gap:
                continue
            key = f"{path.name}-{number}"
            _write_clip(out / part / key, [posed[i] for i in frames], side)
            counts[part] += 1
            if part == "test":
                first = (len(frames) - gap) // 2
                between = list(range(first + 1, first + gap))
                index[key] = {"context": [first, first + gap], "target": between}
    (out / "index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    return f"wrote {out}: {counts['train']} clips to train on, {counts['test']} to test"


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
    for number, frame in enumerate(frames):
        assert frame.camera is not None
        size = frame.camera.width, frame.camera.height
        scale = min(1.0, side / min(size))
        views = load_views([frame], round(scale * max(size)))
        stamp = FRAME_US * (number + 1)
        image = Image.fromarray(to_bytes(views.images[0]))
        image.save(folder / f"{stamp}.jpg", quality=JPEG_QUALITY)
        focal = fractional_intrinsics(views.cameras)[0].tolist()
        pose = views.cameras.viewmats[0, :3].flatten().tolist()
        numbers = " ".join(f"{value:.9g}" for value in (*focal, 0, 0, *pose))
        lines.append(f"{stamp} {numbers}")
    folder.with_suffix(".txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the clips that the command line asks for; exit with code 2 on a user error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    parser.add_argument("--held-out", nargs="*", default=(), metavar="NAME")
    for name, default in (("side", 256), ("length", 24), ("gap", 4), ("max-photos", 240)):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N")
    options = parser.parse_args(arguments)
    try:
        sizes = (options.side, options.length, options.gap, options.max_photos)
        say(write_clips(options.folders, options.output, options.held_out, *sizes))
    except ReconError as error:
        note(f"error: {error}")
        sys.exit(2)


if __name__ == "__main__":
    main()
