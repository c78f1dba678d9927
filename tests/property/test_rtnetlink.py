"""What is read of netlink messages before a library sees them: any bytes give values, or one known error."""

from errno import EBADMSG
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from struct import pack

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ndpresponder.netlink import addresses, gateway_of, is_default, leads_to
from ndpresponder.rtnetlink import attributes, messages

IPV4, IPV6 = 2, 10
UNICAST, BLACKHOLE = 1, 6
DST, OIF, GATEWAY = 1, 4, 5
ADDRESS, LOCAL, FLAGS = 1, 2, 8

networks = st.builds(
    lambda address, length: IPv6Network((address >> 128 - length << 128 - length, length)),
    # Close enough to each other that many overlap.
    st.integers(0, 2**12 - 1).map(lambda bits: bits << 116) | st.integers(0, 255),
    st.integers(0, 128),
)
values = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=9)), max_size=4)


def message(kind: int, flags: int, number: int, body: bytes) -> bytes:
    return pack("=IHHII", 16 + len(body), kind, flags, number, 7) + body


def attribute(kind: int, value: bytes) -> bytes:
    return padded(pack("=HH", 4 + len(value), kind) + value)


def padded(octets: bytes) -> bytes:
    return octets + bytes(-len(octets) % 4)


def route(network: IPv6Network, *, family: int = IPV6, kind: int = UNICAST) -> bytes:
    """Return a route's message as the kernel writes it: without a destination where that has no bits."""
    destination = attribute(DST, network.network_address.packed) if network.prefixlen else b""
    header = pack("=BBBBBBBBI", family, network.prefixlen, 0, 0, 254, 3, 0, kind, 0)
    body = header + attribute(15, pack("=I", 254)) + destination + attribute(OIF, pack("=I", 7))
    return message(24, 2, 1, body)


@given(
    st.lists(
        st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.integers(0, 2**32 - 1), st.binary(max_size=40)),
        max_size=5,
    )
)
def test_messages_are_read_as_they_were_written(written: list[tuple[int, int, int, bytes]]) -> None:
    whole = [message(*each) for each in written]

    read = list(messages(b"".join(map(padded, whole))))
    assert read == [(*each[:3], octets) for each, octets in zip(written, whole, strict=True)]


def walked(datagram: bytes) -> tuple[list[bytes], int | None]:
    """Return the messages and the number of the error that ended them, if one did."""
    found: list[bytes] = []
    try:
        found.extend(whole for *_, whole in messages(datagram))
    except OSError as error:
        return found, error.errno
    return found, None


@given(
    st.binary(max_size=200) | st.lists(st.binary(max_size=20).map(lambda body: message(24, 2, 1, body))).map(b"".join)
)
@example(message(24, 2, 1, bytes(12))[:-1])
@example(bytes(16))
@example(pack("=I", 15) + bytes(12))
@example(bytes(15))
def test_any_bytes_are_messages_and_perhaps_one_error(datagram: bytes) -> None:
    found, error = walked(datagram)
    assert all(whole in datagram for whole in found)
    assert sum(map(len, found)) <= len(datagram)
    assert error == EBADMSG or (error is None and sum(len(padded(whole)) for whole in found) >= len(datagram))


def test_what_is_before_an_error_is_read() -> None:
    whole = message(24, 2, 1, bytes(12))
    walk = messages(whole + whole[:-1])

    assert next(walk) == (24, 2, 1, whole)
    with pytest.raises(OSError, match="Bad message"):
        next(walk)


@given(values, st.binary(max_size=20))
def test_attributes_are_read_as_they_were_written(written: list[tuple[int, bytes]], before: bytes) -> None:
    octets = b"".join(attribute(*each) for each in written)
    assert list(attributes(before + octets, len(before))) == written


@given(st.binary(max_size=200), st.integers(0, 50))
def test_any_bytes_are_some_attributes(octets: bytes, at: int) -> None:
    found = list(attributes(octets, at))
    assert len(found) <= len(octets) // 4
    assert all(value in octets for _, value in found)


@pytest.mark.parametrize(
    ("network", "family", "kind", "default"),
    [
        ("::/0", IPV6, UNICAST, True),
        ("::/0", IPV6, BLACKHOLE, False),
        ("::/0", IPV4, UNICAST, False),
        ("::/1", IPV6, UNICAST, False),
        ("::/128", IPV6, UNICAST, False),
    ],
)
def test_default_routes(network: str, family: int, kind: int, *, default: bool) -> None:
    assert is_default(route(IPv6Network(network), family=family, kind=kind)) == default


@given(networks, st.lists(networks, max_size=5), st.sampled_from([UNICAST, BLACKHOLE]))
def test_routes_that_lead_to_a_prefix(network: IPv6Network, prefixes: list[IPv6Network], kind: int) -> None:
    overlaps = any(network.overlaps(prefix) for prefix in prefixes)
    assert leads_to(prefixes)(route(network, kind=kind)) == (network.prefixlen == 0 or overlaps)


@given(st.binary(max_size=80) | st.binary(max_size=40).map(lambda rest: message(24, 2, 1, bytes([IPV6]) + rest)))
@example(message(24, 2, 1, bytes([IPV6, 0, 0, 0, 0, 0, 0, UNICAST]) + bytes(4)))
@example(message(24, 2, 1, bytes([IPV6, 129]) + bytes(10)))
@example(message(24, 2, 1, bytes([IPV6, 64]) + bytes(10)))
@example(message(24, 2, 1, bytes([IPV6, 64]) + bytes(10) + attribute(DST, bytes(30))))
def test_any_bytes_lead_somewhere_or_not(octets: bytes) -> None:
    # The default route leads everywhere.
    assert leads_to([IPv6Network("2001:db8::/32")])(octets) >= is_default(octets)


def address(
    index: int, values: list[tuple[int, bytes]], *, family: int = IPV6, length: int = 64, flags: int = 0
) -> bytes:
    """Return an address' message as the kernel writes it."""
    return message(
        20, 2, 1, pack("=BBBBI", family, length, flags, 0, index) + b"".join(attribute(*each) for each in values)
    )


packed = st.binary(min_size=16, max_size=16)
STATES = [
    (0x80, True),  # permanent
    (0x300, True),  # with temporary ones, and without a route
    (0x21, True),  # temporary, deprecated
    (0x40, False),  # tentative
    (0x44, False),  # optimistic
    (0xC8, False),  # duplicate
    (0x08, False),
]


@given(st.lists(st.tuples(st.integers(1, 9), packed, st.integers(0, 128), packed | st.none(), st.sampled_from(STATES))))
def test_addresses_are_read_as_they_were_written(
    written: list[tuple[int, bytes, int, bytes | None, tuple[int, bool]]],
) -> None:
    dump = [
        address(
            index,
            [(ADDRESS, peer or own), *([(LOCAL, own)] if peer else []), (FLAGS, pack("=I", flags))],
            length=length,
            flags=flags & 0xFF,
        )
        for index, own, length, peer, (flags, _) in written
    ]
    expected = [(index, IPv6Interface((own, length)), usable) for index, own, length, _, (_, usable) in written]

    assert list(addresses(dump)) == expected
    assert list(addresses(dump, 7)) == [each for each in expected if each[0] == 7]


@pytest.mark.parametrize(
    "octets",
    [
        address(7, []),
        address(7, [(ADDRESS, bytes(15))]),
        address(7, [(ADDRESS, bytes(16)), (LOCAL, bytes(17))]),
        address(7, [(ADDRESS, bytes(16))], length=129),
        address(7, [(ADDRESS, bytes(16))], family=IPV4),
        address(7, [(ADDRESS, bytes(16))])[:23],
    ],
)
def test_no_address(octets: bytes) -> None:
    assert list(addresses([octets])) == []


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: message(20, 2, 1, bytes([IPV6]) + rest)))
def test_any_bytes_are_an_address_or_none(octets: bytes) -> None:
    assert len(list(addresses([octets]))) <= 1


@given(packed, values)
def test_a_gateway_is_read_as_it_was_written(gateway: bytes, others: list[tuple[int, bytes]]) -> None:
    before = [each for each in others if each[0] != GATEWAY]
    octets = route(IPv6Network("::/0")) + b"".join(attribute(*each) for each in [*before, (GATEWAY, gateway)])
    assert gateway_of(octets) == IPv6Address(gateway)


@given(st.binary(max_size=80))
@example(route(IPv6Network("::/0")))
@example(route(IPv6Network("::/0")) + attribute(GATEWAY, bytes(4)))
def test_any_bytes_have_a_gateway_or_none(octets: bytes) -> None:
    # Few have one by chance.
    assert gateway_of(octets) is None or attribute(GATEWAY, b"")[2:] in octets
