"""The ``filterwatch`` command: one table of subcommands, each importing only what it needs."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple, NoReturn


class Command(NamedTuple):
    """One subcommand."""

    summary: str  # the line that `filterwatch --help` shows
    # ``module:function``, imported when the subcommand is called and not before. The function takes
    # the subcommand's name followed by its arguments.
    target: str


COMMANDS = {
    "demo": Command(
        "train a small CNN until it overfits, and see it watched",
        "filterwatch.demo:run",
    ),
    "fit": Command("train a model as a config describes it", "filterwatch.lightning_cli:run"),
    "validate": Command("evaluate it on the validation data", "filterwatch.lightning_cli:run"),
    "test": Command("evaluate it on the test data", "filterwatch.lightning_cli:run"),
    "analyze": Command(
        "find the anomaly filters of a finished model",
        "filterwatch.analysis.command_line:run",
    ),
    "compare": Command(
        "find what changed between two finished models",
        "filterwatch.analysis.command_line:run",
    ),
}


def main(args: Sequence[str] | None = None) -> None:
    """Run the ``filterwatch`` command.

    Args:
        args: Arguments without the program's name; ``None`` takes those of the process.

    Raises:
        SystemExit: After ``--help`` and ``--version``; with status 2 where no command is named,
            and with 130 on Ctrl-C.
    """
    args = sys.argv[1:] if args is None else list(args)
    # Everything behind the subcommand's name is for the subcommand to parse.
    command = _parser().parse_args(args[:1]).command
    module, function = COMMANDS[command].target.split(":")
    try:
        getattr(import_module(module), function)(args)
    except KeyboardInterrupt:
        _end_interrupted()
    except SystemExit as end:
        # A Trainer that was interrupted ends the program by itself, with status 1.
        if isinstance(end.__context__, KeyboardInterrupt):
            _end_interrupted()
        raise


def _end_interrupted() -> NoReturn:
    print("filterwatch: interrupted", file=sys.stderr)
    raise SystemExit(130) from None  # as a shell reports a program that Ctrl-C ended


class _ShowVersion(argparse.Action):
    """Looks the version up when it is asked for, which takes as long as all else here."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from filterwatch import __version__

        print(f"filterwatch {__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="filterwatch",
        description="See what a CNN learns by heart while it trains, in which layers, and on which "
        "training images.",
        epilog="filterwatch COMMAND --help describes a command's own arguments.",
        formatter_class=partial(argparse.HelpFormatter, max_help_position=30),  # names in one line
    )
    parser.add_argument(
        "--version", action=_ShowVersion, nargs=0, help="show the program's version and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.summary, add_help=False)
    return parser
