"""The parser takes anything, and scapy reads back what the builder writes."""

from ipaddress import IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6MRD_Advertisement,
    ICMPv6MRD_Termination,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrHopByHop,
    RouterAlert,
)
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw
from strategies import any_address, entries, frames
from vectors import ADDRESSES, POLICY

from ndpresponder.addresses import AddressSet, Refusal, Rule
from ndpresponder.packet import (
    FLAG_OVERRIDE,
    FLAG_ROUTER,
    FLAG_SOLICITED,
    Advertised,
    Advertisement,
    Solicitation,
    build,
    build_multicast_router_advertisement,
    build_multicast_router_termination,
    parse,
    read_advertisement,
    solicit,
)
from ndpresponder.responder import answer
from ndpresponder.verdict import Verdict

macs = st.binary(min_size=6, max_size=6)
unicast_macs = macs.map(lambda mac: bytes([mac[0] & 0xFE]) + mac[1:])
unicast = st.integers(0x2000 << 112, (0x4000 << 112) - 1)


def colons(mac: bytes) -> str:
    return mac.hex(":")


@given(frames, entries)
def test_any_frame_gives_a_frame_or_a_verdict(frame: bytes, some_entries: list[Rule | Refusal]) -> None:
    reply = answer(frame, AddressSet(some_entries), POLICY)
    if isinstance(reply, tuple):
        octets, rule = reply
        assert type(octets) is bytes
        assert len(octets) == 86
        assert rule in some_entries
    else:
        assert isinstance(reply, Verdict)


@given(frames)
def test_reading_is_repeatable(frame: bytes) -> None:
    assert parse(frame) == parse(frame)


@given(ether_source=macs, source=unicast, target=unicast, link_address=st.none() | macs, padding=st.binary(max_size=40))
def test_what_scapy_writes_is_read(
    ether_source: bytes, source: int, target: int, link_address: bytes | None, padding: bytes
) -> None:
    group = IPv6Address((0xFF02 << 112) | (0x1FF << 24) | (target & 0xFFFFFF))
    packet = (
        Ether(src=colons(ether_source), dst="33:33:ff:00:00:00")
        / IPv6(src=str(IPv6Address(source)), dst=str(group), hlim=255)
        / ICMPv6ND_NS(tgt=str(IPv6Address(target)))
    )
    if link_address is not None:
        packet /= ICMPv6NDOptSrcLLAddr(lladdr=colons(link_address))
    expected = Solicitation(ether_source, source.to_bytes(16, "big"), group.packed, target, link_address)
    assert parse(bytes(packet) + padding) == (Verdict.SOURCE if source == target else expected)


@given(
    to_mac=macs,
    mac=macs,
    to=any_address,
    target=any_address,
    flags=st.sets(st.sampled_from([FLAG_ROUTER, FLAG_SOLICITED, FLAG_OVERRIDE])).map(sum),
)
@example(to_mac=bytes(6), mac=bytes(6), to=0, target=0, flags=0)
# The sum of all words is a multiple of 65535: the checksum is 0, not 65535 (RFC 1071).
@example(to_mac=bytes(6), mac=bytes(6), to=0xFFFF - 0x8D43 + 0x2A, target=0, flags=0)
def test_scapy_reads_what_is_built(to_mac: bytes, mac: bytes, to: int, target: int, flags: int) -> None:
    frame = build(Advertisement(to_mac, mac, to.to_bytes(16, "big"), target, flags))
    expected = (
        Ether(dst=colons(to_mac), src=colons(mac))
        / IPv6(src=str(IPv6Address(target)), dst=str(IPv6Address(to)), hlim=255)
        / ICMPv6ND_NA(tgt=str(IPv6Address(target)), R=bool(flags & 0x80), S=bool(flags & 0x40), O=bool(flags & 0x20))
        / ICMPv6NDOptDstLLAddr(lladdr=colons(mac))
    )
    assert frame == bytes(expected)
    read = Ether(frame)
    assert (read.dst, read.src, read.type) == (colons(to_mac), colons(mac), 0x86DD)
    header = read[IPv6]
    assert (header.version, header.tc, header.fl, header.plen, header.nh, header.hlim) == (6, 0, 0, 32, 58, 255)
    assert IPv6Address(header.src) == IPv6Address(target)
    assert IPv6Address(header.dst) == IPv6Address(to)
    message = header[ICMPv6ND_NA]
    assert (message.type, message.code, message.res) == (136, 0, 0)
    assert flags == message.R << 7 | message.S << 6 | message.O << 5
    assert IPv6Address(message.tgt) == IPv6Address(target)
    option = message[ICMPv6NDOptDstLLAddr]
    assert (option.type, option.len, option.lladdr) == (2, 1, colons(mac))
    assert not option.payload


@given(st.integers(0, 0xFFFF), unicast_macs)
def test_an_answer_is_no_solicitation(last: int, mac: bytes) -> None:
    """What is sent is never answered in turn, by this program or another of its kind."""
    target = (0x20010DB8 << 96) | last
    frame = build(Advertisement(mac, mac, bytes(16), target, FLAG_SOLICITED))
    assert answer(frame, ADDRESSES, POLICY) is Verdict.NOT_SOLICITATION


@given(mac=macs, source=any_address, interval=st.integers(4, 180))
# The checksum is 0, not 65535 (RFC 1071).
@example(mac=bytes(6), source=-(0xFF02 + 0x6A + 8 + 58 + 0x9714) % 0xFFFF, interval=20)
def test_scapy_builds_the_same_for_multicast_routers(mac: bytes, source: int, interval: int) -> None:
    headers = (
        Ether(dst="33:33:00:00:00:6a", src=colons(mac))
        / IPv6(src=str(IPv6Address(source)), dst="ff02::6a", hlim=1)
        / IPv6ExtHdrHopByHop(options=[RouterAlert(value=0)])
    )
    octets = source.to_bytes(16, "big")

    assert build_multicast_router_advertisement(mac, octets, interval) == bytes(
        headers / ICMPv6MRD_Advertisement(advinter=interval, queryint=0, robustness=0)
    )
    assert build_multicast_router_termination(mac, octets) == bytes(headers / ICMPv6MRD_Termination())


# The other way round, toward the gateway


@given(mac=unicast_macs, source=unicast, target=unicast, to_mac=st.none() | unicast_macs)
def test_scapy_reads_what_is_asked(mac: bytes, source: int, target: int, to_mac: bytes | None) -> None:
    group = (0xFF02 << 112) | (0x1FF << 24) | (target & 0xFFFFFF)
    frame = solicit(mac, source.to_bytes(16), target.to_bytes(16), to_mac)
    expected = (
        Ether(src=colons(mac), dst=colons(to_mac or bytes.fromhex("3333ff") + target.to_bytes(16)[13:]))
        / IPv6(src=str(IPv6Address(source)), dst=str(IPv6Address(target if to_mac else group)), hlim=255)
        / ICMPv6ND_NS(tgt=str(IPv6Address(target)))
        / ICMPv6NDOptSrcLLAddr(lladdr=colons(mac))
    )
    assert frame == bytes(expected)
    destination = (target if to_mac else group).to_bytes(16)
    asked = Solicitation(mac, source.to_bytes(16), destination, target, mac)
    assert parse(frame) == (Verdict.SOURCE if source == target else asked)


def advertised(target: str = "fe80::1", to: str = "2001:db8::5", flags: int = 0x60, **fields: int) -> Packet:
    """Return a gateway's advertisement without options."""
    return (
        Ether(src="52:54:00:00:00:09", dst="52:54:00:00:00:01")
        / IPv6(src=target, dst=to, hlim=fields.get("hlim", 255))
        / ICMPv6ND_NA(
            tgt=target,
            R=flags >> 7,
            S=flags >> 6 & 1,
            O=flags >> 5 & 1,
            code=fields.get("code", 0),
            res=fields.get("res", 0),
        )
    )


@given(
    target=unicast,
    flags=st.integers(0, 7).map(lambda bits: bits << 5),
    mac=st.none() | unicast_macs,
    reserved=st.integers(0, 2**29 - 1),
    padding=st.binary(max_size=40),
)
def test_what_scapy_advertises_is_read(
    target: int, flags: int, mac: bytes | None, reserved: int, padding: bytes
) -> None:
    packet = advertised(str(IPv6Address(target)), flags=flags, res=reserved)
    if mac is not None:
        # An unknown option goes before.
        packet = packet / Raw(b"\xfd\x01abcdef") / ICMPv6NDOptDstLLAddr(lladdr=colons(mac))
    usable = mac if mac and any(mac) else None
    assert read_advertisement(bytes(packet) + padding) == Advertised(target.to_bytes(16), flags, usable)


@given(frames)
def test_any_frame_gives_an_advertisement_or_none(frame: bytes) -> None:
    read = read_advertisement(frame)
    assert read is None or isinstance(read, Advertised)
    if read:
        assert frame[54] == 136


@given(st.binary(max_size=120), st.integers(0, 100))
def test_any_options_give_an_advertisement_or_none(options: bytes, cut: int) -> None:
    frame = bytes(advertised() / Raw(options))
    assert read_advertisement(frame[: max(0, len(frame) - cut)]) is None or cut == 0


WITH_MAC = ICMPv6NDOptDstLLAddr(lladdr="52:54:00:00:00:09")


@pytest.mark.parametrize(
    ("packet", "rule"),
    [
        (advertised(hlim=254) / WITH_MAC, "hop-limit"),
        (advertised(code=1) / WITH_MAC, "code"),
        (advertised(to="ff02::1") / WITH_MAC, "solicited-by-multicast"),
        (advertised("ff02::5") / WITH_MAC, "multicast-target"),
        (advertised() / Raw(b"\x02\x00\x00\x00\x00\x00\x00\x00"), "option-of-length-0"),
        (advertised() / Raw(b"\x02\x02\x00\x00\x00\x00\x00\x00"), "option-beyond-the-end"),
        (advertised() / Raw(b"\x02\x01\x00"), "leftover-octets"),
        (Ether() / IPv6(hlim=255, nh=0) / Raw(bytes(60)), "extension-header"),
        (Ether(type=0x0800) / Raw(bytes(advertised())[14:]), "ethertype"),
    ],
)
def test_an_advertisement_that_is_none(packet: Packet, rule: str) -> None:
    assert read_advertisement(bytes(advertised() / WITH_MAC)) is not None
    assert read_advertisement(bytes(packet)) is None, rule


@given(st.integers(14, 85), st.integers(0, 7))
def test_a_bit_that_has_changed_is_noticed(at: int, bit: int) -> None:
    frame = bytearray(bytes(advertised() / WITH_MAC))
    frame[at] ^= 1 << bit
    # Traffic class and flow label are covered by no checksum.
    assert (read_advertisement(bytes(frame)) is not None) == (14 <= at < 18 and (at, bit >> 2) != (14, 1))


@pytest.mark.parametrize("link_address", ["33:33:00:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"])
def test_a_mac_that_nobody_has(link_address: str) -> None:
    read = read_advertisement(bytes(advertised() / ICMPv6NDOptDstLLAddr(lladdr=link_address)))
    assert read == Advertised(IPv6Address("fe80::1").packed, 0x60, None)
