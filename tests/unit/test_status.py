"""status: the text for a fixed state, character for character, and durations."""

from copy import deepcopy
from typing import Any

import pytest

from ndpresponder.status import Report, counted, duration, narrowed

BUSY: dict[str, Any] = {
    "version": 1,
    "program": "1.2.3",
    "process": 4711,
    "file": "/etc/ndpresponder/ndpresponder.toml",
    "uptime": 93784.2,
    "engine": "",
    "reload": None,
    "interfaces": [
        {
            "interface": "auto",
            "state": "answering",
            "ifname": "eth0",
            "mac": "52:54:00:00:00:02",
            "carrier": True,
            "since": 3723.9,
            "engine": {"kind": "packet socket", "instructions": 22, "exact": True},
            "groups": 255,
            "conflicts": 1,
            "gateways": [
                {"address": "fe80::1", "state": "kernel", "mac": None},
                {"address": "2001:db8::1", "state": "kept", "mac": "02:00:00:00:00:fe"},
                {"address": "2001:db8::2", "state": "silent", "mac": None},
            ],
            "multicast": "auto",
            "prefixes": [
                {"prefix": "2001:db8:1::d000/120", "answered": 1204, "last": 3.2},
                {"prefix": "2001:db8:1::5/128", "answered": 0, "last": None},
            ],
            "excluded": ["2001:db8:1::d0ff/128"],
            "networks": [
                {"network": "web", "addresses": 2, "answered": 12, "last": 62.0},
                {"network": "mail", "addresses": None, "answered": 0, "last": None},
            ],
            "answered": 1216,
            "answered_multicast": 1190,
            "refused": {"options": 12, "checksum": 1},
            "unsent": {"ENOBUFS": 3},
            "dropped": 1234567,
        },
        {
            "interface": "eth7",
            "state": "waiting",
            "reason": "No such device",
            "multicast": "allmulti",
            "prefixes": [{"prefix": "2001:db8:7::/64", "answered": 0, "last": None}],
            "excluded": [],
            "networks": [],
            "answered": 0,
            "answered_multicast": 0,
            "refused": {},
            "unsent": {},
            "dropped": 0,
        },
    ],
}
TEXT = """\
ndpresponder 1.2.3, process 4711, up 1 d 2 h, /etc/ndpresponder/ndpresponder.toml

interface: auto
  state:     answering on eth0 for 1 h 2 min
  mac:       52:54:00:00:00:02
  engine:    packet socket, filter of 22 instructions
  multicast: auto, 255 groups joined
  gateway:   fe80::1, resolved by the kernel
  gateway:   2001:db8::1 at 02:00:00:00:00:fe, asked for in place of the kernel
  gateway:   2001:db8::2, does not answer
  conflicts: 1 address that another host has, too
  answered:  1,216 (1,190 by multicast)
  refused:   13 (12 options, 1 checksum)
  not sent:  3 (3 ENOBUFS)
  dropped:   1,234,567

  2001:db8:1::d000/120      answered 1,204, last 3 s ago
  2001:db8:1::5/128         never answered
  network web (2 addresses) answered 12, last 1 min 2 s ago
  network mail (not there)  never answered
  but not                   2001:db8:1::d0ff/128

interface: eth7
  state:    waiting for it: No such device
  answered: 0
  refused:  0
  not sent: 0
  dropped:  0

  2001:db8:7::/64 never answered
"""


def test_the_text_of_a_fixed_state() -> None:
    assert "".join(f"{line}\n" for line in Report(coloured=False).lines([BUSY])) == TEXT


def test_colours_add_nothing_else() -> None:
    lines = list(Report(coloured=True).lines([BUSY]))
    assert lines[2] == "\033[1;32minterface\033[0m: \033[1;32mauto\033[0m"
    assert lines[3] == "  \033[1mstate\033[0m:     answering on eth0 for 1 h 2 min"
    assert "  \033[1mdropped\033[0m:   \033[33m1,234,567\033[0m" in lines
    assert "  \033[1mdropped\033[0m:  0" in lines
    plain = "\n".join(lines)
    for code in ("0", "1", "1;32", "33", "31"):
        plain = plain.replace(f"\033[{code}m", "")
    assert f"{plain}\n" == TEXT


def test_several_daemons_and_what_is_rare() -> None:
    other = deepcopy(BUSY) | {"file": None, "engine": "Connection refused", "uptime": 0.4}
    other["interfaces"] = other["interfaces"][:1]
    other["interfaces"][0] |= {"carrier": False, "interface": "eth0", "gateways": []}
    other["interfaces"][0]["engine"] = {"kind": "packet socket", "instructions": 1, "exact": False}
    lines = list(Report(coloured=False).lines([BUSY, other]))
    assert "".join(f"{line}\n" for line in lines).startswith(f"{TEXT}\n")
    assert lines[TEXT.count("\n") + 1 :][:7] == [
        "ndpresponder 1.2.3, process 4711, up 0 s",
        "  Docker networks cannot be looked at: Connection refused",
        "",
        "interface: eth0",
        "  state:     answering for 1 h 2 min, no carrier",
        "  mac:       52:54:00:00:00:02",
        "  engine:    packet socket, filter of 1 instruction, wider than the prefixes",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3601, "1 h"),
        (3660, "1 h 1 min"),
        (86400, "1 d"),
        (100 * 86400 + 7200 + 60, "100 d 2 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts() -> None:
    assert [counted(number, "address", "addresses") for number in (0, 1, 1000)] == [
        "0 addresses",
        "1 address",
        "1,000 addresses",
    ]


def test_narrowing() -> None:
    file = "/etc/ndpresponder/ndpresponder.toml"
    assert narrowed([BUSY], None, None) == [BUSY]
    assert narrowed([BUSY], file, None) == [BUSY]
    assert narrowed([BUSY], "/etc/other", None) == []
    # By the name in the configuration, or the one that it is at the moment.
    for name, interfaces in {"eth0": ["auto"], "auto": ["auto"], "eth7": ["eth7"]}.items():
        [reply] = narrowed([BUSY], None, name)
        assert [each["interface"] for each in reply["interfaces"]] == interfaces
    assert narrowed([BUSY], file, "eth1") == []
