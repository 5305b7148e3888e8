"""What a batch or an output holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor


def find_logits(output: object) -> Tensor | None:
    """Return the first floating-point [N, classes] in a model's output; "logits" goes first."""
    if isinstance(output, Tensor):
        return output if output.ndim == 2 and output.is_floating_point() else None
    if isinstance(output, Mapping):
        output = [output[key] for key in ("logits",) if key in output] + list(output.values())
    if isinstance(output, Sequence) and not isinstance(output, (str, bytes)):
        return next((found for found in map(find_logits, output) if found is not None), None)
    return None
