"""``docs/results.md`` and its figures, from the JSON files alone."""

from __future__ import annotations

from typing import Any

from reproduction.cells import COMMAND
from reproduction.claims import Results, check_claims
from reproduction.evidence_tables import evidence_section
from reproduction.markdown import mean_spread, table
from reproduction.memorization_tables import memorization_section
from reproduction.options import Options
from reproduction.paper_tables import TABLES
from reproduction.result_figures import draw_figures
from reproduction.result_files import read_results

_ORDER = ("fig4", "table2", "table3", "table4", "table5", "table6", "evidence", "memorization")


def render(options: Options) -> None:
    """Write the results page and its figures beside the results' folder."""
    results = read_results(options.results)
    page = options.results.parent / "results.md"
    figures = draw_figures(results, options.results.parent / "figures")
    page.write_text(results_page(results, figures), encoding="utf-8")


def results_page(results: Results, figures: dict[str, str]) -> str:
    """Return the page.

    Args:
        results: Each experiment's result, by name.
        figures: Figure name to its path from the page.
    """
    parts = [
        "# Results",
        f"Made by `{COMMAND} render` from `docs/results/*.json`; do not edit. "
        "Every table names its command. ± is the standard deviation over seeds.",
        "## Against the paper",
        *_summary(results),
    ]
    for name in _ORDER:
        if name not in results:
            continue
        result = results[name]
        parts += [f"## {_heading(name, result)}", _provenance(result)]
        if name in figures:
            parts.append(f"![{result['title']}]({figures[name]})")
        parts.append(_section(name, result, figures))
        missing = _missing(result)
        if missing:
            parts.append(missing)
    return "\n\n".join(parts) + "\n"


def _section(name: str, result: dict[str, Any], figures: dict[str, str]) -> str:
    if name == "evidence":
        return evidence_section(result, figures)
    return memorization_section(result) if name == "memorization" else TABLES[name](result)


def claims_table(results: Results) -> str:
    """Return the paper's claims and how they fare, contradictions first."""
    rows = [
        [claim.text, claim.where, f"{claim.holds} of {claim.of}", claim.outcome]
        for claim in check_claims(results)
    ]
    return table(["Claim", "Checked on", "Runs in which it holds", "Outcome"], rows)


def _summary(results: Results) -> list[str]:
    """Return the claims, what the count follows, and the choice of a default."""
    parts = [claims_table(results)]
    for model, found in results.get("evidence", {}).get("models", {}).items():
        parts += _follow_summary(model, found.get("follow", []))
        parts += _selection_summary(model, found.get("selection"))
    return parts


def _follow_summary(model: str, runs: list[dict[str, Any]]) -> list[str]:
    """Say whether the count follows overfitting or time, for runs that overfit and that do not."""
    parts = []
    for regime in sorted({run["regime"] for run in runs}):
        rows = [run["correlations"]["count"] for run in runs if run["regime"] == regime]
        with_loss, beyond_time, with_time = (
            mean_spread([row[key] for row in rows]) for key in ("rise", "rise_partial", "time")
        )
        parts.append(
            f"{model}, {regime}, {len(rows)} seeds: the count's rank correlation within a run is "
            f"{with_loss} with the rise of validation loss, {with_time} with the epoch number, and "
            f"{beyond_time} with the former once the latter is held fixed."
        )
    return parts


def _selection_summary(model: str, found: dict[str, Any] | None) -> list[str]:
    """Say whether any default does what a detector of overfitting should."""
    if found is None:
        return []
    chosen = found["chosen"]
    passing = f"{sum(chosen['passes'])} of {len(chosen['passes'])} seeds"
    plain = "" if all(chosen["passes"]) else "No default is known to tell overfitting apart. "
    ratios = ", ".join("–" if value is None else f"{value:.1f}" for value in chosen["ratio"])
    return [
        f"{plain}Wanted: overfit at least 1.5 times well-trained, and a rise under a fifth of that "
        f"in a run that does not overfit. Best of {found['tried']} measures on {model}: "
        f"{chosen['measure']}; overfit against well-trained {ratios} times (one number a seed, on "
        f"fresh images); both conditions hold in {passing}."
    ]


def _heading(name: str, result: dict[str, Any]) -> str:
    labels = {"fig4": "Figure 4", "evidence": "Evidence", "memorization": "Whether, where, which"}
    label = labels.get(name, f"Table {name[-1]}")
    reduced = result.get("train_size")
    note = f" (reduced data: {reduced:,} training images)" if reduced else ""
    return f"{label}: {result['title']}{note}"


def _provenance(result: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    training = sum(row.get("training_seconds", 0) for row in result["cells"])
    return (
        f"`{_as_called_now(result['command'])}`\n\n"
        f"Seeds {', '.join(map(str, result['seeds']))}; {result['epochs']} epochs (the paper "
        f"trained 100); device {result['device']}; analysis {result['duration_seconds']:.0f} s "
        f"with what was kept on disk, training {training / 60:.0f} min; {versions}."
    )


def _as_called_now(command: str) -> str:
    """Return a recorded command; results may be older than its present name."""
    return command.replace("filterwatch reproduce", COMMAND)


def _missing(result: dict[str, Any]) -> str:
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in result["cells"]:
        if row["status"] != "done":
            named = ("model", "dataset", "regime", "reason", "epochs", "train_size")
            groups.setdefault(tuple(row.get(name) for name in named), []).append(row)
    if not groups:
        return ""
    lines = []
    for (model, dataset, regime, reason, *_), rows in groups.items():
        seeds = [str(row["seed"]) for row in rows]
        command = _as_called_now(rows[0]["command"]).replace(
            f"--seeds {rows[0]['seed']} ", f"--seeds {' '.join(seeds)} "
        )
        noun = "seed" if len(seeds) == 1 else "seeds"
        lines.append(
            f"- {model}, {dataset}, {regime}, {noun} {', '.join(seeds)}: {reason}: `{command}`"
        )
    return "Not run:\n\n" + "\n".join(lines)
