"""A bridge that snoops on MLD keeps multicast solicitations from the guest, unless it is told otherwise."""

import socket
from collections.abc import Iterator
from contextlib import closing
from signal import SIGKILL

import pytest
from lab import ALLMULTI, CONTAINER, INNER_PREFIX, QUERIES, STRAY, VPS_LINK_LOCAL, Lab, Ping, wait_until
from wire import SNAPSHOTS

from ndpresponder.multicast import Memberships

SMALL = str(INNER_PREFIX)
WIDE = "2001:db8:1::/112"
REACHED, NOT_REACHED = Ping(sent=1, received=1), Ping(sent=1, received=0)
TO_SNOOPERS = "ip6 dst ff02::6a"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(snooping=True) as lab:
        # At first a bridge floods: everybody has to have the time to answer its first query.
        wait_until(lambda: not lab.hears_stray_group(), "the bridge snoops")
        yield lab


def reach(lab: Lab) -> Ping:
    """Ping the container by way of a router that has forgotten it: all of its three solicitations are multicast."""
    lab.forget()
    return lab.ping_in(wait=3)


def await_queries(lab: Lab) -> None:
    """Wait for three query intervals to pass, longer than the bridge remembers what is not reported again."""
    queries = lab.capture(lab.vps, "eth0", QUERIES)
    wait_until(lambda: len(queries.lines("query v2")) > 3, "four queries", timeout=20)


def groups(lab: Lab) -> str:
    """Return the groups that the vps is a member of on its uplink, with how often, and their Ethernet addresses."""
    return lab.vps.ip("maddr show dev eth0")


@pytest.mark.parametrize(
    ("prefix", "mode"),
    [(SMALL, "auto"), (CONTAINER, "auto"), (CONTAINER, "join"), (SMALL, "mrd"), (WIDE, "mrd")],
)
def test_the_container_is_reached_and_stays_so(lab: Lab, prefix: str, mode: str) -> None:
    to_snoopers = lab.capture(lab.hypervisor, "guest", TO_SNOOPERS)
    lab.ndpresponder("-n", prefix, "--multicast", mode)
    if mode == "mrd":
        to_snoopers.wait_for("ICMP6", timeout=SNAPSHOTS)

    assert reach(lab) == REACHED
    await_queries(lab)
    assert reach(lab) == REACHED
    assert bool(to_snoopers.lines("ICMP6")) == (mode == "mrd")


@pytest.mark.parametrize(("prefix", "mode"), [(SMALL, "allmulti"), (CONTAINER, "allmulti"), (WIDE, "auto")])
def test_what_is_not_reported_is_not_heard(lab: Lab, prefix: str, mode: str) -> None:
    daemon = lab.ndpresponder("-n", prefix, "--multicast", mode)

    assert reach(lab) == NOT_REACHED

    daemon.stop()
    assert daemon.lines('"message": "stopped: answered 0"')


def test_joining_a_wide_prefix_if_told_to(lab: Lab) -> None:
    # At 4,096 groups a bridge gives up snooping (mcast_hash_max).
    lab.ndpresponder("-n", "2001:db8:1::d000/117", "--multicast-groups", "2048")

    assert reach(lab) == REACHED
    assert not lab.hears_stray_group()


def test_groups_of_a_set_that_changes(lab: Lab) -> None:
    with lab.vps.entered():
        memberships = Memberships(socket.if_nametoindex("eth0"))
        with closing(memberships):
            for _ in range(2):
                memberships.follow(frozenset({STRAY, 0xD003}))
                wait_until(lab.hears_stray_group, "the group arrives")
                memberships.follow(frozenset({0xD003}))
                wait_until(lambda: not lab.hears_stray_group(), "the group does not arrive any more")


def test_a_bridge_without_snooping_floods() -> None:
    with Lab() as lab:
        assert lab.hears_stray_group()


def test_join_alone_leaves_the_interface_as_it_was(lab: Lab) -> None:
    before = lab.uplink_flags()
    lab.ndpresponder("-n", CONTAINER, "--multicast", "join")

    assert not before & ALLMULTI
    assert lab.uplink_flags() == before


@pytest.mark.parametrize(("prefix", "mode"), [(SMALL, "auto"), (WIDE, "mrd")])
def test_after_the_uplink_was_deleted_and_created_again(lab: Lab, prefix: str, mode: str) -> None:
    to_snoopers = lab.capture(lab.hypervisor, "br0", TO_SNOOPERS)
    daemon = lab.ndpresponder("-n", prefix, "--multicast", mode)
    if mode == "mrd":
        to_snoopers.wait_for("ICMP6", timeout=SNAPSHOTS)
    lab.vps.ip("link delete eth0")
    daemon.wait_for('"event": "waiting"', "No such device")
    before = len(to_snoopers.lines("ICMP6"))
    lab.lay_uplink()
    wait_until(lambda: daemon.lines('"event": "ready"')[1:] != [], "answering again")
    if mode == "mrd":
        wait_until(lambda: len(to_snoopers.lines("ICMP6")) > before, "an advertisement")

    assert reach(lab) == REACHED
    await_queries(lab)
    assert reach(lab) == REACHED


def test_no_group_stays_behind(lab: Lab) -> None:
    before = groups(lab)
    daemon = lab.ndpresponder()
    joined = groups(lab)
    # Each as an IPv6 and as an Ethernet group. The prefix' anycast address is not answered for.
    assert len(joined.splitlines()) - len(before.splitlines()) == 2 * 255
    assert "inet6 ff02::1:ff00:d003" in joined

    daemon.process.kill()
    assert daemon.wait() == -SIGKILL
    assert groups(lab) == before

    daemon = lab.ndpresponder()
    assert groups(lab) == joined
    assert daemon.stop() == 0
    assert groups(lab) == before


def test_what_a_multicast_router_says(lab: Lab) -> None:
    to_snoopers = lab.capture(lab.hypervisor, "guest", TO_SNOOPERS)
    daemon = lab.ndpresponder("-n", WIDE, "--multicast", "mrd")
    header = f"IP6 {VPS_LINK_LOCAL} > ff02::6a: HBH ICMP6"
    to_snoopers.wait_for(header, timeout=SNAPSHOTS)
    assert daemon.stop() == 0
    to_snoopers.wait_for(header, "type (153)")
    assert to_snoopers.lines("IP6") == [
        f"{header}, unknown icmp6 type (151), length 8",
        f"{header}, unknown icmp6 type (153), length 4",
    ]
