"""What the service manager is told about this process: the protocol of sd_notify(3).

Each message is one datagram of `NAME=value` lines to the socket that the manager names in the environment. Where there
is none, nobody is told anything, and nothing else is different.

A container's engine has no such socket: it runs a command every now and then and asks that. The command looks at when a
file was touched last, which costs it no start of an interpreter.
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, SOCK_DGRAM, socket

_HEARTBEAT = 2.0
"""Seconds between two touches of the heartbeat's file: a few of them fit into what a health check is patient for."""


class ServiceManager:
    """The one that started this process, as far as the environment names it."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # unix(7): the name of an abstract socket begins with a null octet, for which sd_notify(3) has an @.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        heartbeat = environment.get("NDPRESPONDER_HEARTBEAT")
        self._heartbeat = Path(heartbeat) if heartbeat else None
        intervals = _watchdog(environment), _HEARTBEAT if heartbeat else None
        self.watchdog = min(filter(None, intervals), default=None)
        """How often, in seconds, it is to be told that this process is alive; None if it does not wait for that."""

    def ready(self, status: str) -> None:
        """The start, or a reload, is over."""
        self._tell("READY=1", _status(status))

    def status(self, status: str) -> None:
        """What this process is at, one line for `systemctl status`."""
        self._tell(_status(status))

    def reloading(self) -> None:
        """A reload has begun, and ends with ready()."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def alive(self) -> None:
        """No need to kill and restart this process."""
        self._tell("WATCHDOG=1")
        if self._heartbeat:
            # Where the file cannot be written, the health check says so.
            with suppress(OSError):
                self._heartbeat.touch()

    def _tell(self, *lines: str) -> None:
        """Send a message. Waits, as sd_notify(3) does, while the manager's queue is full: none must get lost."""
        if not self._address:
            return
        # A manager that is gone has no use for it.
        with suppress(OSError), socket(AF_UNIX, SOCK_DGRAM) as channel:
            channel.connect(self._address)
            channel.send("\n".join(lines).encode())


def _status(status: str) -> str:
    return "STATUS=" + status.replace("\n", " ")


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Half of the time after which the manager gives up, as sd_watchdog_enabled(3) advises."""
    # It can be meant for another process, of which this one has inherited the environment.
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdecimal() and int(microseconds) else None
