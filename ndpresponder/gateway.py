"""Keeps the gateway's neighbor entry usable where the provider filters what the kernel would keep it with.

For what it forwards, and whenever it checks an entry that it has, the kernel solicits from its link-local address
(ndisc_solicit in net/ipv6/ndisc.c). An anti-spoofing filter that knows the host's prefix alone drops that. So this room
asks in its place, from an address that passes.

The rules that hold here:
- As long as the kernel gets on by itself, nothing is written: there is a look at its entry twice a second, and every
  five seconds the question whether the gateway still is where the kernel takes it to be.
- What the administrator fixed (permanent, noarp) is left alone.
- An answer that comes to an address of this host is heard by the kernel too, which then needs no more. Only what it
  lacks after that is written, as an entry that ages and can be told by its protocol number.
- `Gateway` decides, without I/O or a clock; `Keeper` does.
"""

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Address, IPv6Network
from typing import NoReturn

from . import log
from .addresses import AddressSet
from .filter import announcements_of, answers_of
from .link import Link
from .netlink import (
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_NOARP,
    NUD_PERMANENT,
    NUD_PROBE,
    NUD_REACHABLE,
    PROTOCOL,
    Neighbor,
    Neighbors,
    Snapshot,
)
from .packet import FLAG_OVERRIDE, FLAG_ROUTER, FLAG_SOLICITED, Advertised, read_advertisement, solicit

_REOPENING = 30.0
"""Seconds until the kernel's entries are asked for again, where that is not possible."""
_LOOK = 0.5
"""Seconds between two looks at the kernel's entries."""
_PATIENCE = 0.4
"""Seconds that the kernel may take to resolve a gateway by itself: less than between two looks."""
_CHECK = 3.0
"""Seconds between an answer and the next question. With _RETRY, a new MAC is known after 4; the shortest life of an
entry that nobody confirms is, by the kernel's defaults, 15 + 5 + 3 seconds."""
_SPOT_CHECK = 5.0
"""The same for a gateway that is not kept. What the kernel takes for reachable it does not check, by its defaults for
up to 45 seconds, in which a new MAC would go unnoticed."""
_RETRY = 1.0
"""Seconds until a question is asked again: RETRANS_TIMER of RFC 4861 section 10."""
_GIVEN_UP = 10.0
"""Seconds of silence after which it is said that the gateway does not answer."""
_MOVES = 3
"""How many moves are told one by one: two that claim the gateway's address make it move once a second, without end."""
_AT_REST = 30.0
"""Seconds without a move after which the next one is told again; and between two lines while it has no end."""
_REST = 0.01
"""Seconds between two advertisements of a kind that are read: a flood of them must not keep the interpreter from
answering."""

_FIXED = NUD_PERMANENT | NUD_NOARP
_ASKING = NUD_INCOMPLETE | NUD_PROBE
_IN_NEED = _ASKING | NUD_FAILED
_UNIQUE_LOCAL = IPv6Network("fc00::/7")


class Question(Enum):
    """How to ask for a gateway."""

    UNICAST = "unicast"
    MULTICAST = "multicast"


class News(Enum):
    """What an advertisement changed."""

    FOUND = "found"
    MOVED = "moved"
    RESTLESS = "restless"
    BACK = "back"


@dataclass(slots=True)
class Gateway:
    """What is known of one gateway, and what follows from it. Times are seconds of one clock, whichever."""

    link_address: bytes | None = None
    """Its MAC, once it has answered."""
    router: bool = False
    """Whether it says of itself that it is a router."""
    kept: bool = False
    """Whether the kernel needs help with it. That it did once is reason enough to go on."""
    fixed: bool = False
    """Whether the administrator has fixed its entry."""
    silent: bool = False
    """Whether it has not answered for long."""
    attempts: int = 0
    """How many multicast questions were in vain."""
    _in_need_since: float | None = None
    _asking_since: float | None = None
    """The same without the time after it has given up, when it ignores answers (ndisc_recv_na in net/ipv6/ndisc.c)."""
    _unknown: bool = False
    """Whether it has no MAC to try."""
    _open: Question | None = None
    _asked: float = 0.0
    _answered: float = 0.0
    _moves: int = 0
    _moved: float = -_AT_REST
    _restless: float = -_AT_REST
    """When it was last told that it moves without end."""

    def look(self, entry: Neighbor | None, now: float) -> Question | None:
        """Take note of the kernel's entry. Returns how to ask for the gateway, if that is due."""
        in_need = entry is not None and bool(entry.state & _IN_NEED)
        if not in_need:
            self._in_need_since = None
        elif self._in_need_since is None:
            self._in_need_since = now
        if entry is None or not entry.state & _ASKING:
            self._asking_since = None
        elif self._asking_since is None:
            self._asking_since = now
        self._unknown = entry is not None and bool(entry.state & NUD_INCOMPLETE)
        self.fixed = entry is not None and bool(entry.state & _FIXED)
        if self.fixed:
            self.kept = self.silent = False
            self.link_address = None
        elif self._in_need_since is not None and now - self._in_need_since >= _PATIENCE:
            self.kept = True
        elif entry is not None and entry.protocol == PROTOCOL:
            # Of a process before this one, that was killed.
            self.kept = True
        question = self._question(now) if self.kept else self._spot_check(entry, now)
        if question:
            self._open, self._asked = question, now
        return question

    def _spot_check(self, entry: Neighbor | None, now: float) -> Question | None:
        """How to ask for a gateway that the kernel resolves by itself: only while it does not, and twice at most."""
        if entry is None or not entry.state & NUD_REACHABLE:
            self.link_address = self._open = None
        elif entry.link_address != self.link_address:
            self.link_address, self._open, self._answered = entry.link_address, None, now
        elif self._open is Question.MULTICAST and now - self._asked >= _RETRY:
            # It does not hear this source, or is gone; which of both, the kernel finds out.
            self.attempts += 1
            self._open, self._answered = None, now
        elif self._open or now - self._answered >= _SPOT_CHECK:
            return self._question(now)
        return None

    def _question(self, now: float) -> Question | None:
        if self._open:
            if now - self._asked < _RETRY:
                return None
            self.attempts += self._open is Question.MULTICAST
            self.silent = self.silent or now - self._answered >= _GIVEN_UP
            return Question.MULTICAST
        if self.link_address is None:
            # As if it had answered just now: from here the silence counts.
            self._answered = now
            return Question.MULTICAST
        # What the kernel waits for it can hear of this answer, if it hears any. Of the answer to a unicast question it
        # need not learn a MAC (RFC 4861 section 4.4).
        if now - self._answered < (_CHECK if self._asking_since is None else _RETRY):
            return None
        return Question.MULTICAST if self._unknown else Question.UNICAST

    def hear(self, advertised: Advertised, now: float) -> News | None:
        """Take note of an advertisement of this gateway's address."""
        # RFC 4861 section 4.4: the answer to a unicast question need not have the option.
        link_address = advertised.link_address or self.link_address
        if link_address is None or not (self.kept or self.link_address):
            return None
        moved = link_address != self.link_address
        if not self._open or not advertised.flags & FLAG_SOLICITED:
            # An announcement, or a second answer. What counts is the answer to a question, and announcements lead to
            # one: a flood of them to one at each look. A second answer does not, or it would be asked without end.
            if moved and advertised.flags & FLAG_OVERRIDE and now - self._answered >= _RETRY:
                self._open, self._asked = Question.UNICAST, now - _RETRY
            return None
        news = None
        if self.link_address is None:
            news = News.FOUND
        elif moved:
            news = self._move(now)
        elif self.silent:
            news = News.BACK
        self.link_address, self.router = link_address, bool(advertised.flags & FLAG_ROUTER)
        self.kept, self.silent = self.kept or moved, False
        self._open, self._answered = None, now
        return news

    def _move(self, now: float) -> News | None:
        """Take note of a move. Returns what is to be told of it."""
        self._moves = self._moves + 1 if now - self._moved < _AT_REST else 1
        self._moved = now
        if self._moves <= _MOVES:
            return News.MOVED
        if now - self._restless < _AT_REST:
            return None
        self._restless = now
        return News.RESTLESS

    def lacks(self, entry: Neighbor | None) -> bool:
        """Whether the kernel does not have what the gateway has answered a moment ago."""
        if not self.kept or self._open or self.link_address is None:
            return False
        return entry is None or (entry.state, entry.link_address) != (NUD_REACHABLE, self.link_address)

    @property
    def unheard(self) -> bool:
        """Whether the kernel still asks for what the gateway has answered meanwhile."""
        if not self.kept or self.link_address is None or self._asking_since is None:
            return False
        return self._asking_since < self._answered


_WORDING = {
    News.FOUND: "gateway {address} on {ifname} is at {mac}: asked for in place of the kernel, which gets no answer",
    News.MOVED: "gateway {address} on {ifname} is at {mac} now",
    News.RESTLESS: "gateway {address} on {ifname} moves without end, to {mac} now: more than one host answers for it",
    News.BACK: "gateway {address} on {ifname} answers again, at {mac}",
}


_GRANT = (
    "grant it (systemd: AmbientCapabilities=CAP_NET_ADMIN and CapabilityBoundingSet=CAP_NET_ADMIN; "
    "Docker: --cap-add NET_ADMIN)"
)


class Keeper:
    """Looks after the gateways that follow() names, on the interface `ifname` of number `index`, while run() runs."""

    def __init__(self, ifname: str, index: int) -> None:
        self._ifname = ifname
        self._index = index
        self._gateways: dict[IPv6Address, Gateway] = {}
        self._sources: list[IPv6Address] = []
        self._wake = asyncio.Event()
        self._changed = False
        self._may_write: bool | None = None
        self._said_unheard = False
        # For answers, and for announcements: a flood of these does not fill the queue of those.
        self._links: tuple[Link, ...] = ()

    @property
    def gateways(self) -> Mapping[IPv6Address, Gateway]:
        """What is known of each of the gateways."""
        return self._gateways

    def follow(self, uplink: Snapshot, addresses: AddressSet) -> None:
        """Keep the gateways of this uplink from now on. `addresses` are those that are answered for."""
        self._sources = sources_of(uplink, addresses)
        # With nothing to ask from there is nothing to be done for them.
        gateways = uplink.gateways if self._sources else ()
        self._gateways = {address: self._gateways.get(address) or Gateway() for address in gateways}
        self._changed = True
        self._wake.set()

    async def run(self) -> NoReturn:
        """Keep the entries usable until cancelled; then take back what was written."""
        with closing(await self._open()) as neighbors:
            try:
                while True:
                    # Where something fails, the interface is going away, or the kernel's table is full: there is
                    # another look.
                    with suppress(OSError):
                        self._prepare(neighbors)
                    for address, gateway in self._gateways.items():
                        with suppress(OSError):
                            self._look(neighbors, address, gateway)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_LOOK if self._gateways else None):
                            await self._wake.wait()
                    self._wake.clear()
            finally:
                self._deafen()
                self._gateways = {}
                with suppress(OSError):
                    self._take_back(neighbors)

    async def _open(self) -> Neighbors:
        while True:
            # That there is no netlink has been said already; or descriptors are short, for now.
            with suppress(OSError):
                return Neighbors(self._index)
            await asyncio.sleep(_REOPENING)

    def _prepare(self, neighbors: Neighbors) -> None:
        """Find out what is permitted, once; and adapt to other gateways, when there are."""
        if self._gateways and self._may_write is None:
            self._may_write = neighbors.may_change()
            if not self._may_write:
                log.info(
                    "gateway-permission",
                    "without CAP_NET_ADMIN the gateway's neighbor entry is not written: where the provider drops "
                    f"link-local solicitations, {self._ifname} needs a global address for replies to leave from behind "
                    f"this host; {_GRANT}, or say --gateway off",
                    interface=self._ifname,
                )
        if self._changed:
            self._changed = False
            self._attach()
            self._take_back(neighbors)

    def _look(self, neighbors: Neighbors, address: IPv6Address, gateway: Gateway) -> None:
        """Do what is due for one gateway."""
        ifname, entry = self._ifname, neighbors.get(address)
        was_fixed, was_silent = gateway.fixed, gateway.silent
        question = gateway.look(entry, asyncio.get_running_loop().time())
        if gateway.fixed and not was_fixed and entry and entry.link_address:
            at = entry.link_address.hex(":")
            log.info(
                "gateway",
                f"the neighbor entry of gateway {address} is fixed by hand, at {at}: left alone, also when the "
                f"gateway moves; `ip neighbor del {address} dev {ifname}` ends that",
                interface=ifname,
                gateway=address,
                mac=at,
            )
        if gateway.silent and not was_silent:
            log.warning("gateway", f"gateway {address} on {ifname} does not answer", interface=ifname, gateway=address)
        if self._may_write and gateway.link_address and gateway.lacks(entry):
            neighbors.put(address, gateway.link_address, router=gateway.router)
        elif gateway.unheard and not self._may_write and not self._said_unheard:
            self._said_unheard = True
            log.warning(
                "gateway-permission",
                f"the kernel does not hear gateway {address} on {ifname}, and without CAP_NET_ADMIN cannot be told "
                f"where it is: replies from behind this host do not leave it; {_GRANT}",
                interface=ifname,
                gateway=address,
            )
        if question:
            link, *_ = self._links or self._listen()
            source = self._sources[gateway.attempts % len(self._sources)]
            _, mac = link.identity()
            to = gateway.link_address if question is Question.UNICAST else None
            link.send(solicit(mac, source.packed, address.packed, to))

    def _listen(self) -> tuple[Link, ...]:
        """Hear advertisements from now on: on sockets that there are not before they are needed."""
        with ExitStack() as undo:
            answers = undo.enter_context(closing(Link(self._ifname, allmulti=False)))
            announcements = undo.enter_context(closing(Link(self._ifname, allmulti=False)))
            undo.pop_all()
        self._links = answers, announcements
        self._attach()
        for link in self._links:
            self._hear(link)
        return self._links

    def _attach(self) -> None:
        for link, advertisements_of in zip(self._links, (answers_of, announcements_of), strict=False):
            link.attach(advertisements_of(map(int, self._gateways)))

    def _hear(self, link: Link) -> None:
        if link in self._links:
            asyncio.get_running_loop().add_reader(link, self._receive, link)

    def _deafen(self) -> None:
        for link in self._links:
            asyncio.get_running_loop().remove_reader(link)
            link.close()
        self._links = ()

    def _receive(self, link: Link) -> None:
        """Hear one advertisement, then none for a while."""
        loop = asyncio.get_running_loop()
        try:
            frame = link.receive()
        except OSError:
            # It is down; the link that answers is told so too, and what follows from that is not decided here.
            self._deafen()
            return
        loop.remove_reader(link)
        loop.call_later(_REST, self._hear, link)
        advertised = read_advertisement(frame) if frame else None
        if advertised is None:
            return
        address = IPv6Address(advertised.target)
        gateway = self._gateways.get(address)
        if gateway is None:
            return
        news = gateway.hear(advertised, loop.time())
        if news and gateway.link_address:
            mac = gateway.link_address.hex(":")
            message = _WORDING[news].format(address=address, ifname=self._ifname, mac=mac)
            say = log.warning if news is News.RESTLESS else log.info
            say("gateway", message, interface=self._ifname, gateway=address, mac=mac)
            self._wake.set()

    def _take_back(self, neighbors: Neighbors) -> None:
        """Delete what was written for what is no gateway any more, be it by a process that was killed."""
        for entry in neighbors.own():
            # Where the administrator has fixed such an entry since, the kernel has kept our number.
            if entry.state & _FIXED or entry.address in self._gateways:
                continue
            if neighbors.remove(entry.address):
                log.info(
                    "gateway",
                    f"the neighbor entry of {entry.address} on {self._ifname} is taken back",
                    interface=self._ifname,
                    gateway=entry.address,
                )


def sources_of(uplink: Snapshot, addresses: AddressSet) -> list[IPv6Address]:
    """From where to ask, best first; one that is not answered is followed by the next.

    Best is a global address of the uplink: its answer reaches the kernel as well. Of those that are answered for it is
    the last, since the first ones of a prefix are likely to be a router's. A link-local one is what the filter drops.
    """
    own = [address for address in uplink.sources if not address.is_link_local]
    unique_local = [address for address in own if address in _UNIQUE_LOCAL]
    answered = [IPv6Address(last) for _, last in addresses.ranges()[-1:]]
    return [*(address for address in own if address not in unique_local), *answered, *unique_local]
