"""What the program says, one line per event: for people on a terminal, as JSON elsewhere, with priorities for journald.

Each line has an event word that stays the same when its wording changes: what scripts and tests wait for.
"""

import atexit
import json
import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from io import FileIO, TextIOWrapper
from threading import Condition, Thread
from typing import Any, TextIO

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
_ROOM = 1 << 20
"""Octets that wait for a reader who hangs, or is slow: at DEBUG, a flood of solicitations would fill the memory."""
_LAST_WORDS = 1.0
"""Seconds that the end waits for what is not written yet."""
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


class _Unhurried(FileIO):
    """A descriptor that is written to by a thread of its own: nobody else waits for whoever reads there.

    What there is no room for is lost, and counted; a line says so as soon as there was time for all the others.
    Raises RuntimeError when there can be no thread.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        # The first of them is the one that is being written.
        self._waiting: deque[bytes] = deque()
        self._octets = 0
        self._lost = 0
        self._changed = Condition()
        Thread(target=self._run, name="log", daemon=True).start()

    def write(self, buffer: Any, /) -> int:
        """Have this written after what is waiting, or lose it."""
        octets = bytes(buffer)
        with self._changed:
            # Not before the line about those that were lost before. With nothing waiting, there is room for any.
            if self._lost or (self._waiting and self._octets + len(octets) > _ROOM):
                self._lost += octets.count(b"\n")
            else:
                self._waiting.append(octets)
                self._octets += len(octets)
                self._changed.notify_all()
        return len(octets)

    def finish(self) -> None:
        """Wait until all is written, but not for ever."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting, _LAST_WORDS)

    def _run(self) -> None:
        failed = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                octets = self._waiting[0]
            try:
                # Not through the stream: the interpreter would wait for its lock at the end, and abort.
                while octets:
                    octets = octets[os.write(self.fileno(), octets) :]
            except OSError:
                # Nobody is there any more, or a disk is full; to be told if that changes.
                failed += octets.count(b"\n")
            with self._changed:
                self._octets -= len(self._waiting.popleft())
                if not octets:
                    self._lost, failed = self._lost + failed, 0
                if self._lost and not self._waiting:
                    self._waiting.append(_lost(self._lost))
                    self._octets, self._lost = len(self._waiting[0]), 0
                self._changed.notify_all()


def _lost(count: int) -> bytes:
    """Return the line that says so, whatever the level: those lines would have been said."""
    [handler] = _logger.handlers
    record = _logger.makeRecord(
        *(_logger.name, logging.WARNING, __file__, 0),
        *(f"{count} lines were lost here: whoever reads the log did not take them", (), None),
        extra={"event": "lines-lost", "fields": {"lines": count}},
    )
    return f"{handler.format(record)}\n".encode()


def wait_for_nobody() -> None:
    """Wait for nobody who reads standard error from now on, only for a moment at the end of the process.

    A pipe can be full, a terminal stopped, a log driver hang; neither answers nor the end are to hang with it. The same
    goes for all else that is written there, such as tracebacks.

    To ask first (poll(2)) would not do: there can be room for a part of a line, and a disk that hangs has room for all.
    O_NONBLOCK would hold for whatever other processes share the pipe or the terminal.
    """
    stream = sys.stderr
    # Without a thread, for a limit of processes, all is written as before.
    with suppress(RuntimeError):
        unhurried = _Unhurried(stream.fileno())
        sys.stderr = TextIOWrapper(unhurried, stream.encoding, stream.errors, write_through=True)
        atexit.register(unhurried.finish)


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
