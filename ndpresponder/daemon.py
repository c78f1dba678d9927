"""Assembles the rooms, runs them, and stops.

Opens the link, waiting for the interface as long as it takes; answers; and only then looks at what is slow.
"""

import asyncio
import signal
from collections.abc import Sequence
from ipaddress import IPv6Network
from socket import if_nameindex

from . import log, netlink
from .addresses import AddressBook, Refusal
from .config import STATIC, Config
from .filter import Filter, compile_filter
from .link import Link, NotEthernetError
from .policy import Policy
from .responder import Responder, Tally
from .verdict import Verdict

_RETRY = 0.5
"""Seconds between two looks at whether a missing interface is back."""
_SUMMARY = 60.0
"""Seconds between two summaries."""
_UPLINK = "uplink"
_MOST_NAMED = 8
"""How many prefixes a log line names."""


class DaemonError(Exception):
    """The daemon cannot go on. The message is one line that names the thing and the way out."""


async def run(config: Config) -> None:
    """Answer until SIGINT or SIGTERM. Raises DaemonError when that is impossible."""
    serving = asyncio.ensure_future(_Daemon(config).serve())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, serving.cancel)
    await asyncio.wait([serving])
    if not serving.cancelled():
        serving.result()


class _Daemon:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._book = AddressBook()
        self._addresses = self._book.publish(STATIC, config.entries)
        self._tally = Tally()

    async def serve(self) -> None:
        """Answer for ever, however often the interface goes and comes."""
        for remark in self._config.remarks:
            log.warning("remark", remark)
        try:
            while True:
                compiled = compile_filter(self._addresses)
                link = await self._open(compiled)
                try:
                    await self._answer(link, compiled)
                finally:
                    self._tally.dropped += link.drops()
                    link.close()
        except asyncio.CancelledError:
            log.info("stopped", f"stopped: {self._tally}", **self._tally.as_dict())
            raise

    async def _open(self, compiled: Filter) -> Link:
        """Return the link, as soon as the interface is there and up."""
        ifname = self._config.ifname
        waiting_for = None
        while True:
            try:
                return Link(ifname, compiled.instructions)
            except PermissionError as error:
                raise DaemonError(
                    "no permission to open a packet socket: run as root, or grant CAP_NET_RAW "
                    "(systemd: AmbientCapabilities=CAP_NET_RAW; Docker: --cap-add NET_RAW)"
                ) from error
            except NotEthernetError as error:
                raise DaemonError(
                    f"{ifname} is not an Ethernet interface: nobody solicits neighbors there; "
                    f"name the uplink with -i (there are: {interfaces()})"
                ) from error
            except OSError as error:
                reason = error.strerror
            obstacle = f"{ifname}: {reason}; there are: {interfaces()}"
            if not self._config.wait:
                raise DaemonError(obstacle)
            if waiting_for != reason:
                waiting_for = reason
                log.warning("waiting", f"waiting for {obstacle}", interface=ifname, reason=reason)
            await asyncio.sleep(_RETRY)

    async def _answer(self, link: Link, compiled: Filter) -> None:
        """Answer on the link until it is lost."""
        config, loop = self._config, asyncio.get_running_loop()
        policy = Policy(link.mac, config.router, config.override)
        responder = Responder(link, self._addresses, policy, self._tally)
        lost: asyncio.Future[str] = loop.create_future()

        def readable() -> None:
            try:
                responder.drain()
            except OSError as error:
                loop.remove_reader(link)
                lost.set_result(error.strerror or str(error))

        loop.add_reader(link, readable)
        try:
            self._announce(link, compiled)
            async with asyncio.TaskGroup() as beside:
                tasks = [
                    beside.create_task(self._leave_to_their_owners(responder)),
                    beside.create_task(self._summarize(link)),
                ]
                reason = await lost
                for task in tasks:
                    task.cancel()
            log.warning("lost", f"lost {config.ifname}: {reason}", interface=config.ifname, reason=reason)
        finally:
            loop.remove_reader(link)

    def _announce(self, link: Link, compiled: Filter) -> None:
        ifname, prefixes = self._config.ifname, self._config.prefixes
        size = len(compiled.instructions)
        log.info(
            "ready",
            f"answering on {ifname} ({link.mac.hex(':')}) for {_some(prefixes)}, filter of {size} instructions"
            + ("" if compiled.exact else ", wider than the prefixes: more would not fit"),
            interface=ifname,
            mac=link.mac.hex(":"),
            prefixes=len(prefixes),
            instructions=size,
            exact=compiled.exact,
        )

    async def _leave_to_their_owners(self, responder: Responder) -> None:
        """Stop answering for what the uplink itself and its gateways hold."""
        ifname = self._config.ifname
        try:
            uplink = await netlink.snapshot(ifname)
        except netlink.NetlinkError as error:
            log.warning(
                "netlink",
                f"the addresses of {ifname} and of its gateway are unknown ({error}); "
                "exclude with -x those that are inside of a prefix",
                interface=ifname,
            )
            return
        for on_link in {address.network for address in uplink.addresses if address.network.prefixlen < 128}:
            for prefix in self._config.prefixes:
                if on_link.subnet_of(prefix):
                    log.warning(
                        "covers-link",
                        f"-n {prefix} covers all of {on_link}, the on-link prefix of {ifname}: no other host there can "
                        "take a new address, and a scan can fill the router's neighbor table; "
                        "name only the part that is yours",
                        interface=ifname,
                    )
        owned = _owned(uplink)
        inside = sorted(str(refusal.prefix.network_address) for refusal in owned if self._answers(refusal.prefix))
        if inside:
            log.info("owned", f"not answering for {_some(inside)}: held by {ifname} or its gateway", interface=ifname)
        addresses = self._book.publish(_UPLINK, owned)
        if addresses != self._addresses:
            self._addresses = addresses
            responder.update(addresses)

    def _answers(self, prefix: IPv6Network) -> bool:
        return not isinstance(self._addresses.lookup(int(prefix.network_address)), Verdict)

    async def _summarize(self, link: Link) -> None:
        """Once a minute, say what has happened since the last time, if anything has."""
        while True:
            before = self._tally.copy()
            await asyncio.sleep(_SUMMARY)
            self._tally.dropped += link.drops()
            if self._tally != before:
                news = self._tally.since(before)
                log.info("summary", f"last minute: {news}", **news.as_dict())


def interfaces() -> str:
    """Return the names of the interfaces there are, for an error that leaves the choice."""
    return _some([name for _, name in if_nameindex()])


def _owned(uplink: netlink.Snapshot) -> set[Refusal]:
    """What the uplink's kernel and its gateways answer for themselves."""
    own = {(address.ip, Verdict.OWN_ADDRESS) for address in uplink.addresses}
    gateways = {(address, Verdict.GATEWAY) for address in uplink.gateways}
    # A forwarding kernel answers for the subnet-router anycast address of each on-link prefix.
    anycast = {(address.network.network_address, Verdict.ANYCAST) for address in uplink.addresses}
    return {Refusal(IPv6Network(address), verdict) for address, verdict in own | gateways | anycast}


def _some(things: Sequence[object]) -> str:
    """List things for a log line, the first few by name."""
    named = ", ".join(map(str, things[:_MOST_NAMED]))
    return named + (f" and {len(things) - _MOST_NAMED} more" if len(things) > _MOST_NAMED else "")
