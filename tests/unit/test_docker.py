"""addresses_of(): what an engine says of a network becomes the addresses to answer for."""

import logging
from ipaddress import IPv6Address, IPv6Network
from itertools import islice

import pytest
from fake_engine import GATEWAY

from ndpresponder import log
from ndpresponder.addresses import Rule
from ndpresponder.containers import Held, Network, State, rules
from ndpresponder.docker import Timing, addresses_of, delays, report, subnets_of

NO_NETWORK = "the engine's answer is no network"


def network(*held: object, gateway: object = GATEWAY) -> dict[str, object]:
    """Return a network whose containers hold these."""
    containers = {f"{number:064x}": {"Name": f"c{number}", "IPv6Address": each} for number, each in enumerate(held)}
    return {"Name": "web", "IPAM": {"Config": [{"Gateway": gateway}]}, "Containers": containers}


def held(*addresses: str, unique_local: int = 0, malformed: int = 0) -> Held:
    return Held(frozenset(map(IPv6Address, addresses)), unique_local, malformed)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2001:db8::2/64", held("2001:db8::2"), id="docker"),
        pytest.param("2001:db8::2", held("2001:db8::2"), id="without-length"),
        pytest.param("2001:DB8:0::2/128", held("2001:db8::2"), id="another-spelling"),
        pytest.param("", held(), id="ipv4-only"),
        pytest.param(None, held(), id="null"),
        pytest.param("fe80::2/64", held(), id="link-local"),
        pytest.param("febf::2/10", held(), id="end-of-link-local"),
        pytest.param("fec0::2/64", held("fec0::2"), id="after-link-local"),
        pytest.param("fc00::2/64", held(unique_local=1), id="unique-local"),
        pytest.param("fdff::2/64", held(unique_local=1), id="end-of-unique-local"),
        pytest.param("fe00::2/64", held("fe00::2"), id="after-unique-local"),
        pytest.param(f"{GATEWAY}/64", held(), id="gateway"),
        pytest.param("172.18.0.2/16", held(malformed=1), id="ipv4"),
        pytest.param("::ffff:172.18.0.2/112", held(malformed=1), id="ipv4-mapped"),
        pytest.param("ff02::1/64", held(malformed=1), id="multicast"),
        pytest.param("::/0", held(malformed=1), id="unspecified"),
        pytest.param("::1/128", held(malformed=1), id="loopback"),
        pytest.param("2001:db8::2%eth0/64", held(malformed=1), id="zone"),
        pytest.param("2001:db8::2/129", held(malformed=1), id="too-long"),
        pytest.param("2001:db8::2/", held(malformed=1), id="no-length"),
        pytest.param("web", held(malformed=1), id="name"),
        pytest.param(5, held(malformed=1), id="number"),
        pytest.param(["2001:db8::2/64"], held(malformed=1), id="list"),
    ],
)
def test_what_a_container_holds(text: object, expected: Held) -> None:
    assert addresses_of(network(text), unique_local=False) == expected


def test_one_that_cannot_be_read_does_not_hide_others() -> None:
    described = network("2001:db8::2/64", "nonsense", "", "2001:db8::3/64", "2001:db8::3/64")
    described["Containers"] |= {"odd": "text", "odder": None}  # type: ignore[operator] # it is a dict
    assert addresses_of(described, unique_local=False) == held("2001:db8::2", "2001:db8::3", malformed=3)


def test_unique_local_addresses_on_request() -> None:
    assert addresses_of(network("fd00::2/64", "2001:db8::2/64"), unique_local=True) == held("fd00::2", "2001:db8::2")


@pytest.mark.parametrize("gateway", ["2001:db8::9", "2001:db8::9/64", "172.18.0.1", "", None, 5])
def test_gateways(gateway: object) -> None:
    """Each address range has one, of either family, written with its length by some engines."""
    is_known = str(gateway).startswith("2001")
    expected = held("2001:db8::2") if is_known else held("2001:db8::2", "2001:db8::9")
    assert addresses_of(network("2001:db8::2/64", "2001:db8::9/64", gateway=gateway), unique_local=False) == expected


@pytest.mark.parametrize("ipam", [None, {}, [], "x", {"Config": None}, {"Config": {}}, {"Config": ["x", None]}])
def test_without_a_gateway(ipam: object) -> None:
    described = network("2001:db8::2/64") | {"IPAM": ipam}
    assert addresses_of(described, unique_local=False) == held("2001:db8::2")


@pytest.mark.parametrize(
    ("driver", "options", "on_link"),
    [
        ("macvlan", {"parent": "eth0"}, "macvlan"),
        ("ipvlan", {"parent": "eth0"}, "ipvlan"),
        ("ipvlan", {"ipvlan_mode": "l2"}, "ipvlan"),
        ("ipvlan", None, "ipvlan"),
        ("ipvlan", {"ipvlan_mode": "l3"}, ""),
        ("ipvlan", {"ipvlan_mode": "l3s"}, ""),
        ("bridge", {}, ""),
        ("bridge", {"ipvlan_mode": "l2"}, ""),
        (None, [], ""),
    ],
)
def test_containers_on_the_uplinks_link(driver: object, options: object, on_link: str) -> None:
    described = network("2001:db8::2/64") | {"Driver": driver, "Options": options}
    expected = Held(frozenset(), on_link=on_link) if on_link else held("2001:db8::2")
    assert addresses_of(described, unique_local=False) == expected


@pytest.mark.parametrize("described", [{}, {"Containers": None}, {"Containers": {}}])
def test_no_containers(described: object) -> None:
    assert addresses_of(described, unique_local=False) == held()


@pytest.mark.parametrize("described", [None, [], "web", 5, {"Containers": ["x"]}, {"Containers": "x"}])
def test_what_is_no_network(described: object) -> None:
    with pytest.raises(ValueError, match=f"^{NO_NETWORK}$"):
        addresses_of(described, unique_local=False)


def test_what_is_held_lives_here() -> None:
    held_there = {"web": "2001:db8::2", "mail": "2001:db8::3", "another interface's": "2001:db8::4"}
    state = State({name: Network(held(address)) for name, address in held_there.items()} | {"gone": Network(None)})
    assert set(rules(state, ["web", "mail", "gone", "new"])) == {
        Rule(IPv6Network("2001:db8::2"), "docker:web", lives_here=True),
        Rule(IPv6Network("2001:db8::3"), "docker:mail", lives_here=True),
    }


def test_it_waits_longer_after_each_failure() -> None:
    assert list(islice(delays(Timing()), 7)) == [1, 2, 4, 8, 16, 30, 30]


WEB = State({"web": Network(held("2001:db8::2"))})
ABSENT = State({"web": Network(None)})


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        pytest.param(State(), WEB, ["network web: 1 address, +2001:db8::2"], id="first"),
        pytest.param(State(), State({"web": Network(held())}), ["network web: 0 addresses"], id="empty"),
        pytest.param(WEB, WEB, [], id="same"),
        pytest.param(
            WEB,
            State({"web": Network(held("2001:db8::4", "2001:db8::3"))}),
            ["network web: 2 addresses, +2001:db8::3, +2001:db8::4, -2001:db8::2"],
            id="changed",
        ),
        pytest.param(
            State(),
            State({"web": Network(held(*(f"2001:db8::{number:x}" for number in range(1, 11))))}),
            [
                "network web: 10 addresses, "
                + ", ".join(f"+2001:db8::{number:x}" for number in range(1, 9))
                + " and 2 more"
            ],
            id="many",
        ),
        pytest.param(State(), ABSENT, ["network web: there is none of this name; waiting for it"], id="absent"),
        pytest.param(WEB, ABSENT, ["network web: removed; waiting for it, -2001:db8::2"], id="removed"),
        pytest.param(ABSENT, WEB, ["network web: 1 address, +2001:db8::2"], id="made"),
        pytest.param(
            WEB,
            State({"web": Network(held("2001:db8::2"), "broken")}),
            ["warn: network web: broken"],
            id="obstacle",
        ),
        pytest.param(State(), State({"web": Network(None, "broken")}), ["warn: network web: broken"], id="unknown"),
        pytest.param(State({"web": Network(None, "broken")}), State({"web": Network(None, "broken")}), [], id="still"),
        pytest.param(
            State({"web": Network(held("2001:db8::2"), "broken")}), WEB, ["network web: 1 address"], id="mended"
        ),
        pytest.param(
            WEB,
            State(WEB.networks, "gone"),
            ["warn: Docker networks cannot be looked at: gone; answering for what was known last"],
            id="away",
        ),
        pytest.param(State(), State({}, "gone"), ["warn: Docker networks cannot be looked at: gone"], id="not-there"),
        pytest.param(State(WEB.networks, "gone"), State(WEB.networks, "gone"), [], id="still-away"),
        pytest.param(State(WEB.networks, "gone"), WEB, ["the engine can be asked again"], id="back"),
        pytest.param(
            WEB,
            State(WEB.networks, deaf="403 Forbidden"),
            [
                (
                    "warn: the engine does not tell of events (403 Forbidden): "
                    "it takes up to 30 seconds until a change is seen"
                )
            ],
            id="deaf",
        ),
        pytest.param(
            State(WEB.networks, deaf="403 Forbidden"), WEB, ["the engine tells of events again"], id="not-deaf-any-more"
        ),
        pytest.param(
            State(WEB.networks, "gone", deaf="403 Forbidden"),
            WEB,
            ["the engine can be asked again", "the engine tells of events again"],
            id="back-and-not-deaf",
        ),
        pytest.param(
            WEB,
            State({"web": Network(held("2001:db8::2", unique_local=2, malformed=1))}),
            [
                (
                    "network web: unique-local addresses are not answered for, 2 at present "
                    "(--docker-unique-local answers for them too)"
                ),
                "warn: network web: what 1 container holds is no unicast IPv6 address; not answered for",
            ],
            id="left-out",
        ),
        pytest.param(
            WEB,
            State({"web": Network(held("2001:db8::2", malformed=2))}),
            ["warn: network web: what 2 containers hold is no unicast IPv6 address; not answered for"],
            id="malformed",
        ),
        pytest.param(
            WEB,
            State({"web": Network(Held(frozenset(), on_link="macvlan"))}),
            [
                "network web: 0 addresses, -2001:db8::2",
                (
                    "warn: network web: not answered for: its driver is macvlan, with which containers are on the "
                    "uplink's own link and answer for themselves"
                ),
            ],
            id="on-link",
        ),
    ],
)
def test_a_line_per_change(before: State, now: State, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    log.setup(logging.INFO, log.Format.HUMAN)
    report(before, now)
    assert [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()] == lines


@pytest.mark.parametrize(
    ("network", "subnets"),
    [
        ({"IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}, {"Subnet": "2001:db8::/64"}]}}, ["2001:db8::/64"]),
        ({"IPAM": {"Config": [{"Subnet": "2001:db8::/64"}]}, "EnableIPv6": True}, ["2001:db8::/64"]),
        ({"IPAM": {"Config": [{"Subnet": "2001:db8::/64"}]}, "EnableIPv6": False}, []),
        ({"IPAM": {"Config": [{"Subnet": "2001:db8::1/64"}, {"Subnet": None}, {}, 7]}}, ["2001:db8::/64"]),
        ({"IPAM": {"Config": None}, "EnableIPv6": True}, []),
        ({"IPAM": None}, []),
        ({}, []),
    ],
)
def test_the_prefixes_of_a_network(network: dict[str, object], subnets: list[str]) -> None:
    assert list(map(str, subnets_of(network))) == subnets
