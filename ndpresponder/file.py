"""The configuration file: TOML (https://toml.io), and its keys are the long names of the command line's flags.

Read as a whole or not at all: what is wrong is one error that names the file, the line, the key, what is allowed and
what may have been meant.
"""

import json
import os
import re
import stat
import tomllib
from codecs import BOM_UTF8
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from enum import Enum
from typing import Any, NoReturn

from . import log
from .config import (
    DOCKER_SDK,
    ENDPOINTS,
    PROMETHEUS_CLIENT,
    Config,
    ConfigError,
    Endpoint,
    Interface,
    Library,
    Multicast,
    Written,
    addresses_of,
    endpoint_of,
    may_be_group,
    may_be_ifname,
    may_be_network,
)
from .netlink import AUTO
from .places import Place, places_of
from .policy import Override

_LARGEST = 1 << 20
"""Octets. Some 30,000 prefixes fit; a disk image or a device that was named by mistake does not."""
_LONGEST_SHOWN = 60
"""Characters of a wrong value that an error repeats."""
_UNNAMED = "''"
"""As a shell writes what is left of a variable that is not set."""


class _UnfitError(Exception):
    """A value that its key does not take; the message says what is allowed."""


def _ifname(value: object) -> str:
    if not isinstance(value, str) or not may_be_ifname(value):
        raise _UnfitError("the name of an interface, in quotes")
    return value


def _texts(value: object) -> list[str]:
    values: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) and re.fullmatch(r"[^\s,]+", each) for each in values):
        raise _UnfitError('one in quotes, or several in a list: ["…", "…"]')
    return values


def _networks(value: object) -> tuple[str, ...]:
    values: list[Any] = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) and may_be_network(each) for each in values):
        raise _UnfitError('the name of a Docker network in quotes, or several in a list: ["…", "…"]')
    return tuple(dict.fromkeys(values))


def _endpoint(value: object) -> Endpoint | None:
    try:
        return endpoint_of(value if isinstance(value, str) else "")
    except ValueError as error:
        raise _UnfitError(f"in quotes, {ENDPOINTS}") from error


def _group(value: object) -> str:
    if not isinstance(value, str) or not may_be_group(value):
        raise _UnfitError("the name or the number of a group, in quotes")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise _UnfitError("true or false, without quotes")
    return value


def _number(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        # In Python a bool is an int too.
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise _UnfitError(f"a whole number from {least} to {most}, without quotes")
        return value

    return read


def _one_of(meanings: Mapping[str, Any]) -> Callable[[object], Any]:
    """Read one of these words, in upper or lower case."""

    def read(value: object) -> Any:
        folded = {word.casefold(): meaning for word, meaning in meanings.items()}
        text = value.casefold() if isinstance(value, str) else ""
        if text not in folded:
            raise _UnfitError(", ".join(f'"{word}"' for word in meanings) + _meant(text, meanings))
        return folded[text]

    return read


def _member(values: type[Enum]) -> Callable[[object], Any]:
    return _one_of({member.value: member for member in values})


_Keys = Mapping[str, tuple[str, Callable[[object], Any]]]
"""Each key, what it is in Config or Interface, and how it is read."""

_PROCESS: _Keys = {
    "log-level": ("log_level", _one_of({name: name for name in log.LEVELS})),
    "log-format": ("log_format", _member(log.Format)),
    "metrics": ("metrics", _endpoint),
    "control-group": ("control_group", _group),
}
_POLICY: _Keys = {
    "router": ("router", _flag),
    "override": ("override", _member(Override)),
    "multicast": ("multicast", _member(Multicast)),
    "multicast-groups": ("few_groups", _number(1, 65536)),
    "gateway": ("keep_gateway", _one_of({"auto": True, "off": False})),
    "announce": ("announce", _flag),
    "docker-unique-local": ("docker_unique_local", _flag),
    "wait": ("wait", _flag),
}
_INTERFACE = "interface"
PROCESS_KEYS = (*_PROCESS,)
"""The keys for the whole process, above the first [[interface]]."""
INTERFACE_KEYS = ("ifname", "subnet", "exclude", "docker-network", *_POLICY)
"""The keys of an [[interface]]."""


def read_file(path: str) -> Config:
    """Return what a configuration file says. Raises ConfigError."""
    return read_text(contents(path), path)


def read_text(text: str, path: str) -> Config:
    """Return what the text of a configuration file says; `path` is its name in errors. Raises ConfigError."""
    try:
        document = tomllib.loads(text)
        places = places_of(text)
    except RecursionError as error:
        raise ConfigError(f"{path}: brackets in brackets, too deep for a configuration") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}{_with_line(text, str(error))}") from error
    except ValueError as error:
        # Of int(), which takes some thousand.
        number = re.search(r"\d[\d_]{600,}", text)
        line = text.count("\n", 0, number.start()) + 1 if number else 1
        raise ConfigError(f"{path}:{line}: a number of too many digits") from error
    return _Reader(path, places).config(document)


def contents(path: str) -> str:
    """Return the text of a file that is meant to be a configuration. Raises ConfigError."""
    try:
        # Without O_NONBLOCK, a named pipe keeps everything waiting until somebody writes to it.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            octets = file.read(_LARGEST + 1) if regular else b""
    except PermissionError as error:
        # It may well be root who is told, because the service is somebody else.
        way_out = "the user that ndpresponder runs as must be able to read it"
        raise ConfigError(f"{path}: {error.strerror}; {way_out}") from error
    except OSError as error:
        raise ConfigError(f"{path or _UNNAMED}: {error.strerror}") from error
    if not regular:
        raise ConfigError(f"{path}: not a regular file")
    if len(octets) > _LARGEST:
        raise ConfigError(f"{path}: larger than {_LARGEST} octets: not a configuration")
    try:
        # Some editors put a mark at the front, which is none of TOML's.
        return octets.removeprefix(BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 (octet {octets[error.start]:#04x}); save it as UTF-8") from error


def _with_line(text: str, message: str) -> str:
    """Put the line that the library names at the end of its message to the front."""
    if match := re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL):
        return f":{match[2]}: {match[1]} (column {match[3]})"
    if message.endswith(" (at end of document)"):
        return f":{text.count(chr(10)) + 1}: {message}"
    return f": {message}"


def _meant(word: str, words: Collection[str]) -> str:
    """Ask for the nearest of some words, if there is one that is near."""
    folded = {each.casefold(): each for each in words}
    near = get_close_matches(word.casefold(), folded, 1)
    return f"; did you mean {folded[near[0]]}?" if near else ""


def _shown(value: object) -> str:
    """Write a value in one line, not too long, as it may have stood in the file."""
    if isinstance(value, dict):
        return "a table"
    try:
        text = json.dumps(value, default=str, ensure_ascii=False)
    except ValueError:
        # Hexadecimal digits have no limit, as decimal ones have.
        return "a number of too many digits"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def _name(key: str) -> str:
    return key if re.fullmatch(r"[\w-]{1,40}", key) else _shown(key)


class _Reader:
    """Reads one document; every error leaves through fail()."""

    def __init__(self, path: str, places: dict[Place, int]) -> None:
        self._path = path
        self._places = places

    def config(self, document: dict[str, Any]) -> Config:
        tables = document.pop(_INTERFACE, [])
        self._check_names((), document, PROCESS_KEYS)
        values = self._values((), document, _PROCESS)
        if values.get("metrics"):
            self._check_library(("metrics",), PROMETHEUS_CLIENT)
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self._fail((_INTERFACE,), "an interface begins with a line [[interface]], in two brackets")
        if not tables:
            raise ConfigError(
                f"{self._path}: nothing to answer for: it has no [[interface]] with an ifname and a subnet"
            )
        interfaces = tuple(self._interface(number, table) for number, table in enumerate(tables))
        self._check_ifnames([each.ifname for each in interfaces])
        self._check_networks(interfaces)
        return Config(interfaces, **values)

    def _interface(self, number: int, table: dict[str, Any]) -> Interface:
        place: Place = (_INTERFACE, number)
        self._check_names(place, table, INTERFACE_KEYS)
        if "ifname" not in table:
            self._fail(place, 'an [[interface]] needs an ifname, such as ifname = "eth0"')
        ifname = self._value((*place, "ifname"), table["ifname"], _ifname)
        answered = self._written((*place, "subnet"), table.get("subnet", []))
        excluded = self._written((*place, "exclude"), table.get("exclude", []))
        networks = self._value((*place, "docker-network"), table.get("docker-network", []), _networks)
        if networks:
            self._check_library((*place, "docker-network"), DOCKER_SDK)
        if not answered and not networks:
            self._fail(
                place,
                f"nothing to answer for on {_name(ifname)}: it needs a subnet or a docker-network, "
                'such as subnet = "2001:db8::/112"',
            )
        entries, remarks = addresses_of(answered, excluded, more=bool(networks))
        values = self._values(place, table, _POLICY)
        return Interface(ifname, entries, remarks=remarks, docker_networks=networks, **values)

    def _values(self, place: Place, table: dict[str, Any], keys: _Keys) -> dict[str, Any]:
        there = ((key, name, read) for key, (name, read) in keys.items() if key in table)
        return {name: self._value((*place, key), table[key], read) for key, name, read in there}

    def _value(self, place: Place, value: object, read: Callable[[object], Any]) -> Any:
        try:
            return read(value)
        except _UnfitError as error:
            self._fail(place, f"{place[-1]} cannot be {_shown(value)}; allowed: {error}")

    def _written(self, place: Place, value: object) -> list[Written]:
        """Read a list of prefixes, or a single one, each with its own line."""
        texts = self._value(place, value, _texts)
        return [Written(f"{self._where((*place, number))}{place[-1]}", text) for number, text in enumerate(texts)]

    def _check_names(self, place: Place, table: dict[str, Any], known: Collection[str]) -> None:
        for key in table:
            if key in known:
                continue
            if key in INTERFACE_KEYS:
                advice = "it belongs below a line [[interface]]"
            elif key in PROCESS_KEYS:
                advice = "it is for the whole process: it belongs above the first [[interface]]"
            else:
                there = (*known, f"[[{_INTERFACE}]]") if not place else known
                advice = f"allowed: {', '.join(there)}{_meant(key, there)}"
            self._fail((*place, key), f"{_name(key)} is not a key here; {advice}")

    def _check_library(self, place: Place, library: Library) -> None:
        if not library.is_installed():
            self._fail(place, library.needed)

    def _check_ifnames(self, ifnames: list[str]) -> None:
        for number, ifname in enumerate(ifnames):
            place: Place = (_INTERFACE, number, "ifname")
            if (before := ifnames.index(ifname)) < number:
                line = self._places[_INTERFACE, before, "ifname"]
                self._fail(place, f"{_name(ifname)} has an [[interface]] already, in line {line}; make one of the two")
            if ifname == AUTO and len(ifnames) > 1:
                self._fail(place, '"auto" can come to be any of the other interfaces; name this one')

    def _check_networks(self, interfaces: tuple[Interface, ...]) -> None:
        unique_local: dict[str, bool] = {}
        for number, interface in enumerate(interfaces):
            for name in interface.docker_networks:
                if unique_local.setdefault(name, interface.docker_unique_local) != interface.docker_unique_local:
                    self._fail(
                        (_INTERFACE, number, "docker-network"),
                        f"{_name(name)} has another docker-unique-local at another [[interface]]; give it the same",
                    )

    def _where(self, place: Place) -> str:
        while place not in self._places and place:
            place = place[:-1]
        return f"{self._path}:{self._places.get(place, 1)}: "

    def _fail(self, place: Place, message: str) -> NoReturn:
        raise ConfigError(f"{self._where(place)}{message}")
