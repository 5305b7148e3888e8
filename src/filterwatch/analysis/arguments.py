"""The arguments that ``filterwatch analyze`` and ``filterwatch compare`` share."""

from __future__ import annotations

import argparse
from pathlib import Path

from filterwatch.analysis.errors import InputError
from filterwatch.detection import AnomalyCriteria


def build_parser(command: str) -> argparse.ArgumentParser:
    """Return the parser of ``analyze`` or ``compare``."""
    files = "FILE FILE" if command == "compare" else "FILE"
    parser = argparse.ArgumentParser(
        prog=f"filterwatch {command}",
        usage=f"%(prog)s {files} --images DIR --output DIR [--model SOURCE/NAME] [OPTION ...]",
        description=_DESCRIPTIONS[command],
    )
    kinds = "checkpoint of a LightningModule, state_dict, safetensors, or exported program (.pt2)"
    if command == "compare":
        parser.add_argument("first", type=Path, metavar="FILE", help=kinds)
        parser.add_argument("second", type=Path, metavar="FILE", help="the one to compare with it")
    else:
        parser.add_argument("file", type=Path, metavar="FILE", help=kinds)
    _add_model_arguments(parser)
    _add_image_arguments(parser)
    _add_detection_arguments(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder to write the results to"
    )
    parser.add_argument(
        "--charts",
        type=int,
        default=40,
        metavar="N",
        help="filters with a scatter plot in the HTML file beyond the flagged ones; %(default)s by "
        "default",
    )
    return parser


def _add_model_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the model")
    group.add_argument(
        "--model",
        metavar="SOURCE/NAME",
        help="torchvision/NAME, timm/NAME or filterwatch/NAME; not needed for a checkpoint of "
        "filterwatch's own ImageClassifier, nor for an exported program",
    )
    group.add_argument(
        "--prefix",
        help="what stands before the network's own weight names in the file; found by default",
    )
    group.add_argument(
        "--trust",
        action="store_true",
        help="the file may run code while it is loaded: only for files whose origin you know",
    )
    group.add_argument(
        "--device", default="auto", help="cpu, cuda, …; by default a GPU if there is one"
    )
    group.add_argument(
        "--class-names",
        type=Path,
        metavar="FILE",
        help="names of the model's outputs, one a line; the folder's classes by default, where "
        "they are as many",
    )


def _add_image_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the images")
    group.add_argument(
        "--images",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of held-out images, in one subfolder a class if they are labelled",
    )
    group.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side to bring the images to; by default their own size if they share one, else the "
        "network's usual one",
    )
    group.add_argument(
        "--mean",
        type=float,
        nargs="+",
        metavar="NUMBER",
        help="mean of each channel, of pixels in 0 to 1; that of the network's published weights "
        "by default, else ImageNet's",
    )
    group.add_argument(
        "--std", type=float, nargs="+", metavar="NUMBER", help="standard deviation, likewise"
    )
    group.add_argument(
        "--probe-size",
        type=int,
        default=1000,
        metavar="N",
        help="images to take at random; %(default)s by default",
    )


def _add_detection_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = AnomalyCriteria()
    group = parser.add_argument_group("the detection")
    group.add_argument(
        "--layers",
        nargs="+",
        metavar="PATTERN",
        help="glob patterns over layer names; all layers by default",
    )
    group.add_argument(
        "--max-clusters",
        type=int,
        default=14,
        metavar="K",
        help="most clusters tried; %(default)s by default",
    )
    group.add_argument(
        "--seed", type=int, default=0, help="seed of everything random; %(default)s by default"
    )
    group.add_argument(
        "--batch-size",
        type=int,
        default=256,
        metavar="N",
        help="images a pass; %(default)s by default",
    )
    group.add_argument(
        "--small-cluster-size",
        type=_size,
        default=defaults.small_cluster_size,
        metavar="SIZE",
        help="lambda: largest small cluster, as a number of images or a fraction of them; "
        "%(default)s by default",
    )
    for option, default, meaning in (
        ("--small-cluster-ratio", defaults.small_cluster_ratio, "alpha: share of small clusters"),
        ("--ch-ratio", defaults.ch_ratio, "beta: Calinski-Harabasz index over the layer's mean"),
        (
            "--activation-ratio",
            defaults.activation_ratio,
            "theta: activation over the layer's mean",
        ),
    ):
        group.add_argument(
            option,
            type=_ratio,
            default=default,
            metavar="RATIO",
            help=f"{meaning}; %(default)s by default, off: not asked",
        )


_DESCRIPTIONS = {
    "analyze": "Find the anomaly filters of a finished model and the images behind them; print a "
    "table, write report.json and report.html, which needs no network.",
    "compare": "Find which filters turned anomalous between two models on the same images, and "
    "which images they isolate; print a table, write comparison.json and comparison.html.",
}


def criteria_from(options: argparse.Namespace) -> AnomalyCriteria:
    """Return the thresholds that were asked for.

    Raises:
        ValueError: If one is out of range.
    """
    return AnomalyCriteria(
        small_cluster_size=options.small_cluster_size,
        small_cluster_ratio=options.small_cluster_ratio,
        ch_ratio=options.ch_ratio,
        activation_ratio=options.activation_ratio,
    )


def class_names_from(path: Path | None) -> list[str] | None:
    """Return the names in a file, one a line.

    Raises:
        InputError: If the file cannot be read.
    """
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--class-names {path} cannot be read: {error}") from error


def _size(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _ratio(text: str) -> float | None:
    return None if text.lower() in ("off", "none") else float(text)
