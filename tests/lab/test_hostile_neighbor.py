"""ndpresponder under thc-ipv6's fuzzer and flood, from a neighbor on the link: it answers on, no larger than before."""

import json
import re
from pathlib import Path

import pytest
from lab import CONTAINER, VPS_MAC, Lab, Ping, Program
from namespaces import Namespace

# A flood takes all of the machine that it can get.
pytestmark = pytest.mark.alone

# The exit code of `timeout`: a flood does not end by itself.
TIMED_OUT = 124
GROWTH_LIMIT = 4 * 1024 * 1024
# What `answers_to` finds beside the tool's solicitations: the router's before and after, and ndisc6's.
OTHER_ANSWERS = 3


def answers_to(tool: str, limit: int, exit_code: int, lab: Lab, neighbor: Namespace) -> int:
    """Let a neighbor run a tool, `limit` seconds at most, and return how many solicitations were answered.

    The responder must be the same process as before, answer as before, and not have grown.
    """
    daemon = lab.ndpresponder()
    assert lab.ping_in() == Ping(sent=1, received=1)
    before = resident(daemon)

    done = neighbor.run("timeout", str(limit), *tool.split(), check=False)
    assert done.returncode == exit_code, done.stdout + done.stderr

    assert daemon.process.poll() is None
    lab.forget()
    assert lab.ping_in() == Ping(sent=1, received=1)
    asked = lab.router.run("ndisc6", "-1", "-q", "-r", "1", "-w", "1000", CONTAINER, "lan", check=False)
    assert asked.stdout == f"{VPS_MAC}\n"
    assert resident(daemon) - before < GROWTH_LIMIT
    assert daemon.stop() == 0
    answered: int = json.loads(daemon.wait_for('"event": "stopped"'))["answered"]
    return answered - OTHER_ANSWERS


def resident(daemon: Program) -> int:
    """Return the resident memory of a program in octets."""
    kilobytes = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{daemon.process.pid}/status").read_text())
    assert kilobytes is not None
    return 1024 * int(kilobytes[1])


# -2 fuzzes a solicitation; without -a it would first wait for the container to answer a ping. Exit code 0: it sent all.


@pytest.mark.parametrize("options", ["", "-x -I"], ids=["message", "all-values-and-ip-header"])
def test_fuzzed_solicitations(lab: Lab, neighbor: Namespace, options: str) -> None:
    answers = answers_to(f"atk6-fuzz_ip6 -2 -a {options} eth0 {CONTAINER}", 10, 0, lab, neighbor)

    # Most of what it varies is not validated: reserved bits, traffic class, the last octets of addresses.
    assert answers > 1000


def test_fuzzed_extension_headers(lab: Lab, neighbor: Namespace) -> None:
    answers = answers_to(f"atk6-fuzz_ip6 -2 -a -x -I -F -H -D -S eth0 {CONTAINER}", 10, 0, lab, neighbor)

    assert answers == 0


def test_flood_of_solicitations_for_others(lab: Lab, neighbor: Namespace) -> None:
    answers = answers_to("atk6-flood_solicitate6 eth0", 5, TIMED_OUT, lab, neighbor)

    assert answers == 0


def test_flood_of_solicitations_for_the_container(lab: Lab, neighbor: Namespace) -> None:
    answers = answers_to(f"atk6-flood_solicitate6 eth0 {CONTAINER}", 5, TIMED_OUT, lab, neighbor)

    assert answers > 10_000
