"""`recon doctor`: report what this installation can do."""

import importlib.metadata
import importlib.util
import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.cli.arguments import JsonOutput
from recon.errors import ReconError
from recon.files import temporary_folder
from recon.memory import available_memory
from recon.reporting import check_json, prints_json, say, write_json

# package -> (extra that installs it, what it is for)
OPTIONAL = {
    "gsplat": ("cuda", "fast rendering on an NVIDIA GPU"),
    "xformers": ("cuda", "fast attention on an NVIDIA GPU"),
    "pycolmap": ("sfm", "camera estimation, COLMAP projects"),
    "pi_heif": ("heic", "reading HEIC photos"),
    "rawpy": ("raw", "reading RAW photos of cameras"),
    "pillow_jxl": ("jxl", "reading JPEG XL photos"),
    "kornia": ("match", "learned matching of photos with little overlap"),
    "av": ("video", "writing mp4 videos, reading AV1 and HDR videos"),
    "pxr": ("usd", "USD scenes"),
    "laspy": ("las", "LAS point clouds"),
    "OpenEXR": ("exr", "OpenEXR images"),
    "lazrs": ("las", "LAZ point clouds"),
    "skimage": ("mesh", "triangle meshes"),
    "fast_simplification": ("mesh", "triangle meshes"),
    "manifold3d": ("mesh", "closed triangle meshes"),
    "coacd": ("mesh", "convex parts of meshes"),
    "zstandard": ("spz", "reading SPZ files of version 4"),
    "accelerate": ("train", "training"),
    "tensorboard": ("train", "logs of training"),
    "trimesh": ("train", "training on meshes"),
    "embreex": ("train", "training on meshes"),
    "torchmetrics": ("train", "recon eval"),
    "stlpips_pytorch": ("perceptual", "the ST-LPIPS column of recon eval"),
}


@dataclass(frozen=True)
class Doctor:
    """Report what this installation can do and which optional packages are missing."""

    json: JsonOutput = None
    """Print one JSON object instead of text, or write it to FILE."""

    def run(self) -> None:
        """Print the report; a missing package is not an error."""
        check_json(self.json, is_result=True)
        facts = _facts()
        if self.json is not None:
            write_json(facts, self.json)
        if prints_json(self.json):
            return
        for key, value in facts.items():
            if key != "optional":
                say(f"{key.replace('_', ' '):<10}  {value}")
        for name, version in facts["optional"].items():
            extra, use = OPTIONAL[name]
            found = version or f"not installed: pip install 'reconsplat[{extra}]'"
            say(f"{name:<16}  {found} ({use})")


def _facts() -> dict[str, Any]:
    import torch
    from PIL import features

    import recon
    from recon.capture.cache import chosen_folder

    cuda = torch.cuda.is_available()
    return {
        "recon": recon.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu (torch sees no CUDA GPU)",
        "cpu_kernel": _cpu_kernel(),
        "weights": _weights(),
        "memory": _memory(),
        "cache": _folder(chosen_folder()),
        "temporary": _folder(Path(tempfile.gettempdir())),
        "images": ", ".join(name for name in ("webp", "avif") if features.check(name)) or "basic",
        "optional": {name: _version(name) for name in OPTIONAL},
    }


def _cpu_kernel() -> str:
    from render.backends import native

    try:
        return (
            f"{native.instruction_set()}, ABI {native.abi_version()}, "
            f"{native.library_path(native.instruction_set())}"
        )
    except RuntimeError as error:
        return f"missing: {error}"


def _weights() -> str:
    from recon.model.registry import NETWORKS, build_model

    names = [name for name, kind in NETWORKS.items() if kind.weights is not None]
    try:
        for name in names:
            build_model(name)
    except ReconError as error:
        return f"damaged: {error}"
    return f"{', '.join(names)}: ok"


def _memory() -> str:
    available = available_memory()
    return "unknown" if available is None else f"{available / 1e9:.1f} GB available"


def _folder(folder: Path | None) -> str:
    """Return a folder, whether it can be written, and the free space."""
    if folder is None:
        return "none: there is no home folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder}: cannot be written ({error.strerror})"
    return f"{folder}: {free / 1e9:.1f} GB free"


def _version(name: str) -> str | None:
    """Return the version of an installed package without importing it."""
    if importlib.util.find_spec(name) is None:
        return None
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "installed"
