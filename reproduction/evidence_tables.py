"""The evidence's tables."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from reproduction.cells import MODEL_TITLES
from reproduction.markdown import each, mean_spread, number, table
from reproduction.signals import SIGNALS

Result = dict[str, Any]


def evidence_section(result: Result, figures: dict[str, str]) -> str:
    """Return all of the evidence as Markdown, a subsection a question.

    Args:
        result: The evidence.
        figures: Figure name to its path from the page.
    """
    parts = []
    for model, found in result.get("models", {}).items():
        title = MODEL_TITLES[model]
        if "selection" in found:
            parts += [f"### A default configuration ({title})", _selection(found["selection"])]
        if found.get("follow"):
            parts += [f"### Overfitting, or only time? ({title})", _follow(found["follow"])]
        if f"signals_{model}" in figures:
            parts.append(f"![Signals over the epochs]({figures[f'signals_{model}']})")
        if found.get("sensitivity"):
            parts += [f"### Controls and sensitivity ({title})", _sensitivity(found["sensitivity"])]
    if any(regimes.get("shuffled") for regimes in result.get("shuffled", {}).values()):
        parts += ["### Shuffled labels", _shuffled(result)]
    for model, found in result.get("lead_time", {}).items():
        if "alarms" in found:
            parts += [f"### Lead time ({MODEL_TITLES[model]})", _lead_time(found)]
    return "\n\n".join(parts)


def _selection(found: Result) -> str:
    head = [
        "Measure",
        "Well-trained",
        "Overfit",
        "Ratio",
        "Regularised, same epochs",
        "Its rise as a share",
        "Seeds that pass",
    ]
    chosen = found["chosen"]
    tried = f"{found['tried']} measures tried"
    if found.get("too_few"):
        tried += f", {found['too_few']} of them left out for counting next to nothing"
    if all(chosen["passes"]):
        verdict = f"The one that was chosen ({tried}) meets both on fresh images in every seed."
    else:
        verdict = (
            f"**No configuration is known to do this** ({tried}; {found['passing']} meet both in "
            "every seed on the images that were chosen with, and the best of all does not on "
            "fresh ones). " + _what_it_would_take(chosen)
        )
    return "\n\n".join(
        [
            "Wanted: overfit at least 1.5 times well-trained in every seed, and a rise over the "
            "same epochs of a regularised run under a fifth of that. " + verdict,
            "On images that were not chosen with (one number a seed):",
            table(head, [_selection_row(chosen["measure"], chosen)]),
            "Left out one seed at a time: chosen by the other seeds, reported on this one:",
            table(
                head,
                [
                    _selection_row(f"seed {entry['seed']}: {entry['measure']}", entry)
                    for entry in found["left_out"]
                ],
            ),
            "The ten best, on the images that were chosen with:",
            table(head, [_selection_row(entry["measure"], entry) for entry in found["best"]]),
        ]
    )


def _what_it_would_take(chosen: Result) -> str:
    """Say how far the best measure is from the two conditions, on average over the seeds."""

    def mean(name: str) -> float:
        return fmean(chosen[name])

    rise = mean("overfit") - mean("well_trained")
    other = mean("regularised_late") - mean("regularised_early")
    return (
        f"The best one rises by {rise:.2f} on average over an overfitting run, and by {other:.2f} "
        f"over the same epochs of a regularised one; it would take less than {0.2 * rise:.2f} "
        "there, seed by seed."
    )


def _selection_row(name: str, entry: Result) -> list[str]:
    digits = 2 if "score" in name else 1
    early, late = entry["regularised_early"], entry["regularised_late"]
    pairs = zip(early, late, strict=True)
    return [
        name,
        each(entry["well_trained"], digits),
        each(entry["overfit"], digits),
        each(entry["ratio"], 2),
        ", ".join(f"{number(first, digits)} → {number(last, digits)}" for first, last in pairs),
        each(entry["regularised_share"], 2),
        f"{sum(entry['passes'])} of {len(entry['passes'])}",
    ]


def _follow(runs: list[Result]) -> str:
    rows = []
    keys = ("rise", "rise_partial", "gap", "gap_partial", "time")
    for regime in sorted({run["regime"] for run in runs}):
        chosen = [run for run in runs if run["regime"] == regime]
        for signal, title in SIGNALS.items():
            values = [[run["correlations"][signal][key] for run in chosen] for key in keys]
            rows.append([f"{regime}: {title}", *(mean_spread(entry) for entry in values)])
    head = [
        "Signal",
        "Rise of validation loss",
        "the same, epoch fixed",
        "Train-validation gap",
        "the same, epoch fixed",
        "Epoch number",
    ]
    seeds = sorted({run["seed"] for run in runs})
    note = (
        "Spearman's rank correlation within a run over the epochs behind early learning (from "
        f"epoch 3 on), mean ± standard deviation over seeds {', '.join(map(str, seeds))}. "
        "“Epoch fixed” is the partial correlation that takes out what time alone explains."
    )
    return f"{note}\n\n{table(head, rows)}"


def _sensitivity(entries: list[Result]) -> str:
    keys = (
        "untrained",
        "well_trained",
        "overfit",
        "regularised_well_trained",
        "regularised_overfit",
    )
    rows = [
        [f"{entry['factor']}: {entry['value']}", *(each(entry[key]) for key in keys)]
        for entry in entries
    ]
    head = [
        "Varied, all else default",
        "Untrained",
        "Well-trained",
        "Overfit",
        "Regularised, epoch of well-trained",
        "Regularised, last epoch",
    ]
    return f"Anomaly filters, one number a seed.\n\n{table(head, rows)}"


def _shuffled(result: Result) -> str:
    rows = []
    for model, regimes in result["shuffled"].items():
        for regime, readings in regimes.items():
            for name, entries in readings.items():
                if entries:
                    counts = [
                        each([entry[key] for entry in entries])
                        for key in ("untrained", "well_trained", "last")
                    ]
                    what = "shuffled labels" if regime == "shuffled" else "true labels"
                    rows.append(
                        [f"{MODEL_TITLES[model]}, {what}: {result['readings'][name]}", *counts]
                    )
    head = ["Run", "Untrained", "Lowest validation loss", "Last epoch"]
    return f"Reduced data: 8,000 training images. One number a seed.\n\n{table(head, rows)}"


def _lead_time(found: Result) -> str:
    rows = []
    titles = {**SIGNALS, "early_stopping": "EarlyStopping on validation loss"}
    for name, entry in found["alarms"].items():
        rule = (
            f"patience {entry['patience']}"
            if "patience" in entry
            else f"{'rise' if entry['direction'] > 0 else 'fall'} above {entry['threshold']:.3g}"
        )
        leads = entry["lead_times"]
        rows.append(
            [
                titles[name],
                rule,
                number(entry["false_alarm_rate"]),
                f"{entry['found']} of {entry['of']}",
                number(entry["median_lead_time"], 1),
                f"{min(leads)} to {max(leads)}" if leads else "–",
            ]
        )
    head = [
        "Alarm on",
        "Rule",
        "False alarms",
        "Overfitting runs found",
        "Median lead time, epochs",
        "Range",
    ]
    seeds = {key: ", ".join(map(str, found[key])) for key in ("calibration_seeds", "test_seeds")}
    note = (
        f"{len(found['runs'])} runs of {found['epochs']} epochs on {found['train_size']:,} "
        f"training images. Rules are set on seeds {seeds['calibration_seeds']} so that at most "
        f"{found['false_alarms_allowed']:.0%} of the regularised runs alarm; the table comes from "
        f"seeds {seeds['test_seeds']}. Lead time: epoch of the lowest validation loss less that of "
        "the alarm; negative is late."
    )
    return f"{note}\n\n{table(head, rows)}"
