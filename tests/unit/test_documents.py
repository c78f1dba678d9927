"""What the documents say about each other and about the program."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def headings(document: Path) -> set[str]:
    """The headings of a document as they stand in links."""
    found = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize(
    "document", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda path: str(path.relative_to(ROOT))
)
def test_each_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", document.read_text())
    targets = [(document.parent / path if path else document, heading) for path, heading in links]
    assert [str(path) for path, _ in targets if not path.exists()] == []
    assert [heading for path, heading in targets if heading and heading not in headings(path)] == []


def logged() -> Iterator[tuple[str, str, list[str]]]:
    """Each place that logs something: the level, the event, and the fields that are named there."""
    levels = {"debug": "debug", "info": "info", "warning": "warn", "error": "error", "fatal": "fatal"}
    for path in (ROOT / "ndpresponder").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(ast.Attribute(ast.Name("log"), function), [ast.Constant(str(event)), *_], keywords) if (
                    function in levels
                ):
                    yield levels[function], event, [each.arg for each in keywords if each.arg]


def test_each_event_of_the_log_is_documented() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| ([\w, ]+) \| .* \| (.*)\|$", (ROOT / "docs/log.md").read_text(), re.MULTILINE)
    documented = {
        event: (set(levels.split(", ")), set(re.findall(r"`(\w+)`", fields))) for event, levels, fields in rows
    }
    # What the log says of itself.
    said = {"lines-lost": {"warn"}}
    for level, event, fields in logged():
        said.setdefault(event, set()).add(level)
        assert set(fields) <= documented[event][1], event
    assert {event: levels for event, (levels, _) in documented.items()} == said
