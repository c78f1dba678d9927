"""Which multicast groups must be heard for an AddressSet, and how the network is told.

A solicitation goes to the solicited-node group of its target (RFC 4291 section 2.7.1): the target's last 24 bits,
which is what stands for a group here. Many addresses can share one. Switches with MLD snooping forward a group to where
it was joined, and everything to where a multicast router is.

Memberships are owned by file descriptors: the kernel leaves the groups however the process ends.
"""

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from errno import ENOBUFS, ENOMEM
from ipaddress import IPv6Network
from itertools import repeat
from pathlib import Path
from socket import AF_INET6, IPPROTO_IPV6, IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP, SOCK_DGRAM, socket
from struct import Struct
from typing import NamedTuple

from .addresses import AddressSet
from .packet import SOLICITED_NODE_PREFIX

_LAST_24_BITS = 0xFFFFFF
_IPV6_MREQ = Struct("16sI")  # linux/in6.h

ADVERTISEMENT_INTERVAL = 20
"""Seconds between two Multicast Router Advertisements (RFC 4286 section 3.1.1)."""
_INITIAL_INTERVAL = 2.0
"""Seconds between the first ones (RFC 4286: MaxInitialAdvertisementInterval)."""
_INITIAL_ADVERTISEMENTS = 3
"""How many the first ones are (RFC 4286: MaxInitialAdvertisements)."""
_JITTER = 0.025
"""By which part of itself the interval is changed at random (RFC 4286 section 3.1.2)."""


class Groups(NamedTuple):
    """The groups to join, each as 24 bits, and the prefixes that are too wide to join theirs."""

    joined: frozenset[int]
    wide: tuple[IPv6Network, ...]


def groups_of(addresses: AddressSet, few: int) -> Groups:
    """Return the groups of all that is answered for by prefixes of at most `few` addresses.

    It is the prefix that counts and not the run of addresses: neighboring single addresses are not a wide prefix, and
    an address that is carved out of a wide one does not leave narrow ones.
    """
    joined: set[int] = set()
    wide: dict[IPv6Network, None] = {}
    for first, last, rule in addresses.decided():
        if 1 << (128 - rule.prefix.prefixlen) > few:
            wide[rule.prefix] = None
        else:
            joined.update(address & _LAST_24_BITS for address in range(first, last + 1))
    return Groups(frozenset(joined), tuple(wide))


class Memberships:
    """The groups that are joined on the interface number `index`; none at first.

    They are for this one interface: another that takes its name later has another number, and needs its own.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._holders: dict[int, socket] = {}
        # Sockets that have not been found full. How many groups one can hold depends on net.core.optmem_max:
        # 2,340 of them, or 365 before Linux 6.7.
        self._roomy: list[socket] = []
        self._cleanup = ExitStack()

    def __len__(self) -> int:
        return len(self._holders)

    def close(self) -> None:
        """Leave all groups."""
        self._cleanup.close()

    def follow(self, groups: frozenset[int]) -> None:
        """Be a member of exactly these groups; their MLD reports are the kernel's work.

        Raises OSError, among other reasons because the interface is gone (ENODEV) or has no IPv6 (EINVAL); what has
        been joined until then stays joined.
        """
        # Below an MTU of 1280 an interface has no IPv6 (addrconf_notify in net/ipv6/addrconf.c), and no groups either
        # when it has it again. The socket still counts as a member, and could not join a second time.
        kept = groups
        with suppress(OSError):
            kept = groups & _groups_on(self._index)
        for group in self._holders.keys() - kept:
            holder = self._holders.pop(group)
            holder.setsockopt(IPPROTO_IPV6, IPV6_LEAVE_GROUP, self._request(group))
            if holder not in self._roomy:
                self._roomy.append(holder)
        for group in groups - self._holders.keys():
            self._join(group)

    def _join(self, group: int) -> None:
        while self._roomy:
            try:
                self._join_with(self._roomy[-1], group)
            except OSError as error:
                if error.errno not in (ENOMEM, ENOBUFS):
                    raise
                self._roomy.pop()
            else:
                return
        with ExitStack() as undo:
            holder = undo.enter_context(socket(AF_INET6, SOCK_DGRAM))
            self._join_with(holder, group)
            self._roomy.append(holder)
            self._cleanup.push(undo.pop_all())

    def _join_with(self, holder: socket, group: int) -> None:
        holder.setsockopt(IPPROTO_IPV6, IPV6_JOIN_GROUP, self._request(group))
        self._holders[group] = holder

    def _request(self, group: int) -> bytes:
        return _IPV6_MREQ.pack(SOLICITED_NODE_PREFIX + group.to_bytes(3), self._index)


def _groups_on(index: int) -> frozenset[int]:
    """Return the solicited-node groups that are joined on an interface, by whomever: /proc/net/igmp6 of proc(5)."""
    # The namespace is the thread's.
    lines = Path("/proc/thread-self/net/igmp6").read_text().splitlines()
    fields = (line.split() for line in lines if line.startswith(f"{index} "))
    addresses = (bytes.fromhex(address) for _, _, address, *_ in fields)
    return frozenset(int.from_bytes(address[13:]) for address in addresses if address[:13] == SOLICITED_NODE_PREFIX)


def advertisement_intervals() -> Iterator[float]:
    """Yield the seconds between one Multicast Router Advertisement and the next, without end (RFC 4286 section 3.1).

    The first come quickly, since a switch can miss one; later, several routers shall not keep step.
    """
    import random  # noqa: PLC0415 - 90 kB, with mrd only

    yield from repeat(_INITIAL_INTERVAL, _INITIAL_ADVERTISEMENTS - 1)
    while True:
        yield ADVERTISEMENT_INTERVAL * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311 - nothing to guess here
