"""Test-time optimisation: a few gradient steps on the views that a scene was predicted from."""

from typing import TYPE_CHECKING, Any

from recon.callable_package import make_callable
from recon.optimise.config import OptimiseConfig as OptimiseConfig

if TYPE_CHECKING:
    from recon.optimise.early_stopping import select_num_steps as select_num_steps
    from recon.optimise.loop import OptimiseResult as OptimiseResult
    from recon.optimise.loop import Watch as Watch
    from recon.optimise.loop import optimise as optimise

# `recon.optimise(...)` calls the function `optimise`.
make_callable(__name__)


def __getattr__(name: str) -> Any:
    # The configuration is part of the command line's --help, which must not wait for torch.
    if name == "select_num_steps":
        from recon.optimise import early_stopping

        return early_stopping.select_num_steps
    if name in ("OptimiseResult", "Watch", "optimise"):
        from recon.optimise import loop

        return getattr(loop, name)
    raise AttributeError(f"module 'recon.optimise' has no attribute {name!r}")
