"""OpenUSD (usd-core): imported where it is needed, quiet, and kept to the file it is given."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from recon.errors import InputError, MissingDependency, listed
from recon.files import temporary_folder
from recon.formats.usd_crate import check_sizes

MODULES = ("Gf", "Sdf", "Tf", "Usd", "UsdGeom", "UsdUtils", "UsdVol", "Vt")
# Letters of an error of the library that are repeated.
MAX_CAUSE = 200
# Layers of a package that are followed.
MAX_LAYERS = 1000


def load_usd(path: Path) -> Any:
    """Return the modules of `pxr`.

    Args:
        path: File to read or write, for the message.

    Raises:
        MissingDependency: It is not installed, or older than the schema of Gaussians.
    """
    try:
        import importlib

        modules = {name: importlib.import_module(f"pxr.{name}") for name in MODULES}
        modules["UsdVol"].ParticleField3DGaussianSplat  # noqa: B018
    except (ImportError, AttributeError):
        raise MissingDependency(
            f"{path} is USD, which needs OpenUSD 26.3 or newer: pip install 'reconsplat[usd]'"
        ) from None
    return SimpleNamespace(**modules)


@contextlib.contextmanager
def reading(pxr: Any, path: Path) -> Iterator[None]:
    """Turn the errors of USD into InputError, and drop its messages on standard error."""
    delegate = pxr.UsdUtils.CoalescingDiagnosticDelegate()
    try:
        yield
    except (pxr.Tf.ErrorException, RuntimeError, ValueError, UnicodeError) as error:
        raise InputError(f"{path} is damaged: {_cause(error)}") from None
    finally:
        delegate.TakeUncoalescedDiagnostics()


@contextlib.contextmanager
def writing(pxr: Any) -> Iterator[None]:
    """Turn the errors of USD while it writes into OSError, and drop its messages."""
    delegate = pxr.UsdUtils.CoalescingDiagnosticDelegate()
    try:
        yield
    except (pxr.Tf.ErrorException, RuntimeError) as error:
        raise OSError(_cause(error)) from None
    finally:
        delegate.TakeUncoalescedDiagnostics()


def _cause(error: Exception) -> str:
    """Return what an error of USD says, without its line in the source of the library."""
    try:
        text = str(error)
    except UnicodeError:
        # It quotes bytes of the file.
        text = ""
    quoted = text.rpartition(" : '")[2].strip().removesuffix("'")
    return " ".join(quoted.split())[:MAX_CAUSE] or "USD cannot read it"


def open_stage(pxr: Any, path: Path, extension: str) -> Any:
    """Open a stage of a file alone; a .usdz may consist of several layers.

    Args:
        pxr: The library.
        path: File to open.
        extension: What the file is; the library goes by names.

    Raises:
        InputError: The file is damaged, or refers to other files.
    """
    check_sizes(path, extension)
    if path.suffix.lower() == extension:
        return _stage(pxr, path, path.resolve())
    with temporary_folder() as folder:
        link = folder / f"scene{extension}"
        link.symlink_to(path.resolve())
        return _stage(pxr, path, link)


def _stage(pxr: Any, path: Path, file: Path) -> Any:
    root = _layer(pxr, str(file))
    if root is None:
        raise InputError(f"{path} is damaged: it is no layer of USD")
    package = f"{root.realPath}[" if root.GetFileFormat().IsPackage() else None
    seen, pending = {root.identifier}, [root]
    while pending:
        layer = pending.pop()
        for name in _references(layer):
            target = layer.ComputeAbsolutePath(name)
            if package is None or not target.startswith(package) or ".." in target:
                raise InputError(
                    f"{path} refers to other files ({listed([name])}), which recon does not "
                    "follow; pass the layer with the Gaussians, or flatten it: usdcat --flatten"
                )
            found = _layer(pxr, target)
            if found is not None and target not in seen and len(seen) < MAX_LAYERS:
                seen.add(target)
                pending.append(found)
    return pxr.Usd.Stage.Open(root, pxr.Sdf.Layer.CreateAnonymous())


def _layer(pxr: Any, identifier: str) -> Any:
    """Open a layer as the file is now: the library keeps layers that are in use."""
    known = pxr.Sdf.Layer.Find(identifier)
    if known is not None:
        known.Reload(True)
        return known
    return pxr.Sdf.Layer.FindOrOpen(identifier)


def _references(layer: Any) -> list[str]:
    """Return the names of all layers that a layer refers to, also in value clips."""
    names = set(layer.GetCompositionAssetDependencies()) | set(layer.GetExternalAssetDependencies())

    def visit(path: Any) -> None:
        if path.IsPrimPath() or path.IsPrimVariantSelectionPath():
            spec = layer.GetPrimAtPath(path)
            if spec is not None and spec.HasInfo("clips"):
                names.add(f"clips of {path}")

    layer.Traverse("/", visit)
    return sorted(name for name in names if name)
