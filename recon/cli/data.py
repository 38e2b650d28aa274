"""`recon data convert` and `recon data render-meshes`: make shards to train from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from recon.cli.arguments import OUTPUT, Arg
from recon.errors import InputError, MissingDependency
from recon.reporting import say


@dataclass(frozen=True)
class Convert:
    """Convert clips of RealEstate10K and captures to shards (tar files of scenes)."""

    source: Annotated[Path, Arg(positional=True, metavar="FOLDER")]
    """Folder of .torch chunks, of .txt files with frames, or of captures with cameras."""
    output: Annotated[Path, OUTPUT]
    """Folder of shards; what is missing of an interrupted call is added."""
    side: Annotated[int | None, Arg(metavar="PX")] = None
    """Make images smaller to this shorter side; by default the images of clips stay as they are."""
    quality: int = 95
    """Quality of JPEG images that are written anew."""
    scenes: int = 64
    """Scenes in a shard; the clips of a .torch chunk go into one."""
    processes: int = 1
    """Number of processes."""

    def run(self) -> None:
        """Write the shards that are missing, and say what was skipped."""
        _check_minima(side=self.side, quality=self.quality, scenes=self.scenes,
                      processes=self.processes)  # fmt: skip
        try:
            from training.data.shards.convert import ConvertOptions, convert
        except ImportError as error:
            raise _missing("convert", error) from None
        options = ConvertOptions(self.side, self.quality, self.scenes)
        say(convert(self.source, self.output, options, self.processes))


def _check_minima(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, found {value}")
    if (values.get("quality") or 1) > 100:
        raise InputError(f"--quality must be at most 100, found {values['quality']}")


def _missing(command: str, error: ImportError) -> MissingDependency:
    return MissingDependency(f"recon data {command}: {error}; pip install 'reconsplat[train]'")
