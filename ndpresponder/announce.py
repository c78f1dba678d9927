"""Announces addresses that have come to live here, so that the router finds them here from their first packet on.

A router that has sent to an address elsewhere (on another host, or here before the uplink's MAC changed) goes on
sending there, until it checks its neighbor entry. So each address that is known to live here is announced: by up to
three unsolicited advertisements (RFC 4861 section 7.2.6), which mend entries that there are; and by a solicitation
of each gateway that comes from the address itself, which makes one where there is none (section 7.2.3; RFC 9131 has
routers do the same on the advertisement).

The rules that hold here:
- Announcing never comes in the way of answering, and it is no burst for the link: it has a pace.
- Whole sets are given; what is new in them is announced, what is gone is forgotten at once.
- Whoever else has such an address is named in the log, once, and nothing else follows from it.
- `Announcements` decides, without I/O or a clock; `Announcer` does.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from itertools import islice
from typing import NamedTuple, NoReturn

from . import log
from .addresses import AddressSet
from .filter import ANY_ADVERTISEMENT
from .gateway import sources_of
from .link import Link
from .netlink import Snapshot
from .packet import (
    ALL_NODES,
    ALL_NODES_MAC,
    FLAG_OVERRIDE,
    FLAG_ROUTER,
    Advertisement,
    build,
    read_advertisement,
    solicit,
)
from .policy import Override, Policy

_TIMES = 3
"""How often an address is announced: MAX_NEIGHBOR_ADVERTISEMENT of RFC 4861 section 10."""
_APART = 1.0
"""Seconds between two announcements of an address: RETRANS_TIMER of the same section, by 7.2.6 the least."""
_PACE = 0.02
"""Seconds between two looks, each of which announces one address that is new, as long as that may be."""
_BURST = 250
"""How many new addresses are announced at this pace; after that it is as many as _STEADY says."""
_STEADY = 10.0
"""New addresses a second. A Linux router has room for 1,024 neighbors. One that it is told of it answers, probes after
five seconds, and takes for reachable for half a minute; until then it does not drop it, however full the table is
(neigh_forced_gc in net/core/neighbour.c). So at most 250 + 10 * 40 of them are there for that reason."""
_RETRY = 0.1
"""Seconds until the next look where the kernel did not take all that was due."""
_REPEATED_AT_ONCE = _TIMES - 1
"""How many addresses a look announces once more: as many as have become due when there is one new at each."""
_TOLD = 1.0
"""Seconds between two log lines about conflicts: a neighbor can claim every address that lives here, each with a MAC
of its own."""
_REST = _PACE / 2
"""Seconds between two advertisements that are read: a flood of them must not keep the interpreter from answering. When
each of the new addresses is another's too, that brings half as many."""


class Turn(NamedTuple):
    """That an address is to be announced: for the first time (`number` is 0), or for the second or third."""

    address: int
    number: int


class Conflict(NamedTuple):
    """Addresses that another host has too, and its MAC."""

    addresses: list[int]
    link_address: bytes

    def __str__(self) -> str:
        first, others, mac = IPv6Address(self.addresses[0]), len(self.addresses) - 1, self.link_address.hex(":")
        live, them = (f"and {others} more live", "them") if others else ("lives", "it")
        return (
            f"{first} {live} here, but another host, at {mac}, has {them} too: "
            "packets go to either, until one gives way"
        )


class Announcements:
    """Which address is to be announced when, and which ones others claim.

    Addresses are 128-bit integers, times seconds of one clock, whichever. All that is kept is about addresses that live
    here now, or were announced within the last second: neither coming and going nor what neighbors say makes it grow.
    """

    def __init__(self) -> None:
        self._addresses: frozenset[int] = frozenset()
        self._gateways: frozenset[IPv6Address] = frozenset()
        # Not announced yet, the newest last.
        self._new: OrderedDict[int, None] = OrderedDict()
        # When to announce once more, and for which time: since all wait equally long, the next one is first.
        self._repeated: OrderedDict[int, tuple[float, int]] = OrderedDict()
        # When each was announced last, if that was within _APART, the latest at the end: a container that crashes and
        # starts again, over and over, would have everybody told of it as often.
        self._resting: OrderedDict[int, float] = OrderedDict()
        # How many new ones may be announced, at the time when the last one was.
        self._credit, self._spent = float(_BURST), 0.0
        self._claimed: dict[int, bytes] = {}
        self._untold: dict[int, None] = {}
        self._last_told: float | None = None

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def claimed(self) -> int:
        """How many of the addresses that live here another host has said it has."""
        return len(self._claimed)

    def follow(self, addresses: frozenset[int], gateways: frozenset[IPv6Address]) -> None:
        """Take note of which addresses live here now, and who shall know."""
        for address in self._addresses - addresses:
            for held in (self._new, self._repeated, self._claimed, self._untold):
                held.pop(address, None)
        self._new.update(dict.fromkeys(sorted(addresses - self._addresses)))
        self._addresses = addresses
        if not gateways <= self._gateways:
            self.again()
        self._gateways = gateways

    def again(self) -> None:
        """Announce all of them anew, for there may be a router that knows none of it."""
        before = sorted(self._addresses - self._new.keys())
        self._new = OrderedDict.fromkeys([*before, *self._new])
        self._repeated.clear()

    def due(self, now: float) -> list[Turn]:
        """Return what is to be announced at this look; sent() takes note that it was. Else it stays due.

        The newest address comes first: the thousands that are there at start, most of which nobody has asked for, do
        not keep it waiting.
        """
        while self._resting and now - next(iter(self._resting.values())) >= _APART:
            self._resting.popitem(last=False)
        ready = (address for address in reversed(self._new) if address not in self._resting)
        turns = [Turn(address, 0) for address in islice(ready, self._credit_at(now) >= 1)]
        for address, (when, number) in islice(self._repeated.items(), _REPEATED_AT_ONCE):
            if when <= now:
                turns.append(Turn(address, number))
        return turns

    def sent(self, turn: Turn, now: float) -> None:
        """Take note that an address that was due has been announced."""
        address, number = turn
        self._new.pop(address, None)
        self._repeated.pop(address, None)
        self._resting.pop(address, None)
        self._resting[address] = now
        if number == 0:
            self._credit, self._spent = self._credit_at(now) - 1, now
        if number + 1 < _TIMES:
            self._repeated[address] = now + _APART, number + 1

    def claim(self, address: int, link_address: bytes) -> bool:
        """Take note that another host says it has an address. Returns whether that is worth telling."""
        if address not in self._addresses or address in self._claimed:
            return False
        self._claimed[address] = link_address
        self._untold[address] = None
        return True

    def tell(self, now: float) -> Conflict | None:
        """Return what is to be told of conflicts at this look: all that are with the host that was heard first."""
        if not self._untold or (self._last_told is not None and now - self._last_told < _TOLD):
            return None
        self._last_told = now
        link_address = self._claimed[next(iter(self._untold))]
        addresses = [address for address in self._untold if self._claimed[address] == link_address]
        for address in addresses:
            del self._untold[address]
        return Conflict(addresses, link_address)

    def pause(self, now: float) -> float | None:
        """Return how many seconds there is nothing to do, if nothing changes; None: for ever."""
        waits = []
        if self._new:
            rest = next(iter(self._resting.values())) + _APART - now if self._new.keys() <= self._resting.keys() else 0
            waits.append(max(rest, (1 - self._credit_at(now)) / _STEADY))
        waits += [when - now for when, _ in islice(self._repeated.values(), 1)]
        if self._untold and self._last_told is not None:
            waits.append(self._last_told + _TOLD - now)
        return max(0.0, min(waits)) if waits else None

    def _credit_at(self, now: float) -> float:
        return min(_BURST, self._credit + (now - self._spent) * _STEADY)


def living(addresses: AddressSet) -> Iterator[int]:
    """The single addresses that are answered for because they are known to live here."""
    for first, _, rule in addresses.decided():
        if rule.lives_here and rule.prefix.prefixlen == 128:
            yield first


class Announcer:
    """Announces on a link what follow() names, while run() runs.

    It sends on the link that answers, and listens on one of its own, which there is while an address lives here.
    """

    def __init__(self, link: Link, policy: Policy) -> None:
        self._link = link
        self._ifname, _ = link.identity()
        self._flags = FLAG_ROUTER if policy.router else 0
        if policy.override is not Override.NEVER:
            # RFC 4861 section 7.2.6: what the asker knew is to be displaced.
            self._flags |= FLAG_OVERRIDE
        self._announcements = Announcements()
        self._gateways: tuple[IPv6Address, ...] = ()
        self._sources: list[IPv6Address] = []
        self._wake = asyncio.Event()
        self._ear: Link | None = None

    @property
    def conflicts(self) -> int:
        """How many of the addresses that live here another host has said it has."""
        return self._announcements.claimed

    def follow(self, uplink: Snapshot, addresses: AddressSet) -> None:
        """Announce those of the addresses that live here, to the gateways of this uplink among others.

        They are answered for already.
        """
        self._gateways = uplink.gateways
        here = frozenset(living(addresses))
        # At the end one more that is answered for: the last of those is not asked for from itself.
        self._sources = [*sources_of(uplink, addresses), *map(IPv6Address, sorted(here)[:1])]
        self._announcements.follow(here, frozenset(uplink.gateways))
        self._wake.set()

    def again(self) -> None:
        """Announce all anew: the link was interrupted, or the uplink has another MAC."""
        self._announcements.again()
        self._wake.set()

    async def run(self) -> NoReturn:
        """Announce, at a pace, until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                pace = _PACE
                # An interface that is going away; and when sending, a full queue: what was not sent is due at the next
                # look.
                with suppress(OSError):
                    self._prepare()
                try:
                    self._announce(loop.time())
                except OSError:
                    pace = _RETRY
                self._tell(loop.time())
                await asyncio.sleep(pace)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._announcements.pause(loop.time())):
                        await self._wake.wait()
        finally:
            self._deafen()

    def _prepare(self) -> None:
        """Hear what others advertise, as long as there is something of which they could."""
        if not self._announcements:
            self._deafen()
        elif self._ear is None:
            self._ear = Link(self._ifname, allmulti=False)
            # Not only of what lives here: for thousands that would be more than a filter takes, and compiled anew
            # whenever a container comes or goes, against frames that are few. Against a flood it would not help: who
            # wants to disturb knows the addresses.
            self._ear.attach(ANY_ADVERTISEMENT)
            self._listen(self._ear)

    def _announce(self, now: float) -> None:
        """Announce what is due."""
        for turn in self._announcements.due(now):
            for frame in self._frames(turn):
                self._link.send(frame)
            self._announcements.sent(turn, now)
            if log.verbose():
                address = IPv6Address(turn.address)
                message = f"announced {address}, {turn.number + 1} of {_TIMES}"
                log.debug("announced", message, interface=self._ifname, address=address)

    def _frames(self, turn: Turn) -> Iterator[bytes]:
        """The frames by which an address is announced, from the uplink's MAC as it is now."""
        _, mac = self._link.identity()
        address = IPv6Address(turn.address)
        asker = next((source for source in self._sources if source != address), None)
        if turn.number == 0 and asker:
            # Whether somebody else has it. Not asked as a newcomer asks, from `::` (RFC 4862 section 5.4.2): a filter
            # that drops what is not from the host's prefix drops that; its answer would go to all nodes and turn them
            # to the other host; and one that is just testing the same address would have to give it up.
            yield solicit(mac, asker.packed, address.packed)
        if turn.number == 0:
            for gateway in self._gateways:
                yield solicit(mac, address.packed, gateway.packed)
        # Last: however often a turn is begun anew because the queue is full, these are three and a second apart.
        yield build(Advertisement(ALL_NODES_MAC, mac, ALL_NODES, turn.address, self._flags))

    def _listen(self, ear: Link) -> None:
        if ear is self._ear:
            asyncio.get_running_loop().add_reader(ear, self._receive, ear)

    def _deafen(self) -> None:
        if self._ear:
            asyncio.get_running_loop().remove_reader(self._ear)
            self._ear.close()
            self._ear = None

    def _receive(self, ear: Link) -> None:
        """Hear one advertisement, then none for a while."""
        loop = asyncio.get_running_loop()
        try:
            frame = ear.receive()
        except OSError:
            # It is down; the link that answers is told so too, and what follows from that is not decided here.
            self._deafen()
            return
        loop.remove_reader(ear)
        loop.call_later(_REST, self._listen, ear)
        advertised = read_advertisement(frame) if frame else None
        if frame is None or advertised is None:
            return
        sender = frame[6:12]
        link_address = advertised.link_address or sender
        _, mac = self._link.identity()
        # What was sent here is not received, but a switch can send it back.
        if mac not in (sender, link_address) and self._announcements.claim(
            int.from_bytes(advertised.target), link_address
        ):
            self._wake.set()

    def _tell(self, now: float) -> None:
        """Name who has what lives here."""
        conflict = self._announcements.tell(now)
        if conflict is None:
            return
        log.warning(
            "conflict",
            str(conflict),
            interface=self._ifname,
            address=IPv6Address(conflict.addresses[0]),
            others=len(conflict.addresses) - 1,
            mac=conflict.link_address.hex(":"),
        )
