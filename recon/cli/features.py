"""The features of an installation: what each needs, what is missing, and the command that helps."""

import importlib.metadata
import importlib.util
import platform
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTION = "reconsplat"
# The index of torch's builds for CUDA: that of PyPI is one only on Linux.
CUDA_INDEX = "https://download.pytorch.org/whl/cu126"


@dataclass(frozen=True)
class Feature:
    """Something that recon can do with optional packages."""

    name: str
    extra: str
    packages: tuple[str, ...]
    """Names under which Python imports them."""
    without: str
    """What happens if one is missing."""


FEATURES = (
    Feature(
        "cameras", "sfm", ("pycolmap",), "photos need known cameras, and COLMAP's are not solved"
    ),
    Feature("matching", "match", ("kornia",), "photos far apart may get no cameras (SIFT alone)"),
    Feature("HEIC", "heic", ("pi_heif",), "HEIC photos are not read"),
    Feature("RAW", "raw", ("rawpy",), "RAW photos of cameras are not read"),
    Feature("JPEG XL", "jxl", ("pillow_jxl",), "JPEG XL photos are not read"),
    Feature("video", "video", ("av",), "no mp4 is written, and AV1 and HDR videos are not read"),
    Feature("SPZ 4", "spz", ("zstandard",), "SPZ files of version 4 are not read"),
    Feature("USD", "usd", ("pxr",), "USD scenes are neither read nor written"),
    Feature("LAS", "las", ("laspy", "lazrs"), "no LAS and LAZ point clouds are written"),
    Feature("OpenEXR", "exr", ("OpenEXR",), "recon render writes no OpenEXR images"),
    Feature(
        "meshes", "mesh", ("skimage", "fast_simplification", "manifold3d", "coacd"),
        "recon mesh does not work, or not with all its options",
    ),
    Feature(
        "training", "train", ("accelerate", "torchmetrics", "tensorboard", "trimesh", "embreex"),
        "recon train, recon eval and recon data do not work, or not on all data",
    ),
    Feature(
        "ST-LPIPS", "perceptual", ("stlpips_pytorch",), "recon eval has no ST-LPIPS column"
    ),
    Feature("GPU", "cuda", ("gsplat", "xformers"), "scenes are rendered on the CPU"),
)  # fmt: skip


@dataclass(frozen=True)
class State:
    """What an installation lacks for a feature."""

    missing: tuple[str, ...]
    """Packages, or other things in words."""
    without: str
    commands: tuple[str, ...]
    """Shell commands that install it; none if there is nothing to install."""


def version(package: str) -> str | None:
    """Return the version of an installed package without importing it; None if it is missing."""
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "installed"


def feature_states(cuda_build: bool, sees_gpu: bool) -> dict[str, State]:
    """Return what is missing for each feature.

    Args:
        cuda_build: Whether torch was built for CUDA.
        sees_gpu: Whether torch sees a CUDA GPU.
    """
    states = {}
    for feature in FEATURES:
        missing = tuple(name for name in feature.packages if version(name) is None)
        commands: tuple[str, ...] = (install_command(feature.extra),) if missing else ()
        if feature.extra == "cuda" and not sees_gpu:
            missing, commands = _without_gpu(cuda_build, commands)
        states[feature.name] = State(missing, feature.without, commands)
    return states


def install_command(extra: str) -> str:
    """Return the shell command that installs the packages of an extra into this Python."""
    try:
        importlib.metadata.version(DISTRIBUTION)
        target = f"{DISTRIBUTION}[{extra}]"
    except importlib.metadata.PackageNotFoundError:
        target = f"{source_folder()}[{extra}]"
    return f"{_pip()} {quoted(target)}"


def reinstall_command() -> str:
    """Return the shell command that builds and installs recon again, without other packages.

    From its source if that is here, else from where it came from.
    """
    source = source_folder()
    target = str(source) if (source / "CMakeLists.txt").is_file() else DISTRIBUTION
    return f"{_pip()} --force-reinstall --no-deps {quoted(target)}"


def source_folder() -> Path:
    """Return the folder that holds the package `recon`."""
    return Path(__file__).resolve().parents[2]


def quoted(word: str) -> str:
    """Return a word as the shell of this system reads it back."""
    return f'"{word}"' if sys.platform == "win32" else shlex.quote(word)


def _pip() -> str:
    return f"{quoted(sys.executable)} -m pip install"


def _without_gpu(
    cuda_build: bool, install: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what is missing where torch sees no GPU, and the commands that help."""
    if platform.system() == "Darwin" or shutil.which("nvidia-smi") is None:
        return ("an NVIDIA GPU with its driver (nvidia-smi is not found)",), ()
    if cuda_build:
        return ("a GPU that torch sees (nvidia-smi says whether the driver works)",), ()
    torch = f"{_pip()} --force-reinstall torch --index-url {CUDA_INDEX}"
    return ("a torch built for CUDA",), (torch, *install)
