"""What is made of the host's process table and of its firewall."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndpresponder.host import Chain, Firewall, chains_of, responder_of


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("ndppd -d -c /etc/ndppd.conf", "ndppd"),
        ("/usr/sbin/npd6", "npd6"),
        ("ndpresponder -i eth0 -n 2001:db8::/112", "ndpresponder"),
        ("/usr/bin/python3 /usr/bin/ndpresponder --ifname=eth0 -n 2001:db8::1", "ndpresponder"),
        ("/opt/venv/bin/python3.11 -P -m ndpresponder -ieth0", "ndpresponder"),
        ("ndpresponder -n 2001:db8::1 --ifname eth0", "ndpresponder"),
        ("ndpresponder -i auto -n 2001:db8::1", "ndpresponder"),
        ("ndpresponder", "ndpresponder"),
        ("ndpresponder -c /etc/ndpresponder.toml", "ndpresponder"),
        # On another interface; a command; somebody who speaks of it; its child.
        ("ndpresponder -i eth1 -n 2001:db8::1", None),
        ("ndpresponder -n 2001:db8::1 --ifname=eth1", None),
        ("ndpresponder doctor -i eth0", None),
        ("python3 -m ndpresponder filter -n 2001:db8::1", None),
        ("vim ndpresponder", None),
        ("timeout 10 ndpresponder -i eth0", None),
        ("python3 -P -m ndpresponder.netlink eth0", None),
        ("", None),
    ],
)
def test_who_is_a_responder(line: str, name: str | None) -> None:
    assert responder_of(line.split(), "eth0") == name


@given(st.lists(st.text() | st.sampled_from(["python3", "ndpresponder", "-i", "--ifname", "-m"])), st.text())
def test_any_command_line(words: list[str], ifname: str) -> None:
    assert responder_of(words, ifname) in (None, "ndpresponder", "ndppd", "npd6", "pndpd", "odhcpd")


COUNTER = {"counter": {"packets": 0, "bytes": 0}}
MATCH = {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}
RELATED = {"xt": {"type": "match", "name": "conntrack"}}
DROP, ACCEPT, REJECT = {"drop": None}, {"accept": None}, {"reject": {"type": "icmpx", "expr": "port-unreachable"}}
JUMP = {"jump": {"target": "DOCKER-USER"}}


UPLINK = "eth0"


def ruleset(
    policy: str | None, *rules: list[dict[str, Any]], family: str = "inet", hook: str = "forward", **more: object
) -> Any:
    """As nft prints it, with other things around."""
    chain = {"family": family, "table": "t", "name": "c", "handle": 1, "type": "filter", "hook": hook, "prio": 0}
    regular = {"chain": {"family": family, "table": "t", "name": "DOCKER-USER", "handle": 9}}
    return {
        "nftables": [
            {"metainfo": {"version": "1.0.6", "json_schema_version": 1}},
            {"table": {"family": family, "name": "t", "handle": 1}},
            {"chain": chain | ({"policy": policy} if policy else {}) | more},
            regular,
            *({"rule": {"family": family, "table": "t", "chain": "c", "handle": 2, "expr": rule}} for rule in rules),
            {"rule": {"family": family, "table": "t", "chain": "DOCKER-USER", "handle": 3, "expr": [DROP]}},
            {"rule": {"family": family, "table": "other", "chain": "c", "handle": 3, "expr": [DROP]}},
        ]
    }


@pytest.mark.parametrize(
    ("policy", "rules", "effect"),
    [
        ("accept", [], Firewall.OPEN),
        ("drop", [], Firewall.CLOSED),
        (None, [], Firewall.OPEN),
        ("drop", [[COUNTER, ACCEPT]], Firewall.OPEN),
        ("drop", [[MATCH, ACCEPT]], Firewall.DEPENDS),
        ("drop", [[MATCH, ACCEPT], [MATCH, DROP]], Firewall.DEPENDS),
        ("drop", [[RELATED, COUNTER, ACCEPT]], Firewall.DEPENDS),
        ("drop", [[COUNTER, JUMP]], Firewall.DEPENDS),
        ("drop", [[MATCH, DROP], [MATCH, REJECT]], Firewall.CLOSED),
        ("drop", [[COUNTER]], Firewall.CLOSED),
        ("accept", [[MATCH, DROP]], Firewall.OPEN),
        ("accept", [[COUNTER, DROP]], Firewall.CLOSED),
        ("accept", [[REJECT]], Firewall.CLOSED),
        ("accept", [[MATCH, ACCEPT], [DROP]], Firewall.DEPENDS),
        ("accept", [[DROP], [ACCEPT]], Firewall.CLOSED),
        ("accept", [[JUMP]], Firewall.OPEN),
    ],
)
def test_what_a_chain_does(policy: str | None, rules: list[list[dict[str, Any]]], effect: Firewall) -> None:
    assert chains_of(ruleset(policy, *rules), UPLINK) == (Chain("inet", "t", "c", "forward", effect),)
    assert chains_of(ruleset(policy, *rules, family="ip6"), UPLINK) == (Chain("ip6", "t", "c", "forward", effect),)


def test_other_chains_do_not_matter() -> None:
    assert chains_of(ruleset("drop", family="ip"), UPLINK) == ()
    assert chains_of(ruleset("drop", hook="input"), UPLINK) == ()
    assert chains_of(json.loads('{"nftables": [{"metainfo": {"version": "1.0.6"}}]}'), UPLINK) == ()
    assert chains_of(ruleset("drop", family="netdev", hook="ingress", dev="eth1"), UPLINK) == ()
    assert chains_of(ruleset("drop", family="bridge", hook="prerouting"), UPLINK) == ()


@pytest.mark.parametrize("family", ["inet", "netdev"])
@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_chains_of_a_device(family: str, hook: str) -> None:
    def effect(policy: str, **device: object) -> Firewall:
        [chain] = chains_of(ruleset(policy, family=family, hook=hook, **device), UPLINK)
        assert chain == Chain(family, "t", "c", hook, chain.effect)
        return chain.effect

    assert effect("drop", dev="eth0") is Firewall.CLOSED
    assert effect("drop", dev=["eth1", "eth0"]) is Firewall.CLOSED
    # It may be another one's: nft 1.0.6 does not tell.
    assert effect("drop") is Firewall.DEPENDS
    assert effect("accept") is Firewall.OPEN


def compared(right: object, op: str = "==", field: str = "daddr") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"payload": {"protocol": "ip6", "field": field}}, "right": right}}


BLOCK, ONE = {"prefix": {"addr": "2001:db8::", "len": 64}}, "2001:db8::1"


@pytest.mark.parametrize(
    ("rules", "drops"),
    [
        ([[compared(BLOCK), DROP]], ["2001:db8::/64"]),
        ([[compared(ONE), COUNTER, REJECT]], ["2001:db8::1/128"]),
        ([[compared({"set": [BLOCK, ONE]}), DROP]], ["2001:db8::/64", "2001:db8::1/128"]),
        ([[compared(BLOCK, field="saddr"), DROP]], ["2001:db8::/64"]),
        ([[compared(BLOCK, field="hoplimit"), DROP]], []),
        ([[compared(BLOCK, "!="), DROP]], []),
        ([[compared(BLOCK), MATCH, DROP]], []),
        ([[compared(BLOCK), ACCEPT]], []),
        ([[compared("@blocked"), DROP], [compared({"range": [ONE, "2001:db8::5"]}), DROP]], []),
        ([[MATCH, DROP], [COUNTER], [compared(BLOCK), DROP]], ["2001:db8::/64"]),
        # What is behind a rule that may accept, nobody knows without a packet.
        ([[MATCH, ACCEPT], [compared(BLOCK), DROP]], []),
        ([[JUMP], [compared(BLOCK), DROP]], []),
    ],
)
def test_what_a_rule_drops(rules: list[list[dict[str, Any]]], drops: list[str]) -> None:
    [chain] = chains_of(ruleset("accept", *rules, hook="prerouting"), UPLINK)
    assert (chain.effect, list(map(str, chain.drops))) == (Firewall.OPEN, drops)


def test_what_comes_from_outside_with_an_address_of_the_inside_may_be_dropped() -> None:
    [chain] = chains_of(ruleset("accept", [compared(BLOCK, field="saddr"), DROP], hook="ingress"), UPLINK)
    assert chain.drops == ()
