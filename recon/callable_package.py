"""Packages that can be called like the public function that they are named after."""

import inspect
import sys
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package `recon.NAME` whose function NAME is what calling the package calls.

    The library has functions `recon.simplify`, `recon.optimise` and `recon.compress`, and packages
    of the same names that implement them. Python binds the attribute of `recon` to the package as
    soon as anything imports it; being callable, the package is as good as the function.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function that the package is named after."""
        return self._function(*args, **kwargs)

    @property
    def _function(self) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)


def make_callable(name: str) -> None:
    """Make the package of that full name callable."""
    sys.modules[name].__class__ = CallablePackage
