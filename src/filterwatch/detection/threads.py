"""Compiled work spread over torch's number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch


def spread(
    work: Callable[[int, int], None],
    n_problems: int,
    *,
    largest_chunk: int = 8,
    tell: Callable[[int], None] | None = None,
) -> None:
    """Call ``work(first, stop)`` for ranges that cover the problems, in as many threads as torch.

    What a problem's result is must not depend on the range that it falls into.

    Args:
        work: Does the problems ``first`` … ``stop`` - 1; releases the interpreter's lock.
        n_problems: Number of problems.
        largest_chunk: Most problems in a range; fewer where threads would run dry.
        tell: Called from this thread with the number of problems done, all before it too.
    """
    threads = torch.get_num_threads()
    chunk = max(1, min(largest_chunk, n_problems // (4 * threads)))
    ranges = [(first, min(first + chunk, n_problems)) for first in range(0, n_problems, chunk)]

    def run(bounds: tuple[int, int]) -> int:
        work(*bounds)
        return bounds[1]

    if threads == 1 or len(ranges) < 2:
        _tell_all(map(run, ranges), tell)
    else:
        with ThreadPoolExecutor(threads) as pool:
            _tell_all(pool.map(run, ranges), tell)


def _tell_all(finished: Iterator[int], tell: Callable[[int], None] | None) -> None:
    """Run through the ranges as they finish; what went wrong in one is raised here."""
    for stop in finished:
        if tell is not None:
            tell(stop)
