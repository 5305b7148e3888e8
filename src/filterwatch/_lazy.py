"""Packages whose names are imported when they are first used (PEP 562)."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module


def lazy_names(
    package: str, **modules: Sequence[str]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package, and set its ``__all__``.

    Call it where a type checker does not look, beside the imports that it does look at::

        if TYPE_CHECKING:
            from filterwatch.models.networks import LeNet5 as LeNet5
        else:
            __getattr__, __dir__ = lazy_names(__name__, networks=["LeNet5"])
    """
    home = {name: module for module, names in modules.items() for name in names}

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{home[name]}"), name)
        setattr(sys.modules[package], name, value)  # found without a call from now on
        return value

    vars(sys.modules[package])["__all__"] = sorted(home)
    return get, lambda: sorted(home)
