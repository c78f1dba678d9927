"""The uplink's addresses and gateways as the kernel has them: in a snapshot, in a glance."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import closing
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path
from socket import if_nametoindex

import pytest
from lab import wait_until
from namespaces import Namespace
from wire import Wire

from ndpresponder import netlink
from ndpresponder.netlink import Changed, Changes, NetlinkError, Route, Snapshot, Survey, glance, snapshot, survey
from ndpresponder.uplink import refusals_of


def look(namespace: Namespace, name: str = "eth0") -> Snapshot:
    with namespace.entered():
        return asyncio.run(snapshot(name))


def glance_at(namespace: Namespace) -> Snapshot:
    with namespace.entered():
        return glance(if_nametoindex("eth0"))


def of(addresses: list[str], gateways: list[str], ifname: str = "eth0") -> Snapshot:
    return Snapshot(ifname, tuple(map(IPv6Interface, addresses)), tuple(map(IPv6Address, gateways)))


@pytest.fixture
def host(wire: Wire) -> Namespace:
    """A host with eth0 and eth1, both up, without any address."""
    host = wire.host
    host.ip("link add eth1 type veth peer name peer1")
    for name in ("eth0", "eth1", "peer1"):
        host.ip(f"link set {name} addrgenmode none up")
    host.ip("address flush dev eth0 scope link")
    host.ip("address flush dev eth1 scope link")
    return host


def test_an_interface_without_addresses(host: Namespace) -> None:
    assert look(host) == of([], [])


def test_addresses_have_the_length_of_their_prefix(host: Namespace) -> None:
    for address in ("fe80::2/64", "2001:db8:1::2/64", "2001:db8:2::2/120", "2001:db8:3::2/128"):
        host.ip(f"address add {address} dev eth0")
    host.ip("address add 2001:db8:9::9/64 dev eth1")
    host.ip("address add 192.0.2.1/24 dev eth0")

    _, addresses, gateways, _ = look(host)

    assert {str(address) for address in addresses} == {
        *("fe80::2/64", "2001:db8:1::2/64", "2001:db8:2::2/120", "2001:db8:3::2/128")
    }
    assert (len(addresses), gateways) == (4, ())


def test_an_address_with_a_peer(host: Namespace) -> None:
    host.ip("address add 2001:db8:1::2 peer 2001:db8:1::1/128 dev eth0")

    assert look(host) == of(["2001:db8:1::2/128"], [])


def test_an_address_that_may_be_anothers(wire: Wire) -> None:
    """Duplicate address detection: of one it is not over, of one it has failed, of one it is done without."""
    host, asker = wire.host, wire.asker
    asker.ip("address add 2001:db8:1::3/64 dev eth0")
    host.sysctl("net/ipv6/conf/eth0/accept_dad", 1)
    host.ip("address add 2001:db8:1::3/64 dev eth0")
    wait_until(lambda: "dadfailed" in host.ip("address show dev eth0"), "the end of the detection")
    host.sysctl("net/ipv6/conf/eth0/dad_transmits", 1000)
    host.ip("address add 2001:db8:1::2/64 dev eth0")
    host.ip("address add 2001:db8:1::4/64 dev eth0 nodad")

    seen = look(host)
    assert seen.unusable == glance_at(host).unusable == {IPv6Address("2001:db8:1::2"), IPv6Address("2001:db8:1::3")}
    assert [str(address) for address in seen.sources if not address.is_link_local] == ["2001:db8:1::4"]
    # Not answered for they are, all of them.
    assert {str(refusal.prefix.network_address) for refusal in refusals_of(seen)} >= {
        f"2001:db8:1::{number}" for number in (2, 3, 4)
    }


@pytest.mark.parametrize(
    ("routes", "gateways"),
    [
        pytest.param(["default via fe80::1 dev eth0"], ["fe80::1"], id="plain"),
        pytest.param(["default via 2001:db8:1::1"], ["2001:db8:1::1"], id="global"),
        pytest.param(
            ["default via fe80::1 dev eth0 metric 100", "default via 2001:db8:1::1 metric 200"],
            ["2001:db8:1::1", "fe80::1"],
            id="several",
        ),
        pytest.param(
            ["default nexthop via fe80::1 dev eth0 nexthop via 2001:db8:1::fe dev eth0"],
            ["2001:db8:1::fe", "fe80::1"],
            id="multipath",
        ),
        pytest.param(
            ["default nexthop via fe80::1 dev eth0 nexthop via fe80::9 dev eth1"], ["fe80::1"], id="multipath-elsewhere"
        ),
        pytest.param(["default via fe80::9 dev eth1"], [], id="elsewhere"),
        pytest.param(["default dev eth0"], [], id="no-gateway"),
        pytest.param(["2001:db8:5::/48 via fe80::1 dev eth0"], [], id="no-default"),
        pytest.param(
            ["default via fe80::1 dev eth0 metric 100", "default via fe80::1 dev eth0 metric 200"],
            ["fe80::1"],
            id="the-same-twice",
        ),
        pytest.param(["default via fe80::1 dev eth0 table 100"], ["fe80::1"], id="another-table"),
        pytest.param(["blackhole default", "default via fe80::1 dev eth0 metric 2000"], ["fe80::1"], id="blackhole"),
    ],
)
def test_gateways(host: Namespace, routes: list[str], gateways: list[str]) -> None:
    host.ip("address add 2001:db8:1::2/64 dev eth0")
    for route in routes:
        host.ip(f"-6 route add {route}")

    assert look(host) == of(["2001:db8:1::2/64"], gateways)


@pytest.mark.parametrize(
    "routes",
    [
        pytest.param(
            ["default via fe80::9 dev eth1 metric 200", "default via fe80::1 dev eth0 metric 100"], id="smallest-metric"
        ),
        # What wg-quick does, which has a rule lead there.
        pytest.param(["default dev eth1 table 51820", "default via fe80::1 dev eth0"], id="another-table"),
        pytest.param(
            ["default from 2001:db8:44::/48 via fe80::9 dev eth1 metric 10", "default via fe80::1 dev eth0"],
            id="of-some-sources",
        ),
        # With gateways they would become one route, unless routers had told of them.
        *(
            pytest.param(
                [f"default dev eth1 pref {lower}", f"default dev eth0 pref {higher}"], id=f"{higher}-before-{lower}"
            )
            for higher, lower in (("high", "medium"), ("medium", "low"), ("high", "low"))
        ),
        pytest.param(
            ["default dev eth1 pref high metric 200", "default dev eth0 pref low metric 100"],
            id="metric-before-preference",
        ),
    ],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_auto_takes_the_interface_that_the_kernel_takes(host: Namespace, routes: list[str], *, reverse: bool) -> None:
    host.ip("address add 2001:db8:1::2/64 dev eth0")
    host.ip("address add 2001:db8:9::2/64 dev eth1")
    for route in reversed(routes) if reverse else routes:
        host.ip(f"-6 route append {route}")

    assert " dev eth0 " in host.ip("-6 route get 2001:db8:99::1")
    assert look(host, netlink.AUTO).ifname == "eth0"


@pytest.mark.parametrize("route", ["", "default dev eth0 table 100", "default from 2001:db8:44::/48 dev eth0"])
def test_auto_without_a_default_route(host: Namespace, route: str) -> None:
    if route:
        host.ip(f"-6 route add {route}")
    with pytest.raises(NetlinkError, match=r"^the main routing table has no IPv6 default route$"):
        look(host, netlink.AUTO)
    with host.entered():
        assert asyncio.run(snapshot(netlink.AUTO, "eth1")).ifname == "eth1"


@pytest.mark.parametrize(
    ("words", "gateways"),
    [
        pytest.param([], [], id="none"),
        pytest.param(["route add default via 2001:db8:1::1"], ["2001:db8:1::1"], id="global"),
        pytest.param(
            ["route add default via fe80::8 dev eth1 metric 50", "route add default via fe80::1 dev eth0 metric 100"],
            ["fe80::1"],
            id="a-better-one-elsewhere",
        ),
        pytest.param(
            ["route add default via fe80::2 dev eth0 metric 200", "route add default via fe80::1 dev eth0 metric 100"],
            ["fe80::1"],
            id="the-better-one",
        ),
        pytest.param(
            ["route add default nexthop via fe80::8 dev eth1 nexthop via fe80::1 dev eth0"], ["fe80::1"], id="multipath"
        ),
        pytest.param(["nexthop add id 7 via fe80::1 dev eth0", "route add default nhid 7"], ["fe80::1"], id="object"),
        pytest.param(["route add default via fe80::9 dev eth1"], [], id="elsewhere"),
        pytest.param(["route add default dev eth0"], [], id="no-gateway"),
        pytest.param(["route add 2000::/3 via fe80::1 dev eth0"], [], id="no-default"),
        pytest.param(["route add unreachable default metric 4278198272"], [], id="unreachable"),
        pytest.param(
            ["route add blackhole default", "route add default via fe80::1 dev eth0 metric 2000"],
            ["fe80::1"],
            id="blackhole",
        ),
    ],
)
@pytest.mark.parametrize("forwarding", [0, 1])
def test_the_gateway_at_a_glance(host: Namespace, words: list[str], gateways: list[str], forwarding: int) -> None:
    host.sysctl("net/ipv6/conf/all/forwarding", forwarding)
    host.batch(
        [
            "address add 2001:db8:1::2/64 dev eth0",
            "address add 2001:db8:1::7 peer 2001:db8:1::8/128 dev eth0",
            "address add 2001:db8:9::9/64 dev eth1",
            *words,
        ]
    )
    ifname, addresses, seen, _ = glance_at(host)

    assert (ifname, list(map(str, seen))) == ("eth0", gateways)
    assert set(addresses) == {IPv6Interface("2001:db8:1::2/64"), IPv6Interface("2001:db8:1::7/128")}
    # Nothing is left to them for a moment only.
    assert {*look(host).gateways} >= {*seen}


@pytest.mark.parametrize("compatible", [0, 1])
@pytest.mark.parametrize(
    ("words", "gateways"),
    [
        (["nexthop add id 7 via fe80::1 dev eth0"], ["fe80::1"]),
        (["-6 nexthop add id 7 dev eth0"], []),
        (
            [
                "nexthop add id 1 via 2001:db8:1::1 dev eth0",
                "nexthop add id 2 via fe80::2 dev eth0",
                "nexthop add id 3 via fe80::3 dev eth1",
                "nexthop add id 7 group 1/2/3",
            ],
            ["2001:db8:1::1", "fe80::2"],
        ),
    ],
    ids=["one", "no-gateway", "group"],
)
def test_routes_that_name_a_next_hop(
    host: Namespace, words: list[str], gateways: list[str], *, compatible: int
) -> None:
    host.sysctl("net/ipv4/nexthop_compat_mode", compatible)
    for each in ("address add 2001:db8:1::2/64 dev eth0", *words, "-6 route add default nhid 7"):
        host.ip(each)

    assert look(host, netlink.AUTO) == of(["2001:db8:1::2/64"], gateways)
    assert {*glance_at(host).gateways} <= {*look(host).gateways}
    routes = survey_of(host, "2001:db8:9::/64").routes
    found = {each.gateway for each in routes if each.ifname == "eth0" and not each.prefix.prefixlen}
    assert found - {None} == {*map(IPv6Address, gateways)}
    assert found


def test_a_glance_at_what_is_no_more(host: Namespace) -> None:
    with host.entered(), pytest.raises(OSError, match=r"[Nn]o such device"):
        glance(12345)


@pytest.fixture
def crowded(host: Namespace) -> Namespace:
    """A host with a great many routes: half of the Internet's, and of everything else a little."""
    host.ip("address add 2001:db8:1::2/64 dev eth0")
    host.batch(
        f"route add {0x2A00 + number // 2**16:x}:{number % 2**16:x}::/48 via fe80::9 dev eth1"
        for number in range(100_000)
    )
    for words in (
        "default via fe80::8 dev eth1 metric 50",
        "default metric 100 nexthop via fe80::1 dev eth0 nexthop via fe80::7 dev eth1 nexthop via fe80::2 dev eth0",
        "default via 2001:db8:1::1 metric 200 table 100",
        "blackhole default metric 10",
        "unreachable default metric 4278198272",
        "2001:db8:1::c000/120 via fe80::9 dev eth1 metric 7",
    ):
        host.ip(f"-6 route add {words}")
    return host


DEFAULTS = of(["2001:db8:1::2/64"], ["2001:db8:1::1", "fe80::1", "fe80::2"])


def test_a_host_with_very_many_routes(crowded: Namespace, record_property: Callable[[str, object], None]) -> None:
    began = time.monotonic()
    assert look(crowded) == DEFAULTS
    record_property("seconds with 100,000 routes", f"{time.monotonic() - began:.2f}")
    assert look(crowded, netlink.AUTO).ifname == "eth1"

    began = time.monotonic()
    seen = glance_at(crowded)
    record_property("milliseconds of a glance at them", f"{1000 * (time.monotonic() - began):.1f}")
    assert (seen.addresses, len(seen.gateways)) == (DEFAULTS.addresses, 1)
    assert {*seen.gateways} < {*DEFAULTS.gateways}

    began = time.monotonic()
    found = survey_of(crowded, "2001:db8:1::/64")
    record_property("seconds for a survey of them", f"{time.monotonic() - began:.2f}")
    assert found.snapshot == DEFAULTS
    assert set(found.routes) == {
        route("::/0 unicast eth1", via="fe80::8", metric=50),
        *(route("::/0 unicast eth0", via=via, metric=100) for via in ("fe80::1", "fe80::2")),
        route("::/0 unicast eth1", via="fe80::7", metric=100),
        route("::/0 blackhole lo", metric=10),
        route("::/0 unreachable lo", metric=4278198272),
        route("2001:db8:1::/64 unicast eth0", protocol="kernel", metric=256),
        route("2001:db8:1::c000/120 unicast eth1", via="fe80::9", metric=7),
        route("2001:db8:1::2/128 local eth0", protocol="kernel", metric=0),
    }
    assert {str(each.prefix) for each in survey_of(crowded, "2a00:ff00::/29").routes if each.prefix.prefixlen} == {
        f"2a00:{number:x}::/48" for number in range(0xFF00, 0xFF08)
    }


@pytest.mark.parametrize("arguments", [(), ("", "survey", "2001:db8:1::/64")], ids=["snapshot", "survey"])
def test_very_many_routes_take_no_memory(
    crowded: Namespace, arguments: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    # Not what wait4(2) tells of it: that includes this process, of which it was a copy before it became a program.
    code = (
        "import sys; from ndpresponder import netlink; netlink.main(*sys.argv[1:]); print(*open('/proc/self/status'))"
    )
    done = crowded.run(sys.executable, "-c", code, "eth0", *arguments)
    reply, _, status = done.stdout.partition("\n")
    [resident] = re.findall(r"VmHWM:\s+(\d+) kB", status)
    record_property("resident kilobytes with 100,000 routes", resident)

    assert json.loads(reply)["gateways"] == list(map(str, DEFAULTS.gateways))
    # 35 MB, whatever the number of routes; if it kept them, 600 MB.
    assert int(resident) < 64 * 1024


def survey_of(namespace: Namespace, *prefixes: str) -> Survey:
    with namespace.entered():
        return asyncio.run(survey("eth0", list(map(IPv6Network, prefixes))))


def route(words: str, *, via: str | None = None, protocol: str = "static", metric: int = 1024) -> Route:
    prefix, kind, ifname = words.split()
    return Route(IPv6Network(prefix), kind, ifname, IPv6Address(via) if via else None, protocol, metric)


def test_a_survey(host: Namespace) -> None:
    host.ip("address add 2001:db8:1::2/64 dev eth0")
    host.ip("address add 2001:db8:1::d001/120 dev eth1")
    host.ip("address add 2001:db8:9::1/64 dev eth1")
    for words in (
        "default via 2001:db8:1::1 proto ra metric 512",
        "2001:db8::/32 nexthop via fe80::9 dev eth1 nexthop via fe80::8 dev eth0",
        "2001:db8:1::c000/120 via fe80::9 dev eth1 metric 7",
        "2001:db8:1::e003/128 dev eth1",
        "local 2001:db8:1:0:e::/80 dev lo",
        "unreachable 2001:db8:1::f000/120",
        "2001:db8:5::/48 dev eth1",
        "2001:db8:1::c100/120 dev eth1 table 100",
    ):
        host.ip(f"-6 route add {words}")

    found = survey_of(host, "2001:db8:1::/64", "2001:db8:7::/48")

    assert found.snapshot == of(["2001:db8:1::2/64"], ["2001:db8:1::1"])
    assert found.prefixes == (IPv6Network("2001:db8:1::/64"), IPv6Network("2001:db8:7::/48"))
    assert found.held == (("eth1", IPv6Address("2001:db8:1::d001")),)
    assert set(found.routes) == {
        route("::/0 unicast eth0", via="2001:db8:1::1", protocol="ra", metric=512),
        route("2001:db8::/32 unicast eth1", via="fe80::9"),
        route("2001:db8::/32 unicast eth0", via="fe80::8"),
        route("2001:db8:1::/64 unicast eth0", protocol="kernel", metric=256),
        route("2001:db8:1::c000/120 unicast eth1", via="fe80::9", metric=7),
        route("2001:db8:1::d000/120 unicast eth1", protocol="kernel", metric=256),
        route("2001:db8:1::e003/128 unicast eth1"),
        route("2001:db8:1:0:e::/80 local lo"),
        route("2001:db8:1::f000/120 unreachable lo"),
        route("2001:db8:1::2/128 local eth0", protocol="kernel", metric=0),
        route("2001:db8:1::d001/128 local eth1", protocol="kernel", metric=0),
    }


def test_a_survey_of_the_on_link_prefixes(host: Namespace) -> None:
    for address in ("fe80::2/64", "2001:db8:1::2/64", "2001:db8:1::7/64", "2001:db8:2::2/120", "2001:db8:3::2/128"):
        host.ip(f"address add {address} dev eth0")

    assert survey_of(host).prefixes == (IPv6Network("2001:db8:1::/64"), IPv6Network("2001:db8:2::/120"))


def test_no_such_interface(host: Namespace) -> None:
    with pytest.raises(NetlinkError, match=r"^OSError: .*[Nn]o (such device|interface with this name)") as caught:
        look(host, "eth7")
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a module in the place of pyroute2."""

    def replace(code: str) -> None:
        (tmp_path / "pyroute2.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))

    return replace


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise ImportError('broken')", "ImportError: broken"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "exit status -9"),
    ],
)
def test_a_reader_that_fails(host: Namespace, broken: Callable[[str], None], code: str, reason: str) -> None:
    broken(code)
    with pytest.raises(NetlinkError) as caught:
        look(host)
    assert str(caught.value) == reason


def test_a_reader_that_prints_something_else(host: Namespace, broken: Callable[[str], None]) -> None:
    broken("print('noise', flush=True); import os; os._exit(0)")
    with pytest.raises(NetlinkError):
        look(host)


def test_a_reader_that_is_interrupted_is_ended(host: Namespace, broken: Callable[[str], None]) -> None:
    broken("import time; time.sleep(60)")

    async def interrupted() -> None:
        with host.entered():
            looking = asyncio.ensure_future(snapshot("eth0"))
            # Once it has begun, it is waiting for its reader to end.
            await asyncio.sleep(0.1)
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking

    # asyncio.run() would wait for nothing; what is left running shows as a ResourceWarning, which is an error here.
    asyncio.run(interrupted())


def test_an_overflow_may_mean_anything(host: Namespace) -> None:
    """More events than the socket has room for: some are lost, and which ones nobody knows."""

    async def overflowed() -> Changed:
        with host.entered():
            changes = Changes()
        with closing(changes):
            for number in range(500):
                host.ip(f"link set eth1 alias {'x' * 200}{number}")
            return await changes.wait()

    changed = asyncio.run(overflowed())
    assert changed.link
    assert changed.concerns(12345)
