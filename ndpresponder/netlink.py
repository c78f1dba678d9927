"""What the kernel knows about the uplink, its addresses and its gateways, and when that changes: rtnetlink(7).

Snapshots are taken with pyroute2. It costs more memory and time than all of the rest, its parser would keep everything
waiting while a full routing table goes through it, and some of its releases leak. So it lives in a process of its
own, as `python -m ndpresponder.netlink IFNAME`, for as long as one snapshot takes: about 0.2 seconds.

Changes are heard on a netlink socket of this process. Of its messages only the fixed headers are read, for one thing:
whether another look is due.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from enum import Enum
from errno import ENOBUFS
from ipaddress import IPv6Address, IPv6Interface
from socket import AF_INET6, AF_NETLINK, SOCK_RAW, if_indextoname, if_nametoindex, socket
from struct import Struct
from typing import Any, NamedTuple

_NETLINK_ROUTE = 0
# linux/rtnetlink.h
_RTMGRP_LINK = 0x1
_RTMGRP_IPV6_IFADDR = 0x100
_RTMGRP_IPV6_ROUTE = 0x400
_RTM_LINK = (16, 17)
_RTM_ADDRESS = (20, 21)
_RTM_ROUTE = (24, 25)
_RTN_UNICAST = 1
_LONGEST_MESSAGES = 1 << 16

# struct nlmsghdr up to its type; behind it, where struct ifaddrmsg and struct rtmsg are alike, the second octet: the
# prefix length, of a route its destination's; then, of an address, the interface's index.
_MESSAGE = Struct("=IH10xxB2xI")

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


AUTO = "auto"
"""In place of an interface's name: the interface of the default route, the one with the smallest metric."""


async def snapshot(ifname: str) -> Snapshot:
    """Ask the kernel about the interface `ifname`, which can be AUTO. Raises NetlinkError."""
    # The same modules as this process, wherever it found them; and -P, so that none comes from where it happens to run.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", __name__, ifname),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        raise NetlinkError(str(error)) from error
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _LONGEST_SNAPSHOT)
    except TimeoutError as error:
        raise NetlinkError(f"no reply within {_LONGEST_SNAPSHOT:.0f} seconds") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last_line = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise NetlinkError(last_line or f"exit status {process.returncode}")
    try:
        reply = json.loads(output)
        return Snapshot(
            reply["ifname"],
            tuple(map(IPv6Interface, reply["addresses"])),
            tuple(map(IPv6Address, reply["gateways"])),
        )
    except (ValueError, TypeError, KeyError) as error:
        raise NetlinkError(f"an unexpected reply: {output[:80]!r}") from error


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


def main(ifname: str) -> None:
    """Print the snapshot of one interface as JSON."""
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
        addresses = list(_addresses(netlink.get_addr(family=AF_INET6), index))
    hops = {hop for route in defaults for hop in _next_hops(route)}
    gateways = sorted(gateway for on, gateway in hops if on == index and gateway is not None)
    reply = {"ifname": if_indextoname(index), "addresses": addresses, "gateways": gateways}
    print(json.dumps(reply))  # noqa: T201 - the parent reads it


class Topic(Enum):
    """What a change is about."""

    LINK = "link"
    """Some interface has come, gone, or changed its name, state or MAC."""
    UPLINK = "uplink"
    """An address of an interface, or a default route."""


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

    async def wait(self, index: int) -> set[Topic]:
        """Wait for messages, and return what they mean for the interface with this index: nothing, in most cases."""
        try:
            messages = await asyncio.get_running_loop().sock_recv(self._socket, _LONGEST_MESSAGES)
        except OSError as error:
            if error.errno != ENOBUFS:
                raise
            # Messages were lost: anything may have changed.
            return set(Topic)
        return topics_of(messages, index)


def topics_of(messages: bytes, index: int) -> set[Topic]:
    """Return what a datagram of netlink messages means for an interface. Any bytes give a value.

    The addresses of other interfaces mean nothing, nor does a full routing table that comes and goes: only its default
    routes do.
    """
    topics: set[Topic] = set()
    at = 0
    while at + _MESSAGE.size <= len(messages):
        length, kind, dst_len, ifa_index = _MESSAGE.unpack_from(messages, at)
        if kind in _RTM_LINK:
            topics.add(Topic.LINK)
        elif (kind in _RTM_ADDRESS and ifa_index == index) or (kind in _RTM_ROUTE and dst_len == 0):
            topics.add(Topic.UPLINK)
        # netlink(7): each message begins at a multiple of 4.
        at += max(_MESSAGE.size, (length + 3) & ~3)
    return topics


if __name__ == "__main__":
    main(*sys.argv[1:])
