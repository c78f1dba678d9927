"""docs/conformance.md names what exists, and leaves out no row and no verdict."""

import ast
import re
from pathlib import Path

from vectors import ROWS

from ndpresponder.verdict import Verdict

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"`([^`]+)`")


def _table() -> list[list[str]]:
    """The cells of each line of each table, without its head."""
    lines = (ROOT / "docs/conformance.md").read_text().splitlines()
    rows = [line.strip("|").split("|") for line in lines if line.startswith("| ")]
    return [row for row in rows if "Shown by" not in row[-1]]


def _names(cell: str) -> set[str]:
    return set(_CODE.findall(cell))


def _exists(test: str) -> bool:
    path, _, name = test.partition("::")
    tree = ast.parse((ROOT / path).read_text())
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in tree.body)


def test_each_rule_names_tests_that_exist() -> None:
    table = _table()
    assert len(table) >= 40
    rows = {row.name for row in ROWS}
    for cells in table:
        shown_by = _names(cells[-1])
        assert shown_by, cells[0]
        for name in shown_by:
            assert _exists(name) if "::" in name else name in rows, name


def test_each_row_of_the_table_of_frames_is_named() -> None:
    named = {name for cells in _table() for name in _names(cells[-1])}
    assert {row.name for row in ROWS} <= named


def test_each_verdict_is_named() -> None:
    named = {name for cells in _table() if len(cells) == 4 for name in _names(cells[1])}
    assert named == set(Verdict)
