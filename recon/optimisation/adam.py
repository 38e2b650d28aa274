"""Adam on the parameters of a scene: a fused pass of the CPU kernel, or the same in torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from render import Gaussians

BETA1, BETA2, EPS = 0.9, 0.99, 1e-15
# Smallest opacity to start from, and the logit of those that are hidden: steps that momentum still
# takes do not make them visible.
MIN_OPACITY, HIDDEN_LOGIT = 1e-4, -12.0
ATTRIBUTES = tuple(field.name for field in fields(Gaussians))


class Adam:
    """Adam for a few values.

    torch.optim would import torch's compiler, which takes longer than all its steps.
    """

    def __init__(self, values: Tensor) -> None:
        """Start without moments; steps change `values` in place."""
        self.values, self.count = values, 0
        self.mean, self.square = torch.zeros_like(values), torch.zeros_like(values)

    def step(self, gradient: Tensor, lr: float) -> None:
        """Take one step (Kingma & Ba 2015, algorithm 1)."""
        self.count += 1
        self.mean.lerp_(gradient, 1 - BETA1)
        self.square.lerp_(gradient.square(), 1 - BETA2)
        mean = self.mean / (1 - BETA1**self.count)
        self.values -= lr * mean / ((self.square / (1 - BETA2**self.count)).sqrt() + EPS)


@dataclass(frozen=True)
class AdamScene:
    """A scene, its parameters and the moments of their gradients; a step changes all in place.

    Parameters are positions in units of `unit`, quaternions of any length, logarithms of the free
    part of the scales, logits of the opacities, and SH coefficients.
    """

    gaussians: Gaussians
    """Follows from the parameters. Its means, quaternions and SH are parameters themselves."""
    log_scales: Float[Tensor, "n 3"]
    """scale^2 = exp(2 log_scale) + min_scale^2."""
    logits: Float[Tensor, " n"]
    unit: Float[Tensor, " n"]
    min_scales: Float[Tensor, "n 3"]
    moments: Float[Tensor, " m"]
    """Means and squares of all gradients; their order is known to the code of the step only."""

    @staticmethod
    def of(start: Gaussians, min_scales: Float[Tensor, "n 3"]) -> "AdamScene":
        """Start at a scene, without moments; each of `min_scales` must be below the scale."""
        start = start.map(lambda tensor: tensor.detach().clone().contiguous())
        free = (start.scales.square() - min_scales.square()).clamp_min(1e-24)
        logits = torch.logit(start.opacities.clamp(MIN_OPACITY, 1 - MIN_OPACITY))
        values = sum(getattr(start, name)[:1].numel() for name in ATTRIBUTES)
        padded = (len(start) + 7) // 8 * 8
        return AdamScene(
            replace(
                start,
                scales=(free + min_scales.square()).sqrt(),
                opacities=torch.sigmoid(logits),
            ),
            log_scales=0.5 * free.log(),
            logits=logits,
            # A Gaussian moves by fractions of its own size.
            unit=start.scales.amax(-1),
            min_scales=min_scales.contiguous(),
            moments=torch.zeros(2 * values * padded, device=start.device),
        )

    def hide(self, which: Bool[Tensor, " n"]) -> None:
        """Make some Gaussians invisible, which no gradient reaches then."""
        self.logits[which] = HIDDEN_LOGIT
        self.gaussians.opacities[which] = torch.sigmoid(self.logits[which])

    def step(
        self,
        index: int,
        rates: Mapping[str, float],
        gradients: Gaussians,
        in_torch: bool = False,
    ) -> None:
        """Take one step (Kingma & Ba 2015, algorithm 1).

        Gaussians without any gradient stay as they are, and so do their moments: a step costs what
        its views show.

        Args:
            index: Index of the step, from 1.
            rates: Learning rate of each attribute of the Gaussians; 0 keeps it constant.
            gradients: Gradients with respect to `gaussians`.
            in_torch: Leave out the kernel, which is used for float32 on the CPU.
        """
        corrections = {"correction1": 1 - BETA1**index, "correction2": 1 - BETA2**index}
        if in_torch or self.unit.device.type != "cpu":
            self._step_in_torch(corrections, rates, gradients)
            return
        from render.backends.cpu import adam_step_cpu

        tensors = {**vars(self.gaussians), **vars(self)}
        del tensors["gaussians"]
        numbers = {f"lr_{name}": rates[name] for name in ATTRIBUTES}
        numbers |= {"beta1": BETA1, "beta2": BETA2, "eps": EPS, **corrections}
        adam_step_cpu(tensors, numbers, gradients)

    def _step_in_torch(
        self, corrections: Mapping[str, float], rates: Mapping[str, float], gradients: Gaussians
    ) -> None:
        scene = self.gaussians
        active = _any_gradient(gradients)
        unit = self.unit[:, None]
        parameters = {**vars(scene), "scales": self.log_scales, "opacities": self.logits}
        # Derivatives of the attributes with respect to their parameters.
        slopes = {"means": unit, "opacities": scene.opacities * (1 - scene.opacities)}
        slopes["scales"] = (2 * self.log_scales).exp() / scene.scales.clamp_min(1e-30)
        sizes = [parameters[name].numel() for name in ATTRIBUTES]
        halves = [half[: sum(sizes)].split(sizes) for half in self.moments.chunk(2)]
        for name, mean, square in zip(ATTRIBUTES, *halves, strict=True):
            if rates[name] == 0:
                continue
            parameter, gradient = parameters[name], getattr(gradients, name)
            gradient = gradient * slopes.get(name, 1.0)
            moving = active.view(-1, *[1] * (gradient.ndim - 1))
            mean, square = mean.view_as(gradient), square.view_as(gradient)
            mean += moving * (1 - BETA1) * (gradient - mean)
            square += moving * (1 - BETA2) * (gradient.square() - square)
            step = rates[name] / corrections["correction1"] * mean
            step = moving * step / ((square / corrections["correction2"]).sqrt() + EPS)
            parameter -= unit * step if name == "means" else step
        scene.scales.copy_(((2 * self.log_scales).exp() + self.min_scales.square()).sqrt())
        torch.sigmoid(self.logits, out=scene.opacities)


def _any_gradient(gradients: Gaussians) -> Bool[Tensor, " n"]:
    """Find the Gaussians with any gradient."""
    found = gradients.opacities != 0
    for name in ATTRIBUTES:
        if name != "opacities":
            found |= getattr(gradients, name).flatten(1).any(1)
    return found
