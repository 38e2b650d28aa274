"""What the benchmark measures: a full plan of two hours, a quick one of a quarter of an hour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

SECTOR = "sector 0.2"
# Captures that ship with the project, so that a plain clone measures something.
SHIPPED = SAMPLE, CITY, CHAIR = "sample", "city", "chair"
PROCEDURAL = "procedural"
# Captures whose splits "2v" and "4v" are scored; monstree has 3v.
FEW = ("fountain", "fox", "sceaux-castle", "llff-horns", "table", "kitti360-drive", "dtu-scan65")


@dataclass(frozen=True)
class Plan:
    """Captures by name and settings of all measurements; an empty field measures nothing.

    A capture is a folder in the user's folder of captures, one of `SHIPPED`, or "procedural SEED".
    A split is one of its splits.json or a rule (see `training.evaluation.suite.read_split`).
    """

    name: str
    quality: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Splits by capture whose held-out photos are scored."""
    few: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Splits with few photos by capture, which the network alone is scored on as well."""
    equal_time: Mapping[str, str] = field(default_factory=dict)
    """Split by capture on which recon and 3DGS-MCMC get the same time."""
    budgets: Sequence[float] = ()
    """These times (s)."""
    photos: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Numbers of photos by capture from which the command makes a scene."""
    poses: Sequence[str] = ()
    """Captures whose cameras are solved again."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Split by capture whose scene is written in every format."""
    search: Sequence[str] = ()
    """Those of them for which the smallest .sog is searched that loses 0.1 dB."""
    scenes: Sequence[str] = ()
    """Scenes of `recon bench raster`."""
    degrees: Sequence[int] = (0,)
    """Their SH degrees."""
    networks: Sequence[str] = ()
    """Networks of `recon bench model` (name:size)."""
    repeats: int = 3
    """Number of timings of the rasterizer and of networks; medians are reported."""


QUICK = Plan(
    "quick",
    quality={
        CITY: ["dense", SECTOR],
        CHAIR: ["dense", SECTOR],
        SAMPLE: ["every 4", "sector 0.25"],
        "fountain": ["dense", SECTOR],
        "dtu-scan65": ["dense", SECTOR],
        "llff-horns": ["dense", SECTOR],
    },
    equal_time={"fountain": "dense", "dtu-scan65": "dense"},
    budgets=(30.0,),
    photos={SAMPLE: [2, 4, 8]},
    poses=("llff-horns",),
    files={SAMPLE: "4v"},
    scenes=("s1", "s3"),
    networks=("cost-volume:base",),
)
FULL = Plan(
    "full",
    quality={
        CITY: ["dense", SECTOR],
        CHAIR: ["dense", SECTOR],
        SAMPLE: ["every 4", "sector 0.25"],
        "fountain": ["dense", SECTOR],
        "llff-horns": ["dense", SECTOR],
        "kitti360-drive": ["dense", SECTOR],
        "table": ["dense", SECTOR],
        "fox": ["dense", SECTOR],
        "stone-sign": ["dense", "sector"],
        "dtu-scan65": ["dense"],
        "mary-rose": ["dense"],
        "lego": ["dense"],
        "ditch": ["dense"],
        "flowerpot": ["dense"],
        f"{PROCEDURAL} 6": ["every 4"],
        f"{PROCEDURAL} 9": ["every 4"],
    },
    few={
        **{name: ["2v", "4v"] for name in FEW},
        "monstree": ["2v", "3v"],
    },
    equal_time={"fountain": "dense", "table": "dense", "lego": "dense", "fox": "dense"},
    budgets=(30.0, 60.0),
    photos={SAMPLE: [2, 4, 8], "fox": [2, 4, 8, 16, 32, 50]},
    poses=("fountain", "llff-horns", "sceaux-castle", "table", "fox"),
    files={SAMPLE: "4v", "fox": "4v", "fountain": "4v"},
    search=(SAMPLE,),
    scenes=("s1", "s2", "s3"),
    degrees=(0, 3),
    networks=("cost-volume:base", "gs-lrm:small", "epipolar:small"),
    repeats=9,
)  # fmt: skip
