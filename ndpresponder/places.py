"""In which line of a TOML text a key stands: the reader of the standard library does not tell.

This checks nothing: it walks through the brackets and quotes of a text that the reader has accepted.
"""

import re
import tomllib
from collections.abc import Iterator
from typing import NamedTuple

Place = tuple[str | int, ...]
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


def places_of(text: str) -> dict[Place, int]:
    """Return the line, from 1, in which each table, key and list item of a valid TOML text begins."""
    return _Walk(text).places


class _Walk:
    def __init__(self, text: str) -> None:
        self.places: dict[Place, int] = {}
        # How many tables each list of tables has so far, less one: the number of the last.
        self._last: dict[Place, int] = {}
        self._tokens = _tokens(text)
        self._next = next(self._tokens, _END)
        table: Place = ()
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

    def _note(self, place: Place, line: int) -> None:
        # What comes up again was made by its first mention.
        self.places.setdefault(place, line)

    def _header(self) -> Place:
        line = self._take().line
        several = self._next.text == "["
        place: Place = ()
        for key in self._keys("]"):
            if place in self._last:
                place = *place, self._last[place]
            place = *place, key
            self._note(place, line)
        if several:
            self._last[place] = self._last.get(place, -1) + 1
        if place in self._last:
            place = *place, self._last[place]
            self._note(place, line)
        if several:
            self._take()
        return place

    def _keys(self, end: str) -> Iterator[str]:
        """Read the parts of a key up to the sign behind it."""
        while (token := self._take()) is not _END and token.text != end:
            if token.kind == "string":
                # The reader knows the escapes.
                yield from tomllib.loads(f"{token.text} = 0")
            elif token.kind == "word":
                yield token.text

    def _assignment(self, table: Place) -> None:
        line = self._next.line
        for key in self._keys("="):
            table = *table, key
            self._note(table, line)
        self._value(table)

    def _value(self, place: Place) -> None:
        if self._next.text == "[":
            self._take()
            number = 0
            while self._skip_lines() is not _END and self._next.text != "]":
                self._note((*place, number), self._next.line)
                self._value((*place, number))
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
                    self._assignment(place)
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
