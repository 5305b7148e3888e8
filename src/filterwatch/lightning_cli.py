"""``filterwatch fit``, ``validate`` and ``test``: LightningCLI that knows our classes."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)

import filterwatch
from filterwatch import datamodules, models
from filterwatch._compat import callbacks_of
from filterwatch.actions import Action, checked_actions
from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.config_files import find_config

# jsonargparse finds a class by its short name once the class has been imported.
for _package in (filterwatch, datamodules, models):
    for _name in _package.__all__:
        getattr(_package, _name)

_CONFIG_OPTIONS = ("-c", "--config")


class SaveConfig(SaveConfigCallback):
    """Writes the parsed config beside a run's logs; a run without a logger writes none.

    Lightning would put it into the working directory then, over a ``config.yaml`` of the user's.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config if there is a log directory."""
        if trainer.loggers:
            super().setup(trainer, pl_module, stage)


class FilterwatchCLI(LightningCLI):
    """LightningCLI with three subcommands and one message for what a constructor refuses."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The Trainer's methods on offer, each with the arguments that the CLI fills in."""
        offered = ("fit", "validate", "test")
        return {name: LightningCLI.subcommands()[name] for name in offered}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--action``, which an overlay can set whatever else is in a config's callbacks."""
        parser.add_argument(
            "--action",
            type=Action | list[Action] | None,
            default=None,
            help="what AnomalyFilterCallback does about flagged filters, in place of its own",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse arguments; Lightning's own method warns when they come from Python, as here."""
        self.config: Any = parser.parse_args(args)  # type: ignore[arg-type]  # `run` has a list

    def instantiate_trainer(self, **options: Any) -> Trainer:
        """Build the Trainer, and hand ``--action`` to its `AnomalyFilterCallback`.

        Raises:
            ValueError: If it has none, or several.
        """
        trainer = super().instantiate_trainer(**options)
        action = self._get(self.config_init, "action")
        if action is not None:
            watching = [c for c in callbacks_of(trainer) if isinstance(c, AnomalyFilterCallback)]
            if len(watching) != 1:
                raise ValueError(
                    f"action: trainer.callbacks has {len(watching)} AnomalyFilterCallback, and one "
                    "is to act: add one, or write the action into the one that is meant"
                )
            watching[0].actions = checked_actions(action)
        return trainer

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer; a refused argument ends the program like a wrong option.

        Set ``JSONARGPARSE_DEBUG=true`` for the traceback.
        """
        try:
            super().instantiate_classes()
        except (TypeError, ValueError) as error:
            self.parser.error(str(error), error)


def run(args: Sequence[str]) -> FilterwatchCLI:
    """Run one of the Trainer's subcommands.

    Args:
        args: The subcommand's name and its arguments. ``--config`` takes a file, or the name of a
            config that comes with filterwatch.

    Returns:
        The finished run, with ``trainer``, ``model`` and ``datamodule``.

    Raises:
        SystemExit: With status 2 on a wrong argument or a missing config.
    """
    try:
        found = list(_with_config_files(args))
    except FileNotFoundError as error:
        print(f"filterwatch {args[0]}: error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    return FilterwatchCLI(
        args=found,
        seed_everything_default=0,
        save_config_callback=SaveConfig,
        # A resumed run writes into the directory of the run it resumes.
        save_config_kwargs={"overwrite": True},
        parser_kwargs={"prog": "filterwatch"},
    )


def _with_config_files(args: Sequence[str]) -> Iterator[str]:
    """Yield the arguments, with the file of each config in place of its name."""
    previous = ""
    for argument in args:
        option, equals, value = argument.partition("=")
        if previous in _CONFIG_OPTIONS:
            yield _config_file(argument)
        elif equals and option in _CONFIG_OPTIONS:
            yield f"{option}={_config_file(value)}"
        else:
            yield argument
        previous = argument


def _config_file(value: str) -> str:
    # A config may also be written out in place of a file's name, "{trainer: …}" or "null".
    is_written_out = value in ("", "null") or any(mark in value for mark in ("{", "\n", ": "))
    return value if is_written_out else str(find_config(value))
