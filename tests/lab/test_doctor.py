"""What the doctor concludes, in each situation that it is made for; and whether what it advises mends it."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any, Literal

import pytest
from fake_engine import Engine
from lab import (
    CONTAINER,
    GUEST_PREFIX,
    INNER_GATEWAY,
    INNER_PREFIX,
    ROUTER_GLOBAL,
    ROUTER_LINK_LOCAL,
    VPS,
    VPS_MAC,
    Lab,
    Ping,
    Program,
    ping,
    wait_until,
)
from namespaces import Namespace
from wire import event

INNER = str(INNER_PREFIX)
LINK_LOCAL_NOTE = " (link-local: ndppd's answers would not pass a provider's filter)"
HEALTHY, CANNOT_RUN, PROBLEM = 0, 1, 3
CHECKS = [
    *("interface", "prefix", "forwarding", "accept-ra", "route-inward", "nonlocal-bind", "assigned", "forward-policy"),
    *("responders", "gateway", "neighbor-table", "capabilities"),
]
NEEDS_IT = [f"ndpresponder -i eth0 -n {INNER}"]

Finding = dict[str, Any]


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def doctor(lab: Lab, *arguments: str, wrapper: tuple[str, ...] = ()) -> Program:
    """Start the doctor on the vps."""
    words = sys.executable, "-m", "ndpresponder", "doctor", "-i", "eth0", *arguments
    return lab.start(lab.vps, *wrapper, *words)


def findings(program: Program) -> tuple[int, dict[str, Finding]]:
    """Wait for its end; return its exit code and its findings by name."""
    ended = program.wait(timeout=30)
    lines = [json.loads(line) for line in program.lines()]
    return ended, {line["check"]: line for line in lines if line["kind"] == "finding"}


def listen(lab: Lab, traffic: Callable[[str], object], *arguments: str) -> tuple[int, dict[str, Finding]]:
    """Let the doctor listen while something happens, that may need the address that it wants to be pinged."""
    program = doctor(lab, "--listen", "60", "-j", *(arguments or ("-n", INNER)))
    traffic(json.loads(program.wait_for('"kind": "listening"', timeout=20))["ping"])
    program.process.send_signal(SIGINT)
    return findings(program)


def examine(lab: Lab, check: str, *arguments: str) -> tuple[int, Finding]:
    """Let the doctor look without listening; return its exit code and what one check found."""
    ended, found = findings(doctor(lab, "--listen", "0", "-j", *(arguments or ("-n", INNER))))
    assert list(found) == CHECKS
    return ended, found[check]


def mend(lab: Lab, finding: Finding) -> None:
    """Do on the vps as the finding says."""
    for command in finding["mend"]:
        lab.vps.run("sh", "-c", command)


def quietly(_: str) -> None:
    """Send nothing, and let the doctor ask."""
    time.sleep(1)


# How the provider brings packets here


@pytest.mark.parametrize(
    ("kind", "asker"), [("link-local", ROUTER_LINK_LOCAL + LINK_LOCAL_NOTE), ("global", ROUTER_GLOBAL)]
)
@pytest.mark.parametrize("named", [True, False])
def test_on_link(kind: Literal["link-local", "global"], asker: str, *, named: bool) -> None:
    pinged = []
    with Lab(kind) as lab:

        def traffic(address: str) -> None:
            pinged.append(address)
            assert ping(lab.internet, address, wait=1) == Ping(sent=1, received=0)

        arguments = ("-n", INNER) if named else ("-i", "eth0")
        ended, found = listen(lab, traffic, *arguments)

    assert ended == PROBLEM
    assert found["delivery"] == {
        "kind": "finding",
        "check": "delivery",
        "level": "fail",
        "conclusion": "on-link",
        "message": f"on-link: the router asks from {asker}, and nothing here answers for {pinged[0]}",
        "mend": NEEDS_IT,
    }
    assert list(found) == ["delivery", "snooping", "conflicts", *CHECKS]
    assert {finding["level"] for check, finding in found.items() if check != "delivery"} == {"pass"}


def test_on_link_and_answered(lab: Lab) -> None:
    lab.ndpresponder()

    ended, found = listen(lab, lambda _: lab.ping_in())

    assert (ended, found["delivery"]["conclusion"]) == (HEALTHY, "answered")
    assert found["delivery"]["message"] == (
        f"on-link: the router asks from {ROUTER_LINK_LOCAL}{LINK_LOCAL_NOTE}, this host answers for {CONTAINER}, "
        "and is heard"
    )
    assert {finding["level"] for finding in found.values()} == {"pass"}


def test_the_address_to_ping_does_for_the_daemon_too(lab: Lab) -> None:
    lab.ndpresponder()

    ended, found = listen(lab, lambda address: ping(lab.internet, address, wait=1))

    assert (ended, found["delivery"]["conclusion"]) == (HEALTHY, "answered")


def test_behind_a_switch_that_snoops_the_address_to_ping_is_heard_of() -> None:
    with Lab(snooping=True) as lab:
        wait_until(lambda: not lab.hears_stray_group(), "the bridge snoops")

        ended, found = listen(lab, lambda address: ping(lab.internet, address, wait=1))

    assert (ended, found["delivery"]["conclusion"]) == (PROBLEM, "on-link")


@pytest.mark.parametrize("with_route", [True, False])
@pytest.mark.parametrize("running", [True, False])
def test_routed(lab: Lab, *, running: bool, with_route: bool) -> None:
    lab.router.ip(f"route add {INNER} via {VPS} dev lan")
    if running:
        lab.ndpresponder()
    if not with_route:
        lab.vps.ip(f"address del {INNER_GATEWAY}/120 dev docker0")

    ended, found = listen(lab, lambda address: ping(lab.internet, address, wait=1))

    message = f"routed: packets for {INNER} come without a question, no responder is needed"
    routed = found["delivery"]
    if with_route:
        assert (ended, routed["level"], routed["message"], routed["mend"]) == (HEALTHY, "pass", message, [])
    else:
        assert (ended, routed["level"], routed["message"]) == (PROBLEM, "fail", f"{message}; a route inward is")
        assert routed["mend"] == [f"ip -6 route replace {INNER} dev docker0"]
    assert routed["conclusion"] == "routed"


def test_a_router_that_asked_before(lab: Lab) -> None:
    lab.ndpresponder()
    assert lab.ping_in() == Ping(sent=1, received=1)

    ended, found = listen(lab, lambda _: lab.ping_in())

    assert (ended, found["delivery"]["level"], found["delivery"]["conclusion"]) == (HEALTHY, "warn", "unclear")


def test_answers_of_ndppd_are_filtered(lab: Lab) -> None:
    lab.ndppd()

    ended, found = listen(lab, lambda _: lab.ping_in(wait=2))

    assert (ended, found["delivery"]["level"], found["delivery"]["conclusion"]) == (PROBLEM, "fail", "filtered")
    assert found["delivery"]["mend"] == NEEDS_IT
    assert found["delivery"]["message"].endswith("for they come from another address than the target's")
    assert lab.dropped("advertisements") > 1


def test_all_answers_are_filtered(lab: Lab) -> None:
    lab.hypervisor.run(
        *["ebtables-nft", "-I", "FORWARD", "-i", "guest", "-p", "IPv6", "--ip6-src"], INNER, "-j", "DROP"
    )
    lab.ndpresponder()

    ended, found = listen(lab, lambda _: lab.ping_in(wait=2))

    assert (ended, found["delivery"]["level"], found["delivery"]["conclusion"]) == (PROBLEM, "fail", "filtered")
    assert found["delivery"]["mend"] == ["ask the provider to let this server use the prefix"]


def test_nothing(lab: Lab) -> None:
    program = doctor(lab, "--listen", "1", "-j", "-n", INNER)
    address = json.loads(program.wait_for('"kind": "listening"'))["ping"]
    ended, found = findings(program)

    assert (ended, found["delivery"]["level"], found["delivery"]["conclusion"]) == (HEALTHY, "warn", "nothing")
    assert found["delivery"]["mend"] == [f"ping -6 {address}  # from elsewhere, while this listens"]


# What else is heard


def test_solicitations_by_unicast_only(lab: Lab) -> None:
    lab.ndpresponder()

    def traffic(_: str) -> None:
        lab.router.ip(f"neighbor replace {CONTAINER} lladdr {VPS_MAC} nud probe dev lan")

    ended, found = listen(lab, traffic)

    assert (ended, found["snooping"]["level"]) == (HEALTHY, "warn")
    assert found["snooping"]["message"].startswith("solicitations: 1 by unicast, none by multicast; ")


@pytest.mark.parametrize("prefix", [CONTAINER, INNER])
def test_another_host_has_the_address(lab: Lab, neighbor: Namespace, prefix: str) -> None:
    neighbor.ip(f"address add {CONTAINER}/64 dev eth0")
    # Of a single address it asks by itself, of others when somebody asked for them.
    traffic = quietly if prefix == CONTAINER else lambda _: ping(lab.internet, CONTAINER, wait=1)

    ended, found = listen(lab, traffic, "-n", prefix)

    assert (ended, found["conflicts"]["level"]) == (PROBLEM, "fail")
    assert found["conflicts"]["message"] == f"somebody else answers for {CONTAINER} (52:54:00:00:00:03)"


def test_the_kernel_knows_of_another_host(lab: Lab) -> None:
    mac = "52:54:00:00:00:77"
    lab.vps.ip(f"neighbor add {CONTAINER} lladdr {mac} nud stale dev eth0")

    ended, found = listen(lab, quietly, "-n", INNER)

    assert (ended, found["conflicts"]["message"]) == (PROBLEM, f"somebody else answers for {CONTAINER} ({mac})")


def test_a_router_that_answers_for_its_guests_is_no_conflict(lab: Lab) -> None:
    lab.router.sysctl("net/ipv6/conf/lan/proxy_ndp", 1)
    lab.router.ip(f"neighbor add proxy {CONTAINER} dev lan")
    heard = lab.capture(lab.vps, "eth0", "icmp6 and ip6[40] == 136")
    # It answers for what is behind another of its interfaces.
    lab.router.ip(f"route add {CONTAINER}/128 dev wan")

    ended, found = listen(lab, quietly, "-n", CONTAINER)

    assert heard.lines(f"tgt is {CONTAINER}") != []
    assert (ended, found["conflicts"]["level"]) == (HEALTHY, "pass")


# What else is read, and what mends it


@pytest.mark.parametrize("ifname", ["eth0", "auto"])
def test_all_is_well(lab: Lab, ifname: str) -> None:
    ended, found = findings(doctor(lab, "--listen", "0", "-j", "-n", INNER, "-i", ifname))

    assert ended == HEALTHY
    assert {check: finding["level"] for check, finding in found.items()} == dict.fromkeys(CHECKS, "pass")


DROPPING_CHAIN = "chain inet lab forward { type filter hook forward priority 0; policy drop; }"


@pytest.mark.parametrize(
    ("check", "level", "broken", "arguments"),
    [
        ("forwarding", "fail", ["sysctl -w net.ipv6.conf.all.forwarding=0"], ()),
        ("accept-ra", "fail", ["ip -6 route del default"], ()),
        ("accept-ra", "warn", ["ip -6 route del default", "ip -6 route add default via fe80::1 dev eth0 proto ra"], ()),
        ("route-inward", "fail", [f"ip address del {INNER_GATEWAY}/120 dev docker0"], ()),
        ("route-inward", "fail", ["ip -6 route add blackhole 2001:db8:1::e000/120"], ("-n", "2001:db8:1::e000/120")),
        (
            "nonlocal-bind",
            "warn",
            ["ip -6 route add local 2001:db8:1::e000/120 dev lo"],
            ("-n", "2001:db8:1::e000/120"),
        ),
        ("assigned", "fail", [f"ip address add {CONTAINER}/128 dev eth0"], ("-n", CONTAINER)),
        (
            "responders",
            "warn",
            ["sysctl -w net.ipv6.conf.eth0.proxy_ndp=1", f"ip neighbor add proxy {CONTAINER} dev eth0"],
            (),
        ),
    ],
)
def test_what_is_broken_and_what_mends_it(
    lab: Lab, check: str, level: str, broken: list[str], arguments: tuple[str, ...]
) -> None:
    for command in broken:
        lab.vps.run(*command.split())

    ended, finding = examine(lab, check, *arguments)
    assert (finding["level"], ended) == (level, PROBLEM if level == "fail" else HEALTHY)
    mend(lab, finding)

    ended, finding = examine(lab, check, *arguments)
    assert (finding["level"], ended) == ("pass", HEALTHY)


def test_a_prefix_that_is_mistyped(lab: Lab) -> None:
    _, finding = examine(lab, "prefix", "-n", "2001:db8:dead::/120")
    assert finding["level"] == "warn"
    assert finding["message"].startswith(
        f"2001:db8:dead::/120 is not inside of {GUEST_PREFIX}, the on-link prefix of eth0"
    )


def test_a_proxy_pool_needs_no_forwarding(lab: Lab) -> None:
    pool = "2001:db8:1::e000/120"
    lab.vps.ip(f"-6 route add local {pool} dev lo")
    lab.vps.sysctl("net/ipv6/ip_nonlocal_bind", 1)
    lab.vps.sysctl("net/ipv6/conf/all/forwarding", 0)

    ended, found = findings(doctor(lab, "--listen", "0", "-j", "-n", pool))

    assert ended == HEALTHY
    assert found["forwarding"]["message"].endswith("nothing has to be forwarded")
    assert found["route-inward"]["message"] == f"{pool} is delivered here"


def test_a_firewall_that_drops(lab: Lab) -> None:
    lab.ndpresponder()
    lab.vps.run("nft", "add table inet lab")
    lab.vps.run("nft", f"add {DROPPING_CHAIN}")
    assert lab.ping_in() == Ping(sent=1, received=0)

    ended, finding = examine(lab, "forward-policy")
    assert (ended, finding["level"]) == (PROBLEM, "fail")
    assert finding["message"] == "the firewall lets nothing pass (inet lab forward)"
    mend(lab, finding)

    assert lab.ping_in() == Ping(sent=1, received=1)
    ended, finding = examine(lab, "forward-policy")
    # Whether the rules are the right ones is for somebody to judge.
    assert (ended, finding["level"]) == (HEALTHY, "warn")
    assert finding["mend"] == ["nft list chain inet lab forward"]
    mend(lab, finding)


def test_a_firewall_that_drops_before_it_forwards(lab: Lab) -> None:
    lab.ndpresponder()
    lab.vps.run("nft", "add table inet lab")
    lab.vps.run("nft", "add chain inet lab early { type filter hook prerouting priority raw; }")
    lab.vps.run("nft", f"add rule inet lab early ip6 daddr {INNER} counter drop")
    assert lab.ping_in() == Ping(sent=1, received=0)

    ended, finding = examine(lab, "forward-policy")
    assert (ended, finding["level"]) == (PROBLEM, "fail")
    assert finding["message"] == f"rules of the firewall drop {INNER} (inet lab early at prerouting)"
    mend(lab, finding)


@pytest.mark.parametrize(
    ("hook", "named"), [("prerouting priority raw", "prerouting"), ("ingress device eth0 priority 0", "ingress")]
)
def test_a_firewall_that_lets_nothing_in(lab: Lab, hook: str, named: str) -> None:
    family = "netdev" if named == "ingress" else "inet"
    lab.ndpresponder()
    lab.vps.run("nft", f"add table {family} lab")
    lab.vps.run("nft", f"add chain {family} lab early {{ type filter hook {hook}; policy drop; }}")
    assert lab.ping_in() == Ping(sent=1, received=0)

    _, finding = examine(lab, "forward-policy")
    assert (finding["level"], f"({family} lab early at {named})" in finding["message"]) in [
        ("fail", True),
        # Of which device it is, nft 1.0.6 does not tell.
        *([("warn", True)] if named == "ingress" else []),
    ]
    if finding["level"] == "fail":
        mend(lab, finding)
        assert lab.ping_in() == Ping(sent=1, received=1)


def test_without_nft_the_firewall_is_unknown(lab: Lab) -> None:
    program = doctor(lab, "--listen", "0", "-j", "-n", INNER, wrapper=("env", "PATH=/nowhere"))
    ended, found = findings(program)

    assert (ended, found["forward-policy"]["level"]) == (HEALTHY, "warn")


@pytest.mark.parametrize(("beside", "level"), [(True, "fail"), (False, "warn")])
def test_ndppd_runs(lab: Lab, *, beside: bool, level: str) -> None:
    ndppd = lab.ndppd()
    if beside:
        lab.ndpresponder()

    ended, finding = examine(lab, "responders")
    assert (ended, finding["level"]) == (PROBLEM if beside else HEALTHY, level)
    assert finding["mend"] == [f"kill {ndppd.process.pid}"]
    mend(lab, finding)
    ndppd.wait()

    assert examine(lab, "responders")[1]["level"] == "pass"


def test_ndpresponder_runs_twice(lab: Lab) -> None:
    first, second = lab.ndpresponder(), lab.ndpresponder()

    ended, finding = examine(lab, "responders")
    assert (ended, finding["message"]) == (PROBLEM, "2 times ndpresponder answers")
    mend(lab, finding)
    assert second.wait() == 0

    ended, finding = examine(lab, "responders")
    assert (ended, finding["message"]) == (HEALTHY, f"ndpresponder (pid {first.process.pid}) and nothing else")


def with_a_file_each(lab: Lab, directory: Path) -> list[Program]:
    """Start two daemons, for eth0 and docker0, whose command lines do not tell which is whose."""
    daemons = []
    for ifname in ("eth0", "docker0"):
        file = directory / f"{ifname}.toml"
        file.write_text(f'[[interface]]\nifname = "{ifname}"\nsubnet = "{INNER}"\n')
        daemons.append(lab.ndpresponder("-c", str(file)))
    return daemons


def test_a_daemon_for_each_interface(lab: Lab, tmp_path: Path) -> None:
    first, second = with_a_file_each(lab, tmp_path)

    for ifname, daemon in (("eth0", first), ("docker0", second)):
        _, finding = examine(lab, "responders", "-i", ifname, "-n", INNER)
        told = finding["level"], finding["message"], finding["mend"]
        assert told == ("pass", f"ndpresponder (pid {daemon.process.pid}) and nothing else", [])


def test_who_may_not_look_into_processes_does_not_know(lab: Lab, tmp_path: Path) -> None:
    daemons = with_a_file_each(lab, tmp_path)

    wrapper = "setpriv", "--bounding-set", "-all", "--inh-caps", "-all"
    program = doctor(lab, "--listen", "0", "-j", "-n", INNER, wrapper=wrapper)
    finding = findings(program)[1]["responders"]

    assert (finding["level"], finding["mend"]) == ("warn", ["look again as root, who can see it"])
    message, _, seen = finding["message"].partition(": ")
    assert message == "whether it answers on eth0 cannot be seen from here"
    # And those of others on this machine.
    assert {f"ndpresponder (pid {daemon.process.pid})" for daemon in daemons} <= set(seen.split(", "))


def test_the_gateway_is_not_resolved() -> None:
    with Lab(gateway_known=False) as lab:
        assert examine(lab, "gateway")[1]["message"] == f"nobody asked for {ROUTER_LINK_LOCAL} yet"
        assert lab.ping_out(wait=1) == Ping(sent=1, received=0)

        ended, finding = examine(lab, "gateway")
        assert (ended, finding["level"]) == (PROBLEM, "fail")
        [command] = finding["mend"]
        assert command.startswith(f"ndpresponder -i eth0 -n {INNER}  #")
        daemon = lab.ndpresponder()
        wait_until(lambda: lab.ping_out(wait=0.5).received == 1, "a reply", 10)
        event(daemon, "gateway")

        ended, finding = examine(lab, "gateway")
        assert (ended, finding["message"]) == (HEALTHY, f"{ROUTER_LINK_LOCAL} is known")


def without(capability: str) -> tuple[str, ...]:
    return "setpriv", "--bounding-set", f"-{capability}", "--inh-caps", f"-{capability}"


@pytest.mark.parametrize(
    ("lost", "own", "level", "ended"),
    [
        ("net_admin", VPS, "pass", HEALTHY),
        ("net_admin", None, "warn", HEALTHY),
        ("net_raw", VPS, "fail", PROBLEM),
    ],
)
def test_without_capabilities(lab: Lab, lost: str, own: str | None, level: str, ended: int) -> None:
    if own is None:
        lab.vps.ip(f"address del {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")
    done, found = findings(doctor(lab, "--listen", "1", "-j", "-n", INNER, wrapper=without(lost)))

    assert (done, found["capabilities"]["level"]) == (ended, level)
    # It looks all the same.
    assert ("delivery" in found, "listening" in found) == (lost != "net_raw", lost == "net_raw")
    assert set(found) >= set(CHECKS)


def test_the_capabilities_of_the_daemon_count(lab: Lab) -> None:
    words = sys.executable, "-m", "ndpresponder", "-i", "eth0", "-n", INNER, "--log-format", "json"
    daemon = lab.start(lab.vps, *without("net_admin"), *words)
    event(daemon, "ready")
    named = f"ndpresponder (pid {daemon.process.pid})"
    assert examine(lab, "capabilities")[1]["message"] == f"{named} has CAP_NET_RAW"

    lab.vps.ip(f"address del {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")
    ended, finding = examine(lab, "capabilities")
    assert (ended, finding["level"]) == (HEALTHY, "warn")
    assert finding["message"].startswith(f"eth0 has no global address, and {named} has no CAP_NET_ADMIN: ")


# Docker networks


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path / "docker.sock") as engine:
        engine.create("web")
        yield engine


def docker_networks(lab: Lab, engine: Engine, *arguments: str) -> Program:
    wrapper = "env", f"DOCKER_HOST={engine.host}"
    return doctor(lab, "--listen", "0", "-j", *arguments, wrapper=wrapper)


def test_a_docker_network_has_the_prefix(lab: Lab, engine: Engine) -> None:
    engine.networks["web"] |= {"IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}, {"Subnet": INNER}]}, "EnableIPv6": True}

    ended, found = findings(docker_networks(lab, engine, "-N", "web"))

    assert (ended, list(found)) == (HEALTHY, [*CHECKS, "docker-ipv6"])
    assert found["docker-ipv6"]["message"] == f"Docker network web has {INNER}"
    assert found["route-inward"]["message"] == f"{INNER} goes to docker0"


@pytest.mark.parametrize(
    ("name", "message"),
    [("web", "Docker network web has no IPv6"), ("mail", "there is no Docker network mail")],
)
def test_a_docker_network_has_no_prefix(lab: Lab, engine: Engine, name: str, message: str) -> None:
    engine.networks["web"]["EnableIPv6"] = False

    ended, found = findings(docker_networks(lab, engine, "-n", INNER, "-N", name))

    assert (ended, found["docker-ipv6"]["level"], found["docker-ipv6"]["message"]) == (PROBLEM, "fail", message)
    assert found["docker-ipv6"]["mend"] != []


def test_docker_does_not_run(lab: Lab, engine: Engine) -> None:
    engine.stop()
    program = docker_networks(lab, engine, "-N", "web")

    assert program.wait() == CANNOT_RUN
    [line] = program.lines()
    assert line.startswith("ndpresponder: Docker networks cannot be looked at: no socket at ")


# The program


def test_for_people(lab: Lab) -> None:
    program = doctor(lab, "--listen", "1", "-n", INNER)
    assert program.wait() == HEALTHY

    first, second, *lines = program.lines()
    assert first == f"listening on eth0 for 1 s, for {INNER}"
    address = second.removeprefix("now, from elsewhere: ping -6 ")
    assert socket.inet_pton(socket.AF_INET6, address) in {each.packed for each in INNER_PREFIX}
    assert lines[:2] == [
        "warn  delivery        nothing came: nobody sent anything, or the provider does not bring it here",
        f"{'':22}> ping -6 {address}  # from elsewhere, while this listens",
    ]
    assert lines[-1] == "pass  capabilities    this process has CAP_NET_RAW"
    assert len(lines) == 1 + len(["delivery", "snooping", "conflicts", *CHECKS])


def test_a_terminal_shows_the_seconds_that_are_left(lab: Lab) -> None:
    words = f"{sys.executable} -m ndpresponder doctor -i eth0 --listen 2 -n {INNER}"
    program = lab.start(lab.vps, "script", "-qec", words, "/dev/null")

    assert program.wait() == HEALTHY
    assert "\r\033[K2 s left (Ctrl-C: enough)\r\033[K1 s left (Ctrl-C: enough)\r\033[K" in program.printed()


@pytest.mark.parametrize(
    ("ifname", "message"),
    [
        ("absent", "absent: no such interface; there are: lo, docker0, eth0"),
        ("lo", "lo is not an Ethernet interface: nobody solicits neighbors there"),
    ],
)
def test_where_it_cannot_look(lab: Lab, ifname: str, message: str) -> None:
    program = doctor(lab, "-n", INNER, "-i", ifname)

    assert program.wait() == CANNOT_RUN
    assert program.lines() == [f"ndpresponder: {message}"]


def test_where_the_interface_is_down(lab: Lab) -> None:
    lab.vps.ip("link set eth0 down")

    ended, found = findings(doctor(lab, "--listen", "1", "-j", "-n", INNER))
    assert (ended, list(found)) == (PROBLEM, ["listening", *CHECKS])
    assert found["listening"]["message"] == "nothing was heard: eth0 is down, or was"
    assert (found["interface"]["level"], found["interface"]["mend"]) == ("fail", ["ip link set eth0 up"])
    mend(lab, found["interface"])
    assert examine(lab, "interface")[1]["level"] == "pass"

    # Its addresses have gone with it.
    lab.vps.ip("link set eth0 down")
    program = doctor(lab)
    assert program.wait() == CANNOT_RUN
    assert program.lines() == ["ndpresponder: eth0 is down: ip link set eth0 up"]


def test_without_a_prefix(lab: Lab) -> None:
    lab.vps.ip(f"address del {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")
    program = doctor(lab)

    assert program.wait() == CANNOT_RUN
    assert program.lines() == ["ndpresponder: eth0 has no on-link prefix: name what to look for with -n"]


def test_it_leaves_nothing_behind(lab: Lab) -> None:
    groups, flags = lab.vps.ip("maddr show dev eth0"), lab.uplink_flags()
    program = doctor(lab, "-n", INNER)
    program.wait_for("ping -6")
    assert lab.vps.ip("maddr show dev eth0") != groups

    program.process.send_signal(SIGKILL)

    assert program.wait() == -SIGKILL
    assert (lab.vps.ip("maddr show dev eth0"), lab.uplink_flags()) == (groups, flags)


def test_many_prefixes_fit_a_small_option_memory(lab: Lab) -> None:
    if lab.vps.run("test", "-e", "/proc/sys/net/core/optmem_max", check=False).returncode:
        pytest.skip("net.core.optmem_max belongs to the namespace since Linux 6.8 only")
    lab.vps.sysctl("net/core/optmem_max", 20480)
    many = ",".join(f"2001:db8:1::{number:x}:1" for number in range(1, 2000))

    ended, found = listen(lab, lambda address: ping(lab.internet, address, wait=1), "-n", many)

    assert (ended, found["delivery"]["conclusion"]) == (PROBLEM, "on-link")
