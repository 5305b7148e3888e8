"""The tables of memorization's evidence."""

from __future__ import annotations

from typing import Any

from reproduction.cells import MODEL_TITLES
from reproduction.markdown import each, mean_spread, number, table
from reproduction.memorization_goals import (
    goals,
    models_of,
    rank_correlation_of_added,
    ratios,
    runs_of,
    value_of,
)
from reproduction.memorization_retraining import EPOCHS
from reproduction.memorization_suspects import SCORES

Result = dict[str, Any]

_REGIMES = {
    "overfit": "overfit",
    "regularised": "regularised",
    "shuffled": "labels shuffled",
    **{f"wrong{share}": f"{share} % wrong, by chance" for share in (5, 10, 20, 40)},
    **{f"alike{share}": f"{share} % wrong, similar classes" for share in (5, 10, 20, 40)},
}
_SIGNALS = {
    "memorization": "memorization",
    "generalization_gap": "generalization gap",
    "memorized_samples": "memorized samples",
}
_RULES = {
    "rise": "rise since early learning",
    "level": "level",
    "significant": "beyond three standard errors",
}
_WAYS = {
    "nothing": "all images",
    "witness": "without the witness's first suspects",
    "aum": "without the first by AUM",
    "random": "without random ones",
    "wrong": "without exactly the wrong labels",
}


def memorization_section(result: Result) -> str:
    """Return the evidence as Markdown: all goals, then a subsection a question."""
    parts = [
        table(["Asked for", "Found", "Outcome"], [list(goal) for goal in goals(result)]),
        "### The null",
        _null(result["null"]),
        "### Whether: overfit, regularised, wrong labels",
        _whether(result),
        "### Where: single layers set back",
        _where(result),
    ]
    for model, found in result["alarms"].items():
        if found is not None:
            parts += [f"### In time ({MODEL_TITLES[model]})", _in_time(found)]
    if any(run["last"].get("which") for run in result["runs"]):
        parts += ["### Which: wrong labels found", _which(result)]
    if any("witness" in run for run in result["retraining"]):
        parts += ["### Training again without the suspects", _retraining(result["retraining"])]
    return "\n\n".join(parts)


def _null(groups: list[Result]) -> str:
    rows = [
        [
            f"{MODEL_TITLES.get(group['model'], 'All networks')}, {group['state']}",
            str(group["draws"]),
            str(group["ratios"]),
            number(group["mean"]),
            number(group["std"]),
            f"{100 * group['beyond_three']:.1f} %",
        ]
        for group in groups
    ]
    head = ["Network and state", "Draws", "Values", "Mean", "Standard deviation", "Beyond three"]
    note = (
        "Value over standard error of every row, 1,000 images against 1,000: training against "
        "held-out images before training, or two sets of held-out images. Rows of a draw are "
        "correlated, as they see the same images, and draws of a run share its images."
    )
    return f"{note}\n\n{table(head, rows)}"


def _whether(result: Result) -> str:
    rows = []
    for model in models_of(result):
        for regime, title in _REGIMES.items():
            runs = runs_of(result, model, regime)
            if not runs:
                continue
            row = [f"{MODEL_TITLES[model]}, {title}", each(runs)]
            for state in ("best", "last"):
                row += [
                    mean_spread([value_of(run, state, which)[0] for run in runs.values()])
                    for which in ("generalization_gap", "memorization")
                ]
                shares = [run[state]["memorized_share"][0] for run in runs.values()]
                row.append(mean_spread(shares, 1, 100))
            rows.append(row)
    head = ["Run", "Seeds"]
    for state in ("best epoch", "last epoch"):
        head += [f"{state}: gap", "memorization", "memorized samples, %"]
    compared = [
        [
            f"{MODEL_TITLES[model]}, `{which}`",
            each(found.values(), 1),
        ]
        for model in models_of(result)
        for which in ("generalization_gap", "memorization")
        if (found := ratios(result, model, which))
    ]
    note = (
        "Nats; training images (2,000, and all 10,000 where labels are wrong) against 4,000 "
        "held-out ones. Gap: at the output; memorization: "
        "in the deepest hidden layer. Below 0 a layer contradicts training labels that are wrong. "
        "Best epoch: of the lowest validation loss."
    )
    ratio_note = (
        "Overfit over regularised in the last epoch, one number a seed (a regularised value counts "
        "as one standard error at the least):"
    )
    return "\n\n".join(
        [
            note,
            table(head, rows),
            ratio_note,
            table(["Network", "Overfit / regularised"], compared),
        ]
    )


def _where(result: Result) -> str:
    rows = []
    for model in models_of(result):
        for regime, title in _REGIMES.items():
            runs = {
                seed: run["where"]
                for seed, run in runs_of(result, model, regime).items()
                if run["where"]
            }
            if not runs:
                continue
            found = list(runs.values())
            first = sum(run["most_gained"] == run["most_memorized"] for run in found)
            rows.append(
                [
                    f"{MODEL_TITLES[model]}, {title}",
                    each(runs),
                    mean_spread([run["spearman"] for run in found]),
                    mean_spread([run["spearman_loss"] for run in found]),
                    mean_spread([rank_correlation_of_added(run) for run in found]),
                    f"{first} of {len(found)}",
                    ", ".join(dict.fromkeys(run["most_memorized"] for run in found)),
                    ", ".join(_gain(run) for run in found),
                    mean_spread([_whole_gain(run) for run in found], 1),
                ]
            )
    head = [
        "Run",
        "Seeds",
        "Rank correlation, accuracy",
        "the same, loss",
        "memorization added, accuracy",
        "Most memorized gains most",
        "Most memorized",
        "Gains most, points",
        "All layers set back, points",
    ]
    note = (
        "In the last epoch's network one layer at a time gets its weights of the epoch of the "
        "lowest validation loss, and those of a batch normalization right behind it; an activation "
        "speaks for the layer before it, the output for the last layer. 2,000 validation images. "
        "Correlation: over the rows of a run, memorization against the validation accuracy (less "
        "loss) gained; added: memorization beyond that of the row before."
    )
    return f"{note}\n\n{table(head, rows)}"


def _gain(run: Result) -> str:
    name = run["most_gained"]
    return f"{name} {100 * run['rows'][name]['accuracy_gain']:+.1f}"


def _whole_gain(run: Result) -> float:
    gain: float = 100 * (run["accuracy"]["best"] - run["accuracy"]["last"])
    return gain


def _in_time(found: Result) -> str:
    rows = []
    for name, rule in found["rules"].items():
        signal, _, kind = name.partition(":")
        leads = rule["lead_times"]
        title = f"{_SIGNALS[signal]}, {_RULES[kind]}" if kind else "EarlyStopping, validation loss"
        rows.append(
            [
                title,
                "–" if kind == "significant" else each(rule["set_to"], None if not kind else 2),
                number(rule["false_alarm_rate"]),
                f"{rule['found']} of {rule['of']}",
                number(rule["median_lead_time"], 1),
                f"{min(leads)} to {max(leads)}" if leads else "–",
            ]
        )
    head = [
        "Alarm on",
        "Set to",
        "False alarms",
        "Overfitting runs found",
        "Median lead time, epochs",
        "Range",
    ]
    seeds = sorted({run["seed"] for run in found["runs"]})
    lowest = {
        overfits: each(run["minimum"] for run in found["runs"] if run["overfits"] is overfits)
        for overfits in (True, False)
    }
    note = (
        f"{len(found['runs'])} runs of {found['epochs']} epochs, seeds {each(seeds)}: few. Each "
        "rule is set on all seeds but one, so that no regularised run of them alarms (patience "
        "for EarlyStopping), and counted on that one, each in turn; every alarm of a regularised "
        "run counts as false. Measured as by the callback's defaults, 1,000 images of each kind. "
        "Lead time: epoch of the lowest validation loss less that of the alarm; negative is late. "
        f"The lowest validation loss is in epochs {lowest[True]} of overfit runs and "
        f"{lowest[False]} of regularised ones."
    )
    return f"{note}\n\n{table(head, rows)}"


def _which(result: Result) -> str:
    parts = [
        "Area under the ROC curve, and in brackets precision among the first hundred, of all "
        "training images ranked; mean ± standard deviation over the seeds named.",
        "- witness: all hidden layers together, by 4,000 held-out images with right labels; by "
        "1,000, the callback's default; by 4,000 of whose labels as many are wrong by chance as "
        "in training.\n"
        "- deepest layer, best layer: one hidden layer alone, by the 4,000; the best is known "
        "afterwards only.\n"
        "- The rivals do without held-out labels. AUM: mean margin over the epochs up to the one "
        "judged, at their ends, in evaluation mode. Neighbors: share of the 100 nearest in the "
        "last hidden layer, by angle, that have other labels. cleanlab: its label quality, from "
        "networks trained for 8 epochs on three quarters of the images, where they were trained; "
        "the same in both rows.",
    ]
    for model in models_of(result):
        groups = [
            (f"{title}, {state} epoch", state, runs)
            for regime, title in _REGIMES.items()
            if regime.startswith(("wrong", "alike"))
            and (runs := list(runs_of(result, model, regime).values()))
            for state in ("best", "last")
        ]
        rows = []
        for title, state, runs in groups:
            seeds = each([run["seed"] for run in runs])
            scores = [run[state]["which"]["scores"] for run in runs]
            rows.append(
                [
                    f"{title} (seeds {seeds})",
                    *(_cell([entry[name] for entry in scores if name in entry]) for name in SCORES),
                ]
            )
        if rows:
            parts += [f"{MODEL_TITLES[model]}:", table(["Wrong labels", *SCORES.values()], rows)]
    return "\n\n".join(parts)


def _cell(found: list[Result]) -> str:
    if not found:
        return "–"
    area = mean_spread([entry["auroc"] for entry in found], 3)
    return f"{area} ({number(sum(entry['precision'] for entry in found) / len(found))})"


def _retraining(runs: list[Result]) -> str:
    rows = []
    for name, title in _WAYS.items():
        those = [run for run in runs if name in run]
        if those:
            precisions = [run[name].get("precision") for run in those]
            rows.append(
                [
                    title,
                    each([run["seed"] for run in those]),
                    mean_spread(precisions),
                    *(
                        mean_spread([run[name][state] for run in those], 1, 100)
                        for state in ("best", "last")
                    ),
                ]
            )
    head = [
        "Simple CNN, trained on",
        "Seeds",
        "Wrong among those left out",
        "Test accuracy, best epoch, %",
        f"epoch {EPOCHS}, %",
    ]
    note = (
        f"A fifth of the labels wrong by chance. {EPOCHS} epochs anew, without as many images as "
        "labels are wrong, chosen by the last epoch of the run on all images; 10,000 test images."
    )
    return f"{note}\n\n{table(head, rows)}"
