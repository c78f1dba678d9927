"""What the kernel knows about the uplink: its addresses and its gateways, from rtnetlink(7).

pyroute2 costs more memory and time than all of the rest, its parser would keep the frame loop waiting while a
full routing table goes through it, and some of its releases leak. So it lives in a process of its own, as
`python -m ndpresponder.netlink IFNAME`, for as long as one snapshot takes: about 0.2 seconds.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Interface
from socket import AF_INET6, if_nametoindex
from typing import Any, NamedTuple

_LONGEST_SNAPSHOT = 30.0
"""Seconds: even a full table of the Internet's routes is read by then."""


class NetlinkError(Exception):
    """There is no snapshot to be had. The message says why."""


class Snapshot(NamedTuple):
    """The uplink's own addresses, each with the length of its on-link prefix, and its default gateways."""

    addresses: tuple[IPv6Interface, ...]
    gateways: tuple[IPv6Address, ...]


async def snapshot(ifname: str) -> Snapshot:
    """Ask the kernel about the interface `ifname`. Raises NetlinkError."""
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
        return Snapshot(tuple(map(IPv6Interface, reply["addresses"])), tuple(map(IPv6Address, reply["gateways"])))
    except (ValueError, TypeError, KeyError) as error:
        raise NetlinkError(f"an unexpected reply: {output[:80]!r}") from error


def _addresses(messages: Any, index: int) -> Iterator[str]:
    for message in messages:
        if message["index"] == index:
            # On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL the own one.
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            yield f"{address}/{message['prefixlen']}"


def _gateways(messages: Any, index: int) -> Iterator[str]:
    for message in messages:
        if message["dst_len"] == 0:
            if message.get_attr("RTA_OIF") == index and (gateway := message.get_attr("RTA_GATEWAY")):
                yield gateway
            for hop in message.get_attr("RTA_MULTIPATH") or ():
                if hop["oif"] == index and (gateway := hop.get_attr("RTA_GATEWAY")):
                    yield gateway


def main(ifname: str) -> None:
    """Print the snapshot of one interface as JSON."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - only this process pays for it

    index = if_nametoindex(ifname)
    with IPRoute() as netlink:
        reply = {
            "addresses": list(_addresses(netlink.get_addr(family=AF_INET6), index)),
            "gateways": sorted(set(_gateways(netlink.get_routes(family=AF_INET6), index))),
        }
    print(json.dumps(reply))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main(*sys.argv[1:])
