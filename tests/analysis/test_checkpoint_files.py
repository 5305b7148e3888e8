"""Files of weights: what is read, and what is refused."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from filterwatch.analysis.model_files import Checkpoint, InputError, read_checkpoint

WEIGHTS = {"layer.weight": torch.ones(2, 3), "layer.bias": torch.zeros(2)}


@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model"])
def test_weights_are_found_alone_and_beside_other_things(key: str | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(WEIGHTS if key is None else {"epoch": 3, key: WEIGHTS}, path)
    found = read_checkpoint(path)
    assert isinstance(found, Checkpoint)
    assert found.kind == "state_dict"
    assert list(found.weights) == list(WEIGHTS)


def test_a_lightning_checkpoint_brings_its_hyperparameters(checkpoint: Path) -> None:
    found = read_checkpoint(checkpoint)
    assert isinstance(found, Checkpoint)
    assert found.kind == "Lightning checkpoint"
    assert found.hyperparameters["network"] == "simple_cnn"


def test_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(WEIGHTS, path)
    found = read_checkpoint(path)
    assert isinstance(found, Checkpoint)
    assert torch.equal(found.weights["layer.weight"], WEIGHTS["layer.weight"])
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be loaded as safetensors"):
        read_checkpoint(path)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.marker,)


def save_pickle(data: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(data, protocol=2))


@pytest.mark.parametrize("save", [torch.save, save_pickle])
def test_code_in_a_checkpoint_does_not_run(save: Any, tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.ckpt", tmp_path / "it-ran"
    save({"state_dict": WEIGHTS, "extra": Payload(str(marker))}, path)
    with pytest.raises(InputError, match="--trust"):
        read_checkpoint(path)
    assert not marker.exists()


def test_a_pickled_module_needs_trust(tmp_path: Path) -> None:
    path = tmp_path / "module.pt"
    torch.save(nn.Conv2d(1, 2, 3), path)
    with pytest.raises(InputError, match=r"Conv2d.*--trust"):
        read_checkpoint(path)
    assert isinstance(read_checkpoint(path, trust=True), nn.Conv2d)


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "text.pt"
    path.write_text("not a checkpoint")
    for trust in (False, True):
        with pytest.raises(InputError, match=r"text\.pt"):
            read_checkpoint(path, trust=trust)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="cannot be loaded"):
        read_checkpoint(path)
    torch.save({"epoch": 3, "lr": 0.1}, path)
    with pytest.raises(InputError, match="holds no weights, but a mapping with the keys 'epoch'"):
        read_checkpoint(path)
    torch.save(torch.ones(3), path)
    with pytest.raises(InputError, match="holds no weights, but a Tensor"):
        read_checkpoint(path)


def test_kinds_are_told_apart_by_content(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_checkpoint(tmp_path / "absent.ckpt")
    with pytest.raises(InputError, match="is a folder"):
        read_checkpoint(tmp_path)
    module = nn.Sequential(nn.Conv2d(1, 2, 3))
    exported = tmp_path / "program.dat"
    torch.export.save(torch.export.export(module, (torch.rand(2, 1, 8, 8),)), exported)
    for trust in (False, True):
        with pytest.raises(InputError, match=r"torch\.export.* give the state_dict .*--model"):
            read_checkpoint(exported, trust=trust)
    plain, old = tmp_path / "weights.pt2", tmp_path / "old.pt"
    torch.save(module.state_dict(), plain)
    torch.save(module.state_dict(), old, _use_new_zipfile_serialization=False)
    for path in (plain, old):
        assert isinstance(read_checkpoint(path), Checkpoint)
