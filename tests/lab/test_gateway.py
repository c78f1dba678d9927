"""Whether what lives behind the anti-spoofing rule can reply although the kernel cannot resolve its gateway."""

import json
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv6Address
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from lab import (
    CONTAINER,
    GUEST_PREFIX,
    INNER_PREFIX,
    INTERNET,
    ROUTER_LINK_LOCAL,
    ROUTER_MAC,
    SOLICITATIONS_AND_ADVERTISEMENTS,
    VPS,
    VPS_MAC,
    Lab,
    Ping,
    Program,
    ping,
    set_link_addresses,
    wait_until,
)
from namespaces import Namespace, connect
from wire import SNAPSHOTS, event, events

from ndpresponder.packet import FLAG_OVERRIDE, Advertisement, build

pytestmark = pytest.mark.minutes

OTHER_MAC = "52:54:00:00:00:99"
SECOND_GATEWAY, SECOND_MAC, SECOND_INTERNET = "fe80::3", "52:54:00:00:00:03", "2001:db8:7::1"
FOUND = (
    f"gateway {ROUTER_LINK_LOCAL} on eth0 is at {ROUTER_MAC}: asked for in place of the kernel, which gets no answer"
)
TAKEN_BACK = f"the neighbor entry of {ROUTER_LINK_LOCAL} on eth0 is taken back"
GRANT = (
    "grant it (systemd: AmbientCapabilities=CAP_NET_ADMIN and CapabilityBoundingSet=CAP_NET_ADMIN; "
    "Docker: --cap-add NET_ADMIN)"
)
NO_PERMISSION = (
    "without CAP_NET_ADMIN the gateway's neighbor entry is not written: where the provider drops link-local "
    "solicitations, eth0 needs a global address for replies to leave from behind this host; "
    f"{GRANT}, or say --gateway off"
)
UNHEARD = (
    f"the kernel does not hear gateway {ROUTER_LINK_LOCAL} on eth0, and without CAP_NET_ADMIN cannot be told where it "
    f"is: replies from behind this host do not leave it; {GRANT}"
)
WITHOUT_ADMIN = "setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The lab whose vps cannot resolve its gateway for what it forwards."""
    with Lab(gateway_known=False) as lab:
        yield lab


def without_global_address(lab: Lab) -> None:
    """Leave the uplink with its link-local address: only what is answered for can ask."""
    lab.vps.ip(f"address del {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")


def entry(lab: Lab, address: str = ROUTER_LINK_LOCAL) -> dict[str, Any]:
    """Return the vps' neighbor entry for an address; empty when there is none."""
    entries: list[dict[str, Any]] = json.loads(lab.vps.ip(f"-json -6 neighbor show to {address} dev eth0"))
    return entries[0] if entries else {}


def ours(mac: str = ROUTER_MAC, address: str = ROUTER_LINK_LOCAL) -> dict[str, Any]:
    """Return what `ip` shows of an entry that the keeper has written."""
    return {
        "dst": address,
        "lladdr": mac,
        "router": None,
        "extern_learn": None,
        "state": ["REACHABLE"],
        "protocol": "135",
    }


def without_admin(lab: Lab) -> Program:
    """Start ndpresponder without the permission to write the entry."""
    words = sys.executable, "-m", "ndpresponder", "-i", "eth0", "--log-format", "json", "-n", CONTAINER
    daemon = lab.start(lab.vps, *WITHOUT_ADMIN, *words)
    event(daemon, "ready")
    return daemon


def said(daemon: Program) -> list[str]:
    return [line["message"] for line in events(daemon, "gateway", "gateway-permission")]


def short_lived_entries(lab: Lab) -> None:
    """Have the vps check its gateway every two seconds, as long as nobody pings out.

    In ping's own packets the kernel notes that the path is known to work (MSG_CONFIRM). That note crosses from
    namespace to namespace with the packet, and an entry that has it is not checked.
    """
    lab.vps.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", 1000)
    lab.vps.sysctl("net/ipv6/neigh/eth0/delay_first_probe_time", 1)


def settled(lab: Lab) -> None:
    """Wait until a ping of the container's has come through, which can take a second and a half.

    Several, for the kernel gives a packet up that its gateway's entry has kept waiting for three seconds.
    """
    wait_until(lambda: lab.ping_out(wait=1).received == 1, "the first reply", SNAPSHOTS)


def keeping(lab: Lab, *, global_address: bool = False) -> Program:
    """Start ndpresponder, with or without a global address on the uplink, and wait until it has found the gateway."""
    if not global_address:
        without_global_address(lab)
    daemon = lab.ndpresponder("-n", CONTAINER)
    settled(lab)
    return daemon


# From a cold start


@pytest.mark.parametrize("from_outside", [False, True])
@pytest.mark.parametrize("global_address", [True, False])
def test_from_a_cold_start_nothing_is_lost(lab: Lab, *, global_address: bool, from_outside: bool) -> None:
    if not global_address:
        without_global_address(lab)
    daemon = lab.ndpresponder("-n", CONTAINER)

    pinging = lab.ping_in if from_outside else lab.ping_out
    assert pinging(count=25, interval=0.2) == Ping(sent=25, received=25)

    assert said(daemon) == [FOUND]
    if global_address:
        # The kernel has heard the answer: the entry is its own.
        assert {"lladdr": ROUTER_MAC, "state": ["REACHABLE"]}.items() <= entry(lab).items()
        assert "protocol" not in entry(lab)
    else:
        assert entry(lab) == ours()


def test_off_does_nothing(lab: Lab) -> None:
    capture = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    daemon = lab.ndpresponder("-n", str(INNER_PREFIX), "--gateway", "off")

    assert lab.ping_out(count=20, interval=0.2, wait=1) == Ping(sent=20, received=0)

    assert capture.lines(f"who has {ROUTER_LINK_LOCAL}") == []
    assert "lladdr" not in entry(lab)
    assert said(daemon) == []


def test_where_nothing_is_filtered_the_kernel_is_left_alone() -> None:
    with Lab(gateway_known=False, filtered=False) as lab:
        short_lived_entries(lab)
        capture = lab.capture(lab.vps, "eth0", f"{SOLICITATIONS_AND_ADVERTISEMENTS} and ether src {VPS_MAC}")
        daemon = lab.ndpresponder()
        packet_sockets = lab.vps.run("cat", "/proc/net/packet").stdout

        assert lab.ping_in(count=50, interval=0.2) == Ping(sent=50, received=50)

        assert (entry(lab)["lladdr"], "protocol" in entry(lab)) == (ROUTER_MAC, False)
        assert said(daemon) == []
        # Nobody has asked but the kernel, from its link-local address; and nobody listens for answers.
        questions = capture.lines(f"who has {ROUTER_LINK_LOCAL}")
        assert len(questions) >= 2
        assert [line for line in questions if not line.startswith("IP6 fe80::2 > ")] == []
        assert lab.vps.run("cat", "/proc/net/packet").stdout.count("\n") == packet_sockets.count("\n")


# Over time


@pytest.mark.minutes(3)
def test_three_minutes_lose_nothing() -> None:
    """Short-lived entries on both sides, with each kind of source, five pings a second, in or out.

    In one lab only one of both, for MSG_CONFIRM's sake: pings in let the vps' entry age, pings out the router's. The
    last one leaves the entry to the kernel.
    """
    with ExitStack() as undo:
        labs = [undo.enter_context(Lab(gateway_known=False)) for _ in range(5)]
        for lab in labs:
            lab.vps.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", 5000)
            lab.router.sysctl("net/ipv6/neigh/lan/base_reachable_time_ms", 5000)
        for lab in labs[2:4]:
            without_global_address(lab)
        daemons = [*(lab.ndpresponder("-n", CONTAINER) for lab in labs[:4]), without_admin(labs[4])]
        pings = [pinging for inward, outward in (labs[:2], labs[2:4]) for pinging in (inward.ping_in, outward.ping_out)]
        pings.append(labs[4].ping_in)
        with ThreadPoolExecutor(len(pings)) as threads:
            done = [threads.submit(pinging, count=900, interval=0.2) for pinging in pings]

        assert [each.result() for each in done] == [Ping(sent=900, received=900)] * len(pings)
        assert [said(daemon) for daemon in daemons] == [*[[FOUND]] * 4, [NO_PERMISSION, FOUND]]


@pytest.mark.parametrize("global_address", [True, False])
def test_another_mac_is_followed_within_ten_seconds(lab: Lab, *, global_address: bool) -> None:
    daemon = keeping(lab, global_address=global_address)

    lab.router.ip(f"link set lan address {OTHER_MAC}")
    wait_until(lambda: lab.ping_out(wait=0.2).received == 1, "a reply by way of the other MAC", 10)

    assert said(daemon) == [FOUND, f"gateway {ROUTER_LINK_LOCAL} on eth0 is at {OTHER_MAC} now"]
    assert lab.ping_in(count=5) == Ping(sent=5, received=5)


@pytest.mark.parametrize("global_address", [True, False])
def test_another_mac_of_a_gateway_that_the_kernel_takes_for_reachable(lab: Lab, *, global_address: bool) -> None:
    # As after the host's own traffic, for half a minute at least.
    lab.vps.sysctl("net/ipv6/neigh/eth0/base_reachable_time_ms", 60000)
    lab.vps.ip(f"neighbor replace {ROUTER_LINK_LOCAL} lladdr {ROUTER_MAC} nud reachable dev eth0")
    daemon = keeping(lab, global_address=global_address)
    assert said(daemon) == []

    lab.router.ip(f"link set lan address {OTHER_MAC}")
    wait_until(lambda: lab.ping_out(wait=0.2).received == 1, "a reply by way of the other MAC", 10)

    assert said(daemon) == [f"gateway {ROUTER_LINK_LOCAL} on eth0 is at {OTHER_MAC} now"]
    assert lab.ping_in(count=5) == Ping(sent=5, received=5)


@pytest.mark.parametrize("global_address", [True, False])
def test_an_announced_mac_is_followed_at_once(lab: Lab, *, global_address: bool) -> None:
    lab.router.sysctl("net/ipv6/conf/lan/ndisc_notify", 1)
    daemon = keeping(lab, global_address=global_address)
    # Announcements that come with an answer are taken for a part of it.
    time.sleep(1.1)

    lab.router.ip(f"link set lan address {OTHER_MAC}")
    event(daemon, "gateway", 2, timeout=1.5)

    assert said(daemon) == [FOUND, f"gateway {ROUTER_LINK_LOCAL} on eth0 is at {OTHER_MAC} now"]
    assert lab.ping_out(count=5) == Ping(sent=5, received=5)


def test_a_gateway_that_goes_and_comes_back(lab: Lab) -> None:
    daemon = keeping(lab)
    lab.router.ip("link set lan down")
    event(daemon, "gateway", 2, timeout=16)
    lab.router.ip("link set lan up")
    lab.router.ip(f"address add {ROUTER_LINK_LOCAL}/64 dev lan")
    lab.router.ip(f"route add {GUEST_PREFIX} dev lan")
    event(daemon, "gateway", 3)

    assert said(daemon) == [
        FOUND,
        f"gateway {ROUTER_LINK_LOCAL} on eth0 does not answer",
        f"gateway {ROUTER_LINK_LOCAL} on eth0 answers again, at {ROUTER_MAC}",
    ]
    wait_until(lambda: lab.ping_out(wait=0.2).received == 1, "a reply")


def test_an_entry_that_is_deleted_is_written_again(lab: Lab) -> None:
    keeping(lab)
    for _ in range(3):
        lab.vps.ip("neighbor flush dev eth0")
        wait_until(lambda: entry(lab) == ours(), "the entry", 1.5)


@pytest.mark.parametrize("global_address", [True, False])
def test_after_the_interface_was_down(lab: Lab, *, global_address: bool) -> None:
    if not global_address:
        without_global_address(lab)
    # Addresses and routes go with the interface unless they are told to stay, or brought back.
    lab.vps.sysctl("net/ipv6/conf/eth0/keep_addr_on_down", 1)
    daemon = lab.ndpresponder("-n", CONTAINER)
    for number in range(1, 4):
        settled(lab)
        lab.vps.ip("link set eth0 down")
        lab.vps.ip("link set eth0 up")
        lab.vps.ip(f"route replace default via {ROUTER_LINK_LOCAL} dev eth0")
        event(daemon, "ready", number + 1)

    assert lab.ping_out(count=25, interval=0.2, wait=4) == Ping(sent=25, received=25)
    assert said(daemon) == [FOUND] * 4
    # One socket of each kind, whatever has been before: for solicitations, answers and announcements.
    wait_until(lambda: lab.vps.run("cat", "/proc/net/packet").stdout.count("\n") == 4, "three packet sockets")


# Other gateways


@pytest.fixture
def second_router(lab: Lab) -> Iterator[Namespace]:
    """Another router on the link, with a bit of the internet of its own."""
    with Namespace("second") as router:
        router.sysctl("net/ipv6/conf/default/accept_dad", 0)
        # Or it would solicit routers, and the vps would know it from that.
        router.sysctl("net/ipv6/conf/all/forwarding", 1)
        connect(router, "eth0", lab.hypervisor, "second")
        lab.plug_in("second")
        set_link_addresses(router, "eth0", SECOND_MAC, SECOND_GATEWAY)
        router.ip(f"address add {SECOND_INTERNET}/128 dev lo")
        router.ip(f"route add {GUEST_PREFIX} dev eth0")
        lab.vps.ip(f"route add {SECOND_INTERNET}/128 via {SECOND_GATEWAY} dev eth0")
        yield router


@pytest.mark.usefixtures("second_router")
def test_several_gateways(lab: Lab) -> None:
    without_global_address(lab)
    lab.vps.ip(f"route add default via {SECOND_GATEWAY} dev eth0 metric 2048")
    daemon = lab.ndpresponder("-n", CONTAINER)

    assert lab.ping_out(count=5) == Ping(sent=5, received=5)
    assert ping(lab.container, SECOND_INTERNET, count=5) == Ping(sent=5, received=5)

    assert [entry(lab), entry(lab, SECOND_GATEWAY)] == [ours(), ours(SECOND_MAC, SECOND_GATEWAY)]
    assert daemon.stop() == 0
    assert [entry(lab), entry(lab, SECOND_GATEWAY)] == [{}, {}]


@pytest.mark.usefixtures("second_router")
def test_a_default_route_that_changes(lab: Lab) -> None:
    daemon = keeping(lab)
    assert entry(lab) == ours()

    lab.vps.ip(f"route replace default via {SECOND_GATEWAY} dev eth0")
    event(daemon, "gateway", 2, timeout=SNAPSHOTS)
    assert entry(lab) == {}
    assert ping(lab.container, SECOND_INTERNET, count=5) == Ping(sent=5, received=5)

    assert said(daemon)[:2] == [FOUND, TAKEN_BACK]
    assert entry(lab, SECOND_GATEWAY)["lladdr"] == SECOND_MAC


def test_a_gateway_with_a_global_address(lab: Lab) -> None:
    gateway = "2001:db8:1::1"
    lab.router.ip(f"address add {gateway}/128 dev lan")
    lab.vps.ip(f"route replace default via {gateway} dev eth0")
    lab.ndpresponder("-n", CONTAINER)
    assert lab.ping_out(count=25, interval=0.2) == Ping(sent=25, received=25)
    assert entry(lab, gateway)["state"] == ["REACHABLE"]

    # Now by the keeper's own hand. A route by way of a global address needs one that is on-link.
    lab.vps.ip(f"address del {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")
    lab.vps.ip(f"route add {gateway}/128 dev eth0")
    lab.vps.ip(f"route replace default via {gateway} dev eth0")
    lab.vps.ip("neighbor flush dev eth0")
    assert lab.ping_out(count=25, interval=0.2) == Ping(sent=25, received=25)
    assert entry(lab, gateway) == ours(address=gateway)


# A neighbor that floods


def octets_waiting(daemon: Program) -> int:
    """Return how much is waiting in the packet sockets of the daemon's host."""
    _, *lines = Path(f"/proc/{daemon.process.pid}/net/packet").read_text().splitlines()
    return sum(int(line.split()[6]) for line in lines)


def test_advertisements_are_heard_at_a_pace(lab: Lab) -> None:
    daemon = keeping(lab)
    with lab.router.entered():
        mouth = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with mouth:
        mouth.bind(("lan", 0x86DD))
        vps_mac, router_mac = (bytes.fromhex(mac.replace(":", "")) for mac in (VPS_MAC, ROUTER_MAC))
        router = IPv6Address(ROUTER_LINK_LOCAL).packed
        frame = build(
            Advertisement(vps_mac, router_mac, IPv6Address(VPS).packed, int.from_bytes(router), FLAG_OVERRIDE)
        )
        begun = time.monotonic()
        for _ in range(60):
            mouth.send(frame)
    wait_until(lambda: octets_waiting(daemon) == 0, "all of them read")

    # One each hundredth of a second.
    assert time.monotonic() - begun > 0.5
    assert said(daemon) == [FOUND]


# What belongs to others, and what is left behind


@pytest.mark.parametrize("global_address", [True, False])
def test_what_the_administrator_made_permanent_is_not_touched(lab: Lab, *, global_address: bool) -> None:
    if not global_address:
        without_global_address(lab)
    wrong = "52:54:00:00:00:66"
    lab.vps.ip(f"neighbor add {ROUTER_LINK_LOCAL} lladdr {wrong} nud permanent dev eth0")
    capture = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    daemon = lab.ndpresponder("-n", CONTAINER)

    assert lab.ping_out(count=15, interval=0.2, wait=1) == Ping(sent=15, received=0)
    # Also when it comes in place of one that the keeper looks after.
    lab.vps.ip(f"neighbor del {ROUTER_LINK_LOCAL} dev eth0")
    settled(lab)
    lab.vps.ip(f"neighbor replace {ROUTER_LINK_LOCAL} lladdr {wrong} nud permanent dev eth0")
    permanent = entry(lab)
    fixed = (
        f"the neighbor entry of gateway {ROUTER_LINK_LOCAL} is fixed by hand, at {wrong}: left alone, also when the "
        f"gateway moves; `ip neighbor del {ROUTER_LINK_LOCAL} dev eth0` ends that"
    )
    # A question that was on its way.
    time.sleep(1)
    before = capture.lines(f"who has {ROUTER_LINK_LOCAL}")
    assert lab.ping_out(count=25, interval=0.2, wait=1) == Ping(sent=25, received=0)

    assert entry(lab) == permanent
    assert permanent["state"] == ["PERMANENT"]
    assert said(daemon) == [fixed, FOUND, fixed]
    assert capture.lines(f"who has {ROUTER_LINK_LOCAL}") == before
    assert daemon.stop() == 0
    assert entry(lab) == permanent


def test_at_exit_the_entry_is_taken_back(lab: Lab) -> None:
    daemon = keeping(lab)
    assert entry(lab) == ours()

    assert daemon.stop() == 0

    assert entry(lab) == {}
    assert said(daemon) == [FOUND, TAKEN_BACK]


def crashed(lab: Lab) -> None:
    """Have the keeper write its entry, and kill it."""
    daemon = keeping(lab)
    daemon.process.send_signal(SIGKILL)
    daemon.wait()
    assert entry(lab) == ours()


def test_after_a_crash_the_next_start_follows_the_gateway_and_its_end_takes_the_entry_back(lab: Lab) -> None:
    crashed(lab)
    lab.router.ip(f"link set lan address {OTHER_MAC}")
    daemon = lab.ndpresponder("-n", CONTAINER)

    wait_until(lambda: entry(lab) == ours(OTHER_MAC), "the other MAC", 3)
    assert lab.ping_out(count=5) == Ping(sent=5, received=5)
    assert daemon.stop() == 0
    assert entry(lab) == {}


@pytest.mark.usefixtures("second_router")
def test_after_a_crash_the_entry_of_a_former_gateway_is_taken_back(lab: Lab) -> None:
    crashed(lab)
    lab.vps.ip(f"route replace default via {SECOND_GATEWAY} dev eth0")
    daemon = lab.ndpresponder("-n", CONTAINER)
    event(daemon, "gateway")

    assert entry(lab) == {}
    assert said(daemon) == [TAKEN_BACK]


def test_killed_at_any_moment(lab: Lab) -> None:
    without_global_address(lab)
    lab.start(lab.container, "ping", "-6", "-n", "-q", "-i", "0.1", INTERNET)
    for tenths in (1, 3, 5, 7, 9, 11, 13, 15, 17, 19):
        daemon = lab.ndpresponder("-n", CONTAINER)
        # The moment itself: before its first look, at it, when it asks, after it has written.
        time.sleep(tenths / 10)
        daemon.process.send_signal(SIGKILL)
        daemon.wait()
    daemon = lab.ndpresponder("-n", CONTAINER)
    event(daemon, "gateway")

    assert daemon.stop() == 0
    assert "lladdr" not in entry(lab)
    assert lab.vps.ip("-6 neighbor show protocol 135") == ""


def test_what_a_crash_leaves_the_kernel_outgrows(lab: Lab) -> None:
    """No permanent entry: with nobody to confirm it, the kernel gives it up by itself."""
    short_lived_entries(lab)
    daemon = keeping(lab)
    daemon.process.send_signal(SIGKILL)
    daemon.wait()
    assert entry(lab)["protocol"] == "135"

    assert lab.ping_in(count=60, interval=0.2, wait=1).received < 60
    assert "lladdr" not in entry(lab)


# Without the permission


def test_without_cap_net_admin_the_kernel_hears_what_comes_to_its_own_address(lab: Lab) -> None:
    daemon = without_admin(lab)

    assert lab.ping_out(count=25, interval=0.2) == Ping(sent=25, received=25)
    lab.router.ip(f"link set lan address {OTHER_MAC}")
    wait_until(lambda: lab.ping_out(wait=0.2).received == 1, "a reply by way of the other MAC", 10)
    # From nothing, with nobody to wait for the next look at it.
    lab.vps.ip("neighbor flush dev eth0")
    assert lab.ping_out(count=5) == Ping(sent=5, received=5)

    assert (entry(lab)["lladdr"], "protocol" in entry(lab)) == (OTHER_MAC, False)
    assert said(daemon) == [NO_PERMISSION, FOUND, f"gateway {ROUTER_LINK_LOCAL} on eth0 is at {OTHER_MAC} now"]
    assert daemon.stop() == 0


def test_without_cap_net_admin_and_a_global_address_replies_do_not_leave(lab: Lab) -> None:
    without_global_address(lab)
    daemon = without_admin(lab)

    assert lab.ping_out(count=25, interval=0.2, wait=1).received == 0
    # The router is answered as ever.
    lab.ping_in(count=2, wait=1)
    assert lab.router_neighbor()["lladdr"] == VPS_MAC
    assert "protocol" not in entry(lab)
    assert said(daemon) == [NO_PERMISSION, FOUND, UNHEARD]
    assert daemon.stop() == 0


def test_it_asks_from_elsewhere_when_its_own_address_is_not_let_through(lab: Lab) -> None:
    without_global_address(lab)
    lab.vps.ip("address add 2001:db8:aaaa::2/64 dev eth0")
    daemon = lab.ndpresponder("-n", CONTAINER)

    assert lab.ping_out(count=20, interval=0.2) == Ping(sent=20, received=20)

    assert entry(lab) == ours()
    assert said(daemon) == [FOUND]


def test_it_does_not_ask_from_what_is_anothers() -> None:
    """The other host keeps the way from the router to it."""
    # The rule would drop probes too, and nobody would know of the other host.
    with Lab(filtered=False, gateway_known=False) as lab, Namespace("owner") as owner:
        without_global_address(lab)
        connect(lab.hypervisor, "owner", owner, "eth0")
        lab.plug_in("owner")
        set_link_addresses(owner, "eth0", OTHER_MAC, "fe80::99")
        owner.ip(f"address add {VPS}/{GUEST_PREFIX.prefixlen} dev eth0 nodad")
        owner.ip(f"route add default via {ROUTER_LINK_LOCAL} dev eth0")
        lab.vps.sysctl("net/ipv6/conf/eth0/accept_dad", 1)
        lab.vps.ip(f"address add {VPS}/{GUEST_PREFIX.prefixlen} dev eth0")
        wait_until(lambda: "dadfailed" in lab.vps.ip("address show dev eth0"), "the end of the detection")
        assert ping(lab.internet, VPS).received == 1

        lab.ndpresponder("-n", CONTAINER)
        # Longer than the five seconds until the gateway is asked whether it still is there.
        assert lab.ping_out(count=30, interval=0.25) == Ping(sent=30, received=30)

        assert lab.router_neighbor(VPS)["lladdr"] == OTHER_MAC
        assert ping(lab.internet, VPS).received == 1
