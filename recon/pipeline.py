"""The stages of a reconstruction: photos -> cameras -> views -> prediction -> scene.

Each stage is a public function on its own; `reconstruct` chains them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from jaxtyping import Bool
from torch import Tensor

from recon import __version__
from recon.capture import Capture, Frame, load_capture, select_spread
from recon.capture.agreement import warn_of_contradictions
from recon.capture.cameras import relative_to
from recon.capture.exif import exif_down
from recon.capture.frame_views import packed_views
from recon.capture.sfm import PosedCapture, SolveConfig, solve_cameras
from recon.config import FusionConfig, PoseConfig, ReconstructConfig
from recon.devices import choose_device, render_device_of
from recon.errors import ConfigError, InputError, warn
from recon.fusion.occluders import without_occluders
from recon.fusion.predict import at_resolution, predict_fused, remove_inconsistent
from recon.fusion.transients import find_transients, require_enough, without_transients
from recon.local_frame import (
    camera_origin,
    scale_gaussians,
    scale_scene,
    scale_views,
    unit_scale,
    world_cameras,
)
from recon.memory_limit import fit_memory
from recon.model.inference import with_depth_correction, without_feedback
from recon.model.registry import build_model
from recon.optimisation.adam import MIN_OPACITY
from recon.optimisation.loop import Watch, optimise
from recon.scene import Provenance, Scene
from recon.simplification.decimation import simplify_indexed
from recon.spread import spread_cameras
from recon.start_camera import rotated_upright
from recon.time_limit import TimeLimit
from recon.types import Model, PackedViews, Prediction, Progress, StageProgress, Views
from render import Cameras, Gaussians

# Fraction of a time limit that the prediction may take.
PREDICTION_FRACTION = 0.35
# Fraction of the remaining time that is kept for sorting and writing, and its maximum (s).
SAVING_FRACTION, MAX_SAVING_S = 0.1, 15.0
# Distance between cameras that gives no parallax, relative to their distance from the origin.
MIN_BASELINE = 1e-6
# Called with the scene while it is made, and with the capture and its cameras, if any.
SceneWatch = Callable[[Gaussians, Capture | None], None]


def _ignore(*_: object) -> None:
    """Ignore a progress report."""


def reconstruct(
    source: Views | Capture | str | Path | Sequence[str | Path],
    config: ReconstructConfig | None = None,
    progress: StageProgress = _ignore,
    watch: SceneWatch | None = None,
    limit: TimeLimit | None = None,
) -> Scene:
    """Reconstruct a scene from photos.

    Args:
        source: Folder of photos, video or camera file (see `load_capture`), list of image files,
            capture, or views. Views are used as they are: all of them, with their cameras.
        config: Settings; all have defaults. `poses` and `memory_gb` are for photos, not for views.
        progress: Called with the name of the stage and its completed fraction.
        watch: Called with the Gaussians while they are optimised, and with the capture.
        limit: Time limit that has started already; by default `config.seconds` from now on.

    Returns:
        The scene, in the frame and scale of the input's cameras unless `config.poses` changes
        them. Where float32 cannot hold positions there, it is relative to `Scene.origin`.

    Raises:
        InputError: The photos or their cameras cannot be used.
        ConfigError: The model or the device does not exist, or a setting does not fit the input.
        MissingDependency: Solving cameras or reading a file needs an extra that is not installed.
    """
    config = config or ReconstructConfig()
    limit = limit or TimeLimit(config.seconds)
    device, model = choose_device(config.device), build_model(config.model)
    if isinstance(source, Views):
        _check_settings_of_views(config)
        source.validate()
        shown: Watch | None = None if watch is None else (lambda scene: watch(scene, None))
        return reconstruct_views(source.to(device), model, config, progress, shown, limit=limit)
    poses = estimate_cameras(load_capture(source), config.poses, config.seed, progress)
    capture = poses.capture
    config, reduced = fit_memory(config, capture.frames)
    if reduced is not None:
        warn(reduced)
    chosen = select_spread(capture, config.views.max_views)
    frames = tuple(capture.frames[i] for i in chosen)
    origin = camera_origin(frames)
    local = relative_to(capture, origin)
    views = packed_views(
        [local.frames[i] for i in chosen],
        config.views.resolution,
        lambda done: progress("reading photos", done),
    ).to(device)
    frames, poses = _without_undecoded(frames, views.names, poses)
    shown = None if watch is None else (lambda scene: watch(scene, local))
    scene = reconstruct_views(views, model, config, progress, shown, str(capture.title), limit)
    assert scene.provenance is not None and scene.cameras is not None
    if scene.provenance.cameras_corrected:
        corrected = world_cameras(scene.cameras, origin).viewmats
        poses = poses.with_viewmats(dict(zip(views.names, corrected, strict=True)))
        known = {frame.name: frame for frame in poses.capture.frames}
        frames = tuple(known[frame.name] for frame in frames)
    provenance = replace(
        scene.provenance, camera_source=poses.camera_source, frames=frames, poses=poses
    )
    central = frames[spread_cameras(scene.cameras, 1)[0]]
    return replace(scene, provenance=provenance, origin=origin, start=_upright_camera(central))


def _check_settings_of_views(config: ReconstructConfig) -> None:
    """Refuse settings that change cameras and photos: views are used as they are."""
    usual, names = PoseConfig(), ("metric_scale", "marker_size", "gps", "center")
    chosen = [name for name in names if getattr(config.poses, name) != getattr(usual, name)]
    if config.poses.source == "solve":
        chosen.append("source")
    if config.memory_gb is not None:
        chosen.append("memory_gb")
    if chosen:
        raise ConfigError(
            f"{chosen[0]} has no effect on views, which are used as they are with their cameras; "
            "omit it, or pass the photos instead",
            chosen[0],
        )


def _upright_camera(frame: Frame) -> Cameras | None:
    """Return the camera of a photo as EXIF says to look at it, in the world frame."""
    if frame.camera is None:
        return None
    known = frame.camera
    camera = Cameras(known.viewmat[None], known.K[None], known.width, known.height)
    return camera if frame.oriented else rotated_upright(camera, *exif_down(frame.image_path))


def _without_undecoded(
    frames: tuple[Frame, ...], names: Sequence[str], poses: PosedCapture
) -> tuple[tuple[Frame, ...], PosedCapture]:
    """Leave out the photos that could not be decoded as views."""
    lost = tuple(frame.name for frame in frames if frame.name not in names)
    if not lost:
        return frames, poses
    rest = tuple(frame for frame in poses.capture.frames if frame.name not in lost)
    capture = replace(poses.capture, frames=rest, left_out=(*poses.capture.left_out, *lost))
    kept = tuple(frame for frame in frames if frame.name not in lost)
    return kept, replace(poses, capture=capture)


def reconstruct_views(
    views: Views | PackedViews,
    model: Model,
    config: ReconstructConfig,
    progress: StageProgress = _ignore,
    watch: Watch | None = None,
    title: str = "the views",
    limit: TimeLimit | None = None,
) -> Scene:
    """Reconstruct a scene from views: predict, simplify and optimise.

    Args:
        views: Views with cameras, on the device to compute on.
        model: Model that predicts the Gaussians, whatever `config` says.
        config: Settings.
        progress: Called with the name of the stage and its completed fraction.
        watch: Called with the Gaussians while they are optimised.
        title: What error messages call the views.
        limit: Time limit that has started already; by default `config.seconds` from now on.
    """
    limit = limit or TimeLimit(config.seconds)
    _check_baseline(title, views.cameras)
    if config.transients:
        require_enough(len(views))
    # Everything is computed at the scale of a room (see `recon.local_frame`).
    scale = unit_scale(views.cameras)
    views = scale_views(views, scale)
    shown: Watch | None = (
        None if watch is None else (lambda scene: watch(scale_gaussians(scene, 1 / scale)))
    )
    prediction = predict_for_scene(views, model, config, progress, limit)
    if len(prediction.gaussians) == 0:
        raise InputError(f"no Gaussians from {title}: the masks leave nothing of the photos")
    scene = finish_scene(prediction, views, config, progress, shown, limit)
    if len(scene) == 0:
        raise InputError(f"no Gaussians are left of {title}: its views contradict each other")
    return scale_scene(scene, 1 / scale)


def estimate_cameras(
    capture: Capture,
    config: PoseConfig | None = None,
    seed: int = 0,
    progress: StageProgress = _ignore,
) -> PosedCapture:
    """Find the cameras of a capture: those it comes with, or solved by structure from motion.

    Args:
        capture: Photos with or without cameras.
        config: Where cameras come from, and their world frame.
        seed: Seed of the solver.
        progress: Called with the name of the stage and its completed fraction.

    Returns:
        The photos with a camera each, and the names of those that were left out.

    Raises:
        ConfigError: `config.source` is "given", but the capture has no cameras, or `config.gps` is
            set for given ones.
        InputError: The cameras cannot be solved from these photos, or nothing gives the scale.
        MissingDependency: Cameras must be solved, but pycolmap is not installed.
    """
    config = config or PoseConfig()
    if config.source == "solve" or (config.source == "auto" and not capture.has_cameras):
        posed = solve_cameras(capture, SolveConfig(seed, config.cache), progress)
    elif capture.has_cameras:
        warn_of_contradictions(capture)
        posed = PosedCapture(capture, "given")
    else:
        raise ConfigError(
            f"no cameras in {capture.title}: expected a transforms.json, a COLMAP project or "
            "poses_bounds.npy beside the images; or let recon solve them (source='auto')",
            "source",
        )
    metric = posed.in_metres(config.marker_size, config.gps)
    return metric.transformed(config.metric_scale, config.center)


def predict(
    views: Views | PackedViews,
    model: str | Model = "cost-volume",
    progress: Progress = _ignore,
    fusion: FusionConfig | None = None,
    seconds: float | None = None,
    error_feedback: bool = True,
    depth_correction: bool = False,
) -> Prediction:
    """Predict Gaussians, depth and confidence from views.

    Few views are one forward pass of the model. Many are predicted in groups (see `FusionConfig`),
    and Gaussians that contradict the depth of other views are removed.

    Args:
        views: Views with cameras, on the device to compute on.
        model: Name or checkpoint file of a model (see `ReconstructConfig.model`), or a model.
        progress: Called with the completed fraction.
        fusion: How many views are predicted at a time; has defaults.
        seconds: Time limit (s), within which as many views are predicted as possible.
        error_feedback: Whether the network corrects its Gaussians by the errors of their renders.
            With two views and more it does not pay before an optimisation; groups do without.
        depth_correction: Whether Gaussians of a network are moved to where images clearly match
            better, which pays with two views and more, before an optimisation only.

    Raises:
        ConfigError: There is no model of that name, or it cannot work with this number of views.
    """
    chosen = build_model(model) if isinstance(model, str) else model
    if not error_feedback:
        chosen = without_feedback(chosen)
    fusion = fusion or FusionConfig()
    most = fusion.min_views - 1 if seconds is None else fusion.group_size
    is_fused = len(views) > most
    if depth_correction:
        chosen = with_depth_correction(chosen, fusion.confirmations if is_fused else 1)
    if is_fused:
        return predict_fused(views, chosen, fusion, progress, seconds)
    return chosen(views[:], progress)


def predict_for_scene(
    views: Views | PackedViews,
    model: Model,
    config: ReconstructConfig,
    progress: StageProgress = _ignore,
    limit: TimeLimit | None = None,
) -> Prediction:
    """Predict as `finish_scene` needs it: size and error feedback that pay, within the time.

    Args:
        views: Views with cameras, on the device to compute on.
        model: Model that predicts the Gaussians, whatever `config` says.
        config: Settings.
        progress: Called with the name of the stage and its completed fraction.
        limit: Time limit that has started already; by default `config.seconds` from now on.
    """
    left = (limit or TimeLimit(config.seconds)).left
    fusion, is_optimised = config.fusion, config.optimise.steps > 0
    if is_optimised and len(views) < fusion.min_views:
        # The network saw small images in training, and fewer Gaussians suffice.
        side = fusion.few_side(max(views.cameras.width, views.cameras.height))
        views = at_resolution(views, range(len(views)), side)
    is_checked = is_optimised and len(views) >= fusion.min_views_checked
    return predict(
        views,
        model,
        lambda done: progress("predicting depth", done),
        fusion,
        None if left is None else PREDICTION_FRACTION * left,
        error_feedback=not is_checked,
        depth_correction=is_checked,
    )


def finish_scene(
    prediction: Prediction,
    views: Views | PackedViews,
    config: ReconstructConfig | None = None,
    progress: StageProgress = _ignore,
    watch: Watch | None = None,
    limit: TimeLimit | None = None,
) -> Scene:
    """Simplify and optimise a prediction as configured.

    Without any steps nothing is removed but transients, unless there are more Gaussians than the
    stated maximum: the optimisation makes up for the loss. Before it, Gaussians that contradict
    the depth of other views are removed as well.

    Args:
        prediction: Output of a model for these views.
        views: The views, all of which supervise the optimisation.
        config: Settings, of which `simplify` and `optimise` are used here.
        progress: Called with the name of the stage and its completed fraction.
        watch: Called with the Gaussians while they are optimised.
        limit: Time limit that has started already; by default `config.seconds` from now on.

    Returns:
        The scene, on a device that can render it.
    """
    config = config or ReconstructConfig()
    limit = limit or TimeLimit(config.seconds)
    if watch is not None:
        watch(prediction.gaussians)
    is_optimised = config.optimise.steps > 0
    is_fused = prediction.geometry_views is not None
    num_predicted = len(prediction.gaussians)
    if is_optimised and not is_fused and len(views) >= config.fusion.min_views_checked:
        prediction = remove_inconsistent(prediction, views, config.fusion)
    transients = None
    if config.transients:
        prediction, transients = _without_transients(prediction, views, progress)
    scene = _simplified(prediction, views, config, progress)
    provenance = Provenance(
        config,
        __version__,
        "given",
        views.names,
        num_predicted=num_predicted,
        simplified=len(scene) < len(prediction.gaussians),
    )
    scene = replace(scene, provenance=provenance)
    before = limit.spent
    if not is_optimised or len(scene) == 0:
        limit.warn_if_short(before, None)
        return scene
    views = without_occluders(views.to(scene.gaussians.device), scene.gaussians)
    schedule = config.optimise.for_num_views(len(views))
    left = limit.left
    if left is not None:
        left -= min(SAVING_FRACTION * left, MAX_SAVING_S)
        schedule = config.optimise.for_time(left, len(views))
    result = optimise(
        scene.gaussians,
        views,
        schedule,
        lambda done: progress("optimising", done),
        watch,
        transients,
    )
    is_cut = left is not None and limit.spent - before >= left
    limit.warn_if_short(before, result.steps, is_cut and result.steps < schedule.steps)
    visible = result.gaussians.opacities >= MIN_OPACITY  # not hidden
    return replace(
        scene,
        gaussians=result.gaussians[visible],
        source_view=None if scene.source_view is None else scene.source_view[visible],
        cameras=scene.cameras if result.cameras is None else result.cameras,
        exposure=result.exposures,
        provenance=replace(
            provenance, num_steps=result.steps, cameras_corrected=result.cameras is not None
        ),
    )


def _without_transients(
    prediction: Prediction, views: Views | PackedViews, progress: StageProgress
) -> tuple[Prediction, Bool[Tensor, "v h w"]]:
    """Remove what only one photo shows; return also which pixels of the views show it."""
    device = render_device_of(prediction.gaussians.device)
    prediction, views = prediction.to(device), views.to(device)
    found = find_transients(
        prediction.gaussians, views, progress=lambda done: progress("finding transients", done)
    )
    return without_transients(prediction, views.cameras, found), found


def _simplified(
    prediction: Prediction,
    views: Views | PackedViews,
    config: ReconstructConfig,
    progress: StageProgress,
) -> Scene:
    """Make a scene of a prediction, simplified as it pays before an optimisation or without one."""
    device = render_device_of(prediction.gaussians.device)
    gaussians, cameras = prediction.gaussians.to(device), views.cameras.to(device)
    source_view = prediction.source_view.to(device)
    rule = config.simplify
    if config.optimise.steps == 0:
        rule = rule.without_optimisation()
    progress("simplifying", 0.0)
    if len(gaussians) > 0:
        gaussians, kept = simplify_indexed(gaussians, cameras, rule)
        source_view = source_view[kept]
    progress("simplifying", 1.0)
    return Scene(
        gaussians,
        cameras,
        prediction.depth,
        prediction.confidence,
        geometry_views=prediction.geometry_views,
        source_view=source_view,
    )


def _check_baseline(title: str, cameras: Cameras) -> None:
    """Refuse several cameras at one position: depth comes from parallax."""
    centers = cameras.centers
    if len(centers) == 1:
        return
    distance = float((centers - centers[0]).norm(dim=1).max())
    if distance <= MIN_BASELINE * float(centers.norm(dim=1).max()):
        raise InputError(
            f"all cameras of {title} are at the same position; expected photos taken from "
            "different positions, since depth comes from the parallax between them"
        )
