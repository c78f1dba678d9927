"""`explain`: what it says about an address, with each thing in the way; and whether what it advises mends it."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from lab import CONTAINER, GUEST_PREFIX, INNER_PREFIX, INTERNET, ROUTER_LINK_LOCAL, VPS, Lab, Ping, Program, wait_until
from wire import event

CHECKS = ["answer", "interface", "forwarding", "route-inward", "assigned", "forward-policy", "gateway"]
CLEAR, IN_THE_WAY = 0, 3
FIRST = INNER_PREFIX[0]
OUTSIDE = IPv6Address(GUEST_PREFIX[0x77])

OWN = (
    "it is an address of eth0 itself, whose kernel answers: nothing is needed. If it shall live behind this host "
    "instead, take it from eth0"
)

Finding = dict[str, Any]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A runtime directory of the test's own."""
    return tmp_path / "run"


def daemon(lab: Lab, directory: Path, *arguments: str) -> Program:
    """Start the daemon, and wait until it can be asked."""
    words = sys.executable, "-m", "ndpresponder", "--log-format", "json"
    arguments = arguments or ("-i", "eth0", "-n", str(INNER_PREFIX))
    program = lab.start(lab.vps, "env", f"RUNTIME_DIRECTORY={directory}", *words, *arguments)
    event(program, "ready")
    wait_until(lambda: list(directory.glob("*.sock")) != [], "a socket")
    return program


def explain(lab: Lab, directory: Path, *arguments: object) -> tuple[int, dict[str, Finding]]:
    """Return the exit code and the findings by name."""
    words = "env", f"RUNTIME_DIRECTORY={directory}", sys.executable, "-m", "ndpresponder", "explain", "-j"
    done = lab.vps.run(*words, *map(str, arguments), check=False)
    assert done.stderr == ""
    found = {line["check"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert len(found) == done.stdout.count("\n")
    return done.returncode, found


def failed(found: dict[str, Finding]) -> list[str]:
    return [check for check, finding in found.items() if finding["level"] == "fail"]


def test_nothing_in_the_way(lab: Lab, directory: Path) -> None:
    daemon(lab, directory)
    assert lab.ping_in() == Ping(sent=1, received=1)
    ended, found = explain(lab, directory, CONTAINER)
    assert (ended, list(found), failed(found)) == (CLEAR, CHECKS, [])
    message = found["answer"]["message"]
    assert message.startswith(f"eth0 answers for it, by {INNER_PREFIX} (static), flags: Router, Solicited: 1 answer so")


def forwarding_off(lab: Lab) -> None:
    lab.vps.sysctl("net/ipv6/conf/all/forwarding", 0)


def no_route(lab: Lab) -> None:
    lab.vps.ip(f"-6 route del {INNER_PREFIX} dev docker0")


def firewall(lab: Lab) -> None:
    lab.vps.run("nft", "add table ip6 f; add chain ip6 f passing { type filter hook forward priority 0; policy drop; }")


@pytest.mark.parametrize(
    ("break_it", "check", "mend"),
    [
        (forwarding_off, "forwarding", ["sysctl -w net.ipv6.conf.all.forwarding=1"]),
        (no_route, "route-inward", [f"ip -6 route replace {CONTAINER}/128 dev docker0"]),
        (
            firewall,
            "forward-policy",
            [f"nft insert rule ip6 f passing ip6 {way} {CONTAINER}/128 accept" for way in ("saddr", "daddr")],
        ),
    ],
)
def test_one_thing_in_the_way(
    lab: Lab, directory: Path, break_it: Callable[[Lab], None], check: str, mend: list[str]
) -> None:
    daemon(lab, directory)
    break_it(lab)
    assert lab.ping_in(wait=0.5).received == 0

    ended, found = explain(lab, directory, CONTAINER)
    assert (ended, failed(found), found[check]["mend"]) == (IN_THE_WAY, [check], mend)
    for command in mend:
        lab.vps.run("sh", "-c", command)

    ended, found = explain(lab, directory, CONTAINER)
    assert failed(found) == []
    lab.forget()
    assert lab.ping_in() == Ping(sent=1, received=1)


def test_assigned_to_the_uplink(lab: Lab, directory: Path) -> None:
    program = daemon(lab, directory)
    lab.vps.ip(f"address add {CONTAINER}/128 dev eth0")
    wait_until(lambda: any(CONTAINER in line for line in program.lines('"owned"')), "that it is seen")
    ended, found = explain(lab, directory, CONTAINER)
    assert (ended, list(found), found["answer"]["level"], found["answer"]["mend"]) == (CLEAR, ["answer"], "pass", [])
    assert found["answer"]["message"] == OWN


def test_a_gateway_that_is_not_resolved(directory: Path) -> None:
    with Lab(gateway_known=False) as lab:
        daemon(lab, directory, "-i", "eth0", "-n", str(INNER_PREFIX), "--gateway", "off")
        # Without traffic the kernel may forget that it failed.
        lab.container.popen("ping", "-6", "-q", "-c", "100", "-i", "0.2", INTERNET, stdout=subprocess.DEVNULL)
        assert lab.ping_out(wait=4).received == 0
        ended, found = explain(lab, directory, CONTAINER)
    assert (ended, failed(found)) == (IN_THE_WAY, ["gateway"])
    assert found["gateway"]["message"].startswith(f"{ROUTER_LINK_LOCAL} does not answer the kernel")


def test_what_is_not_answered_for(lab: Lab, directory: Path) -> None:
    daemon(lab, directory, "-i", "eth0", "-n", str(INNER_PREFIX), "-x", CONTAINER)
    no, of = "eth0 does not answer for it: ", {}
    for address in (CONTAINER, FIRST, OUTSIDE, ROUTER_LINK_LOCAL, "ff02::1"):
        ended, found = explain(lab, directory, address)
        assert (ended, found["answer"]["level"]) == (IN_THE_WAY, "fail")
        of[str(address)] = found["answer"]["message"].removeprefix(no), found["answer"]["mend"]
    assert of == {
        CONTAINER: (f"it is excluded ({CONTAINER}/128)", [f"start it without -x {CONTAINER}/128"]),
        str(FIRST): (
            f"it is the first address of a prefix, which belongs to the routers there ({INNER_PREFIX})",
            [f"ndpresponder -i eth0 -n {FIRST} …"],
        ),
        str(OUTSIDE): ("nothing that is configured has it", [f"ndpresponder -i eth0 -n {OUTSIDE} …"]),
        ROUTER_LINK_LOCAL: ("it is link-local: nobody is reachable behind another host by it", []),
        "ff02::1": ("it is nobody's address, but a group, the loopback, or unspecified", []),
    }


def test_without_a_daemon(lab: Lab, directory: Path, tmp_path: Path) -> None:
    ended, found = explain(lab, directory, "-i", "eth0", "-n", INNER_PREFIX, CONTAINER)
    assert (ended, list(found), failed(found)) == (CLEAR, CHECKS, [])
    would = f"eth0 would answer for it, by {INNER_PREFIX} (static), flags: Router, Solicited; no daemon was asked"
    assert found["answer"]["message"] == would

    file = tmp_path / "f.toml"
    file.write_text(f'[[interface]]\nifname = "auto"\nsubnet = "{INNER_PREFIX}"\n')
    ended, found = explain(lab, directory, "-c", file, CONTAINER)
    assert (ended, found["answer"]["message"]) == (CLEAR, would)
    # What the uplink has itself is known without a daemon too.
    ended, found = explain(lab, directory, "-i", "eth0", "-n", GUEST_PREFIX, VPS)
    assert (ended, list(found), found["answer"]["message"]) == (CLEAR, ["answer"], OWN)

    ended, found = explain(lab, directory, "-c", file, OUTSIDE)
    assert (ended, found["answer"]["mend"]) == (
        IN_THE_WAY,
        [f'add "{OUTSIDE}" to subnet in {file}, then: ndpresponder reload -c {file}'],
    )


def test_without_a_daemon_an_interface_that_is_down_is_in_the_way(lab: Lab, directory: Path) -> None:
    lab.vps.ip("link set eth0 down")
    ended, found = explain(lab, directory, "-i", "eth0", "-n", INNER_PREFIX, CONTAINER)
    assert (ended, "interface" in failed(found), found["interface"]["mend"]) == (
        IN_THE_WAY,
        True,
        ["ip link set eth0 up"],
    )


def test_an_interface_that_is_waited_for(lab: Lab, directory: Path, tmp_path: Path) -> None:
    file = tmp_path / "f.toml"
    prefixes = {"eth0": OUTSIDE, "eth7": INNER_PREFIX}
    file.write_text("".join(f'[[interface]]\nifname = "{name}"\nsubnet = "{of}"\n' for name, of in prefixes.items()))
    daemon(lab, directory, "-c", str(file))
    ended, found = explain(lab, directory, CONTAINER)
    assert (ended, found) == (
        IN_THE_WAY,
        {
            "answer": {
                "kind": "finding",
                "check": "answer",
                "level": "fail",
                "message": f"eth7 would answer for it, by {INNER_PREFIX} (static), flags: Router, Solicited; "
                "but it is waited for: No such device",
                "mend": [
                    f"ifname in {file} can be one of these: lo, docker0, eth0; then: ndpresponder reload -c {file}"
                ],
            }
        },
    )
