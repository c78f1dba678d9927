"""What the daemon does, for Prometheus: HTTP on a port of its own, and at each scrape the state of that moment.

The rules that hold here:
- Nothing is counted for this alone. At a scrape the loop hands one value over, a State, and data moves one way.
- Labels are interface, source and reason, of which the operator and this program decide how many there are; never an
  address, which the network chooses.
- A scrape never comes in the way of answering: there is a pace, and a bound to how many are served at once. The server
  of the library makes a thread for each connection and waits for each as long as it likes; hence this one.
- The library is imported at the first scrape, some time after answering has begun.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, create_server, socket
from time import monotonic, time
from typing import Any, NamedTuple, NoReturn

from . import __version__, log
from .addresses import Uses
from .config import Endpoint
from .responder import Tally
from .station import Station
from .uplink import Condition
from .verdict import Verdict

PATH = "/metrics"

_PATIENCE = 2.0
"""Seconds that a connection may take from its first octet to its last: a scraper that is slow on purpose."""
_AT_ONCE = 8
"""Connections that are served at the same time; others wait in the kernel."""
_WAITING = 16
"""How many wait there. What comes beyond is told nothing, and tries again."""
_PACE = 0.05
"""Seconds between two connections: a flood of them takes some twentieth of a processor, not all of it."""
_RETRY = 1.0
"""Seconds until the next connection is accepted after one that could not be."""
_LONGEST_REQUEST = 8192
"""Octets. That of Prometheus has some 300."""


class Figures(NamedTuple):
    """What there is to know of an interface at a moment. `condition` is None while it is waited for.

    `addresses` is how many are answered for, and `uses` what was answered, by the source of their rules.
    """

    ifname: str
    condition: Condition | None
    tally: Tally
    addresses: Mapping[str, int]
    uses: Mapping[str, Uses]


def figures_of(station: Station) -> Figures:
    """Return what there is to know of an interface now. It is for the loop to call."""
    condition, uses = station.condition(), station.uses_by_source()
    addresses = dict.fromkeys(uses, 0)
    for first, last, rule in station.addresses.decided():
        addresses[rule.source] = addresses.get(rule.source, 0) + last - first + 1
    return Figures(station.config.ifname, condition, station.tally.copy(), addresses, uses)


@dataclass(frozen=True, slots=True)
class State:
    """What there is to know at a moment."""

    interfaces: tuple[Figures, ...]
    engine_up: bool | None = None
    """Whether the engine of containers can be asked; None where no network is followed."""
    reloaded: bool | None = None
    """Whether the last attempt to read the configuration again was a success; None where there was none."""


def exposition(state: State, accepted: str) -> tuple[str, bytes]:
    """Return a state in a format of those that an Accept header names: its content type, and the text.

    Raises ImportError where the library cannot be used.
    """
    from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry  # noqa: PLC0415 - 4 MB, once there is a scrape
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415 - the same

    registry = CollectorRegistry()
    registry.register(_Collector(state))
    registry.register(PROCESS_COLLECTOR)
    encode, content_type = choose_encoder(accepted)
    return content_type, encode(registry)


class _Collector:
    """A state as the library's metrics."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - once there is a scrape

        state = self._state
        build = GaugeMetricFamily("ndpresponder_build_info", "The version that runs.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        if state.engine_up is not None:
            yield GaugeMetricFamily(
                "ndpresponder_engine_up", "Whether the engine of containers can be asked.", value=state.engine_up
            )
        if state.reloaded is not None:
            yield GaugeMetricFamily(
                "ndpresponder_reload_success",
                "Whether the last attempt to read the configuration again was a success.",
                value=state.reloaded,
            )
        for metric in _METRICS:
            yield metric.family(state.interfaces)


@dataclass(frozen=True, slots=True)
class _Metric:
    """A metric with a value for each interface, or with several where it has one more label."""

    name: str
    help: str
    values: Callable[[Figures], Mapping[str, float]]
    """What there is of an interface, under the values of the other label, or under "" where there is none."""
    label: str = ""

    def family(self, interfaces: tuple[Figures, ...]) -> Any:
        """Return it as the library has it."""
        from prometheus_client.core import (  # noqa: PLC0415 - once there is a scrape
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        kind = CounterMetricFamily if self.name.endswith("_total") else GaugeMetricFamily
        labels = ["interface", *([self.label] if self.label else [])]
        family = kind(self.name, self.help, labels=labels)
        for figures in interfaces:
            for value, number in self.values(figures).items():
                family.add_metric([figures.ifname, *([value] if self.label else [])], number)
        return family


def _last(at: float) -> dict[str, float]:
    """From the monotonic clock to the other one."""
    return {"": round(time() - monotonic() + at, 2)} if at else {}


def _gateway(condition: Condition | None) -> dict[str, float]:
    known = [gateway for _, gateway in (condition.gateways if condition else ()) if gateway]
    return {"": any(not gateway.silent for gateway in known)} if known else {}


_METRICS = (
    _Metric(
        "ndpresponder_interface_up",
        "Whether solicitations are answered on the interface; if not, it is waited for.",
        lambda figures: {"": figures.condition is not None},
    ),
    _Metric(
        "ndpresponder_solicitations_total",
        "Frames that the kernel's filter let through.",
        lambda figures: {"": figures.tally.received()},
    ),
    _Metric(
        "ndpresponder_advertisements_total",
        "Solicitations that were answered, by where it comes from that they are.",
        lambda figures: {source: uses.answered for source, uses in figures.uses.items()},
        "source",
    ),
    _Metric(
        "ndpresponder_last_answer_timestamp_seconds",
        "When a solicitation was answered last, in seconds since 1970; there is no value while none was.",
        lambda figures: _last(max((uses.last for uses in figures.uses.values()), default=0.0)),
    ),
    _Metric(
        "ndpresponder_multicast_answered_total",
        "Solicitations that were answered and had come by multicast; they are among those of "
        "ndpresponder_advertisements_total.",
        lambda figures: {"": figures.tally.multicast},
    ),
    _Metric(
        "ndpresponder_refused_total",
        "Frames that were not answered, by the reason.",
        # All of them from the beginning: a first one is seen as an increase.
        lambda figures: {verdict.value: figures.tally.refused[verdict] for verdict in Verdict},
        "reason",
    ),
    _Metric(
        "ndpresponder_dropped_total",
        "Frames that the kernel dropped because the queue was full.",
        lambda figures: {"": figures.tally.dropped},
    ),
    _Metric(
        "ndpresponder_send_errors_total",
        "Answers that the kernel did not take, by the name of its error.",
        # The one that there is, from the beginning.
        lambda figures: {"ENOBUFS": 0, **figures.tally.unsent},
        "reason",
    ),
    _Metric(
        "ndpresponder_addresses",
        "Addresses that are answered for, by where they come from.",
        lambda figures: figures.addresses,
        "source",
    ),
    _Metric(
        "ndpresponder_filter_instructions",
        "Length of the program that filters in the kernel.",
        lambda figures: {"": figures.condition.instructions} if figures.condition else {},
    ),
    _Metric(
        "ndpresponder_multicast_groups",
        "Multicast groups that are joined.",
        lambda figures: {"": figures.condition.groups} if figures.condition else {},
    ),
    _Metric(
        "ndpresponder_conflicting_addresses",
        "Addresses that are announced because they live here, and that another host has, too.",
        lambda figures: {"": figures.condition.conflicts} if figures.condition else {},
    ),
    _Metric(
        "ndpresponder_gateway_up",
        "Whether the gateway answers, or at least one of several; there is no value while there is none.",
        lambda figures: _gateway(figures.condition),
    ),
)


class Listener:
    """Listens on `endpoint` from now on, and answers scrapes with what `look` returns then, while run() runs.

    Raises OSError when that is impossible.
    """

    def __init__(self, endpoint: Endpoint, look: Callable[[], State]) -> None:
        self.endpoint = endpoint
        self._look = look
        family = AF_INET6 if ":" in endpoint.host else AF_INET
        self._socket = create_server((endpoint.host, endpoint.port), family=family, backlog=_WAITING)
        self._socket.setblocking(False)  # noqa: FBT003 - as the method is

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    async def run(self) -> NoReturn:
        """Answer until cancelled."""
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(_AT_ONCE)
        serving: set[asyncio.Task[None]] = set()
        log.info("metrics", f"metrics are at http://{self.endpoint}{PATH}", endpoint=str(self.endpoint))

        def leave(task: "asyncio.Task[None]") -> None:
            serving.discard(task)
            room.release()

        try:
            while True:
                await room.acquire()
                connection = await self._accept(loop)
                task = asyncio.ensure_future(self._serve(loop, connection))
                serving.add(task)
                task.add_done_callback(leave)
                await asyncio.sleep(_PACE)
        finally:
            for task in serving:
                task.cancel()

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> socket:
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError:
                # It was gone before it was accepted, or there are no descriptors left (accept(2)).
                await asyncio.sleep(_RETRY)
            else:
                return connection

    async def _serve(self, loop: asyncio.AbstractEventLoop, connection: socket) -> None:
        """Answer one request, if there is one in time."""
        with connection, suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                request = b""
                while b"\r\n\r\n" not in request:
                    octets = await loop.sock_recv(connection, _LONGEST_REQUEST)
                    request += octets
                    if not octets or len(request) > _LONGEST_REQUEST:
                        return
                await loop.sock_sendall(connection, self._reply(request))

    def _reply(self, request: bytes) -> bytes:
        """Return the reply to a request: RFC 9110 and RFC 9112, as far as a scraper goes."""
        first, *headers = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        target, _, version = rest.partition(" ")
        content_type, body = "text/plain; charset=utf-8", b""
        if not version.startswith("HTTP/1."):
            status = "400 Bad Request"
        elif method not in {"GET", "HEAD"}:
            status = "405 Method Not Allowed\r\nAllow: GET, HEAD"
        elif target.partition("?")[0] != PATH:
            status, body = "404 Not Found", f"metrics are at {PATH}\n".encode()
        else:
            fields = (header.partition(":") for header in headers)
            accepted = ",".join(value for name, _, value in fields if name.lower() == "accept")
            try:
                content_type, body = exposition(self._look(), accepted)
                status = "200 OK"
            except ImportError as error:
                status, body = "500 Internal Server Error", f"prometheus_client cannot be used: {error}\n".encode()
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        return head.encode() + (b"" if method == "HEAD" else body)
