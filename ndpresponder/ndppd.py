"""From a configuration of ndppd (its manual: ndppd.conf(5)) to one of this program.

A `static` rule is a prefix to answer for. What asks the inside first has no equivalent; it becomes a comment with the
reason, so that nothing is lost silently, and nothing is answered for that was not before.

ndppd ends a value with a blank or a line; a semicolon, which its later versions want, ends one here too.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Interface, IPv6Network
from typing import NamedTuple

from .config import ConfigError, Written, addresses_of, may_be_ifname

_TOKEN = re.compile(
    r"""
      (?P<blank>[^\S\n]+ | \#[^\n]* | //[^\n]* | /\*.*?(?:\*/|\Z))
    | (?P<line_end>\n | ;)
    | (?P<sign>[{}=])
    | "(?P<double>[^"\n]*)"? | '(?P<single>[^'\n]*)'?
    | (?P<word>(?:(?!//|/\*)[^\s{}=;\#"'])+)
    """,
    re.VERBOSE | re.DOTALL,
)
_DEEPEST = 8
"""Blocks inside of each other; ndppd knows two. A file of nothing but brackets gets no further."""

_NOBODY_ASKED = "nobody inside is asked, so that nothing is waited for or repeated"
_NO_EQUIVALENT = {
    "route-ttl": "routes are not looked up",
    "address-ttl": "addresses are followed as they change",
    "ttl": "nothing is cached: each solicitation is decided by itself",
    "deadtime": "nothing is cached: each solicitation is decided by itself",
    "timeout": _NOBODY_ASKED,
    "retries": _NOBODY_ASKED,
    "keepalive": _NOBODY_ASKED,
    "autowire": "no routes are added",
    "promiscuous": "how multicast is received is said by the key multicast",
}


class _Token(NamedTuple):
    line: int
    kind: str
    text: str


@dataclass(slots=True)
class _Statement:
    """`name value { inside }`, of which all but the name can be missing."""

    line: int
    name: str
    value: str = ""
    inside: list["_Statement"] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name} {_plain(self.value)}".rstrip()

    def has(self, name: str) -> bool:
        """Whether there is such a statement inside."""
        return any(each.name == name for each in self.inside)


@dataclass(slots=True)
class _Interface:
    """What all proxy sections of one interface come to."""

    router: bool = True
    subnets: dict[IPv6Network, int] = field(default_factory=dict)
    """Each with its line."""
    notes: list[str] = field(default_factory=list)


def convert(text: str, path: str) -> tuple[str, int]:
    """Return the TOML for a configuration of ndppd, and for how many interfaces it answers; `path` is its name.

    Raises ConfigError.
    """
    top = _Parser(text, path).statements()
    notes: list[str] = []
    interfaces: dict[str, _Interface] = {}
    for statement in top:
        if statement.name != "proxy":
            notes.append(_without_equivalent(statement))
        elif not may_be_ifname(statement.value):
            raise ConfigError(f"{path}:{statement.line}: {statement}: not the name of an interface")
        else:
            _convert_proxy(statement, interfaces.setdefault(statement.value, _Interface()))
    if not interfaces:
        raise ConfigError(f"{path}: no proxy section: not a configuration of ndppd")
    lines = [f"# From {_plain(path)}, by ndpresponder import-ndppd.", *_comments(notes)]
    for ifname, interface in interfaces.items():
        lines += ["", *_interface_lines(ifname, interface)]
    return "\n".join([*lines, ""]), sum(bool(interface.subnets) for interface in interfaces.values())


def _convert_proxy(proxy: _Statement, interface: _Interface) -> None:
    for statement in proxy.inside:
        if statement.name == "rule":
            _convert_rule(statement, interface)
        elif statement.name == "router":
            # As ndppd reads it: what is neither of these is a no.
            interface.router = statement.value.lower() in {"yes", "true"}
        else:
            interface.notes.append(_without_equivalent(statement))


def _convert_rule(rule: _Statement, interface: _Interface) -> None:
    try:
        addresses_of([Written("rule", rule.value)], [])
    except ConfigError as error:
        interface.notes.append(f"line {rule.line}: {_plain(str(error))}")
        return
    prefix = IPv6Interface(rule.value).network
    # In this order, and static where there is none of them, as ndppd does.
    if asking := [each for each in rule.inside if each.name in {"iface", "auto"}]:
        interface.notes.append(
            f"line {rule.line}: rule {prefix} with {asking[0]} has no equivalent yet: it asks inside first; "
            "to answer for all of it without asking, write it into subnet"
        )
    else:
        interface.subnets.setdefault(prefix, rule.line)
    interface.notes += (
        _without_equivalent(each) for each in rule.inside if each.name not in {"static", "iface", "auto"}
    )


def _without_equivalent(statement: _Statement) -> str:
    reason = _NO_EQUIVALENT.get(statement.name, "not known")
    return f"line {statement.line}: {statement} has no equivalent: {reason}"


def _interface_lines(ifname: str, interface: _Interface) -> Iterator[str]:
    if not interface.subnets:
        yield f"# {ifname}: no static rule, nothing to answer for."
    else:
        yield "[[interface]]"
        yield f"ifname = {json.dumps(ifname)}"
        if not interface.router:
            yield "router = false"
        yield "subnet = ["
        yield from (f'    "{prefix}", # line {line}' for prefix, line in interface.subnets.items())
        yield "]"
    yield from _comments(interface.notes)


def _comments(notes: list[str]) -> Iterator[str]:
    return (f"# {note}" for note in notes)


def _plain(text: str) -> str:
    """What a comment or an error can repeat: in one line, and not too long."""
    return "".join(each if each.isprintable() else "?" for each in text[:200])


class _Parser:
    def __init__(self, text: str, path: str) -> None:
        self._path = path
        self._tokens = _tokens(text)
        self._next = next(self._tokens)

    def statements(self) -> list[_Statement]:
        """Read the whole file."""
        return list(self._block(0))

    def _take(self) -> _Token:
        taken = self._next
        self._next = next(self._tokens, taken)
        return taken

    def _block(self, opened: int, depth: int = 0) -> Iterator[_Statement]:
        """Read statements up to the end of the block that was opened in this line; the file itself is one of line 0."""
        if depth > _DEEPEST:
            raise ConfigError(f"{self._path}:{opened}: blocks inside of blocks, too deep for ndppd")
        while True:
            token = self._take()
            if token.kind == "end" and opened:
                raise ConfigError(f"{self._path}:{opened}: the {{ of this line has no }}")
            if token.text == "}" and not opened:
                raise ConfigError(f"{self._path}:{token.line}: a }} without a {{ before it")
            if token.kind == "end" or token.text == "}":
                return
            if token.kind == "word":
                yield self._statement(token, depth)
            elif token.kind == "sign":
                raise ConfigError(f"{self._path}:{token.line}: {token.text} where a name such as proxy or rule belongs")

    def _statement(self, name: _Token, depth: int) -> _Statement:
        statement = _Statement(name.line, name.text)
        if self._next.text == "=":
            self._take()
        if self._next.kind == "word":
            statement.value = self._take().text
        while self._next.kind == "line_end" and name.text in {"proxy", "rule"}:
            self._take()
        if self._next.text == "{":
            statement.inside = list(self._block(self._take().line, depth + 1))
        return statement


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind in {"double", "single"}:
            yield _Token(line, "word", match[kind])
        elif kind != "blank":
            yield _Token(line, kind, match[0])
        line += match[0].count("\n")
    yield _Token(line, "end", "")
