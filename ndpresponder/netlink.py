"""What the kernel knows about the uplink, its addresses and its gateways, and when that changes: rtnetlink(7).

Snapshots are taken with pyroute2. It costs more memory and time than all of the rest, its parser would keep everything
waiting while a full routing table goes through it, and some of its releases leak. So it lives in a process of its
own, as `python -m ndpresponder.netlink IFNAME`, for as long as one snapshot takes: about 0.2 seconds.

A survey, for those who want to know what stands in the way of a packet, is taken the same way; it has the routes, too.

Changes are heard on a netlink socket of this process. Of its messages only the fixed headers are read, for one thing:
whether another look is due.

Single neighbor entries are read and written on another one, by requests of some 60 octets that are made by hand: the
kernel replies within microseconds, so that looking twice a second costs nothing, and an entry can be taken back on
the way out. Reading one needs Linux 5.0, writing one CAP_NET_ADMIN.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import ENOBUFS
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from socket import AF_INET6, AF_NETLINK, SOCK_RAW, if_indextoname, if_nameindex, if_nametoindex, socket
from struct import Struct
from typing import Any, NamedTuple, TypeVar

_NETLINK_ROUTE = 0
# linux/rtnetlink.h
_RTMGRP_LINK = 0x1
_RTMGRP_IPV6_IFADDR = 0x100
_RTMGRP_IPV6_ROUTE = 0x400
_RTM_LINK = (16, 17)
_RTM_ADDRESS = (20, 21)
_RTM_ROUTE = (24, 25)
_RTM_NEWNEIGH = 28
_RTM_DELNEIGH = 29
_RTM_GETNEIGH = 30
_RTN_UNICAST = 1
_ROUTE_TYPES = {1: "unicast", 2: "local", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_RT_TABLES = (253, 254, 255)  # default, main, local: what is looked at without a rule of policy routing
_RTPROT = {2: "kernel", 9: "ra", 16: "dhcp"}
_LONGEST_MESSAGES = 1 << 16

# linux/netlink.h
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_DUMP = 0x300
_NLM_F_CREATE_OR_REPLACE = 0x500

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

_REQUEST = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
_NDMSG = Struct("=B3xiHBB")  # struct ndmsg: family, interface, state, flags, type
_ATTRIBUTE = Struct("=HH")  # struct nlattr: length, type
_ERROR = Struct("=i")
_PATIENCE = 1.0
"""Seconds that a reply may take; it is there when sending the request returns."""

_LONGEST_SNAPSHOT = 30.0
"""Seconds: even a full table of the Internet's routes is read by then."""


class NetlinkError(Exception):
    """There is no snapshot to be had. The message says why."""


class Snapshot(NamedTuple):
    """The uplink's own addresses, each with the length of its on-link prefix, and its default gateways.

    `ifname` is the interface that this is about.
    """

    ifname: str
    addresses: tuple[IPv6Interface, ...]
    gateways: tuple[IPv6Address, ...]


_SURVEY = "survey"
_Reply = TypeVar("_Reply")

AUTO = "auto"
"""In place of an interface's name: the interface of the default route, the one with the smallest metric."""


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


async def snapshot(ifname: str) -> Snapshot:
    """Ask the kernel about the interface `ifname`, which can be AUTO. Raises NetlinkError."""
    return _read(await _ask(ifname), _snapshot)


async def survey(ifname: str, prefixes: Sequence[IPv6Network]) -> Survey:
    """Ask the kernel about the interface `ifname`, which can be AUTO, and what lies around it. Raises NetlinkError."""
    return _read(await _ask(ifname, _SURVEY, *map(str, prefixes)), _survey)


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
    except OSError as error:
        raise NetlinkError(str(error)) from error
    try:
        # Not asyncio.wait_for(): in Python 3.11, a cancellation that comes together with the output is lost in it.
        async with asyncio.timeout(_LONGEST_SNAPSHOT):
            output, errors = await process.communicate()
    except TimeoutError as error:
        raise NetlinkError(f"no reply within {_LONGEST_SNAPSHOT:.0f} seconds") from error
    finally:
        if process.returncode is None:
            process.kill()
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


def _addresses(messages: Any, index: int) -> Iterator[str]:
    for message in messages:
        if message["index"] == index:
            # On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL the own one.
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            yield f"{address}/{message['prefixlen']}"


def _next_hops(route: Any) -> Iterator[tuple[int, str | None]]:
    """The interface and, if there is one, the gateway of each path of a route."""
    if index := route.get_attr("RTA_OIF"):
        yield index, route.get_attr("RTA_GATEWAY")
    for hop in route.get_attr("RTA_MULTIPATH") or ():
        yield hop["oif"], hop.get_attr("RTA_GATEWAY")


def _described(routes: Any, wanted: Sequence[IPv6Network], links: dict[int, str]) -> Iterator[tuple[object, ...]]:
    """The default routes and those that have to do with `wanted`, as main() prints them."""
    for route in routes:
        kind = _ROUTE_TYPES.get(route["type"])
        prefix = IPv6Network((route.get_attr("RTA_DST") or "::", route["dst_len"]))
        if (
            kind is None
            or route.get_attr("RTA_TABLE") not in _RT_TABLES
            or not (prefix.prefixlen == 0 or any(prefix.overlaps(each) for each in wanted))
        ):
            continue
        protocol = _RTPROT.get(route["proto"], "static")
        metric = route.get_attr("RTA_PRIORITY") or 0
        for index, gateway in _next_hops(route):
            yield str(prefix), kind, links.get(index), gateway, protocol, metric


def _on_link(addresses: Iterable[str]) -> list[IPv6Network]:
    """The prefixes that addresses share with their neighbors, without the link-local one."""
    networks = {IPv6Interface(address).network for address in addresses}
    return sorted(each for each in networks if each.prefixlen < 128 and not each.is_link_local)


def main(ifname: str, what: str = "", *prefixes: str) -> None:
    """Print the snapshot of one interface as JSON, or its survey."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - only this process pays for it

    with IPRoute() as netlink:
        defaults = [
            route
            for route in netlink.get_routes(family=AF_INET6)
            if route["dst_len"] == 0 and route["type"] == _RTN_UNICAST
        ]
        if ifname == AUTO:
            defaults.sort(key=lambda route: route.get_attr("RTA_PRIORITY") or 0)
            index = next((index for route in defaults for index, _ in _next_hops(route)), None)
            if index is None:
                sys.exit("there is no IPv6 default route")
        else:
            index = if_nametoindex(ifname)
        found = list(netlink.get_addr(family=AF_INET6))
        addresses = list(_addresses(found, index))
        hops = {hop for route in defaults for hop in _next_hops(route)}
        gateways = sorted(gateway for on, gateway in hops if on == index and gateway is not None)
        reply: dict[str, object] = {"ifname": if_indextoname(index), "addresses": addresses, "gateways": gateways}
        if what == _SURVEY:
            wanted = list(map(IPv6Network, prefixes)) or _on_link(addresses)
            links = dict(if_nameindex())
            reply["prefixes"] = list(map(str, wanted))
            # Asked for once more rather than kept: a full table of the Internet's routes would take a gigabyte.
            reply["routes"] = list(_described(netlink.get_routes(family=AF_INET6), wanted, links))
            reply["held"] = [
                (name, str(IPv6Interface(address).ip))
                for other, name in links.items()
                if other != index
                for address in _addresses(found, other)
                if any(IPv6Interface(address).ip in each for each in wanted)
            ]
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
        self._socket = socket(AF_NETLINK, SOCK_RAW, _NETLINK_ROUTE)
        self._socket.setblocking(False)  # noqa: FBT003 - the standard library's signature
        self._socket.bind((0, _RTMGRP_LINK | _RTMGRP_IPV6_IFADDR | _RTMGRP_IPV6_ROUTE))

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()

    async def wait(self) -> Changed:
        """Wait for messages, and return what they are about: nothing that matters, in most cases."""
        try:
            messages = await asyncio.get_running_loop().sock_recv(self._socket, _LONGEST_MESSAGES)
        except OSError as error:
            if error.errno != ENOBUFS:
                raise
            return ANYTHING
        return changed_by(messages)


def changed_by(messages: bytes) -> Changed:
    """Return what a datagram of netlink messages is about. Any bytes give a value.

    A full routing table that comes and goes means nothing: only its default routes do.
    """
    link = route = False
    addresses = set()
    at = 0
    while at + _MESSAGE.size <= len(messages):
        length, kind, dst_len, ifa_index = _MESSAGE.unpack_from(messages, at)
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
        self._number = 0
        self._socket = socket(AF_NETLINK, SOCK_RAW, _NETLINK_ROUTE)
        self._socket.settimeout(_PATIENCE)
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()

    def get(self, address: IPv6Address) -> Neighbor | None:
        """Return the entry of an address, if there is one."""
        try:
            found = self._request(_RTM_GETNEIGH, 0, self._message(), (_NDA_DST, address.packed))
        except FileNotFoundError:
            return None
        return found[0] if found else None

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
        return self._request(_RTM_GETNEIGH, _NLM_F_DUMP, _NDMSG.pack(AF_INET6, 0, 0, flags, 0), only_here)

    def put(self, address: IPv6Address, link_address: bytes, *, router: bool) -> None:
        """Make the entry of an address a reachable one, in place of what is there.

        It ages like any other: what is left behind by a crash, the kernel checks itself before long.
        """
        # "Externally learned": a full neighbor table, during a scan of what lives here, does not displace it.
        flags = _NTF_EXT_LEARNED | (_NTF_ROUTER if router else 0)
        self._request(
            _RTM_NEWNEIGH,
            _NLM_F_CREATE_OR_REPLACE,
            self._message(NUD_REACHABLE, flags),
            (_NDA_DST, address.packed),
            (_NDA_LLADDR, link_address),
            (_NDA_PROTOCOL, bytes([PROTOCOL])),
        )

    def remove(self, address: IPv6Address) -> bool:
        """Delete the entry of an address. Returns whether there was one."""
        try:
            self._request(_RTM_DELNEIGH, 0, self._message(), (_NDA_DST, address.packed))
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

    def _request(self, kind: int, flags: int, body: bytes, *attributes: tuple[int, bytes]) -> list[Neighbor]:
        """Send a request and return the entries in its reply, which ends with an acknowledgment."""
        for attribute, value in attributes:
            body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), attribute) + value + bytes(-len(value) % 4)
        self._number += 1
        size = _REQUEST.size + len(body)
        self._socket.send(_REQUEST.pack(size, kind, flags | _NLM_F_REQUEST | _NLM_F_ACK, self._number, 0) + body)
        found = []
        while True:
            reply = self._socket.recv(_LONGEST_MESSAGES)
            at = 0
            while at + _REQUEST.size <= len(reply):
                size, kind, _, number, _ = _REQUEST.unpack_from(reply, at)
                payload = reply[at + _REQUEST.size : at + size]
                at += max(_REQUEST.size, (size + 3) & ~3)
                if number != self._number:
                    continue  # the end of an earlier reply that did not come in time
                if kind == _RTM_NEWNEIGH:
                    found.append(_neighbor(payload))
                elif kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    (error,) = _ERROR.unpack_from(payload)
                    if error:
                        raise OSError(-error, os.strerror(-error))
                    return found


def _neighbor(message: bytes) -> Neighbor:
    """Read struct ndmsg and the attributes behind it."""
    _, _, state, _, _ = _NDMSG.unpack_from(message)
    attributes = {}
    at = _NDMSG.size
    while at + _ATTRIBUTE.size <= len(message):
        length, attribute = _ATTRIBUTE.unpack_from(message, at)
        attributes[attribute] = message[at + _ATTRIBUTE.size : at + length]
        at += max(_ATTRIBUTE.size, (length + 3) & ~3)
    protocol = attributes.get(_NDA_PROTOCOL, b"\0")[0]
    return Neighbor(IPv6Address(attributes[_NDA_DST]), state, attributes.get(_NDA_LLADDR), protocol)


if __name__ == "__main__":
    main(*sys.argv[1:])
