"""``filterwatch analyze`` and ``filterwatch compare``."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from io import StringIO
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
    suspect_notes,
    write_comparison,
    write_report,
    write_suspects,
)
from filterwatch.analysis.folder_probe import sample_probes
from filterwatch.analysis.model_files import DETECTION, InputError
from filterwatch.analysis.model_loading import load_model
from filterwatch.analysis.run_settings import choose_settings
from filterwatch.analysis.training_images import (
    Memorization,
    measure_training_images,
    open_training_images,
)
from filterwatch.detection import AnomalyCriteria
from filterwatch.visuals import progress_bar

# Each command's positional arguments, and what `--help` says that it does.
_COMMANDS = {
    "analyze": (
        ["file"],
        "Find the anomaly filters of a finished model and the images behind them; print a table, "
        "and with --output write report.json and report.html, which needs no network. With "
        "--training-images also what each layer knows of them by heart, and suspects.csv, those "
        "whose label is most in question first.",
    ),
    "compare": (
        ["first", "second"],
        "Find which filters turned anomalous between two models on the same images, and which "
        "images they isolate; print a table, and with --output write comparison.json and "
        "comparison.html.",
    ),
}
_THRESHOLDS = {
    "small_cluster_size": "lambda: largest small cluster, in images or as a fraction of them",
    "small_cluster_ratio": "alpha: share of small clusters, or off",
    "ch_ratio": "beta: Calinski-Harabasz index over the layer's mean, or off",
    "activation_ratio": "theta: activation over the layer's mean, or off",
}

_NOT_GIVEN: Any = object()


def run(args: Sequence[str]) -> None:
    """Run ``analyze`` or ``compare``; ``args`` are the subcommand's name and its arguments.

    Raises:
        SystemExit: With status 2 on a wrong option, and on an input that cannot be used; with
            status 1 if there are more anomaly filters than ``--fail-above``.
    """
    parser = build_parser(args[0])
    options = parser.parse_args(args[1:])
    try:
        # Before the long work: can its result be written?
        if options.output is not None:
            _check_output(options.output)
        analyses = _analyses(options)
        first = analyses[0]
        if args[0] == "analyze":
            _publish(
                options,
                "report",
                first.report,
                report_notes(first),
                report_document(first),
                lambda path: write_report(first, path, n_charts=options.charts),
                first.memorization,
            )
        else:
            comparison = compare(*analyses)
            _publish(
                options,
                "comparison",
                comparison_table(comparison),
                comparison_notes(comparison),
                comparison_document(comparison),
                lambda path: write_comparison(comparison, path, n_charts=options.charts),
            )
    except (TypeError, ValueError, OSError) as error:
        # Without the usage, which says nothing about a file or a folder.
        parser.exit(2, f"{parser.prog}: error: {error}\n")
    limit = getattr(options, "fail_above", None)
    if limit is not None and first.report.count > limit:
        parser.exit(1, f"{parser.prog}: {first.report.count} anomaly filters, more than {limit}\n")


def _check_output(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise InputError(f"--output {directory} cannot be written to: {error}") from error


def _analyses(options: argparse.Namespace) -> list[Analysis]:
    device = _device(options.device)
    models = [
        load_model(path, options.model, trust=options.trust, image_size=options.image_size)
        for path in options.files
    ]
    asked = {
        name: value
        for name in (*_THRESHOLDS, *DETECTION)
        if (value := getattr(options, name)) is not _NOT_GIVEN
    }
    settings = choose_settings([model.run_settings for model in models], asked, options.prefix)
    probes = sample_probes(
        models,
        options.images,
        options.probe_size,
        seed=options.seed,
        image_size=options.image_size,
        mean=options.mean,
        std=options.std,
    )
    found = len(probes[0])
    if found < settings.max_clusters:
        what = f"--images {options.images} holds {found} images, too few"
        if found == options.probe_size:
            what = f"--probe-size {found} is too small"
        raise InputError(
            f"{what} for --max-clusters {settings.max_clusters}: take more images, or lower "
            "--max-clusters"
        )
    folders = None
    if getattr(options, "training_images", None) is not None:
        size = options.held_out_size
        folders = open_training_images(
            options.training_images, probes[0], held_out_size=size, seed=options.seed
        )
    analyses = []
    for model, images in zip(models, probes, strict=True):
        model.module.to(device)
        nowhere = Console(file=StringIO()) if options.quiet else None
        with progress_bar(model.path.name, nowhere) as on_progress:
            how: dict[str, Any] = {
                "seed": options.seed,
                "batch_size": options.batch_size,
                "on_progress": on_progress,
            }
            analysis = analyze(
                model,
                images,
                layers=options.layers,
                **settings.arguments(),
                **how,
            )
            if folders is not None:
                memorization = measure_training_images(
                    model, folders, analysis.n_outputs, sample_size=options.probe_size, **how
                )
                analysis = replace(analysis, memorization=memorization)
            analyses.append(analysis)
    return analyses


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {name} cannot be used: {error}") from error
    return device


def _publish(
    options: argparse.Namespace,
    name: str,
    table: object,
    notes: Iterable[str],
    document: dict[str, Any],
    write_html: Callable[[Path], None],
    memorization: Memorization | None = None,
) -> None:
    """Print a result, and write what was asked for.

    With ``--output`` ``name`` with ``.json`` and with ``.html``, and ``suspects.csv`` beside them
    where memorization was measured.
    """
    on_standard_output = options.json == "-"
    # Standard output is the document's alone.
    console = Console(stderr=on_standard_output, quiet=options.quiet)

    def print_line(line: str) -> None:
        # As it is: names from outside are no markup, and the terminal wraps them.
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    console.print(table)
    for note in notes:
        print_line(note)
    if memorization is not None:
        console.print(memorization.report)
        for note in suspect_notes(memorization):
            print_line(note)
    text = json.dumps(document, allow_nan=False)
    if on_standard_output:
        print(text)
    elif options.json is not None:
        Path(options.json).write_text(text, encoding="utf-8")
    if options.output is None:
        if options.json is None:
            print_line("With --output DIR there is also a page to look at, and the numbers as JSON")
        return
    html, data = (options.output / f"{name}.{kind}" for kind in ("html", "json"))
    if memorization is not None:
        suspects = options.output / "suspects.csv"
        write_suspects(memorization, suspects)
        print_line(f"all training images, those whose label is most in question first: {suspects}")
    data.write_text(text, encoding="utf-8")
    write_html(html)
    megabytes = html.stat().st_size / 1e6
    print_line(f"Look at {html} ({megabytes:.1f} MB, needs no network); the numbers are in {data}")


def build_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of ``analyze`` or ``compare``."""
    files, description = _COMMANDS[command]
    parser = argparse.ArgumentParser(
        prog=f"filterwatch {command}",
        usage=f"%(prog)s {'FILE ' * len(files)}--images DIR [--output DIR] [--model SOURCE/NAME] "
        "[OPTION ...]",
        description=description,
    )
    what = "checkpoint of a LightningModule, state_dict, or safetensors"
    parser.add_argument("files", type=Path, nargs=len(files), metavar="FILE", help=what)

    def option(name: str, meaning: str, metavar: str | None = None, **settings: Any) -> None:
        if settings.get("default", _NOT_GIVEN) is not _NOT_GIVEN:
            meaning += "; %(default)s by default"
        if metavar is not None:
            settings["metavar"] = metavar
        group.add_argument(name, help=meaning, **settings)

    not_given = {"default": _NOT_GIVEN}  # None switches a criterion off
    group = parser.add_argument_group("the result")
    meaning = "folder to write the page and the numbers to; without it nothing is written"
    option("--output", meaning, "DIR", type=Path)
    option("--json", "file to write the numbers to; - for standard output, alone there", "FILE")
    option("--quiet", "print nothing but errors, and what --json - asks for", action="store_true")
    if command == "analyze":
        meaning = "end with status 1 if there are more anomaly filters, for scripts"
        option("--fail-above", meaning, "N", type=_count)
    meaning = "filters with a scatter plot in the HTML file beyond the flagged ones"
    option("--charts", meaning, "N", type=int, default=40)

    group = parser.add_argument_group("the model")
    option(
        "--model",
        "torchvision/NAME, timm/NAME or filterwatch/NAME; not needed for a checkpoint of "
        "filterwatch's own ImageClassifier",
        "SOURCE/NAME",
    )
    meaning = "the file may run code while it is loaded: only for files whose origin you know"
    option("--trust", meaning, action="store_true")
    option("--device", "cpu, cuda, …; by default a GPU if there is one")

    group = parser.add_argument_group("the images")
    meaning = "folder of held-out images, in one subfolder a class if they are labelled"
    option("--images", meaning, "DIR", type=Path, required=True)
    option(
        "--image-size",
        "side to bring the images to; by default what the network takes or was trained on, else "
        "their own size if they share one, else the network's usual one",
        "PIXELS",
        type=int,
    )
    option(
        "--mean",
        "mean of each channel, of pixels in 0 to 1; by default as in training if the file says, "
        "else that of the network's published weights, else ImageNet's",
        "NUMBER",
        type=float,
        nargs="+",
    )
    option("--std", "standard deviation, likewise", "NUMBER", type=float, nargs="+")
    option("--probe-size", "images to take at random", "N", type=int, default=1000)

    if command == "analyze":
        group = parser.add_argument_group("memorization")
        meaning = (
            "folder of the images that the network was trained on, with the same class folders"
        )
        option("--training-images", meaning, "DIR", type=Path)
        option(
            "--held-out-size",
            "images of --images to compare them with; by default 5000, or 20 a class where that "
            "is more",
            "N",
            type=int,
        )

    group = parser.add_argument_group(
        "the detection",
        "Thresholds, --max-clusters, --pca and --votes are by default those of the run that a "
        "checkpoint comes from, where a callback watched it; else as below.",
    )
    option("--layers", "glob patterns over layer names; all by default", "PATTERN", nargs="+")
    option("--seed", "seed of everything random", type=int, default=0)
    option("--batch-size", "images a pass", "N", type=int, default=256)
    for name, meaning in _THRESHOLDS.items():
        usual = getattr(AnomalyCriteria(), name)
        flag = f"--{name.replace('_', '-')}"
        option(flag, f"{meaning}; {usual}", "NUMBER", type=_threshold, **not_given)
    option("--max-clusters", "most clusters tried; 14", "K", type=int, **not_given)
    meaning = "principal components of each filter's maps, or of a layer's; filter"
    group.add_argument("--pca", choices=("filter", "layer"), help=meaning, default=_NOT_GIVEN)
    option(
        "--votes",
        "random quarters of the probe that vote on a filter; 0",
        "N",
        type=int,
        **not_given,
    )
    meaning = "whose settings, where several callbacks watched the run"
    option("--prefix", meaning)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _threshold(text: str) -> float | None:
    """Return a number, whole if it is written so, or ``None`` for ``off``."""
    if text.lower() == "off":
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)
