"""explain: what is said about an answer, word for word; the lab's tests have the rest of it."""

from ipaddress import IPv6Address
from typing import Any

import pytest

from ndpresponder.checks import Finding, Level
from ndpresponder.explain import answer_of, telling
from ndpresponder.station import interfaces

ADDRESS = IPv6Address("2001:db8::5")
BY = {"prefix": "2001:db8::/112", "source": "static", "answered": 0, "last": None}
RS, RSO = ["router", "solicited"], ["router", "solicited", "override"]
ANSWERED: dict[str, Any] = {
    "file": None,
    "interface": "auto",
    "ifname": "eth0",
    "state": "answering",
    "answered": True,
    "by": BY,
    "flags": {"multicast": RS, "unicast": RS},
}
BY_RULE = "by 2001:db8::/112 (static), flags: Router, Solicited"


@pytest.mark.parametrize(
    ("changes", "level", "message", "mend"),
    [
        ({}, Level.PASS, f"eth0 answers for it, {BY_RULE}: none so far", ()),
        (
            {"by": BY | {"answered": 1200, "last": 65.0}},
            Level.PASS,
            f"eth0 answers for it, {BY_RULE}: 1,200 answers so far, the last 1 min 5 s ago",
            (),
        ),
        (
            {"flags": {"multicast": RSO, "unicast": RS}},
            Level.PASS,
            f"eth0 answers for it, {BY_RULE}, Override (Override by multicast alone): none so far",
            (),
        ),
        ({"state": "configured"}, Level.PASS, f"eth0 would answer for it, {BY_RULE}; no daemon was asked", ()),
        (
            {"state": "waiting", "reason": "Network is down"},
            Level.FAIL,
            f"eth0 would answer for it, {BY_RULE}; but it is waited for: Network is down",
            ("ip link set eth0 up",),
        ),
        (
            {"state": "waiting", "reason": "No such device", "interface": "eth7", "ifname": None},
            Level.FAIL,
            f"eth7 would answer for it, {BY_RULE}; but it is waited for: No such device",
            (f"ndpresponder -i NAME …  # there are: {interfaces()}",),
        ),
        (
            {"state": "waiting", "reason": "No such device", "file": "/f.toml"},
            Level.FAIL,
            f"eth0 would answer for it, {BY_RULE}; but it is waited for: No such device",
            (f"ifname in /f.toml can be one of these: {interfaces()}; then: ndpresponder reload -c /f.toml",),
        ),
        (
            {"state": "waiting", "reason": "there is no IPv6 default route", "interface": "auto", "ifname": None},
            Level.FAIL,
            f"auto would answer for it, {BY_RULE}; but it is waited for: there is no IPv6 default route",
            (f"ndpresponder -i NAME …  # there are: {interfaces()}",),
        ),
    ],
)
def test_an_answer(changes: dict[str, Any], level: Level, message: str, mend: tuple[str, ...]) -> None:
    assert answer_of(ADDRESS, ANSWERED | changes) == Finding("answer", level, message, mend)


@pytest.mark.parametrize(
    ("changes", "message", "mend"),
    [
        (
            {"verdict": "not-configured", "by": None},
            "nothing that is configured has it",
            ("ndpresponder -i eth0 -n 2001:db8::5 …",),
        ),
        (
            {"verdict": "not-configured", "by": None, "file": "/f.toml", "networks": ["web"]},
            "nothing that is configured has it; only a daemon knows which addresses containers have on web",
            ('add "2001:db8::5" to subnet in /f.toml, then: ndpresponder reload -c /f.toml',),
        ),
        (
            {"verdict": "excluded", "by": {"prefix": "2001:db8::/120"}},
            "it is excluded (2001:db8::/120)",
            ("start it without -x 2001:db8::/120",),
        ),
        (
            {"verdict": "excluded", "by": {"prefix": "2001:db8::/120"}, "file": "/f.toml"},
            "it is excluded (2001:db8::/120)",
            ("take 2001:db8::/120 out of exclude in /f.toml, then: ndpresponder reload -c /f.toml",),
        ),
        ({"verdict": "gateway", "by": None}, "it is the gateway's, which answers for itself", ()),
        ({"verdict": "checksum", "by": None}, "checksum", ()),
    ],
)
def test_no_answer(changes: dict[str, Any], message: str, mend: tuple[str, ...]) -> None:
    refused = ANSWERED | {"answered": False} | changes
    assert answer_of(ADDRESS, refused) == Finding("answer", Level.FAIL, f"eth0 does not answer for it: {message}", mend)


def test_an_address_of_the_interface_itself_needs_nothing() -> None:
    owned = ANSWERED | {"answered": False, "verdict": "own-address", "by": None}
    assert answer_of(ADDRESS, owned) == Finding(
        "answer",
        Level.PASS,
        "it is an address of eth0 itself, whose kernel answers: nothing is needed. If it shall live behind this host "
        "instead, take it from eth0",
    )


ELSEWHERE = ANSWERED | {"answered": False, "verdict": "not-configured", "by": None}
EXCLUDED = ELSEWHERE | {"verdict": "excluded", "by": {"prefix": "2001:db8::/120"}}


@pytest.mark.parametrize(
    ("fates", "told"),
    [
        ([ELSEWHERE, ANSWERED, EXCLUDED], [ANSWERED]),
        # Where it is excluded, somebody has thought of it: to name it elsewhere is no way out.
        ([ELSEWHERE, EXCLUDED, ELSEWHERE], [EXCLUDED]),
        ([ELSEWHERE, ELSEWHERE], [ELSEWHERE, ELSEWHERE]),
        ([], []),
    ],
)
def test_what_is_told_of_several_interfaces(fates: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
    assert telling(fates) == told
