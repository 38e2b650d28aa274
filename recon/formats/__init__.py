"""Scene files, read and written by extension; `recon.formats.registry` lists the formats."""

from dataclasses import replace
from pathlib import Path

from recon.errors import InputError, counted, listed, warn
from recon.formats.contents import check_content, extension_by_content, scenes_in
from recon.formats.encodings import MAX_SCALE
from recon.formats.glb import glb_bytes
from recon.formats.registry import FORMATS as FORMATS
from recon.formats.registry import SceneFormat as SceneFormat
from recon.formats.registry import format_of as format_of
from recon.formats.sog_archive import Archive, is_sog_meta
from recon.formats.source import NamedCamera as NamedCamera
from recon.formats.source import SceneSource as SceneSource
from recon.precision import WORLD, Origin
from render import Cameras, Gaussians

# Description of a scene in several levels of detail (PlayCanvas).
LOD_META = "lod-meta.json"
# Scenes in the output folder of the reference code of 3D Gaussian Splatting (Kerbl et al. 2023).
TRAINED = "point_cloud/iteration_*/point_cloud.ply"


def is_scene(path: Path) -> bool:
    """Return whether a path is that of a scene file, or of an unbundled SOG (see `scene_path`)."""
    path = scene_path(path)
    if extension_by_content(path) is not None:
        return True
    if scenes_in(path):
        return True
    extensions = [e for f in FORMATS.values() for e in (f.extension, *f.other_extensions)]
    known = path.name.lower().endswith(tuple(extensions)) or path.name == LOD_META
    return not path.is_dir() and (known or is_sog_meta(path))


def scene_path(path: Path) -> Path:
    """Return the file that describes a scene in a folder.

    That is the meta.json of an unbundled SOG, or the last iteration of a training.
    """
    if not path.is_dir():
        return path
    if (path / LOD_META).is_file():
        return path / LOD_META
    trained = [] if (path / "images").is_dir() else list(path.glob(TRAINED))
    if trained:
        # The largest number.
        return max(trained, key=lambda file: (len(file.parent.name), file.parent.name))
    return path / "meta.json" if is_sog_meta(path / "meta.json") else path


def scene_bytes(path: Path) -> int:
    """Return the size of a scene: of its file, or of all files of an unbundled SOG or a .gltf."""
    path = scene_path(path)
    if is_sog_meta(path):
        return sum(Archive(path).sizes().values())
    if path.suffix.lower() == ".gltf":
        return glb_bytes(path)
    return path.stat().st_size


def save_gaussians(
    path: Path,
    gaussians: Gaussians,
    origin: Origin = WORLD,
    antialiased: bool = False,
    start: Cameras | None = None,
    cameras: tuple[NamedCamera, ...] = (),
) -> None:
    """Write a scene in the format of the extension, completely or not at all.

    Args:
        path: File to write.
        gaussians: At least one Gaussian.
        origin: World coordinates of the point that the means are relative to.
        antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
        start: Camera from which to look at it first (see `SceneSource.start`).
        cameras: Those of the photos, which few formats hold (`SceneFormat.keeps_cameras`).

    Raises:
        InputError: There are no Gaussians, values are invalid, or the file cannot be written.
    """
    source = SceneSource.of(writable(path, gaussians), origin, antialiased, start)
    write_scene(path, replace(source, cameras=cameras))


def check_values(path: Path, gaussians: Gaussians) -> None:
    """Raise InputError that names the first attribute with values that no file can hold, if any."""
    try:
        gaussians.validate()
    except ValueError as error:
        raise InputError(
            f"cannot write {path}: {error}; correct these values, or leave these Gaussians out"
        ) from error


def writable(path: Path, gaussians: Gaussians) -> Gaussians:
    """Clip scales that no reader accepts, and say so.

    Raises:
        InputError: There are other values that no file can hold (see `check_values`).
    """
    check_values(path, gaussians)
    count = int((gaussians.scales > MAX_SCALE).any(-1).sum())
    if count == 0:
        return gaussians
    warn(f"{path}: clipped the scales of {count} of {len(gaussians)} Gaussians to {MAX_SCALE:.2g}")
    return replace(gaussians, scales=gaussians.scales.clamp_max(MAX_SCALE))


def write_scene(path: Path, source: SceneSource) -> None:
    """Write a scene chunk by chunk, in the format of the extension.

    Raises:
        InputError: There are no Gaussians, or the file cannot be written.
    """
    check_kept(path, source)
    format_of(path).write(path, source)


def check_kept(path: Path, source: SceneSource) -> None:
    """Warn of what the format of the extension cannot keep of a scene.

    Raises:
        InputError: There are no Gaussians.
    """
    scene_format = format_of(path)
    if source.count == 0:
        raise InputError(f"cannot write {path}: the scene is empty; it needs at least one Gaussian")
    if source.antialiased and not scene_format.keeps_antialiased:
        warn(
            f"{path}: {scene_format.extension} cannot say that the scene is for antialiased "
            "rendering (Mip-Splatting); thin Gaussians will look too opaque"
        )
    if source.origin != WORLD and not scene_format.keeps_origin:
        warn(
            f"{path}: {scene_format.extension} rounds positions by "
            f"{scene_format.error_at(source.origin):.3g} units or more at these coordinates (up to "
            f"{max(map(abs, source.origin)):,.0f}); write .ply or .glb, which hold them"
        )
    if source.origin != WORLD and scene_format.viewer_error_at is not None:
        warn(
            f"{path}: viewers that decode {scene_format.extension} in float32 round positions by "
            f"up to {scene_format.viewer_error_at(source.origin):.3g} units at these coordinates "
            f"(up to {max(map(abs, source.origin)):,.0f}), which recon does not; write .glb for "
            "viewers"
        )
    if source.cameras and not scene_format.keeps_cameras:
        kept = ", ".join(e for e, known in FORMATS.items() if known.keeps_cameras)
        warn(
            f"{path}: {scene_format.extension} cannot hold the "
            f"{counted(len(source.cameras), 'camera')} of the scene; {kept} do"
        )


def load_gaussians(path: Path) -> Gaussians:
    """Read a scene file; raise InputError if it is missing, damaged or of an unknown format.

    Positions far from zero, such as UTM coordinates, are relative to the origin that
    `open_scene(path).origin` tells.
    """
    return open_scene(path).load()


def open_scene(path: Path) -> SceneSource:
    """Open a scene file to read it chunk by chunk.

    Plain and compressed PLY and .splat stay on disk until they are read; the other formats are
    decompressed into memory.

    Raises:
        InputError: The file is missing, damaged, empty or of an unknown format.
    """
    folder, path = path, scene_path(path)
    others = len(list(folder.glob(TRAINED))) if path.match(TRAINED) and path != folder else 1
    if others > 1:
        warn(f"{folder} has {others} scenes; that of the last iteration is used, {path}")
    if path.name == LOD_META and path.is_file():
        raise InputError(
            f"{path} describes levels of detail of a scene, which recon does not read; pass the "
            "meta.json of one level, in one of the folders beside it"
        )
    scene_format = _format_in(path)
    known = (scene_format.extension, *scene_format.other_extensions)
    if not path.name.lower().endswith(known) and not is_sog_meta(path):
        warn(f"{path} is a {scene_format.extension} by its content, and it is read as one")
    source = scene_format.open(path)
    if source.count == 0:
        raise InputError(f"{path} is empty: it has no usable Gaussian")
    return source


def _format_in(path: Path) -> SceneFormat:
    """Return the format of a file by its content, else by its name; InputError if there is none."""
    if is_sog_meta(path):
        return FORMATS[".sog"]
    if extension := extension_by_content(path):
        return FORMATS[extension]
    # Also of another name, such as a project of SuperSplat (.ssproj).
    if names := scenes_in(path):
        raise InputError(f"{path} is an archive; extract its scene ({listed(names)}) and pass that")
    if path.is_dir():
        known = [e for f in FORMATS.values() for e in (f.extension, *f.other_extensions)]
        inside = sorted(p.name for p in path.iterdir() if p.name.lower().endswith(tuple(known)))
        found = f", such as {listed(inside)}" if inside else ""
        raise InputError(f"{path} is a folder; pass the scene in it{found}")
    scene_format = format_of(path, "read")
    if not path.is_file():
        raise InputError(f"scene not found: {path}; check the path")
    check_content(path, scene_format.extension)
    return scene_format


def attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian that each attribute takes in a file that was read before.

    For SPZ, whose attributes share one compressed stream, each attribute is compressed alone.
    The result is empty for an empty scene and for formats of unknown sizes.
    """
    path = scene_path(path)
    sizes = _format_in(path).bytes_by_attribute
    return sizes(path, count, sh_degree) if sizes and count else {}
