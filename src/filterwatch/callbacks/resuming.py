"""What a resumed run may take over: counts only of the same settings, masks in any case."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from lightning.pytorch import Trainer

from filterwatch.detection import AnomalyCriteria

# What decides which samples a probe has, and what decides how they are counted.
SAMPLE_SETTINGS = ("probe_size", "seed")
COUNT_SETTINGS = ("probe_size", "seed", "layers", "criteria", "max_clusters", "pca", "votes")


def plain_settings(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the callback's settings that its counts depend on, as plain values."""
    settings = {name: arguments[name] for name in COUNT_SETTINGS}
    layers, criteria = settings["layers"], settings["criteria"]
    settings["layers"] = None if layers is None else list(layers)
    settings["criteria"] = asdict(criteria) if isinstance(criteria, AnomalyCriteria) else criteria
    return settings


def changed_settings(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that differ, in words; those that were not saved are taken for equal."""
    return {
        name: f"{name}={value!r} was {saved[name]!r}"
        for name, value in now.items()
        if name in saved and saved[name] != value
    }


def refuse_lost_masks(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Raise if a checkpoint has masks of a callback that the Trainer does not have.

    Their filters are zero in the checkpoint's weights, and would be trained on from there.

    Args:
        trainer: The Trainer, whose fit is about to go on.
        checkpoint: The whole checkpoint.

    Raises:
        ValueError: With the remedy.
    """
    taken_up = {callback.state_key for callback in trainer.callbacks}  # type: ignore[attr-defined]
    for key, state in checkpoint.get("callbacks", {}).items():
        filters = [] if key in taken_up else list(_masked_filters(state))
        if filters:
            shown = ", ".join(f"{channel} of {layer}" for layer, channel in filters[:4])
            raise ValueError(
                f"the checkpoint has {len(filters)} masked filters ({shown}"
                f"{', …' if len(filters) > 4 else ''}) of {key}, and no callback here takes them "
                f"up; here are {sorted(key for key in taken_up if _is_ours(key))}. Give the "
                "AnomalyFilterCallback the prefix that it had, and the action. To train on without "
                "masks, from weights that are zero there, load the checkpoint's state_dict into "
                "the module instead of passing ckpt_path"
            )


def _is_ours(key: str) -> bool:
    return key.startswith("AnomalyFilterCallback")


def _masked_filters(state: object) -> Iterator[tuple[str, int]]:
    """Yield the filters that the state of a callback of ours has masked, or is about to mask."""
    actions = state.get("actions", []) if isinstance(state, Mapping) else []
    for entry in actions:
        own = entry.get("state", {})
        for mask in own.get("masks", []):
            yield mask["layer"], mask["channel"]
        yield from ((layer, channel) for layer, channel in own.get("to_mask", []))
