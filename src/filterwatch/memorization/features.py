"""A layer's knowledge of an image in a few numbers: mean and maximum of each map, or its units."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch.batches import find_labels, find_logits, logit_candidates
from filterwatch.observing import (
    Forward,
    Operation,
    Provenance,
    default_forward,
    observed,
    undisturbed,
)

# An activation takes the place of the layer whose output it is given.
_WEIGHTED = ("convolution", "linear")
# Marks units of a module that puts out maps in other calls.
_DENSE = " (dense)"


@dataclass(frozen=True)
class DecodedLayer:
    """A hidden layer whose knowledge of labels is measured.

    Attributes:
        name: Its name in reports: that of the activation where one follows directly.
        kind: ``"convolution"``, ``"activation"`` or ``"linear"``.
        n_channels: Its number of channels, or of units.
    """

    name: str
    kind: str
    n_channels: int


@dataclass(frozen=True)
class BatchFeatures:
    """What a batch of B samples left behind, on the CPU.

    Attributes:
        layers: Layer name to its features, float32 [B, 2C]: means and maxima of its maps; [B, U] of
            a dense layer.
        logits: What the network put out, float32 [B, classes]; ``None`` where that is no logits.
        labels: Class of each, int64 [B]; ``None`` where the batch has none.
    """

    layers: dict[str, Tensor]
    logits: Tensor | None
    labels: Tensor | None


def find_decoded_layers(
    model: nn.Module,
    batch: Any,
    *,
    layers: Sequence[str] | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> list[DecodedLayer]:
    """Return the hidden layers that memorization is measured in, in forward order.

    Every convolution, dense layer and activation behind one; where an activation follows directly
    (or behind a normalization), it speaks for its layer. Pools add nothing to mean and maximum. The
    layer that puts out the logits, or a last one as wide as they are, is the output itself. A dense
    layer that runs at every position, as in a transformer, is among them, but cannot be decoded:
    `HeldOut` says so.

    Args:
        model: The network. It comes back exactly as it went in.
        batch: One or two samples.
        layers: Glob patterns over layer or module names; ``None`` takes all.
        forward: How a batch goes through the model.
        seed: Seed of whatever the model draws.

    Raises:
        ValueError: If the model has no 2-D convolution, or no hidden layer matches.
    """
    provenance = Provenance()
    rows: list[tuple[Operation, Tensor]] = []  # with what it put out
    # Which row a tensor is the output of, normalized, and its version: `out += x` makes another.
    behind: dict[int, tuple[Tensor, int, int]] = {}
    positionwise: set[tuple[int, int]] = set()  # shapes that dense layers at every position put out
    names_of_maps: set[str] = set()
    replaced: set[int] = set()
    n_samples = 0

    def remember(operation: Operation) -> None:
        nonlocal n_samples
        kind, maps = operation.kind, operation.maps
        given = operation.args[0] if operation.args else None
        source = behind.get(id(given))
        if source is not None and source[0]._version != source[2]:
            source = None
        if maps.ndim == 4:
            names_of_maps.add(operation.layer_name)
        if kind == "convolution":
            provenance.record_convolution(operation.owner, maps)
            n_samples = n_samples or len(maps)
        elif kind == "normalization":
            if source is not None:
                behind[id(maps)] = maps, source[1], maps._version
            return
        elif kind == "max_pool" or not (source or kind in _WEIGHTED or provenance.tracks(maps)):
            return
        if kind == "activation" and (maps.shape[:-1].numel(), maps.shape[-1]) in positionwise:
            return  # what looks like maps [B, C, h, w] has its channels last
        if kind == "activation" and source is not None:
            replaced.add(source[1])
        if kind == "linear" and n_samples not in (0, len(maps)):
            positionwise.add((len(maps), maps.shape[1]))
        elif kind in _WEIGHTED:
            behind[id(maps)] = maps, len(rows), maps._version
        rows.append((operation, maps))

    with (
        undisturbed(model, seed=seed),
        observed(model, remember, provenance, units=True),
    ):
        output = (forward or default_forward(model))(batch)
    found = [row for at, row in enumerate(rows) if at not in replaced]
    logits = _logits(output, n_samples)
    # One of several may be the logits, though nothing tells which: what was put out last is output.
    outputs = logit_candidates(output, n_samples) if logits is None else [logits]
    if outputs and found:
        are_logits = [
            at for at, (_, maps) in enumerate(found) if any(maps is each for each in outputs)
        ]
        if are_logits or found[-1][1].shape[1] in [each.shape[1] for each in outputs]:
            found.pop(*are_logits[-1:])
    if not n_samples:
        raise ValueError(
            f"{type(model).__name__} ran no 2-D convolution: memorization is measured in "
            "convolutional networks"
        )
    patterns = ["*"] if layers is None else layers
    every, wanted = [], []
    for operation, maps in found:
        name = operation.layer_name
        if maps.ndim == 2 and name in names_of_maps:  # a module may serve both
            name += _DENSE
        every.append(name)
        places = (name, operation.module_name)
        if any(fnmatchcase(place, pattern) for place in places for pattern in patterns):
            wanted.append(DecodedLayer(name, operation.kind, maps.shape[1]))
    if not every:
        raise ValueError(f"{type(model).__name__} has no hidden layer: its output alone")
    if not wanted:
        raise ValueError(f"layers={layers!r} matches no hidden layer of: {', '.join(every)}")
    return wanted


@dataclass
class FeatureListener:
    """Reads features off forward passes; a `filterwatch.observing.Listener`.

    Args:
        layers: Names of the layers.
        consume: Called with the features of each batch.
    """

    layers: Collection[str]
    consume: Callable[[BatchFeatures], None]
    _gathered: dict[str, Tensor] = field(default_factory=dict)
    _n_samples: int = 0

    def operation(self, operation: Operation) -> None:
        """Reduce what a layer puts out at once: an in-place operation may overwrite it."""
        name, maps = operation.layer_name, operation.maps
        if operation.kind == "normalization":
            return
        if operation.kind == "convolution":
            self._n_samples = self._n_samples or len(maps)
        if maps.ndim == 2:
            dense = name + _DENSE
            name = dense if dense in self.layers else name
            if name in self._gathered:  # of maps, in a call of the same module
                return
        if name in self.layers and self._n_samples in (0, len(maps)):
            self._gathered[name] = features_of(maps)

    def end_batch(self, batch: Any, output: object) -> None:
        """Hand over the features of a batch."""
        gathered, self._gathered = self._gathered, {}
        n_samples, self._n_samples = self._n_samples, 0
        logits = _logits(output, n_samples)
        self.consume(
            BatchFeatures(
                layers={name: value.cpu() for name, value in gathered.items()},
                logits=None if logits is None else logits.detach().float().cpu(),
                labels=_on_cpu(find_labels(batch, n_samples)),
            )
        )


def features_of(maps: Tensor) -> Tensor:
    """Return mean and maximum of each map [B, C, h, w] as [B, 2C]; units [B, U] as they are."""
    if maps.ndim == 2:
        return maps.float().clone()
    if maps.shape[2:].numel() == 1:
        return maps.flatten(1).float().clone()
    return torch.cat([maps.mean((2, 3), dtype=torch.float32), maps.amax((2, 3)).float()], 1)


def joined(batches: Sequence[BatchFeatures]) -> BatchFeatures:
    """Return the features of several batches as those of one.

    What one of them lacks, or has for another number of samples, is left out.
    """
    names = batches[0].layers if batches else {}
    widths = {
        name: {batch.layers[name].shape[1] if name in batch.layers else 0 for batch in batches}
        for name in names
    }
    return BatchFeatures(
        layers={
            name: torch.cat([batch.layers[name] for batch in batches])
            for name in names
            if len(widths[name]) == 1
        },
        logits=_all_or_none([batch.logits for batch in batches]),
        labels=_all_or_none([batch.labels for batch in batches]),
    )


def _logits(output: object, n_samples: int) -> Tensor | None:
    """Return the logits [N, K] in what a module returned; [N, 1] of a single one, [N]."""
    if isinstance(output, Tensor) and output.shape == (n_samples,) and output.is_floating_point():
        return output.unsqueeze(1)
    return find_logits(output, n_samples)


def _all_or_none(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present and len(present) == len(parts) else None


def _on_cpu(labels: Tensor | None) -> Tensor | None:
    return None if labels is None else labels.detach().cpu()
