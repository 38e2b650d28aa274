"""Choice of the device to compute on."""

import torch

from recon.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """Return the device with this name: `auto`, `cpu`, `cuda`, or `cuda:1`.

    Raises:
        ConfigError: The name is none of these, or torch does not see that GPU.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if name != "cpu" and (kind != "cuda" or (name != "cuda" and not index.isdecimal())):
        raise ConfigError(
            f"device must be 'auto', 'cpu', 'cuda' or 'cuda:N', got {name!r}", "device"
        )
    if kind == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"device={name!r}: torch sees no CUDA GPU; use device='cpu' or run recon doctor",
            "device",
        )
    if index and int(index) >= torch.cuda.device_count():
        raise ConfigError(
            f"device={name!r}: torch sees {torch.cuda.device_count()} CUDA GPUs, numbered "
            "from 0; use another one",
            "device",
        )
    return torch.device(name)


def choose_render_device(name: str) -> torch.device:
    """Return the device with this name to render on: `auto` picks a GPU only if gsplat works.

    Raises:
        ConfigError: The name is unknown, or nothing can be rendered on that device.
    """
    device = choose_device(name)
    reason = _render_obstacle(device)
    if reason is None:
        return device
    if name == "auto":
        return torch.device("cpu")
    raise ConfigError(f"device={name!r}: {reason}", "device")


def render_device_of(device: torch.device) -> torch.device:
    """Return the device itself if scenes can be rendered there, else the CPU."""
    return device if _render_obstacle(device) is None else torch.device("cpu")


def _render_obstacle(device: torch.device) -> str | None:
    """Say why nothing can be rendered on a device; None if it can."""
    if device.type != "cuda":
        return None
    from render.backends import cuda

    return cuda.unavailable()
