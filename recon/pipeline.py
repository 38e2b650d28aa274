"""The stages of a reconstruction: photos -> cameras -> views -> prediction -> scene.

Each stage is a public function on its own; `reconstruct` chains them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from recon import __version__
from recon.capture import Capture, load_capture, load_views, select_spread
from recon.capture.sfm import PosedCapture, SolveConfig, solve_cameras
from recon.config import FusionConfig, PoseConfig, ReconstructConfig
from recon.devices import choose_device, render_device_of
from recon.errors import ConfigError, InputError
from recon.fusion.predict import predict_fused, without_inconsistent
from recon.model.inference import without_feedback
from recon.model.registry import build_model
from recon.optimisation.loop import Watch, optimise
from recon.scene import Provenance, Scene
from recon.simplification.decimation import simplify_indexed
from recon.types import Model, Prediction, Progress, StageProgress, Views
from render import Cameras, Gaussians

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
) -> Scene:
    """Reconstruct a scene from photos.

    Args:
        source: Folder of photos, video or camera file (see `load_capture`), list of image files,
            capture, or views. Views are used as they are: all of them, with their cameras.
        config: Settings; all have defaults.
        progress: Called with the name of the stage and its completed fraction.
        watch: Called with the Gaussians while they are optimised, and with the capture.

    Returns:
        The scene, in the frame and scale of the input's cameras unless `config.poses` changes
        them.

    Raises:
        InputError: The photos or their cameras cannot be used.
        ConfigError: The model or the device does not exist, or does not fit the input.
        MissingDependency: Solving cameras or reading a file needs an extra that is not installed.
    """
    config = config or ReconstructConfig()
    device, model = choose_device(config.device), build_model(config.model)
    if isinstance(source, Views):
        shown: Watch | None = None if watch is None else (lambda scene: watch(scene, None))
        return reconstruct_views(source.to(device), model, config, progress, shown)
    poses = estimate_cameras(load_capture(source), config.poses, config.seed, progress)
    capture = poses.capture
    frames = tuple(capture.frames[i] for i in select_spread(capture, config.views.max_views))
    progress("reading photos", 0.0)
    views = load_views(frames, resolution=config.views.resolution).to(device)
    progress("reading photos", 1.0)
    shown = None if watch is None else (lambda scene: watch(scene, capture))
    scene = reconstruct_views(views, model, config, progress, shown, str(capture.title))
    assert scene.provenance is not None
    provenance = replace(
        scene.provenance, camera_source=poses.camera_source, frames=frames, poses=poses
    )
    return replace(scene, provenance=provenance)


def reconstruct_views(
    views: Views,
    model: Model,
    config: ReconstructConfig,
    progress: StageProgress = _ignore,
    watch: Watch | None = None,
    title: str = "the views",
) -> Scene:
    """Reconstruct a scene from views: predict, simplify and optimise.

    Args:
        views: Views with cameras, on the device to compute on.
        model: Model that predicts the Gaussians, whatever `config` says.
        config: Settings.
        progress: Called with the name of the stage and its completed fraction.
        watch: Called with the Gaussians while they are optimised.
        title: What error messages call the views.
    """
    _check_baseline(title, views.cameras)
    if config.optimise.steps > 0:
        model = without_feedback(model)
    prediction = predict(
        views, model, lambda done: progress("predicting depth", done), config.fusion
    )
    if len(prediction.gaussians) == 0:
        raise InputError(f"no Gaussians from {title}: the masks leave nothing of the photos")
    return finish_scene(prediction, views, config, progress, watch)


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
        ConfigError: `config.source` is "given", but the capture has no cameras.
        InputError: The cameras cannot be solved from these photos.
        MissingDependency: Cameras must be solved, but pycolmap is not installed.
    """
    config = config or PoseConfig()
    if config.source == "solve" or (config.source == "auto" and not capture.has_cameras):
        posed = solve_cameras(capture, SolveConfig(seed, config.cache), progress)
    elif capture.has_cameras:
        posed = PosedCapture(capture, "given")
    else:
        raise ConfigError(
            f"no cameras in {capture.title}: expected a transforms.json, a COLMAP project or "
            "poses_bounds.npy beside the images; or let recon solve them (source='auto')",
            "source",
        )
    return posed.transformed(config.metric_scale, config.center)


def predict(
    views: Views,
    model: str | Model = "cost-volume",
    progress: Progress = _ignore,
    fusion: FusionConfig | None = None,
) -> Prediction:
    """Predict Gaussians, depth and confidence from views.

    Few views are one forward pass of the model. Many are predicted in groups (see `FusionConfig`),
    and Gaussians that contradict the depth of other views are removed.

    Args:
        views: Views with cameras, on the device to compute on.
        model: Name or checkpoint file of a model (see `ReconstructConfig.model`), or a model.
        progress: Called with the completed fraction.
        fusion: How many views are predicted at a time; has defaults.

    Raises:
        ConfigError: There is no model of that name, or it cannot work with this number of views.
    """
    chosen = build_model(model) if isinstance(model, str) else model
    fusion = fusion or FusionConfig()
    if len(views) < fusion.min_views:
        return chosen(views, progress)
    return predict_fused(views, chosen, fusion, progress)


def finish_scene(
    prediction: Prediction,
    views: Views,
    config: ReconstructConfig | None = None,
    progress: StageProgress = _ignore,
    watch: Watch | None = None,
) -> Scene:
    """Simplify and optimise a prediction as configured.

    Without any steps nothing is removed, unless there are more Gaussians than the stated maximum:
    the optimisation makes up for the loss. Before it, Gaussians that contradict the depth of other
    views are removed as well.

    Args:
        prediction: Output of a model for these views.
        views: The views, all of which supervise the optimisation.
        config: Settings, of which `simplify` and `optimise` are used here.
        progress: Called with the name of the stage and its completed fraction.
        watch: Called with the Gaussians while they are optimised.

    Returns:
        The scene, on a device that can render it.
    """
    config = config or ReconstructConfig()
    if watch is not None:
        watch(prediction.gaussians)
    num_predicted = len(prediction.gaussians)
    schedule = config.optimise.for_num_views(len(views))
    is_fused = prediction.geometry_views is not None
    if schedule.steps > 0 and not is_fused and len(views) >= config.fusion.min_views_checked:
        prediction = without_inconsistent(prediction, views, config.fusion)
    provenance = Provenance(config, __version__, "given", views.names, num_predicted=num_predicted)
    scene = Scene(
        prediction.gaussians,
        views.cameras,
        prediction.depth,
        prediction.confidence,
        geometry_views=prediction.geometry_views,
        source_view=prediction.source_view,
        provenance=provenance,
    )
    if len(scene) == 0:
        return scene
    device = render_device_of(scene.gaussians.device)
    gaussians, source_view = scene.gaussians.to(device), prediction.source_view.to(device)
    views = views.to(device)
    rule = config.simplify if schedule.steps > 0 else config.simplify.without_optimisation()
    progress("simplifying", 0.0)
    simplified, kept = simplify_indexed(gaussians, views.cameras, rule)
    progress("simplifying", 1.0)
    scene = replace(
        scene,
        gaussians=simplified,
        cameras=views.cameras,
        source_view=source_view[kept],
        provenance=replace(provenance, simplified=len(simplified) < len(gaussians)),
    )
    if schedule.steps == 0:
        return scene
    result = optimise(simplified, views, schedule, lambda done: progress("optimising", done), watch)
    assert scene.provenance is not None
    return replace(
        scene,
        gaussians=result.gaussians,
        exposure=result.exposures,
        provenance=replace(scene.provenance, num_steps=result.steps),
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
