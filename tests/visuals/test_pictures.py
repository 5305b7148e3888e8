"""The argument ``pictures``: what it takes, in Python and in YAML."""

from __future__ import annotations

from typing import Any

import pytest
from jsonargparse import ArgumentParser

from filterwatch.callbacks import AnomalyFilterCallback
from filterwatch.visuals import Pictures, chosen_pictures


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (True, Pictures()),
        (False, None),
        (1, Pictures(every_n_epochs=1)),
        (7, Pictures(every_n_epochs=7)),
        (Pictures(n_filters=2), Pictures(n_filters=2)),
    ],
)
def test_what_an_argument_stands_for(argument: Any, expected: Any) -> None:
    assert chosen_pictures(argument) == expected
    assert AnomalyFilterCallback(pictures=argument).gallery.pictures == expected


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        (0, ValueError, "pictures=0 is no number of epochs"),
        (-3, ValueError, "pictures=-3"),
        (2.5, TypeError, "pictures=2.5 says nothing"),
        ("yes", TypeError, "pictures='yes'"),
        (None, TypeError, "pictures=None"),
    ],
)
def test_what_is_refused(argument: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        AnomalyFilterCallback(pictures=argument)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every_n_epochs": 0}, ValueError, "every_n_epochs=0"),
        ({"n_filters": -1}, ValueError, "n_filters=-1"),
        ({"n_samples": 1.5}, TypeError, r"n_samples=1\.5"),
    ],
)
def test_pictures_refuses(options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        Pictures(**options)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pictures: false", False),
        ("pictures: true", True),
        ("pictures: 3", 3),
        ("pictures: {every_n_epochs: 2, n_samples: 0}", Pictures(every_n_epochs=2, n_samples=0)),
        (
            "pictures:\n  class_path: filterwatch.visuals.Pictures\n  init_args: {n_filters: 1}",
            Pictures(n_filters=1),
        ),
        ("{}", True),
    ],
)
def test_every_form_can_be_written_in_yaml(text: str, expected: Any) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AnomalyFilterCallback, "watch")
    indented = "\n".join(f"  {line}" for line in text.splitlines())
    config = parser.parse_string(f"watch:\n{indented}")
    callback = parser.instantiate_classes(config).watch
    assert callback.pictures == expected
    assert type(callback.pictures) is type(expected)
