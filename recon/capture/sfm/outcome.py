"""The result of structure from motion: how good it is, and what the user should know of it."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from recon.errors import counted, listed

# SIFT alone is good enough if at most one of this many photos stays unregistered, and if there are
# at least this many points: with fewer, camera positions are little better than a guess.
PHOTOS_PER_UNREGISTERED, MIN_POINTS = 4, 100
# Limits below which the user is warned: fraction of verified matches that agree with the cameras,
# angle between the rays to a point (degrees), points that a photo sees.
MIN_AGREEMENT, MIN_PARALLAX_DEG, MIN_POINTS_PER_PHOTO = 0.9, 2.0, 60
# Name of the file with the outcome beside a solved model.
FILE_NAME = "outcome.json"


@dataclass(frozen=True)
class Outcome:
    """Result of structure from motion with one matcher."""

    num_registered: int
    """Number of photos whose camera was solved and is believed."""
    num_points: int
    """Number of triangulated points."""
    num_matched_pairs: int
    """Number of pairs of photos with verified matches, with or without parallax."""
    model: Path
    """Folder of the COLMAP model of the original photos; missing if no photo was registered."""
    unconnected: tuple[str, ...] = ()
    """Names of the photos without verified matches to those that were solved."""
    static_background: bool = False
    """Whether matches did not move while others did: an object on a turntable."""
    only_rotated: bool = False
    """Whether rotations of the camera explain all matches."""
    featureless: bool = False
    """Whether at most one photo has features to match."""
    uncertain: tuple[str, ...] = ()
    """Names of registered photos whose matches contradict the solved cameras too often."""
    agreement: float = 1.0
    """Mean over photos of the fraction of verified matches that agree with the solved cameras."""
    parallax_deg: float = 90.0
    """Median over points of the largest angle between the rays to a point (degrees)."""
    points_per_photo: float = 1e3
    """Median number of points that a registered photo sees."""

    @classmethod
    def read(cls, file: Path, model: Path) -> "Outcome":
        """Read what the mapper or `write` wrote."""
        values = json.loads(file.read_text(encoding="utf-8"))
        known = {field.name for field in fields(cls)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**{k: v for k, v in values.items() if k in known}, model=model)

    def write(self, file: Path) -> None:
        """Write everything but the folder of the model."""
        values = {k: v for k, v in asdict(self).items() if k != "model"}
        file.write_text(json.dumps(values), encoding="utf-8")

    def is_better_than(self, other: "Outcome") -> bool:
        """Return whether more photos are registered with certainty, or at all, or more points."""
        return self._quality > other._quality

    @property
    def _quality(self) -> tuple[int, int, int]:
        certain = self.num_registered - len(self.uncertain)
        return certain, self.num_registered, self.num_points

    def is_good_enough(self, photos: int) -> bool:
        """Return whether the next matcher, which takes minutes, is not worth trying."""
        doubtful = photos - self.num_registered + len(self.uncertain)
        return (
            doubtful <= (photos - 1) // PHOTOS_PER_UNREGISTERED
            and self.num_points >= MIN_POINTS
            and self.agreement >= MIN_AGREEMENT
        )

    def failure(self, photos: int) -> str:
        """Return why cameras could not be solved, and what was expected."""
        if self.featureless:
            return (
                "there is no detail to match in them (blank walls, sky, dark, or out of focus); "
                "expected sharp photos of things with texture"
            )
        if self.static_background:
            return (
                "the background does not move between them while other things do (an object on a "
                "turntable?), and these things alone have too few matches; expected an object with "
                "texture in steps of at most 15 degrees, or photos taken around it"
            )
        if self.only_rotated:
            return (
                "there is no parallax, the camera rotated or stood still between them; expected "
                "photos taken from different positions"
            )
        if 2 * self.num_matched_pairs >= photos:
            return (
                "they overlap but no cameras fit them (too little parallax, moving things, or "
                "zooming); expected photos of a static scene taken from different positions"
            )
        return (
            "there are too few matches between them; expected photos taken of one static scene, a "
            "step or two apart and with large overlap"
        )

    def warnings(self, title: str, left_out: Sequence[str]) -> list[str]:
        """Return one line for each thing that the user should know.

        Args:
            title: What the capture is called.
            left_out: Names of the photos without a solved camera, apart from copies.
        """
        lines = []
        apart = [name for name in left_out if name in self.unconnected]
        if apart:
            lines.append(
                f"left out {counted(len(apart), 'photo')} of {title} without overlap with the "
                f"others: {listed(apart)}; take photos in between"
            )
        unfit = [name for name in left_out if name not in self.unconnected]
        if unfit:
            lines.append(
                f"left out {counted(len(unfit), 'photo')} of {title} without a believable camera: "
                f"{listed(unfit)}; take photos in between"
            )
        if self.uncertain:
            lines.append(
                f"the cameras of {counted(len(self.uncertain), 'photo')} of {title} are uncertain, "
                f"since many matches contradict them: {listed(self.uncertain)}; parts of the scene "
                "may not meet, so take more photos there, or leave these out"
            )
        if self.static_background:
            lines.append(
                f"the background of {title} does not move with the object (a turntable?): the "
                "cameras are those of the object, and its background will be smeared; add masks of "
                "the object (a folder masks)"
            )
        return lines + self._scene_warnings(title)

    def _scene_warnings(self, title: str) -> list[str]:
        lines = []
        if self.agreement < MIN_AGREEMENT:
            lines.append(
                f"{100 * (1 - self.agreement):.0f} % of the matches in {title} contradict the "
                "solved cameras (moving things, reflections, or sides that look alike); expect "
                "errors, and take more photos with smaller steps"
            )
        if self.parallax_deg < MIN_PARALLAX_DEG:
            lines.append(
                f"there is hardly any parallax in {title} ({self.parallax_deg:.1f} degrees); depth "
                "will be inaccurate, so take photos farther apart"
            )
        if self.points_per_photo < MIN_POINTS_PER_PHOTO:
            lines.append(
                f"few matches in {title} ({self.points_per_photo:.0f} points a photo); its cameras "
                "are inaccurate, so take more photos, closer together and sharp"
            )
        return lines
