"""Ranges of problems over threads: each problem once, errors raised, progress in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from filterwatch.detection.kernels import compiled
from filterwatch.detection.kernels.compiled import spread


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_problems", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("largest_chunk", [1, 8])
def test_every_problem_is_done_once(
    threads: int, n_problems: int, largest_chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "LARGEST_CHUNK", largest_chunk)
    done: list[int] = []
    lock = threading.Lock()

    def work(first: int, stop: int) -> None:
        assert 1 <= stop - first <= largest_chunk
        with lock:
            done.extend(range(first, stop))

    spread(work, n_problems)
    assert sorted(done) == list(range(n_problems))


def test_no_more_threads_than_torch_has(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LARGEST_CHUNK", 1)
    seen: set[int] = set()
    spread(lambda first, stop: seen.add(threading.get_ident()), 64)
    assert len(seen) <= threads
    assert (seen == {threading.get_ident()}) == (threads == 1)


def test_an_error_in_one_range_is_raised(threads: int) -> None:
    def work(first: int, stop: int) -> None:
        if first <= 37 < stop:
            raise FloatingPointError("problem 37")

    with pytest.raises(FloatingPointError, match="problem 37"):
        spread(work, 50)


def test_progress_is_told_in_order_from_the_calling_thread(threads: int) -> None:
    told: list[int] = []

    def follow(n_done: int) -> None:
        assert threading.current_thread() is threading.main_thread()
        told.append(n_done)

    spread(lambda first, stop: None, 50, follow)
    assert told == sorted(told)
    assert told[-1] == 50
