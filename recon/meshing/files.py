"""Mesh files: PLY, OBJ, STL and glTF, in the world frame of the scene."""

import struct
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from jaxtyping import Float

from recon.errors import ConfigError
from recon.files import atomic_output, check_output
from recon.formats.y_up import Up
from recon.meshing.gltf_file import texture_png, write_glb
from recon.meshing.triangles import TriangleMesh
from recon.precision import WORLD, Origin

# Material of an OBJ with a texture.
MATERIAL = "newmtl texture\nKa 0 0 0\nKd 1 1 1\nKs 0 0 0\nillum 1\nmap_Kd {image}\n"


def write_mesh(
    path: Path,
    mesh: TriangleMesh,
    origin: Origin,
    parts: Sequence[TriangleMesh] = (),
    up: Up = "-y",
) -> None:
    """Write a mesh in the format of the extension, completely or not at all.

    Args:
        path: File to write.
        mesh: The mesh, relative to the origin.
        origin: World coordinates of that point.
        parts: Further meshes beside it, only in .glb.
        up: Axis of the scene that points up, which becomes +y in .glb; the other formats have the
            axes of the scene.

    Raises:
        ConfigError: The extension is unknown.
        InputError: The file cannot be written.
    """
    write = mesh_writer(path, several=bool(parts))
    extension = path.suffix.lower()
    # All are written before the first is renamed; the last one is the file that names the others.
    with ExitStack() as outputs:
        temporary = outputs.enter_context(atomic_output(path))
        if extension == ".glb":
            write_glb(temporary, [mesh, *parts], origin, up)
            return
        write(temporary, mesh, origin)
        if extension == ".obj" and mesh.texture is not None:
            material, image = obj_companions(path)
            for beside in (material, image):
                check_output(beside)
            material_text = MATERIAL.format(image=image.name)
            outputs.enter_context(atomic_output(material)).write_text(material_text, "utf-8")
            outputs.enter_context(atomic_output(image)).write_bytes(texture_png(mesh.texture))


def mesh_writer(path: Path, several: bool = False) -> Callable[[Path, TriangleMesh, Origin], None]:
    """Return the writer of an extension; ConfigError if it cannot hold a mesh, or several."""
    found = WRITERS.get(path.suffix.lower())
    if found is None:
        raise ConfigError(
            f"output has an unknown extension: {path}; expected one of: {', '.join(WRITERS)}",
            "output",
        )
    if several and path.suffix.lower() != ".glb":
        raise ConfigError(f"convex parts need the extension .glb, found {path}", "output")
    return found


def _world(mesh: TriangleMesh, origin: Origin) -> Float[np.ndarray, "n 3"]:
    return np.asarray(mesh.vertices.astype(np.float64) + origin)


def _bytes(colors: Float[np.ndarray, "n 3"]) -> np.ndarray:
    return np.asarray(np.rint(255 * np.clip(colors, 0, 1)), np.uint8)


def _write_ply(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write binary PLY with 8-bit colours; positions of float64 far from the origin."""
    name, kind = ("float", "<f4") if origin == WORLD else ("double", "<f8")
    layout: list[tuple[str, str, int]] = [("positions", kind, 3)]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    header += [f"property {name} {axis}" for axis in "xyz"]
    if mesh.colors is not None:
        header += [f"property uchar {color}" for color in ("red", "green", "blue")]
        layout.append(("colors", "u1", 3))
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices"]
    vertices = np.zeros(len(mesh.vertices), layout)
    vertices["positions"] = _world(mesh, origin)
    if mesh.colors is not None:
        vertices["colors"] = _bytes(mesh.colors)
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    with path.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        file.write(vertices.tobytes())
        file.write(faces.tobytes())


def _write_stl(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write binary STL, which has neither colours nor float64."""
    corners = _world(mesh, origin)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    rows = np.zeros(len(corners), [("values", "<f4", (4, 3)), ("attribute", "<u2")])
    rows["values"] = np.concatenate([normals[:, None], corners], 1)
    path.write_bytes(b"recon".ljust(80) + struct.pack("<I", len(rows)) + rows.tobytes())


def _write_obj(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write OBJ as text, with colours after the coordinates, as MeshLab and Blender read them."""
    positions = _world(mesh, origin)
    with path.open("w", encoding="utf-8") as file:
        if mesh.uv is not None:
            file.write(f"mtllib {path.with_suffix('.mtl').name}\n")
        file.write(f"o {mesh.name}\n")
        if mesh.colors is None:
            np.savetxt(file, positions, "v %.10g %.10g %.10g")
        else:
            rows = np.concatenate([positions, np.clip(mesh.colors, 0, 1)], 1)
            np.savetxt(file, rows, "v %.10g %.10g %.10g %.4f %.4f %.4f")
        if mesh.uv is None:
            np.savetxt(file, mesh.faces + 1, "f %d %d %d")
        else:
            # OBJ counts from the bottom of the image.
            np.savetxt(file, np.stack([mesh.uv[:, 0], 1 - mesh.uv[:, 1]], 1), "vt %.7f %.7f")
            file.write("usemtl texture\n")
            np.savetxt(file, np.repeat(mesh.faces + 1, 2, 1), "f %d/%d %d/%d %d/%d")


def obj_companions(path: Path) -> tuple[Path, Path]:
    """Return the files that an OBJ with a texture has beside it: material and image.

    If the path is a symbolic link, they are beside the file that it points to, which names them.
    """
    target = path.resolve()
    return target.with_suffix(".mtl"), target.with_suffix(".png")


def _write_glb(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    write_glb(path, [mesh], origin)


# Extension -> writer to a temporary path.
WRITERS: dict[str, Callable[[Path, TriangleMesh, Origin], None]] = {
    ".glb": _write_glb, ".obj": _write_obj, ".ply": _write_ply, ".stl": _write_stl,
}  # fmt: skip
