"""The configs that come with filterwatch, found by name."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent
# In a wheel they lie inside the package, in a clone beside `src`.
_FOLDERS = (_HERE / "configs", _HERE.parent.parent / "configs")


def config_names() -> list[str]:
    """Return the names that `find_config` knows: ``"quickstart"``, ``"actions/mask"`` and so on."""
    folder = _folder()
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )


def find_config(name: str) -> Path:
    """Return the file of a config: a path where there is such a file, else by its name.

    Raises:
        FileNotFoundError: If there is neither; the message lists the names.
    """
    if Path(name).is_file():
        return Path(name)
    if name in config_names():
        return _folder() / f"{name}.yaml"
    raise FileNotFoundError(
        f"--config {name}: there is no such file. By name there are {', '.join(config_names())}"
    )


def _folder() -> Path:
    return next(folder for folder in _FOLDERS if (folder / "quickstart.yaml").is_file())
