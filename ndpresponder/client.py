"""Asks the daemons of this host, over their control sockets (docs/control.md)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import AF_UNIX, MSG_PEEK, SOCK_STREAM, socket
from typing import Any

from .claim import DIRECTORY
from .control import SUFFIX, VERSION

_PATIENCE = 5.0
"""Seconds that a reply may take."""
_CHUNK = 1 << 16
_LARGEST = 1 << 26
"""Octets of a reply: a peer that does not come to an end is none of ours."""


class ClientError(Exception):
    """There is no reply to be had. The message is one line that says why."""


class Stream:
    """A connection to a daemon that has taken a request. `reply` is the first line of what it says."""

    def __init__(self, path: Path, request: Mapping[str, Any]) -> None:
        self._path = path
        self._rest = b""
        self._channel = socket(AF_UNIX, SOCK_STREAM)
        try:
            self._channel.settimeout(_PATIENCE)
            self._channel.connect(str(path))
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


def ask(name: str, directory: Path = DIRECTORY, **fields: Any) -> list[dict[str, Any]]:
    """Put a request to every daemon that lets us, and return their replies. Raises ClientError, also when none does."""
    replies = []
    for stream in follow(name, directory, **fields):
        stream.close()
        replies.append(stream.reply)
    return replies


def follow(name: str, directory: Path = DIRECTORY, **fields: Any) -> list[Stream]:
    """Put a request to every daemon that lets us, and return what they say. Raises ClientError, also when none does."""
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise ClientError(f"{directory}: {error.strerror}") from error
    request = {"version": VERSION, "request": name, **fields}
    refused: list[Path] = []
    streams = list(_streams([path for path in paths if path.suffix == SUFFIX], request, refused))
    if refused and not streams:
        raise ClientError(f"{refused[0]}: permission denied; root may, and the group of --control-group")
    if not streams:
        raise ClientError(f"no daemon was found: no control socket in {directory} answers")
    return streams


def _streams(paths: list[Path], request: Mapping[str, Any], refused: list[Path]) -> Iterator[Stream]:
    for path in paths:
        try:
            yield Stream(path, request)
        except (ConnectionRefusedError, FileNotFoundError):
            # One that was killed, or has ended meanwhile.
            continue
        except PermissionError:
            # Another one may have us in its group.
            refused.append(path)
        except OSError as error:
            raise ClientError(f"{path}: {error.strerror or 'no reply'}") from error
