"""What the program says, one line per event: for people on a terminal, as JSON elsewhere, with priorities for journald.

Each line has an event word that stays the same when its wording changes: what scripts and tests wait for.
"""

import json
import logging
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import TextIO

LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.CRITICAL,
}
_NAMES = {number: name.lower() for name, number in LEVELS.items()}
_COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "1;31"}
# sd-daemon(3): what syslog calls debug, info, warning, err, crit.
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_MOST_NAMED = 8
"""How many things of a kind a line names."""
_logger = logging.getLogger("ndpresponder")


class Format(Enum):
    """How a line is written."""

    AUTO = "auto"
    """HUMAN on a terminal, else JSON."""
    HUMAN = "human"
    JSON = "json"


class _Human(logging.Formatter):
    def __init__(self, *, coloured: bool, timed: bool) -> None:
        super().__init__()
        self._coloured = coloured
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        line = record.getMessage()
        if record.levelno != logging.INFO:
            line = f"{_NAMES[record.levelno]}: {line}"
        if self._coloured and (colour := _COLOURS.get(record.levelno)):
            line = f"\033[{colour}m{line}\033[0m"
        if self._timed:
            line = f"{datetime.fromtimestamp(record.created).astimezone():%H:%M:%S} {line}"
        return line


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": _NAMES[record.levelno],
                "event": record.__dict__["event"],
                "message": record.getMessage(),
                **record.__dict__["fields"],
            },
            default=str,
        )


class _Journal(logging.Formatter):
    """Puts the priority in front of another format's lines (sd-daemon(3))."""

    def __init__(self, inner: logging.Formatter) -> None:
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES[record.levelno]}>{self._inner.format(record)}"


def _is_journal(stream: TextIO) -> bool:
    """Whether `stream` goes to journald: systemd names its device and inode (systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def setup(level: int, style: Format) -> None:
    """Write lines of `level` (of the logging module) and above to standard error from now on."""
    stream = sys.stderr
    terminal, journal = stream.isatty(), _is_journal(stream)
    formatter: logging.Formatter
    if style is Format.HUMAN or (style is Format.AUTO and terminal):
        # https://no-color.org: any value that is not empty. journald keeps the time itself.
        formatter = _Human(coloured=terminal and not os.environ.get("NO_COLOR"), timed=not journal)
    else:
        formatter = _Json()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Journal(formatter) if journal else formatter)
    _logger.handlers = [handler]
    _logger.propagate = False
    _logger.setLevel(level)


def some(things: Sequence[object]) -> str:
    """List things for a line, the first few by name."""
    named = ", ".join(map(str, things[:_MOST_NAMED]))
    return named + (f" and {len(things) - _MOST_NAMED} more" if len(things) > _MOST_NAMED else "")


def verbose() -> bool:
    """Whether debug() says anything, for those who would pay to ask it."""
    return _logger.isEnabledFor(logging.DEBUG)


def _say(level: int, event: str, message: str, **fields: object) -> None:
    """Log `message`, a sentence for people, and beside it the event's stable word and its fields."""
    if _logger.isEnabledFor(level):
        _logger.log(level, "%s", message, extra={"event": event, "fields": fields})


debug = partial(_say, logging.DEBUG)
info = partial(_say, logging.INFO)
warning = partial(_say, logging.WARNING)
error = partial(_say, logging.ERROR)
fatal = partial(_say, logging.CRITICAL)
