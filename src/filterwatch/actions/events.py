"""What happened to filters, as plain dicts: for the state, the log, and the table at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from rich.table import Table

from filterwatch.actions.wiring import Filter

_SHOWN = 40


def event(kind: str, filter_: Filter, epoch: int, reason: str, **measured: Any) -> dict[str, Any]:
    """Return one event.

    Args:
        kind: ``"masked"``, ``"released"``, or ``"rejected"`` for a candidate that verification
            turned down.
        filter_: The filter.
        epoch: The epoch whose probe decided; masks and releases take effect with the next one.
        reason: Why.
        **measured: With verification ``loss_change`` (what silencing the filter does to the loss),
            and ``random_channel`` and ``random_loss_change`` of an unflagged filter of the layer;
            ``remaining`` where something other than zero is left in its maps.
    """
    layer, channel = filter_
    return {
        "event": kind, "layer": layer, "channel": channel, "epoch": epoch, "reason": reason,
        **measured,
    }  # fmt: skip


def describe(entry: Mapping[str, Any]) -> str:
    """Return an event as one line."""
    line = f"{entry['event']} {entry['layer']} filter {entry['channel']}: {entry['reason']}"
    change = _change(entry)
    return f"{line} ({change})" if change else line


def events_table(events: Iterable[Mapping[str, Any]], notes: Iterable[str]) -> Table:
    """Return the masks and releases of a fit, the newest ones if there are many.

    Args:
        events: All of its events.
        notes: What to say below, beside what verification measured.
    """
    events = list(events)
    entries = [entry for entry in events if entry["event"] != "rejected"]
    table = Table(
        title="Masked filters over the fit",
        caption="\n".join([*notes, *_measured(events)]),
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
