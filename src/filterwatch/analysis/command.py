"""``filterwatch analyze`` and ``filterwatch compare``."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from filterwatch.analysis.arguments import build_parser, class_names_from, criteria_from
from filterwatch.analysis.comparison import compare
from filterwatch.analysis.documents import (
    comparison_document,
    comparison_notes,
    comparison_table,
    report_document,
    report_notes,
)
from filterwatch.analysis.errors import InputError
from filterwatch.analysis.loading import load_model
from filterwatch.analysis.probes import sample_probes
from filterwatch.analysis.run import Analysis, analyze
from filterwatch.visuals import progress_bar


def run_analyze(args: Sequence[str]) -> None:
    """Analyse a finished model.

    Args:
        args: The subcommand's name and its arguments.
    """
    parser = build_parser("analyze")
    options = parser.parse_args(list(args)[1:])
    with _refusals(parser):
        write_html = _html_writer("write_report")
        _check_output(options.output)
        analysis = _analyses([options.file], options)[0]
        console = Console(soft_wrap=False)
        console.print(analysis.report)
        _print_lines(console, report_notes(analysis))
        _write_json(report_document(analysis), options.output / "report.json")
        write_html(analysis, options.output / "report.html", n_charts=options.charts)
        _announce(console, options.output, "report")


def run_compare(args: Sequence[str]) -> None:
    """Compare two finished models on the same images.

    Args:
        args: The subcommand's name and its arguments.
    """
    parser = build_parser("compare")
    options = parser.parse_args(list(args)[1:])
    with _refusals(parser):
        write_html = _html_writer("write_comparison")
        _check_output(options.output)
        comparison = compare(*_analyses([options.first, options.second], options))
        console = Console(soft_wrap=False)
        console.print(comparison_table(comparison))
        _print_lines(console, comparison_notes(comparison))
        _write_json(comparison_document(comparison), options.output / "comparison.json")
        write_html(comparison, options.output / "comparison.html", n_charts=options.charts)
        _announce(console, options.output, "comparison")


@contextmanager
def _refusals(parser: argparse.ArgumentParser) -> Iterator[None]:
    """End the program as a wrong option does where an input cannot be used."""
    try:
        yield
    except (TypeError, ValueError, OSError) as error:
        # Without the usage, which says nothing about a file or a folder.
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def _analyses(files: list[Path], options: argparse.Namespace) -> list[Analysis]:
    criteria = criteria_from(options)
    class_names = class_names_from(options.class_names)
    device = _device(options.device)
    models = [
        load_model(
            path,
            options.model,
            trust=options.trust,
            prefix=options.prefix,
            image_size=options.image_size,
        )
        for path in files
    ]
    if options.probe_size < options.max_clusters:
        raise InputError(
            f"--probe-size {options.probe_size} is too small for --max-clusters "
            f"{options.max_clusters}: take more images, or lower --max-clusters"
        )
    probes = sample_probes(
        models,
        options.images,
        options.probe_size,
        seed=options.seed,
        image_size=options.image_size,
        mean=options.mean,
        std=options.std,
    )
    if len(probes[0]) < options.max_clusters:
        raise InputError(
            f"--images {options.images} holds {len(probes[0])} images, too few for --max-clusters "
            f"{options.max_clusters}: give more images, or lower --max-clusters"
        )
    analyses = []
    for model, images in zip(models, probes, strict=True):
        model.module.to(device)
        with progress_bar(model.path.name) as on_progress:
            analyses.append(
                analyze(
                    model,
                    images,
                    criteria=criteria,
                    layers=options.layers,
                    max_clusters=options.max_clusters,
                    seed=options.seed,
                    batch_size=options.batch_size,
                    class_names=class_names,
                    on_progress=on_progress,
                )
            )
    return analyses


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used: {error}") from error
    return device


def _html_writer(name: str) -> Any:
    try:
        from filterwatch.visuals import html
    except ImportError as error:
        raise InputError(
            f"the HTML file needs the package {error.name}: pip install 'filterwatch[report]'"
        ) from error
    return getattr(html, name)


def _check_output(directory: Path) -> None:
    """Find out before the long work whether its result can be written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(f"--output {directory} cannot be written to: {error}") from error


def _write_json(document: dict[str, Any], path: Path) -> None:
    path.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def _announce(console: Console, directory: Path, name: str) -> None:
    html, data = directory / f"{name}.html", directory / f"{name}.json"
    megabytes = html.stat().st_size / 1e6
    _print_lines(
        console,
        [f"Look at {html} ({megabytes:.1f} MB, needs no network); the numbers are in {data}"],
    )


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines as they are: names from outside are no markup, and the terminal wraps them."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
