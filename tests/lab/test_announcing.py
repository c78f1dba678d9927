"""Whether an address that comes to live behind the host is reached at once, whatever the router has known before."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_engine import Engine
from lab import (
    CONTAINER,
    INTERNET,
    ROUTER_LINK_LOCAL,
    SOLICITATIONS_AND_ADVERTISEMENTS,
    VPS,
    VPS_MAC,
    Lab,
    Ping,
    Program,
    wait_until,
)
from living import Living
from namespaces import Namespace
from wire import event, events

NEIGHBORS_MAC = "52:54:00:00:00:03"
NOBODYS_MAC = "52:54:00:00:00:99"
OTHER = "2001:db8:1::d004"
WARNING = (
    f"{CONTAINER} lives here, but another host, at {NEIGHBORS_MAC}, has it too: "
    "packets go to either, until one gives way"
)


def remember(lab: Lab, state: str) -> None:
    """Let the router know the container from where it lived before."""
    lab.router.ip(f"neighbor replace {CONTAINER} lladdr {NOBODYS_MAC} nud {state} dev lan")


def points_here(lab: Lab) -> Callable[[], bool]:
    return lambda: lab.router_neighbor().get("lladdr") == VPS_MAC


def test_the_router_knows_it_before_it_asks(lab: Lab) -> None:
    capture = lab.capture(lab.router, "lan", f"{SOLICITATIONS_AND_ADVERTISEMENTS} and ether src {VPS_MAC}")
    with Living(lab.vps) as living:
        living.publish(CONTAINER)
        wait_until(points_here(lab), "the router's entry", 1)
        wait_until(lambda: len(capture.lines("ff02::1:")) == 3, "three announcements")

    assert lab.dropped("advertisements") == 0
    [question, greeting, announcement] = capture.lines("IP6")[:3]
    assert question == f"IP6 {VPS} > ff02::1:ff00:d003: ICMP6, neighbor solicitation, who has {CONTAINER}, length 32"
    assert announcement == f"IP6 {CONTAINER} > ff02::1: ICMP6, neighbor advertisement, tgt is {CONTAINER}, length 32"
    assert greeting == (
        f"IP6 {CONTAINER} > ff02::1:ff00:1: ICMP6, neighbor solicitation, who has {ROUTER_LINK_LOCAL}, length 32"
    )


@pytest.mark.parametrize("state", ["reachable", "stale", "delay", "probe"])
def test_an_old_entry_is_mended_at_once(lab: Lab, state: str) -> None:
    remember(lab, state)
    with Living(lab.vps) as living:
        living.publish(CONTAINER)
        wait_until(points_here(lab), "the router's entry", 1)
        assert lab.ping_in(count=5) == Ping(sent=5, received=5)


def test_without_announcing_an_old_entry_stays(lab: Lab) -> None:
    remember(lab, "reachable")
    with Living(lab.vps, announce=False) as living:
        living.publish(CONTAINER)
        assert lab.ping_in(count=5, wait=1) == Ping(sent=5, received=0)
        assert lab.router_neighbor()["lladdr"] == NOBODYS_MAC


def test_an_address_that_moves_here_from_another_host(lab: Lab, neighbor: Namespace) -> None:
    neighbor.ip(f"address add {CONTAINER}/128 dev eth0")
    neighbor.ip(f"route add {INTERNET}/128 via {ROUTER_LINK_LOCAL} dev eth0")
    with Living(lab.vps) as living:
        assert lab.ping_in() == Ping(sent=1, received=1)
        assert lab.router_neighbor()["lladdr"] == NEIGHBORS_MAC

        neighbor.ip(f"address del {CONTAINER}/128 dev eth0")
        living.publish(CONTAINER)
        wait_until(points_here(lab), "the router's entry", 1)
        assert lab.ping_in(count=5) == Ping(sent=5, received=5)
        assert living.said("conflict") == []


def test_a_recycled_address_is_mended_at_once(lab: Lab) -> None:
    with Living(lab.vps) as living:
        for _ in range(3):
            living.publish(CONTAINER)
            wait_until(points_here(lab), "the router's entry", 1)
            assert lab.ping_in() == Ping(sent=1, received=1)
            living.publish()
            remember(lab, "reachable")


def test_another_mac_is_known_at_once(lab: Lab) -> None:
    with Living(lab.vps) as living:
        living.publish(CONTAINER)
        assert lab.ping_in() == Ping(sent=1, received=1)
        lab.vps.ip(f"link set eth0 address {NOBODYS_MAC}")
        wait_until(lambda: lab.router_neighbor().get("lladdr") == NOBODYS_MAC, "the router's entry", 1)
        assert lab.ping_in(count=5) == Ping(sent=5, received=5)


def test_a_host_that_has_the_same_address_is_named_once(lab: Lab, neighbor: Namespace) -> None:
    neighbor.ip(f"address add {CONTAINER}/128 dev eth0")
    capture = lab.capture(lab.router, "lan", f"{SOLICITATIONS_AND_ADVERTISEMENTS} and ether src {VPS_MAC}")
    with Living(lab.vps) as living:
        living.publish(CONTAINER)
        living.wait_for("conflict")
        # It is announced all the same, and answered for.
        wait_until(lambda: len(capture.lines(f"IP6 {CONTAINER} > ff02::1:")) == 3, "three announcements")
        assert lab.router.run("ndisc6", "-q", "-m", "-w", "500", CONTAINER, "lan").stdout.lower().split() == [
            NEIGHBORS_MAC,
            VPS_MAC,
        ]
        assert living.said("conflict") == [WARNING]


def test_a_host_that_takes_the_address_later_is_named_too(lab: Lab, neighbor: Namespace) -> None:
    neighbor.sysctl("net/ipv6/conf/eth0/ndisc_notify", 1)
    with Living(lab.vps) as living:
        living.publish(CONTAINER)
        wait_until(points_here(lab), "the router's entry", 1)
        assert living.said("conflict") == []
        neighbor.ip(f"address add {CONTAINER}/128 dev eth0")
        living.wait_for("conflict")
        assert living.said("conflict") == [WARNING]


# The whole program, with an engine


NETWORK = "ipv6exposed"


def following(lab: Lab, engine: Engine, *arguments: str) -> Program:
    """Start ndpresponder on the vps, for the containers of a network."""
    words = sys.executable, "-m", "ndpresponder", "-i", "eth0", "--log-format", "json", "-N", NETWORK, *arguments
    program = lab.start(lab.vps, "env", f"DOCKER_HOST={engine.host}", *words)
    event(program, "network")
    return program


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with a network and no container."""
    with Engine(tmp_path / "docker.sock") as engine:
        engine.create(NETWORK)
        yield engine


def test_a_container_that_is_there_at_start_is_announced(lab: Lab, engine: Engine) -> None:
    remember(lab, "reachable")
    engine.run(NETWORK, "first", CONTAINER)
    following(lab, engine)
    wait_until(points_here(lab), "the router's entry")
    assert lab.ping_in(count=5) == Ping(sent=5, received=5)


def test_a_container_that_starts_is_announced(lab: Lab, engine: Engine) -> None:
    engine.run(NETWORK, "other", OTHER)
    program = following(lab, engine)
    for number in range(3):
        remember(lab, "reachable")
        engine.run(NETWORK, f"first{number}", CONTAINER)
        wait_until(points_here(lab), "the router's entry")
        assert lab.ping_in() == Ping(sent=1, received=1)
        engine.halt(NETWORK, f"first{number}")
        event(program, "network", 2 * number + 3)


def test_no_announce(lab: Lab, engine: Engine) -> None:
    capture = lab.capture(lab.router, "lan", f"{SOLICITATIONS_AND_ADVERTISEMENTS} and ether src {VPS_MAC}")
    engine.run(NETWORK, "first", CONTAINER)
    following(lab, engine, "--no-announce")
    assert lab.ping_in() == Ping(sent=1, received=1)
    # The answer that let it in, and nothing before it.
    assert CONTAINER in capture.wait_for("IP6")
    assert capture.lines("> ff02::1") == []


def test_a_conflict_is_in_the_log_once(lab: Lab, neighbor: Namespace, engine: Engine) -> None:
    neighbor.ip(f"address add {CONTAINER}/128 dev eth0")
    program = following(lab, engine)
    engine.run(NETWORK, "first", CONTAINER)
    assert event(program, "conflict") == {
        **event(program, "conflict"),
        "level": "warn",
        "message": WARNING,
        "interface": "eth0",
        "address": CONTAINER,
        "others": 0,
        "mac": NEIGHBORS_MAC,
    }
    engine.run(NETWORK, "other", OTHER)
    event(program, "network", 3)
    daemons = lab.vps.run(sys.executable, "-m", "ndpresponder", "status", "-j").stdout.splitlines()
    told = {daemon["process"]: daemon["interfaces"] for daemon in map(json.loads, daemons)}
    assert [interface["conflicts"] for interface in told[program.process.pid]] == [1]
    assert program.stop() == 0
    assert len(events(program, "conflict")) == 1
