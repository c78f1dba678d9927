"""The guides, followed to the letter in the lab whose kernel cannot resolve its gateway, and what comes of it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import AF_INET6

import pytest
from guides import Follower
from lab import (
    ALLMULTI,
    CONTAINER,
    INNER_GATEWAY,
    INTERNET,
    QUERIES,
    ROUTER_LINK_LOCAL,
    ROUTER_MAC,
    SOLICITATIONS_AND_ADVERTISEMENTS,
    VPS,
    VPS_MAC,
    Lab,
    Ping,
    ping,
    wait_until,
)
from namespaces import Namespace, connect

TUNNEL_CLIENT, UNDERLAY_ROUTER = "2001:db8:fffe::2", "2001:db8:fffe::1"
TUNNELED = "2001:db8:1::e001"
ONE, NONE = Ping(sent=1, received=1), Ping(sent=1, received=0)


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(gateway_known=False) as lab:
        yield lab


class TellClient(BaseHTTPRequestHandler):
    """Tells who asks from which address."""

    def do_GET(self) -> None:
        answer = f"{self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class WebServer(HTTPServer):
    """A web server of IPv6."""

    address_family = AF_INET6
    request_queue_size = 128


@contextmanager
def web_server(host: Namespace) -> Iterator[None]:
    """Serve on port 80 of a host, telling each client its address."""
    with host.entered():
        server = WebServer(("::", 80), TellClient)
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


# proxy-pool.md


def test_a_proxy_pool(lab: Lab, tmp_path: Path) -> None:
    # It says that forwarding is not needed.
    lab.vps.sysctl("net/ipv6/conf/all/forwarding", 0)
    guide = Follower("proxy-pool", lab, tmp_path)
    with web_server(lab.internet):
        guide.follow("The addresses")
        guide.follow("The answers")
        first, *others = guide.follow("Try it").split()

    assert first == "2001:db8:1::a123"
    assert len(others) == len(set(others)) == 100
    assert all(address.startswith("2001:db8:1::a") for address in others)
    assert "answers for  2001:db8:1::a000/118\n" in guide.follow("To keep it")
    guide.finish()


def curl(lab: Lab) -> int:
    """Ask the web server from an address of the pool, as the guide does, and return the exit status."""
    words = "curl", "-sS", "--max-time", "2", "--interface", "2001:db8:1::a123", f"http://[{INTERNET}]/"
    return lab.vps.run(*words, check=False).returncode


def test_a_proxy_pool_needs_each_of_its_parts(lab: Lab, tmp_path: Path) -> None:
    guide = Follower("proxy-pool", lab, tmp_path)
    with web_server(lab.internet):
        guide.follow("The addresses")
        unanswered = curl(lab)
        guide.follow("The answers")
        wait_until(lambda: curl(lab) == 0, "the pool works", timeout=15)
        lab.vps.ip("-6 route del local 2001:db8:1::a000/118 dev lo")
        not_delivered = curl(lab)
        lab.vps.sysctl("net/ipv6/ip_nonlocal_bind", 0)
        not_bound = curl(lab)

    # curl(1): 28 is a timeout, 45 an interface that cannot be used.
    assert (unanswered, not_delivered, not_bound) == (28, 28, 45)


def test_the_unit_of_the_proxy_pool_does_what_the_guide_does(lab: Lab, tmp_path: Path) -> None:
    guide = Follower("proxy-pool", lab, tmp_path)
    unit = dict(line.split("=", 1) for line in guide.read("proxy-pool.service").splitlines() if "=" in line)
    guide.follow("The addresses")
    routes = lab.vps.ip("-6 route show table local")
    assert "local 2001:db8:1::a000/118 dev lo" in routes

    lab.vps.run(*unit["ExecStop"].split())
    assert lab.vps.ip("-6 route show table local") != routes
    lab.vps.run(*unit["ExecStart"].split())
    assert lab.vps.ip("-6 route show table local") == routes


# tunnel-broker.md


@pytest.fixture
def client(lab: Lab) -> Iterator[Namespace]:
    """A host elsewhere on the internet that reaches the vps, and nothing else."""
    with Namespace("client") as host:
        host.sysctl("net/ipv6/conf/default/accept_dad", 0)
        connect(host, "eth0", lab.router, "elsewhere")
        lab.router.ip(f"address add {UNDERLAY_ROUTER}/64 dev elsewhere")
        host.ip(f"address add {TUNNEL_CLIENT}/64 dev eth0")
        host.ip(f"route add {VPS} via {UNDERLAY_ROUTER}")
        yield host


def test_ones_own_tunnel_broker(lab: Lab, client: Namespace, tmp_path: Path) -> None:
    guide = Follower("tunnel-broker", lab, tmp_path, client=client)
    guide.follow("The tunnel")
    guide.follow("The routes")
    assert ping(lab.internet, TUNNELED, wait=1) == NONE
    lab.forget()
    guide.follow("The answers")

    printed = guide.follow("Try it")
    assert printed.count("3 packets transmitted, 3 received") == 2
    assert "answers for  2001:db8:1::e000/120\n" in guide.follow("To keep it")
    guide.finish()

    # While the tunnel is down, nobody is asked for what is at its end.
    uplink = lab.capture(lab.vps, "eth0", SOLICITATIONS_AND_ADVERTISEMENTS)
    lab.vps.ip("link del tunnel")
    assert ping(lab.internet, TUNNELED, wait=1) == NONE
    assert uplink.lines("> ff02::", f"who has {TUNNELED}") == []


# hardening.md

PERIODS = "net/ipv6/neigh/{}/base_reachable_time_ms", "net/ipv6/neigh/{}/delay_first_probe_time"


def short_lived_entries(lab: Lab) -> None:
    """Have everybody check his neighbors a few times a second: several neighbor cache periods within a short test."""
    for host, interface in ((lab.router, "lan"), (lab.vps, "eth0"), (lab.vps, "docker0"), (lab.container, "eth0")):
        for key, value in zip(PERIODS, (300, 0), strict=True):
            host.sysctl(key.format(interface), value)


def neighbor_discovery(rule: str) -> bool:
    """Whether a line of the ruleset is about neighbor discovery or group membership."""
    return "icmpv6 type { nd-" in rule or "icmpv6 type { mld-" in rule


def load(lab: Lab, ruleset: str, path: Path) -> None:
    """Load a ruleset on the vps, and have everybody forget his neighbors."""
    path.write_text(ruleset)
    lab.vps.run("nft", "-f", path)
    for host, interface in ((lab.router, "lan"), (lab.vps, "eth0"), (lab.vps, "docker0"), (lab.container, "eth0")):
        host.ip(f"neighbor flush dev {interface}")


def test_a_drop_policy(lab: Lab, tmp_path: Path) -> None:
    short_lived_entries(lab)
    guide = Follower("hardening", lab, tmp_path)
    guide.follow("A firewall with a drop policy")
    uplink = lab.capture(lab.vps, "eth0", SOLICITATIONS_AND_ADVERTISEMENTS)
    bridge = lab.capture(lab.vps, "docker0", SOLICITATIONS_AND_ADVERTISEMENTS)

    # Each way by itself: what a ping passes is not checked for while it does (see test_gateway.py), its echo's way is.
    assert lab.ping_out(wait=4) == ONE
    assert lab.ping_in(count=25) == Ping(25, 25)
    assert lab.ping_out(count=25) == Ping(25, 25)
    assert ping(lab.internet, VPS, count=5) == Ping(5, 5)
    assert ping(lab.vps, INTERNET, count=5) == Ping(5, 5)

    # The router and the vps check the container, the container checks its gateway: several periods each.
    probe = f"> {CONTAINER}: ICMP6, neighbor solicitation, who has {CONTAINER}"
    assert len(uplink.lines(f"IP6 {ROUTER_LINK_LOCAL} {probe}")) >= 3
    assert len(bridge.lines(probe)) >= 3
    assert len(bridge.lines(f"> {INNER_GATEWAY}: ICMP6, neighbor solicitation, who has {INNER_GATEWAY}")) >= 3


def test_the_same_without_neighbor_discovery_breaks(lab: Lab, tmp_path: Path) -> None:
    guide = Follower("hardening", lab, tmp_path)
    guide.follow("A firewall with a drop policy")
    ruleset = guide.read("firewall.nft")
    assert lab.ping_out(wait=4) == lab.ping_in() == ping(lab.internet, VPS) == ONE

    lines = ruleset.splitlines(keepends=True)
    without = "".join(line for line in lines if not neighbor_discovery(line))
    assert without.count("\n") == len(lines) - 2
    load(lab, without, tmp_path / "without.nft")
    assert lab.ping_in(wait=1) == ping(lab.internet, VPS, wait=1) == NONE

    load(lab, ruleset, tmp_path / "again.nft")
    assert lab.ping_out(wait=4) == lab.ping_in() == ping(lab.internet, VPS) == ONE


@pytest.mark.minutes
def test_behind_a_snooping_bridge_a_drop_policy_lets_reports_out_and_queries_in(tmp_path: Path) -> None:
    with Lab(snooping=True) as lab:
        wait_until(lambda: not lab.hears_stray_group(), "the bridge snoops")
        guide = Follower("hardening", lab, tmp_path)
        guide.follow("A firewall with a drop policy")
        uplink = lab.capture(lab.vps, "eth0", QUERIES)
        wait_until(lambda: len(uplink.lines("query v2")) > 3, "longer than the bridge remembers what is not reported")
        lab.forget()
        assert lab.ping_in() == ONE

        mute = guide.read("firewall.nft").replace(", mld2-listener-report", "")
        load(lab, mute, tmp_path / "mute.nft")
        answered = len(uplink.lines("query v2"))
        wait_until(lambda: len(uplink.lines("query v2")) > answered + 3, "the bridge forgets")
        assert lab.ping_in(wait=1) == NONE


@pytest.mark.parametrize(
    ("hook", "what", "reached"),
    [
        ("netdev t { chain c { type filter hook ingress device eth0", "nd-neighbor-solicit", NONE),
        ("netdev t { chain c { type filter hook egress device eth0", "nd-neighbor-advert", NONE),
        ("inet t { chain c { type filter hook prerouting", "nd-neighbor-solicit", ONE),
        ("inet t { chain c { type filter hook output", "nd-neighbor-advert", ONE),
    ],
)
def test_which_rules_are_before_the_packet_socket(lab: Lab, hook: str, what: str, reached: Ping) -> None:
    lab.ndpresponder()
    assert lab.ping_out(wait=4) == ONE
    lab.vps.run("nft", f"table {hook} priority -300; icmpv6 type {what} drop; }}; }}")
    lab.forget()

    assert lab.ping_in(wait=1) == reached


def test_the_unreachable_route_ends_what_is_not_in_use(lab: Lab, tmp_path: Path) -> None:
    unused = "2001:db8:1::d123"
    lab.ndpresponder("-n", "2001:db8:1::d000/116")
    assert lab.ping_out(wait=4) == ONE
    uplink = lab.capture(lab.vps, "eth0", f"ether src {VPS_MAC} and icmp6 and ip6[40] == 135")
    assert ping(lab.internet, unused, wait=1) == NONE
    uplink.wait_for(f"> ff02::1:ff00:d123: ICMP6, neighbor solicitation, who has {unused}")

    guide = Follower("hardening", lab, tmp_path)
    guide.follow("How narrow a prefix should be")
    # The kernel goes on to ask for what it has begun to.
    lab.vps.ip("neighbor flush dev eth0 nud all")
    ended = lab.capture(lab.vps, "eth0", f"ether src {VPS_MAC} and icmp6 and ip6[40] == 135")
    assert ping(lab.internet, "2001:db8:1::d124", wait=1) == NONE
    assert lab.ping_in() == ping(lab.internet, VPS) == ONE
    assert ended.lines("who has 2001:db8:1::d1") == []

    assert int(guide.follow("Neighbor table limits")) > 0


# from-ndppd.md


def test_moving_from_ndppd(lab: Lab, tmp_path: Path) -> None:
    lab.vps.ip(f"-6 neighbor add proxy {CONTAINER} dev eth0")
    lab.vps.sysctl("net/ipv6/conf/eth0/proxy_ndp", 1)
    guide = Follower("from-ndppd", lab, tmp_path)
    ndppd = lab.start(lab.vps, "ndppd", "-c", str(tmp_path / "ndppd.conf"))
    wait_until(lambda: bool(lab.uplink_flags() & ALLMULTI), "ndppd listens")
    assert lab.ping_in(wait=1) == NONE

    checked = guide.follow("What becomes of the configuration")
    assert "answers for  2001:db8:1::d000/120\n" in checked
    lab.forget()
    assert lab.ping_in(wait=4) == ONE
    assert ndppd.stop() == 0

    assert f"{CONTAINER} dev eth0 proxy" in guide.follow("Switching over")
    guide.finish()
    assert lab.vps.ip("-6 neighbor show proxy") == ""
    answers = lab.capture(lab.vps, "eth0", f"ether src {VPS_MAC} and icmp6 and ip6[40] == 136")
    lab.forget()
    assert lab.ping_in() == ONE
    assert answers.wait_for(f"tgt is {CONTAINER}").startswith(f"IP6 {CONTAINER} > {ROUTER_LINK_LOCAL}: ")
    assert len(answers.lines("IP6")) == 1


# from-go.md


def test_moving_from_the_go_program(lab: Lab, tmp_path: Path) -> None:
    # What the Go program leaves behind.
    lab.vps.ip(f"-6 neighbor replace {ROUTER_LINK_LOCAL} lladdr {ROUTER_MAC} nud noarp router dev eth0")
    guide = Follower("from-go", lab, tmp_path)
    guide.follow("The command line")
    other_mac = "52:54:00:00:00:99"
    lab.router.ip(f"link set lan address {other_mac}")
    assert lab.ping_in(wait=1) == NONE

    assert f"{ROUTER_LINK_LOCAL} lladdr {ROUTER_MAC} router NOARP" in guide.follow("The gateway's entry")
    guide.finish()

    assert lab.ping_in(wait=4) == ONE
    assert other_mac in lab.vps.ip(f"-6 neighbor show to {ROUTER_LINK_LOCAL} dev eth0")
