"""What the documents say about each other and about the program."""

import re
from pathlib import Path

from ndpresponder import __version__

ROOT = Path(__file__).parents[2]


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == __version__


def test_the_package_has_this_version() -> None:
    entry = re.match(r"ndpresponder \((\S+)\) unstable;", (ROOT / "packaging/debian/changelog").read_text())
    assert entry
    assert entry[1] == __version__


def test_ci_runs_what_the_readme_tells_to_run() -> None:
    assert "\n    make test\n" in (ROOT / "README.md").read_text()
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "exec make test"
