"""The gsplat adapter without a GPU: a fake with gsplat's signature, rendered by the reference."""

import builtins
import inspect
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import look_at_cameras, random_gaussians

from recon.cli.main import main
from render import BackendUnavailable, Cameras, Gaussians, RasterizeSettings, rasterize
from render.backends import cuda

# gsplat 1.5.3's `rasterization`, as recorded: names in order, required ones first.
REQUIRED = "means quats scales opacities colors viewmats Ks width height".split()
DEFAULTS = {
    "near_plane": 0.01, "far_plane": 1e10, "radius_clip": 0.0, "eps2d": 0.3, "sh_degree": None,
    "packed": True, "tile_size": 16, "backgrounds": None, "render_mode": "RGB",
    "sparse_grad": False, "absgrad": False, "rasterize_mode": "classic", "channel_chunk": 32,
    "distributed": False, "camera_model": "pinhole", "segmented": False, "covars": None,
    "with_ut": False, "with_eval3d": False, "radial_coeffs": None, "tangential_coeffs": None,
    "thin_prism_coeffs": None, "ftheta_coeffs": None, "viewmats_rs": None,
}  # fmt: skip


def fake_rasterization(**given):
    """Imitate gsplat: channels last, colours by SH degree, a dictionary of intermediate results."""
    unknown = set(given) - set(REQUIRED) - set(DEFAULTS)
    assert not unknown and set(REQUIRED) <= set(given), unknown
    g = {**DEFAULTS, **given}
    sh = g["sh_degree"] is not None
    black = g["colors"].new_zeros(*g["means"].shape[:-1], 1, 3)
    scene = Gaussians(
        g["means"], g["quats"], g["scales"], g["opacities"], g["colors"] if sh else black
    )
    cameras = Cameras(g["viewmats"], g["Ks"], g["width"], g["height"])
    settings = RasterizeSettings(
        near=g["near_plane"], far=g["far_plane"], eps2d=g["eps2d"], radius_clip=g["radius_clip"],
        antialiased=g["rasterize_mode"] == "antialiased", render_mode=g["render_mode"],
    )  # fmt: skip
    channels = None if sh else g["colors"]
    rendered = rasterize(scene, cameras, settings=settings, channels=channels, backend="reference")
    image = torch.cat([rendered.rgb, rendered.depth], -3).movedim(-3, -1)
    views, count = g["viewmats"].shape[-3], g["means"].shape[-2]
    means2d = torch.zeros(views, count, 2) + 0 * image.sum()
    means2d.absgrad = torch.full((views, count, 2), 3.0)
    assert not (g["absgrad"] and g["packed"])
    return image + means2d.sum(), rendered.alpha.movedim(-3, -1), {"means2d": means2d}


@pytest.fixture()
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Replace gsplat by a fake 1.5.3 that runs on the CPU."""
    module = SimpleNamespace(__version__="1.5.3", rasterization=fake_rasterization)
    monkeypatch.setattr(cuda, "_load", lambda: module)
    monkeypatch.setattr(cuda, "DEVICE", "cpu")
    yield module


def test_recorded_signature_is_gsplats() -> None:
    gsplat = pytest.importorskip("gsplat")
    parameters = inspect.signature(gsplat.rasterization).parameters
    recorded = [*REQUIRED, *DEFAULTS]
    assert [name for name in parameters if name != "rolling_shutter"] == recorded
    for name, default in DEFAULTS.items():
        assert parameters[name].default == default, name


@pytest.mark.parametrize("mode", ["RGB", "D", "RGB+D"])
@pytest.mark.parametrize("with_channels", [False, True])
def test_images_equal_those_of_the_reference(
    fake: SimpleNamespace, mode: str, with_channels: bool, generator: torch.Generator
) -> None:
    scene, cameras = random_gaussians(40, generator, 2), look_at_cameras(2)
    scene, cameras = scene.to(torch.float32), cameras.to(torch.float32)
    channels = torch.randn(40, 5, generator=generator) if with_channels else None
    mask = torch.rand(40, generator=generator) < 0.6
    background = torch.rand(2, 5 if with_channels else 3, generator=generator)
    for antialiased in (False, True):
        settings = RasterizeSettings(
            render_mode=mode, antialiased=antialiased, near=3.5, eps2d=0.5, radius_clip=2.0
        )
        ours, theirs = (
            rasterize(
                scene,
                cameras,
                backgrounds=background,
                settings=settings,
                channels=channels,
                mask=mask,
                backend=b,
            )
            for b in ("cpu", "cuda")
        )
        for name in ("rgb", "alpha", "depth"):
            assert getattr(ours, name).shape == getattr(theirs, name).shape, name
            assert torch.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-4), name
        assert theirs.nonfinite.tolist() == [0, 0]


def test_nan_is_dropped_and_counted(fake: SimpleNamespace, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(20, generator).to(torch.float32), look_at_cameras(2)
    cameras = cameras.to(torch.float32)
    means = scene.means.clone()
    means[4] = float("nan")
    rendered = rasterize(replace(scene, means=means), cameras, backend="cuda")
    rest = scene[torch.arange(20) != 4]
    assert torch.allclose(rendered.rgb, rasterize(rest, cameras).rgb, atol=1e-5)
    assert rendered.nonfinite.tolist() == [1, 1]


def test_absgrad_arrives_after_backward(fake: SimpleNamespace, generator: torch.Generator) -> None:
    scene = random_gaussians(20, generator).to(torch.float32)
    scene = replace(scene, means=scene.means.requires_grad_())
    cameras = look_at_cameras(2).to(torch.float32)
    rendered = rasterize(scene, cameras, settings=RasterizeSettings(absgrad=True), backend="cuda")
    assert float(rendered.absgrad.abs().max()) == 0
    rendered.rgb.sum().backward()
    assert torch.equal(rendered.absgrad, torch.full((2, 20, 2), 3.0))


def test_unsupported_settings_are_named(fake: SimpleNamespace, generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(5, generator), look_at_cameras(1)
    single, placed = scene.to(torch.float32), cameras.to(torch.float32)
    with pytest.raises(ValueError, match="needs float32 tensors on a CUDA device"):
        rasterize(scene, cameras, backend="cuda")
    with pytest.raises(ValueError, match="alpha_max is 0.99, but gsplat 1.5.3 was compiled with"):
        rasterize(single, placed, settings=RasterizeSettings(alpha_max=0.99), backend="cuda")
    fake.__version__ = "1.6.0"
    with pytest.raises(BackendUnavailable, match=r"gsplat 1.6.0 is not one recon knows \(1.5.x\)"):
        rasterize(single, placed, backend="cuda")


def test_missing_pieces_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda._load.cache_clear()
    if not torch.cuda.is_available():
        assert "sees no CUDA GPU; use the CPU (device='cpu'" in (cuda.unavailable() or "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    real = builtins.__import__

    def without(missing: str, error: Exception):
        def load(name: str, *arguments, **named):
            if name == missing or name.startswith(missing + "."):
                raise error
            return real(name, *arguments, **named)

        return load

    cases = [
        ("gsplat", ImportError("No module named 'gsplat'"), "gsplat cannot be imported"),
        ("gsplat.cuda", RuntimeError("ninja failed\nlong log"), r"do not build \(ninja failed\)"),
    ]
    pytest.importorskip("gsplat")
    for missing, error, message in cases:
        with monkeypatch.context() as patch:
            patch.setattr(builtins, "__import__", without(missing, error))
            with pytest.raises(BackendUnavailable, match=message) as found:
                cuda._load()
        assert "\n" not in str(found.value) and "pip install 'reconsplat[cuda]'" in str(found.value)


def test_command_line_reports_it_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, generator: torch.Generator
) -> None:
    """Any command that needs an unavailable backend ends with exit code 2 and no traceback."""

    def broken(_: object) -> None:
        raise BackendUnavailable("gsplat's kernels do not build (ninja failed); use --device cpu")

    monkeypatch.setattr("recon.cli.doctor.Doctor.run", broken)
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "recon: error: gsplat's kernels do not build (ninja failed); use --device cpu\n"
    )
