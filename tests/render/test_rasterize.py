"""The entry of the rasterizer: its example, its checks, its choice of a backend."""

import doctest
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import look_at_cameras, random_gaussians

from render import Gaussians, RasterizeSettings, measure_contributions, rasterize
from render.rasterize import _warn_of_reference, near_plane


def test_example_in_the_docstring_runs() -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(rasterize, "rasterize", globs={})
    assert len(example.examples) >= 5
    assert doctest.DocTestRunner().run(example).failed == 0


WRONG_INPUTS = """
import sys
from dataclasses import replace
import torch
sys.path.insert(0, sys.argv[1])
from helpers import look_at_cameras, random_gaussians
from render import Cameras, GradientRender, RasterizeSettings, measure_contributions, rasterize

scene = random_gaussians(5, torch.Generator().manual_seed(0)).to(torch.float32)
cameras = look_at_cameras(2).to(torch.float32)
three_scenes = scene.map(lambda t: t.expand(3, *t.shape))
no_scenes = lambda struct: struct.map(lambda t: t.expand(0, *t.shape))
for changed in (
    {"gaussians": scene[0]},
    {"gaussians": replace(scene, scales=scene.scales[:4])},
    {"gaussians": replace(scene, quats=scene.quats[:, :3])},
    {"gaussians": replace(scene, sh=scene.sh.repeat(1, 2, 1))},
    {"gaussians": replace(scene, opacities=scene.opacities.double())},
    {"gaussians": three_scenes},
    {"cameras": replace(cameras, viewmats=cameras.viewmats[:, :3])},
    {"cameras": replace(cameras, Ks=cameras.Ks[:1])},
    {"cameras": cameras.to(torch.float64)},
    {"cameras": cameras.to("meta")},
    {"cameras": replace(cameras, Ks=cameras.Ks * torch.nan)},
    {"cameras": replace(cameras, width=0)},
    {"channels": torch.zeros(4, 3)},
    {"channels": torch.zeros(5)},
    {"channels": torch.zeros(5, 7).half()},
    {"mask": torch.zeros(4, dtype=torch.bool)},
    {"mask": torch.zeros(5)},
    {"backgrounds": torch.zeros(2, 4)},
    {"backgrounds": torch.zeros(3, 3)},
    {"backgrounds": torch.zeros(2, 1)},
    {"backgrounds": torch.zeros(2, 3), "channels": torch.zeros(5, 7)},
    {"backgrounds": torch.zeros(2, 3).double()},
    {"backgrounds": torch.zeros(2, 3, device="meta")},
    {"backgrounds": torch.zeros(2, 3), "cameras": cameras[0]},
    {"settings": RasterizeSettings(render_mode="ED")},
    {"settings": RasterizeSettings(near=2.0, far=1.0)},
    {"gaussians": replace(scene, sh=scene.sh[:, 0])},
    {"gaussians": scene.to(torch.float16)},
    {"gaussians": scene.means},
    {"cameras": cameras.viewmats},
    {"settings": {"near": 1.0}},
    {"backgrounds": [1.0, 1.0, 1.0]},
    {"mask": [True] * 5},
    {"gaussians": replace(scene, quats=scene.quats.numpy())},
    {"backend": "vulkan"},
    {"cameras": cameras[:0]},
    {"gaussians": no_scenes(scene), "cameras": no_scenes(cameras)},
    {"settings": RasterizeSettings(near=0.0)},
    {"settings": RasterizeSettings(near=-1.0)},
    {"settings": RasterizeSettings(near=float("nan"))},
    {"settings": RasterizeSettings(eps2d=-1.0)},
    {"settings": RasterizeSettings(alpha_min=float("nan"))},
):
    try:
        rasterize(**{"gaussians": scene, "cameras": cameras, **changed})
        print("nothing was said of", changed)
    except (TypeError, ValueError) as error:
        print(error)
try:
    measure_contributions(scene, cameras, mask=torch.zeros(4, dtype=torch.bool))
except ValueError as error:
    print(error)

rgb = RasterizeSettings(render_mode="RGB")
one_each = cameras[0].map(lambda t: t.expand(3, *t.shape))
for one, several in ((scene, cameras), (three_scenes, one_each)):
    try:
        GradientRender(one, several, rgb)
    except ValueError as error:
        print(error)
kept, into = GradientRender(scene, cameras[0], rgb), scene.map(torch.zeros_like)
v_rgb = torch.zeros_like(kept.rgb)
permuted = scene.sh.transpose(0, 2).contiguous().transpose(0, 2)
for changed in (
    {"v_rgb": v_rgb[:1]},
    {"v_rgb": v_rgb.double()},
    {"v_alpha": v_rgb},
    {"into": into[:4]},
    {"into": replace(into, sh=into.sh.half())},
    {"into": replace(into, sh=torch.zeros_like(permuted))},
):
    try:
        kept.backward(**{"v_rgb": v_rgb, "into": into, **changed})
    except ValueError as error:
        print(error)
kept.backward(v_rgb, into)  # nothing was freed
"""


def test_wrong_inputs_are_named() -> None:
    """In a process without the shape checks that tests switch on: users do not have them."""
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", WRONG_INPUTS, str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    each = "(a colour for each camera)"
    single = "expected (n, 3) and (4, 4): one scene and a single camera, such as cameras[0]"
    assert done.stdout.splitlines() == [
        "means has shape (3,), expected (*batch, n, 3)",
        "scales has shape (4, 3), expected (5, 3)",
        "quats has shape (5, 3), expected (5, 4)",
        "sh has shape (5, 2, 3), expected (5, k, 3) with k = 1, 4, 9, 16 or 25",
        "opacities is torch.float64, expected torch.float32 like means; cast one with .to(dtype)",
        "viewmats has shape (2, 4, 4), expected (3, v, 4, 4), "
        "or (3, 4, 4) for one camera per scene",
        "viewmats has shape (2, 3, 4), expected (v, 4, 4), or (4, 4) for a single camera",
        "Ks has shape (1, 3, 3), expected (2, 3, 3)",
        "viewmats is torch.float64, expected torch.float32 like means; cast one with .to(dtype)",
        "viewmats is on meta, expected cpu like means; move one with .to(device)",
        "Ks of the cameras has NaN or infinite values",
        "cameras have images of 0 x 40 px, expected at least 1 x 1",
        "channels has shape (4, 3), expected (5, c)",
        "channels has shape (5,), expected (5, c)",
        "channels is torch.float16, expected torch.float32 like means; cast one with .to(dtype)",
        "mask has shape (4,), expected (5,)",
        "mask is torch.float32, expected torch.bool",
        f"backgrounds has shape (2, 4), expected (2, 3) {each} or (3,) for all",
        f"backgrounds has shape (3, 3), expected (2, 3) {each} or (3,) for all",
        f"backgrounds has shape (2, 1), expected (2, 3) {each} or (3,) for all",
        f"backgrounds has shape (2, 3), expected (2, 7) {each} or (7,) for all",
        "backgrounds is torch.float64, expected torch.float32 like means; cast one with .to(dtype)",
        "backgrounds is on meta, expected cpu like means; move one with .to(device)",
        f"backgrounds has shape (2, 3), expected (3,) {each} or (3,) for all",
        "render_mode is 'ED', expected RGB, D, RGB+D",
        "near is 2.0 and far is 1.0, expected near to be at most far",
        "sh has shape (5, 3), expected (5, k, 3)",
        "means is torch.float16, expected torch.float32 or torch.float64; cast the Gaussians and "
        "cameras with .to(torch.float32)",
        "gaussians is a Tensor, expected Gaussians",
        "cameras is a Tensor, expected Cameras",
        "settings is a dict, expected RasterizeSettings",
        "backgrounds is a list, expected Tensor",
        "mask is a list, expected Tensor",
        "quats is a ndarray, expected Tensor",
        "backend is 'vulkan', expected one of: auto, reference, cpu, cuda",
        "viewmats has shape (0, 4, 4), expected at least one camera and one scene",
        "viewmats has shape (0, 2, 4, 4), expected at least one camera and one scene",
        "near is 0.0, expected a depth above 0, or None",
        "near is -1.0, expected a depth above 0, or None",
        "near is nan, expected a depth above 0, or None",
        "eps2d is -1.0, expected at least 0",
        "alpha_min is nan, expected at least 0",
        "mask has shape (4,), expected (5,)",
        f"means has shape (5, 3) and viewmats (2, 4, 4), {single}",
        f"means has shape (3, 5, 3) and viewmats (3, 4, 4), {single}",
        "v_rgb has shape (1, 40, 48), expected (3, 40, 48)",
        "v_rgb is torch.float64 on cpu, expected torch.float32 on cpu",
        "v_alpha has shape (3, 40, 48), expected (1, 40, 48)",
        "into.means has shape (4, 3), expected (5, 3)",
        "into.sh is torch.float16 on cpu, expected torch.float32 on cpu",
        "into.sh is not contiguous; make it with .contiguous()",
    ]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_a_single_camera_gives_output_without_the_axis(
    backend: str, batch: tuple[int, ...], generator: torch.Generator
) -> None:
    scene = random_gaussians(30, generator).to(torch.float32)
    scene = scene.map(lambda t: t.expand(*batch, *t.shape))
    cameras = look_at_cameras(3).to(torch.float32)
    cameras = cameras.map(lambda t: t.expand(*batch, *t.shape))
    colors = torch.rand(*batch, 3, 3, generator=generator)
    settings = RasterizeSettings(absgrad=True)
    together = rasterize(scene, cameras, backgrounds=colors, settings=settings, backend=backend)
    for index, camera in enumerate(cameras):
        one = rasterize(
            scene, camera, backgrounds=colors[..., index, :], settings=settings, backend=backend
        )
        assert one == together[index] and one.rgb.shape == (*batch, 3, 40, 48)
    same = rasterize(
        scene, cameras[0], backgrounds=colors[(0,) * len(batch) + (0,)], backend=backend
    )
    assert same.rgb.shape == (*batch, 3, 40, 48)


def test_a_single_camera_receives_gradients(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(30, generator).to(torch.float32), look_at_cameras(2)
    found = []
    for pick in (lambda c: c[1], lambda c: c[[1]]):
        leaf = cameras.to(torch.float32).viewmats.clone().requires_grad_()
        camera = pick(replace(cameras.to(torch.float32), viewmats=leaf))
        output = rasterize(scene, camera, settings=RasterizeSettings(absgrad=True))
        output.rgb.square().sum().backward()
        found.append((leaf.grad, output.absgrad.reshape(30, 2)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_contributions_of_a_single_camera(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(30, generator).to(torch.float32), look_at_cameras(2)
    cameras = cameras.to(torch.float32)
    one, row = (measure_contributions(scene, c) for c in (cameras[1], cameras[[1]]))
    assert one == row and len(one) == 30
    assert torch.equal(one[:7].hits, one.hits[:7])


def test_float64_goes_to_the_reference_with_one_warning(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(5, generator), look_at_cameras(1)
    _warn_of_reference.cache_clear()
    with pytest.warns(UserWarning, match=r"rendered by the reference.*\.to\(torch.float32\)"):
        assert rasterize(scene, cameras).rgb.dtype == torch.float64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rasterize(scene, cameras)
        _warn_of_reference.cache_clear()
        rasterize(scene, cameras, backend="reference")
        rasterize(scene.to(torch.float32), cameras.to(torch.float32))
    with pytest.raises(
        ValueError, match="needs float32 tensors on the CPU; means is torch.float64"
    ):
        rasterize(scene, cameras, backend="cpu")


COMPILED = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
from helpers import look_at_cameras, random_gaussians
from render import Gaussians, measure_contributions, rasterize

scene = random_gaussians(30, torch.Generator().manual_seed(0)).to(torch.float32)
cameras = look_at_cameras(2).to(torch.float32)

def loss(means, sh):
    moved = Gaussians(1.1 * means, scene.quats, scene.scales, scene.opacities, sh.sin())
    output = rasterize(moved, cameras, backgrounds=torch.ones(3))
    return output.rgb.square().sum() + output.expected_depth.sum()

def differentiate(function):
    leaves = [scene.means.clone().requires_grad_(), scene.sh.clone().requires_grad_()]
    value = function(*leaves)
    value.backward()
    return [value.detach(), *(leaf.grad for leaf in leaves)]

expected = differentiate(loss)
expected_weights = measure_contributions(scene, cameras)
print(torch.compile(measure_contributions, backend="eager")(scene, cameras) == expected_weights)
for backend in ("eager", "aot_eager"):
    torch.compiler.reset()
    found = differentiate(torch.compile(loss, backend=backend))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    print(backend, all(map(torch.equal, expected, found)), graphs >= 2)
torch.compiler.reset()
try:
    torch.compile(loss, backend="eager", fullgraph=True)(scene.means, scene.sh)
except torch._dynamo.exc.Unsupported as error:
    print("outside_of_graphs" in str(error))
"""


@pytest.mark.slow
def test_torch_compile_gives_the_same_values_and_gradients() -> None:
    """In a process of its own: the compiler cannot trace the shape checks of tests."""
    folder = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(folder)], capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "True",
        "eager True True",
        "aot_eager True True",
        "True",
    ], done.stderr


def test_a_scene_of_a_batch_does_not_move_the_near_plane_of_another() -> None:
    generator = torch.Generator().manual_seed(3)
    small = random_gaussians(1000, generator).means * 1e-3
    alone = near_plane(scene_at(small))
    assert 0 < alone < 1e-3
    far = small + 100
    both = near_plane(scene_at(torch.stack([small, far, small * torch.nan])))
    assert both == pytest.approx(alone, rel=1e-3)
    broken = small.clone()
    broken[0], broken[3, 1], broken[6] = torch.nan, torch.inf, -torch.inf
    assert near_plane(scene_at(broken)) == pytest.approx(alone, rel=0.1)


def scene_at(means: torch.Tensor) -> Gaussians:
    shape = means.shape[:-1]
    quats, sh = means.new_ones(*shape, 4), means.new_zeros(*shape, 1, 3)
    return Gaussians(means, quats, torch.ones_like(means), means.new_ones(shape), sh)
