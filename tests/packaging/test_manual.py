"""The manual pages: all that there is to know is in them, and they are well-formed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ndpresponder.file import INTERFACE_KEYS, PROCESS_KEYS

PAGES = Path(__file__).parents[2] / "packaging/man"
NAMES = "ndpresponder.8", "ndpresponder.toml.5"

pytestmark = pytest.mark.skipif(shutil.which("groff") is None, reason="not installed: groff")


def formatted(name: str) -> str:
    """Return a page as plain text, and what the formatter says about it, which is nothing."""
    done = subprocess.run(
        ["groff", "-mandoc", "-ww", "-P-cbou", "-Tutf8", PAGES / name], capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout


def titles(name: str) -> set[str]:
    """Return the words of what a page explains: such a title has a line of its own, or, if short, a gap behind it."""
    found = re.findall(r"^ {5}(\S.*?)(?: {2,}\S|\n {13}\S)", formatted(name), re.MULTILINE)
    return {word for title in found for word in re.split(r"[\s,[\]]+", title)}


def usage(*command: str) -> str:
    """Return what --help says."""
    words = [sys.executable, "-m", "ndpresponder", *command, "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def commands() -> list[str]:
    _, _, rows = usage().partition("\nCommands:\n")
    return re.findall(r"^  (\S+)", rows.partition("\n\n")[0], re.MULTILINE)


def options(*command: str) -> set[str]:
    """Return every option that --help has a row for."""
    rows = re.findall(r"^  (-\S.*?)(?:  |$)", usage(*command), re.MULTILINE)
    return {word for row in rows for word in re.findall(r"(?<!\S)--?[a-z][\w-]*", row, re.IGNORECASE)}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_well_formed(name: str) -> None:
    assert formatted(name)


def test_every_option_has_its_paragraph() -> None:
    assert "--subnet" in options()
    assert options() - titles("ndpresponder.8") == set()


def test_every_command_and_its_options_are_explained() -> None:
    explained = titles("ndpresponder.8")
    found = commands()
    assert "filter" in found
    for command in found:
        assert {command, *options(command)} - explained - {"--help"} == set()


def test_every_key_has_its_paragraph() -> None:
    assert {*PROCESS_KEYS, *INTERFACE_KEYS} - titles("ndpresponder.toml.5") == set()
