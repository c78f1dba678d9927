"""The neighbor table of a kernel router that ndpresponder answers, at once and over minutes of unicast probes."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from lab import (
    CONTAINER,
    ROUTER_GLOBAL,
    ROUTER_LINK_LOCAL,
    SOLICITATIONS_AND_ADVERTISEMENTS,
    VPS_MAC,
    Lab,
    Ping,
    Program,
    wait_until,
)


def test_the_entry_becomes_reachable(lab: Lab) -> None:
    lab.ndpresponder()

    assert lab.ping_in() == Ping(sent=1, received=1)

    # "router" is there without a value: the R flag of the advertisement.
    assert lab.router_neighbor() == {"dst": CONTAINER, "lladdr": VPS_MAC, "router": None, "state": ["REACHABLE"]}


@pytest.mark.minutes(2)
def test_two_minutes_of_unicast_probes_lose_nothing() -> None:
    """A router of each kind probes about every two seconds, while ten pings a second pass each of them."""
    with Lab("link-local") as from_link_local, Lab("global") as from_global:
        conversations = [watch_probes(lab) for lab in (from_link_local, from_global)]

        # The container pings. In ping's own packets the kernel notes that the path is known to work (MSG_CONFIRM), and
        # since that note crosses from namespace to namespace with the packet, the router would never probe.
        with ThreadPoolExecutor() as threads:
            pings = [threads.submit(lab.ping_out, count=1200, interval=0.1) for lab in (from_link_local, from_global)]

        assert [ping.result() for ping in pings] == [Ping(sent=1200, received=1200)] * 2
        for conversation, router in zip(conversations, (ROUTER_LINK_LOCAL, ROUTER_GLOBAL), strict=True):
            assert_only_probes(conversation, router)


def watch_probes(lab: Lab) -> Program:
    """Have the router probe often, start the responder, and return a capture of what they say."""
    # RFC 4861 section 6.3.2: an entry is stale after 0.5 to 1.5 times this; it is probed a second after its next use.
    lab.router.sysctl("net/ipv6/neigh/lan/base_reachable_time_ms", 1000)
    lab.router.sysctl("net/ipv6/neigh/lan/delay_first_probe_time", 1)
    lab.ndpresponder()
    return lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)


def assert_only_probes(capture: Program, router: str) -> None:
    """Check that after one multicast question the router asked by unicast only, and was answered each time."""
    question = f"IP6 {router} > ff02::1:ff00:d003: ICMP6, neighbor solicitation, who has {CONTAINER}, length 32"
    probe = f"IP6 {router} > {CONTAINER}: ICMP6, neighbor solicitation, who has {CONTAINER}, length 32"
    answer = f"IP6 {CONTAINER} > {router}: ICMP6, neighbor advertisement, tgt is {CONTAINER}, length 32"
    # When the pings end, a last probe may be due or on its way. What is wrong otherwise, the comparison shows.
    with suppress(TimeoutError):
        wait_until(lambda: len(capture.lines("IP6", CONTAINER)) % 2 == 0, "the last answer")
    conversation = capture.lines("IP6", CONTAINER)
    probes = conversation.count(probe)
    assert conversation == [question, answer, *[probe, answer] * probes]
    assert probes >= 40
