"""How the kernels are compiled, where compiled code is kept, and how it is spread over threads.

Numba keeps compiled code beside this package; in the user's cache folder where the package cannot
be written to; or in the folder that the environment variable ``NUMBA_CACHE_DIR`` names. Where it
can write to none of them it refuses to decorate functions, and the package could not be imported:
this module, which every kernel imports, then gives it a folder for the time of the process.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numba
import torch
from numpy.typing import NDArray

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

# Reassociation and fused multiply-adds let reductions vectorize. Infinities stay what they are.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp", "afn"}
LARGEST_CHUNK = 8  # problems in a range at most; fewer where threads would run dry


def kernel(function: Function) -> Function:
    """Compile a function that Python calls."""
    compiled: Function = numba.njit(cache=True, fastmath=FAST_MATH, nogil=True)(function)
    return compiled


def kernel_part(function: Function) -> Function:
    """Compile a function as a part of the kernels that call it; Python cannot.

    Every kernel is compiled in one piece: where a part stays a function of its own, the process
    that compiles runs a copy that was optimized alone, which rounds differently.
    """
    compiled: Function = numba.njit(
        fastmath=FAST_MATH,
        nogil=True,
        forceinline=True,
        # What Python would need to call it takes as long to compile as the part itself.
        no_cpython_wrapper=True,
        no_cfunc_wrapper=True,
    )(function)
    return compiled


def spread(
    work: Callable[[int, int], None],
    n_problems: int,
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Call ``work(first, stop)`` for ranges that cover the problems, in as many threads as torch.

    Args:
        work: Does the problems ``first`` … ``stop`` - 1, and releases the interpreter's lock. What
            a problem's result is must not depend on the range that it falls into.
        n_problems: Number of problems.
        on_progress: Called from this thread with the number of problems done, all before it too.
    """
    threads = torch.get_num_threads()
    chunk = max(1, min(LARGEST_CHUNK, n_problems // (4 * threads)))
    starts = range(0, n_problems, chunk)

    def run(first: int) -> int:
        stop = min(first + chunk, n_problems)
        work(first, stop)
        return stop

    def follow(finished: Iterable[int]) -> None:  # an error in one of the ranges is raised here
        for stop in finished:
            if on_progress is not None:
                on_progress(stop)

    if threads == 1 or len(starts) < 2:
        follow(map(run, starts))
    else:
        with ThreadPoolExecutor(threads) as pool:
            follow(pool.map(run, starts))


def folder_to_fill(compiled: Any) -> str | None:
    """Return where a kernel will be kept, or ``None`` if it is compiled or kept there already."""
    if compiled.signatures:
        return None
    try:
        kept, folder = compiled._cache._cache_file._load_index(), compiled._cache.cache_path
    except AttributeError:  # another version of numba
        return None
    return None if kept else str(folder)


def cache_setting() -> dict[str, str]:
    """Return the environment that makes another process keep compiled code where this one does."""
    return {"NUMBA_CACHE_DIR": numba.config.CACHE_DIR} if numba.config.CACHE_DIR else {}


def ensure_cache_folder() -> None:
    """Let numba keep compiled code in a temporary folder if it has no other; warn about that."""
    try:
        numba.njit(cache=True)(folder_to_fill)  # any function of this package; none is compiled
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        folder = tempfile.mkdtemp(prefix="filterwatch-compiled-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        numba.config.CACHE_DIR = folder
        warnings.warn(
            "filterwatch compiles its kernels in each process again, which takes some 15 "
            "seconds: neither the package's folder nor the user's cache folder can be written to. "
            "Set the environment variable NUMBA_CACHE_DIR to a folder that can",
            stacklevel=2,
        )


ensure_cache_folder()
