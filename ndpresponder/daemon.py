"""Assembles the rooms, runs them, and stops.

Opens the link, waiting for the interface as long as it takes; answers; and only then looks at what is slow. Frames are
answered in a thread of their own, which blocks in the kernel until the next one: the event loop's turn would cost
as much as the answer, and no answer waits for what the loop is doing.
"""

import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from errno import ENODEV
from ipaddress import IPv6Network
from socket import if_nameindex
from threading import Thread
from typing import NoReturn

from . import log, netlink
from .addresses import AddressBook, Refusal, Rule
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
_RETRY_AUTO = 5.0
"""The same for a default route, which costs a snapshot; where there is netlink, it is told of at once."""
_PAUSE = 0.2
"""Seconds between losing a link and opening one."""
_SETTLE = 0.2
"""Seconds between a change of addresses or routes and the next snapshot of them."""
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
        self._configured = self._addresses = self._book.publish(STATIC, config.entries)
        self._covered: set[IPv6Network] = set()
        self._inside: list[str] = []
        self._tally = Tally()
        self._summarized = Tally()
        self._index = 0
        self._link_changed = asyncio.Event()
        self._uplink_changed = asyncio.Event()

    async def serve(self) -> None:
        """Answer for ever, however often the interface goes and comes."""
        for remark in self._config.remarks:
            log.warning("remark", remark)
        listening = asyncio.ensure_future(self._listen())
        try:
            while True:
                link = await self._open()
                try:
                    await self._answer(link)
                finally:
                    self._tally.dropped += link.drops()
                    link.close()
                # However often it is lost: this is no busy loop.
                await asyncio.sleep(_PAUSE)
        except asyncio.CancelledError:
            log.info("stopped", f"stopped: {self._tally}", **self._tally.as_dict())
            raise
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        """Set the events that tell of changes."""
        try:
            changes = netlink.Changes()
        except OSError as error:
            log.warning("netlink", f"changes of addresses and gateways are not followed: no netlink ({error.strerror})")
            return
        try:
            while True:
                topics = await changes.wait(self._index)
                if netlink.Topic.LINK in topics:
                    self._link_changed.set()
                if netlink.Topic.UPLINK in topics:
                    self._uplink_changed.set()
        finally:
            changes.close()

    async def _open(self) -> Link:
        """Return the link, as soon as the interface is there and up."""
        waiting_for = None
        while True:
            ifname, obstacle = self._config.ifname, ""
            try:
                if ifname == netlink.AUTO:
                    ifname = (await netlink.snapshot(ifname)).ifname
                return Link(ifname)
            except PermissionError as error:
                raise DaemonError(
                    "no permission to open a packet socket: run as root, or grant CAP_NET_RAW "
                    "(systemd: AmbientCapabilities=CAP_NET_RAW; Docker: --cap-add NET_RAW)"
                ) from error
            except NotEthernetError as error:
                obstacle = "not an Ethernet interface: nobody solicits neighbors there"
                if self._config.ifname != netlink.AUTO:
                    raise DaemonError(f"{ifname} is {obstacle}; name the uplink with -i ({_there_are()})") from error
            except OSError as error:
                obstacle = error.strerror or str(error)
            except netlink.NetlinkError as error:
                obstacle = str(error)
            if not self._config.wait:
                raise DaemonError(f"{ifname}: {obstacle}; {_there_are()}")
            if waiting_for != obstacle:
                waiting_for = obstacle
                log.warning(
                    "waiting",
                    f"waiting for {ifname}: {obstacle}; {_there_are()}",
                    interface=ifname,
                    reason=obstacle,
                )
            await self._look_again()

    async def _look_again(self) -> None:
        """Wait for something to change that may bring the interface."""
        if self._config.ifname == netlink.AUTO:
            await _wait(self._uplink_changed, _RETRY_AUTO)
        else:
            await _wait(self._link_changed, _RETRY)

    async def _answer(self, link: Link) -> None:
        """Answer on the link until it is lost."""
        loop = asyncio.get_running_loop()
        ifname, mac = link.identity()
        self._index = link.index
        responder = Responder(link, Policy(mac, self._config.router, self._config.override), self._tally)
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
        self._announce(ifname, mac, compiled)
        running: list[asyncio.Future[None]] = [
            lost,
            asyncio.ensure_future(self._follow_link(ifname, link, responder)),
            asyncio.ensure_future(self._follow_uplink(ifname, responder)),
            asyncio.ensure_future(self._summarize(link)),
        ]
        try:
            # Each ends only by an error.
            ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            ended.pop().result()
        except OSError as error:
            log.warning("lost", f"lost {ifname}: {error.strerror}", interface=ifname, reason=error.strerror)
        finally:
            responder.stop()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _announce(self, ifname: str, mac: bytes, compiled: Filter) -> None:
        prefixes = self._config.prefixes
        size = len(compiled.instructions)
        log.info(
            "ready",
            f"answering on {ifname} ({mac.hex(':')}) for {_some(prefixes)}, filter of {size} instructions"
            + ("" if compiled.exact else ", wider than the prefixes: more would not fit"),
            interface=ifname,
            mac=mac.hex(":"),
            prefixes=len(prefixes),
            instructions=size,
            exact=compiled.exact,
        )

    async def _follow_link(self, ifname: str, link: Link, responder: Responder) -> NoReturn:
        """Follow the interface's MAC and carrier. Raises OSError when it is another interface now."""
        carrier = link.has_carrier()
        if not carrier:
            log.info("carrier", f"{ifname} has no carrier", interface=ifname, carrier=carrier)
        while True:
            self._link_changed.clear()
            name, mac = link.identity()
            if name != ifname:
                raise OSError(ENODEV, f"it is called {name} now" if name else "it is no more")
            if mac != responder.policy.link_address:
                responder.policy = replace(responder.policy, link_address=mac)
                log.info("mac", f"{ifname} has another MAC: {mac.hex(':')}", interface=ifname, mac=mac.hex(":"))
            # An interface that is down has none; that it is down is reported by the link itself.
            if link.is_up() and carrier != link.has_carrier():
                carrier = not carrier
                news = "has its carrier back" if carrier else "lost its carrier"
                log.info("carrier", f"{ifname} {news}", interface=ifname, carrier=carrier)
            await self._link_changed.wait()

    async def _follow_uplink(self, ifname: str, responder: Responder) -> NoReturn:
        """Keep to what the uplink and its gateways hold. Raises OSError when the uplink is another interface now."""
        loop = asyncio.get_running_loop()
        while True:
            self._uplink_changed.clear()
            begun = loop.time()
            try:
                uplink = await netlink.snapshot(self._config.ifname)
            except netlink.NetlinkError as error:
                log.warning(
                    "netlink",
                    f"the addresses of {ifname} and of its gateway are unknown ({error}); "
                    "exclude with -x those that are inside of a prefix",
                    interface=ifname,
                )
            else:
                if uplink.ifname != ifname:
                    raise OSError(ENODEV, f"the default route goes through {uplink.ifname} now")
                self._leave_to_their_owners(uplink, responder)
            taken = loop.time() - begun
            await self._uplink_changed.wait()
            # Changes come in groups; and when they do not end, snapshots shall take a sixth of the time, not all of it.
            await asyncio.sleep(max(_SETTLE, 5 * taken))

    def _leave_to_their_owners(self, uplink: netlink.Snapshot, responder: Responder) -> None:
        """Do not answer for what the uplink itself and its gateways hold."""
        ifname = uplink.ifname
        for on_link in _on_link(uplink):
            for prefix in self._config.prefixes:
                if on_link.subnet_of(prefix) and on_link not in self._covered:
                    self._covered.add(on_link)
                    log.warning(
                        "covers-link",
                        f"-n {prefix} covers all of {on_link}, the on-link prefix of {ifname}: no other host there can "
                        "take a new address, and a scan can fill the router's neighbor table; "
                        "name only the part that is yours",
                        interface=ifname,
                    )
        owned = _owned(uplink)
        addresses = self._book.publish(_UPLINK, owned)
        if addresses == self._addresses:
            return
        self._addresses = addresses
        responder.update(addresses)
        inside = sorted(str(refusal.prefix.network_address) for refusal in owned if self._is_configured(refusal.prefix))
        if inside == self._inside:
            return
        self._inside = inside
        log.info(
            "owned",
            f"not answering for {_some(inside)}: held by {ifname} or its gateway"
            if inside
            else f"{ifname} and its gateway hold nothing of the prefixes any more",
            interface=ifname,
            addresses=inside,
        )

    def _is_configured(self, prefix: IPv6Network) -> bool:
        return isinstance(self._configured.lookup(int(prefix.network_address)), Rule)

    async def _summarize(self, link: Link) -> None:
        """Once a minute, say what has happened since the last time, if anything has."""
        while True:
            await asyncio.sleep(_SUMMARY)
            self._tally.dropped += link.drops()
            now = self._tally.copy()
            if now != self._summarized:
                news = now.since(self._summarized)
                log.info("summary", f"last minute: {news}", **news.as_dict())
            self._summarized = now


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but not for ever, and take note of it."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    event.clear()


def interfaces() -> str:
    """Return the names of the interfaces there are, for an error that leaves the choice."""
    return _some([name for _, name in if_nameindex()])


def _there_are() -> str:
    return f"there are: {interfaces()}"


def _on_link(uplink: netlink.Snapshot) -> set[IPv6Network]:
    """The prefixes of the uplink's link; an address alone is none."""
    return {address.network for address in uplink.addresses if address.network.prefixlen < 128}


def _owned(uplink: netlink.Snapshot) -> set[Refusal]:
    """What the uplink's kernel and its gateways answer for themselves."""
    own = {(address.ip, Verdict.OWN_ADDRESS) for address in uplink.addresses}
    gateways = {(address, Verdict.GATEWAY) for address in uplink.gateways}
    # A forwarding kernel answers for the subnet-router anycast address of each on-link prefix.
    anycast = {(on_link.network_address, Verdict.ANYCAST) for on_link in _on_link(uplink)}
    return {Refusal(IPv6Network(address), verdict) for address, verdict in own | gateways | anycast}


def _some(things: Sequence[object]) -> str:
    """List things for a log line, the first few by name."""
    named = ", ".join(map(str, things[:_MOST_NAMED]))
    return named + (f" and {len(things) - _MOST_NAMED} more" if len(things) > _MOST_NAMED else "")
