"""`recon mesh SCENE -o OUT`: a triangle mesh of a scene."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from recon.cli.arguments import OUTPUT, POSITIONAL, Arg, JsonOutput
from recon.cli.outputs import check_outputs
from recon.cli.scene_cameras import scene_cameras
from recon.errors import ConfigError
from recon.reporting import megabytes, prints_json, progress_reporter, report, shown_size

if TYPE_CHECKING:
    from recon.meshing.extract import MeshConfig
    from recon.meshing.triangles import TriangleMesh
    from recon.types import StageProgress

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
            raise ConfigError(f"faces must be at least {MIN_FACES}, got {self.faces}", "faces")
        outputs = {"-o": self.output, "--json": self.json}
        check_outputs(outputs, inputs=[self.scene, self.cameras], force=self.force)
        check_libraries(self.watertight or self.collision, self.collision)
        source = open_scene(self.scene)
        gaussians = source.load()
        cameras = scene_cameras(
            source, gaussians, self.cameras, self.resolution, outputs, self.force
        )
        config = self._config()
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            mesh = extract_mesh(gaussians, cameras, config, source.antialiased, progress)
            parts = self._parts(mesh, progress)
            up = source.up_axis() if self.cameras is None else up_axis(cameras)
            write_mesh(self.output, mesh, source.origin, parts, up)
        summary = {
            "output": str(self.output),
            "vertices": len(mesh.vertices),
            "faces": len(mesh.faces),
            "watertight": config.watertight,
            "convex_parts": len(parts),
            "cameras": len(cameras),
            "megabytes": round(megabytes(self.output), 3),
            "seconds": round(time.perf_counter() - started, 2),
        }
        convex = f" and {len(parts)} convex parts" if parts else ""
        line = (
            f"wrote {self.output}: {len(mesh.faces):,} triangles{convex} from "
            f"{len(cameras)} cameras, "
            f"{shown_size(megabytes(self.output))}, {summary['seconds']:.1f} s"
        )
        report(line, summary, self.json, self.quiet)

    def _config(self) -> "MeshConfig":
        from recon.meshing.convex import COLLISION_FACES
        from recon.meshing.extract import MeshConfig

        faces = COLLISION_FACES if self.collision and self.faces is None else self.faces
        colors = self.vertex_colors and not self.collision
        colors = colors and self.output.suffix.lower() != ".stl"
        return MeshConfig(faces, self.watertight or self.collision, colors)

    def _parts(self, mesh: "TriangleMesh", progress: "StageProgress") -> "list[TriangleMesh]":
        """Return the convex parts for --collision."""
        from recon.meshing.convex import convex_parts

        if not self.collision:
            return []
        progress("splitting into convex parts", 0.0)
        parts = convex_parts(mesh)
        progress("splitting into convex parts", 1.0)
        return parts
