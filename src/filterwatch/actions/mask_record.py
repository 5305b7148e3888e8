"""What `MaskFilters` decides and remembers, beside the masks themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from rich.table import Table

from filterwatch.actions.wiring import Filter

_SHOWN = 40


@dataclass
class MaskDecision:
    """What one probe led to, to be carried out when the next epoch starts."""

    to_mask: list[Filter] = field(default_factory=list)
    to_release: list[Filter] = field(default_factory=list)
    # In how many probes in a row each filter that is flagged now was flagged.
    streaks: dict[Filter, int] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)  # see `add_event`
    unmaskable: dict[Filter, str] = field(default_factory=dict)  # with the reason

    def add_event(
        self, kind: str, filter_: Filter, epoch: int, reason: str, **measured: Any
    ) -> None:
        """Note what is decided about a filter, for the state, the log, and the table at the end.

        Args:
            kind: ``"masked"``, ``"released"``, or ``"rejected"`` by verification.
            filter_: The filter.
            epoch: The epoch whose probe decided; masks and releases take effect with the next one.
            reason: Why.
            **measured: With verification ``loss_change`` (what silencing the filter does to the
                loss), and ``random_channel`` and ``random_loss_change`` of an unflagged filter of
                the layer; ``remaining`` where something other than zero is left in its maps.
        """
        place = {"event": kind, "layer": filter_[0], "channel": filter_[1], "epoch": epoch}
        self.events.append({**place, "reason": reason, **measured})


@dataclass
class MaskRecord:
    """The newest decision, and what all of them have led to."""

    pending: MaskDecision = field(default_factory=MaskDecision)
    events: list[dict[str, Any]] = field(default_factory=list)
    monitored: list[float] = field(default_factory=list)  # the metric, one value a probe
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
    def from_state_dict(cls, state: Mapping[str, Any]) -> MaskRecord:
        """Return what `state_dict` described; what is missing there starts anew."""
        pending = MaskDecision(
            to_mask=[(layer, index) for layer, index in state.get("to_mask", [])],
            to_release=[(layer, index) for layer, index in state.get("to_release", [])],
            streaks={(layer, index): streak for layer, index, streak in state.get("streaks", [])},
        )
        unmaskable = {(layer, index): why for layer, index, why in state.get("unmaskable", [])}
        monitored = list(state.get("monitored", []))
        return cls(pending, list(state.get("events", [])), monitored, unmaskable)

    def lines(self, epoch: int) -> list[str]:
        """Return the events of an epoch, a line each."""
        lines = []
        for entry in self.events:
            if entry["epoch"] == epoch:
                line = f"{entry['event']} {entry['layer']} filter {entry['channel']}"
                change = _change(entry)
                lines.append(f"{line}: {entry['reason']}" + (f" ({change})" if change else ""))
        return lines

    def table(self, notes: Iterable[str]) -> Table:
        """Return masks and releases, the newest if there are many, and notes below."""
        entries = [entry for entry in self.events if entry["event"] != "rejected"]
        table = Table(
            title="Masked filters over the fit",
            caption="\n".join([*notes, *_measured(self.events)]),
            caption_justify="left",
        )
        for heading in ("epoch", "layer", "filter", "event", "reason", "change of the loss"):
            right = heading in ("epoch", "filter")
            table.add_column(heading, justify="right" if right else "left", overflow="fold")
        if len(entries) > _SHOWN:
            table.add_row("…", "", "", f"{len(entries) - _SHOWN} earlier ones", "", "")
        for entry in entries[-_SHOWN:]:
            columns = ("epoch", "layer", "channel", "event", "reason")
            table.add_row(*(str(entry[key]) for key in columns), _change(entry))
        return table


def _measured(events: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Sum up what verification measured, of candidates and of the random filters beside them."""
    tried = [entry for entry in events if entry.get("loss_change") is not None]
    if not tried:
        return
    n_rejected = sum(entry["event"] == "rejected" for entry in tried)
    mean = fmean(entry["loss_change"] for entry in tried)
    yield (
        f"verified: {len(tried) - n_rejected} of {len(tried)} candidates were masked; silencing "
        f"one changed the loss on the probe by {mean:+.3g} on average"
    )
    compared = [entry for entry in tried if entry["random_loss_change"] is not None]
    if compared:
        mean = fmean(entry["random_loss_change"] for entry in compared)
        yield f"silencing a random unflagged filter of the same layer instead: by {mean:+.3g}"


def _change(entry: Mapping[str, Any]) -> str:
    parts = []
    if entry.get("loss_change") is not None:
        parts.append(f"{entry['loss_change']:+.2g}")
    if entry.get("random_loss_change") is not None:
        parts.append(f"{entry['random_loss_change']:+.2g} for filter {entry['random_channel']}")
    if entry.get("remaining"):
        parts.append(f"a constant of {entry['remaining']:.2g} remains")
    return ", ".join(parts)
