"""Which operators of a forward pass make the maps that the method looks at.

Operators are known by the name that the dispatcher gives them (``aten.relu_`` is ``"relu_"``): one
place for modules, functional calls and exported graphs alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

CONVOLUTION = frozenset({"convolution", "_convolution", "conv2d"})

# The ReLU and its relatives. Gates (sigmoid) are not among them: they scale maps, they make none.
ACTIVATION = frozenset(
    {
        "relu", "relu6", "hardtanh", "leaky_relu", "rrelu", "rrelu_with_noise", "prelu",
        "_prelu_kernel", "elu", "selu", "celu", "gelu", "silu", "mish", "hardswish", "softplus",
        "threshold", "tanh",
    }
)  # fmt: skip

# A dense layer, as the dispatcher runs it.
LINEAR = frozenset({"addmm", "mm", "linear"})

MAX_POOL = frozenset(
    {
        "max_pool2d", "max_pool2d_with_indices", "adaptive_max_pool2d", "fractional_max_pool2d",
    }
)  # fmt: skip

# Scale and shift each channel by parameters of its own. Batch normalization goes by many names.
_NORMALIZATION = frozenset({"native_group_norm", "native_layer_norm"})

# Act on each element by itself.
ELEMENTWISE = ACTIVATION | frozenset(
    {"native_dropout", "dropout", "_to_copy", "clone", "contiguous"}
)

# Act on each channel by itself and may change its height and width.
CHANNELWISE = (
    ELEMENTWISE
    | MAX_POOL
    | frozenset(
        {
            "avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool2d", "mean", "amax",
            "constant_pad_nd", "reflection_pad2d", "replication_pad2d", "upsample_nearest2d",
            "upsample_bilinear2d", "upsample_bicubic2d", "native_group_norm",
        }
    )
)  # fmt: skip

# Move elements to places that they are given as numbers.
INDEXED = frozenset({"index", "index_select"})

_ZERO_FOR_ZERO = CHANNELWISE - {"softplus", "threshold"} | {
    "neg",
    "abs",
    "sqrt",
    "square",
    "sign",
    "sin",
    "maximum",
    "minimum",
    "lerp",
}

# Move elements without computing: what they do to a map they do to the tags of its channels.
MOVEMENT = frozenset(
    {
        "view", "_unsafe_view", "reshape", "permute", "transpose", "slice", "select", "narrow",
        "split", "split_with_sizes", "chunk", "unbind", "cat", "stack", "index", "index_select",
        "unsqueeze", "squeeze", "expand", "flip", "roll", "repeat", "alias", "detach",
        "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "native_channel_shuffle", "flatten",
    }
)  # fmt: skip

# The name that a functional call is shown under, where it differs from the operator's.
_SHOWN = {
    "convolution": "conv2d",
    "_convolution": "conv2d",
    "max_pool2d_with_indices": "max_pool2d",
    "addmm": "linear",
    "mm": "linear",
    "_prelu_kernel": "prelu",
    "rrelu_with_noise": "rrelu",
}


def plain_name(operator: str) -> str:
    """Return an operator's name without the mark of its in-place form: ``relu_`` is ``relu``."""
    return operator[:-1] if operator.endswith("_") and not operator.endswith("__") else operator


def kind_of(name: str) -> str | None:
    """Return ``"convolution"``, ``"activation"`` or ``"max_pool"`` for what makes feature maps.

    ``"linear"`` for a dense layer, ``"normalization"`` for what masking a filter must reach too,
    ``None`` for anything else.
    """
    if name in CONVOLUTION:
        return "convolution"
    if name in LINEAR:
        return "linear"
    if is_batch_norm(name) or name in _NORMALIZATION:
        return "normalization"
    if name in ACTIVATION:
        return "activation"
    return "max_pool" if name in MAX_POOL else None


def is_batch_norm(name: str) -> bool:
    """Return whether an operator is behind ``F.batch_norm`` or ``F.instance_norm``."""
    return "batch_norm" in name


def normalizes_apart(name: str, args: Sequence[Any]) -> bool:
    """Return whether a channel's values depend on no other channel's.

    What is normalized with others depends on them, unless a mask can reach a scale and a shift.
    """
    if name != "native_group_norm":
        return True
    weight, bias, n_channels, n_groups = args[1], args[2], args[4], args[6]
    return n_channels == n_groups or (weight is not None and bias is not None)


def gives_zero_for_zero(name: str, args: Sequence[Any]) -> bool:
    """Return whether an operator is known to make zero of zeros.

    Of a normalization that is what masks see to, which reach its scale and shift.
    """
    if name == "hardtanh" and len(args) > 1:
        return bool(args[1] <= 0 <= args[2])
    if name == "constant_pad_nd":
        return len(args) < 3 or args[2] == 0
    if name in ("add", "sub"):
        return all(isinstance(arg, Tensor) for arg in args[:2])
    return is_batch_norm(name) or name in _ZERO_FOR_ZERO


def functional_name(name: str) -> str:
    """Return how a functional call is named in reports: ``F.relu``, ``F.max_pool2d``."""
    return f"F.{_SHOWN.get(name, name)}"
