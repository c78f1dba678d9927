"""Neighbors: single entries of the kernel's neighbor table, read and written; `ip` is the witness."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from errno import ENODEV
from ipaddress import IPv6Address, IPv6Interface
from resource import RLIMIT_NOFILE, getrlimit, setrlimit
from socket import if_nametoindex
from typing import Any

import pytest
from namespaces import Namespace
from wire import Wire

from ndpresponder import gateway, netlink
from ndpresponder.addresses import AddressSet
from ndpresponder.gateway import Keeper
from ndpresponder.netlink import NUD_FAILED, NUD_PERMANENT, NUD_REACHABLE, PROTOCOL, Neighbor, Neighbors, Snapshot

GATEWAY = IPv6Address("fe80::fe")
OTHER = IPv6Address("2001:db8::1")
MAC = bytes.fromhex("525400000009")


@contextmanager
def opened(namespace: Namespace, name: str = "eth0") -> Iterator[Neighbors]:
    with namespace.entered():
        index = json.loads(namespace.ip(f"-json link show dev {name}"))[0]["ifindex"]
        neighbors = Neighbors(index)
    with closing(neighbors):
        yield neighbors


def shown(namespace: Namespace, *words: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(namespace.ip(" ".join(("-json -6 neighbor show", *words))))
    return entries


def test_what_ip_writes_is_read(wire: Wire) -> None:
    wire.host.ip(f"neighbor add {GATEWAY} lladdr {MAC.hex(':')} nud permanent dev eth0")
    wire.host.ip(f"neighbor add {OTHER} nud failed dev eth0 protocol zebra")
    with opened(wire.host) as neighbors:
        assert neighbors.get(GATEWAY) == Neighbor(GATEWAY, NUD_PERMANENT, MAC, 0)
        assert neighbors.get(OTHER) == Neighbor(OTHER, NUD_FAILED, None, 11)
        assert neighbors.get(IPv6Address("2001:db8::2")) is None
        assert neighbors.own() == []


@pytest.mark.parametrize("router", [True, False])
def test_ip_reads_what_is_written(wire: Wire, *, router: bool) -> None:
    with opened(wire.host) as neighbors:
        neighbors.put(GATEWAY, MAC, router=router)

        assert shown(wire.host, "dev eth0") == [
            {
                "dst": str(GATEWAY),
                "lladdr": MAC.hex(":"),
                **({"router": None} if router else {}),
                "extern_learn": None,
                "state": ["REACHABLE"],
                "protocol": str(PROTOCOL),
            }
        ]
        assert neighbors.get(GATEWAY) == Neighbor(GATEWAY, NUD_REACHABLE, MAC, PROTOCOL)


def test_what_is_there_is_replaced(wire: Wire) -> None:
    wire.host.ip(f"neighbor add {GATEWAY} nud failed dev eth0")
    with opened(wire.host) as neighbors:
        neighbors.put(GATEWAY, bytes(6), router=True)
        neighbors.put(GATEWAY, MAC, router=True)

        assert neighbors.own() == [Neighbor(GATEWAY, NUD_REACHABLE, MAC, PROTOCOL)]


def test_it_is_removed_once(wire: Wire) -> None:
    with opened(wire.host) as neighbors:
        neighbors.put(GATEWAY, MAC, router=True)
        assert neighbors.remove(GATEWAY)
        assert shown(wire.host, "dev eth0") == []
        assert not neighbors.remove(GATEWAY)


def test_the_number_is_nobody_elses(wire: Wire) -> None:
    """iproute2 would show a name that it knows."""
    with opened(wire.host) as neighbors:
        neighbors.put(GATEWAY, MAC, router=True)
        assert shown(wire.host)[0]["protocol"] == "135"


def test_its_own_are_found_among_thousands(wire: Wire) -> None:
    wire.host.ip("link add eth1 type veth peer name peer1")
    wire.host.ip("link set eth1 up")
    batch = "".join(
        f"neighbor add 2001:db8::{number:x} lladdr 02:00:00:00:00:01 nud permanent dev eth0\n"
        for number in range(1, 3000)
    )
    with opened(wire.host) as neighbors, opened(wire.host, "eth1") as elsewhere:
        wire.host.popen("ip", "-batch", "-", stdin=subprocess.PIPE).communicate(batch)
        neighbors.put(GATEWAY, MAC, router=True)
        elsewhere.put(OTHER, MAC, router=True)

        assert [neighbor.address for neighbor in neighbors.own()] == [GATEWAY]
        assert [neighbor.address for neighbor in elsewhere.own()] == [OTHER]
        assert neighbors.get(IPv6Address("2001:db8::bb7")) == Neighbor(
            IPv6Address("2001:db8::bb7"), NUD_PERMANENT, bytes.fromhex("020000000001"), 0
        )


def test_an_interface_that_is_gone(wire: Wire) -> None:
    with opened(wire.host) as neighbors:
        wire.unplug()
        with pytest.raises(OSError, match="No such device") as caught:
            neighbors.put(GATEWAY, MAC, router=True)
        assert caught.value.errno == ENODEV


def test_permission(wire: Wire) -> None:
    """Asked in a process without CAP_NET_ADMIN, which changes nothing; and in one with it."""
    script = (
        f"from {netlink.__name__} import Neighbors\n"
        "from ipaddress import IPv6Address\n"
        "from socket import if_nametoindex\n"
        "neighbors = Neighbors(if_nametoindex('eth0'))\n"
        "print(neighbors.may_change())\n"
        f"try: neighbors.put(IPv6Address('{GATEWAY}'), bytes(6), router=True)\n"
        "except PermissionError: print('refused')\n"
        f"print(neighbors.get(IPv6Address('{GATEWAY}')))"
    )
    command = wire.command("-c", script)
    without = wire.host.run("setpriv", "--bounding-set", "-net_admin", *command).stdout.splitlines()
    assert without == ["False", "refused", "None"]
    assert wire.host.run(*command).stdout.splitlines()[0] == "True"
    assert [entry["dst"] for entry in shown(wire.host)] == [str(GATEWAY)]


def test_all_entries_and_those_that_the_kernel_answers_for(wire: Wire) -> None:
    wire.host.ip("link add eth1 type veth peer name peer1")
    wire.host.ip(f"neighbor add {OTHER} lladdr {MAC.hex(':')} nud permanent dev eth0")
    wire.host.ip("neighbor add proxy 2001:db8::77 dev eth0")
    wire.host.ip("neighbor add proxy 2001:db8::78 dev eth1")
    with opened(wire.host) as neighbors:
        assert Neighbor(OTHER, NUD_PERMANENT, MAC, 0) in neighbors.all()
        assert IPv6Address("2001:db8::77") not in {neighbor.address for neighbor in neighbors.all()}
        assert neighbors.proxied() == [IPv6Address("2001:db8::77")]


# The keeper, which looks at them


def test_the_keeper_waits_until_there_is_a_descriptor(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_REOPENING", 0.1)
    wire.host.ip(f"neighbor add {GATEWAY} lladdr {MAC.hex(':')} nud reachable dev eth0")

    async def found() -> bytes | None:
        keeper = Keeper("eth0", if_nametoindex("eth0"))
        uplink = Snapshot("eth0", (IPv6Interface("2001:db8::2/64"),), (GATEWAY,))
        keeper.follow(uplink, AddressSet([]))
        soft, hard = getrlimit(RLIMIT_NOFILE)
        setrlimit(RLIMIT_NOFILE, (1, hard))
        try:
            running = asyncio.ensure_future(keeper.run())
            await asyncio.sleep(0.05)
        finally:
            setrlimit(RLIMIT_NOFILE, (soft, hard))
        link_address = None
        for _ in range(500):
            if link_address := keeper.gateways[GATEWAY].link_address:
                break
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.wait([running])
        return link_address

    with wire.host.entered():
        assert asyncio.run(found()) == MAC
