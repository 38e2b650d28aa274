"""The library: what `import recon` offers, used without any file of the command line."""

import importlib.util
import inspect
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import recon
from recon import (
    OptimiseConfig,
    PoseConfig,
    ReconstructConfig,
    Scene,
    SimplifyConfig,
    ViewConfig,
    Views,
)
from recon.cli.options import ReconstructOptions
from recon.devices import choose_device, choose_render_device, render_device_of
from recon.simplification.decimation import simplify_indexed
from render import Cameras

SIZE_PX = 64
SMALL = ViewConfig(max_views=3, resolution=SIZE_PX)


@pytest.fixture(scope="module")
def views(sample: Path) -> Views:
    """Three small views of the sample."""
    return recon.load_views(sample, SIZE_PX, max_views=3)


@pytest.fixture(scope="module")
def scene(sample: Path) -> Scene:
    """The sample, optimised by three steps."""
    return recon.reconstruct(
        sample, ReconstructConfig(SMALL, model="plane-sweep", optimise=OptimiseConfig(steps=3))
    )


def test_dir_lists_the_whole_api() -> None:
    assert set(recon.__all__) <= set(dir(recon))
    stages = "load_capture load_views estimate_cameras predict simplify optimise compress"
    for name in f"{stages} reconstruct load Scene Views ReconstructConfig ReconError".split():
        assert name in recon.__all__
    for name in recon.__all__:
        assert callable(getattr(recon, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        recon.nothing  # noqa: B018


def test_stages_stay_functions_when_everything_is_imported() -> None:
    code = """
import inspect, recon, recon.cli.compress, recon.pipeline, recon.compression, recon.scene
for stage in (recon.compress, recon.optimise, recon.simplify):
    print(inspect.isfunction(stage))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"] * 3


def test_public_functions_are_documented() -> None:
    for name in recon.__all__:
        text = inspect.getdoc(getattr(recon, name))
        assert text and text.splitlines()[0].endswith("."), name


@pytest.mark.parametrize("package", ["recon", "render", "training", "viewer"])
def test_packages_are_typed(package: str) -> None:
    spec = importlib.util.find_spec(package)
    assert spec is not None and spec.origin is not None
    assert Path(spec.origin).with_name("py.typed").is_file()


def test_command_line_and_library_have_the_same_defaults() -> None:
    assert ReconstructOptions().config() == ReconstructConfig()


# Expression, field of the error, end of its message.
WRONG_SETTINGS = [
    ("ViewConfig(max_views=0)", "max_views", "max_views must be at least 1, got 0"),
    ("ViewConfig(resolution='big')", "resolution", "must be a whole number, got 'big'"),
    ("ViewConfig(max_views=2.5)", "max_views", "must be a whole number, got 2.5"),
    ("ViewConfig(max_views=True)", "max_views", "must be a whole number, got True"),
    ("PoseConfig(source='x')", "source", "must be one of 'auto', 'given', 'solve', got 'x'"),
    ("PoseConfig(metric_scale=0)", "metric_scale", "metric_scale must be above 0, got 0"),
    ("PoseConfig(center=1)", "center", "center must be True or False, got 1"),
    ("OptimiseConfig(steps=-1)", "steps", "steps must not be negative, got -1"),
    ("OptimiseConfig(seconds='20s')", "seconds", "must be a number or None, got '20s'"),
    ("OptimiseConfig(views_per_step=0)", "views_per_step", "must be at least 1, got 0"),
    ("SimplifyConfig(fraction=1.5)", "fraction", "fraction must be in [0, 1), got 1.5"),
    ("SimplifyConfig(cluster_sizes_px=2)", "cluster_sizes_px", "a tuple of numbers, got 2"),
    ("ReconstructConfig(optimise=10)", "optimise", "must be an OptimiseConfig, got 10"),
    ("ReconstructConfig(views=None)", "views", "must be a ViewConfig, got None"),
    ("ReconstructConfig(seed=None)", "seed", "seed must be a whole number, got None"),
    ("reconstruct('x', ReconstructConfig(device='tpu'))", "device", "or 'cuda:N', got 'tpu'"),
    ("reconstruct('x', ReconstructConfig(device='cuda:x'))", "device", "got 'cuda:x'"),
    ("reconstruct('x', ReconstructConfig(device='cpu:0'))", "device", "got 'cpu:0'"),
]


def test_wrong_settings_name_their_field() -> None:
    """In a process of its own: in this one a hook of the tests checks types before the code."""
    code = """
import json, sys
from recon import *
for expression in json.load(sys.stdin):
    try:
        eval(expression)
    except ConfigError as error:
        print(json.dumps([error.field, str(error)]))
ViewConfig(max_views=__import__("numpy").int64(3)), PoseConfig(metric_scale=2)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([expression for expression, _, _ in WRONG_SETTINGS]),
        capture_output=True,
        text=True,
        check=True,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(WRONG_SETTINGS)
    for (expression, field, message), (named, text) in zip(WRONG_SETTINGS, found, strict=True):
        assert named == field and text.endswith(message), expression
        assert text.startswith(field) and "--" not in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:1"])
def test_absent_gpu_is_an_error_of_the_device(sample: Path, device: str) -> None:
    with pytest.raises(recon.ConfigError, match="torch sees no CUDA GPU") as caught:
        recon.reconstruct(sample, ReconstructConfig(device=device))
    assert caught.value.field == "device"
    with pytest.raises(recon.ConfigError, match=f"device='{device}': torch sees no CUDA GPU"):
        choose_render_device(device)


def test_devices_of_gpus_keep_their_index(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    assert choose_device("auto") == torch.device("cuda")
    with pytest.raises(recon.ConfigError, match="torch sees 2 CUDA GPUs"):
        choose_device("cuda:2")
    from render.backends import cuda

    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    assert render_device_of(torch.device("cuda:1")) == torch.device("cuda:1")
    monkeypatch.setattr(cuda, "unavailable", lambda: "gsplat is not there")
    assert render_device_of(torch.device("cuda:1")) == choose_render_device("auto")
    with pytest.raises(recon.ConfigError, match="device='cuda:1': gsplat is not there"):
        choose_render_device("cuda:1")


def test_photos_as_a_list_of_files(sample: Path, views: Views) -> None:
    files = [sample / "images" / Path(name).name for name in views.names]
    capture = recon.load_capture([str(file) for file in files])
    assert [frame.image_path for frame in capture.frames] == files and not capture.has_cameras
    loaded = recon.load_views(files, SIZE_PX, cameras=views.cameras)
    assert torch.equal(loaded.images, views.images)
    assert torch.allclose(loaded.cameras.viewmats, views.cameras.viewmats)
    assert torch.allclose(loaded.cameras.Ks, views.cameras.Ks)
    with pytest.raises(recon.InputError, match="list of photos is empty"):
        recon.load_capture([])
    with pytest.warns(recon.ReconWarning, match="given several times and used once: 000.jpg"):
        assert len(recon.load_capture([files[0], files[1], files[0]]).frames) == 2
    with pytest.raises(recon.InputError, match="image not found: nowhere.png"):
        recon.load_capture(["nowhere.png"])
    with pytest.raises(recon.InputError, match="transforms.json is not an image"):
        recon.load_capture([sample / "transforms.json"])


@pytest.mark.parametrize("layout", ["v 3 h w", "v h w 3", "list", "uint8", "tensor", "float64"])
def test_images_in_memory(views: Views, layout: str) -> None:
    pixels = views.images.numpy()
    rows = pixels.transpose(0, 2, 3, 1)
    images = {
        "v 3 h w": pixels,
        "v h w 3": rows,
        "list": list(rows),
        "uint8": (255 * rows).round().astype(np.uint8),
        "tensor": views.images,
        "float64": views.images.double(),
    }[layout]
    loaded = recon.load_views(images, cameras=views.cameras)
    assert loaded.images.dtype == torch.float32
    assert (loaded.images - views.images).abs().max() <= 0.51 / 255
    assert torch.equal(loaded.cameras.Ks, views.cameras.Ks) and len(loaded) == 3
    assert torch.equal(loaded.masks, torch.ones_like(loaded.masks))


def test_images_in_memory_are_reduced_with_their_cameras(views: Views) -> None:
    double = views.cameras.resized(2 * views.cameras.width, 2 * views.cameras.height)
    loaded = recon.load_views(views.images, SIZE_PX // 2, cameras=double)
    assert loaded.images.shape[-1] == loaded.cameras.width == SIZE_PX // 2
    assert torch.allclose(loaded.cameras.Ks[:, 0, 0], views.cameras.Ks[:, 0, 0] / 2)


def test_images_in_memory_that_do_not_fit(views: Views) -> None:
    images = views.images
    with pytest.raises(recon.InputError, match=r"uint8, or floating-point in \[0, 1\]"):
        recon.load_views(255 * images, cameras=views.cameras)
    with pytest.raises(recon.InputError, match=r"one camera for each of 2 images, got \(3,\)"):
        recon.load_views(images[:2], cameras=views.cameras)
    with pytest.raises(recon.InputError, match="but their cameras are for 64x24"):
        recon.load_views(images, cameras=views.cameras.cropped(0, 0, 64, 24))
    with pytest.raises(recon.InputError, match=r"of one size; got \[3, 48, 32\] and \[3, 48, 64\]"):
        recon.load_views([images[0], images[1, :, :, :32]], cameras=views.cameras)
    with pytest.raises(recon.InputError, match=r"got \[1, 48, 64\]"):
        recon.load_views(images[:, :1], cameras=views.cameras)


def unchecked(views: Views, **changes: object) -> Views:
    """Return changed views without the checks of shapes that tests make."""
    changed = replace(views)
    for name, value in changes.items():
        object.__setattr__(changed, name, value)
    return changed


def spoiled_K(views: Views, focal: float) -> torch.Tensor:
    Ks = views.cameras.Ks.clone()
    Ks[1, 0, 0] = focal
    return Ks


def test_views_with_wrong_values_are_named(views: Views) -> None:
    mirrored, absent = views.cameras.viewmats.clone(), views.cameras.viewmats.clone()
    mirrored[1, :, 0] *= -1
    absent[2] = torch.nan
    wrong = {
        "in .0, 1.; divide 8-bit": {"images": 255 * views.images},
        "must be finite": {"images": views.images * torch.nan},
        "must be float32": {"images": views.images.double()},
        r"viewmats.1. is not a rotation": {"cameras": replace(views.cameras, viewmats=mirrored)},
        r"viewmats.2. is not a rotation": {"cameras": replace(views.cameras, viewmats=absent)},
        "Views.cameras are 2 of": {"cameras": views.cameras[:2]},
        "expected those of": {"cameras": replace(views.cameras, width=960)},
        r"Ks.1. is no pinhole": {"cameras": replace(views.cameras, Ks=spoiled_K(views, -50.0))},
        "focal lengths above 0": {"cameras": replace(views.cameras, Ks=spoiled_K(views, math.nan))},
        "Views.masks must be finite": {"masks": views.masks * torch.nan},
        r"Views.masks must be finite and in .0, 1.": {"masks": 255 * views.masks},
        "Views.masks must be float32 of shape": {"masks": views.masks > 0},
        "Views.masks must be .* got .* of shape": {"masks": views.masks[..., :-1]},
        "Views.valid must be float32": {"valid": views.valid.double()},
        "near < far": {"depth_bounds": torch.tensor([[2.0, 1.0]] * len(views.names))},
    }
    for message, changes in wrong.items():
        with pytest.raises(recon.ReconError, match=message):
            recon.reconstruct(unchecked(views, **changes))


def test_one_image_without_a_camera_is_seen_from_the_origin(views: Views) -> None:
    loaded = recon.load_views(views.images[0])
    assert torch.equal(loaded.cameras.viewmats[0], torch.eye(4)) and len(loaded) == 1


def test_colmap_reconstruction(tmp_path: Path) -> None:
    """In a process of its own: importing torch before pycolmap can crash (colmap#3477)."""
    pytest.importorskip("pycolmap")
    for number in (1, 2):
        image = np.full((96, 128, 3), 40 * number, np.uint8)
        Image.fromarray(image).save(tmp_path / f"{number}.jpg")
    code = """
import pycolmap, sys
model = pycolmap.Reconstruction()
model.add_camera_with_trivial_rig(
    pycolmap.Camera.create_from_model_name(1, "PINHOLE", 100.0, 128, 96)
)
for i in (1, 2):
    pose = pycolmap.Rigid3d(pycolmap.Rotation3d(), [float(i), 0, 0])
    model.add_image_with_trivial_frame(
        pycolmap.Image(name=f"{i}.jpg", camera_id=1, image_id=i), pose
    )
import recon
views = recon.load_views(model, 64, image_folder=sys.argv[1])
print(views.names, views.cameras.viewmats[:, 0, 3].tolist(), views.cameras.Ks[0, 0, 0].item())
try:
    recon.load_views(model)
except recon.InputError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    names, missing = done.stdout.splitlines()
    assert names == "('1.jpg', '2.jpg') [1.0, 2.0] 50.0"
    assert "pass image_folder" in missing


def test_scene_keeps_what_is_known(scene: Scene) -> None:
    made = scene.provenance
    assert made is not None and scene.cameras is not None
    assert len(scene.cameras) == 3 and made.camera_source == "given" and made.left_out == ()
    assert made.config.views == SMALL and made.version == recon.__version__
    assert scene.depth.shape == scene.confidence.shape == (3, 48, 64)
    assert scene.exposure.shape == (3, 3)
    # Half of those that no other view sees through.
    assert 0.8 < len(scene) / (made.num_predicted // 2) <= 1
    assert made.num_steps == 3 and made.simplified
    assert scene.source_view.shape == (len(scene),) and set(scene.source_view.tolist()) == {0, 1, 2}
    assert repr(scene) == f"Scene({len(scene):,} Gaussians, 3 views)"


def test_nothing_is_simplified_without_steps(views: Views) -> None:
    """The optimisation makes up for what merging loses; what was done is recorded."""
    config = ReconstructConfig(model="plane-sweep", optimise=OptimiseConfig(steps=0))
    scene = recon.reconstruct(views, config)
    made = scene.provenance
    assert made is not None and config.simplify.removed(len(views)) == 0.5
    assert not made.simplified and made.num_steps == 0 and len(scene) == made.num_predicted
    assert scene.exposure is None and made.poses is None and made.view_names == views.names


@pytest.mark.parametrize("count", [2, 3])
def test_depth_maps_of_few_views_are_smaller_before_an_optimisation(
    views: Views, count: int
) -> None:
    fusion = recon.FusionConfig(few_resolution=32)
    assert [fusion.few_side(side) for side in (24, 48, 64, 100)] == [24, 32, 32, 50]
    for steps, width in ((0, 64), (1, 32)):
        config = ReconstructConfig(
            model="plane-sweep", fusion=fusion, optimise=OptimiseConfig(steps=steps)
        )
        scene = recon.reconstruct(views[:count], config)
        assert scene.depth is not None and scene.depth.shape == (count, width * 3 // 4, width)
        assert scene.cameras is not None and scene.cameras.width == 64


def test_stages_are_the_reconstruction(sample: Path, scene: Scene) -> None:
    """Each stage by itself, with plain values, gives the same scene to the bit."""
    posed = recon.estimate_cameras(recon.load_capture(sample))
    views = recon.load_views(posed.capture, SIZE_PX, max_views=3)
    prediction = recon.predict(views, "plane-sweep")
    consistent = recon.remove_inconsistent(prediction, views)
    smaller = recon.simplify(consistent.gaussians, views.cameras)
    assert len(smaller) == pytest.approx(len(consistent.gaussians) / 2, abs=1)
    config = OptimiseConfig(steps=3).for_num_views(len(views))
    optimised = recon.optimise(smaller, views, config)
    assert torch.equal(optimised.gaussians.means, scene.gaussians.means)
    again = recon.finish_scene(prediction, views, scene.provenance.config)
    assert torch.equal(again.gaussians.sh, scene.gaussians.sh)
    assert torch.equal(again.source_view, scene.source_view)


def test_source_view_of_a_merged_gaussian_is_its_most_visible_member(views: Views) -> None:
    prediction = recon.predict(views, "plane-sweep")
    gaussians = prediction.gaussians
    simplified, index = simplify_indexed(gaussians, views.cameras, SimplifyConfig(fraction=0.5))
    assert len(index) == len(simplified) and len(set(index.tolist())) == len(index)
    unchanged = (simplified.means == gaussians.means[index]).all(-1)
    assert 0.1 < float(unchanged.float().mean()) < 0.9
    distance = (simplified.means - gaussians.means[index]).norm(dim=-1)
    assert float(distance.max()) < 0.25 * float(gaussians.means.norm(dim=-1).median())
    whole, index = simplify_indexed(gaussians, views.cameras, SimplifyConfig(fraction=0.0))
    assert whole is gaussians and torch.equal(index, torch.arange(len(gaussians)))


def test_scene_is_saved_loaded_and_rendered(scene: Scene, tmp_path: Path) -> None:
    scene.save(tmp_path / "s.ply")
    loaded = recon.load(str(tmp_path / "s.ply"))
    assert len(loaded) == len(scene) and loaded.cameras is None and loaded.provenance is None
    assert repr(loaded) == f"Scene({len(scene):,} Gaussians)"
    with torch.no_grad():
        here, there = scene.render().rgb, loaded.render(scene.cameras).rgb
        first = loaded.render().rgb  # of the photo in the middle, at its size
    small = torch.nn.functional.interpolate(first, here.shape[-2:], mode="area")
    differences = (here - small).abs().mean((1, 2, 3)).tolist()
    assert min(differences) < 0.05 < max(differences)
    assert here.shape == (3, 3, 48, 64)
    # Rounding in the last bit moves single alphas across the cut-off at 1/255.
    difference = (here - there).abs()
    assert difference.max() < 1 / 255 and difference.mean() < 1e-5
    with pytest.raises(ValueError, match="this scene has no cameras; pass some"):
        replace(loaded, start=None).render()
    away = replace(scene.cameras, viewmats=scene.cameras.viewmats.clone())
    away.viewmats[:, 2, 3] = -1e4
    with torch.no_grad():
        empty = loaded.render(away, background=(0.0, 0.5, 1.0)).rgb
    assert torch.allclose(empty.amax((0, 2, 3)), torch.tensor([0.0, 0.5, 1.0]), atol=1e-6)


def test_order_of_importance_is_for_formats_that_keep_it(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(gaussians, cameras):
        calls.append(len(gaussians))
        return torch.arange(len(gaussians)).flip(0)

    monkeypatch.setattr("recon.scene.importance_order", counted)
    for extension in (".spz", ".sog", ".compressed.ply"):
        scene.save(tmp_path / f"s{extension}")
    assert calls == []
    for number, extension in enumerate((".ply", ".splat", ".glb"), 1):
        scene.save(tmp_path / f"s{extension}")
        assert len(calls) == number
    loaded = recon.load(tmp_path / "s.ply").gaussians
    assert torch.equal(loaded.means, scene.gaussians.means.flip(0))
    ordered = scene.by_importance()
    assert ordered.by_importance() is ordered
    assert torch.equal(ordered.source_view, scene.source_view.flip(0))


@pytest.mark.parametrize("extension", [".spz", ".sog", ".compressed.ply"])
def test_formats_with_an_order_of_their_own_store_the_same_scene(
    scene: Scene, tmp_path: Path, extension: str
) -> None:
    paths = [tmp_path / f"{name}{extension}" for name in ("as_is", "ordered")]
    scene.save(paths[0])
    scene.by_importance().save(paths[1])
    sizes = [path.stat().st_size for path in paths]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    with torch.no_grad():
        here, there = (recon.load(path).render(scene.cameras).rgb for path in paths)
    expected = scene.render().rgb
    errors = [float((image - expected).square().mean()) for image in (here, there)]
    assert errors[0] <= 1.05 * errors[1] + 1e-7


def test_scene_renders_a_single_camera(scene: Scene) -> None:
    assert scene.cameras is not None
    one = scene.render(scene.cameras[1], background=(0.0, 0.5, 1.0)).rgb
    assert torch.equal(one, scene.render(background=(0.0, 0.5, 1.0)).rgb[1])
    # Any number of channels, which are black by default.
    assert scene.render(channels=torch.ones(len(scene), 5)).rgb.shape[-3] == 5


def test_scene_is_compressed(scene: Scene, views: Views, tmp_path: Path) -> None:
    path = tmp_path / "small.spz"
    found = scene.compress(path, keep_fraction=0.5)
    assert found.path == path and found.num_gaussians == len(recon.load(path)) == len(scene) // 2
    again = recon.load(path).compress(tmp_path / "smaller.splat", keep_fraction=0.5, views=views)
    assert again.num_gaussians == len(scene) // 4 and again.loss_db >= 0
    with pytest.raises(recon.ConfigError, match="exclude each other") as caught:
        scene.compress(path, max_loss_db=0.1, target_mb=1.0)
    assert set(caught.value.fields) == {"max_loss_db", "target_mb"}


def test_single_photo_without_camera_says_so(sample: Path, tmp_path: Path) -> None:
    photo = sorted((sample / "images").glob("*.jpg"))[0]
    config = ReconstructConfig(ViewConfig(resolution=64), optimise=OptimiseConfig(steps=0))
    made = recon.reconstruct([photo], config).provenance
    assert made is not None and made.camera_source == "none" and made.depth_is_guessed


def test_cameras_at_one_position_are_refused(views: Views) -> None:
    still = replace(views, cameras=replace(views.cameras, viewmats=views.cameras.viewmats.clone()))
    still.cameras.viewmats[:] = still.cameras.viewmats[:1].clone()
    with pytest.raises(recon.InputError, match="all cameras of the views are at the same position"):
        recon.reconstruct(still)


def test_cameras_class_builds_inputs(views: Views) -> None:
    """A single camera without an axis is as good as a row of one."""
    camera: Cameras = views.cameras[0]
    loaded = recon.load_views(views.images[0], cameras=camera)
    assert torch.equal(loaded.cameras.viewmats[0], camera.viewmats)


def test_page_of_the_library_names_all_of_it() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    missing = [name for name in recon.__all__ if f"`{name}" not in page]
    assert not missing


def test_a_misspelt_quality_is_an_error() -> None:
    message = "quality must be one of draft, standard, high, got 'hihg'; did you mean high"
    with pytest.raises(recon.ConfigError, match=message) as caught:
        # Without the checks of types that tests add.
        inspect.unwrap(ReconstructConfig.for_quality)("hihg")
    assert caught.value.field == "quality"
    assert ReconstructConfig.for_quality("standard") == ReconstructConfig()


@pytest.mark.parametrize(
    "changes",
    [
        {"poses": PoseConfig(metric_scale=2.0)}, {"poses": PoseConfig(marker_size=0.1)},
        {"poses": PoseConfig(gps=True)}, {"poses": PoseConfig(center=True)},
        {"poses": PoseConfig(source="solve")}, {"memory_gb": 1.0},
    ],
)  # fmt: skip
def test_settings_that_views_do_not_follow_are_refused(views: Views, changes: dict) -> None:
    with pytest.raises(recon.ConfigError, match="has no effect on views.*; omit it, or") as caught:
        recon.reconstruct(views, ReconstructConfig(model="plane-sweep", **changes))
    poses = changes.get("poses")
    assert caught.value.field is not None
    assert getattr(ReconstructConfig(**changes) if poses is None else poses, caught.value.field)
