"""What the service manager hears, on a socket of either kind."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ndpresponder.systemd import ServiceManager


class Manager:
    """The manager's end: a socket, and the environment that names it."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        self.socket.bind(address.replace("@", "\0", 1))
        self.environment = {"NOTIFY_SOCKET": address}

    def heard(self) -> list[str]:
        return self.socket.recv(4096).decode().split("\n")


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(str(tmp_path / "notify") if request.param == "path" else f"@ndpresponder-{os.getpid()}")
    yield manager
    manager.socket.close()


def test_each_message_is_one_datagram(manager: Manager) -> None:
    process = ServiceManager(manager.environment)
    process.ready("answering on eth0")
    process.status("waiting for eth0")
    process.alive()
    process.stopping()
    assert [manager.heard() for _ in range(4)] == [
        ["READY=1", "STATUS=answering on eth0"],
        ["STATUS=waiting for eth0"],
        ["WATCHDOG=1"],
        ["STOPPING=1"],
    ]


def test_a_reload_begins_at_a_time_that_the_manager_can_compare(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    ServiceManager(manager.environment).reloading()
    reloading, stamp = manager.heard()
    assert reloading == "RELOADING=1"
    name, _, microseconds = stamp.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(microseconds) <= time.monotonic_ns() // 1000


def test_a_status_is_one_line(manager: Manager) -> None:
    ServiceManager(manager.environment).status("one\nREADY=1")
    assert manager.heard() == ["STATUS=one READY=1"]


def test_a_manager_that_is_gone_is_no_error(manager: Manager) -> None:
    process = ServiceManager(manager.environment)
    manager.socket.close()
    Path(manager.environment["NOTIFY_SOCKET"]).unlink(missing_ok=True)
    process.ready("")
    process.stopping()


def test_without_a_manager_nothing_happens() -> None:
    process = ServiceManager({})
    process.ready("")
    assert process.watchdog is None


def test_a_sign_of_life_touches_the_heartbeat_s_file(tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeat"
    process = ServiceManager({"NDPRESPONDER_HEARTBEAT": str(heartbeat)})
    process.ready("")
    assert not heartbeat.exists()
    process.alive()
    os.utime(heartbeat, (0, 0))
    before = time.time()
    process.alive()
    assert heartbeat.stat().st_mtime > before - 1
    assert heartbeat.read_bytes() == b""


def test_a_heartbeat_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    ServiceManager({"NDPRESPONDER_HEARTBEAT": str(tmp_path / "missing" / "heartbeat")}).alive()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": ""}, None),
        ({"NDPRESPONDER_HEARTBEAT": "/heartbeat"}, 2.0),
        ({"NDPRESPONDER_HEARTBEAT": ""}, None),
        ({"NDPRESPONDER_HEARTBEAT": "/heartbeat", "WATCHDOG_USEC": "30000000"}, 2.0),
        ({"NDPRESPONDER_HEARTBEAT": "/heartbeat", "WATCHDOG_USEC": "3000000"}, 1.5),
        ({}, None),
    ],
)
def test_half_of_the_watchdog_s_patience(environment: dict[str, str], seconds: float | None) -> None:
    assert ServiceManager(environment).watchdog == seconds
