"""What the kernel knows about the uplink, its addresses and its gateways, and when that changes: rtnetlink(7).

Snapshots have routes that are read by pyroute2, one message at a time. It costs more memory and time than all of the
rest, and a full routing table keeps everything waiting that is beside it, though of most routes only the fixed header
is looked at. So this is done in a process of its own, `python -m ndpresponder.netlink IFNAME`, that lives for as long
as one snapshot takes: about 0.2 seconds, and twice that with 200,000 routes.

A glance is what can be known before that, within a fraction of a millisecond: the addresses, and one gateway.

A survey, for those who want to know what stands in the way of a packet, is taken the same way; it has the routes, too.

Changes are heard on a netlink socket of this process. Of its messages only the fixed headers are read, for one thing:
whether another look is due.

Single neighbor entries are read and written on another one: the kernel replies within microseconds, so that looking
twice a second costs nothing, and an entry can be taken back on the way out. Reading one needs Linux 5.0, writing one
CAP_NET_ADMIN.
"""

import asyncio
import json
import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from errno import ENOBUFS
from ipaddress import IPv6Address, IPv6Interface, IPv6Network, collapse_addresses
from signal import SIGKILL, alarm
from socket import AF_INET6, AF_NETLINK, SOCK_RAW, if_indextoname, if_nameindex, if_nametoindex, socket
from struct import Struct
from typing import Any, NamedTuple, TypeVar

from .rtnetlink import (
    HEADER,
    LONGEST_MESSAGES,
    NETLINK_ROUTE,
    NLM_F_CREATE_OR_REPLACE,
    NLM_F_DUMP,
    Kernel,
    attribute,
    attributes,
    messages,
)

# linux/rtnetlink.h
_RTMGRP_LINK = 0x1
_RTMGRP_IPV6_IFADDR = 0x100
_RTMGRP_IPV6_ROUTE = 0x400
_RTM_LINK = (16, 17)
_RTM_GETLINK = 18
_RTM_ADDRESS = (20, 21)
_RTM_GETADDR = 22
_RTM_ROUTE = (24, 25)
_RTM_DELROUTE = 25
_RTM_GETROUTE = 26
_RTM_NEWNEIGH = 28
_RTM_DELNEIGH = 29
_RTM_GETNEIGH = 30
_RTM_GETNEXTHOP = 106
_RTN_UNICAST = 1
_ROUTE_TYPES = {1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_RT_TABLE_MAIN = 254
_RT_TABLES = (253, _RT_TABLE_MAIN, 255)  # default, main, local: what is looked at without a rule of policy routing
_PREFERENCES = {1: 0, 0: 1, 3: 2}  # linux/icmpv6.h: high, medium and low, the best first
_RTPROT = {2: "kernel", 9: "ra", 16: "dhcp"}
_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_MULTIPATH = 9
_RTA_NH_ID = 30
_IFLA_MASTER = 10  # linux/if_link.h
_IFLA_LINKINFO = 18
_IFLA_INFO_SLAVE_KIND = 4
_IFA_ADDRESS = 1  # linux/if_addr.h
_IFA_LOCAL = 2
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_ADDRESS_SIZE = 16

# linux/nexthop.h
_NHA_ID = 1
_NHA_GROUP = 2
_NHA_OIF = 5
_NHA_GATEWAY = 6

# linux/neighbour.h
NUD_INCOMPLETE = 0x01
NUD_REACHABLE = 0x02
NUD_STALE = 0x04
NUD_DELAY = 0x08
NUD_PROBE = 0x10
NUD_FAILED = 0x20
NUD_NOARP = 0x40
NUD_PERMANENT = 0x80
_NTF_PROXY = 0x08
_NTF_EXT_LEARNED = 0x10
_NTF_ROUTER = 0x80
_NDA_DST = 1
_NDA_LLADDR = 2
_NDA_IFINDEX = 8
_NDA_PROTOCOL = 12

PROTOCOL = 135
"""Who made a neighbor entry, a number as in rt_protos of iproute2, which nobody there has: the ICMPv6 type of a
solicitation."""

# struct nlmsghdr up to its type; behind it, where struct ifaddrmsg and struct rtmsg are alike, the second octet: the
# prefix length, of a route its destination's; then, of an address, the interface's index.
_MESSAGE = Struct("=IH10xxB2xI")

_IFINFOMSG = Struct("=4xi8x")  # struct ifinfomsg: interface
_IFADDRMSG = Struct("=BBBxI")  # struct ifaddrmsg: family, length of the prefix, flags, interface
_RTMSG = Struct("=BB5xB4x")  # struct rtmsg: family, length of the destination, type
_NHMSG = Struct("=B3x4x")  # struct nhmsg: family
_NEXTHOP_GRP = Struct("=4s4x")  # struct nexthop_grp: number
_NDMSG = Struct("=B3xiHBB")  # struct ndmsg: family, interface, state, flags, type

_LONGEST_SNAPSHOT = 30.0
"""Seconds: a survey of a full table of the Internet's routes takes one, some twenty while thousands of them change."""

_ATTEMPTS = 3
"""How often routes are read at most. After a new route the kernel begins anew, and leaves out as many as it has sent
before: for each that was deleted since, one too many. It does not tell (Linux 6.18). The default routes are the last of
their table, so where a routing daemon is at work they are those that get lost."""


class NetlinkError(Exception):
    """There is no snapshot to be had. The message says why."""


class Snapshot(NamedTuple):
    """The uplink's own addresses, each with the length of its on-link prefix, and its default gateways.

    `ifname` is the interface that this is about. `unusable` are those of the addresses that may be another host's: it
    is not known yet whether they are (duplicate address detection), or it is known that they are.
    """

    ifname: str
    addresses: tuple[IPv6Interface, ...]
    gateways: tuple[IPv6Address, ...]
    unusable: frozenset[IPv6Address] = frozenset()

    @property
    def sources(self) -> list[IPv6Address]:
        """The addresses that the uplink may send from (RFC 4862 section 5.4)."""
        return [address.ip for address in self.addresses if address.ip not in self.unusable]


_SURVEY = "survey"
_Reply = TypeVar("_Reply")

AUTO = "auto"
"""In place of an interface's name: the interface of the main table's default route, the one that the kernel prefers."""


class Route(NamedTuple):
    """An IPv6 route: to what, of which kind, by which interface (none for a blackhole), and who made it.

    `kind` is "unicast", "local" (delivered here), "blackhole", "unreachable" or "prohibit".
    """

    prefix: IPv6Network
    kind: str
    ifname: str | None
    gateway: IPv6Address | None
    protocol: str
    metric: int


class Survey(NamedTuple):
    """A snapshot, and beside it what lies around `prefixes`.

    `prefixes` are those that were asked about; if there were none, the on-link prefixes of the uplink. `routes` are the
    default routes and those to a part of a prefix, or to more; `held` the addresses inside of them that other
    interfaces of this host have.
    """

    snapshot: Snapshot
    prefixes: tuple[IPv6Network, ...]
    routes: tuple[Route, ...]
    held: tuple[tuple[str, IPv6Address], ...]


async def snapshot(ifname: str, otherwise: str = "") -> Snapshot:
    """Ask the kernel about the interface `ifname`, which can be AUTO. Raises NetlinkError.

    Where there is no default route, AUTO is the interface `otherwise`, if one is named.
    """
    return _read(await _ask(ifname, otherwise), _snapshot)


async def survey(ifname: str, prefixes: Sequence[IPv6Network]) -> Survey:
    """Ask the kernel about the interface `ifname`, which can be AUTO, and what lies around it. Raises NetlinkError."""
    return _read(await _ask(ifname, "", _SURVEY, *map(str, prefixes)), _survey)


def glance(index: int) -> Snapshot:
    """Ask the kernel, here and now, about the interface with this index. Raises OSError.

    However many routes there are, one is looked up: of several gateways this has the one that the kernel would take
    now, and none where it takes a rule of policy routing to get there.
    """
    with closing(Kernel()) as kernel:
        own = list(addresses(_dump_of_addresses(kernel), index))
        # The route to ::, which is the default one; and by this interface, since without a source address the kernel
        # looks at no other (ip6_route_output_flags() in net/ipv6/route.c).
        by_it = _RTA_OIF, index.to_bytes(4, sys.byteorder)
        try:
            found = kernel.request(_RTM_GETROUTE, 0, _RTMSG.pack(AF_INET6, 0, 0), by_it)
        except OSError:
            found = []  # there is none
        return Snapshot(
            if_indextoname(index),
            tuple(each.address for each in own),
            tuple(filter(None, map(gateway_of, found))),
            frozenset(each.address.ip for each in own if not each.usable),
        )


def bridge_of(index: int) -> str:
    """Return the name of the bridge that the interface with this index is a port of; none, if it is no port of one.

    Raises OSError.
    """
    with closing(Kernel()) as kernel:
        [link] = kernel.request(_RTM_GETLINK, 0, _IFINFOMSG.pack(index))
    values = dict(attributes(link, HEADER.size + _IFINFOMSG.size))
    if dict(attributes(values.get(_IFLA_LINKINFO, b""), 0)).get(_IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") != b"bridge":
        return ""
    return if_indextoname(int.from_bytes(values[_IFLA_MASTER], sys.byteorder))


async def _ask(*arguments: str) -> bytes:
    # The same modules as this process, wherever it found them; and -P, so that none comes from where it happens to run.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", __name__, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except (OSError, RuntimeError) as error:
        # No process; or, where asyncio has a thread wait for each (Python 3.11), no thread. A process that runs already
        # ends by itself.
        raise NetlinkError(str(error)) from error
    try:
        # Not asyncio.wait_for(): in Python 3.11, a cancellation that comes together with the output is lost in it.
        async with asyncio.timeout(_LONGEST_SNAPSHOT):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise NetlinkError(f"no reply within {_LONGEST_SNAPSHOT:.0f} seconds") from error
    finally:
        if process.returncode is None:
            # Not process.kill(): it polls first, and what that reaps, asyncio's own watcher misses and complains of.
            with suppress(ProcessLookupError):
                os.kill(process.pid, SIGKILL)
            await process.wait()
    if process.returncode:
        last_line = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise NetlinkError(last_line or f"exit status {process.returncode}")
    return output


def _read(output: bytes, reader: Callable[[Any], _Reply]) -> _Reply:
    try:
        return reader(json.loads(output))
    except (ValueError, TypeError, KeyError) as error:
        raise NetlinkError(f"an unexpected reply: {output[:80]!r}") from error


def _snapshot(reply: Any) -> Snapshot:
    return Snapshot(
        reply["ifname"],
        tuple(map(IPv6Interface, reply["addresses"])),
        tuple(map(IPv6Address, reply["gateways"])),
        frozenset(map(IPv6Address, reply["unusable"])),
    )


def _survey(reply: Any) -> Survey:
    return Survey(
        _snapshot(reply),
        tuple(map(IPv6Network, reply["prefixes"])),
        tuple(
            Route(IPv6Network(prefix), kind, ifname, gateway and IPv6Address(gateway), protocol, metric)
            for prefix, kind, ifname, gateway, protocol, metric in reply["routes"]
        ),
        tuple((ifname, IPv6Address(address)) for ifname, address in reply["held"]),
    )


def _decoded(dump: Iterable[bytes], decoder: Callable[[bytes], Any]) -> Iterator[Any]:
    """What pyroute2 makes of messages, one at a time: each takes 6 kB."""
    for message in dump:
        decoded = decoder(message)
        decoded.decode()
        yield decoded


def _dump_of_addresses(kernel: Kernel) -> list[bytes]:
    return kernel.request(_RTM_GETADDR, NLM_F_DUMP, _IFADDRMSG.pack(AF_INET6, 0, 0, 0), keep=_is_ipv6)


class Assigned(NamedTuple):
    """The index of an interface, an address of it with the length of its prefix, and whether to send from it."""

    on: int
    address: IPv6Interface
    usable: bool


def addresses(dump: Iterable[bytes], only: int = 0) -> Iterator[Assigned]:
    """Yield what each message says that has an address.

    `only` is the index of the one interface that matters, 0 for all. Any bytes give some.
    """
    for message in dump:
        if not _is_ipv6(message) or len(message) < HEADER.size + _IFADDRMSG.size:
            continue
        _, length, flags, index = _IFADDRMSG.unpack_from(message, HEADER.size)
        # Each of a thousand containers may have an interface: their addresses do not become objects for nothing.
        if only not in {0, index}:
            continue
        values = dict(attributes(message, HEADER.size + _IFADDRMSG.size))
        # On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL the own one.
        packed = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS, b"")
        if len(packed) == _ADDRESS_SIZE and length <= 8 * _ADDRESS_SIZE:
            # Not an optimistic one either: what is sent from here tells a MAC (RFC 4429 section 3.3).
            usable = not flags & (_IFA_F_TENTATIVE | _IFA_F_DADFAILED)
            yield Assigned(index, IPv6Interface((packed, length)), usable)


def gateway_of(route: bytes) -> IPv6Address | None:
    """Return the gateway in the message about a route that has been looked up, if there is one. Any bytes give a value.

    Such a route has one path, whatever there is to choose from.
    """
    packed = dict(attributes(route, HEADER.size + _RTMSG.size)).get(_RTA_GATEWAY, b"")
    return IPv6Address(packed) if len(packed) == _ADDRESS_SIZE else None


def _is_for_everything(default: Any) -> bool:
    """Whether a default route is for packets from any source, and needs no rule of policy routing, as a VPN's does."""
    return (default.get_attr("RTA_TABLE"), default["src_len"]) == (_RT_TABLE_MAIN, 0)


def _rank(default: Any) -> tuple[int, int]:
    """The kernel takes the default route with the smallest metric; of several, what routers say (RFC 4191)."""
    return default.get_attr("RTA_PRIORITY") or 0, _PREFERENCES.get(default.get_attr("RTA_PREF"), _PREFERENCES[0])


def _next_hops(route: Any) -> Iterator[tuple[int, str | None]]:
    """The interface and, if there is one, the gateway of each path of a route."""
    if index := route.get_attr("RTA_OIF"):
        yield index, route.get_attr("RTA_GATEWAY")
    for hop in route.get_attr("RTA_MULTIPATH") or ():
        yield hop["oif"], hop.get_attr("RTA_GATEWAY")


def routes(kernel: Kernel, keep: Callable[[bytes], bool]) -> list[bytes]:
    """Return the messages of those IPv6 routes that `keep` is true for, some of them twice if routes change meanwhile.

    Nothing is missed, unless routes are deleted during all of the attempts. Raises OSError.
    """
    kept = []
    for _ in range(_ATTEMPTS):
        with socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) as events:
            events.setblocking(False)  # noqa: FBT003 - the standard library's signature
            events.bind((0, _RTMGRP_IPV6_ROUTE))
            # One that is gone by now does no harm: where it matters, its end is an event that leads to another look.
            kept += kernel.request(_RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(AF_INET6, 0, 0), keep=keep)
            if not _has_deletion(events):
                break
    return kept


def _has_deletion(events: socket) -> bool:
    """Whether a route was deleted, or so much was changed that nobody knows."""
    try:
        while True:
            if any(kind == _RTM_DELROUTE for kind, *_ in messages(events.recv(LONGEST_MESSAGES))):
                return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno != ENOBUFS:
            raise
        return True


def _spelled_out(kernel: Kernel, dump: Iterable[bytes]) -> Iterator[bytes]:
    """Messages about routes, with the paths of those that only name a next hop: one message for each.

    That is what the kernel writes with net.ipv4.nexthop_compat_mode 0, as some routing daemons advise.
    """
    for route in dump:
        values = dict(attributes(route, HEADER.size + _RTMSG.size))
        if _RTA_NH_ID not in values or values.keys() & {_RTA_OIF, _RTA_MULTIPATH}:
            yield route
            continue
        named = _next_hop(kernel, values[_RTA_NH_ID])
        group = (_next_hop(kernel, number) for (number,) in _NEXTHOP_GRP.iter_unpack(named.get(_NHA_GROUP, b"")))
        for hop in (named, *group):
            pairs = (_RTA_OIF, hop.get(_NHA_OIF)), (_RTA_GATEWAY, hop.get(_NHA_GATEWAY))
            path = b"".join(attribute(kind, value) for kind, value in pairs if value)
            yield (len(route) + len(path)).to_bytes(4, sys.byteorder) + route[4:] + path


def _next_hop(kernel: Kernel, number: bytes) -> dict[int, bytes]:
    """The attributes of a next hop, or of a group of them; none if it is no more."""
    try:
        [found] = kernel.request(_RTM_GETNEXTHOP, 0, _NHMSG.pack(0), (_NHA_ID, number))
    except FileNotFoundError:
        return {}
    return dict(attributes(found, HEADER.size + _NHMSG.size))


def is_default(message: bytes) -> bool:
    """Whether a message is about a default route that leads somewhere. Any bytes give a value."""
    return _destination(message) == (0, _RTN_UNICAST)


def leads_to(prefixes: Iterable[IPv6Network]) -> Callable[[bytes], bool]:
    """Return what tells whether a message is about a default route, or one to a part of a prefix, or to more.

    Any bytes give it a value.
    """
    # A few hundred thousand routes: none becomes an object, and none is compared with each of a thousand prefixes.
    apart = sorted(collapse_addresses(prefixes))
    firsts = [int(prefix.network_address) for prefix in apart]
    lasts = [int(prefix.broadcast_address) for prefix in apart]

    def leads_there(message: bytes) -> bool:
        dst_len, _ = _destination(message)
        if not 0 < dst_len <= 128:
            return dst_len == 0
        values = (value for kind, value in attributes(message, HEADER.size + _RTMSG.size) if kind == _RTA_DST)
        first = int.from_bytes(next(values, b""))
        at = bisect_right(firsts, first | (1 << 128 - dst_len) - 1) - 1
        return at >= 0 and lasts[at] >= first

    return leads_there


def _is_ipv6(message: bytes) -> bool:
    # A kernel without IPv6 replies with what it knows of other families.
    return message[HEADER.size : HEADER.size + 1] == bytes([AF_INET6])


def _destination(message: bytes) -> tuple[int, int]:
    """The length of an IPv6 route's destination and its type, from the fixed header; of anything else (-1, 0)."""
    if not _is_ipv6(message) or len(message) < HEADER.size + _RTMSG.size:
        return -1, 0
    _, dst_len, kind = _RTMSG.unpack_from(message, HEADER.size)
    return dst_len, kind


def _described(dump: Iterable[Any], links: dict[int, str]) -> Iterator[tuple[object, ...]]:
    """Routes as main() prints them."""
    for route in dump:
        kind = _ROUTE_TYPES.get(route["type"])
        if kind is None or route.get_attr("RTA_TABLE") not in _RT_TABLES:
            continue
        prefix = f"{route.get_attr('RTA_DST') or '::'}/{route['dst_len']}"
        protocol = _RTPROT.get(route["proto"], "static")
        metric = route.get_attr("RTA_PRIORITY") or 0
        for index, gateway in _next_hops(route):
            yield prefix, kind, links.get(index), gateway, protocol, metric


def on_link(own: Iterable[IPv6Interface]) -> list[IPv6Network]:
    """Return the prefixes that addresses share with their neighbors, without the link-local one."""
    networks = {address.network for address in own}
    return sorted(each for each in networks if each.prefixlen < 128 and not each.is_link_local)


def main(ifname: str, otherwise: str = "", what: str = "", *prefixes: str) -> None:
    """Print the snapshot of one interface as JSON, or its survey; see snapshot() and survey()."""
    from pyroute2.netlink.rtnl.rtmsg import rtmsg  # noqa: PLC0415 - only this process pays for it

    with closing(Kernel()) as kernel:
        defaults = list(_decoded(_spelled_out(kernel, routes(kernel, is_default)), rtmsg))
        if ifname == AUTO:
            best_first = sorted(filter(_is_for_everything, defaults), key=_rank)
            index = next((index for route in best_first for index, _ in _next_hops(route)), 0)
            if not index and not otherwise:
                sys.exit("the main routing table has no IPv6 default route")
            index = index or if_nametoindex(otherwise)
        else:
            index = if_nametoindex(ifname)
        found = list(addresses(_dump_of_addresses(kernel)))
        own = [each for each in found if each.on == index]
        hops = {hop for route in defaults for hop in _next_hops(route)}
        gateways = sorted(gateway for on, gateway in hops if on == index and gateway is not None)
        reply: dict[str, object] = {
            "ifname": if_indextoname(index),
            "addresses": [str(each.address) for each in own],
            "gateways": gateways,
            "unusable": [str(each.address.ip) for each in own if not each.usable],
        }
        if what == _SURVEY:
            wanted = list(map(IPv6Network, prefixes)) or on_link(each.address for each in own)
            links = dict(if_nameindex())
            reply["prefixes"] = list(map(str, wanted))
            around = _spelled_out(kernel, routes(kernel, leads_to(wanted)))
            described = _described(_decoded(around, rtmsg), links)
            reply["routes"] = list(dict.fromkeys(described))
            held = ((links[on], address.ip) for on, address, _ in found if on != index and on in links)
            reply["held"] = [(name, str(address)) for name, address in held if any(address in each for each in wanted)]
    print(json.dumps(reply))  # noqa: T201 - the parent reads it


class Changed(NamedTuple):
    """What messages are about."""

    link: bool = False
    """Some interface has come, gone, or changed its name, state or MAC."""
    route: bool = False
    """A default route."""
    addresses: frozenset[int] = frozenset()
    """The IPv6 addresses of the interfaces with these indexes."""
    lost: bool = False
    """Messages were lost: anything may have changed."""

    def concerns(self, index: int) -> bool:
        """Whether it takes another snapshot of the interface with this index to know."""
        return self.lost or self.route or index in self.addresses


ANYTHING = Changed(link=True, lost=True)


class Changes:
    """Hears of changes to interfaces, their IPv6 addresses and the default routes.

    Raises OSError where there is no netlink to be had (a sandbox without AF_NETLINK).
    """

    def __init__(self) -> None:
        self._socket = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE)
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV6_IFADDR | _RTMGRP_IPV6_ROUTE))

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    async def wait(self) -> Changed:
        """Wait for messages, and return what they are about: nothing that matters, in most cases."""
        try:
            datagram = await asyncio.get_running_loop().sock_recv(self._socket, LONGEST_MESSAGES)
        except OSError as error:
            if error.errno != ENOBUFS:
                raise
            return ANYTHING
        return changed_by(datagram)


def changed_by(datagram: bytes) -> Changed:
    """Return what a datagram of netlink messages is about. Any bytes give a value.

    A full routing table that comes and goes means nothing: only its default routes do.
    """
    link = route = False
    addresses = set()
    at = 0
    while at + _MESSAGE.size <= len(datagram):
        length, kind, dst_len, ifa_index = _MESSAGE.unpack_from(datagram, at)
        if kind in _RTM_LINK:
            link = True
        elif kind in _RTM_ADDRESS:
            addresses.add(ifa_index)
        elif kind in _RTM_ROUTE and dst_len == 0:
            route = True
        # netlink(7): each message begins at a multiple of 4.
        at += max(_MESSAGE.size, (length + 3) & ~3)
    return Changed(link, route, frozenset(addresses))


class Neighbor(NamedTuple):
    """A neighbor entry: its state (NUD_…), its MAC if it has one, and the number of who made it, 0 for the kernel."""

    address: IPv6Address
    state: int
    link_address: bytes | None
    protocol: int


class Neighbors:
    """The neighbor entries of the interface with the index `index`; 0 is for reading those of all.

    All methods raise OSError where the kernel refuses; those that change something, PermissionError without
    CAP_NET_ADMIN.
    """

    def __init__(self, index: int) -> None:
        self._index = index
        self._kernel = Kernel()

    def close(self) -> None:
        """Ask no more."""
        self._kernel.close()

    def get(self, address: IPv6Address) -> Neighbor | None:
        """Return the entry of an address, if there is one."""
        try:
            found = self._kernel.request(_RTM_GETNEIGH, 0, self._message(), (_NDA_DST, address.packed))
        except FileNotFoundError:
            return None
        return _neighbor(found[0]) if found else None

    def own(self) -> list[Neighbor]:
        """Return the entries that put() made, whether in this process or in one before it."""
        return [neighbor for neighbor in self.all() if neighbor.protocol == PROTOCOL]

    def all(self) -> list[Neighbor]:
        """Return all entries."""
        return self._dump(0)

    def proxied(self) -> list[IPv6Address]:
        """Return the addresses that the kernel itself answers for in place of others (`ip neighbor add proxy`)."""
        return [neighbor.address for neighbor in self._dump(_NTF_PROXY)]

    def _dump(self, flags: int) -> list[Neighbor]:
        only_here = _NDA_IFINDEX, self._index.to_bytes(4, sys.byteorder)
        body = _NDMSG.pack(AF_INET6, 0, 0, flags, 0)
        return list(map(_neighbor, self._kernel.request(_RTM_GETNEIGH, NLM_F_DUMP, body, only_here)))

    def put(self, address: IPv6Address, link_address: bytes, *, router: bool) -> None:
        """Make the entry of an address a reachable one, in place of what is there.

        It ages like any other: what is left behind by a crash, the kernel checks itself before long.
        """
        # "Externally learned": a full neighbor table, during a scan of what lives here, does not displace it.
        flags = _NTF_EXT_LEARNED | (_NTF_ROUTER if router else 0)
        self._kernel.request(
            _RTM_NEWNEIGH,
            NLM_F_CREATE_OR_REPLACE,
            self._message(NUD_REACHABLE, flags),
            (_NDA_DST, address.packed),
            (_NDA_LLADDR, link_address),
            (_NDA_PROTOCOL, bytes([PROTOCOL])),
        )

    def remove(self, address: IPv6Address) -> bool:
        """Delete the entry of an address. Returns whether there was one."""
        try:
            self._kernel.request(_RTM_DELNEIGH, 0, self._message(), (_NDA_DST, address.packed))
        except FileNotFoundError:
            return False
        return True

    def may_change(self) -> bool:
        """Whether this process has CAP_NET_ADMIN over its network."""
        try:
            # Nobody's address: there is nothing that this could delete, but permission is checked first.
            self.remove(IPv6Address(0))
        except PermissionError:
            return False
        return True

    def _message(self, state: int = 0, flags: int = 0) -> bytes:
        return _NDMSG.pack(AF_INET6, self._index, state, flags, 0)


def _neighbor(message: bytes) -> Neighbor:
    """Read struct ndmsg and the attributes behind it."""
    _, _, state, _, _ = _NDMSG.unpack_from(message, HEADER.size)
    values = dict(attributes(message, HEADER.size + _NDMSG.size))
    protocol = values.get(_NDA_PROTOCOL, b"\0")[0]
    return Neighbor(IPv6Address(values[_NDA_DST]), state, values.get(_NDA_LLADDR), protocol)


if __name__ == "__main__":
    # Whatever becomes of who asked: nobody waits longer.
    alarm(int(_LONGEST_SNAPSHOT))
    main(*sys.argv[1:])
