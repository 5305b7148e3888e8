"""Memory for feature maps, which probes that follow one another use again."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from filterwatch.detection.kernels.cache import Array


class Workspace:
    """Keeps the memory that a probe's maps took on the CPU for the next probe.

    Memory that was given back is cleared by the system before it can be used again, and fetched
    from the host first on many a virtual machine: that can take as long as the rest of a probe. A
    copy of a workspace, and one that was stored, holds nothing.
    """

    def __init__(self) -> None:
        self._arrays: dict[str, Array] = {}

    def __reduce__(self) -> tuple[type[Workspace], tuple[()]]:
        return Workspace, ()

    def empty(self, name: str, shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return a tensor to be filled, on the device of another, in its precision or float32.

        Args:
            name: Whose it is: what was given out under that name before is given out again.
            shape: Its shape.
            like: The other tensor.
        """
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        if like.device.type != "cpu":  # where torch keeps the memory itself
            return torch.empty(shape, dtype=dtype, device=like.device)
        array = self._arrays.get(name)
        precise = np.float64 if dtype == torch.float64 else np.float32
        if array is None or array.shape != shape or array.dtype != precise:
            # NumPy asks the system for huge pages: filling torch's own memory takes longer.
            array = self._arrays[name] = np.empty(shape, precise)
        return torch.from_numpy(array)

    def clear(self) -> None:
        """Give the memory back."""
        self._arrays.clear()
