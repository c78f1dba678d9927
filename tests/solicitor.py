"""One more router on the lab's link, which solicits all the time and notes when each address was answered for.

It sits where the router sits, on the far side of the anti-spoofing rule, with a MAC and a link-local address of its
own: what the router's kernel asks by itself, and what is announced to all, is not counted.
"""

import socket
import time
from contextlib import ExitStack, suppress
from ipaddress import IPv6Address
from itertools import count
from select import select
from threading import Event, Lock, Thread
from typing import NamedTuple, Self

from lab import Lab, wait_until
from vectors import solicit

MAC = "52:54:00:00:00:a5"
_SILENT_AFTER = 20
"""So many solicitations in a row that bring no answer: nobody answers any more."""


class Times(NamedTuple):
    """When an address was solicited, and when it was answered for, as time.monotonic() tells it."""

    asked: list[float]
    answered: list[float]


class Solicitor:
    """Solicits the addresses that it was given, each again after `interval` seconds, from entry to exit."""

    def __init__(self, lab: Lab, *addresses: str, interval: float = 0.005) -> None:
        self._router = lab.router
        self._interval = interval
        self._times: dict[str, Times] = {}
        self._targets: dict[bytes, str] = {}
        self._frames: dict[str, bytes] = {}
        self._sources = count(0xA50001)
        self._source = b""
        self._lock = Lock()
        self._over = Event()
        self.follow(*addresses)

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            with self._router.entered():
                self._socket = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            # ETH_P_IPV6: what is sent here is not heard.
            self._socket.bind(("lan", 0x86DD))
            thread = Thread(target=self._run)
            thread.start()
            undo.callback(thread.join)
            undo.callback(self._over.set)
            self._cleanup = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def follow(self, *addresses: str) -> None:
        """Ask for these addresses from now on, and for no others; what was noted is forgotten."""
        # Another source each time: what answers an earlier solicitation goes elsewhere.
        source = str(IPv6Address("fe80::") + next(self._sources))
        frames = {each: bytes(solicit(each, source=source, ether_source=MAC)) for each in addresses}
        with self._lock:
            self._source = socket.inet_pton(socket.AF_INET6, source)
            self._frames = frames
            self._targets = {socket.inet_pton(socket.AF_INET6, each): each for each in addresses}
            self._times = {each: Times([], []) for each in addresses}

    def times(self, address: str) -> Times:
        """Return when an address was asked for and answered so far."""
        with self._lock:
            asked, answered = self._times[address]
            return Times(list(asked), list(answered))

    def is_silent(self, address: str) -> bool:
        """Whether many solicitations for an address in a row, the last ones, were not answered."""
        asked, answered = self.times(address)
        return len(asked) > _SILENT_AFTER and (not answered or answered[-1] < asked[-_SILENT_AFTER])

    def first_answer(self, address: str, timeout: float = 10) -> float:
        """Wait for the first answer for an address, and return when it came."""
        wait_until(lambda: bool(self.times(address).answered), f"an answer for {address}", timeout)
        return self.times(address).answered[0]

    def last_answer(self, address: str, timeout: float = 10) -> float:
        """Wait until an address that was answered for is not any more, and return when the last answer came."""
        wait_until(lambda: self.is_silent(address), f"silence about {address}", timeout)
        return self.times(address).answered[-1]

    def lost(self) -> dict[str, int]:
        """Stop asking, and return for which addresses how many solicitations were not answered.

        The number is negative where one solicitation was answered more than once.
        """
        with self._lock:
            self._frames = {}

        def missing() -> dict[str, int]:
            with self._lock:
                counts = {address: len(asked) - len(answered) for address, (asked, answered) in self._times.items()}
            return {address: number for address, number in counts.items() if number}

        # What is on its way still comes.
        with suppress(TimeoutError):
            wait_until(lambda: not missing(), "an answer to each", 1)
        return missing()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.is_set():
            with self._lock:
                for address, frame in self._frames.items():
                    self._times[address].asked.append(time.monotonic())
                    self._socket.send(frame)
            # Nothing is made up for after a time in which this did not run.
            due = max(due + self._interval, time.monotonic())
            self._hear(due)

    def _hear(self, until: float) -> None:
        """Note the answers that arrive until then."""
        while select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
            frame, now = self._socket.recv(65536), time.monotonic()
            # Advertisements: ICMPv6 type 136.
            if (frame[20], frame[54]) == (58, 136):
                with self._lock:
                    target = self._targets.get(frame[62:78])
                    if target is not None and frame[38:54] == self._source:
                        self._times[target].answered.append(now)
