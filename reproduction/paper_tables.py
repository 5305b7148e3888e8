"""The paper's tables in its own form, the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from filterwatch import StopTraining
from reproduction.cells import DATASET_TITLES, MODEL_TITLES
from reproduction.claims import done
from reproduction.markdown import each, mean_spread, number, table, whole

Result = dict[str, Any]


def _groups(result: Result) -> list[tuple[str, str, str, list[Result]]]:
    """Return (title, model, data set, runs) of what was run, seeds together."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for row in done(result):
        groups.setdefault((row["model"], row["dataset"]), []).append(row)
    return [
        (f"{MODEL_TITLES[model]}, {DATASET_TITLES[dataset]}", model, dataset, rows)
        for (model, dataset), rows in groups.items()
    ]


def _paper(result: Result, model: str, dataset: str) -> Any:
    return result["paper"].get(model, {}).get(dataset)


def fig4(result: Result) -> str:
    """Return counts at a few epochs of each run."""
    parts = []
    for name, title in result["readings"].items():
        rows = []
        for row in done(result):
            entries = {entry["epoch"]: entry for entry in row["counts"]}
            chosen = _few(sorted(entries), row["well_trained_epoch"])
            shown = ", ".join(f"{epoch}: {entries[epoch]['counts'][name]}" for epoch in chosen)
            where = f"{MODEL_TITLES[row['model']]}, {row['regime']}, seed {row['seed']}"
            history = [
                {"epoch": entry["epoch"], "count": entry["counts"][name]} for entry in row["counts"]
            ]
            stop = whole(StopTraining().epoch_to_stop(history))
            rows.append([where, str(row["well_trained_epoch"]), stop, shown])
        head = [
            "Run",
            "Epoch of the lowest validation loss",
            "`StopTraining` as it is by default stops at",
            "Epoch: anomaly filters",
        ]
        parts.append(f"Anomaly filters by {title}:\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def _few(epochs: list[int], important: int, number: int = 8) -> list[int]:
    step = max(1, (len(epochs) - 1) // number)
    return sorted({*epochs[::step], epochs[-1], *[e for e in epochs if e == important]})


def table2(result: Result) -> str:
    """Return Table 2: counts of well-trained and overfit networks."""
    rows = []
    for title, model, dataset, runs in _groups(result):
        paper = _paper(result, model, dataset) or (None, None)
        for name, reading in result["readings"].items():
            early = [run["well_trained"]["counts"][name] for run in runs]
            late = [run["overfit"]["counts"][name] for run in runs]
            rows.append([title, reading, each(early), each(late), *map(whole, paper)])
        scores = [
            [run[state]["anomaly_score"] for run in runs] for state in ("well_trained", "overfit")
        ]
        rows.append([title, "anomaly score", *(each(score, 2) for score in scores), "–", "–"])
    head = ["Model, data", "Reading", "Well-trained", "Overfit", "Paper: well-trained", "overfit"]
    return "One number a seed.\n\n" + table(head, rows)


def table3(result: Result) -> str:
    """Return Table 3: gradients of outlier and normal samples."""
    rows = []
    for title, model, dataset, runs in _groups(result):
        paper = _paper(result, model, dataset) or ((None, None), (None, None))
        for index, state in enumerate(("well_trained", "overfit")):
            for source, probe in (("train", "training images"), ("held_out", "held-out images")):
                entries = [run[state][source] for run in runs]
                rows.append(
                    [
                        f"{title} ({state.replace('_', '-')})",
                        probe,
                        each([entry["n_outliers"] for entry in entries]),
                        *(
                            mean_spread([entry[key] for entry in entries], 3)
                            for key in ("outlier", "normal")
                        ),
                        each([entry["ratio"] for entry in entries], 1),
                        each([entry["rank"] for entry in entries], 2),
                        "/".join(number(value, 3) for value in paper[index]),
                    ]
                )
    head = [
        "Model, data",
        f"Probe of {result['probe_size']:,}",
        "Outlier samples",
        "Gradient, outliers",
        "Gradient, normal",
        "Ratio",
        "Rank",
        "Paper: outlier/normal",
    ]
    note = (
        "Rank: share of normal samples with a smaller gradient than an outlier's, averaged; 0.5 is "
        "no difference. Outlier samples, ratio and rank: one number a seed."
    )
    return f"{note}\n\n{table(head, rows)}"


def table4(result: Result) -> str:
    """Return Table 4: shares of filters whose masking helps."""
    rows = []
    for title, model, dataset, runs in _groups(result):
        paper = _paper(result, model, dataset)
        shown = (f"{paper[0]}/{paper[2]}", f"{paper[1]}/{paper[2]}") if paper else ("–", "–")
        for kind in ("anomaly", "random"):
            total = sum(run[kind]["filters"] for run in runs)
            counted = [
                f"{sum(run[kind][key] for run in runs)}/{total}"
                for key in ("train_down", "test_up", "both")
            ]
            by_seed = each([run[kind]["filters"] for run in runs])
            rows.append(
                [title, f"{kind} filters", by_seed, *counted]
                + (list(shown) if kind == "anomaly" else ["–", "–"])
            )
    head = [
        "Model, data",
        "Masked, one by one",
        "Filters, by seed",
        "Training accuracy down",
        "Test accuracy up",
        "Both",
        "Paper: training down",
        "validation up",
    ]
    return f"Anomaly filters by {result['reading']}.\n\n{table(head, rows)}"


def table5(result: Result) -> str:
    """Return Table 5: mean change of accuracy."""
    rows = []
    for title, model, dataset, runs in _groups(result):
        paper = _paper(result, model, dataset) or (None, None)
        for index, kind in enumerate(("anomaly", "random")):
            means = {part: [run[kind][part]["mean"] for run in runs] for part in ("test", "train")}
            rows.append(
                [
                    title,
                    f"{kind} filters",
                    each([len(run[kind]["test"]["values"]) for run in runs]),
                    each([_percent(value) for value in means["test"]], 2),
                    mean_spread(means["test"], 2, 100),
                    mean_spread(means["train"], 2, 100),
                    number(paper[index], 2),
                ]
            )
    head = [
        "Model, data",
        "Masked, one by one",
        "Filters, by seed",
        "Test accuracy, points, by seed",
        "Test accuracy, points",
        "Training accuracy, points",
        "Paper: validation, points",
    ]
    return f"Anomaly filters by {result['reading']}.\n\n{table(head, rows)}"


def table6(result: Result) -> str:
    """Return Table 6: predictions before and after masking all anomaly filters."""
    keys = ("kept_right", "became_wrong", "became_right", "stayed_wrong")
    rows = []
    for title, _, _, runs in _groups(result):
        for source, probe in (("held_out", "held-out"), ("train", "training")):
            entries = [run[source] for run in runs]
            masked = each([entry["masked"] for entry in entries])
            for kind in ("outliers", "others"):
                counts = [each([entry[kind][key] for entry in entries]) for key in keys]
                rows.append([title, f"{probe} images: {kind}", masked, *counts])
            random = [
                each(
                    [
                        sum(one[key] for one in entry["outliers_random_masks"])
                        / len(entry["outliers_random_masks"])
                        for entry in entries
                    ]
                )
                for key in keys
            ]
            rows.append(
                [title, f"{probe} images: outliers, random filters masked", masked, *random]
            )
    paper = result["paper"]
    rows.append(
        ["Paper: Simple CNN, CIFAR-100", "outliers", "–", *(str(paper[key]) for key in keys)]
    )
    head = ["Model, data", "Samples", "Filters masked", *(key.replace("_", " ") for key in keys)]
    return f"Anomaly filters by {result['reading']}. One number a seed.\n\n{table(head, rows)}"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


TABLES: dict[str, Callable[[Result], str]] = {
    "fig4": fig4,
    "table2": table2,
    "table3": table3,
    "table4": table4,
    "table5": table5,
    "table6": table6,
}
