"""Reading a file of weights without running code that is hidden in it."""

from __future__ import annotations

import ast
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor, nn

from filterwatch._checks import check_channels, check_optional_integer
from filterwatch.datamodules import Preprocessing
from filterwatch.detection import AnomalyCriteria, check_detection

# Where training scripts put the weights, beside the optimizer and the rest; tried in this order.
_WEIGHT_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "weights")


class InputError(ValueError):
    """A file, a folder or an argument cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class WatchedFit:
    """What an `AnomalyFilterCallback` that measured memorization left in a checkpoint."""

    history: list[dict[str, Any]]  # of the epochs in which it did
    losses: dict[str, list[tuple[int, float]]]  # metric to epochs and values


# Those of the arguments of `detect_anomaly_filters` that verdicts depend on, beside the criteria.
DETECTION = ("max_clusters", "pca", "votes")


@dataclass(frozen=True)
class Settings:
    """What verdicts depend on."""

    criteria: AnomalyCriteria = field(default_factory=AnomalyCriteria)
    max_clusters: int = 14
    pca: Literal["filter", "layer"] = "filter"
    votes: int = 0


@dataclass(frozen=True)
class RunSettings(Settings):
    """What an `AnomalyFilterCallback` judged a run by, as it left it in a checkpoint."""

    prefix: str = ""  # tells callbacks apart


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file, and what a Lightning checkpoint says of their training."""

    kind: Literal["Lightning checkpoint", "state_dict", "pickled module"]
    weights: dict[str, Tensor]  # by the names in the file, on the CPU
    hyperparameters: dict[str, Any] = field(default_factory=dict)  # of the LightningModule
    preprocessing: Preprocessing | None = None  # of the images; our datamodules keep it
    watched: WatchedFit | None = None
    settings: list[RunSettings] = field(default_factory=list)  # of each callback that watched


def read_checkpoint(path: Path, *, trust: bool = False) -> Checkpoint | nn.Module:
    """Read weights from a checkpoint, a plain ``state_dict`` or a safetensors file.

    With ``trust`` whatever the file holds is unpickled, which can run any code, and a file that
    holds a whole module gives that module.

    Raises:
        InputError: If the file cannot be read, holds no weights, or, while not trusted, holds more
            than tensors and plain values.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {what}: give the file of a checkpoint")
    if path.suffix == ".safetensors":
        return Checkpoint("state_dict", _read_safetensors(path))
    if _is_program(path):
        raise InputError(
            f"{path} is a program of TorchScript or torch.export, and cannot be looked into: "
            "give the state_dict of the model that it was made from, and --model SOURCE/NAME"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust:
            raise InputError(f"{path} is damaged, or no checkpoint: {error}") from error
        raise InputError(
            f"{path} is damaged, no checkpoint, or holds more than tensors and plain values, "
            f"which could run code when loaded ({_refused(error)}). If you know where it comes "
            "from, say --trust"
        ) from error
    except (RuntimeError, EOFError, OSError, AttributeError, ImportError, ValueError) as error:
        raise InputError(f"{path} cannot be loaded as a checkpoint: {error}") from error
    return content if isinstance(content, nn.Module) else _checkpoint(path, content)


def _is_program(path: Path) -> bool:
    """Judge by what lies beside the weights in an archive; nothing is loaded."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = {name.rpartition("/")[2] for name in archive.namelist()}
    signs = {"constants.pkl", "archive_format", "serialized_exported_program.json"}
    return not names.isdisjoint(signs)


def _checkpoint(path: Path, content: object) -> Checkpoint:
    found = f"a {type(content).__name__}"
    if isinstance(content, Mapping):
        if _are_weights(content):
            return Checkpoint("state_dict", dict(content))
        for key in _WEIGHT_KEYS:
            weights = content.get(key)
            if isinstance(weights, nn.Module):
                weights = weights.state_dict()
            if not _are_weights(weights):
                continue
            if "pytorch-lightning_version" not in content:
                return Checkpoint("state_dict", dict(weights))
            return Checkpoint(
                "Lightning checkpoint",
                dict(weights),
                dict(content.get("hyper_parameters", {})),
                _recorded_preprocessing(content),
                _watched_fit(content),
                list(_run_settings(content)),
            )
        found = f"a mapping with the keys {', '.join(map(repr, list(content)[:8]))}"
    raise InputError(
        f"{path} holds no weights, but {found}: expected a Lightning checkpoint, or a state_dict, "
        f"alone or under one of the keys {', '.join(_WEIGHT_KEYS)}"
    )


def _recorded_preprocessing(content: Mapping[Any, Any]) -> Preprocessing | None:
    """Return what a datamodule of ours left, under whatever name its class has."""
    for state in content.values():
        recorded = state.get("preprocessing") if isinstance(state, Mapping) else None
        if not isinstance(recorded, Mapping):
            continue
        size = recorded.get("image_size")
        try:
            mean, std = (tuple(map(float, recorded[name])) for name in ("mean", "std"))
            check_optional_integer("image_size", size, 1, "the size of the images")
            check_channels("mean", mean, len(std), positive=False)
            check_channels("std", std, len(mean), positive=True)
        except (KeyError, TypeError, ValueError):
            continue
        return Preprocessing(size, mean, std)
    return None


def _callback_states(content: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield prefix and state of each `AnomalyFilterCallback` in a Lightning checkpoint."""
    states = content.get("callbacks")
    for key, state in states.items() if isinstance(states, Mapping) else ():
        name, brace, arguments = str(key).partition("{")
        if name == "AnomalyFilterCallback" and brace and isinstance(state, Mapping):
            try:
                prefix = ast.literal_eval(brace + arguments)["prefix"]
            except (ValueError, SyntaxError, KeyError, TypeError):  # of another version
                prefix = ""
            yield str(prefix), state


def _run_settings(content: Mapping[Any, Any]) -> Iterator[RunSettings]:
    for prefix, state in _callback_states(content):
        try:
            settings = state["settings"]
            criteria = AnomalyCriteria(**settings["criteria"])
            found = {name: settings[name] for name in DETECTION}
            check_detection(None, criteria, **found, seed=0, batch_size=1, memory_budget=1)
        except (KeyError, TypeError, ValueError):  # of another version
            continue
        yield RunSettings(criteria, **found, prefix=prefix)


def _watched_fit(content: Mapping[Any, Any]) -> WatchedFit | None:
    for _, state in _callback_states(content):
        try:
            history = [
                entry
                for entry in state.get("history", [])
                if {"epoch", "memorization", "memorization_errors"} <= entry.keys()
            ]
            losses = {
                name: [(int(epoch), float(value)) for epoch, value in curve]
                for name, curve in state.get("curves", {}).items()
                if "loss" in name.lower()
            }
        except (AttributeError, TypeError, ValueError):  # of another making
            continue
        if history:
            return WatchedFit(history, losses)
    return None


def _are_weights(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    # Modules may keep other state than tensors in a state_dict ("_extra_state").
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(
            isinstance(key, str) and (isinstance(value, Tensor) or key.endswith("_extra_state"))
            for key, value in content.items()
        )
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            f"{path} needs the package safetensors: pip install safetensors"
        ) from error
    try:
        return dict(load_file(path))
    except Exception as error:  # its own exception type is not public in every version
        raise InputError(f"{path} cannot be loaded as safetensors: {error}") from error


def _refused(error: Exception) -> str:
    """Return the line of torch's long message that says what it refused."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "nsupported" in line]
    return (telling or lines or ["no reason given"])[0].split(". ")[0][:200]
