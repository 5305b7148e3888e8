"""``filterwatch analyze`` and ``filterwatch compare``."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from filterwatch.analysis.analyses import Analysis, analyze, compare
from filterwatch.analysis.documents import (
    comparison_document,
    comparison_notes,
    comparison_table,
    report_document,
    report_notes,
    write_comparison,
    write_report,
)
from filterwatch.analysis.folder_probe import sample_probes
from filterwatch.analysis.model_files import InputError
from filterwatch.analysis.model_loading import load_model
from filterwatch.detection import AnomalyCriteria
from filterwatch.visuals import progress_bar


def run_analyze(args: Sequence[str]) -> None:
    """Analyze a finished model; ``args`` are the subcommand's name and its arguments."""
    with _parsed("analyze", args) as options:
        [analysis] = _analyses([options.file], options)
        _publish(
            options.output / "report",
            analysis.report,
            report_notes(analysis),
            report_document(analysis),
            lambda path: write_report(analysis, path, n_charts=options.charts),
        )


def run_compare(args: Sequence[str]) -> None:
    """Compare two finished models; ``args`` are the subcommand's name and its arguments."""
    with _parsed("compare", args) as options:
        comparison = compare(*_analyses([options.first, options.second], options))
        _publish(
            options.output / "comparison",
            comparison_table(comparison),
            comparison_notes(comparison),
            comparison_document(comparison),
            lambda path: write_comparison(comparison, path, n_charts=options.charts),
        )


@contextmanager
def _parsed(command: str, args: Sequence[str]) -> Iterator[argparse.Namespace]:
    """Yield the options; an input that cannot be used ends the program as a wrong option does."""
    parser = build_parser(command)
    options = parser.parse_args(list(args)[1:])
    try:
        # Before the long work: can its result be written?
        for package in ("jinja2", "plotly"):
            if find_spec(package) is None:
                raise InputError(
                    f"the HTML file needs the package {package}: pip install 'filterwatch[report]'"
                )
        _check_output(options.output)
        yield options
    except (TypeError, ValueError, OSError) as error:
        # Without the usage, which says nothing about a file or a folder.
        parser.exit(2, f"{parser.prog}: error: {error}\n")


def _check_output(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(f"--output {directory} cannot be written to: {error}") from error


def _analyses(files: list[Path], options: argparse.Namespace) -> list[Analysis]:
    criteria = AnomalyCriteria(
        small_cluster_size=options.small_cluster_size,
        small_cluster_ratio=options.small_cluster_ratio,
        ch_ratio=options.ch_ratio,
        activation_ratio=options.activation_ratio,
    )
    class_names = _class_names(options.class_names)
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


def _class_names(path: Path | None) -> list[str] | None:
    try:
        return None if path is None else path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--class-names {path} cannot be read: {error}") from error


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used: {error}") from error
    return device


def _publish(
    target: Path,
    table: object,
    notes: Iterable[str],
    document: dict[str, Any],
    write_html: Callable[[Path], None],
) -> None:
    """Print a result and write its two files, ``target`` with ``.json`` and with ``.html``."""
    html, data = target.with_suffix(".html"), target.with_suffix(".json")
    console = Console(soft_wrap=False)

    def print_line(line: str) -> None:
        # As it is: names from outside are no markup, and the terminal wraps them.
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    console.print(table)
    for note in notes:
        print_line(note)
    data.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")
    write_html(html)
    megabytes = html.stat().st_size / 1e6
    print_line(f"Look at {html} ({megabytes:.1f} MB, needs no network); the numbers are in {data}")


_DESCRIPTIONS = {
    "analyze": "Find the anomaly filters of a finished model and the images behind them; print a "
    "table, write report.json and report.html, which needs no network.",
    "compare": "Find which filters turned anomalous between two models on the same images, and "
    "which images they isolate; print a table, write comparison.json and comparison.html.",
}


def build_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of ``analyze`` or ``compare``."""
    kinds = "checkpoint of a LightningModule, state_dict, safetensors, or exported program (.pt2)"
    files = {"file": kinds}
    if command == "compare":
        files = {"first": kinds, "second": "the one to compare with it"}
    parser = argparse.ArgumentParser(
        prog=f"filterwatch {command}",
        usage=f"%(prog)s {' '.join('FILE' for _ in files)} --images DIR --output DIR "
        "[--model SOURCE/NAME] [OPTION ...]",
        description=_DESCRIPTIONS[command],
    )
    for name, meaning in files.items():
        parser.add_argument(name, type=Path, metavar="FILE", help=meaning)
    _add_model_options(parser)
    _add_image_options(parser)
    _add_detection_options(parser)
    option = parser.add_argument
    meaning = "folder to write the results to"
    option("--output", type=Path, required=True, metavar="DIR", help=meaning)
    meaning = "filters with a scatter plot in the HTML file beyond the flagged ones"
    option("--charts", **_number(40, "N", meaning))
    return parser


def _number(default: int, metavar: str | None, meaning: str) -> dict[str, Any]:
    """Return what argparse is to know of an integer with a default."""
    meaning = f"{meaning}; %(default)s by default"
    return {"type": int, "default": default, "metavar": metavar, "help": meaning}


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("the model").add_argument
    meaning = (
        "torchvision/NAME, timm/NAME or filterwatch/NAME; not needed for a checkpoint of "
        "filterwatch's own ImageClassifier, nor for an exported program"
    )
    option("--model", metavar="SOURCE/NAME", help=meaning)
    meaning = "what stands before the network's own weight names in the file; found by default"
    option("--prefix", help=meaning)
    meaning = "the file may run code while it is loaded: only for files whose origin you know"
    option("--trust", action="store_true", help=meaning)
    option("--device", default="auto", help="cpu, cuda, …; by default a GPU if there is one")
    meaning = (
        "names of the model's outputs, one a line; the folder's classes by default, where they "
        "are as many"
    )
    option("--class-names", type=Path, metavar="FILE", help=meaning)


def _add_image_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument_group("the images").add_argument
    meaning = "folder of held-out images, in one subfolder a class if they are labelled"
    option("--images", type=Path, required=True, metavar="DIR", help=meaning)
    meaning = (
        "side to bring the images to; by default their own size if they share one, else the "
        "network's usual one"
    )
    option("--image-size", type=int, metavar="PIXELS", help=meaning)
    meaning = (
        "mean of each channel, of pixels in 0 to 1; that of the network's published weights by "
        "default, else ImageNet's"
    )
    option("--mean", type=float, nargs="+", metavar="NUMBER", help=meaning)
    meaning = "standard deviation, likewise"
    option("--std", type=float, nargs="+", metavar="NUMBER", help=meaning)
    option("--probe-size", **_number(1000, "N", "images to take at random"))


def _add_detection_options(parser: argparse.ArgumentParser) -> None:
    defaults = AnomalyCriteria()
    option = parser.add_argument_group("the detection").add_argument
    meaning = "glob patterns over layer names; all layers by default"
    option("--layers", nargs="+", metavar="PATTERN", help=meaning)
    option("--max-clusters", **_number(14, "K", "most clusters tried"))
    option("--seed", **_number(0, None, "seed of everything random"))
    option("--batch-size", **_number(256, "N", "images a pass"))
    option(
        "--small-cluster-size",
        type=_size,
        default=defaults.small_cluster_size,
        metavar="SIZE",
        help="lambda: largest small cluster, as a number of images or a fraction of them; "
        "%(default)s by default",
    )
    for name, default, meaning in (
        ("--small-cluster-ratio", defaults.small_cluster_ratio, "alpha: share of small clusters"),
        ("--ch-ratio", defaults.ch_ratio, "beta: Calinski-Harabasz index over the layer's mean"),
        (
            "--activation-ratio",
            defaults.activation_ratio,
            "theta: activation over the layer's mean",
        ),
    ):
        meaning = f"{meaning}; %(default)s by default, off: not asked"
        option(name, type=_ratio, default=default, metavar="RATIO", help=meaning)


def _size(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _ratio(text: str) -> float | None:
    return None if text.lower() in ("off", "none") else float(text)
