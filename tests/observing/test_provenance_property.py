"""With the filter silent that a map is said to be from, the map is constant, whatever is computed.

Networks are drawn from every function of ``torch`` and its functional namespace that takes maps.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from filterwatch import mask_filters
from filterwatch.observing import find_layers

IMAGES = 6
Function = Callable[..., Any]

# Leave the process, its settings or its random state in another condition, or take far too long.
NOT_CALLED = ("set_", "manual_seed", "seed", "init", "compile", "load", "save", "fork", "import_ir")


def takes_maps(function: Function, arity: int) -> bool:
    maps = [torch.rand(2, 4, 8, 8) for _ in range(arity)]
    try:
        made = function(*maps)
    except Exception:
        return False
    return is_maps(made[0] if isinstance(made, tuple) else made)


def is_maps(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 4


def functions() -> Iterator[tuple[str, Function, int]]:
    """Yield all functions with as many maps as they take."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module in (F, torch):
            for name in sorted(vars(module)):
                function = getattr(module, name)
                if not callable(function) or isinstance(function, type) or name.startswith("_"):
                    continue
                if any(part in name for part in NOT_CALLED):
                    continue
                for arity in (1, 2):
                    if takes_maps(function, arity):
                        yield name, function, arity


def write_slice(maps: Tensor, other: Tensor) -> Tensor:
    maps[:, 1:3] = other[:, 1:3]
    return maps


def write_canvas(maps: Tensor, other: Tensor) -> Tensor:
    canvas = torch.zeros_like(maps)
    canvas[:, :2] = maps[:, :2]
    canvas[:, 2:, ::2] = other[:, 2:, ::2]
    return canvas


def add_in_view(maps: Tensor, other: Tensor) -> Tensor:
    maps.permute(0, 2, 3, 1)[..., 0] += other[:, 1]
    return maps


OWN: list[tuple[str, Function, int]] = [
    ("write_slice", write_slice, 2),
    ("write_canvas", write_canvas, 2),
    ("add_in_view", add_in_view, 2),
    ("cat", lambda a, b: torch.cat([a, b], 1), 2),
    ("half of each", lambda a, b: torch.cat([a[:, :2], b[:, 2:]], 1), 2),
    ("roll", lambda a: a.roll(1, 1), 1),
    ("sort", lambda a: a.sort(1)[0], 1),
    ("cumsum", lambda a: a.cumsum(1), 1),
    ("lerp", lambda a, b: torch.lerp(a, b, 0.3), 2),
    ("einsum", lambda a: torch.einsum("ij,bjhw->bihw", torch.ones(4, a.shape[1]), a), 1),
    ("by rank", lambda a: a[:, a.mean((0, 2, 3)).argsort()], 1),
    ("by image", lambda a, b: a[:, b.mean((0, 2, 3)).argsort()[: a.shape[1]]], 2),
    ("gather", lambda a: a.gather(1, a.argsort(1)), 1),
    ("gate", lambda a, b: a * b.mean((2, 3), keepdim=True).sigmoid(), 2),
    ("spatial gate", lambda a, b: a * b.mean(1, keepdim=True).sigmoid(), 2),
    ("shift", lambda a, b: a + b.mean(1, keepdim=True), 2),
    ("plus one", lambda a: a + 1, 1),
    ("where", lambda a, b: torch.where(b > 0, a, 0.5), 2),
    ("normalize", lambda a: F.normalize(a), 1),
    ("group norm", lambda a: F.group_norm(a, 1), 1),
    ("layer norm", lambda a: F.layer_norm(a, a.shape[1:]), 1),
    ("pad", lambda a: F.pad(a, (1, 0, 0, 1)), 1),
    ("pad channels", lambda a: F.pad(a, (0, 0, 0, 0, 1, -1)), 1),
    ("pool", lambda a: F.max_pool2d(a, 3, 1, 1), 1),
    ("grow", lambda a: F.interpolate(F.avg_pool2d(a, 2), scale_factor=2), 1),
    ("shuffle", lambda a: F.channel_shuffle(a, 2), 1),
    ("to pixels and back", lambda a: F.pixel_unshuffle(F.pixel_shuffle(a, 2), 2), 1),
    ("turn", lambda a: a.transpose(1, 2), 1),
    ("split", lambda a: torch.cat(a.chunk(2, 1)[::-1], 1), 1),
    ("clamp", lambda a, b: a.clamp(min=b), 2),
]


class RandomNetwork(nn.Module):
    """Two convolutions, and random functions of what there is so far, in-place ones too."""

    def __init__(self, chosen: random.Random, known: list[tuple[str, Function, int]]) -> None:
        super().__init__()
        self.a = nn.Conv2d(4, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.newest, self.other = nn.ReLU(), nn.ELU()
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)
        normalized = ("self.norm", lambda a: self.norm(a), 1)
        pools = (OWN, known, [normalized])
        self.steps = [chosen.choice(chosen.choice(pools)) for _ in range(chosen.randint(1, 5))]
        # Which of the tensors so far, counted from the newest.
        self.given = [(chosen.randrange(3), chosen.randrange(3)) for _ in self.steps]
        self.failing: set[int] = set()
        self.has_run = False

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tensors = [images, self.a(images), self.b(images)]
        for step, (_, function, arity) in enumerate(self.steps):
            if step in self.failing:
                continue
            try:
                made = function(*(tensors[-1 - place] for place in self.given[step][:arity]))
            except Exception:  # of other sizes than it takes
                if self.has_run:  # with a filter silent: a singular matrix, for instance
                    raise
                self.failing.add(step)
                continue
            made = made[0] if isinstance(made, tuple) else made
            if is_maps(made):
                tensors.append(made)
        self.has_run = True
        return self.newest(tensors[-1]), self.other(tensors[-2])


def check(seed: int, known: list[tuple[str, Function, int]]) -> int:
    """Check the sources of one random network; return how many channels were named one."""
    torch.manual_seed(seed)
    model = RandomNetwork(random.Random(seed), known).eval()
    images = torch.randn(IMAGES, 4, 8, 8)
    try:
        model(images)
        layers = find_layers(model, images[:2].clone())
    except (RuntimeError, ValueError):
        return 0  # nothing that runs
    n_named = 0
    sources = {layer.name: layer.sources for layer in layers if layer.name in ("newest", "other")}
    places = [(name, at, source) for name in sources for at, source in enumerate(sources[name])]
    for name, channel, source in places:
        if source is None:
            continue
        try:
            with mask_filters(model, [source], images=images[:2].clone()), torch.no_grad():
                torch.manual_seed(seed)
                maps = model(images.clone())[name == "other"]
        except (RuntimeError, ValueError):
            continue  # not to be silenced alone, or nothing to compute with
        n_named += 1
        spread = (maps[:, channel] - maps[:1, channel]).abs().nan_to_num().max()
        steps = [step for step, _, _ in model.steps]
        assert not spread > 1e-4, (seed, steps, model.given, name, channel, source)
    return n_named


@pytest.fixture(scope="module")
def known() -> list[tuple[str, Function, int]]:
    return list(functions())


def test_enough_functions_are_tried(known: list[tuple[str, Function, int]]) -> None:
    assert len(known) > 150


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_a_map_is_constant_without_its_filter(
    first: int, known: list[tuple[str, Function, int]]
) -> None:
    assert sum(check(seed, known) for seed in range(first, first + 30)) > 30


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 3000, 250))
def test_a_map_is_constant_without_its_filter_in_many_networks(
    first: int, known: list[tuple[str, Function, int]]
) -> None:
    assert sum(check(seed, known) for seed in range(first, first + 250)) > 250
