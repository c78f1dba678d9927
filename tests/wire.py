"""One cable between two hosts: ndpresponder's, and an asker's that sends solicitations and hears the answers."""

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from signal import Signals
from typing import Any, Self

import pytest
from lab import Printing, Program, wait_until
from namespaces import Namespace, sweep
from vectors import OUR_MAC, solicit

PREFIX = "2001:db8::/112"
_ICMPV6 = 58
_ADVERTISEMENT = 136
_PATIENCE = 5.0

SNAPSHOTS = 20.0
"""Seconds of patience for what needs one or two snapshots of the host: where processors are busy one takes a second,
and ndpresponder waits five times as long until the next, but for five seconds at most."""


class Wire:
    """Two hosts, each with one end named eth0, wired on entry and gone on exit.

    `plugged` is false for a host that has no cable yet.
    """

    def __init__(self, *, plugged: bool = True) -> None:
        self._plugged = plugged
        self.host = Namespace("host")
        self.asker = Namespace("asker")

    def __enter__(self) -> Self:
        sweep()
        with ExitStack() as undo:
            for namespace in (self.host, self.asker):
                undo.enter_context(namespace)
                # Addresses are usable at once: no duplicate address detection.
                namespace.sysctl("net/ipv6/conf/default/accept_dad", 0)
            self._cleanup = undo.pop_all()
        if self._plugged:
            self.plug()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def plug(self, mac: str = OUR_MAC) -> None:
        """Lay the cable; `mac` is that of ndpresponder's end."""
        # With its MAC from the beginning: a daemon that waits for it is quick.
        self.asker.ip(f"link add eth0 type veth peer name eth0 address {mac} netns {self.host.name}")
        for host in (self.asker, self.host):
            host.ip("link set eth0 up")
        for host in (self.asker, self.host):
            host.await_carrier("eth0")
        with self.asker.entered():
            self._ear = self._cleanup.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        # ETH_P_IPV6: what this end sends is not heard.
        self._ear.bind(("eth0", 0x86DD))
        self._ear.settimeout(_PATIENCE)

    def unplug(self) -> None:
        """Take the cable away, and with it the interface at each end."""
        self.host.ip("link delete eth0")

    def limit_option_memory(self, octets: int) -> None:
        """Set how much the kernel lets the options, filters too, of one socket of ndpresponder's host take."""
        if self.host.run("test", "-e", "/proc/sys/net/core/optmem_max", check=False).returncode:
            pytest.skip("net.core.optmem_max belongs to the namespace since Linux 6.8 only")
        self.host.sysctl("net/core/optmem_max", octets)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of ndpresponder; `-c` at the front stands for some code that becomes it."""
        words = arguments if arguments[0] == "-c" else ("-m", "ndpresponder", *arguments)
        return [sys.executable, *words]

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> Program:
        """Start ndpresponder and do not wait for anything."""
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        command = "env", "-u", "NDPRESPONDER_LOG", *settings, *self.command(*arguments)
        return self._cleanup.enter_context(Program(self.host, *command))

    def answering(self, *arguments: str, environment: dict[str, str] | None = None) -> Program:
        """Start ndpresponder on eth0, by default for PREFIX, and wait until it answers."""
        program = self.start("-i", "eth0", *(arguments or ("-n", PREFIX)), environment=environment)
        event(program, "ready")
        return program

    def send(self, frame: bytes) -> None:
        """Send a frame to ndpresponder's end."""
        self._ear.send(frame)

    def ask(self, *targets: str) -> list[bytes]:
        """Solicit each target and return the advertisements that come, up to the one for the last target.

        Frames are handled in order, so what is not in the list was not answered.
        """
        for target in targets:
            self.send(bytes(solicit(target)))
        last = socket.inet_pton(socket.AF_INET6, targets[-1])
        heard = [self.hear()]
        while heard[-1][62:78] != last:
            heard.append(self.hear())
        return heard

    def forget(self) -> None:
        """Throw away what has been heard so far, an interface of ours that went down among it."""
        self._ear.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        with self._patience(0), suppress(BlockingIOError):
            while True:
                self._ear.recv(1)

    def is_answered(self, target: str) -> bool:
        """Whether an advertisement comes soon, for when it is not known that somebody answers yet."""
        with self._patience(0.1), suppress(TimeoutError):
            return self.ask(target) != []
        return False

    @contextmanager
    def _patience(self, seconds: float) -> Iterator[None]:
        self._ear.settimeout(seconds)
        try:
            yield
        finally:
            self._ear.settimeout(_PATIENCE)

    def hear(self) -> bytes:
        """Return the next advertisement; others than those (RFC 3810 reports, RFC 4861 router solicitations) pass."""
        while True:
            frame = self._ear.recv(65536)
            if (frame[20], frame[54]) == (_ICMPV6, _ADVERTISEMENT):
                return frame


def signalled(number: Signals, module: str) -> str:
    """Return code that becomes ndpresponder, and gets a signal when it imports a module."""
    return (
        "import os, sys\n"
        "class Signalling:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), {number:d})\n"
        "sys.meta_path.insert(0, Signalling())\n"
        "from ndpresponder.__main__ import main\n"
        "main()\n"
    )


def events(program: Printing, *words: str) -> list[dict[str, Any]]:
    """Return the log lines so far, only those with one of these event words if any are given."""
    lines = [json.loads(line) for line in program.lines()]
    return [line for line in lines if not words or line["event"] in words]


def event(program: Printing, word: str, number: int = 1, timeout: float = 5) -> dict[str, Any]:
    """Wait for the log line with this event word, or for the second one and so on, and return it."""
    program.wait_for(f'"event": "{word}"', timeout=timeout)
    wait_until(lambda: len(events(program, word)) >= number, f"{number} times {word}", timeout)
    return events(program, word)[number - 1]
