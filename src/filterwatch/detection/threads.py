"""Compiled work spread over torch's number of threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def spread(work: Callable[[int, int], None], n_problems: int, *, largest_chunk: int = 8) -> None:
    """Call ``work(first, stop)`` for ranges that cover the problems, in as many threads as torch.

    What a problem's result is must not depend on the range that it falls into.

    Args:
        work: Does the problems ``first`` … ``stop`` - 1; releases the interpreter's lock.
        n_problems: Number of problems.
        largest_chunk: Most problems in a range; fewer where threads would run dry.
    """
    threads = torch.get_num_threads()
    chunk = max(1, min(largest_chunk, n_problems // (4 * threads)))
    ranges = [(first, min(first + chunk, n_problems)) for first in range(0, n_problems, chunk)]
    if threads == 1 or len(ranges) < 2:
        for first, stop in ranges:
            work(first, stop)
        return
    with ThreadPoolExecutor(threads) as pool:
        # A list, so that an error of one is raised here.
        list(pool.map(lambda bounds: work(*bounds), ranges))
