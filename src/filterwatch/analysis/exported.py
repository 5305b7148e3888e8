"""Exported programs (``torch.export.save``) as modules that can be looked into."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from filterwatch.analysis.errors import InputError

# Operators that behave otherwise while training, with the position of the flag that says so.
_TRAINING_FLAGS = {"batch_norm": 5, "native_batch_norm": 5, "dropout": 2, "native_dropout": 2}


@dataclass(frozen=True)
class ExportedModel:
    """A program, ready to run.

    Attributes:
        module: Its modules under the names that they had before the export.
        batch_size: Images in a batch, where the export fixed it.
        in_channels: Channels of an image, where fixed.
        image_size: Side of an image in pixels, where fixed.
        notes: What the reader of a result should know.
    """

    module: nn.Module
    batch_size: int | None
    in_channels: int | None
    image_size: int | None
    notes: list[str]


def load_exported(path: Path) -> ExportedModel:
    """Load an exported program that the user trusts: loading one can run code.

    Raises:
        InputError: If it cannot be loaded, or does not take images [N, C, H, W] and nothing else.
    """
    try:
        program = torch.export.load(path)
    except Exception as error:  # a damaged archive fails in many ways
        raise InputError(f"{path} cannot be loaded as an exported program: {error}") from error
    shape = _input_shape(path, program)
    batch, channels, height, width = (
        int(size) if isinstance(size, int) else None for size in shape
    )
    if height is not None and width is not None and height != width:
        raise InputError(
            f"{path} takes images of {width}x{height} pixels: only squares are handled"
        )
    notes = []
    if _exported_while_training(program):
        notes.append(
            "the program was exported in training mode, so that its normalisation depends on the "
            "batch: export the model after model.eval()"
        )
    module: nn.Module
    try:
        # Keeps the original modules, and so the names of layers.
        module = torch.export.unflatten(program)
    except Exception as error:  # unflatten is young: a graph without names is still a result
        module = program.module()
        notes.append(f"layers are named by operator: the modules could not be restored ({error})")
    return ExportedModel(module, batch, channels, height if height == width else None, notes)


def _input_shape(path: Path, program: Any) -> tuple[Any, ...]:
    inputs = set(program.graph_signature.user_inputs)
    tensors = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in inputs
    ]
    if len(tensors) != 1 or not isinstance(tensors[0], Tensor) or tensors[0].ndim != 4:
        found = ", ".join(
            str([str(size) for size in value.shape]) if isinstance(value, Tensor) else str(value)
            for value in tensors
        )
        raise InputError(
            f"{path} must take one tensor of images [N, C, H, W], but takes {len(tensors)} inputs: "
            f"{found}"
        )
    return tuple(tensors[0].shape)


def _exported_while_training(program: Any) -> bool:
    for node in program.graph.nodes:
        packet = getattr(node.target, "overloadpacket", None)
        at = None if packet is None else _TRAINING_FLAGS.get(packet.__name__)
        if at is not None and len(node.args) > at and node.args[at] is True:
            return True
    return False
