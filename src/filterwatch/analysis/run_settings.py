"""What a finished model is judged by: options, else the settings of its run, else the defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from filterwatch.analysis.model_files import DETECTION, InputError, RunSettings, Settings
from filterwatch.detection import AnomalyCriteria


@dataclass(frozen=True)
class JudgingSettings(Settings):
    """The arguments of `analyze` that verdicts depend on, and where they come from."""

    origin: str = "the defaults"  # for people

    def arguments(self) -> dict[str, Any]:
        """Return them as arguments of `analyze`."""
        detection = {name: getattr(self, name) for name in DETECTION}
        return {"criteria": self.criteria, "judged_by": self.origin, **detection}


def choose_settings(
    runs: Sequence[Sequence[RunSettings]],
    asked: Mapping[str, Any],
    prefix: str | None = None,
) -> JudgingSettings:
    """Choose what one or several models are judged by, all of them alike.

    Args:
        runs: For each model, what the callbacks that watched its run were set to.
        asked: Thresholds and arguments that were given; they come before a run's.
        prefix: Which callback's settings to take, where several watched a run. Default: the only
            one's.

    Raises:
        InputError: If several watched a run and none is named, none has that prefix, or two runs
            had other settings and nothing decides between them.
    """
    chosen = [run for watching in runs if (run := _one(watching, prefix)) is not None]
    if prefix is not None and not chosen:
        raise InputError(f"--prefix {prefix!r}: no file holds the settings of a watched run")
    if chosen:
        found = [_merged(run, asked) for run in chosen]
        if any(other != found[0] for other in found[1:]):
            raise InputError(
                "the runs of the two models were judged by different settings "
                f"({_words(chosen[0])}; {_words(chosen[1])}): say which to use with "
                "--small-cluster-size, --max-clusters and the like"
            )
        settings = replace(found[0], origin="the settings of the run, kept in the checkpoint")
    else:
        settings = _merged(RunSettings(), asked)
    if asked:
        given = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
        settings = replace(settings, origin=f"{settings.origin}; as given: {given}")
    return settings


def _one(watching: Sequence[RunSettings], prefix: str | None) -> RunSettings | None:
    if prefix is not None:
        named = [run for run in watching if run.prefix == prefix]
        if watching and not named:
            raise InputError(f"--prefix {prefix!r}: the run was watched by {_prefixes(watching)}")
        return named[0] if named else None
    if len(watching) > 1 and any(_words(run) != _words(watching[0]) for run in watching):
        raise InputError(
            f"several callbacks watched the run, with different settings: {_prefixes(watching)}. "
            "Say whose to use with --prefix"
        )
    return watching[0] if watching else None


def _merged(run: RunSettings, asked: Mapping[str, Any]) -> JudgingSettings:
    criteria = asdict(run.criteria)
    criteria |= {name: value for name, value in asked.items() if name in criteria}
    detection = {name: asked.get(name, getattr(run, name)) for name in DETECTION}
    return JudgingSettings(AnomalyCriteria(**criteria), **detection)


def _words(run: RunSettings) -> str:
    settings = asdict(run.criteria) | {name: getattr(run, name) for name in DETECTION}
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _prefixes(watching: Sequence[RunSettings]) -> str:
    return ", ".join(f"prefix={run.prefix!r} ({_words(run)})" for run in watching)
