"""The one table of frames: what arrives, and exactly what is sent back or why nothing is.

Frames are built by scapy, which knows nothing of the code under test. The unit tests put each row to answer(),
the filter's tests to the compiled program, the namespace tests to the kernel. docs/conformance.md names the rows
by what they show.
"""

from collections.abc import Iterator
from ipaddress import IPv6Address, IPv6Network
from socket import AF_INET6, inet_pton
from typing import Any, NamedTuple

from scapy.layers.inet import UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    in6_getnsma,
    in6_getnsmac,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from ndpresponder.addresses import AddressSet, Refusal, Rule
from ndpresponder.policy import Override, Policy
from ndpresponder.verdict import Verdict

OUR_MAC = "52:54:00:00:00:01"
ROUTER_MAC = "02:00:00:00:00:fe"
OTHER_MAC = "02:00:00:00:00:aa"
ROUTER = "fe80::fe"
OFF_PREFIX_ROUTER = "2001:db8:ffff::1"

TARGET = "2001:db8::d003"
CONTAINER = "2001:db8:0:1::17"
EXCLUDED = "2001:db8::e001"
INSIDE_EXCLUDED = "2001:db8::e0ff"
OWN = "2001:db8::5"
GATEWAY = "2001:db8::1"
ANYCAST = "2001:db8::"
ADDRESSES = AddressSet(
    [
        Rule(IPv6Network("2001:db8::/112"), "static"),
        Rule(IPv6Network(CONTAINER), "docker", lives_here=True),
        Refusal(IPv6Network("2001:db8::e000/120"), Verdict.EXCLUDED),
        Rule(IPv6Network(INSIDE_EXCLUDED), "static"),
        Refusal(IPv6Network(OWN), Verdict.OWN_ADDRESS),
        Refusal(IPv6Network(GATEWAY), Verdict.GATEWAY),
        # Of the on-link prefix of an uplink; what is configured as a /128 is answered for all the same.
        Refusal(IPv6Network("2001:db8:0:2::"), Verdict.ANYCAST),
        Rule(IPv6Network("2001:db8:0:2::"), "static"),
    ]
)
POLICY = Policy(bytes.fromhex(OUR_MAC.replace(":", "")))


class Row(NamedTuple):
    """One frame, and the whole frame that answers it or the verdict that refuses it."""

    name: str
    frame: bytes
    outcome: bytes | Verdict
    policy: Policy = POLICY


def group_of(target: str) -> str:
    """Return the solicited-node multicast address of an address."""
    return str(IPv6Address(in6_getnsma(inet_pton(AF_INET6, target))))


def solicit(
    target: str = TARGET,
    *,
    source: str = ROUTER,
    destination: str | None = None,
    ether_source: str = ROUTER_MAC,
    options: Packet | None = None,
    **fields: Any,
) -> Packet:
    """Return a solicitation as a router sends it; `fields` go to the IPv6 header."""
    group = group_of(target)
    return (
        Ether(src=ether_source, dst=in6_getnsmac(inet_pton(AF_INET6, group)))
        / IPv6(src=source, dst=destination or group, **{"hlim": 255, **fields})
        / ICMPv6ND_NS(tgt=target)
        / (ICMPv6NDOptSrcLLAddr(lladdr=ether_source) if options is None else options)
    )


def advertise(
    target: str = TARGET,
    *,
    to: str = ROUTER,
    to_mac: str = ROUTER_MAC,
    flags: str = "RS",
) -> bytes:
    """Return the advertisement that is expected, octet for octet."""
    return bytes(
        Ether(src=OUR_MAC, dst=to_mac)
        / IPv6(src=target, dst=to, hlim=255)
        / ICMPv6ND_NA(tgt=target, R="R" in flags, S="S" in flags, O="O" in flags)
        / ICMPv6NDOptDstLLAddr(lladdr=OUR_MAC)
    )


PROBED = advertise(to="ff02::1", to_mac="33:33:00:00:00:01", flags="R")


def probe(target: str = TARGET, **changes: Any) -> Packet:
    """Return a duplicate address detection probe."""
    return solicit(target, **{"source": "::", "options": Raw(b""), **changes})


def _option(kind: int, content: bytes, length: int | None = None) -> Packet:
    units = (len(content) + 2) // 8 if length is None else length
    return Raw(bytes([kind, units]) + content)


def _with(packet: Packet, at: int, octets: bytes) -> bytes:
    """Overwrite octets of a finished frame, whatever its checksum says."""
    frame = bytearray(bytes(packet))
    frame[at : at + len(octets)] = octets
    return bytes(frame)


def _icmp(packet: Packet, **fields: Any) -> Packet:
    """Change fields of the ICMPv6 header, with the checksum that goes with them."""
    for name, value in fields.items():
        setattr(packet[ICMPv6ND_NS], name, value)
    return packet


def _behind(header: Packet) -> Packet:
    whole = solicit()
    return Ether(bytes(whole)[:14]) / IPv6(src=ROUTER, dst=group_of(TARGET), hlim=255) / header / whole[ICMPv6ND_NS]


def _rows() -> Iterator[Row]:  # noqa: PLR0915 - a table
    mac_option = ICMPv6NDOptSrcLLAddr
    group_mac = "33:33:ff:00:d0:03"
    ok = advertise()

    # The answer
    yield Row("multicast solicitation from link-local", bytes(solicit()), ok)
    yield Row(
        "source outside of every prefix",
        bytes(solicit(source=OFF_PREFIX_ROUTER)),
        advertise(to=OFF_PREFIX_ROUTER),
    )
    yield Row("unicast solicitation with option", bytes(solicit(destination=TARGET)), ok)
    yield Row("unicast solicitation without option", bytes(solicit(destination=TARGET, options=Raw(b""))), ok)
    yield Row("multicast solicitation without option", bytes(solicit(options=Raw(b""))), ok)
    yield Row("to all nodes", bytes(solicit(destination="ff02::1")), ok)
    yield Row("to a transient group of link scope", bytes(solicit(destination="ff12::1")), ok)
    yield Row(
        "option names another MAC",
        bytes(solicit(options=mac_option(lladdr=OTHER_MAC))),
        advertise(to_mac=OTHER_MAC),
    )
    yield Row("option names a group MAC", bytes(solicit(options=mac_option(lladdr=group_mac))), ok)
    yield Row("option names no MAC", bytes(solicit(options=mac_option(lladdr="00:00:00:00:00:00"))), ok)
    yield Row("option names our MAC", bytes(solicit(options=mac_option(lladdr=OUR_MAC))), ok)
    yield Row("option of sixteen octets", bytes(solicit(options=_option(1, bytes([2]) + bytes(13)))), ok)
    yield Row(
        "the first of two options counts",
        bytes(solicit(options=mac_option(lladdr=OTHER_MAC) / mac_option(lladdr=ROUTER_MAC))),
        advertise(to_mac=OTHER_MAC),
    )
    nonce = _option(14, b"nonce!")
    yield Row("nonce is not echoed", bytes(solicit(options=mac_option(lladdr=ROUTER_MAC) / nonce)), ok)
    yield Row("unknown option is skipped", bytes(solicit(options=_option(200, b"\xff" * 22))), ok)
    yield Row("target link-layer option is skipped", bytes(solicit(options=_option(2, b"\xff" * 6))), ok)
    yield Row("message as long as the MTU", bytes(solicit(options=_option(200, bytes(1430)))), ok)
    yield Row("hundreds of options", bytes(solicit(options=Raw(_option(200, bytes(6)).load * 179))), ok)
    yield Row("padding is ignored", bytes(solicit()) + b"\xaa" * 46, ok)
    yield Row("reserved bits do not matter", bytes(_icmp(solicit(), res=0xFFFFFFFF)), ok)
    yield Row("traffic class and flow label do not matter", bytes(solicit(tc=0xFF, fl=0xFFFFF)), ok)
    yield Row("single address known to live here", bytes(solicit(CONTAINER)), advertise(CONTAINER, flags="RSO"))
    yield Row(
        "address known to live here, unicast",
        bytes(solicit(CONTAINER, destination=CONTAINER)),
        advertise(CONTAINER, flags="RS"),
    )

    # Policy
    not_router = Policy(POLICY.link_address, router=False)
    always = Policy(POLICY.link_address, override=Override.ALWAYS)
    never = Policy(POLICY.link_address, override=Override.NEVER)
    yield Row("no router flag", bytes(solicit()), advertise(flags="S"), not_router)
    yield Row("override always", bytes(solicit(destination=TARGET)), advertise(flags="RSO"), always)
    yield Row("override never", bytes(solicit(CONTAINER)), advertise(CONTAINER, flags="RS"), never)
    yield Row("override always, but not to a probe", bytes(probe()), PROBED, always)

    # Duplicate address detection
    yield Row("probe", bytes(probe()), PROBED)
    yield Row("probe with a nonce", bytes(probe(options=nonce)), PROBED)
    yield Row("probe to another solicited-node group", bytes(probe(destination="ff02::1:ff00:1")), PROBED)
    yield Row(
        "probe for an address known to live here",
        bytes(probe(CONTAINER)),
        advertise(CONTAINER, to="ff02::1", to_mac="33:33:00:00:00:01", flags="R"),
    )
    yield Row("probe to all nodes", bytes(probe(destination="ff02::1")), Verdict.PROBE_DESTINATION)
    yield Row("unicast probe for a duplicate", bytes(probe(destination=TARGET)), Verdict.PROBE_DESTINATION)
    yield Row(
        "probe with a source link-layer option",
        bytes(probe(options=mac_option(lladdr=ROUTER_MAC))),
        Verdict.PROBE_LINK_ADDRESS,
    )
    yield Row(
        "probe with an odd source link-layer option",
        bytes(probe(options=_option(1, bytes(14)))),
        Verdict.PROBE_LINK_ADDRESS,
    )

    # The frame
    whole = bytes(solicit())
    yield Row("nothing", b"", Verdict.TRUNCATED)
    yield Row("ends in the target", whole[:77], Verdict.TRUNCATED)
    yield Row("ends in the option", whole[:85], Verdict.TRUNCATED)
    yield Row("payload length beyond the frame", _with(solicit(), 18, (40).to_bytes(2, "big")), Verdict.TRUNCATED)
    yield Row("another ethertype", _with(solicit(), 12, b"\x08\x00"), Verdict.NOT_IPV6)
    tagged = Ether(whole[:12] + b"\x81\x00") / Dot1Q(vlan=5, type=0x86DD) / Raw(whole[14:])
    yield Row("tagged frame", bytes(tagged), Verdict.NOT_IPV6)
    yield Row("version 4", _with(solicit(), 14, b"\x40"), Verdict.VERSION)
    yield Row("version 7", _with(solicit(), 14, b"\x70"), Verdict.VERSION)
    yield Row("atomic fragment", bytes(_behind(IPv6ExtHdrFragment())), Verdict.FRAGMENT)
    yield Row("first fragment", bytes(_behind(IPv6ExtHdrFragment(m=1))), Verdict.FRAGMENT)
    yield Row("hop-by-hop header", bytes(_behind(IPv6ExtHdrHopByHop())), Verdict.EXTENSION_HEADER)
    yield Row("destination options header", bytes(_behind(IPv6ExtHdrDestOpt())), Verdict.EXTENSION_HEADER)
    datagram = Ether(whole[:14]) / IPv6(src=ROUTER, dst=TARGET, hlim=255) / UDP() / Raw(bytes(32))
    yield Row("another protocol", bytes(datagram), Verdict.NOT_ICMPV6)

    # The message
    yield Row("hop limit 254", bytes(solicit(hlim=254)), Verdict.HOP_LIMIT)
    yield Row("hop limit 0", bytes(solicit(hlim=0)), Verdict.HOP_LIMIT)
    yield Row("advertisement", advertise(), Verdict.NOT_SOLICITATION)
    echo = Ether(whole[:14]) / IPv6(src=ROUTER, dst=TARGET, hlim=255) / ICMPv6EchoRequest(data=bytes(24))
    yield Row("echo request", bytes(echo), Verdict.NOT_SOLICITATION)
    router = Ether(whole[:14]) / IPv6(src=ROUTER, dst="ff02::2", hlim=255) / ICMPv6ND_RS() / Raw(bytes(24))
    yield Row("router solicitation", bytes(router), Verdict.NOT_SOLICITATION)
    yield Row("code 1", bytes(_icmp(solicit(), code=1)), Verdict.CODE)
    yield Row("payload of 23 octets", _with(solicit(), 18, (23).to_bytes(2, "big")), Verdict.LENGTH)
    yield Row("payload of 0 octets", _with(solicit(), 18, bytes(2)), Verdict.LENGTH)
    yield Row("payload without the last option", _with(solicit(), 18, (24).to_bytes(2, "big")), Verdict.CHECKSUM)
    yield Row("wrong checksum", _with(solicit(), 56, b"\x00\x00"), Verdict.CHECKSUM)
    yield Row("one bit of the target flipped", _with(solicit(), 77, b"\x02"), Verdict.CHECKSUM)
    yield Row("option of length 0", bytes(solicit(options=_option(1, bytes(6), 0))), Verdict.OPTIONS)
    yield Row("option beyond the message", bytes(solicit(options=_option(1, bytes(6), 2))), Verdict.OPTIONS)
    yield Row(
        "length 0 behind a good option",
        bytes(solicit(options=mac_option(lladdr=ROUTER_MAC) / _option(14, bytes(6), 0))),
        Verdict.OPTIONS,
    )
    yield Row("leftover octets", bytes(solicit(options=Raw(bytes(4)))), Verdict.OPTIONS)
    yield Row("an odd number of leftover octets", bytes(solicit(options=Raw(bytes(7)))), Verdict.OPTIONS)

    # Addresses
    for name, address in (
        ("multicast", "ff02::1"),
        ("unspecified", "::"),
        ("loopback", "::1"),
        ("IPv4-mapped", "::ffff:192.0.2.1"),
    ):
        yield Row(f"{name} target", bytes(solicit(address, destination="ff02::1")), Verdict.TARGET)
    yield Row("multicast source", bytes(solicit(source="ff02::1")), Verdict.SOURCE)
    yield Row("loopback source", bytes(solicit(source="::1")), Verdict.SOURCE)
    yield Row("the target as source", bytes(solicit(source=TARGET)), Verdict.SOURCE)
    for name, address in (
        ("another unicast address", "2001:db8::d004"),
        ("interface-local scope", "ff01::1"),
        ("reserved scope", "ff00::1"),
        ("site scope", "ff05::1"),
        ("unspecified address", "::"),
        ("loopback address", "::1"),
    ):
        yield Row(f"to {name}", bytes(solicit(destination=address)), Verdict.DESTINATION)

    # The link
    own = solicit(ether_source=OUR_MAC)
    yield Row("our own MAC as source", bytes(own), Verdict.OWN_FRAME)
    yield Row("group MAC as source", bytes(solicit(ether_source=group_mac)), Verdict.GROUP_MAC)

    # The target
    yield Row("link-local target", bytes(solicit("fe80::d003")), Verdict.LINK_LOCAL)
    yield Row("outside of every prefix", bytes(solicit("2001:db8::1:0")), Verdict.NOT_CONFIGURED)
    yield Row("the address before the prefix", bytes(solicit("2001:db7" + ":ffff" * 6)), Verdict.NOT_CONFIGURED)
    yield Row("last address of the prefix", bytes(solicit("2001:db8::ffff")), advertise("2001:db8::ffff"))
    yield Row("excluded", bytes(solicit(EXCLUDED)), Verdict.EXCLUDED)
    yield Row("longer match inside of an exclusion", bytes(solicit(INSIDE_EXCLUDED)), advertise(INSIDE_EXCLUDED))
    yield Row("subnet-router anycast address", bytes(solicit(ANYCAST)), Verdict.ANYCAST)
    yield Row(
        "subnet-router anycast address configured as a /128",
        bytes(solicit("2001:db8:0:2::")),
        advertise("2001:db8:0:2::"),
    )
    yield Row("the gateway's address", bytes(solicit(GATEWAY)), Verdict.GATEWAY)
    yield Row("the uplink's own address", bytes(solicit(OWN)), Verdict.OWN_ADDRESS)


ROWS = tuple(_rows())
