"""client: what comes of a reload, as daemons of different kinds tell it."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from threading import Event, Thread
from typing import Any

import pytest

from ndpresponder.client import ClientError, outcome, reloads

FILE = "/etc/a.toml"
FIRST = {"version": 1, "process": 7, "file": FILE}


@contextmanager
def daemon(path: Path, *lines: dict[str, Any], ends: bool = True) -> Iterator[Event]:
    """One that answers each request with these lines, the others when it is told to, and then ends or falls silent."""
    told, silent = Event(), Event()

    def serve() -> None:
        with listener.accept()[0] as channel:
            channel.recv(4096)
            for line in lines:
                channel.sendall(json.dumps(line).encode() + b"\n")
                told.wait(10)
            if not ends:
                silent.wait(20)

    with socket(AF_UNIX, SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield told
        silent.set()
        thread.join(10)


def come_of(path: Path, *lines: dict[str, Any], ends: bool = True) -> str:
    with daemon(path, *lines, ends=ends) as told:
        stream = reloads(7, FILE, path.parent)
        assert stream
        with closing(stream):
            told.set()
            return outcome(stream)


def test_it_is_read_again(tmp_path: Path) -> None:
    line = {"reloaded": True, "text": "changed: eth0", "ago": 0.01}
    assert come_of(tmp_path / "7-a.sock", FIRST, line) == "changed: eth0"


@pytest.mark.parametrize(
    ("line", "ends", "message"),
    [
        ({"reloaded": False, "text": "eth7: No such device"}, True, "goes on as before: eth7: No such device"),
        (None, True, "has ended"),
        (None, False, "has not told within 5 s what comes of it; its log will"),
    ],
)
def test_it_is_not(tmp_path: Path, line: dict[str, Any] | None, message: str, *, ends: bool) -> None:
    with pytest.raises(ClientError) as caught:
        come_of(tmp_path / "7-a.sock", FIRST, *([line] if line else []), ends=ends)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "reply",
    [
        {"version": 1, "error": "unknown request; there are: explain, monitor, status"},
        FIRST | {"file": "/etc/b.toml"},
        {"version": 1},
    ],
)
def test_nothing_will_be_told(tmp_path: Path, reply: dict[str, Any]) -> None:
    with daemon(tmp_path / "7-a.sock", reply) as told:
        told.set()
        assert reloads(7, FILE, tmp_path) is None


def test_nobody_is_there(tmp_path: Path) -> None:
    (tmp_path / "7-a.sock").touch()
    (tmp_path / "77-a.sock").touch()
    assert reloads(7, FILE, tmp_path) is None
