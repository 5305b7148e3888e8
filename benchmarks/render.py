"""Writes the benchmarks' tables into their page of the docs, from their results alone.

python -m benchmarks.render [--results docs/results] [--page docs/benchmarks.md]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import masking_effect


def main() -> None:
    """Replace what stands between the page's markers."""
    parser = argparse.ArgumentParser(prog="benchmarks.render", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/results"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks.md"))
    arguments = parser.parse_args()
    groups = json.loads((arguments.results / "benchmarks.json").read_text(encoding="utf-8"))
    text = arguments.page.read_text(encoding="utf-8")
    stable = groups.pop("stability", None)
    text = between(text, "benchmarks", "\n\n".join(map(goals_table, groups.values())))
    if stable is not None:
        text = between(text, "stability", stability_table(stable))
    masking = arguments.results / "masking_effect.json"
    if masking.exists():
        text = between(text, "masking", masking_table(json.loads(masking.read_text("utf-8"))))
    arguments.page.write_text(text, encoding="utf-8")


def between(text: str, name: str, body: str) -> str:
    """Return a text with a new body between the markers of a name.

    Raises:
        ValueError: If the text has no such markers.
    """
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    if begin not in text or end not in text:
        raise ValueError(f"the text has no markers {begin} and {end}")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{body}\n{end}{rest.partition(end)[2]}"


def goals_table(group: dict[str, Any]) -> str:
    """Return the rows of a group that have a goal as a table, with what made them."""
    lines = ["| what | measured | goal | met |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row['what']} | {row['shown']} | {row['goal']} | {_met(row['reached'])} |"
        for row in group["rows"]
        if row["goal"]
    ]
    return "\n".join([*lines, "", _made_by(group)])


def stability_table(group: dict[str, Any]) -> str:
    """Return one line a configuration: count, cost, spread and overlap."""
    lines = [
        "| setting | flagged, cost of a probe on one core "
        "| variation over draws of 80 %, overlap |",
        "| --- | --- | --- |",
    ]
    for name, values in _by_setting(group["rows"]):
        cost, variation, overlap = (row["shown"] for row in values)
        lines.append(f"| {name} | {cost} | {variation}, {overlap} |")
    note = (
        "Variation is the count's coefficient of variation, overlap the mean pairwise Jaccard "
        "index of the flagged sets, both over ten draws. Goals: 0.15 and 0.6."
    )
    return "\n".join([*lines, "", note, _made_by(group)])


def masking_table(result: dict[str, Any]) -> str:
    """Return what masks did to test accuracy, on which images, and what a stop would have done."""
    cells = result["cells"]
    size = cells[0]["settings"]["train_size"]
    images = (
        "all training images" if size is None else f"**reduced data: {size:,} training images**"
    )
    epochs = cells[0]["settings"]["epochs"]
    stops = []
    for cell in cells:
        epoch = masking_effect.stopped_epoch([one["anomaly_filters"] for one in cell["curves"]])
        if epoch is not None:
            stops.append(f"{cell['arm']}, seed {cell['seed']} (epoch {epoch})")
    ended = "; ".join(stops) or "none"
    versions = cells[0]["versions"]
    return "\n".join(
        [
            f"Simple CNN, CIFAR-10, {images}, {epochs} epochs:",
            "",
            masking_effect.markdown(cells),
            "",
            "Percent, mean and standard deviation over the seeds; differences are taken seed by "
            "seed. The selected epoch is that of least validation loss. `random` masks as many "
            "filters as `masks` in the same layers and epochs, none of them flagged.",
            "",
            f"`StopTraining` as it is by default would have ended {len(stops)} of these "
            f"{len(cells)} runs: {ended}.",
            "",
            f"`{result['command']}`: {result['seconds'] / 60:.0f} minutes of one core, "
            f"torch {versions['torch']}, lightning {versions['lightning']}.",
        ]
    )


def _by_setting(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["what"].split(": ")[0], []).append(row)
    yield from found.items()


def _met(reached: bool | None) -> str:
    return {True: "yes", False: "**no**", None: ""}[reached]


def _made_by(group: dict[str, Any]) -> str:
    return (
        f"`{group['command']}`: simple CNN after {group['epochs']} epochs, {group['data']}, "
        f"{group['processor']}, torch {group['versions']['torch']}."
    )


if __name__ == "__main__":
    main()
