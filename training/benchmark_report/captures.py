"""The captures of a benchmark: those in the project, and those in a folder of the user."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from recon.errors import InputError
from recon.files import atomic_output
from render.video import write_image
from training.benchmark_report.plan import PROCEDURAL, SHIPPED
from training.evaluation.surfaces import exact_views

ROOT = Path(__file__).resolve().parents[2]
FLIP = (1.0, -1.0, -1.0, 1.0)
# A folder in front of a name: what a message says about this machine.
FOLDERS = re.compile(r"(?<![\w.])(?:[A-Za-z]:)?[/\\](?:[^\s/\\:;,'\"]+[/\\])+")


@dataclass(frozen=True)
class Captures:
    """Finds captures by name."""

    folder: Path | None
    """Folder of the user's captures; None for only those that ship with the project."""
    made: Path
    """Folder in which procedural captures are made."""

    def find(self, name: str) -> Path:
        """Return the folder of a capture; a procedural one is made if it is not there.

        Raises:
            InputError: There is no such capture; the message names no folder of this machine.
        """
        kind, _, seed = name.partition(" ")
        if name in SHIPPED:
            return ROOT / "assets" / name
        if kind == PROCEDURAL and seed:
            return procedural_capture(seed, self.made / name.replace(" ", "-"))
        if self.folder is None:
            raise InputError(f"no folder of captures was named, which should hold {name}")
        if not (self.folder / name).is_dir():
            raise InputError(f"the folder of captures has no {name}")
        return self.folder / name


def procedural_capture(seed: str, folder: Path) -> Path:
    """Write the photos and cameras of a procedural scene as a capture; return its folder."""
    if folder.is_dir():
        return folder
    views, _ = exact_views(seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    frames = []
    with atomic_output(folder) as temporary:
        (temporary / "images").mkdir(parents=True)
        for i, c2w in enumerate(views.cameras.c2w.double()):
            name = f"images/{i:03d}.png"
            write_image(temporary / name, views.images[i])
            K = views.cameras.Ks[i].double()
            intrinsics = {"fl_x": K[0, 0], "fl_y": K[1, 1], "cx": K[0, 2], "cy": K[1, 2]}
            frames.append(
                {
                    "file_path": name,
                    **{key: float(value) for key, value in intrinsics.items()},
                    "w": views.cameras.width,
                    "h": views.cameras.height,
                    "transform_matrix": (c2w * c2w.new_tensor(FLIP)).tolist(),
                }
            )
        document = {"camera_model": "PINHOLE", "frames": frames}
        (temporary / "transforms.json").write_text(json.dumps(document, indent=1) + "\n")
    return folder


def without_folders(text: str) -> str:
    """Return a message without the folders of this machine: paths become names of files."""
    return FOLDERS.sub("", text)
