"""What `MaskFilters` remembers from probe to probe, beside the masks themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from filterwatch.actions.wiring import Filter


@dataclass
class MaskDecision:
    """What one probe led to.

    Attributes:
        to_mask: Filters to mask when the next epoch starts.
        to_release: Filters to give back then.
        streaks: In how many probes in a row each filter that is flagged now was flagged.
        events: What is decided, see `events.event`.
        unmaskable: Why filters that were wanted cannot be masked.
    """

    to_mask: list[Filter] = field(default_factory=list)
    to_release: list[Filter] = field(default_factory=list)
    streaks: dict[Filter, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    unmaskable: dict[Filter, str] = field(default_factory=dict)


@dataclass
class MaskState:
    """The newest decision, and what all of them have led to.

    Attributes:
        pending: The newest decision.
        events: The events of all decisions.
        monitored: Values of the monitored metric, one a probe.
        unmaskable: Why filters that were wanted at any time cannot be masked.
    """

    pending: MaskDecision = field(default_factory=MaskDecision)
    events: list[dict[str, Any]] = field(default_factory=list)
    monitored: list[float] = field(default_factory=list)
    unmaskable: dict[Filter, str] = field(default_factory=dict)

    def take(self, decision: MaskDecision) -> None:
        """Replace the newest decision."""
        self.pending = decision
        self.events += decision.events
        self.unmaskable.update(decision.unmaskable)

    def done(self) -> None:
        """Remember that the newest decision was carried out."""
        self.pending.to_mask, self.pending.to_release = [], []

    def state_dict(self) -> dict[str, Any]:
        """Return plain lists, dicts, numbers and strings."""
        return {
            "to_mask": [list(filter_) for filter_ in self.pending.to_mask],
            "to_release": [list(filter_) for filter_ in self.pending.to_release],
            "streaks": [[*filter_, streak] for filter_, streak in self.pending.streaks.items()],
            "events": [dict(entry) for entry in self.events],
            "monitored": list(self.monitored),
            "unmaskable": [[*filter_, reason] for filter_, reason in self.unmaskable.items()],
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> MaskState:
        """Return what `state_dict` described; what is missing there starts anew."""
        pending = MaskDecision(
            to_mask=[(layer, index) for layer, index in state.get("to_mask", [])],
            to_release=[(layer, index) for layer, index in state.get("to_release", [])],
            streaks={(layer, index): streak for layer, index, streak in state.get("streaks", [])},
        )
        return cls(
            pending,
            events=list(state.get("events", [])),
            monitored=list(state.get("monitored", [])),
            unmaskable={
                (layer, index): reason for layer, index, reason in state.get("unmaskable", [])
            },
        )
