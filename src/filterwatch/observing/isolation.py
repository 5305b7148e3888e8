"""Looking at a model without leaving a trace in it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


@contextmanager
def undisturbed(model: nn.Module, *, seed: int = 0) -> Iterator[None]:
    """Hold the model in evaluation mode without gradients, and give it back exactly as it was.

    Restored on the way out, whatever happens inside: each submodule's training flag (a frozen
    BatchNorm stays frozen), every buffer, and the global random state of Python, NumPy and torch.
    Inside, that state is seeded, so that a model that draws at random repeats itself.
    Compiled modules run eagerly inside: their own code would hide the feature maps.
    """
    # Flags are set one by one: train() and eval() may be overridden, and flatten them.
    training = [(module, module.training) for module in model.modules()]
    # TorchScript binds its buffers for good; what a lazy module has not made yet has no values.
    bound = [
        (module, dict(module._buffers))
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
    ]
    buffers = [
        (buffer, buffer._version, buffer.detach().clone())
        for buffer in model.buffers()
        if not is_lazy(buffer)
    ]
    try:
        for module, _ in training:
            module.training = False
        with (
            preserved_random_state(seed),
            torch.no_grad(),
            torch.compiler.set_stance("force_eager"),
        ):
            yield
    finally:
        for module, flag in training:
            module.training = flag
        for module, names in bound:
            module._buffers.update(names)  # `self.steps = self.steps + 1` puts another tensor there
        with torch.no_grad():
            for buffer, version, saved in buffers:
                if buffer.shape != saved.shape:  # resized in place
                    buffer.data = saved
                elif _changed(buffer, version, saved):
                    buffer.copy_(saved)


def _changed(buffer: Tensor, version: int, saved: Tensor) -> bool:
    # Writing to what did not change could break a backward pass that waits for it. Writes through
    # `.data` leave the version as it was.
    if buffer._version != version:
        return True
    return buffer.layout == torch.strided and not torch.equal(buffer, saved)


@contextmanager
def preserved_random_state(seed: int) -> Iterator[None]:
    """Seed the global random state of Python, NumPy and torch, and give it back as it was."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        # All devices are named: left to itself, it warns where there are several.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
