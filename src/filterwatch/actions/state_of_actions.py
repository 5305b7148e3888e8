"""The actions of one callback: which there can be, and their states in checkpoints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from filterwatch._compat import callbacks_of
from filterwatch.actions.action import Action
from filterwatch.actions.masking import MaskFilters
from filterwatch.actions.wiring import Filter


def checked_actions(action: Action | Sequence[Action] | None) -> list[Action]:
    """Return one action, several, or none as a list.

    Raises:
        TypeError: If something else is among them.
        ValueError: If two of them mask filters.
    """
    actions = [] if action is None else [action] if isinstance(action, Action) else action
    if not isinstance(actions, Sequence) or not all(isinstance(a, Action) for a in actions):
        raise TypeError(
            f"action={action!r} is no Action: pass MaskFilters(...), StopTraining(...), a list "
            "of such, or None"
        )
    if sum(isinstance(action, MaskFilters) for action in actions) > 1:
        raise ValueError("action: two MaskFilters would mask each other's filters; pass one")
    return list(actions)


def action_states(actions: Sequence[Action]) -> dict[str, Any]:
    """Return the states of actions for a checkpoint; nothing where there are none."""
    states = [{"name": type(action).__name__, "state": action.state_dict()} for action in actions]
    return {"actions": states} if states else {}


def load_action_states(actions: Sequence[Action], state_dict: Mapping[str, Any]) -> None:
    """Give each state to the action of its class, masks to the one that masks; warn of others."""
    free = list(actions)
    for place, entry in enumerate(state_dict.get("actions", [])):
        name, state = entry["name"], entry["state"]
        named = (action for action in free if type(action).__name__ == name)
        masking = (action for action in free if isinstance(action, MaskFilters))
        action = next(named, next(masking, None) if "masks" in state else None)
        if action is not None:
            free.remove(action)
            action.load_state_dict(state)
        elif state:
            message = (
                f"the checkpoint has the state of {name} as action {place}, and now there is none: "
                "what it did to the network is no longer kept up"
            )
            if n_masks := len(state.get("masks", [])):
                message += (
                    f". {n_masks} filters that were masked train on from weights of zero; to keep "
                    "them masked, pass action=MaskFilters(...)"
                )
            rank_zero_warn(message)


def refuse_lost_masks(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` if a checkpoint has masks of a callback that the Trainer does not have.

    Their filters are zero in the checkpoint's weights, and would be trained on from there.
    """
    taken_up = {callback.state_key for callback in callbacks_of(trainer)}
    for key, state in checkpoint.get("callbacks", {}).items():
        filters = [] if key in taken_up else list(_masked_filters(state))
        if filters:
            shown = ", ".join(f"{channel} of {layer}" for layer, channel in filters[:4])
            ours = sorted(key for key in taken_up if key.startswith("AnomalyFilterCallback"))
            raise ValueError(
                f"the checkpoint has {len(filters)} masked filters ({shown}"
                f"{', …' if len(filters) > 4 else ''}) of {key}, and no callback here takes them "
                f"up; here are {ours}. Give the AnomalyFilterCallback the prefix that it had, and "
                "the action. To train on without masks, from weights that are zero there, load the "
                "checkpoint's state_dict into the module instead of passing ckpt_path"
            )


def _masked_filters(state: object) -> Iterator[Filter]:
    """Yield the filters that the state of a callback of ours has masked, or is about to mask."""
    for entry in state.get("actions", []) if isinstance(state, Mapping) else []:
        own = entry.get("state", {})
        yield from ((mask["layer"], mask["channel"]) for mask in own.get("masks", []))
        yield from ((layer, channel) for layer, channel in own.get("to_mask", []))
