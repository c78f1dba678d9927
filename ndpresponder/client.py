"""Asks the daemons of this host, over their control sockets (docs/control.md)."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from select import select
from socket import AF_UNIX, MSG_PEEK, SO_SNDTIMEO, SOCK_STREAM, SOL_SOCKET, socket
from struct import Struct
from time import monotonic
from typing import Any

from .claim import DIRECTORY
from .control import SUFFIX, VERSION

_PATIENCE = 5.0
"""Seconds that a reply may take."""
_CHUNK = 1 << 16
_LARGEST = 1 << 26
"""Octets of a reply: a peer that does not come to an end is none of ours."""

_TIMEVAL = Struct("@ll")  # struct timeval of setsockopt(2): seconds, microseconds


class ClientError(Exception):
    """There is no reply to be had. The message is one line that says why."""


class NoDaemonError(ClientError):
    """There is nobody to ask."""


class Stream:
    """A connection to a daemon that has taken a request. `reply` is the first line of what it says."""

    def __init__(self, path: Path, request: Mapping[str, Any]) -> None:
        self._path = path
        self._rest = b""
        self._channel = socket(AF_UNIX, SOCK_STREAM)
        try:
            # The kernel's own: with Python's, connect() would not wait for a place in the queue (unix(7), EAGAIN).
            patience = _TIMEVAL.pack(*divmod(int(_PATIENCE * 1e6), 10**6))
            self._channel.setsockopt(SOL_SOCKET, SO_SNDTIMEO, patience)
            self._channel.connect(str(path))
            self._channel.settimeout(_PATIENCE)
            # What is refused at once is told why, and is not there any more to take a request.
            with suppress(ConnectionError):
                self._channel.sendall(json.dumps(request).encode() + b"\n")
            self.reply = self._read(self._first_line())
        except BaseException:
            self.close()
            raise
        if "error" in self.reply:
            self.close()
            raise ClientError(f"{path}: {self.reply['error']}")

    def fileno(self) -> int:
        """Return the file descriptor, for poll(2)."""
        return self._channel.fileno()

    def close(self) -> None:
        """Say that nothing more is wanted."""
        self._channel.close()

    def more(self) -> list[dict[str, Any]] | None:
        """Wait for what comes next, and return it, perhaps not even a whole line; None at the end."""
        try:
            octets = self._channel.recv(_CHUNK)
        except ConnectionError:
            octets = b""
        if not octets:
            return None
        *lines, self._rest = (self._rest + octets).split(b"\n")
        return [self._read(line) for line in lines]

    def _first_line(self) -> bytes:
        """Receive a line, and nothing of what follows it: for that, poll(2) is to wake somebody up."""
        line = b""
        while not line.endswith(b"\n") and len(line) < _LARGEST:
            octets = self._channel.recv(_CHUNK, MSG_PEEK)
            if not octets and not line:
                raise ClientError(f"{self._path}: no reply")
            if not octets:
                break
            line += self._channel.recv(octets.find(b"\n") + 1 or len(octets))
        return line

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            told = json.loads(line)
        except ValueError as error:
            raise ClientError(f"{self._path}: an unexpected reply: {line[:80]!r}") from error
        if not isinstance(told, dict):
            raise ClientError(f"{self._path}: an unexpected reply")
        return told


def ask(name: str, warn: Callable[[str], object], directory: Path = DIRECTORY, **fields: Any) -> list[dict[str, Any]]:
    """Put a request to every daemon that lets us, and return their replies. As follow() does."""
    replies = []
    for stream in follow(name, warn, directory, **fields):
        stream.close()
        replies.append(stream.reply)
    return replies


def follow(name: str, warn: Callable[[str], object], directory: Path = DIRECTORY, **fields: Any) -> list[Stream]:
    """Put a request to every daemon that lets us, and return what they say.

    One that does not reply as it should does not hide the others: `warn` is told. Raises ClientError when none is left,
    and of its kinds NoDaemonError when there is none.
    """
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise ClientError(f"{directory}: {error.strerror}") from error
    request = {"version": VERSION, "request": name, **fields}
    refused: list[Path] = []
    failures: list[str] = []
    streams = list(_streams([path for path in paths if path.suffix == SUFFIX], request, refused, failures))
    if refused and not streams:
        failures.append(f"{refused[0]}: permission denied; root may, and the group of --control-group")
    if streams:
        for failure in failures:
            warn(failure)
    elif failures:
        raise ClientError("; ".join(failures))
    else:
        raise NoDaemonError(f"no daemon was found: no control socket in {directory} answers")
    return streams


def reloads(process: int, file: str | None, directory: Path = DIRECTORY) -> Stream | None:
    """Return what the daemon of this number that reads a file will say of its reloads; None where it says nothing."""
    for path in directory.glob(f"{process}-*{SUFFIX}"):
        # No place for us there, or an earlier version, which knows no such request.
        with suppress(OSError, ClientError):
            stream = Stream(path, {"version": VERSION, "request": "reloads"})
            # In containers, two can have the same number.
            if stream.reply.get("file") == file:
                return stream
            stream.close()
    return None


def outcome(stream: Stream) -> str:
    """Wait for what comes of a reload, and return what has changed. Raises ClientError if nothing has."""
    ends = monotonic() + _PATIENCE
    told: list[dict[str, Any]] | None = []
    while told == []:
        if not select([stream], [], [], max(0.0, ends - monotonic()))[0]:
            raise ClientError(f"has not told within {_PATIENCE:g} s what comes of it; its log will")
        told = stream.more()
    if told is None:
        raise ClientError("has ended")
    if not told[0]["reloaded"]:
        raise ClientError(f"goes on as before: {told[0]['text']}")
    return str(told[0]["text"])


def _streams(
    paths: list[Path], request: Mapping[str, Any], refused: list[Path], failures: list[str]
) -> Iterator[Stream]:
    for path in paths:
        try:
            yield Stream(path, request)
        except (ConnectionRefusedError, FileNotFoundError):
            # One that was killed, or has ended meanwhile.
            continue
        except PermissionError:
            # Another one may have us in its group.
            refused.append(path)
        except (BlockingIOError, TimeoutError):
            failures.append(f"{path}: no reply")
        except OSError as error:
            failures.append(f"{path}: {error.strerror}")
        except ClientError as error:
            failures.append(str(error))
