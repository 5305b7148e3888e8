"""Finding a model's convolutions, activations and max-pools, and catching what they put out.

A forward pass is observed at the dispatcher, operator by operator, while forward hooks keep track
of the module that is running. So one mechanism serves modules and functional calls, and catches
each map before an in-place activation overwrites it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from filterwatch.batches import channels_last_remedy, find_images
from filterwatch.observing.isolation import preserved_random_state, undisturbed
from filterwatch.observing.operators import functional_name, kind_of, plain_name
from filterwatch.observing.provenance import Provenance

Forward = Callable[[Any], object]
MapConsumer = Callable[[str, Tensor], None]
# A layer's name and its number of channels.
Output = tuple[str, int]


@dataclass(frozen=True)
class Layer:
    """One place in the forward pass that puts out feature maps.

    Attributes:
        name: Its name in reports: the module's, with ``#2`` for the second call of the same module;
            ``block.F.relu`` for a functional call in the module ``block``.
        module_name: The module's name, or that of the module around a functional call.
        kind: ``"convolution"``, ``"activation"`` or ``"max_pool"``.
        sources: For each channel the convolution filter behind it as (module name, index), or
            ``None`` where there is no single one.
        map_bytes: Memory that the layer's maps take for one sample, in float32 or better.
    """

    name: str
    module_name: str
    kind: str
    sources: list[tuple[str, int] | None]
    map_bytes: int


class Masks(Protocol):
    """Masks on a model's filters, which can be lifted for a while."""

    @property
    def filters(self) -> Collection[tuple[str, int]]:
        """The masked filters, as (module name, index)."""

    def lifted(self) -> AbstractContextManager[None]:
        """Hold the model as it would be without any of the masks, and put them back."""


class Listener(Protocol):
    """Follows forward passes beside whoever asked for feature maps; see `observe`."""

    def operation(self, operation: Operation) -> None:
        """Look at what an operator put out: maps [B, C, h, w], or units [B, U] of dense layers."""

    def end_batch(self, batch: Any, output: object) -> None:
        """Look at a batch that has gone through, and at what the forward pass returned."""


class NetworkChangedError(RuntimeError):
    """A network runs other layers than when they were found."""


def find_layers(
    model: nn.Module,
    batch: Any,
    *,
    layers: Sequence[str] | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> list[Layer]:
    """Return the layers that `detect_anomaly_filters` would look at, in forward order.

    Args:
        model: The network. It comes back exactly as it went in.
        batch: Images [B, C, H, W], or whatever ``forward`` takes; one or two samples are enough.
        layers: See `detect_anomaly_filters`.
        forward: How a batch goes through the model.
        seed: Seed of whatever the model draws.

    Raises:
        ValueError: If the model has no 2-D convolution, or a pattern matches no layer; the message
            lists the names.
    """
    return survey(model, batch, layers=layers, forward=forward, seed=seed)[0]


def survey(
    model: nn.Module,
    batch: Any,
    *,
    layers: Sequence[str] | None = None,
    forward: Forward | None = None,
    seed: int = 0,
) -> tuple[list[Layer], list[Output]]:
    """Return what `find_layers` does, and what all layers put out, wanted or not, in order."""
    outputs: list[Output] = []
    found: dict[str, Layer] = {}
    provenance = Provenance([*model.parameters(), *model.buffers()])

    def remember(operation: Operation) -> None:
        if operation.kind != "normalization":
            outputs.append((operation.layer_name, operation.maps.shape[1]))
        if operation.kind == "convolution":
            provenance.record_convolution(operation.owner, operation.maps)
        elif operation.kind == "normalization" or not provenance.tracks(operation.maps):
            return
        found[operation.layer_name] = Layer(
            name=operation.layer_name,
            module_name=operation.module_name,
            kind=operation.kind,
            sources=provenance.sources(operation.maps),
            map_bytes=operation.maps[0].numel() * max(operation.maps.element_size(), 4),
        )

    with undisturbed(model, seed=seed), observed(model, remember, provenance):
        (forward or default_forward(model))(batch)
    if not any(layer.kind == "convolution" for layer in found.values()):
        raise ValueError(
            f"{type(model).__name__} ran no 2-D convolution: anomaly filters are defined on the "
            "feature maps [B, C, h, w] of convolutional networks"
        )
    return _select(list(found.values()), layers), outputs


def observe(
    model: nn.Module,
    batches: Iterable[Any],
    consume: MapConsumer,
    *,
    layers: Iterable[Layer] | None = None,
    masks: Masks | None = None,
    forward: Forward | None = None,
    seed: int = 0,
    outputs: Sequence[Output] | None = None,
    listener: Listener | None = None,
) -> None:
    """Send batches through a model and hand feature maps over, as soon as they exist.

    Where filters are masked, each batch goes through twice: with all masks lifted, for the maps of
    masked filters, and as the model is, for those of all others: these are what the model works
    with. A masked map is what the whole model without masks makes of the batch: a mask upstream of
    it is lifted too.

    Args:
        model: The network. It comes back exactly as it went in.
        batches: What goes through it.
        consume: Called with a layer's name and its maps [B, C, h, w], which it must not keep: an
            in-place activation may overwrite them right after.
        layers: The layers whose maps are wanted, as `find_layers` returns them. Default: all, with
            those that no convolution comes before.
        masks: Masks on filters of ``layers``, as `mask_filters` returns them.
        forward: How a batch goes through the model. Default: its images, on the model's device.
        seed: Seed of whatever the model draws.
        outputs: What all layers put out when ``layers`` were found, to be compared with what they
            put out for the first batch.
        listener: Follows the passes of the model as it is, dense layers included.

    Raises:
        NetworkChangedError: If that differs.
    """
    run = forward or default_forward(model)
    masked = set(masks.filters) if masks is not None else set()
    wanted = None if layers is None else {layer.name: layer for layer in layers}
    channels = {
        name: [at for at, source in enumerate(layer.sources) if source in masked]
        for name, layer in (wanted or {}).items()
    }
    unmasked: dict[str, Tensor] = {}
    expected = None if outputs is None else iter(outputs)

    def compare(output: Output | None) -> None:
        """Compare with what comes next; ``None`` is the end."""
        if expected is not None and next(expected, None) != output:
            raise NetworkChangedError("the network runs other layers than when they were found")

    def keep(operation: Operation) -> None:
        if channels.get(operation.layer_name):  # a copy: an in-place activation may follow
            unmasked[operation.layer_name] = operation.maps[:, channels[operation.layer_name]]

    def hand_over(operation: Operation) -> None:
        name, maps = operation.layer_name, operation.maps
        if listener is not None:
            listener.operation(operation)
        if operation.kind == "normalization" or maps.ndim != 4:
            return
        compare((name, maps.shape[1]))
        if not (wanted is None or name in wanted):
            return
        if name in unmasked:
            index = torch.tensor(channels[name], device=maps.device)
            maps = maps.index_copy(1, index, unmasked.pop(name))
        consume(name, maps)

    def go_through(batch: Any) -> None:
        nonlocal expected
        with observed(model, hand_over, units=listener is not None):
            output = run(batch)
        compare(None)
        expected = None  # of one batch is enough
        if listener is not None:
            listener.end_batch(batch, output)

    if masks is None or not masked:
        with undisturbed(model, seed=seed):
            for batch in batches:
                go_through(batch)
        return
    with preserved_random_state(seed):  # which iterating a DataLoader draws from
        for batch in batches:
            # Both passes draw the same numbers.
            with masks.lifted(), undisturbed(model, seed=seed), observed(model, keep):
                run(batch)
            with undisturbed(model, seed=seed):
                go_through(batch)


def default_forward(model: nn.Module) -> Forward:
    """Return the forward pass of a batch's images on the device of the model's parameters."""
    reference = next(iter(model.parameters()), None)

    def forward(batch: Any) -> object:
        images = find_images(batch)
        if reference is not None:
            images = images.to(reference.device, non_blocking=True)
        try:
            return model(images)
        except RuntimeError as error:
            remedy = channels_last_remedy(images)
            if remedy is None or type(error) is not RuntimeError:
                raise
            raise ValueError(
                f"{type(model).__name__} does not take the images: {remedy}"
            ) from error

    return forward


def eager_name(name: str) -> str:
    """Return the name that a module, parameter or buffer has when nothing is compiled."""
    return name.replace("_orig_mod.", "").removesuffix("_orig_mod").rstrip(".")


def _select(found: list[Layer], patterns: Sequence[str] | None) -> list[Layer]:
    if patterns is None:
        return found
    patterns = [patterns] if isinstance(patterns, str) else patterns
    names = ", ".join(layer.name for layer in found)
    if not patterns:
        raise ValueError(
            f"layers={patterns!r} names none: leave it out, or give patterns for some of: {names}"
        )

    def matches(layer: Layer, pattern: str) -> bool:
        return fnmatchcase(layer.name, pattern) or fnmatchcase(layer.module_name, pattern)

    for pattern in patterns:
        if not any(matches(layer, pattern) for layer in found):
            raise ValueError(f"layers: the pattern {pattern!r} matches none of: {names}")
    return [layer for layer in found if any(matches(layer, pattern) for pattern in patterns)]


@dataclass(frozen=True)
class Operation:
    """An operator that ran, with its place in the model.

    Attributes:
        kind: What `kind_of` calls it.
        layer_name: The name that reports show it under; a normalization has none. Maps and units
            are counted apart: a module that serves both gives either the same names.
        module_name: The running module's name.
        owner: The name of the module that holds the filters, of a convolution.
        maps: What it put out: maps [B, C, h, w], units [B, U] of a dense layer, or anything if it
            is a normalization.
        args: What it was given.
    """

    kind: str
    layer_name: str
    module_name: str
    owner: str | None
    maps: Tensor
    args: Sequence[Any]


@contextmanager
def observed(
    model: nn.Module,
    consume: Callable[[Operation], None],
    provenance: Provenance | None = None,
    *,
    units: bool = False,
) -> Iterator[None]:
    """Call ``consume`` for every convolution, activation and max-pool with 4-D output.

    And for every normalization, which puts out no maps of its own; with ``units`` also for every
    dense layer and activation with 2-D output. ``provenance`` follows every operator where it is
    given.
    """
    running = _RunningModules(model)
    try:
        with _Observer(running, consume, provenance, units):
            yield
    finally:
        running.detach()


class _RunningModules:
    """Knows which of a model's modules is running, by forward hooks."""

    def __init__(self, model: nn.Module) -> None:
        names = {module: eager_name(name) for name, module in model.named_modules()}
        self._stack: list[tuple[str, nn.Module]] = [("", model)]
        self._owners = {
            id(parameter): names[module]
            for module in names
            for parameter in module.parameters(recurse=False)
        }
        self._handles = []
        for module, name in names.items():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks: what runs in it is the work of the module around it
            self._handles.append(module.register_forward_pre_hook(self._enter(name)))
            self._handles.append(module.register_forward_hook(self._leave, always_call=True))

    @property
    def name(self) -> str:
        return self._stack[-1][0]

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()

    def locate(self, kind: str, operator: str, args: Sequence[Any]) -> tuple[str, str | None]:
        """Return the layer's name, and the owner of the filters."""
        name, module = self._stack[-1]
        functional = functional_name(operator)
        joined = f"{name}.{functional}" if name else functional
        if kind == "convolution":
            owner = self._owners.get(id(args[1]))
            if owner is None and isinstance(module, nn.Conv2d):
                owner = name  # the filters are computed from parameters, or were cast
            return (joined if owner is None else owner or functional), owner
        is_leaf = next(module.children(), None) is None
        if is_leaf and name and (operator == "_prelu_kernel" or not _has_filters(module)):
            return name, None
        return joined, None

    def _enter(self, name: str) -> Callable[[nn.Module, Any], None]:
        return lambda module, inputs: self._stack.append((name, module))

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._stack.pop()


class _Observer(TorchDispatchMode):
    def __init__(
        self,
        running: _RunningModules,
        consume: Callable[[Operation], None],
        provenance: Provenance | None,
        units: bool,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        self._running = running
        self._consume = consume
        self._provenance = provenance
        self._units = units
        # Counted apart, so that layers with maps have the same names whoever looks at the others.
        self._calls: dict[int, Counter[str]] = {4: Counter(), 2: Counter()}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        operator = plain_name(func.overloadpacket.__name__)
        if self._provenance is not None:
            self._provenance.record(operator, func, args, kwargs, output)
        kind = kind_of(operator)
        maps = output[0] if isinstance(output, tuple) else output
        if kind is None or not isinstance(maps, Tensor):
            return output
        if kind == "normalization":
            self._consume(Operation(kind, "", self._running.name, None, maps, args))
        elif maps.ndim == 4 or (self._units and maps.ndim == 2):
            layer, owner = self._running.locate(kind, operator, args)
            calls = self._calls[maps.ndim]
            calls[layer] += 1
            numbered = layer if calls[layer] == 1 else f"{layer}#{calls[layer]}"
            self._consume(Operation(kind, numbered, self._running.name, owner, maps, args))
        return output


def _has_filters(module: nn.Module) -> bool:
    weights = [getattr(module, "weight", None), *module.parameters(recurse=False)]
    return any(isinstance(weight, Tensor) and weight.ndim > 2 for weight in weights)
