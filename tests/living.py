"""The daemon in this process, for addresses that are said to live behind it: what its Docker source would publish."""

import asyncio
import logging
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from ipaddress import IPv6Network
from threading import Thread
from typing import Any, Self

from lab import wait_until
from namespaces import Namespace

from ndpresponder.addresses import Rule
from ndpresponder.config import Config, Interface
from ndpresponder.daemon import _Daemon
from ndpresponder.policy import Override

_SOURCE = "docker"
_PATIENCE = 10.0


def _rules(addresses: Iterable[str]) -> list[Rule]:
    return [Rule(IPv6Network(address), _SOURCE, lives_here=True) for address in addresses]


class Living(logging.Handler):
    """Answers on eth0 of a host from entry to exit, and has looked at it on entry.

    `addresses` live there from the beginning, publish() says what does so later; `lines` is what was logged.
    """

    def __init__(
        self,
        host: Namespace,
        *addresses: str,
        router: bool = True,
        override: Override = Override.AUTO,
        announce: bool = True,
    ) -> None:
        super().__init__()
        self._host = host
        self._addresses = addresses
        self._config = Interface("eth0", (), router, override, wait=True, remarks=(), announce=announce)
        self._started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[None], _Daemon]] = Future()
        self._thread = Thread(target=self._run)
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        fields = record.__dict__["fields"]
        self.lines.append({"event": record.__dict__["event"], "message": record.getMessage(), **fields})

    def said(self, word: str) -> list[str]:
        """Return the messages so far with this event word."""
        return [line["message"] for line in self.lines if line["event"] == word]

    def wait_for(self, word: str, number: int = 1, timeout: float = 5) -> None:
        """Wait for so many lines with this event word."""
        wait_until(lambda: len(self.said(word)) >= number, f"{number} times {word}", timeout)

    def __enter__(self) -> Self:
        logger = logging.getLogger("ndpresponder")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)
        self._thread.start()
        self._loop, self._serving, self._daemon = self._started.result(_PATIENCE)
        # The uplink's own addresses and gateways are known.
        [station] = self._daemon._stations.values()
        wait_until(lambda: bool(station._uplink and station._uplink._looked.is_set()), "a look", _PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(_PATIENCE)
        logging.getLogger("ndpresponder").removeHandler(self)

    def publish(self, *addresses: str) -> None:
        """Let these addresses, and no others, live behind the host from now on."""

        async def turn_the_page() -> None:
            [station] = self._daemon._stations.values()
            if station._book.publish(_SOURCE, _rules(addresses)) and station._uplink:
                station._uplink.update()

        asyncio.run_coroutine_threadsafe(turn_the_page(), self._loop).result(_PATIENCE)

    def _run(self) -> None:
        # A namespace is a thread's; what it starts, threads and processes, inherits it.
        with self._host.entered(), suppress(asyncio.CancelledError):
            asyncio.run(self._serve())

    async def _serve(self) -> None:
        daemon = _Daemon(Config((self._config,)))
        [station] = daemon._stations.values()
        station._book.publish(_SOURCE, _rules(self._addresses))
        serving = asyncio.ensure_future(daemon.serve())
        self._started.set_result((asyncio.get_running_loop(), serving, daemon))
        await serving
