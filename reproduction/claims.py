"""The paper's claims against the results: in how many runs each of them holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

Results = dict[str, dict[str, Any]]


class Claim(NamedTuple):
    """One claim of the paper, as the results see it.

    Attributes:
        text: What the paper says.
        where: What it was checked on.
        holds: In how many runs it holds.
        of: In how many runs it could be checked.
    """

    text: str
    where: str
    holds: int
    of: int

    @property
    def outcome(self) -> str:
        """Say in a word or two what came out."""
        if self.of == 0:
            return "not checked"
        if self.holds == self.of:
            return "holds"
        if self.holds == 0:
            return "contradicted"
        return "contradicted in most runs" if 2 * self.holds < self.of else "holds in part"


def check_claims(results: Results) -> list[Claim]:
    """Return every claim that results bear on, those that fare worst first."""
    found = [
        *_counts(results.get("table2")),
        *_gradients(results.get("table3")),
        *_single_masks(results.get("table4"), results.get("table5")),
        *_all_masks(results.get("table6")),
    ]
    checked = [claim for claim in found if claim.of]
    return sorted(checked, key=lambda claim: claim.holds / claim.of)


def done(result: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the cells of a result that were run."""
    return [] if result is None else [row for row in result["cells"] if row["status"] == "done"]


def _counts(result: dict[str, Any] | None) -> Iterator[Claim]:
    rows = done(result)
    for name, title in (result or {}).get("readings", {}).items():
        for model in sorted({row["model"] for row in rows}):
            pairs = [
                (row["well_trained"]["counts"][name], row["overfit"]["counts"][name])
                for row in rows
                if row["model"] == model
            ]
            yield Claim(
                "Overfit networks have more anomaly filters than well-trained ones (Table 2)",
                f"{model}; {title}",
                sum(late > early for early, late in pairs),
                len(pairs),
            )


def _gradients(result: dict[str, Any] | None) -> Iterator[Claim]:
    sources = {"train": "probe of training images", "held_out": "probe of held-out images"}
    states = [(row[state], state) for row in done(result) for state in ("well_trained", "overfit")]
    for source, title in sources.items():
        ratios = [entry[source]["ratio"] for entry, _ in states]
        defined = [ratio for ratio in ratios if ratio is not None]
        yield Claim(
            "Outlier samples have larger gradients than normal ones (Table 3)",
            f"{title}; {len(ratios) - len(defined)} of {len(ratios)} networks had no outliers",
            sum(ratio > 1 for ratio in defined),
            len(defined),
        )
        pairs = [
            (row["well_trained"][source]["normal"], row["overfit"][source]["normal"])
            for row in done(result)
        ]
        yield Claim(
            "Gradients of normal samples are larger in overfit networks (Table 3)",
            title,
            sum(late > early for early, late in pairs),
            len(pairs),
        )


def _single_masks(table4: dict[str, Any] | None, table5: dict[str, Any] | None) -> Iterator[Claim]:
    rows = [row["anomaly"] for row in done(table4) if row["anomaly"]["filters"]]
    where = "runs with anomaly filters under row 3; test accuracy"
    for key, what in (("train_down", "lowers training"), ("test_up", "raises validation")):
        yield Claim(
            f"Masking most single anomaly filters {what} accuracy (Table 4)",
            where,
            sum(2 * row[key] > row["filters"] for row in rows),
            len(rows),
        )
    pairs = [
        (row["anomaly"]["test"]["mean"], row["random"]["test"]["mean"]) for row in done(table5)
    ]
    defined = [(flagged, random) for flagged, random in pairs if None not in (flagged, random)]
    yield Claim(
        "Masking an anomaly filter costs less accuracy than masking a random one (Table 5)",
        where,
        sum(flagged > random for flagged, random in defined),
        len(defined),
    )


def _all_masks(result: dict[str, Any] | None) -> Iterator[Claim]:
    for source, title in (("held_out", "held-out probe"), ("train", "training probe")):
        tables = [row[source]["outliers"] for row in done(result)]
        filled = [table for table in tables if sum(table.values())]
        yield Claim(
            "Most outlier samples are misclassified before masking (Table 6)",
            title,
            sum(
                table["became_right"] + table["stayed_wrong"]
                > table["kept_right"] + table["became_wrong"]
                for table in filled
            ),
            len(filled),
        )
