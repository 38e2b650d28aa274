"""A step of Adam on a scene: the kernel's against torch's."""

import copy
from dataclasses import fields, replace

import pytest
import torch
from helpers import random_gaussians
from torch import Tensor

from recon.optimisation.adam import ATTRIBUTES, AdamScene
from render import Gaussians

RATES = {"means": 0.3, "quats": 0.02, "scales": 0.08, "opacities": 0.08, "sh": 0.01}


def start(count: int, generator: torch.Generator, degree: int = 1) -> AdamScene:
    scene = random_gaussians(count, generator, degree, torch.float32)
    return AdamScene.of(scene, 0.6 * scene.scales)


def random_gradients(scene: AdamScene, generator: torch.Generator) -> Gaussians:
    """Return gradients of which every third Gaussian has none."""

    def normal(tensor: Tensor) -> Tensor:
        found = torch.randn(tensor.shape, generator=generator)
        found[1::3] = 0
        return found

    return scene.gaussians.map(normal)


def values(scene: AdamScene) -> dict[str, Tensor]:
    return {**vars(scene.gaussians), "log_scales": scene.log_scales, "logits": scene.logits}


@pytest.mark.parametrize("count, degree", [(0, 0), (1, 3), (13, 0), (2061, 1), (4096, 2)])
def test_kernel_and_torch_agree(count: int, degree: int, generator: torch.Generator) -> None:
    kernel = start(count, generator, degree)
    plain = copy.deepcopy(kernel)
    for index in range(1, 6):
        gradients = random_gradients(kernel, generator)
        kernel.step(index, RATES, gradients)
        plain.step(index, RATES, gradients, in_torch=True)
    for name, expected in values(plain).items():
        assert torch.allclose(values(kernel)[name], expected, rtol=2e-5, atol=2e-6), name


def test_steps_are_those_of_autograd_and_torch_optim(generator: torch.Generator) -> None:
    scene = start(50, generator)
    least = scene.min_scales.square()
    unit, means = scene.unit[:, None], scene.gaussians.means.clone()
    given = {
        "means": torch.zeros_like(means),
        "quats": scene.gaussians.quats,
        "scales": scene.log_scales,
        "opacities": scene.logits,
        "sh": scene.gaussians.sh,
    }
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in given.items()}
    adam = torch.optim.Adam(
        [{"params": [leaves[name]], "lr": RATES[name]} for name in RATES],
        betas=(0.9, 0.99),
        eps=1e-15,
    )

    def activated() -> dict[str, Tensor]:
        scales = ((2 * leaves["scales"]).exp() + least).sqrt()
        opacities, moved = torch.sigmoid(leaves["opacities"]), means + unit * leaves["means"]
        return leaves | {"means": moved, "scales": scales, "opacities": opacities}

    for index in range(1, 9):
        gradients = scene.gaussians.map(lambda t: torch.randn(t.shape, generator=generator))
        scene.step(index, RATES, gradients)
        adam.zero_grad()
        sum((activated()[n] * getattr(gradients, n)).sum() for n in ATTRIBUTES).backward()
        adam.step()
    for name, expected in activated().items():
        found = getattr(scene.gaussians, name)
        assert torch.allclose(found, expected, rtol=2e-5, atol=2e-6), name


@pytest.mark.parametrize("in_torch", [False, True])
def test_without_gradient_nothing_moves(in_torch: bool, generator: torch.Generator) -> None:
    scene = start(30, generator)
    scene.step(1, RATES, random_gradients(scene, generator), in_torch=in_torch)
    before = {name: tensor.clone() for name, tensor in values(scene).items()}
    gradients = random_gradients(scene, generator)
    for tensor in vars(gradients).values():
        tensor[:21] = 0
    scene.step(2, RATES, gradients, in_torch=in_torch)
    for name, tensor in values(scene).items():
        moved = (tensor != before[name]).reshape(30, -1).any(1)
        assert moved.tolist() == [i > 20 and i % 3 != 1 for i in range(30)], name


def test_any_number_of_threads_gives_the_same_bytes(generator: torch.Generator) -> None:
    first = start(7000, generator)
    second = copy.deepcopy(first)
    gradients = random_gradients(first, generator)
    threads = torch.get_num_threads()
    try:
        for scene, count in ((first, 1), (second, 3)):
            torch.set_num_threads(count)
            scene.step(1, RATES, gradients)
    finally:
        torch.set_num_threads(threads)
    for field in fields(Gaussians):
        name = field.name
        assert torch.equal(getattr(first.gaussians, name), getattr(second.gaussians, name))


def test_kernel_says_what_is_wrong_with_gradients(generator: torch.Generator) -> None:
    scene = start(5, generator)
    gradients = random_gradients(scene, generator)
    permuted = gradients.means.T.contiguous().T
    for wrong, message in (
        (gradients.to(torch.float64), "gradients.means is torch.float64, expected torch.float32"),
        (replace(gradients, means=permuted), "gradients.means is not contiguous; make it with"),
        (gradients[:4], r"gradients.means has shape \(4, 3\), expected \(5, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            scene.step(1, RATES, wrong)
