"""Compiled work spread over torch's number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

LARGEST_CHUNK = 8  # problems in a range at most; fewer where threads would run dry


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
    ranges = [(first, min(first + chunk, n_problems)) for first in range(0, n_problems, chunk)]

    def run(bounds: tuple[int, int]) -> int:
        work(*bounds)
        return bounds[1]

    def follow(finished: Iterator[int]) -> None:  # an error in one of the ranges is raised here
        for stop in finished:
            if on_progress is not None:
                on_progress(stop)

    if threads == 1 or len(ranges) < 2:
        follow(map(run, ranges))
    else:
        with ThreadPoolExecutor(threads) as pool:
            follow(pool.map(run, ranges))
