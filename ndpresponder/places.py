"""In which line of a TOML text a key stands: the reader of the standard library does not tell.

This checks nothing: it walks through the brackets and quotes of a text that the reader has accepted.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

Path = tuple[str | int, ...]
"""Keys from the top of the document downward, and numbers, from 0, of the items of lists."""

_TOKEN = re.compile(
    r"""
      (?P<line_end>\n)
    | (?P<blank>[ \t\r]+ | \#[^\n]*)
    | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\])*" | '[^']*')
    | (?P<sign>[\[\]{},=.])
    | (?P<word>[^\s\[\]{},=.\#"']+)
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    kind: str | None
    text: str
    line: int


_END = _Token(None, "", 0)


def places_of(text: str) -> dict[Path, int]:
    """Return the line, from 1, in which each table, key and list item of a valid TOML text begins."""
    return _Walk(text).places


class _Walk:
    def __init__(self, text: str) -> None:
        self.places: dict[Path, int] = {}
        # How many tables each list of tables has so far, less one: the number of the last.
        self._last: dict[Path, int] = {}
        self._tokens = _tokens(text)
        self._next = next(self._tokens, _END)
        table: Path = ()
        while self._skip_lines() is not _END:
            if self._next.text == "[":
                table = self._header()
            else:
                self._assignment(table)

    def _take(self) -> _Token:
        taken, self._next = self._next, next(self._tokens, _END)
        return taken

    def _skip_lines(self) -> _Token:
        while self._next.kind == "line_end":
            self._take()
        return self._next

    def _note(self, path: Path, line: int) -> None:
        # What comes up again was made by its first mention.
        self.places.setdefault(path, line)

    def _header(self) -> Path:
        line = self._take().line
        several = self._next.text == "["
        path: Path = ()
        for key in self._keys("]"):
            if path in self._last:
                path = *path, self._last[path]
            path = *path, key
            self._note(path, line)
        if several:
            self._last[path] = self._last.get(path, -1) + 1
        if path in self._last:
            path = *path, self._last[path]
            self._note(path, line)
        if several:
            self._take()
        return path

    def _keys(self, end: str) -> Iterator[str]:
        """Read the parts of a key up to the sign behind it."""
        while (token := self._take()) is not _END and token.text != end:
            if token.kind == "string":
                # The reader knows the escapes.
                yield from tomllib.loads(f"{token.text} = 0")
            elif token.kind == "word":
                yield token.text

    def _assignment(self, table: Path) -> None:
        line = self._next.line
        for key in self._keys("="):
            table = *table, key
            self._note(table, line)
        self._value(table)

    def _value(self, path: Path) -> None:
        if self._next.text == "[":
            self._take()
            number = 0
            while self._skip_lines() is not _END and self._next.text != "]":
                self._note((*path, number), self._next.line)
                self._value((*path, number))
                number += 1
                if self._skip_lines().text == ",":
                    self._take()
            self._take()
        elif self._next.text == "{":
            self._take()
            while self._skip_lines() is not _END and self._next.text != "}":
                if self._next.text == ",":
                    self._take()
                else:
                    self._assignment(path)
            self._take()
        else:
            # Numbers and dates are several tokens.
            while self._next is not _END and self._next.kind != "line_end" and self._next.text not in {",", "]", "}"}:
                self._take()


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match.lastgroup != "blank":
            yield _Token(match.lastgroup, match[0], line)
        line += match[0].count("\n")
