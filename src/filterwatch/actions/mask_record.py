"""What `MaskFilters` decides and remembers, beside the masks themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from filterwatch.actions.wiring import Filter

_SHOWN = 40


@dataclass
class MaskRecord:
    """What the newest probe led to, to be carried out with the next epoch, and all before it."""

    to_mask: list[Filter] = field(default_factory=list)
    to_release: list[Filter] = field(default_factory=list)
    # In how many probes in a row each filter that is flagged now was flagged.
    streaks: dict[Filter, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)  # see `add_event`
    unmaskable: dict[Filter, str] = field(default_factory=dict)  # with the reason

    def add_event(
        self, kind: str, filter_: Filter, epoch: int, reason: str, **measured: Any
    ) -> None:
        """Note that a filter is ``"masked"``, ``"released"``, or ``"rejected"`` by verification.

        The epoch is that whose probe decided; what was measured is ``loss_change``, of the probe.
        """
        place = {"event": kind, "layer": filter_[0], "channel": filter_[1], "epoch": epoch}
        self.events.append({**place, "reason": reason, **measured})

    def state_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, numbers and strings."""
        return {
            "to_mask": [list(filter_) for filter_ in self.to_mask],
            "to_release": [list(filter_) for filter_ in self.to_release],
            "streaks": [[*filter_, streak] for filter_, streak in self.streaks.items()],
            "events": [dict(entry) for entry in self.events],
            "unmaskable": [[*filter_, reason] for filter_, reason in self.unmaskable.items()],
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> MaskRecord:
        """Return what `state_dict` described; what is missing there starts anew."""

        def by_filter(name: str) -> dict[Filter, Any]:
            return {(layer, index): value for layer, index, value in state.get(name, [])}

        return cls(
            to_mask=[(layer, index) for layer, index in state.get("to_mask", [])],
            to_release=[(layer, index) for layer, index in state.get("to_release", [])],
            streaks=by_filter("streaks"),
            events=list(state.get("events", [])),
            unmaskable=by_filter("unmaskable"),
        )

    def summary(self, notes: Iterable[str]) -> str:
        """Return masks and releases, the newest if there are many, and notes, a line each."""
        entries = [entry for entry in self.events if entry["event"] != "rejected"]
        lines = ["Masked filters over the fit:"] if self.events else []
        if len(entries) > _SHOWN:
            lines.append(f"… {len(entries) - _SHOWN} earlier ones")
        lines += [f"epoch {entry['epoch']}: {in_words(entry)}" for entry in entries[-_SHOWN:]]
        changes = [e["loss_change"] for e in self.events if e.get("loss_change") is not None]
        if changes:
            n_masked = len(changes) - (len(self.events) - len(entries))
            notes = [
                *notes,
                f"verified: {n_masked} of {len(changes)} candidates were masked; silencing one "
                f"changed the loss on the probe by {fmean(changes):+.3g} on average",
            ]
        return "\n".join([*lines, *notes])


def in_words(entry: Mapping[str, Any]) -> str:
    """Return an event as a line."""
    change = entry.get("loss_change")
    return (
        f"{entry['event']} {entry['layer']} filter {entry['channel']}: {entry['reason']}"
        f"{'' if change is None else f' (it changes the loss by {change:+.2g})'}"
    )
