"""Whether the internet reaches a container behind the anti-spoofing rule: by itself, with ndppd, with ndpresponder."""

from collections.abc import Iterator
from typing import Literal

import pytest
from lab import (
    CONTAINER,
    ROUTER_GLOBAL,
    ROUTER_LINK_LOCAL,
    SOLICITATIONS_AND_ADVERTISEMENTS,
    VPS,
    VPS_LINK_LOCAL,
    Lab,
    Ping,
    wait_until,
)

SOLICITS_FROM = {"link-local": ROUTER_LINK_LOCAL, "global": ROUTER_GLOBAL}


@pytest.fixture(params=SOLICITS_FROM)
def solicits_from(request: pytest.FixtureRequest) -> Literal["link-local", "global"]:
    kind: Literal["link-local", "global"] = request.param
    return kind


@pytest.fixture
def lab(solicits_from: Literal["link-local", "global"]) -> Iterator[Lab]:
    with Lab(solicits_from) as lab:
        yield lab


@pytest.fixture
def router_address(solicits_from: str) -> str:
    return SOLICITS_FROM[solicits_from]


def solicitation(router_address: str) -> str:
    return f"IP6 {router_address} > ff02::1:ff00:d003: ICMP6, neighbor solicitation, who has {CONTAINER}, length 32"


def advertisement(source: str, destination: str) -> str:
    return f"IP6 {source} > {destination}: ICMP6, neighbor advertisement, tgt is {CONTAINER}, length 32"


def test_without_a_responder_the_router_solicits_in_vain(lab: Lab, router_address: str) -> None:
    capture = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)

    assert lab.ping_in(wait=1) == Ping(sent=1, received=0)

    # RFC 4861 section 10: MAX_MULTICAST_SOLICIT is 3, RETRANS_TIMER is a second.
    wait_until(lambda: lab.router_neighbor().get("state") == ["FAILED"], "the router gives up")
    assert capture.lines("IP6") == [solicitation(router_address)] * 3


def test_with_ndpresponder_the_internet_reaches_the_container(lab: Lab, router_address: str) -> None:
    capture = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    lab.ndpresponder()

    assert lab.ping_in(count=3) == Ping(sent=3, received=3)

    assert capture.lines(CONTAINER) == [solicitation(router_address), advertisement(CONTAINER, router_address)]
    assert lab.dropped("advertisements") == 0


def test_with_ndpresponder_the_container_reaches_the_internet(lab: Lab) -> None:
    lab.ndpresponder()

    assert lab.ping_out(count=3) == Ping(sent=3, received=3)


@pytest.mark.parametrize("solicits_from", ["link-local"])
def test_with_ndppd_the_hypervisor_drops_each_advertisement(lab: Lab, router_address: str) -> None:
    at_the_guests_port = lab.capture(lab.hypervisor, "guest", SOLICITATIONS_AND_ADVERTISEMENTS)
    at_the_router = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    lab.ndppd()

    assert lab.ping_in(wait=1) == Ping(sent=1, received=0)

    wait_until(lambda: lab.router_neighbor().get("state") == ["FAILED"], "the router gives up")
    question = solicitation(router_address)
    assert at_the_guests_port.lines(CONTAINER) == [question, advertisement(VPS_LINK_LOCAL, router_address)] * 3
    assert at_the_router.lines(CONTAINER) == [question] * 3
    assert lab.dropped("advertisements") == 3


@pytest.mark.parametrize("solicits_from", ["global"])
def test_with_ndppd_a_router_with_a_global_address_is_answered_from_one(lab: Lab, router_address: str) -> None:
    # The kernel chooses the source of ndppd's answer by the scope of the destination, so this one passes.
    capture = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
    lab.ndppd()

    assert lab.ping_in(count=3) == Ping(sent=3, received=3)

    assert capture.lines(CONTAINER) == [solicitation(router_address), advertisement(VPS, router_address)]


def test_the_vps_own_solicitations_for_its_gateway_are_dropped() -> None:
    with Lab(gateway_known=False) as lab:
        at_the_guests_port = lab.capture(lab.hypervisor, "guest", SOLICITATIONS_AND_ADVERTISEMENTS)
        at_the_router = lab.capture(lab.router, "lan", SOLICITATIONS_AND_ADVERTISEMENTS)
        dropped_before = lab.dropped()

        assert lab.ping_out(wait=1) == Ping(sent=1, received=0)

        question = f"IP6 {VPS_LINK_LOCAL} > ff02::1:ff00:1: ICMP6, neighbor solicitation, who has {ROUTER_LINK_LOCAL}"
        at_the_guests_port.wait_for(question)
        assert at_the_router.lines("IP6") == []
        # At least: MLD reports are dropped too.
        wait_until(lambda: lab.dropped() - dropped_before >= len(at_the_guests_port.lines(question)), "all dropped")
