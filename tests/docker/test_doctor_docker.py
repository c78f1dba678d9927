"""What the doctor says of the networks of an engine."""

import json
import sys
from typing import Any

import pytest
from dockerd import EXPOSED, ONLY_IPV4, Engine
from lab import Lab

HEALTHY, PROBLEM = 0, 3


def examine(lab: Lab, engine: Engine, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    words = sys.executable, "-m", "ndpresponder", "doctor", "-i", "eth0", "--listen", "0", "-j", *arguments
    done = lab.vps.run("env", f"DOCKER_HOST={engine.url}", *words, check=False)
    found = map(json.loads, done.stdout.splitlines())
    return done.returncode, {finding["check"]: finding for finding in found}


def test_a_network_with_ipv6(lab: Lab, engine: Engine) -> None:
    ended, found = examine(lab, engine, "-N", EXPOSED.name)

    assert ended == HEALTHY
    assert found["docker-ipv6"]["message"] == f"Docker network {EXPOSED.name} has {EXPOSED.subnet}"
    bridge = f"br-{engine.network(EXPOSED.name)['Id'][:12]}"
    assert found["route-inward"]["message"] == f"{EXPOSED.subnet} goes to {bridge}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (ONLY_IPV4.name, f"Docker network {ONLY_IPV4.name} has no IPv6"),
        ("nonesuch", "there is no Docker network nonesuch"),
    ],
)
def test_a_network_without_ipv6(lab: Lab, engine: Engine, name: str, message: str) -> None:
    engine.create_network(ONLY_IPV4)

    ended, found = examine(lab, engine, "-N", name)

    assert (ended, found["docker-ipv6"]["level"], found["docker-ipv6"]["message"]) == (PROBLEM, "fail", message)
