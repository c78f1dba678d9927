"""What is concluded from what passes on the link."""

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6
from scapy.layers.l2 import Ether
from strategies import entries, frames
from vectors import (
    ADDRESSES,
    GATEWAY,
    OFF_PREFIX_ROUTER,
    OTHER_MAC,
    OUR_MAC,
    OWN,
    ROUTER,
    ROUTER_MAC,
    TARGET,
    advertise,
    probe,
    solicit,
)

from ndpresponder.addresses import AddressSet, Refusal, Rule
from ndpresponder.hearing import About, Conclusion, Heard, conclude

MAC = bytes.fromhex(OUR_MAC.replace(":", ""))
OTHER = "2001:db8::d004"
PINGED = IPv6Address("2001:db8::d0d0")


def packet(target: str = TARGET, *, source_mac: str = ROUTER_MAC) -> bytes:
    return bytes(Ether(src=source_mac, dst=OUR_MAC) / IPv6(src=ROUTER, dst=target) / ICMPv6EchoRequest())


def answer_from(source: str) -> bytes:
    """Answer for TARGET as ndppd does, from an address of this host."""
    return bytes(
        Ether(src=OUR_MAC, dst=ROUTER_MAC)
        / IPv6(src=source, dst=ROUTER, hlim=255)
        / ICMPv6ND_NA(tgt=TARGET, R=1, S=1, O=0)
        / ICMPv6NDOptDstLLAddr(lladdr=OUR_MAC)
    )


def claim(target: str = TARGET, mac: str = OTHER_MAC, *, by: str = OTHER_MAC) -> bytes:
    """Advertise as somebody else does, or another in his place."""
    return bytes(
        Ether(src=by, dst=OUR_MAC)
        / IPv6(src=target, dst=OWN, hlim=255)
        / ICMPv6ND_NA(tgt=target, R=0, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr=mac)
    )


ASKED = bytes(solicit())
CHECKED = bytes(solicit(destination=TARGET))
ASKED_BY_ANOTHER = bytes(solicit(source=OFF_PREFIX_ROUTER, ether_source=OTHER_MAC))


def hear(*heard: bytes) -> Heard:
    ears = Heard(ADDRESSES, MAC)
    for frame in heard:
        ears.take(frame)
    return ears


@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        pytest.param([], Conclusion.NOTHING, id="silence"),
        pytest.param([ASKED], Conclusion.ON_LINK, id="asked"),
        pytest.param([ASKED, ASKED, ASKED], Conclusion.ON_LINK, id="asked-in-vain"),
        pytest.param([CHECKED], Conclusion.ON_LINK, id="asked-by-unicast"),
        pytest.param([ASKED_BY_ANOTHER], Conclusion.ON_LINK, id="asked-off-prefix"),
        pytest.param([ASKED, packet()], Conclusion.ON_LINK, id="packets-though-nobody-answered"),
        pytest.param([ASKED, advertise()], Conclusion.ANSWERED, id="answered"),
        pytest.param([ASKED, advertise(), packet()], Conclusion.ANSWERED, id="answered-and-followed"),
        pytest.param([ASKED, ASKED, advertise(), packet()], Conclusion.ANSWERED, id="answered-late"),
        pytest.param(
            [packet(), CHECKED, advertise(), packet(), CHECKED, advertise()], Conclusion.ANSWERED, id="checked"
        ),
        pytest.param([ASKED, advertise(), ASKED_BY_ANOTHER], Conclusion.ANSWERED, id="two-routers"),
        pytest.param([ASKED, advertise(), ASKED], Conclusion.FILTERED, id="asked-again"),
        pytest.param([ASKED, advertise(), CHECKED], Conclusion.FILTERED, id="asked-again-by-unicast"),
        pytest.param([ASKED, answer_from("fe80::2"), ASKED], Conclusion.FILTERED, id="ndppd-in-vain"),
        pytest.param(
            [ASKED, advertise(), ASKED, bytes(solicit(OTHER)), advertise(OTHER), packet(OTHER)],
            Conclusion.ANSWERED,
            id="lost-once",
        ),
        pytest.param(
            [bytes(solicit(str(PINGED))), advertise(str(PINGED)), packet(str(PINGED))],
            Conclusion.ANSWERED,
            id="pinged-and-answered",
        ),
        pytest.param([bytes(solicit(str(PINGED))), packet(str(PINGED))], Conclusion.ON_LINK, id="pinged-and-asked"),
        pytest.param([packet(str(PINGED))], Conclusion.ROUTED, id="routed"),
        pytest.param([packet(), packet(str(PINGED))], Conclusion.ROUTED, id="routed-too"),
        pytest.param([ASKED_BY_ANOTHER, packet(str(PINGED))], Conclusion.ROUTED, id="routed-though-a-neighbor-asks"),
        pytest.param([packet()], Conclusion.UNCLEAR, id="perhaps-known"),
        # Not what it is about.
        pytest.param([packet(GATEWAY), packet(OWN), packet("2001:db8:9::1")], Conclusion.NOTHING, id="others-packets"),
        pytest.param([bytes(solicit(GATEWAY)), bytes(solicit(OWN))], Conclusion.NOTHING, id="others-solicitations"),
        pytest.param([packet(source_mac=OUR_MAC)], Conclusion.NOTHING, id="own-packets"),
        pytest.param([bytes(solicit(ether_source=OUR_MAC))], Conclusion.NOTHING, id="own-solicitation"),
        pytest.param([bytes(probe())], Conclusion.NOTHING, id="a-host-that-takes-the-address"),
        pytest.param([bytes(solicit(hlim=64))], Conclusion.NOTHING, id="from-afar"),
        pytest.param([advertise(), claim()], Conclusion.NOTHING, id="advertisements-alone"),
    ],
)
def test_conclusions(heard: list[bytes], expected: Conclusion) -> None:
    assert conclude(hear(*heard), PINGED, answering=True) is expected


def test_without_a_responder_any_packet_shows_that_it_is_routed() -> None:
    assert conclude(hear(packet()), PINGED, answering=False) is Conclusion.ROUTED
    assert conclude(hear(packet()), None, answering=True) is Conclusion.UNCLEAR


def test_what_is_counted() -> None:
    heard = hear(ASKED, CHECKED, advertise(), ASKED, answer_from("fe80::2"), packet(), packet(), bytes(probe()))

    router = IPv6Address(ROUTER).packed
    assert heard.about == {
        int(IPv6Address(TARGET)): About(
            multicast=2, unicast=1, answered=2, from_elsewhere=1, again=1, packets=2, told={router}
        )
    }
    assert heard.askers == {IPv6Address(ROUTER): bytes.fromhex(ROUTER_MAC.replace(":", ""))}
    assert heard.claims == {}


def test_claims_of_others() -> None:
    other = bytes.fromhex(OTHER_MAC.replace(":", ""))
    assert hear(claim(), claim(OTHER), claim(GATEWAY)).claims == {
        int(IPv6Address(TARGET)): other,
        int(IPv6Address(OTHER)): other,
    }


def test_a_claim_is_of_the_mac_that_it_names() -> None:
    assert set(hear(claim(by=ROUTER_MAC)).claims.values()) == {bytes.fromhex(OTHER_MAC.replace(":", ""))}


def test_other_protocols_are_packets_too() -> None:
    datagram = bytes(Ether(src=ROUTER_MAC, dst=OUR_MAC) / IPv6(src=ROUTER, dst=TARGET) / UDP(dport=53))
    assert hear(datagram, b"\x00" + datagram[1:12] + b"\x08\x00" + datagram[14:]).those(
        lambda about: about.packets == 1
    ) == [IPv6Address(TARGET)]


def test_a_flood_is_bounded() -> None:
    """A scan of the prefix, by askers with made-up addresses, and somebody who claims all of it."""
    heard = Heard(AddressSet([Rule(IPv6Network("2001:db8::/64"), "static")]), MAC)
    for number in range(1, 1200):
        target = f"2001:db8::{number:x}"
        heard.take(claim(target))
        heard.take(packet(target) if number % 100 else bytes(solicit(target, source=f"fe80::{number:x}")))
    assert (len(heard.about), len(heard.claims), len(heard.askers)) == (1024, 1024, 8)


@given(some=st.lists(frames, max_size=20), some_entries=entries, answering=st.booleans())
def test_any_frames_lead_to_a_conclusion(
    *, some: list[bytes], some_entries: list[Rule | Refusal], answering: bool
) -> None:
    heard = Heard(AddressSet(some_entries), MAC)
    for frame in some:
        heard.take(frame)
    assert isinstance(conclude(heard, PINGED, answering=answering), Conclusion)
    assert all(heard.is_meant(address) for address in (*heard.about, *heard.claims))
    assert sum(about.packets + about.asked + about.answered for about in heard.about.values()) <= len(some)
