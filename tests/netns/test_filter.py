"""What the kernel lets through: each reference listing, attached to a packet socket on a veth."""

import socket
from collections.abc import Iterator

import pytest
from golden import GOLDEN, Golden
from namespaces import Namespace, connect
from oracle import PACKET_HOST, PACKET_MULTICAST, PACKET_OTHERHOST, run_filter
from vectors import ADDRESSES, ROWS, solicit

from ndpresponder.addresses import AddressSet
from ndpresponder.filter import compile_filter
from ndpresponder.link import Link

OUR_MAC = "52:54:00:00:00:01"
FRAME = bytes(solicit())


@pytest.fixture
def cable(root: None) -> Iterator[tuple[Namespace, Namespace]]:  # noqa: ARG001 - skips without root
    """Two hosts on a cable, silent but for what the test sends."""
    with Namespace("asker") as asker, Namespace("host") as host:
        for namespace in (asker, host):
            namespace.sysctl("net/ipv6/conf/default/disable_ipv6", 1)
        connect(asker, "eth0", host, "eth0")
        host.ip(f"link set eth0 address {OUR_MAC}")
        yield asker, host


def asking_for(target: int) -> bytes:
    """A solicitation with another target; no filter looks at the checksum."""
    return FRAME[:62] + target.to_bytes(16, "big") + FRAME[78:]


def packet_type(frame: bytes) -> int:
    """What linux/net/ethernet/eth.c makes of the destination."""
    if frame[0] & 1:
        return PACKET_MULTICAST
    return PACKET_HOST if frame[:6].hex(":") == OUR_MAC else PACKET_OTHERHOST


def received(cable: tuple[Namespace, Namespace], addresses: AddressSet, frames: list[bytes]) -> list[bytes]:
    """Send frames to a link with the filter for `addresses`, and return those that pass."""
    asker, host = cable
    # With padding: no other frame is like it.
    last = asking_for(addresses.ranges()[0][0]) + b"last"
    with host.entered():
        link = Link("eth0")
    link.attach(compile_filter(addresses).instructions)
    with asker.entered():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sender.bind(("eth0", 0))
    passed: list[bytes] = []
    try:
        for frame in (*frames, last):
            sender.send(frame)
        while last not in passed:
            frame_or_none = link.receive()
            assert frame_or_none is not None, "the last frame did not arrive"
            passed.append(frame_or_none)
    finally:
        sender.close()
        link.close()
    return passed[:-1]


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda golden: golden.name)
def test_the_kernel_agrees_with_a_listing(cable: tuple[Namespace, Namespace], golden: Golden) -> None:
    edges = {edge + step for pair in golden.addresses.ranges() for edge in pair for step in (-1, 0, 1)}
    frames = [asking_for(target) for target in sorted(edges)]
    program = compile_filter(golden.addresses).instructions
    assert received(cable, golden.addresses, frames) == [frame for frame in frames if run_filter(program, frame)]


def test_the_kernel_agrees_with_the_table_of_frames(cable: tuple[Namespace, Namespace]) -> None:
    # A packet socket sends nothing shorter than an Ethernet header.
    frames = [row.frame for row in ROWS if len(row.frame) > 14]
    program = compile_filter(ADDRESSES).instructions
    expected = [frame for frame in frames if run_filter(program, frame, packet_type(frame))]
    assert received(cable, ADDRESSES, frames) == expected
    assert {row.frame for row in ROWS if isinstance(row.outcome, bytes)} <= set(expected)
