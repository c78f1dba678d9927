"""Assembles the rooms, runs them, and stops.

Opens the link, waiting for the interface as long as it takes; answers; and only then looks at what is slow. Frames are
answered in a thread of their own, which blocks in the kernel until the next one: the event loop's turn would cost
as much as the answer, and no answer waits for what the loop is doing.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from ipaddress import IPv6Network
from socket import if_nameindex
from threading import Thread

from . import log, netlink
from .addresses import AddressBook, Refusal
from .config import STATIC, Config
from .filter import Filter
from .link import Link, NotEthernetError
from .policy import Policy
from .responder import Responder, Tally
from .verdict import Verdict

_RETRY = 0.5
"""Seconds between two looks at whether a missing interface is back."""
_SUMMARY = 60.0
"""Seconds between two summaries."""
_SWITCH_INTERVAL = 0.0005
"""Seconds that an answer waits at most for the interpreter while something else is being computed."""
_UPLINK = "uplink"
_MOST_NAMED = 8
"""How many prefixes a log line names."""


class DaemonError(Exception):
    """The daemon cannot go on. The message is one line that names the thing and the way out."""


async def run(config: Config) -> None:
    """Answer until SIGINT or SIGTERM. Raises DaemonError when that is impossible."""
    sys.setswitchinterval(_SWITCH_INTERVAL)
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
                link = await self._open()
                try:
                    await self._answer(link)
                finally:
                    self._tally.dropped += link.drops()
                    link.close()
        except asyncio.CancelledError:
            log.info("stopped", f"stopped: {self._tally}", **self._tally.as_dict())
            raise

    async def _open(self) -> Link:
        """Return the link, as soon as the interface is there and up."""
        ifname = self._config.ifname
        waiting_for = None
        while True:
            try:
                return Link(ifname)
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

    async def _answer(self, link: Link) -> None:
        """Answer on the link until it is lost."""
        ifname, loop = self._config.ifname, asyncio.get_running_loop()
        responder = Responder(link, Policy(link.mac, self._config.router, self._config.override), self._tally)
        lost: asyncio.Future[None] = loop.create_future()

        def lose(error: Exception) -> None:
            if not lost.done():
                lost.set_exception(error)

        def answer() -> None:
            try:
                responder.run()
            except Exception as error:  # noqa: BLE001 - it is raised where the link is waited for
                loop.call_soon_threadsafe(lose, error)

        compiled = responder.update(self._addresses)
        Thread(target=answer, name=f"answering on {ifname}", daemon=True).start()
        self._announce(link, compiled)
        beside = [
            asyncio.ensure_future(self._leave_to_their_owners(responder)),
            asyncio.ensure_future(self._summarize(link)),
        ]
        try:
            await lost
        except OSError as error:
            log.warning("lost", f"lost {ifname}: {error.strerror}", interface=ifname, reason=error.strerror)
        finally:
            responder.stop()
            for task in beside:
                task.cancel()

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
        addresses = self._book.publish(_UPLINK, owned)
        if addresses != self._addresses:
            self._addresses = addresses
            responder.update(addresses)
        if inside:
            log.info("owned", f"not answering for {_some(inside)}: held by {ifname} or its gateway", interface=ifname)

    def _answers(self, prefix: IPv6Network) -> bool:
        return not isinstance(self._addresses.lookup(int(prefix.network_address)), Verdict)

    async def _summarize(self, link: Link) -> None:
        """Once a minute, say what has happened since the last time, if anything has."""
        while True:
            before = self._tally.copy()
            await asyncio.sleep(_SUMMARY)
            self._tally.dropped += link.drops()
            now = self._tally.copy()
            if now != before:
                news = now.since(before)
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
