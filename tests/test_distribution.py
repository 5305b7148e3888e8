"""What `pip install filterwatch` brings: the wheel's files, and its page on the package index."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a wheel of the clone, built as pip builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, ROOT]
    subprocess.run(command, check=True, timeout=600)
    return next(folder.glob("*.whl"))


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.mark.slow
def test_the_wheel_has_each_file_of_the_package_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for path in (SOURCES / "filterwatch").rglob("*") if path.is_file()}
    wanted = {str(path.relative_to(SOURCES)) for path in files if "__pycache__" not in path.parts}
    assert wanted <= names
    # Configs are in the clone's top level.
    assert all(name.startswith("filterwatch/configs/") for name in names - wanted)


@pytest.mark.slow
def test_the_page_on_the_index_leads_somewhere(wheel: Path) -> None:
    text = str(metadata(wheel).get_payload())
    targets = re.findall(r"\]\(([^)\s]+)|\b(?:src|href|srcset)=\"([^\"]+)", text)
    assert targets
    for target in (markdown or html for markdown, html in targets):
        assert re.match("https://|#", target), target
    version = metadata(wheel)["Version"]
    base = f"https://raw.githubusercontent.com/filterwatch/filterwatch/v{version}/"
    pictures = re.findall(rf"{re.escape(base)}([^)\"\s]+)", text)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).is_file(), picture


@pytest.mark.slow
def test_the_version_is_the_same_everywhere(wheel: Path) -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.M) == [metadata(wheel)["Version"]]


@pytest.mark.slow
def test_the_wheel_runs_by_itself(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import filterwatch.cli; print(filterwatch.__file__); filterwatch.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    where, version = done.stdout.splitlines()
    assert where == str(tmp_path / "filterwatch/__init__.py")
    assert version == f"filterwatch {metadata(wheel)['Version']}"
