"""What was asked of memorization, and whether it was found; misses come first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from reproduction.cells import MODEL_TITLES
from reproduction.markdown import each, mean_spread, number
from reproduction.rank_correlations import spearman

Result = dict[str, Any]

_ORDER = ("missed", "met in part", "met", "no data")
RIVALS = ("loss", "aum", "neighbors", "cleanlab")


class Goal(NamedTuple):
    """One thing that was asked for.

    Attributes:
        text: What, with its number where it has one.
        found: What was measured, with its spread.
        outcome: ``"missed"``, ``"met in part"`` (in half of the cases, or more), ``"met"`` or
            ``"no data"``.
    """

    text: str
    found: str
    outcome: str


def goals(result: Result) -> list[Goal]:
    """Return every goal, misses first."""
    every = [
        *_null(result),
        *_whether(result),
        *_where(result),
        *_in_time(result),
        *_which(result),
        *_acting(result),
    ]
    return sorted(every, key=lambda goal: _ORDER.index(goal.outcome))


def runs_of(result: Result, model: str, regime: str) -> dict[int, Result]:
    """Return the runs of a network and regime, by seed."""
    return {
        run["seed"]: run
        for run in result["runs"]
        if (run["model"], run["regime"]) == (model, regime)
    }


def value_of(run: Result, state: str, which: str) -> list[float]:
    """Return value and standard error of ``"generalization_gap"`` or ``"memorization"``."""
    there = run[state]
    row: list[float] = there["rows"][
        "output" if which == "generalization_gap" else there["deepest"]
    ]
    return row


def ratios(result: Result, model: str, which: str) -> dict[int, float]:
    """Return a value in the last epoch, overfit over regularised, by seed.

    A regularised value counts as one standard error at the least, so that one near 0 does not make
    a ratio of thousands.
    """
    overfit, regularised = (runs_of(result, model, regime) for regime in ("overfit", "regularised"))
    found = {}
    for seed in sorted(overfit.keys() & regularised.keys()):
        value, error = value_of(regularised[seed], "last", which)
        found[seed] = value_of(overfit[seed], "last", which)[0] / max(value, error)
    return found


def auroc(result: Result, regime: str, state: str, score: str) -> list[float]:
    """Return the area under the ROC curve of a score on the simple CNN, one a seed."""
    scores = [
        run[state]["which"]["scores"] for run in runs_of(result, "simple_cnn", regime).values()
    ]
    return [entry[score]["auroc"] for entry in scores if score in entry]


def rank_correlation_of_added(where: Result) -> float:
    """Return Spearman's rank correlation over rows: memorization added, and accuracy gained.

    Added is what a row has memorized beyond the row before it.
    """
    rows = list(where["rows"].values())
    values = [0.0, *(row["memorization"] for row in rows)]
    added = [later - earlier for earlier, later in pairwise(values)]
    return spearman(added, [row["accuracy_gain"] for row in rows])


def models_of(result: Result) -> list[str]:
    """Return the networks that there are runs of, in the order of the runs."""
    return list(dict.fromkeys(run["model"] for run in result["runs"]))


def _outcome(met: Iterable[bool]) -> str:
    found = list(met)
    if not found:
        return "no data"
    if all(found):
        return "met"
    return "met in part" if 2 * sum(found) >= len(found) else "missed"


def _null(result: Result) -> Iterator[Goal]:
    groups = result["null"]
    if not groups:
        return
    everything = groups[-1]
    yield Goal(
        "1. Null: at most 1 % of the layers beyond three standard errors",
        f"{100 * everything['beyond_three']:.2f} % of {everything['ratios']:,} in "
        f"{everything['draws']} draws",
        _outcome([everything["beyond_three"] <= 0.01]),
    )
    deviations = [group["std"] for group in groups[:-1]]
    yield Goal(
        "1. Null: standard deviation of value / standard error from 0.8 to 1.2, in every network "
        "and state",
        f"{number(min(deviations))} to {number(max(deviations))}; all: {number(everything['std'])}",
        _outcome(0.8 <= deviation <= 1.2 for deviation in deviations),
    )


def _whether(result: Result) -> Iterator[Goal]:
    for which, wanted in (("generalization_gap", 5), ("memorization", 2)):
        for model in models_of(result):
            found = ratios(result, model, which)
            yield Goal(
                f"2. Whether: `{which}` overfit over regularised, last epoch, at least {wanted} "
                f"in every seed, {MODEL_TITLES[model]}",
                f"{each(found.values(), 1)} (seeds {each(found)})" if found else "–",
                _outcome(ratio >= wanted for ratio in found.values()),
            )


def _where(result: Result) -> Iterator[Goal]:
    # Where labels are shuffled, there is no accuracy to come back.
    for model in models_of(result):
        runs = [
            run["where"]
            for run in result["runs"]
            if run["model"] == model and run["where"] and run["regime"] != "shuffled"
        ]
        first = [run["most_gained"] == run["most_memorized"] for run in runs]
        correlations = [run["spearman"] for run in runs if run["spearman"] is not None]
        yield Goal(
            "3. Where: validation accuracy comes back most where memorization is highest, "
            f"{MODEL_TITLES[model]}",
            f"in {sum(first)} of {len(first)} runs; rank correlation {mean_spread(correlations)}",
            _outcome(first),
        )


def _in_time(result: Result) -> Iterator[Goal]:
    for model, found in result["alarms"].items():
        if found is None:
            continue
        stopping = found["rules"]["early_stopping"]
        for kind, title in (
            ("significant", "beyond three standard errors"),
            ("level", "above a level set on other seeds"),
        ):
            rule = found["rules"][f"memorization:{kind}"]
            yield Goal(
                f"4. In time: `memorization` {title} warns earlier than EarlyStopping, with no "
                f"more false alarms and no run missed, {MODEL_TITLES[model]}",
                f"{_alarm(rule)}; EarlyStopping {_alarm(stopping)}",
                _outcome([_is_ahead(rule, stopping)]),
            )


def _is_ahead(rule: Result, stopping: Result) -> bool:
    lead, usual = rule["median_lead_time"], stopping["median_lead_time"]
    earlier = lead is not None and (usual is None or lead > usual)
    as_safe = rule["false_alarm_rate"] <= stopping["false_alarm_rate"]
    return bool(earlier and as_safe and rule["found"] >= stopping["found"])


def _alarm(rule: Result) -> str:
    leads = ", ".join(f"{lead:+d}" for lead in rule["lead_times"]) or "none"
    return f"{leads} epochs, false alarms {number(rule['false_alarm_rate'])}"


def _which(result: Result) -> Iterator[Goal]:
    at = ("wrong20", "last")
    witness = auroc(result, *at, "witness")
    loss = auroc(result, *at, "loss")
    what = "5. Which: a fifth of the labels wrong, last epoch, simple CNN"
    found = mean_spread(witness, 3)
    yield Goal(f"{what}: AUROC at least 0.88", found, _outcome(value >= 0.88 for value in witness))
    yield Goal(
        f"{what}: above the network's loss by 0.1",
        f"{found} against {mean_spread(loss, 3)}",
        _outcome(ours - theirs >= 0.1 for ours, theirs in zip(witness, loss, strict=True)),
    )
    scores = [
        run["last"]["which"]["scores"] for run in runs_of(result, "simple_cnn", "wrong20").values()
    ]
    pairs = []
    for entry in scores:
        areas = {name: entry[name]["auroc"] for name in RIVALS if name in entry}
        best = max(areas, key=lambda name: areas[name])
        pairs.append((entry["witness"]["auroc"], areas[best], best))
    yield Goal(
        f"{what}: within 0.02 of the best rival of the same run",
        ", ".join(f"{ours:.3f} against {theirs:.3f} ({name})" for ours, theirs, name in pairs)
        or "–",
        _outcome(ours >= theirs - 0.02 for ours, theirs, _ in pairs),
    )


def _acting(result: Result) -> Iterator[Goal]:
    for other, title in (("nothing", "with all images"), ("random", "without random ones")):
        for state in ("best", "last"):
            pairs = [
                (run["witness"][state], run[other][state])
                for run in result["retraining"]
                if "witness" in run and other in run
            ]
            yield Goal(
                "6. Acting: test accuracy without the first suspects above that "
                f"{title}, {state} epoch",
                _gains(pairs),
                _outcome(ours > theirs for ours, theirs in pairs),
            )
    pairs = [
        (run["witness"][state], run["aum"][state])
        for run in result["retraining"]
        if "witness" in run and "aum" in run
        for state in ("best", "last")
    ]
    yield Goal(
        "6. Acting: not below that without the first by AUM, both epochs",
        _gains(pairs),
        _outcome(ours >= theirs for ours, theirs in pairs),
    )


def _gains(pairs: list[tuple[float, float]]) -> str:
    gains = [100 * (ours - theirs) for ours, theirs in pairs]
    if not gains:
        return "–"
    return f"{', '.join(f'{gain:+.1f}' for gain in gains)} points (median {median(gains):+.1f})"
