"""`recon mesh SCENE -o OUT`: a triangle mesh of a scene."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput, UsageError
from recon.cli.outputs import check_outputs
from recon.cli.scene_cameras import SceneCameras, scene_cameras, scene_photos
from recon.reporting import megabytes, prints_json, progress_reporter, report, shown_size

if TYPE_CHECKING:
    from torch import Tensor

    from recon.formats import SceneSource
    from recon.meshing.extract import MeshConfig
    from recon.meshing.triangles import TriangleMesh
    from recon.types import StageProgress
    from render import Gaussians

MIN_FACES = 4


@dataclass(frozen=True)
class Mesh:
    """Make a triangle mesh of a scene."""

    scene: Annotated[Path, POSITIONAL]
    """Scene file ({scene_extensions})."""
    output: Annotated[Path, OUTPUT]
    """Mesh to write; the extension selects the format (.glb, .obj, .ply or .stl)."""
    cameras: Annotated[Path | None, Arg(metavar="CAPTURE")] = None
    """Capture of the scene, or transforms.json (the photos need not exist): the surfaces are those
    that its cameras see. If omitted, the cameras that the file keeps, or guessed ones."""
    faces: Annotated[int | None, Arg(metavar="N")] = None
    """Maximum number of triangles [default: no limit]."""
    watertight: bool = False
    """Close the surface, for printing and for physics: what no camera sees closely behind a surface
    is solid."""
    collision: bool = False
    """Close the surface and also write convex parts of it, for physics in game engines: nodes mesh
    and UCX_mesh_00, UCX_mesh_01, ... in one .glb, without colours. --faces is 2,000 if omitted."""
    texture: Annotated[int | None, Arg(metavar="PX")] = None
    """Give the mesh a texture of this size instead of colours of vertices (.glb and .obj): made
    from the photos of --cameras, or from the scene without photos. --faces is 50,000 if omitted."""
    vertex_colors: bool = True
    """Colours of the vertices (not in .stl)."""
    resolution: Annotated[int, Arg(metavar="PX")] = 512
    """Length of the longer side of the depth maps in pixels."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings and errors only."""
    json: JsonOutput = None
    """Print the result as one JSON object instead of a summary line, or write it to FILE."""

    def run(self) -> None:
        """Check the options, make the mesh, and write it."""
        from recon.config import ViewConfig
        from recon.formats import open_scene
        from recon.formats.y_up import up_axis
        from recon.meshing.extract import check_libraries, extract_mesh
        from recon.meshing.files import mesh_writer, write_mesh

        started = time.perf_counter()
        mesh_writer(self.output, several=self.collision)
        ViewConfig(resolution=self.resolution)
        if self.faces is not None and self.faces < MIN_FACES:
            raise UsageError(f"--faces must be at least {MIN_FACES}, found {self.faces}")
        outputs = {"-o": self.output, "--json": self.json}
        if self.texture is not None:
            outputs |= self._check_texture()
        check_outputs(outputs, inputs=[self.scene, self.cameras], force=self.force)
        check_libraries(self.watertight or self.collision, self.collision, self.texture is not None)
        source = open_scene(self.scene)
        gaussians = source.load()
        found, photos = self._cameras(source, gaussians, outputs)
        cameras = found.cameras
        config = self._config()
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            mesh = extract_mesh(gaussians, cameras, config, source.antialiased, progress, photos)
            parts = self._parts(mesh, progress)
            up = source.up_axis() if self.cameras is None else up_axis(cameras)
            write_mesh(self.output, mesh, source.origin, parts, up)
        summary = {
            "output": str(self.output),
            "vertices": len(mesh.vertices),
            "faces": len(mesh.faces),
            "watertight": config.watertight,
            "convex_parts": len(parts),
            "texture": self.texture and ("photos" if photos else "scene"),
            "cameras": len(cameras),
            "known_cameras": found.known,
            "megabytes": round(megabytes(self.output), 3),
            "seconds": round(time.perf_counter() - started, 2),
        }
        painted = f", texture from the {summary['texture']}" if self.texture else ""
        convex = f" and {len(parts)} convex parts" if parts else ""
        line = (
            f"wrote {self.output}: {len(mesh.faces):,} triangles{convex} from "
            f"{found}{painted}, "
            f"{shown_size(megabytes(self.output))}, {summary['seconds']:.1f} s"
        )
        report(line, summary, self.json, self.quiet)

    def _cameras(
        self, source: "SceneSource", gaussians: "Gaussians", outputs: "dict[str, Path | None]"
    ) -> "tuple[SceneCameras, list[Tensor] | None]":
        """Return the cameras, and the photos [4 h w] of the first ones, for the texture."""
        import torch

        from recon.meshing.texture import IMAGE_PX

        views = None
        if self.texture is not None:
            views = scene_photos(source, self.cameras, IMAGE_PX, outputs, self.force)
        if views is None:
            size = self.resolution
            return scene_cameras(source, gaussians, self.cameras, size, outputs, self.force), None
        small = views.cameras.reduced(self.resolution)
        cameras = SceneCameras.of([small[[i]] for i in range(len(small))], "photos")
        return cameras, list(torch.cat([views.images, views.masks], 1))

    def _check_texture(self) -> dict[str, Path | None]:
        """Check the options for a texture; return the files that it is written to, if any."""
        from recon.files import check_output
        from recon.meshing.files import obj_companions
        from recon.meshing.texture import check_texture_size

        assert self.texture is not None
        check_texture_size(self.texture)
        suffix = self.output.suffix.lower()
        if self.collision or suffix not in (".glb", ".obj"):
            found = "--collision" if self.collision else str(self.output)
            raise UsageError(
                f"--texture needs an output .glb or .obj, and no --collision, found {found}"
            )
        if suffix == ".glb":
            return {}
        check_output(self.output)  # before its links are followed
        material, image = obj_companions(self.output)
        return {"material of -o": material, "texture of -o": image}

    def _config(self) -> "MeshConfig":
        from recon.meshing.convex import COLLISION_FACES
        from recon.meshing.extract import MeshConfig
        from recon.meshing.texture import TEXTURE_FACES

        faces = self.faces
        if faces is None and (self.collision or self.texture is not None):
            faces = COLLISION_FACES if self.collision else TEXTURE_FACES
        colors = self.vertex_colors and not self.collision
        colors = colors and self.output.suffix.lower() != ".stl"
        return MeshConfig(faces, self.watertight or self.collision, colors, self.texture)

    def _parts(self, mesh: "TriangleMesh", progress: "StageProgress") -> "list[TriangleMesh]":
        """Return the convex parts for --collision."""
        from recon.meshing.convex import convex_parts

        if not self.collision:
            return []
        progress("splitting into convex parts", 0.0)
        parts = convex_parts(mesh)
        progress("splitting into convex parts", 1.0)
        return parts
