"""`ActionList`: the actions of one callback, called as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn
from rich.console import RenderableType
from torch.optim import Optimizer

from filterwatch.actions.action import Action, Watch
from filterwatch.actions.mask_action import MaskFilters
from filterwatch.actions.masks import FilterMasks
from filterwatch.detection import AnomalyReport


class ActionList:
    """Calls actions in order.

    Args:
        action: One action, several, or none.

    Raises:
        TypeError: If something else is among them.
        ValueError: If two of them mask filters.
    """

    def __init__(self, action: Action | Sequence[Action] | None = None) -> None:
        actions = [] if action is None else [action] if isinstance(action, Action) else action
        if not isinstance(actions, Sequence) or not all(isinstance(a, Action) for a in actions):
            raise TypeError(
                f"action={action!r} is no Action: pass MaskFilters(...), StopTraining(...), a list "
                "of such, or None"
            )
        if sum(isinstance(action, MaskFilters) for action in actions) > 1:
            raise ValueError("action: two MaskFilters would mask each other's filters; pass one")
        self._actions = list(actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions)

    def __len__(self) -> int:
        return len(self._actions)

    @property
    def masks(self) -> FilterMasks | None:
        """The masks on the network, if an action makes any."""
        return next((action.masks for action in self if action.masks is not None), None)

    def check(self, trainer: Trainer) -> None:
        """Refuse a Trainer that one of them cannot work with."""
        for action in self:
            action.check(trainer)

    def start(self, watch: Watch, *, resumed: bool) -> None:
        """Prepare all of them, when training starts."""
        for action in self:
            action.start(watch, resumed=resumed)

    def on_epoch_start(self, watch: Watch) -> None:
        """Carry out what was decided at the end of the epoch before."""
        for action in self:
            action.on_epoch_start(watch)

    def on_before_step(self, optimizer: Optimizer) -> None:
        """Show all of them the gradients before they are clipped."""
        for action in self:
            action.on_before_step(optimizer)

    def judge(self, watch: Watch, report: AnomalyReport, epoch: int) -> None:
        """Let all of them decide what to do about a report."""
        for action in self:
            action.judge(watch, report, epoch)

    def events(self, epoch: int) -> list[str]:
        """Return what happened in an epoch, a line each."""
        return [line for action in self for line in action.events(epoch)]

    def end(self) -> None:
        """Let go of the fit."""
        for action in self:
            action.end()

    def metrics(self) -> dict[str, float]:
        """Return what to log at the end of each epoch, by name."""
        return {name: value for action in self for name, value in action.metrics().items()}

    def summaries(self) -> list[RenderableType]:
        """Return what to print at the end of a fit."""
        summaries = [action.summary() for action in self]
        return [summary for summary in summaries if summary is not None]

    def state_dict(self) -> dict[str, Any]:
        """Return the states of all of them; nothing where there are none."""
        states = [{"name": type(action).__name__, "state": action.state_dict()} for action in self]
        return {"actions": states} if states else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Give each state to the action that it is of; warn about those that there is none for.

        Of actions of one class the first gets the first state. Masks go to whichever action masks,
        for there is at most one.
        """
        free = list(self._actions)
        for place, entry in enumerate(state_dict.get("actions", [])):
            name, state = entry["name"], entry["state"]
            action = _heir(name, state, free)
            if action is not None:
                free.remove(action)
                action.load_state_dict(state)
            elif state:
                rank_zero_warn(_lost(name, state, place))


def _heir(name: str, state: dict[str, Any], actions: Sequence[Action]) -> Action | None:
    named = (action for action in actions if type(action).__name__ == name)
    masking = (action for action in actions if isinstance(action, MaskFilters))
    return next(named, next(masking, None) if "masks" in state else None)


def _lost(name: str, state: dict[str, Any], place: int) -> str:
    message = (
        f"the checkpoint has the state of {name} as action {place}, and now there is none: what it "
        "did to the network is no longer kept up"
    )
    n_masks = len(state.get("masks", []))
    if n_masks:
        message += (
            f". {n_masks} filters that were masked train on from weights of zero; to keep them "
            "masked, pass action=MaskFilters(...)"
        )
    return message
