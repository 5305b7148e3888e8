"""The command line's table of subcommands."""

import re
from collections.abc import Sequence

import pytest

from filterwatch import cli
from filterwatch.cli import Command, main


def test_help_lists_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        # argparse puts the summary of a long name into a line of its own.
        assert re.search(rf"^    {name}\s+{re.escape(command.summary)}$", shown, re.M)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("filterwatch 0.")


@pytest.mark.parametrize(
    ("args", "message"),
    [([], "required: COMMAND"), (["fitt"], "'fitt' (choose from"), (["-x"], "COMMAND")],
)
def test_wrong_subcommand_says_what_there_is(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_a_subcommand_is_one_entry_and_imported_when_called(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Sequence[str]] = []
    monkeypatch.setattr(cli, "recorded", calls.append, raising=False)
    monkeypatch.setitem(
        cli.COMMANDS, "record", Command("note the call", "filterwatch.cli:recorded")
    )
    monkeypatch.setitem(cli.COMMANDS, "broken", Command("cannot be imported", "no_such_module:run"))

    main(["record", "--help", "-x", "--", "--version", "1"])
    assert calls == [["record", "--help", "-x", "--", "--version", "1"]]

    with pytest.raises(SystemExit):
        main(["--help"])
    assert "note the call" in capsys.readouterr().out
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        main(["broken"])


def test_arguments_default_to_those_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["filterwatch", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert "filterwatch 0." in capsys.readouterr().out
