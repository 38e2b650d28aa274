"""`recon data convert` and `recon data render-meshes`: make shards to train from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from recon.cli.arguments import OUTPUT, Arg, UsageError
from recon.errors import MissingDependency
from recon.reporting import say


@dataclass(frozen=True)
class Convert:
    """Convert clips of RealEstate10K and captures to shards (tar files of scenes)."""

    source: Annotated[Path, Arg(positional=True, metavar="FOLDER")]
    """Folder of .torch chunks, of .txt files with frames, or of captures with cameras."""
    output: Annotated[Path, OUTPUT]
    """Folder of shards; the same command goes on where it was interrupted, if FOLDER holds the same
    (.torch chunks may be added). What cannot be used is listed in its skipped.jsonl."""
    side: Annotated[int | None, Arg(metavar="PX")] = None
    """Make images smaller to this shorter side; by default the images of clips stay as they are."""
    quality: int = 95
    """Quality of JPEG images that are written anew."""
    scenes: int = 64
    """Clips or captures in a shard; the clips of a .torch chunk go into one."""
    processes: int = 1
    """Number of processes."""

    def run(self) -> None:
        """Write the shards that are missing, and say what was skipped."""
        _check_minima(side=self.side, quality=self.quality, scenes=self.scenes,
                      processes=self.processes)  # fmt: skip
        try:
            from training.data.shards.convert import convert
            from training.data.shards.pack import ConvertOptions
        except ImportError as error:
            raise _missing("convert", error) from None
        options = ConvertOptions(self.side, self.quality, self.scenes)
        say(convert(self.source, self.output, options, self.processes))


@dataclass(frozen=True)
class RenderMeshes:
    """Render GLB, glTF and OBJ files from many sides to shards (tar files of scenes)."""

    source: Annotated[Path, Arg(positional=True, metavar="FOLDER|LIST")]
    """Folder of mesh files, searched recursively, or a list: a text file with a path a line, or a
    .jsonl file of objects with a path and what else is to be kept, such as author and licence. A
    single mesh file is rendered alone."""
    output: Annotated[Path, OUTPUT]
    """Folder of shards; the same command goes on where it was interrupted, if the meshes are the
    same. Those that cannot be rendered are listed in its skipped.jsonl."""
    views: int = 32
    """Renders of a mesh."""
    size: Annotated[int, Arg(metavar="PX")] = 256
    """Width and height of the renders."""
    cameras: Literal["random", "gs-lrm"] = "random"
    """random: around the whole object, lit by sky and sun; gs-lrm: as GS-LRM renders Objaverse."""
    scenes: int = 64
    """Meshes in a shard."""
    processes: int = 1
    """Number of processes; on a cluster, the number of meshes at a time."""
    timeout: Annotated[float, Arg(metavar="SECONDS")] = 600.0
    """Give up a mesh after this time."""
    ray: Annotated[str | None, Arg(metavar="ADDRESS")] = None
    """Render on a Ray cluster: its address, auto for the one of this machine, or local to start
    one here."""

    def run(self) -> None:
        """Render the meshes that are missing, and list those that cannot be rendered."""
        _check_minima(views=self.views, size=self.size, scenes=self.scenes,
                      processes=self.processes)  # fmt: skip
        if self.timeout <= 0:
            raise UsageError(f"--timeout must be above 0, found {self.timeout:g}")
        try:
            from training.data.shards.render_meshes import RenderOptions, render_meshes
        except ImportError as error:
            raise _missing("render-meshes", error) from None
        options = RenderOptions(self.views, self.size, self.cameras, self.scenes)
        say(
            render_meshes(self.source, self.output, options, self.processes, self.timeout, self.ray)
        )


def _check_minima(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, found {value}")
    if (values.get("quality") or 1) > 100:
        raise UsageError(f"--quality must be at most 100, found {values['quality']}")


def _missing(command: str, error: ImportError) -> MissingDependency:
    return MissingDependency(f"recon data {command}: {error}; pip install 'reconsplat[train]'")
