"""Where compiled code is kept, and whether there is any yet.

Numba keeps it beside this package; in the user's cache folder where the package cannot be written
to; or in the folder that the environment variable ``NUMBA_CACHE_DIR`` names. Where it can write to
none of them it refuses to decorate functions, and the package could not be imported: importing
this module first, as the package does, gives it a folder for the time of the process.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from typing import Any

import numba


def ensure_cache_folder() -> None:
    """Let numba keep compiled code in a temporary folder if it has no other; warn about that."""
    try:
        numba.njit(cache=True)(_anything)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        folder = tempfile.mkdtemp(prefix="filterwatch-compiled-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        numba.config.CACHE_DIR = folder
        warnings.warn(
            "filterwatch compiles its clustering in each process again, which takes some 30 "
            "seconds: neither the package's folder nor the user's cache folder can be written to. "
            "Set the environment variable NUMBA_CACHE_DIR to a folder that can",
            stacklevel=2,
        )


def compilation_note(kernel: Any) -> str | None:
    """Return in words that a kernel is about to be compiled, or ``None`` if it is there already.

    Args:
        kernel: What ``numba.njit(cache=True)`` made of a function.
    """
    if kernel.signatures:
        return None
    try:
        kept, folder = kernel._cache._cache_file._load_index(), kernel._cache.cache_path
    except AttributeError:  # another version of numba
        return None
    if kept:
        return None
    return (
        f"compiling the clustering, which takes some 30 seconds, once on a machine: it is kept in "
        f"{folder}"
    )


def _anything() -> None:
    """Stand for a function of this package."""


ensure_cache_folder()
