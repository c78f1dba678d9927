"""Bytes to messages and back: Neighbor Solicitations are parsed, Neighbor Advertisements are built.

So are the two messages by which a multicast router shows itself to switches.
Toward the gateway it is the other way round: solicit() asks, and read_advertisement() reads the answer.

The rules that hold here:
- No I/O, and no opinion on whether a valid solicitation deserves an answer: that is `decide`.
- parse() takes any bytes whatever and never raises: it returns a message or a Verdict; read_advertisement() likewise,
  a message or None.
- Addresses are integers where they are compared (targets) and bytes where they are only copied.
"""

from struct import Struct
from typing import NamedTuple

from .verdict import Verdict

ETHERTYPE_IPV6 = 0x86DD
NEXT_HEADER_ICMPV6 = 58
NEIGHBOR_SOLICITATION = 135
NEIGHBOR_ADVERTISEMENT = 136
MULTICAST_ROUTER_ADVERTISEMENT = 151
MULTICAST_ROUTER_TERMINATION = 153
OPTION_SOURCE_LINK_ADDRESS = 1
OPTION_TARGET_LINK_ADDRESS = 2
HOP_LIMIT = 255

FLAG_ROUTER = 0x80
FLAG_SOLICITED = 0x40
FLAG_OVERRIDE = 0x20

UNSPECIFIED = bytes(16)
LOOPBACK = bytes(15) + b"\x01"
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
ALL_NODES_MAC = bytes.fromhex("333300000001")
ALL_SNOOPERS = bytes.fromhex("ff02000000000000000000000000006a")
ALL_SNOOPERS_MAC = bytes.fromhex("33330000006a")
SOLICITED_NODE_PREFIX = bytes.fromhex("ff0200000000000000000001ff")
_GROUP_MAC_PREFIX = bytes.fromhex("3333")

# Ethernet: destination, source, type. IPv6 (RFC 8200 section 3): version to flow label, payload length, next
# header, hop limit, source, destination. ICMPv6 (RFC 4861 section 4.3): type, code, checksum, reserved, target.
_SOLICITATION = Struct("!6x6sHIHBB16s16sBB6x16s")
_OPTIONS = _SOLICITATION.size
_SOURCE = 22  # the pseudo-header's addresses, then the message, are one run of octets from here
_MESSAGE = 54
_FLAGS = 58
_SHORTEST_PAYLOAD = 24

# The same layers around RFC 4861 section 4.4: type, code, checksum, flags and reserved, target; then one option
# of section 4.6.1: type, length in units of 8 octets, link-layer address. A solicitation (section 4.3) has no flags.
_ADVERTISEMENT = Struct("!6s6sHIHBB16s16sBBHB3x16sBB6s")
_ADVERTISEMENT_PAYLOAD = _ADVERTISEMENT.size - _MESSAGE

# Ethernet and IPv6 as above, then a hop-by-hop header (RFC 8200 section 4.3) of 8 octets, then ICMPv6: type, code,
# checksum. More can follow.
_TO_SNOOPERS = Struct("!6s6sHIHBB16s16s8sBBH")
# ICMPv6 is next, no more octets than 8; router alert (RFC 2711) of value 0: multicast listener discovery; PadN.
_ROUTER_ALERT = bytes((NEXT_HEADER_ICMPV6, 0, 5, 2, 0, 0, 1, 0))

_integer = int.from_bytes  # big-endian, as all of this is
# A named tuple's own constructor is written in Python: a thirtieth of all that an answer costs.
_new = tuple.__new__

_IPV6_FIRST_WORD = 6 << 28
# Of the advertisement's checksum everything that never changes: the pseudo-header's length and next header
# (RFC 8200 section 8.1), the type, and the option's first two octets.
_CONSTANT_SUM = (
    _ADVERTISEMENT_PAYLOAD + NEXT_HEADER_ICMPV6 + (NEIGHBOR_ADVERTISEMENT << 8) + (OPTION_TARGET_LINK_ADDRESS << 8) + 1
)

# RFC 8200 section 4, RFC 4302, RFC 4303, RFC 6275, RFC 7401, RFC 5533.
_REFUSED_NEXT_HEADERS = {44: Verdict.FRAGMENT} | dict.fromkeys(
    (0, 43, 50, 51, 60, 135, 139, 140), Verdict.EXTENSION_HEADER
)


class Solicitation(NamedTuple):
    """A valid Neighbor Solicitation (RFC 4861 section 4.3).

    `ether_source` is 6 octets; `source` and `destination` are 16; `target` is a 128-bit integer.
    `link_address` is the content of the first source link-layer address option: 6 octets on a sane
    Ethernet, any other length from a hostile neighbor, None without the option.
    """

    ether_source: bytes
    source: bytes
    destination: bytes
    target: int
    link_address: bytes | None


def parse(frame: bytes) -> Solicitation | Verdict:
    """Read an untagged Ethernet frame as a Neighbor Solicitation, or say why it is none.

    Sources: RFC 4861 section 7.1.1, RFC 6980 section 5, RFC 4862 section 5.4. What follows the stated payload
    is Ethernet padding and ignored; reserved bits, traffic class and flow label do not matter.
    """
    if len(frame) < _OPTIONS:
        return Verdict.TRUNCATED
    (
        ether_source,
        ethertype,
        first_word,
        length,
        next_header,
        hop_limit,
        source,
        destination,
        icmp_type,
        code,
        target_octets,
    ) = _SOLICITATION.unpack_from(frame)
    if ethertype != ETHERTYPE_IPV6:
        return Verdict.NOT_IPV6
    if first_word >> 28 != 6:
        return Verdict.VERSION
    if next_header != NEXT_HEADER_ICMPV6:
        return _REFUSED_NEXT_HEADERS.get(next_header, Verdict.NOT_ICMPV6)
    if hop_limit != HOP_LIMIT:
        return Verdict.HOP_LIMIT
    if icmp_type != NEIGHBOR_SOLICITATION:
        return Verdict.NOT_SOLICITATION
    if code != 0:
        return Verdict.CODE
    if length < _SHORTEST_PAYLOAD:
        return Verdict.LENGTH
    end = _MESSAGE + length
    if end > len(frame):
        return Verdict.TRUNCATED
    if length % 8:
        return Verdict.OPTIONS
    # 2**16 is 1 modulo 65535: the ones-complement sum of 16-bit words (RFC 1071) is one remainder.
    if (_integer(frame[_SOURCE:end]) + length + NEXT_HEADER_ICMPV6) % 0xFFFF:
        return Verdict.CHECKSUM

    link_address = None
    at = _OPTIONS
    while at < end:
        option_end = at + 8 * frame[at + 1]
        if option_end == at or option_end > end:
            return Verdict.OPTIONS
        if frame[at] == OPTION_SOURCE_LINK_ADDRESS and link_address is None:
            link_address = frame[at + 2 : option_end]
        at = option_end

    target = _integer(target_octets)
    # ff00::/8, and of ::/80 the unspecified address, loopback and ::ffff:0:0/96 (RFC 4291 section 2.5.5.2).
    if target_octets[0] == 0xFF or target <= 1 or target >> 32 == 0xFFFF:
        return Verdict.TARGET
    if source == UNSPECIFIED:
        if destination[:13] != SOLICITED_NODE_PREFIX:
            return Verdict.PROBE_DESTINATION
        if link_address is not None:
            return Verdict.PROBE_LINK_ADDRESS
    else:
        if source[0] == 0xFF or source in (LOOPBACK, target_octets):
            return Verdict.SOURCE
        # RFC 4291 section 2.7: ff, four flags, four bits of scope; 2 is the link.
        if destination != target_octets and (destination[0] != 0xFF or destination[1] & 0x0F != 2):
            return Verdict.DESTINATION
    return _new(Solicitation, (ether_source, source, destination, target, link_address))


class Advertisement(NamedTuple):
    """A Neighbor Advertisement (RFC 4861 section 4.4) that comes from the very address it is about.

    `ether_destination` and `ether_source` are 6 octets, `destination` is 16, `target` is a 128-bit integer.
    `flags` is a sum of FLAG_ROUTER, FLAG_SOLICITED and FLAG_OVERRIDE.
    """

    ether_destination: bytes
    ether_source: bytes
    destination: bytes
    target: int
    flags: int


def build(advertisement: Advertisement) -> bytes:
    """Return the 86 octets of an Ethernet frame with the advertisement.

    Its IPv6 source is the target: a provider's anti-spoofing filter lets that pass, where the host's
    link-local address is dropped. The one option is the target link-layer address, `ether_source`.
    """
    ether_destination, ether_source, destination, target, flags = advertisement
    target_octets = target.to_bytes(16)
    # The target counts twice, as IPv6 source and in the message. Each field stands at an even offset, so that
    # its value modulo 65535 is its sum.
    checksum = -(2 * target + _integer(destination) + _integer(ether_source) + (flags << 8) + _CONSTANT_SUM) % 0xFFFF
    return _ADVERTISEMENT.pack(
        ether_destination,
        ether_source,
        ETHERTYPE_IPV6,
        _IPV6_FIRST_WORD,
        _ADVERTISEMENT_PAYLOAD,
        NEXT_HEADER_ICMPV6,
        HOP_LIMIT,
        target_octets,
        destination,
        NEIGHBOR_ADVERTISEMENT,
        0,
        checksum,
        flags,
        target_octets,
        OPTION_TARGET_LINK_ADDRESS,
        1,
        ether_source,
    )


def build_multicast_router_advertisement(ether_source: bytes, source: bytes, interval: int) -> bytes:
    """Return a frame that tells switches to forward all multicast here (RFC 4286 section 3.2).

    `source` is a link-local address, 16 octets; `interval`, in seconds, says when the next such frame comes.
    """
    # Query interval and robustness variable are 0: nobody here queries for listeners.
    return _to_snoopers(ether_source, source, MULTICAST_ROUTER_ADVERTISEMENT, interval, bytes(4))


def build_multicast_router_termination(ether_source: bytes, source: bytes) -> bytes:
    """Return a frame that takes the advertisement back (RFC 4286 section 5)."""
    return _to_snoopers(ether_source, source, MULTICAST_ROUTER_TERMINATION, 0, b"")


def _to_snoopers(ether_source: bytes, source: bytes, message_type: int, code: int, rest: bytes) -> bytes:
    length = 4 + len(rest)
    checksum = -(_integer(source + ALL_SNOOPERS + rest) + length + NEXT_HEADER_ICMPV6 + (message_type << 8) + code)
    header = _TO_SNOOPERS.pack(
        ALL_SNOOPERS_MAC,
        ether_source,
        ETHERTYPE_IPV6,
        _IPV6_FIRST_WORD,
        len(_ROUTER_ALERT) + length,
        0,
        1,
        source,
        ALL_SNOOPERS,
        _ROUTER_ALERT,
        message_type,
        code,
        checksum % 0xFFFF,
    )
    return header + rest


def solicit(ether_source: bytes, source: bytes, target: bytes, ether_destination: bytes | None = None) -> bytes:
    """Return the 86 octets of an Ethernet frame that asks who has `target`, with a source link-layer address option.

    It goes to `ether_destination` and to the target itself, as a probe whether that neighbor is still there (RFC 4861
    section 7.3.3); without, to the target's solicited-node group (section 7.2.2).
    """
    destination = target
    if ether_destination is None:
        destination = SOLICITED_NODE_PREFIX + target[13:]
        # RFC 2464 section 7.
        ether_destination = _GROUP_MAC_PREFIX + destination[12:]
    frame = _ADVERTISEMENT.pack(
        ether_destination,
        ether_source,
        ETHERTYPE_IPV6,
        _IPV6_FIRST_WORD,
        _ADVERTISEMENT_PAYLOAD,
        NEXT_HEADER_ICMPV6,
        HOP_LIMIT,
        source,
        destination,
        NEIGHBOR_SOLICITATION,
        0,
        0,
        0,
        target,
        OPTION_SOURCE_LINK_ADDRESS,
        1,
        ether_source,
    )
    checksum = -(_integer(frame[_SOURCE:]) + _ADVERTISEMENT_PAYLOAD + NEXT_HEADER_ICMPV6) % 0xFFFF
    return frame[: _MESSAGE + 2] + checksum.to_bytes(2) + frame[_MESSAGE + 4 :]


class Advertised(NamedTuple):
    """A valid Neighbor Advertisement of somebody else (RFC 4861 section 4.4).

    `target` is 16 octets, `flags` a sum of FLAG_ROUTER, FLAG_SOLICITED and FLAG_OVERRIDE. `link_address` is the content
    of the first target link-layer address option where that is a MAC that a neighbor can have: 6 octets and no group;
    else None.
    """

    target: bytes
    flags: int
    link_address: bytes | None


def read_advertisement(frame: bytes) -> Advertised | None:
    """Read an untagged Ethernet frame as a Neighbor Advertisement; None when it is no valid one.

    Sources: RFC 4861 section 7.1.2, RFC 6980 section 5.
    """
    if len(frame) < _OPTIONS:
        return None
    _, ethertype, first_word, length, next_header, hop_limit, _, destination, kind, code, target = (
        _SOLICITATION.unpack_from(frame)
    )
    end = _MESSAGE + length
    if (
        (ethertype, first_word >> 28, next_header, hop_limit) != (ETHERTYPE_IPV6, 6, NEXT_HEADER_ICMPV6, HOP_LIMIT)
        or (kind, code) != (NEIGHBOR_ADVERTISEMENT, 0)
        or not _SHORTEST_PAYLOAD <= length <= len(frame) - _MESSAGE
        or length % 8
        or (_integer(frame[_SOURCE:end]) + length + NEXT_HEADER_ICMPV6) % 0xFFFF
        or target[0] == 0xFF
    ):
        return None
    flags = frame[_FLAGS] & (FLAG_ROUTER | FLAG_SOLICITED | FLAG_OVERRIDE)
    if destination[0] == 0xFF and flags & FLAG_SOLICITED:
        return None

    link_address = None
    at = _OPTIONS
    while at < end:
        option_end = at + 8 * frame[at + 1]
        if option_end == at or option_end > end:
            return None
        if frame[at] == OPTION_TARGET_LINK_ADDRESS and link_address is None:
            link_address = frame[at + 2 : option_end]
        at = option_end
    # One of 6 octets is all that Ethernet has; a group, or all zeros, is nobody's.
    if link_address is not None and (len(link_address) != 6 or link_address[0] & 1 or not any(link_address)):
        link_address = None
    return Advertised(target, flags, link_address)
