"""state: the documents for states that are written down here."""

from collections import Counter
from ipaddress import IPv6Address, IPv6Network
from typing import Any

import pytest

from ndpresponder import state
from ndpresponder.addresses import AddressSet, Refusal, Rule, Uses
from ndpresponder.config import Interface, Multicast
from ndpresponder.containers import Held, Network, State, source_of
from ndpresponder.gateway import Gateway
from ndpresponder.policy import Override
from ndpresponder.responder import Tally
from ndpresponder.state import Watched
from ndpresponder.uplink import Condition
from ndpresponder.verdict import Verdict

PREFIX, SINGLE = IPv6Network("2001:db8::/112"), IPv6Network("2001:db8::d003/128")
EXCLUDED = IPv6Network("2001:db8::d000/124")
ENTRIES = (Rule(PREFIX, "static"), Rule(SINGLE, "static"), Refusal(EXCLUDED, Verdict.EXCLUDED))
USES: dict[IPv6Network | str, Uses] = {
    PREFIX: Uses(7, 95.5),
    SINGLE: Uses(),
    source_of("web"): Uses(1, 40.0),
    source_of("mail"): Uses(),
}
CONTAINERS = State(
    {
        "web": Network(Held(frozenset({IPv6Address("2001:db8:1::2"), IPv6Address("2001:db8:1::3")}))),
        "mail": Network(None),
    },
    "Connection refused",
)
CONDITION = Condition(
    "eth0",
    bytes.fromhex("525400000002"),
    90.0,
    carrier=True,
    instructions=22,
    exact=False,
    groups=3,
    conflicts=1,
    gateways=(
        (IPv6Address("fe80::1"), Gateway(link_address=bytes.fromhex("0200000000fe"), kept=True)),
        (IPv6Address("fe80::2"), Gateway(fixed=True)),
        (IPv6Address("fe80::3"), Gateway(kept=True, silent=True)),
        (IPv6Address("fe80::4"), Gateway()),
        (IPv6Address("fe80::5"), None),
    ),
)


def watched(condition: Condition | None, obstacle: str = "", **config: Any) -> Watched:
    tally = Tally(8, Counter({Verdict.CHECKSUM: 1, Verdict.OPTIONS: 4}), Counter({"ENOBUFS": 2}), 5, 6)
    return Watched(
        Interface("auto", ENTRIES, **config), condition, obstacle, AddressSet(ENTRIES), tally, USES.__getitem__
    )


COUNTS = {
    "answered": 8,
    "answered_multicast": 6,
    "refused": {"options": 4, "checksum": 1},
    "unsent": {"ENOBUFS": 2},
    "dropped": 5,
}
PREFIXES = [
    {"prefix": "2001:db8::/112", "answered": 7, "last": 4.5},
    {"prefix": "2001:db8::d003/128", "answered": 0, "last": None},
]


def test_an_interface() -> None:
    one = watched(CONDITION, docker_networks=("web", "mail"))
    assert state.interface(one, CONTAINERS, 100.0) == {
        "interface": "auto",
        "state": "answering",
        "ifname": "eth0",
        "mac": "52:54:00:00:00:02",
        "carrier": True,
        "since": 10.0,
        "engine": {"kind": "packet socket", "instructions": 22, "exact": False},
        "groups": 3,
        "conflicts": 1,
        "gateways": [
            {"address": "fe80::1", "state": "kept", "mac": "02:00:00:00:00:fe"},
            {"address": "fe80::2", "state": "fixed", "mac": None},
            {"address": "fe80::3", "state": "silent", "mac": None},
            {"address": "fe80::4", "state": "kernel", "mac": None},
            {"address": "fe80::5", "state": "unwatched", "mac": None},
        ],
        "multicast": "auto",
        "prefixes": PREFIXES,
        "excluded": ["2001:db8::d000/124"],
        "networks": [
            {"network": "web", "addresses": 2, "answered": 1, "last": 60.0},
            {"network": "mail", "addresses": None, "answered": 0, "last": None},
        ],
        **COUNTS,
    }


@pytest.mark.parametrize(("obstacle", "reason"), [("No such device", "No such device"), ("", None)])
def test_one_that_is_waited_for(obstacle: str, reason: str | None) -> None:
    assert state.interface(watched(None, obstacle, multicast=Multicast.MRD), State(), 100.0) == {
        "interface": "auto",
        "state": "waiting",
        "reason": reason,
        "multicast": "mrd",
        "prefixes": PREFIXES,
        "excluded": ["2001:db8::d000/124"],
        "networks": [],
        **COUNTS,
    }


def test_a_daemon() -> None:
    reload = state.reload(state.Outcome(reloaded=False, text="eth7: No such device", at=100.5), 104.0)
    assert state.daemon(iter([{"interface": "eth0"}]), CONTAINERS, "/etc/f.toml", 12.34567, reload) == {
        "file": "/etc/f.toml",
        "uptime": 12.346,
        "engine": "Connection refused",
        "reload": {"reloaded": False, "text": "eth7: No such device", "ago": 3.5},
        "interfaces": [{"interface": "eth0"}],
    }


# One address

RS, RSO = ["router", "solicited"], ["router", "solicited", "override"]


@pytest.mark.parametrize(
    ("config", "lives_here", "multicast", "unicast"),
    [
        ({}, False, RS, RS),
        ({}, True, RSO, RS),
        ({"override": Override.ALWAYS}, False, RSO, RSO),
        ({"override": Override.NEVER}, True, RS, RS),
        ({"router": False}, False, ["solicited"], ["solicited"]),
    ],
)
def test_the_flags(config: dict[str, Any], multicast: list[str], unicast: list[str], *, lives_here: bool) -> None:
    rule = Rule(SINGLE, "docker:web", lives_here, Uses(3, 99.0))
    address = SINGLE.network_address
    assert state.fate(Interface("eth0", (), **config), AddressSet([rule]), address, 100.0) == {
        "interface": "eth0",
        "answered": True,
        "by": {"prefix": "2001:db8::d003/128", "source": "docker:web", "answered": 3, "last": 1.0},
        "flags": {"multicast": multicast, "unicast": unicast},
    }


@pytest.mark.parametrize(
    ("address", "verdict", "by"),
    [
        ("2001:db8::d004", "excluded", "2001:db8::d000/124"),
        ("2001:db8::", "anycast", "2001:db8::/112"),
        ("2001:db8:1::", "not-configured", None),
        ("2001:db8::1", "gateway", None),
        ("2001:db8::2", "own-address", None),
        ("fe80::1", "link-local", None),
        ("fe80::2", "link-local", None),
        ("ff02::1", "target", None),
        ("::", "target", None),
        ("::1", "target", None),
        ("::ffff:192.0.2.1", "target", None),
    ],
)
def test_what_is_refused(address: str, verdict: str, by: str | None) -> None:
    own = (
        Refusal(IPv6Network("2001:db8::1"), Verdict.GATEWAY),
        Refusal(IPv6Network("2001:db8::2"), Verdict.OWN_ADDRESS),
    )
    assert state.fate(Interface("eth0", ENTRIES), AddressSet([*ENTRIES, *own]), IPv6Address(address), 100.0) == {
        "interface": "eth0",
        "answered": False,
        "verdict": verdict,
        "by": {"prefix": by} if by else None,
    }
