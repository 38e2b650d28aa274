"""`recon info PATH`: describe a scene file or a capture."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from recon.cli.arguments import Arg, JsonOutput
from recon.cli.outputs import check_outputs
from recon.errors import InputError, warn
from recon.reporting import prints_json, progress_reporter, say, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from recon.capture.types import Capture, Frame
    from recon.precision import Origin


@dataclass(frozen=True)
class Info:
    """Describe a scene file or a capture."""

    path: Annotated[Path, Arg(positional=True, metavar="SCENE|CAPTURE")]
    """Scene file (.ply, .spz, .sog, ...), capture folder or video."""
    json: JsonOutput = None
    """Print one JSON object instead of text, or write it to FILE."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""

    def run(self) -> None:
        """Describe a scene if the content or the extension is that of one, otherwise a capture."""
        from recon.formats import is_scene

        check_outputs({"--json": self.json}, inputs=[self.path], force=self.force, is_result=True)
        if is_scene(self.path):
            facts = _scene_facts(self.path)
        else:
            facts = _capture_facts(self.path, prints_json(self.json))
        if self.json is not None:
            write_json(facts, self.json)
        if prints_json(self.json):
            return
        width = max(map(len, facts))
        for key, value in facts.items():
            say(f"{key.replace('_', ' '):<{width}}  {_text(value)}")


def _text(value: Any) -> str:
    if isinstance(value, float):
        # Coordinates far from zero need their last digits.
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_text(v)}" for k, v in value.items())
    if isinstance(value, list):
        return " ".join(_text(v) for v in value) or "none"
    return {True: "yes", False: "no", None: "unknown"}.get(value, str(value))


def _scene_facts(path: Path) -> dict[str, Any]:
    from recon.formats import attribute_bytes, open_scene, scene_bytes

    source = open_scene(path)
    scene = source.load()
    facts: dict[str, Any] = {
        "file": str(path),
        "megabytes": round(scene_bytes(path) / 1e6, 3),
        "gaussians": len(scene),
        "sh_degree": scene.sh_degree,
    }
    return facts | {
        "bytes_per_gaussian": scene_bytes(path) / len(scene),
        "bytes_by_attribute": attribute_bytes(path, len(scene), scene.sh_degree),
        "antialiased": source.antialiased,
        "cameras": len(source.cameras),
        "bounds_min": _moved(scene.means.amin(0), source.origin),
        "bounds_max": _moved(scene.means.amax(0), source.origin),
        "opacity": _quantiles(scene.opacities),
        "opacity_histogram": _histogram(scene.opacities),
        "scale_world_units": _quantiles(scene.scales),
    }


def _moved(point: "torch.Tensor", origin: "Origin") -> list[float]:
    return [a + b for a, b in zip(point.tolist(), origin, strict=True)]


def _quantiles(values: "torch.Tensor") -> dict[str, float]:
    ordered = values.flatten().sort().values
    fractions = {"min": 0.0, "10%": 0.1, "median": 0.5, "90%": 0.9, "max": 1.0}
    # Not in float32, which cannot represent the indices of 17 million values.
    return {name: float(ordered[round(f * (len(ordered) - 1))]) for name, f in fractions.items()}


def _histogram(opacities: "torch.Tensor") -> dict[str, str]:
    """Return the percentage of Gaussians in each tenth of the range of opacities."""
    counts = (10 * opacities).long().clamp(0, 9).bincount(minlength=10).tolist()
    return {f"{i / 10:.1f}": f"{100 * n / len(opacities):.0f} %" for i, n in enumerate(counts)}


def _capture_facts(path: Path, quiet: bool) -> dict[str, Any]:
    from recon.capture import load_capture
    from recon.capture.agreement import warn_of_contradictions
    from recon.capture.check import check_photos
    from recon.capture.orientation import photo_size

    capture = load_capture(path)
    sizes = Counter("{}x{}".format(*photo_size(f)) for f in capture.frames)
    with progress_reporter(quiet) as report:
        check = check_photos(capture.frames, report)
    for warning in check.warnings:
        warn(warning)
    if capture.has_cameras:
        warn_of_contradictions(capture)
    return {
        "capture": str(path),
        "kind": capture.kind,
        "photos": len(capture.frames),
        "left_out": list(capture.left_out),
        "sizes_px": dict(sizes),
        "cameras": capture.has_cameras,
        "masks": sum(frame.mask_path is not None for frame in capture.frames),
        **_solved_facts(capture),
        **_camera_facts(capture.frames),
        **_geometry_facts(capture),
        "photos_looked_at": check.num_checked,
        "overlap_partners_median": check.median_overlaps,
        "overlap_groups": check.groups,
    }


def _solved_facts(capture: "Capture") -> dict[str, Any]:
    """Return how many cameras were solved in an earlier run, and warn as that run did."""
    from recon.capture.sfm import SolveConfig, solved_before

    try:
        posed = None if capture.has_cameras else solved_before(capture, SolveConfig())
    except InputError as error:
        # All photos are copies of one.
        warn(str(error))
        return {}
    return {} if posed is None else {"cameras_solved_before": len(posed.capture.frames)}


def _geometry_facts(capture: "Capture") -> dict[str, Any]:
    """Return the photos that Gaussians would be predicted from, by name; the others supervise."""
    if not capture.has_cameras:
        return {}
    from recon.capture.cameras import pinhole_cameras, relative_to
    from recon.config import FusionConfig
    from recon.local_frame import camera_origin
    from recon.spread import spread_cameras

    # Coordinates far from zero, such as UTM, do not fit into float32.
    local = relative_to(capture, camera_origin(capture.frames))
    chosen = spread_cameras(pinhole_cameras(local), FusionConfig().max_views)
    return {"geometry_views": [capture.frames[i].name for i in chosen]}


def _camera_facts(frames: "Sequence[Frame]") -> dict[str, Any]:
    import torch

    from render.cameras import camera_centers

    cameras = [frame.camera for frame in frames if frame.camera is not None]
    if not cameras:
        return {}
    viewmats = torch.stack([camera.viewmat for camera in cameras])
    centers = camera_centers(viewmats)
    return {
        "distortion": dict(Counter(camera.distortion for camera in cameras)),
        "focal_px": float(torch.stack([camera.K[0, 0] for camera in cameras]).median()),
        "camera_spread_world_units": float((centers - centers.mean(0)).norm(dim=1).max()),
        "sfm_points": sum(len(f.points) for f in frames if f.points is not None),
        "depth_bounds": any(frame.depth_bounds is not None for frame in frames),
    }
