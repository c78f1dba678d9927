"""Asks the daemons of this host, over their control sockets (docs/control.md)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from typing import Any

from .claim import DIRECTORY
from .control import SUFFIX, VERSION

_PATIENCE = 5.0
"""Seconds that a reply may take."""
_LARGEST = 1 << 26
"""Octets of a reply: a peer that does not come to an end is none of ours."""


class ClientError(Exception):
    """There is no reply to be had. The message is one line that says why."""


def ask(name: str, directory: Path = DIRECTORY, **fields: Any) -> list[dict[str, Any]]:
    """Put a request to every daemon that lets us, and return their replies. Raises ClientError, also when none does."""
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        paths = []
    except OSError as error:
        raise ClientError(f"{directory}: {error.strerror}") from error
    request = {"version": VERSION, "request": name, **fields}
    refused: list[Path] = []
    replies = list(_replies([path for path in paths if path.suffix == SUFFIX], request, refused))
    if refused and not replies:
        raise ClientError(f"{refused[0]}: permission denied; root may, and the group of --control-group")
    if not replies:
        raise ClientError(f"no daemon was found: no control socket in {directory} answers")
    return replies


def _replies(paths: list[Path], request: Mapping[str, Any], refused: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            yield _reply(path, request)
        except (ConnectionRefusedError, FileNotFoundError):
            # One that was killed, or has ended meanwhile.
            continue
        except PermissionError:
            # Another one may have us in its group.
            refused.append(path)
        except OSError as error:
            raise ClientError(f"{path}: {error.strerror or 'no reply'}") from error


def _reply(path: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    with socket(AF_UNIX, SOCK_STREAM) as channel:
        channel.settimeout(_PATIENCE)
        channel.connect(str(path))
        channel.sendall(json.dumps(request).encode() + b"\n")
        with channel.makefile("rb") as file:
            line = file.readline(_LARGEST)
    try:
        reply = json.loads(line)
    except ValueError as error:
        raise ClientError(f"{path}: an unexpected reply: {line[:80]!r}") from error
    if not isinstance(reply, dict) or "error" in reply:
        raise ClientError(f"{path}: {reply['error'] if isinstance(reply, dict) else 'an unexpected reply'}")
    return reply
