"""Simplification of scenes: pruning, merging, and ordering by importance."""

from typing import TYPE_CHECKING, Any

from recon.callable_package import make_callable
from recon.simplify.config import SimplifyConfig as SimplifyConfig

if TYPE_CHECKING:
    from recon.simplify.decimation import contribution as contribution
    from recon.simplify.decimation import importance_order as importance_order
    from recon.simplify.decimation import simplify as simplify
    from recon.simplify.decimation import simplify_indexed as simplify_indexed

# `recon.simplify(...)` calls the function `simplify`.
make_callable(__name__)


def __getattr__(name: str) -> Any:
    # The configuration is part of the command line's --help, which must not wait for torch.
    if name in ("contribution", "importance_order", "simplify", "simplify_indexed"):
        from recon.simplify import decimation

        return getattr(decimation, name)
    raise AttributeError(f"module 'recon.simplify' has no attribute {name!r}")
