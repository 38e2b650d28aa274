"""`recon clean SCENE -o OUT`: remove floaters, the sky, or all but the object in the middle."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput, UsageError
from recon.cli.outputs import check_outputs
from recon.cli.scene_cameras import scene_cameras, scene_photos
from recon.errors import InputError
from recon.reporting import megabytes, prints_json, progress_reporter, report, shown_size

if TYPE_CHECKING:
    from torch import Tensor

    from recon.formats import SceneSource
    from render import Cameras, Gaussians

# Longer side of the masks for --object (px).
MASK_PX = 512
# Counts of the summary, in words.
LABELS = {
    "sky_dropped": "of the sky removed",
    "sky_moved": "of the sky moved",
    "around_the_object": "around the object removed",
}


@dataclass(frozen=True)
class Clean:
    """Remove floaters from a scene: Gaussians in front of the surfaces that cameras see."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """Scene file to write; the extension selects the format ({scene_extensions})."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE")] = None
    """Capture of the scene, or transforms.json (the photos need not exist): what is in front of the
    surfaces that its cameras see is removed, unless the photos need it. If omitted, the cameras
    that the file keeps, or guessed ones."""
    sky: Literal["keep", "drop", "sphere"] = "keep"
    """What is far behind everything else and above the horizon: keep it, drop it, or move it onto a
    sphere around the cameras."""
    object: bool = False
    """Keep only the object in the middle: what is inside the masks or the alpha of the photos, or
    without masks, what stands on the ground where the cameras look."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a summary line, or write it to FILE."""

    def run(self) -> None:
        """Check the options, find the floaters, and write the other Gaussians."""
        from recon.cleaning.floaters import CleanConfig, find_floaters
        from recon.formats import SceneSource, format_of, open_scene, write_scene

        started = time.perf_counter()
        if self.object and self.sky == "sphere":
            raise UsageError("--object keeps no sky and excludes --sky sphere; pass one of them")
        format_of(self.output)
        outputs = {"-o": self.output, "--json": self.json}
        check_outputs(outputs, inputs=[self.scene, self.cameras], force=self.force)
        source = open_scene(self.scene)
        gaussians = source.load()
        config = CleanConfig()
        found = scene_cameras(
            source, gaussians, self.cameras, config.resolution, outputs, self.force
        )
        cameras = found.cameras
        self._check_cameras(source)
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            photos = scene_photos(source, self.cameras, config.resolution, outputs, self.force)
            floaters = find_floaters(
                gaussians, cameras, config, source.antialiased, progress, photos
            )
            kept, others = self._selected(source, gaussians[~floaters], cameras, outputs)
            cleaned = SceneSource.of(kept, source.origin, source.antialiased, source.start)
            write_scene(self.output, replace(cleaned, cameras=source.cameras))
        removed = int(floaters.sum())
        summary = {
            "output": str(self.output),
            "gaussians": len(kept),
            "removed": removed,
            **others,
            "cameras": len(cameras),
            "known_cameras": found.known,
            "megabytes": round(megabytes(self.output), 3),
            "seconds": round(time.perf_counter() - started, 2),
        }
        more = "".join(f", {count:,} {LABELS[name]}" for name, count in others.items())
        line = (
            f"wrote {self.output}: {len(kept):,} Gaussians, {removed:,} floaters removed{more}, "
            f"seen from {found}, {shown_size(megabytes(self.output))}, "
            f"{summary['seconds']:.1f} s"
        )
        report(line, summary, self.json, self.quiet)

    def _check_cameras(self, source: "SceneSource") -> None:
        """Check that the cameras are not guessed where that would not do."""
        if self.cameras is None and not source.cameras and (self.object or self.sky != "keep"):
            flag = "--object" if self.object else f"--sky {self.sky}"
            raise UsageError(
                f"{flag} needs the cameras of the photos, which {self.scene} does not keep; pass "
                "the capture with --cameras"
            )

    def _selected(
        self,
        source: "SceneSource",
        gaussians: "Gaussians",
        cameras: "list[Cameras]",
        outputs: "dict[str, Path | None]",
    ) -> "tuple[Gaussians, dict[str, int]]":
        """Treat the sky and what is around the object; return how many Gaussians are concerned."""
        from recon.cleaning.sky import find_sky, onto_sphere

        counts = {}
        if self.sky != "keep":
            sky = find_sky(gaussians, cameras)
            counts["sky_dropped" if self.sky == "drop" else "sky_moved"] = int(sky.sum())
            gaussians = (
                gaussians[~sky] if self.sky == "drop" else onto_sphere(gaussians, sky, cameras)
            )
        if self.object:
            inside = self._object(source, gaussians, cameras, outputs)
            counts["around_the_object"] = int((~inside).sum())
            gaussians = gaussians[inside]
        if not len(gaussians):
            raise InputError("nothing of the scene would be left; check --cameras and the masks")
        return gaussians, counts

    def _object(
        self,
        source: "SceneSource",
        gaussians: "Gaussians",
        cameras: "list[Cameras]",
        outputs: "dict[str, Path | None]",
    ) -> "Tensor":
        """Return which Gaussians belong to the object."""
        from recon.cleaning.central_object import object_by_ground, object_by_masks

        views = scene_photos(source, self.cameras, MASK_PX, outputs, self.force)
        if views is not None and bool((views.masks[views.valid > 0] < 0.5).any()):
            return object_by_masks(gaussians, views)
        return object_by_ground(gaussians, cameras)
