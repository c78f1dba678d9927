"""Each check, from facts that are written down here; the lab's tests have real ones."""

from dataclasses import replace
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import addresses, prefixes

from ndpresponder import checks
from ndpresponder.addresses import AddressSet, Rule
from ndpresponder.checks import Finding, Level, inward
from ndpresponder.docker import Described
from ndpresponder.hearing import About, Conclusion, Heard
from ndpresponder.host import Chain, Facts, Firewall, Responder, Settings
from ndpresponder.netlink import (
    NUD_FAILED,
    NUD_INCOMPLETE,
    NUD_PERMANENT,
    NUD_REACHABLE,
    NUD_STALE,
    Neighbor,
    Route,
    Snapshot,
    Survey,
)

PREFIX = IPv6Network("2001:db8:1::d000/120")
INNER = IPv6Address("2001:db8:1::d003")
OWN = IPv6Interface("2001:db8:1::2/64")
GATEWAY = IPv6Address("fe80::1")
ROUTER_MAC, OTHER_MAC, MAC = b"\x52\x54\0\0\0\1", b"\x52\x54\0\0\0\3", b"\x52\x54\0\0\0\2"


def route(words: str, protocol: str = "static", metric: int = 1024) -> Route:
    prefix, kind, ifname, *via = words.split()
    return Route(IPv6Network(prefix), kind, ifname, IPv6Address(via[0]) if via else None, protocol, metric)


DEFAULT = route("::/0 unicast eth0 fe80::1")
ON_LINK = route("2001:db8:1::/64 unicast eth0", "kernel")
OWN_ROUTE = route("2001:db8:1::2/128 local eth0", "kernel", 0)
BRIDGE = route("2001:db8:1::d000/120 unicast docker0", "kernel")
BRIDGE_ADDRESS = route("2001:db8:1::d001/128 local docker0", "kernel", 0)
ROUTES = (DEFAULT, ON_LINK, OWN_ROUTE, BRIDGE, BRIDGE_ADDRESS)
SETTINGS = Settings(
    forwarding=1,
    uplink_forwarding=1,
    accept_ra=1,
    ip_nonlocal_bind=0,
    proxy_ndp=False,
    gc_thresh3=1024,
    legacy_firewall=False,
)
SURVEY = Survey(
    Snapshot("eth0", (OWN,), (GATEWAY,)), (PREFIX,), ROUTES, (("docker0", IPv6Address("2001:db8:1::d001")),)
)
BOTH = frozenset({"CAP_NET_ADMIN", "CAP_NET_RAW"})
HEALTHY = Facts(
    survey=SURVEY,
    named=True,
    up=True,
    settings=SETTINGS,
    neighbors=(Neighbor(GATEWAY, NUD_REACHABLE, ROUTER_MAC, 0),),
    proxied=(),
    responders=(Responder(17, "ndpresponder", BOTH),),
    chains=(Chain("ip6", "filter", "FORWARD", "forward", Firewall.OPEN),),
    capabilities=BOTH,
    devices=("docker0",),
)


def having(prefix: str | None = None, routes: tuple[Route, ...] = ROUTES, own: str = str(OWN), **changes: Any) -> Facts:
    """The healthy host with another prefix, other routes, another address of its own, other sysctls or facts."""
    survey = SURVEY._replace(
        snapshot=Snapshot("eth0", (IPv6Interface(own),), (GATEWAY,)),
        prefixes=(IPv6Network(prefix) if prefix else PREFIX,),
        routes=routes,
    )
    settings = {name: changes.pop(name) for name in list(changes) if name in Settings.__slots__}
    return replace(HEALTHY, survey=survey, settings=replace(SETTINGS, **settings), **changes)


def found(facts: Facts, check: str) -> Finding:
    [finding] = [finding for finding in checks.of_host(facts) if finding.check == check]
    return finding


def test_on_a_healthy_host_everything_passes() -> None:
    assert {finding.level for finding in checks.of_host(HEALTHY)} == {Level.PASS}
    assert [finding.mend for finding in checks.of_host(HEALTHY) if finding.mend] == []


POOL = "2001:db8:1::e000/120"
POOL_ROUTE = route(f"{POOL} local lo")
RA_DEFAULT = route("::/0 unicast eth0 fe80::1", "ra")
OTHER_DEFAULT = route("::/0 unicast eth1 fe80::9")
WITHOUT_DEFAULT = ROUTES[1:]
NDPPD, SECOND = Responder(18, "ndppd", BOTH), Responder(19, "ndpresponder", BOTH)
UNSEEN, AS_ROOT = Responder(20, "ndpresponder", BOTH, certain=False), "look again as root, who can see it"
CLOSED = Chain("inet", "fw", "fwd", "forward", Firewall.CLOSED)
DEPENDS = Chain("ip6", "t", "c", "forward", Firewall.DEPENDS)
INGRESS = Chain("netdev", "fw", "in", "ingress", Firewall.CLOSED)
DROPS = Chain("inet", "fw", "pre", "prerouting", Firewall.OPEN, (IPv6Network("2001:db8:1::/112"),))
DROPS_PART = DROPS._replace(drops=(IPv6Network("2001:db8:1::d003"),))
DROPS_BOTH = DROPS._replace(drops=(*DROPS.drops, *DROPS_PART.drops))
LOOK_AT = "nft -a list chain inet fw pre  # and delete the rule, or accept before it"
ACCEPT_RA = "sysctl -w net/ipv6/conf/eth0/accept_ra=2"
WRITTEN_RIGHT = "compare it with what the provider has assigned; one beside the link's own can be right, too"
UNKNOWN_ROUTE = "ip -6 route add PART dev docker0  # for the part of it that lives there"


@pytest.mark.parametrize(
    ("check", "facts", "level", "mend"),
    [
        ("forwarding", having(forwarding=0), "fail", ["sysctl -w net.ipv6.conf.all.forwarding=1"]),
        ("forwarding", having(forwarding=None), "warn", []),
        ("forwarding", having(POOL, (*ROUTES, POOL_ROUTE), forwarding=0), "pass", []),
        ("forwarding", having(POOL, forwarding=0), "fail", ["sysctl -w net.ipv6.conf.all.forwarding=1"]),
        ("accept-ra", having(routes=WITHOUT_DEFAULT), "fail", [ACCEPT_RA]),
        ("accept-ra", having(routes=(OTHER_DEFAULT, *WITHOUT_DEFAULT)), "fail", [ACCEPT_RA]),
        ("accept-ra", having(routes=(RA_DEFAULT, *WITHOUT_DEFAULT)), "warn", [ACCEPT_RA]),
        ("accept-ra", having(routes=(RA_DEFAULT, *ROUTES)), "pass", []),
        ("accept-ra", having(routes=WITHOUT_DEFAULT, accept_ra=2), "pass", []),
        ("accept-ra", having(routes=WITHOUT_DEFAULT, accept_ra=0), "pass", []),
        ("accept-ra", having(routes=WITHOUT_DEFAULT, uplink_forwarding=0), "pass", []),
        ("accept-ra", having(accept_ra=None), "warn", []),
        ("route-inward", having(routes=(DEFAULT, ON_LINK)), "fail", [f"ip -6 route replace {PREFIX} dev docker0"]),
        ("route-inward", having(routes=()), "fail", [f"ip -6 route replace {PREFIX} dev docker0"]),
        (
            "route-inward",
            having(POOL, devices=("docker0", "wg0")),
            "fail",
            [
                f"ip -6 route replace {POOL} dev DEVICE",
                f"ip -6 route add local {POOL} dev lo  # for a proxy pool on this host",
            ],
        ),
        ("route-inward", having(routes=(DEFAULT, ON_LINK), named=False), "fail", [UNKNOWN_ROUTE]),
        ("route-inward", having("2001:db8:1::/64"), "pass", []),
        ("interface", having(), "pass", []),
        ("interface", having(up=False), "fail", ["ip link set eth0 up"]),
        ("prefix", having(), "pass", []),
        ("prefix", having("2001:db8:1::/48"), "warn", [WRITTEN_RIGHT]),
        ("prefix", having("2001:db8:dead::/120"), "warn", [WRITTEN_RIGHT]),
        # What nobody named is of the uplink's own; without an on-link prefix there is nothing to compare with.
        ("prefix", having("2001:db8:dead::/120", named=False), "pass", []),
        ("prefix", having("2001:db8:dead::/120", own="fe80::2/64"), "pass", []),
        ("prefix", having("2001:db8:dead::/120", own="2001:db8:1::2/128"), "pass", []),
        ("prefix", having("fd00::/120"), "pass", []),
        ("nonlocal-bind", having(POOL, (POOL_ROUTE,)), "warn", ["sysctl -w net.ipv6.ip_nonlocal_bind=1"]),
        ("nonlocal-bind", having(POOL, (POOL_ROUTE,), ip_nonlocal_bind=1), "pass", []),
        ("nonlocal-bind", having("2001:db8:1::d001/128"), "pass", []),
        ("assigned", having("2001:db8:1::2/128"), "fail", ["ip -6 address del 2001:db8:1::2/64 dev eth0"]),
        ("assigned", having("2001:db8:1::/64"), "pass", []),
        (
            "forward-policy",
            having(chains=(CLOSED, DEPENDS)),
            "fail",
            [
                f"nft insert rule inet fw fwd ip6 saddr {PREFIX} accept",
                f"nft insert rule inet fw fwd ip6 daddr {PREFIX} accept",
            ],
        ),
        ("forward-policy", having(chains=(DEPENDS,)), "warn", ["nft list chain ip6 t c"]),
        ("forward-policy", having(chains=None), "warn", ["ip6tables -S FORWARD"]),
        ("forward-policy", having(chains=()), "pass", []),
        ("forward-policy", having(chains=(), legacy_firewall=True), "warn", ["ip6tables-legacy -S FORWARD"]),
        ("forward-policy", having(POOL, (POOL_ROUTE,), chains=(CLOSED,)), "pass", []),
        ("forward-policy", having(POOL, (POOL_ROUTE,), chains=None), "pass", []),
        (
            "forward-policy",
            having(POOL, (POOL_ROUTE,), chains=(CLOSED, INGRESS)),
            "fail",
            [
                "nft insert rule netdev fw in icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept",
                f"nft insert rule netdev fw in ip6 saddr {POOL} accept",
                f"nft insert rule netdev fw in ip6 daddr {POOL} accept",
            ],
        ),
        ("forward-policy", having(chains=(DROPS, DEPENDS)), "fail", [LOOK_AT]),
        ("forward-policy", having(chains=(DROPS_BOTH,)), "fail", [LOOK_AT]),
        ("forward-policy", having(chains=(DROPS_PART,)), "warn", [LOOK_AT]),
        ("forward-policy", having("2001:db8:2::/120", chains=(DROPS, DROPS_PART)), "pass", []),
        ("responders", having(responders=()), "pass", []),
        ("responders", having(responders=(NDPPD,)), "warn", ["kill 18"]),
        ("responders", having(responders=(*HEALTHY.responders, NDPPD)), "fail", ["kill 18"]),
        ("responders", having(responders=(*HEALTHY.responders, UNSEEN)), "warn", [AS_ROOT]),
        ("responders", having(responders=(UNSEEN,)), "warn", [AS_ROOT]),
        ("responders", having(responders=(UNSEEN, NDPPD, *HEALTHY.responders)), "fail", ["kill 18", AS_ROOT]),
        ("responders", having(responders=(*HEALTHY.responders, NDPPD, SECOND)), "fail", ["kill 18", "kill 19"]),
        (
            "responders",
            having(proxied=(INNER,), proxy_ndp=True),
            "fail",
            [f"ip -6 neighbor del proxy {INNER} dev eth0"],
        ),
        (
            "responders",
            having(proxied=(INNER,), proxy_ndp=True, responders=()),
            "warn",
            [f"ip -6 neighbor del proxy {INNER} dev eth0"],
        ),
        ("responders", having(proxied=(INNER,)), "pass", []),
        ("responders", having(proxied=(IPv6Address("2001:db8:9::1"),), proxy_ndp=True), "pass", []),
        ("gateway", having(neighbors=()), "pass", []),
        ("gateway", having(neighbors=(Neighbor(GATEWAY, NUD_PERMANENT, ROUTER_MAC, 0),)), "pass", []),
        ("neighbor-table", having(gc_thresh3=None), "pass", []),
        ("neighbor-table", having(gc_thresh3=256), "pass", []),
        ("neighbor-table", having(gc_thresh3=255), "warn", ["sysctl -w net.ipv6.neigh.default.gc_thresh3=512"]),
        (
            "neighbor-table",
            having("2001:db8:1::/64", (route("2001:db8:1::/64 unicast docker0"),)),
            "warn",
            ["answer only for the part that is in use, such as a /120"],
        ),
        ("neighbor-table", having("2001:db8:1::/64"), "pass", []),
        ("neighbor-table", having("2001:db8:1::/64", (route("2001:db8:1::/64 unicast wg0 fe80::5"),)), "pass", []),
        ("neighbor-table", having("2001:db8:1::/64", (route("2001:db8:1::/64 local lo"),)), "pass", []),
    ],
)
def test_checks(check: str, facts: Facts, level: str, mend: list[str]) -> None:
    finding = found(facts, check)
    assert (finding.level.value, list(finding.mend)) == (level, mend)


@pytest.mark.parametrize("state", [NUD_FAILED, NUD_INCOMPLETE])
def test_a_gateway_that_is_not_resolved(state: int) -> None:
    facts = having(neighbors=(Neighbor(GATEWAY, state, None, 0), Neighbor(INNER, state, None, 0)))
    assert found(facts, "gateway") == Finding(
        "gateway",
        Level.FAIL,
        "fe80::1 does not answer the kernel: a filter for the prefix drops link-local solicitations",
        (f"ndpresponder -i eth0 -n {PREFIX}  # it asks in the kernel's place",),
    )


def test_a_prefix_of_another_link() -> None:
    assert found(having("2001:db8:dead::/120"), "prefix").message == (
        "2001:db8:dead::/120 is not inside of 2001:db8:1::/64, the on-link prefix of eth0: is it written right?"
    )


def test_without_a_gateway() -> None:
    facts = replace(HEALTHY, survey=SURVEY._replace(snapshot=Snapshot("eth0", (OWN,), ())))
    assert found(facts, "gateway").level is Level.WARN


RAW, ADMIN = "CAP_NET_RAW", "CAP_NET_ADMIN"


@pytest.mark.parametrize(
    ("own", "held", "level", "message"),
    [
        ("2001:db8:1::2/64", {RAW, ADMIN}, "pass", "ndpresponder (pid 17) has CAP_NET_RAW"),
        ("2001:db8:1::2/64", {RAW}, "pass", "ndpresponder (pid 17) has CAP_NET_RAW"),
        ("2001:db8:1::2/64", {ADMIN}, "fail", "ndpresponder (pid 17) has no CAP_NET_RAW"),
        # The gateway's answer goes to nobody the kernel listens for.
        ("fe80::2/64", {RAW, ADMIN}, "pass", "ndpresponder (pid 17) has CAP_NET_RAW and CAP_NET_ADMIN"),
        ("fe80::2/64", {RAW}, "warn", "eth0 has no global address, and ndpresponder (pid 17) has no CAP_NET_ADMIN"),
        ("fd00::2/64", {RAW}, "warn", "eth0 has no global address, and ndpresponder (pid 17) has no CAP_NET_ADMIN"),
        ("fe80::2/64", set(), "fail", "ndpresponder (pid 17) has no CAP_NET_RAW"),
    ],
)
def test_capabilities(own: str, held: set[str], level: str, message: str) -> None:
    daemon = Responder(17, "ndpresponder", frozenset(held))
    finding = found(having(own=own, responders=(NDPPD, UNSEEN, daemon), capabilities=BOTH), "capabilities")
    assert (finding.level.value, finding.message.partition(":")[0]) == (level, message)


def test_without_a_daemon_its_own_capabilities_count() -> None:
    facts = having(responders=(NDPPD, UNSEEN), capabilities=frozenset())
    assert found(facts, "capabilities").message == "this process has no CAP_NET_RAW: nothing can be heard or answered"


def test_a_gateway_that_is_asked_for_without_a_global_address() -> None:
    facts = having(own="fe80::2/64", neighbors=(Neighbor(GATEWAY, NUD_FAILED, None, 0),))
    assert found(facts, "gateway").mend == (
        f"ndpresponder -i eth0 -n {PREFIX}  # with CAP_NET_ADMIN it asks in the kernel's place",
    )


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        ([], "there is none at all"),
        ([DEFAULT, ON_LINK], "it goes out by eth0"),
        ([DEFAULT, ON_LINK, route("2001:db8:1::d000/120 blackhole lo")], "it is dropped (a blackhole route)"),
        ([OTHER_DEFAULT], "it goes out by eth1"),
    ],
)
def test_where_packets_go_instead(routes: list[Route], message: str) -> None:
    finding = found(having(routes=tuple(routes)), "route-inward")
    assert finding.message == f"no route leads {PREFIX} inward: {message}"


# Routes


@pytest.mark.parametrize(
    ("prefix", "routes", "expected"),
    [
        (PREFIX, ROUTES, [BRIDGE]),
        ("2001:db8:1::/64", ROUTES, [BRIDGE]),
        (INNER, ROUTES, [BRIDGE]),
        # An address of the host itself: it is delivered, unless the uplink has it.
        ("2001:db8:1::d001", ROUTES, [BRIDGE_ADDRESS]),
        ("2001:db8:1::2", ROUTES, []),
        ("2001:db8:1::9", ROUTES, []),
        ("2001:db8:9::/64", (DEFAULT, OTHER_DEFAULT), []),
        # The longest, then the smallest metric.
        (PREFIX, (BRIDGE, route("2001:db8:1::d000/120 unicast eth0", metric=1)), []),
        (PREFIX, (BRIDGE, route("2001:db8:1::d000/120 unicast eth0", metric=4096)), [BRIDGE]),
        (PREFIX, (BRIDGE, route("2001:db8:1::d000/119 unicast eth0", metric=1)), [BRIDGE]),
        (PREFIX, (BRIDGE, route("2001:db8:1::d000/120 unreachable lo", metric=1)), []),
        (POOL, (route(f"{POOL} local eth0"),), [route(f"{POOL} local eth0")]),
    ],
)
def test_ways_inward(prefix: object, routes: tuple[Route, ...], expected: list[Route]) -> None:
    assert inward(having(routes=routes), IPv6Network(str(prefix))) == expected


some_routes = st.lists(
    st.builds(
        Route,
        prefixes | st.just(IPv6Network("::/0")),
        st.sampled_from(["unicast", "local", "blackhole", "unreachable", "prohibit"]),
        st.sampled_from(["eth0", "docker0", "lo", None]),
        st.just(None),
        st.sampled_from(["kernel", "static", "ra"]),
        st.integers(0, 3),
    ),
    max_size=8,
)


@given(addresses, some_routes)
def test_a_single_address_goes_where_the_kernel_would_send_it(address: int, routes: list[Route]) -> None:
    candidates = [route for route in routes if IPv6Address(address) in route.prefix]
    longest = max((route.prefix.prefixlen for route in candidates), default=0)
    candidates = [route for route in candidates if route.prefix.prefixlen == longest]
    smallest = min((route.metric for route in candidates), default=0)
    candidates = [route for route in candidates if route.metric == smallest]

    ways = inward(having(routes=tuple(routes)), IPv6Network(address))

    assert len(ways) <= 1
    assert all(way in candidates for way in ways)
    if len(candidates) == 1 and candidates[0].kind == "unicast":
        leads_inward = candidates[0].ifname != "eth0" and candidates[0].prefix.prefixlen > 0
        assert bool(ways) == leads_inward
    if {route.kind for route in candidates} <= {"blackhole", "unreachable", "prohibit"}:
        assert ways == []


facts_of_any_host = st.builds(
    replace,
    st.just(HEALTHY),
    survey=st.builds(
        Survey,
        st.builds(
            Snapshot,
            st.just("eth0"),
            st.lists(st.builds(IPv6Interface, addresses), max_size=3).map(tuple),
            st.lists(st.builds(IPv6Address, addresses), max_size=2).map(tuple),
        ),
        st.lists(prefixes, min_size=1, max_size=3).map(tuple),
        some_routes.map(tuple),
        st.just(()),
    ),
    named=st.booleans(),
    up=st.booleans(),
    settings=st.builds(
        Settings,
        *[st.none() | st.integers(0, 2)] * 4,
        st.booleans(),
        st.none() | st.integers(0, 5000),
        st.booleans(),
    ),
    neighbors=st.lists(
        st.builds(
            Neighbor,
            st.builds(IPv6Address, addresses),
            st.sampled_from([NUD_FAILED, NUD_STALE]),
            st.none() | st.just(ROUTER_MAC),
            st.just(0),
        ),
        max_size=3,
    ).map(tuple),
    proxied=st.lists(st.builds(IPv6Address, addresses), max_size=2).map(tuple),
    responders=st.lists(
        st.builds(
            Responder, st.integers(1, 9), st.sampled_from(["ndppd", "ndpresponder"]), st.just(BOTH), st.booleans()
        )
    ).map(tuple),
    chains=st.none() | st.just((CLOSED, DEPENDS)),
    capabilities=st.sets(st.sampled_from(["CAP_NET_RAW", "CAP_NET_ADMIN"])).map(frozenset),
    devices=st.sampled_from([(), ("docker0",), ("docker0", "wg0")]),
)


@given(facts_of_any_host, addresses)
def test_any_host_is_examined(facts: Facts, address: int) -> None:
    names = [finding.check for finding in checks.of_host(facts)]
    assert len(names) == len(set(names)) == 12
    for finding in checks.of_host(facts):
        # What fails has a way out; what passes needs none.
        assert finding.message
        assert bool(finding.mend) or finding.level is not Level.FAIL
        assert not finding.mend or finding.level is not Level.PASS
    about_it = [finding.check for finding in checks.of_address(facts, IPv6Address(address))]
    assert about_it == ["interface", "forwarding", "route-inward", "assigned", "forward-policy", "gateway"]


def test_a_thousand_prefixes_do_not_make_a_thousand_lines() -> None:
    many = tuple(IPv6Network((int(PREFIX.network_address) + number, 128)) for number in range(1000))
    facts = replace(HEALTHY, survey=SURVEY._replace(prefixes=many, routes=(DEFAULT,)))
    mend = found(facts, "route-inward").mend
    assert (len(mend), mend[-1]) == (9, "and so on, for 992 more")
    assert of_link(facts, heard(at_3=About(multicast=1))).mend == (
        f"ndpresponder -i eth0 -n {many[0]} -n {many[1]} -n {many[2]} -n {many[3]} -n …",
    )


def test_of_one_address() -> None:
    """Only what concerns it: the prefixes of the others do not matter."""
    facts = having("2001:db8:1::/64", (*ROUTES, POOL_ROUTE), forwarding=0, named=False)

    def level(address: str, check: str) -> str:
        return next(each.level.value for each in checks.of_address(facts, IPv6Address(address)) if each.check == check)

    assert (level("2001:db8:1::d003", "forwarding"), level("2001:db8:1::e003", "forwarding")) == ("fail", "pass")
    assert (level("2001:db8:1::d003", "route-inward"), level("2001:db8:1::f003", "route-inward")) == ("pass", "fail")
    assert (level("2001:db8:1::d003", "assigned"), level("2001:db8:1::2", "assigned")) == ("pass", "fail")


@pytest.mark.parametrize(
    ("subnets", "level", "message"),
    [
        ([str(PREFIX)], Level.PASS, f"Docker network web has {PREFIX}"),
        (["fd00::/64", str(PREFIX)], Level.PASS, f"Docker network web has fd00::/64, {PREFIX}"),
        (["fd00::/64"], Level.WARN, "Docker network web has fd00::/64, which nobody outside can reach"),
        ([], Level.FAIL, "Docker network web has no IPv6"),
        (None, Level.FAIL, "there is no Docker network web"),
    ],
)
def test_docker_networks(subnets: list[str] | None, level: Level, message: str) -> None:
    network = Described("web", None if subnets is None else tuple(map(IPv6Network, subnets)))
    [finding] = checks.of_networks([network])
    assert (finding.check, finding.level, finding.message) == ("docker-ipv6", level, message)
    assert bool(finding.mend) == (level is not Level.PASS)


# What was heard


def heard(**about: About) -> Heard:
    """What was heard about addresses of PREFIX, by their last digits."""
    ears = Heard(AddressSet([Rule(PREFIX, "static")]), MAC)
    for digits, each in about.items():
        ears.about[int(PREFIX.network_address) + int(digits.removeprefix("at_"), 16)] = each
        if each.asked:
            ears.askers[GATEWAY] = ROUTER_MAC
    return ears


def of_link(facts: Facts, ears: Heard, check: str = "delivery") -> Finding:
    [finding] = [finding for finding in checks.of_link(facts, ears, INNER) if finding.check == check]
    return finding


PING = f"ping -6 {INNER}  # from elsewhere, while this listens"
RUN = f"ndpresponder -i eth0 -n {PREFIX}"


@pytest.mark.parametrize(
    ("facts", "ears", "level", "conclusion", "mend"),
    [
        (HEALTHY, heard(), "warn", "nothing", [PING]),
        (HEALTHY, heard(at_9=About(packets=1)), "warn", "unclear", [PING]),
        (HEALTHY, heard(at_3=About(packets=1)), "pass", "routed", []),
        # Of an address that was named by itself, the router may know.
        (having(str(INNER)), heard(at_3=About(packets=1)), "warn", "unclear", [PING]),
        (having(proxied=(INNER,), responders=()), heard(at_9=About(packets=1)), "warn", "unclear", [PING]),
        (having(responders=()), heard(at_9=About(packets=1)), "pass", "routed", []),
        (
            having(routes=(DEFAULT, ON_LINK)),
            heard(at_3=About(packets=1)),
            "fail",
            "routed",
            [f"ip -6 route replace {PREFIX} dev docker0"],
        ),
        (
            having(routes=(DEFAULT, ON_LINK), named=False),
            heard(at_3=About(packets=1)),
            "fail",
            "routed",
            [UNKNOWN_ROUTE],
        ),
        (HEALTHY, heard(at_3=About(multicast=1)), "fail", "on-link", [RUN]),
        (having("2001:db8:1::/64", named=False), heard(at_3=About(multicast=1)), "fail", "on-link", [RUN]),
        (
            having(POOL, (ON_LINK,), named=False),
            heard(at_3=About(unicast=1)),
            "fail",
            "on-link",
            ["ndpresponder -i eth0 -n PART"],
        ),
        (HEALTHY, heard(at_3=About(multicast=1, answered=1)), "pass", "answered", []),
        (
            HEALTHY,
            heard(at_3=About(multicast=2, answered=2, again=1)),
            "fail",
            "filtered",
            ["ask the provider to let this server use the prefix"],
        ),
        (HEALTHY, heard(at_3=About(multicast=2, answered=2, again=1, from_elsewhere=2)), "fail", "filtered", [RUN]),
    ],
)
def test_deliveries(facts: Facts, ears: Heard, level: str, conclusion: str, mend: list[str]) -> None:
    finding = of_link(facts, ears)
    assert (finding.level.value, finding.conclusion, list(finding.mend)) == (level, Conclusion(conclusion), mend)


def test_who_asks() -> None:
    ears = heard(at_3=About(multicast=1))
    assert "the router asks from fe80::1 (link-local: " in of_link(HEALTHY, ears).message
    # Of several, the router counts, whichever address it asks from.
    ears.askers = {IPv6Address("fe80::9"): OTHER_MAC, IPv6Address("2001:db8::9"): ROUTER_MAC}
    assert "the router asks from 2001:db8::9, and nothing" in of_link(HEALTHY, ears).message
    ears.askers = {IPv6Address("2001:db8::9"): ROUTER_MAC, GATEWAY: ROUTER_MAC}
    assert "the router asks from 2001:db8::9, fe80::1 (link-local: " in of_link(HEALTHY, ears).message
    ears.askers = {IPv6Address("fe80::9"): OTHER_MAC}
    assert "somebody asks from fe80::9 (link-local: " in of_link(HEALTHY, ears).message


@pytest.mark.parametrize(
    ("about", "level"),
    [
        (About(), Level.PASS),
        (About(multicast=1), Level.PASS),
        (About(multicast=1, unicast=5), Level.PASS),
        (About(unicast=1), Level.WARN),
    ],
)
def test_snooping(about: About, level: Level) -> None:
    assert of_link(HEALTHY, heard(at_3=about), "snooping").level is level


@pytest.mark.parametrize(
    ("neighbors", "claims", "named", "level"),
    [
        ([], {}, True, Level.PASS),
        ([Neighbor(INNER, NUD_STALE, OTHER_MAC, 0)], {}, True, Level.FAIL),
        ([Neighbor(INNER, NUD_STALE, OTHER_MAC, 0)], {}, False, Level.WARN),
        ([Neighbor(INNER, NUD_FAILED, None, 0)], {}, True, Level.PASS),
        ([Neighbor(IPv6Address("2001:db8:1::9"), NUD_STALE, OTHER_MAC, 0)], {}, True, Level.PASS),
        ([], {int(INNER): OTHER_MAC}, True, Level.FAIL),
        # A router that keeps its guests apart.
        ([], {int(INNER): ROUTER_MAC}, True, Level.PASS),
    ],
)
def test_conflicts(neighbors: list[Neighbor], claims: dict[int, bytes], named: bool, level: Level) -> None:  # noqa: FBT001 - a column of the table
    ears = heard()
    ears.claims = claims
    finding = of_link(having(neighbors=(*HEALTHY.neighbors, *neighbors), named=named), ears, "conflicts")
    assert finding.level is level
    if level is Level.FAIL:
        assert finding.message == f"somebody else answers for {INNER} ({OTHER_MAC.hex(':')})"
        assert finding.mend == (f"ndpresponder … -x {INNER}  # or take it from that host",)
