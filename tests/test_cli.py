"""The command line's table of subcommands."""

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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


def test_python_m_filterwatch_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "filterwatch", "--version"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout[:14]) == (0, "filterwatch 0.")


def interrupted(_: Sequence[str]) -> None:
    raise KeyboardInterrupt


def interrupted_trainer(_: Sequence[str]) -> None:
    """What a Trainer does on Ctrl-C."""
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize("command", [interrupted, interrupted_trainer])
def test_control_c_ends_with_130(
    command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "interrupted", command, raising=False)
    monkeypatch.setitem(cli.COMMANDS, "stop", Command("", "filterwatch.cli:interrupted"))
    with pytest.raises(SystemExit) as end:
        main(["stop"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "filterwatch: interrupted\n"


def test_control_c_in_a_fit_leaves_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "filterwatch", "fit", "--config", "quickstart"]
    running = subprocess.Popen(
        [*command, "--trainer.accelerator=cpu", "--trainer.max_epochs=1000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    while "epoch" not in running.stdout.readline():  # until training has begun
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "Traceback" not in errors
